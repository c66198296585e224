//! `instance-connect`: what people use to reach a machine. Arguments are read, a command is run, and the outcome becomes
//! an exit code; each command is a module.

mod administration;
mod arguments;
mod audit;
mod confirm;
mod console;
mod failure;
mod instances;
mod inventory;
mod machine;
mod output;
mod progress;
mod public_key;
mod ready_file;
mod send_key;
mod service;
mod ssh;
mod ssh_config;
mod target;
mod whoami;

use arguments::{Arguments, Command};
use failure::{Exit, Failure};
use ssh::Program;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// One thread is enough for one call and one agent, and starts fastest.
fn run(arguments: Arguments) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::General, format!("cannot set up input and output: {error}")))?;
    let service = &arguments.service;
    runtime.block_on(async {
        match arguments.command {
            Command::SendKey(options) => send_key::run(service, &options).await,
            Command::Ssh(options) => ssh::run(Program::Ssh, service, &options.login, &options.rest).await,
            Command::Sftp(options) => ssh::run(Program::Sftp, service, &options.login, &options.rest).await,
            Command::Console(options) => console::run(service, &options).await,
            Command::Instances(options) => instances::run(service, &options).await,
            Command::Whoami(options) => whoami::run(service, &options).await,
            Command::SshConfig(command) => ssh_config::run(service, &command),
            Command::Proxy(options) => ssh::proxy::run(service, &options).await,
            Command::KnownHosts(options) => ssh::proxy::known_hosts(&options),
            Command::AnsibleInventory(options) => instances::ansible_inventory(service, &options).await,
            Command::Audit(options) => audit::run(service, &options).await,
            Command::Apply(options) => inventory::apply(service, &options).await,
            Command::Export(options) => inventory::export(service, &options).await,
            Command::Administer(command) => administration::run(service, &command).await,
        }
    })
}
