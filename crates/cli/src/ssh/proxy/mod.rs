//! `proxy` and `known-hosts`: what `ssh-config` makes ssh run. The first finds the machine, pushes a key made for this one login, serves
//! it to this one ssh as its agent, and passes on what ssh and the machine say; the second tells ssh the machine's host keys.
//!
//! The order, as OpenSSH 9.2 was observed to keep it: the ProxyCommand is started as a child of ssh itself (its shell runs
//! `exec`), and nothing else happens before the machine's first line has come through it; then KnownHostsCommand
//! runs (`ORDER`, before the key exchange, `HOSTNAME` in it); then ssh connects to the IdentityAgent, once, lists its keys and
//! authenticates on that connection. So whatever is in place before the first byte is passed on is in time.

mod relay;
mod turn;

pub(crate) use turn::remove_agents;

use crate::arguments::{KnownHostsOptions, ProxyOptions, ServiceOptions};
use crate::failure::{Exit, Failure};
use crate::machine::{self, Host, Machine, is_host};
use crate::service::debug;
use crate::ssh::agent;
use crate::ssh::cannot;
use crate::ssh::child::Signals;
use crate::ssh::host_keys::{self, Told};
use crate::ssh::key::Key;
use crate::{output, progress, send_key, service};
use instance_connect_client::{Client, SendSshPublicKey};
use instance_connect_core::host_key::{HostKey, HostKeys};
use instance_connect_core::ids::OsUser;
use instance_connect_core::limits::GRANT_LIFETIME;
use instance_connect_planted::planted;
use rustix::process::{geteuid, getppid};
use std::fmt::Write as _;
use std::pin::pin;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_blocking;
use turn::Turn;

/// The port ssh names where it was told none.
const SSH_PORT: u16 = 22;

/// What ssh says for a key's type where there is no key yet.
const NO_KEY: &str = "NONE";

/// How a line begins that says what to do, in what is left for `known-hosts`.
const HINT: &str = "# ";

pub(crate) async fn run(service: &ServiceOptions, options: &ProxyOptions) -> Result<u8, Failure> {
    let host = host(options)?;
    let mut ready = service::ready_file(service)?;
    let client = service::client(service, ready.as_mut())?;
    let machine = machine::find(&host, options.address, ready.as_ref(), &client).await?;
    debug(service, || format!("{} is {} at {}", options.host, machine.instance, machine.host));

    // Until here a signal may end this process: nothing is left of it.
    debug(service, || format!("waiting until no other ssh logs in to {}", options.host));
    let turn = turn(options).await?;
    let mut signals = Signals::listen()?;
    tokio::select! {
        outcome = log_in(service, options, &client, &machine, turn) => outcome.map(|()| 0),
        code = signals.first() => Ok(code),
    }
}

/// Waits until no other ssh logs in to this host.
async fn turn(options: &ProxyOptions) -> Result<Turn, Failure> {
    let (agents, host) = (options.agents.clone(), options.host.clone());
    let waiting = spawn_blocking(move || Turn::wait(&agents, &host));
    progress::step("another login to the same host", waiting).await.map_err(|error| cannot("wait", error))?
}

/// The host as it was typed, unless ssh has made another of it than lower case: a name's capitals count.
fn host(options: &ProxyOptions) -> Result<Host, Failure> {
    let refuse = |why| Failure::new(Exit::Parameter, format!("{:?}: {why}", options.host));
    if !is_host(&options.host) {
        return options.host.parse().map_err(refuse);
    }
    let typed = options.typed.as_deref().filter(|typed| typed.eq_ignore_ascii_case(&options.host));
    typed.unwrap_or(&options.host).parse().map_err(refuse)
}

async fn log_in(
    service: &ServiceOptions,
    options: &ProxyOptions,
    client: &Client,
    machine: &Machine,
    turn: Turn,
) -> Result<(), Failure> {
    let port = machine.port.filter(|_| options.port == SSH_PORT).unwrap_or(options.port);
    // A machine that is not there gets no key.
    let (stream, told) = tokio::try_join!(
        progress::step("the instance to answer", relay::connect(&machine.host, port)),
        told_of(service, client, machine, &options.user),
    )?;
    turn.tell_host_keys(&left_for_known_hosts(&told, machine))?;

    let key = Key::generate()?;
    let push = SendSshPublicKey::new(machine.instance.as_str(), options.user.as_str(), key.line());
    let answer = progress::step("the key to be put in place", client.send_ssh_public_key(&push)).await?;
    if !answer.success {
        return Err(send_key::not_in_place(answer.request_id.as_deref()));
    }
    let listener = turn.listen()?;
    // With its time the key is gone, and the next one has its turn: not just when this connection ends.
    let mut serving = pin!(async {
        let _ = tokio::time::timeout(GRANT_LIFETIME, serve(listener, key, turn)).await;
    });
    let mut relaying = pin!(relay::relay(stream));
    tokio::select! {
        ended = &mut relaying => return ended,
        _ = &mut serving => {}
    }
    relaying.await
}

/// Serves the key to the ssh that has started this process, and to nobody else. With its connection begins the next one's turn.
async fn serve(listener: UnixListener, key: Key, turn: Turn) {
    let stream = loop {
        // When accepting fails there is no way back; ssh then says that it has no key.
        let Ok((stream, _)) = listener.accept().await else { return };
        if is_our_ssh(&stream) {
            break stream;
        }
    };
    drop((listener, turn));
    agent::converse(stream, &key).await;
}

fn is_our_ssh(stream: &UnixStream) -> bool {
    let parent = getppid().map(rustix::process::Pid::as_raw_nonzero);
    stream.peer_cred().is_ok_and(|peer| {
        let is_parent = peer.pid().is_none_or(|pid| parent.is_some_and(|parent| parent.get() == pid));
        (peer.uid() == geteuid().as_raw() && is_parent) || planted("any-peer-served")
    })
}

/// The machine's host keys: as the ready file has them, else as the service has pinned them.
async fn told_of(
    service: &ServiceOptions,
    client: &Client,
    machine: &Machine,
    user: &OsUser,
) -> Result<Told, Failure> {
    match &machine.host_key {
        Some(key) => Ok(Told::Pinned(std::iter::once(key.clone()).collect())),
        None => host_keys::ask(service, client, &machine.instance, user).await,
    }
}

fn left_for_known_hosts(told: &Told, machine: &Machine) -> String {
    let mut text = String::new();
    if let Some(hint) = told.hint(&machine.instance, "or add the machine's own to your known_hosts") {
        let _ = writeln!(text, "{HINT}{hint}");
    }
    for key in told.keys().into_iter().flatten() {
        let _ = writeln!(text, "{key}");
    }
    text
}

/// Tells ssh the host keys of the machine that `proxy` is connecting it to, and what to do when it will not believe another.
pub(crate) fn known_hosts(options: &KnownHostsOptions) -> Result<u8, Failure> {
    let (name, host) = (&options.name, &options.host);
    // The name begins a line, in a language of its own: patterns, markers, hashes.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if !is_host(host) || name.is_empty() || !name.bytes().all(allowed) {
        return Err(Failure::new(Exit::Parameter, format!("{name:?} of {host:?} is no host of ours")));
    }
    let text = turn::told_host_keys(&options.agents, host).unwrap_or_default();
    let keys: HostKeys = text.lines().filter_map(|line| line.parse::<HostKey>().ok()).collect();
    for key in keys.iter() {
        output::result(&format!("{name} {key}"))?;
    }
    // Before the key exchange there is none: ssh asks which types to prefer.
    if options.key_type == NO_KEY {
        return Ok(0);
    }
    let offered = format!("{} {}", options.key_type, options.key).parse::<HostKey>();
    if offered.is_ok_and(|offered| keys.iter().any(|key| *key == offered)) {
        return Ok(0);
    }
    let hints = || text.lines().filter_map(|line| line.strip_prefix(HINT));
    if keys.is_empty() {
        // ssh goes by the person's own known_hosts, and asks.
        hints().for_each(output::hint);
        return Ok(0);
    }
    // ssh ends with this. Left to itself it would ask about a key of a type that the service has none of, and whoever is on
    // the way could offer one.
    let message = format!("{host} does not prove itself by a host key that the service has accepted for it");
    Err(hints().fold(Failure::new(Exit::Service, message), Failure::hint))
}
