//! The agent's next certificate: asked for in time, checked, and put in the place of the one before (docs/link.md 7.1).

use crate::enroll::certificate_request;
use crate::files::{lock_state, write_durably};
use crate::identity::{Identity, read_identity};
use crate::state::{IDENTITY, SERVER_CA, client_config, identity_pem};
use instance_connect_core::document::{BootInstant, MachineTime, UnixSeconds};
use instance_connect_core::link::{AgentUrn, Renew, Renewed, limits, renewal_due};
use rcgen::KeyPair;
use std::path::{Path, PathBuf};

/// One link's part in it.
#[derive(Debug)]
pub(crate) struct Renewal {
    state: PathBuf,
    /// When the certificate is to be renewed; `None` where it cannot be read or the server does not know how.
    due: Option<UnixSeconds>,
    /// The last request of this link, and the key it was for. An answer comes to that one or to none.
    asked: Option<(BootInstant, KeyPair)>,
}

impl Renewal {
    /// Before the server has said that it knows how.
    pub(crate) const fn new(state: PathBuf) -> Self {
        Self { state, due: None, asked: None }
    }

    /// The server knows how.
    pub(crate) fn enable(&mut self, jitter: u32) {
        self.due = read_identity(&self.state).ok().map(|identity| {
            renewal_due(UnixSeconds(identity.not_before), UnixSeconds(identity.not_after), jitter)
        });
    }

    /// The request, when it is time for it.
    pub(crate) fn request_if_due(&mut self, now: MachineTime) -> Option<Renew> {
        let is_due = self.due.is_some_and(|due| now.wall >= due);
        let asked_lately =
            self.asked.as_ref().is_some_and(|(at, _)| now.boot.since(*at) < limits::RENEWAL_RETRY);
        if is_due && !asked_lately { self.request(now.boot) } else { None }
    }

    /// A request for a certificate of a new key.
    pub(crate) fn request(&mut self, now: BootInstant) -> Option<Renew> {
        let made = KeyPair::generate().and_then(|key| Ok((certificate_request(&key)?, key)));
        match made {
            Ok((request, key)) => {
                self.asked = Some((now, key));
                Some(Renew { request: request.parse().ok()? })
            }
            Err(error) => {
                tracing::error!(%error, "a key cannot be made");
                None
            }
        }
    }

    /// Takes the answer. When this returns the machine has its next identity, whatever happens.
    ///
    /// # Errors
    /// Why it has not; the one before is as good as it was.
    pub(crate) fn take(&mut self, renewed: &Renewed, now: UnixSeconds) -> Result<AgentUrn, String> {
        let (at, key) = self.asked.take().ok_or("nobody has asked for it")?;
        let taken = replace(&self.state, &key, renewed, now);
        // Where it cannot be used, the next request waits as if it had not been answered.
        self.asked = Some((at, key));
        taken
    }
}

/// The pair is replaced in one rename: a crash leaves the one or the other.
fn replace(state: &Path, key: &KeyPair, renewed: &Renewed, now: UnixSeconds) -> Result<AgentUrn, String> {
    let Renewed { chain, server_ca } = renewed;
    let pem = identity_pem(key, chain.as_str());
    client_config(pem.as_bytes(), server_ca.as_str().as_bytes())
        .map_err(|error| format!("as {}: {}", error.file, error.reason))?;
    let next = Identity::parse(pem.as_bytes())?;
    if !(next.not_before..=next.not_after).contains(&now.0) {
        return Err("it is not good now".to_owned());
    }
    // What is read stays until it is replaced: enrolment does not come between.
    let _lock = lock_state(state).map_err(|error| error.to_string())?;
    let urn = |identity: &Identity| {
        identity.uri.parse::<AgentUrn>().map_err(|error| format!("{}: {error}", identity.uri))
    };
    let (present, next) = (urn(&read_identity(state)?)?, urn(&next)?);
    if next.generation <= present.generation
        || next != (AgentUrn { generation: next.generation, ..present.clone() })
    {
        return Err(format!("it is for {next}, and this is {present}"));
    }
    let write = |file: &str, bytes: &[u8], mode| {
        write_durably(&state.join(file), bytes, mode, None).map_err(|error| format!("{file}: {error}"))
    };
    // The CA first: the server that sent it is vouched for by it, whatever the identity.
    write(SERVER_CA, server_ca.as_str().as_bytes(), 0o644)?;
    write(IDENTITY, pem.as_bytes(), 0o600)?;
    Ok(next)
}
