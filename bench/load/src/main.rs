//! What `bench/run` loads servers with and times programs by. It prints one line of JSON; judging it is left to
//! `bench/measure`.

mod attack;
mod bare_link;
mod clock;
mod figures;
mod programs;
mod push;
mod requests;
mod swarm;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send SendSSHPublicKey requests, signed before the clock starts
    Push(push::Arguments),
    /// Send requests of EC2's query API, signed before the clock starts
    Query(push::QueryArguments),
    /// Be clients that do not mean well, until standard input ends
    Attack(attack::Arguments),
    /// Be the agents of many instances, until standard input ends
    Swarm(swarm::Arguments),
    /// Time the link's ping and pong
    RoundTrip(swarm::RoundTripArguments),
    /// Start programs in turn and time each from its start to its end
    Programs(programs::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: what is left of the machine belongs to the servers.
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into);
    let result = result.and_then(|runtime: tokio::runtime::Runtime| match &arguments.command {
        Command::Push(arguments) => runtime.block_on(push::run(arguments)),
        Command::Query(arguments) => runtime.block_on(push::run_queries(arguments)),
        Command::Attack(arguments) => runtime.block_on(attack::run(arguments)),
        Command::Swarm(arguments) => runtime.block_on(swarm::run(arguments)),
        Command::RoundTrip(arguments) => runtime.block_on(swarm::round_trip(arguments)),
        Command::Programs(arguments) => programs::run(arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "instance-connect-bench-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a result.
fn report(result: &serde_json::Value) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{result}")?;
    Ok(stdout.flush()?)
}
