//! `ssh`: a key made for this one login, pushed, and offered to the machine's OpenSSH by the system's `ssh`. The private
//! key lives in this process alone: `ssh` reaches it through an agent that knows no other key and ends with the push.
//! `proxy` does the same for an `ssh` that somebody else has started, and `console` for the gateway of serial lines.

mod agent;
mod child;
mod command;
mod host_keys;
mod key;
mod place;
pub(crate) mod proxy;
mod route;

pub(crate) use command::{Program, SshArguments};
pub(crate) use route::{Route, is_address};

use crate::arguments::{LoginOptions, ServiceOptions};
use crate::failure::{CHECK_THE_INSTANCE, Exit, Failure};
use crate::machine::{self, Host};
use crate::ready_file::ReadyFile;
use crate::service::debug;
use crate::{output, progress, send_key, service};
use child::Signals;
use command::{command, shown};
use host_keys::Told;
use instance_connect_client::SendSshPublicKey;
use instance_connect_core::limits::GRANT_LIFETIME;
use key::Key;
use place::Place;
use std::ffi::OsString;
use std::sync::atomic::Ordering;

/// ssh's own failure, not that of the remote command.
pub(crate) const SSH_FAILED: u8 = 255;

pub(crate) async fn run(
    program: Program,
    service: &ServiceOptions,
    options: &LoginOptions,
    rest: &[OsString],
) -> Result<u8, Failure> {
    let mut ready = service::ready_file(service)?;
    let arguments = SshArguments::split(program, rest)?;
    let is_known = Route::is_known(options, ready.as_ref());
    // Whoever only wants to see the command needs no credentials for it.
    let client =
        (!options.dry_run || !is_known).then(|| service::client(service, ready.as_mut())).transpose()?;
    let looked_up = match &client {
        Some(client) if !is_known => {
            let host = Host::Id(options.target.instance.clone());
            let found = machine::find(&host, options.address, None, client).await;
            Some(found.map_err(|failure| or_a_host(failure, ready.as_ref()))?)
        }
        _ => None,
    };
    let mut route = Route::find(options, ready.as_ref(), looked_up)?;
    let Some(client) = client.filter(|_| !options.dry_run) else {
        return dry_run(program, &route, &arguments);
    };

    let told = match route.known_hosts {
        Some(_) => Told::NotAsked,
        None => host_keys::ask(service, &client, &route.instance, &route.user).await?,
    };
    if let Some(keys) = told.keys() {
        route.trust(keys);
    }

    let Ended { code, has_met: _ } = log_in(program, service, &route, &arguments, async |key| {
        let push = SendSshPublicKey::new(route.instance.as_str(), route.user.as_str(), key);
        let answer = client.send_ssh_public_key(&push).await?;
        if answer.success { Ok(()) } else { Err(send_key::not_in_place(answer.request_id.as_deref())) }
    })
    .await?;
    if code == SSH_FAILED {
        // What ssh says of host keys does not help: it knows nothing of the service, and may name a file that we made.
        if let Some(hint) =
            told.hint(&route.instance, "or name a file with the machine's own in --known-hosts")
        {
            output::hint(&hint);
        }
    }
    Ok(code)
}

/// Prints the command that would be run.
pub(crate) fn dry_run(program: Program, route: &Route, arguments: &SshArguments) -> Result<u8, Failure> {
    output::result(&shown(&command(program, &place::planned()?, route, arguments)?))?;
    Ok(0)
}

/// How a program that logs in has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: u8,
    /// Whether it came as far as to prove who it is: the machine was there, and was believed.
    pub(crate) has_met: bool,
}

/// Makes a key, has it put in place by `push`, and runs the program with it to its end.
pub(crate) async fn log_in(
    program: Program,
    service: &ServiceOptions,
    route: &Route,
    arguments: &SshArguments,
    push: impl AsyncFnOnce(String) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    // From here on a signal is ours to handle, so that the directory below is always removed.
    let mut signals = Signals::listen()?;
    let key = Key::generate()?;
    let place = Place::create(&key.line(), route.known_hosts.as_deref())?;
    let listener = agent::listen(&place.socket())?;
    let mut command = command(program, place.path(), route, arguments)?;

    tokio::select! {
        pushed = progress::step("the key to be put in place", push(key.line())) => pushed?,
        code = signals.first() => return Ok(Ended { code, has_met: false }),
    }
    debug(service, || shown(&command));
    let has_signed = key.has_signed();
    let code =
        child::run(&mut command, agent::serve_for(GRANT_LIFETIME, listener, key), &mut signals).await?;
    Ok(Ended { code, has_met: has_signed.load(Ordering::Relaxed) })
}

/// What to do where a machine is not found.
fn or_a_host(failure: Failure, ready: Option<&ReadyFile>) -> Failure {
    if failure.hint.as_deref() != Some(CHECK_THE_INSTANCE) {
        return failure;
    }
    match ready.map(ReadyFile::ids) {
        Some(ids) => failure.hint(format!("the ready file has these instances: {ids}; or give --host")),
        None => failure.hint(format!("{CHECK_THE_INSTANCE}; or give the machine's address by --host")),
    }
}

/// What cannot be set up on this machine.
fn cannot(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::General, format!("cannot {what}: {error}"))
}
