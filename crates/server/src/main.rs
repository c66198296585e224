//! `instance-connectd`: the control plane of Instance Connect.

use clap::{Parser, Subcommand};
use instance_connect_server::{control_plane, dev};
use std::process::ExitCode;

/// An open, self-hosted EC2 Instance Connect: a pushed SSH key opens one OS account on one machine for 60 seconds.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine, for trying it out and for tests: no configuration, real parts.
    Dev(dev::Arguments),
    /// Run a control plane. Started by `dev`.
    #[command(hide = true)]
    ControlPlane(control_plane::Arguments),
    /// Remove what `dev` left behind, once it is gone. Started by `dev` itself.
    #[command(hide = true)]
    ReapDev(dev::ReapArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Dev(arguments) => dev::run(&arguments),
        Command::ControlPlane(arguments) => control_plane::run(&arguments),
        Command::ReapDev(arguments) => dev::reap(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a program that could not go on")]
            {
                eprintln!("instance-connectd: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
