//! Programs, started in turn, each timed from its start to its end as its parent sees it. The standard library starts
//! them by `posix_spawn`; what that costs is in every figure.

use crate::clock;
use crate::figures::summary;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many times to start each
    #[arg(long)]
    rounds: usize,
    /// A program with its arguments, as a JSON array; `{round}` in it is the number of the round
    #[arg(long = "program", required = true)]
    programs: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let programs: Vec<Vec<String>> =
        arguments.programs.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let mut durations = vec![Vec::with_capacity(arguments.rounds); programs.len()];
    for round in 0..arguments.rounds {
        // In turn, so that whatever else the machine does hits all of them.
        for (program, durations) in programs.iter().zip(&mut durations) {
            durations.push(start(program, round)?);
        }
    }
    let summaries: Vec<Value> = durations.into_iter().map(summary).collect();
    crate::report(&json!(summaries))
}

fn start(program: &[String], round: usize) -> anyhow::Result<Duration> {
    let mut words = program.iter().map(|word| word.replace("{round}", &round.to_string()));
    let name = words.next().context("an empty program")?;
    let mut command = Command::new(&name);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = clock::now();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    let duration = start.elapsed();
    ensure!(status.success(), "{name} ended with {status}");
    Ok(duration)
}
