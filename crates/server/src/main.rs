//! `instance-connectd`: the control plane of Instance Connect.

use clap::{Parser, Subcommand};
use instance_connect_server::{
    config, control_plane, dev, init, rotate_anchor, rotate_master_key, rotate_stock_signer,
};
use std::process::ExitCode;

/// An open, self-hosted EC2 Instance Connect: a pushed SSH key opens one OS account on one machine for 60 seconds.
#[derive(Debug, Parser)]
#[command(name = "instance-connectd", version, arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a control plane on this machine: configuration, keys, certificate authority, first administrator.
    Init(init::Arguments),
    /// Run the control plane: the API for clients, and the links of agents.
    Serve(control_plane::Arguments),
    /// Check a configuration, or show what one may say.
    Config(config::Arguments),
    /// Put another anchor in the place of the one that machines trust, in two steps.
    RotateAnchor(rotate_anchor::Arguments),
    /// Give everything that is sealed in the inventory another master key. The service has to be stopped.
    RotateMasterKey(rotate_master_key::Arguments),
    /// Have another key sign what machines with the distributions' own host package read, before its time.
    RotateStockSigner(rotate_stock_signer::Arguments),
    /// Run everything on this machine, for trying it out and for tests: no configuration, real parts.
    Dev(dev::Arguments),
    /// Remove what `dev` left behind, once it is gone. Started by `dev` itself.
    #[command(hide = true)]
    ReapDev(dev::ReapArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => control_plane::run(&arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::RotateAnchor(arguments) => rotate_anchor::run(&arguments),
        Command::RotateMasterKey(arguments) => rotate_master_key::run(&arguments),
        Command::RotateStockSigner(arguments) => rotate_stock_signer::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::ReapDev(arguments) => dev::reap(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a program that could not go on")]
            {
                match error.downcast_ref::<config::Invalid>() {
                    // As compilers say it, so that editors find the lines.
                    Some(invalid) => eprintln!("{invalid}"),
                    None => eprintln!("instance-connectd: {error:#}"),
                }
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Also what `packaging/build` runs to get the files.
    #[test]
    fn pages() -> std::io::Result<()> {
        instance_connect_pages::write(Arguments::command(), "8")
    }
}
