//! `ssh`: a key made for this one login, pushed, and offered to the machine's OpenSSH by the system's `ssh`. The private
//! key lives in this process alone: `ssh` reaches it through an agent that knows no other key and ends with the push.

mod agent;
mod child;
mod command;
mod host_keys;
mod key;
mod place;
mod route;

use crate::arguments::{ServiceOptions, SshOptions};
use crate::failure::{Exit, Failure};
use crate::service::debug;
use crate::{output, send_key, service};
use child::Signals;
use command::{SshArguments, shown, ssh_command};
use instance_connect_client::SendSshPublicKey;
use instance_connect_core::limits::GRANT_LIFETIME;
use key::Key;
use place::Place;
use route::Route;

/// ssh's own failure, not that of the remote command.
const SSH_FAILED: u8 = 255;

pub(crate) async fn run(service: &ServiceOptions, options: SshOptions) -> Result<u8, Failure> {
    let mut ready = service::ready_file(service)?;
    let mut route = Route::find(&options, ready.as_ref())?;
    let arguments = SshArguments::split(&options.rest)?;
    if options.dry_run {
        let command = ssh_command(&place::planned()?, &route, &arguments)?;
        output::result(&shown(&command));
        return Ok(0);
    }
    let client = service::client(service, ready.as_mut())?;

    let told = host_keys::ask(service, &client, &mut route).await?;

    // From here on a signal is ours to handle, so that the directory below is always removed.
    let mut signals = Signals::listen()?;
    let key = Key::generate()?;
    let place = Place::create(&key.line(), route.known_hosts.as_deref())?;
    let listener = agent::listen(&place.socket())?;
    let mut command = ssh_command(place.path(), &route, &arguments)?;

    let push = SendSshPublicKey::new(route.instance.as_str(), route.user.as_str(), key.line());
    let answer = tokio::select! {
        answer = client.send_ssh_public_key(&push) => answer?,
        code = signals.first() => return Ok(code),
    };
    if !answer.success {
        return Err(send_key::not_in_place(answer.request_id.as_deref()));
    }
    debug(service, || shown(&command));

    let code =
        child::run(&mut command, agent::serve_for(GRANT_LIFETIME, listener, key), &mut signals).await?;
    if code == SSH_FAILED {
        // What ssh says of host keys does not help: it knows nothing of the service, and may name a file that we made.
        if let Some(hint) = told.hint(&route) {
            output::hint(&hint);
        }
    }
    Ok(code)
}

/// What cannot be set up on this machine.
fn cannot(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::General, format!("cannot {what}: {error}"))
}
