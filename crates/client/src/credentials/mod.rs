//! The credentials that sign: given once, or asked of a program again before they expire.

mod process;

pub(crate) use process::{CredentialProcess, export_command};

use crate::error::Error;
use crate::observe::{Event, Observer};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::Credentials;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How long before they expire credentials are replaced, in seconds: a request must still be signed with living ones when
/// the service judges it, and their program may fail for a while.
const REPLACED_BEFORE: i64 = 5 * 60;

/// How long after being asked the program is left alone, in seconds, unless what it gave expires before.
const LEFT_ALONE: i64 = 60;

/// Where credentials come from.
#[derive(Clone, Debug)]
pub(crate) enum Provider {
    /// They are here, and stay.
    Fixed(Arc<Credentials>),
    /// A program gives them.
    Process(Arc<CredentialProcess>),
}

/// What a program gave.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) credentials: Arc<Credentials>,
    /// `None` for credentials that stay.
    pub(crate) expires: Option<UnixSeconds>,
}

/// The credentials of one client.
#[derive(Debug)]
pub(crate) struct Keyring {
    provider: Provider,
    observer: Option<Observer>,
    /// Calls wait here for the one that asks, so that a program is not started twice at once.
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    issued: Issued,
    /// When to ask again, `None` for never.
    asked_again: Option<UnixSeconds>,
}

impl Keyring {
    /// Nothing is asked yet.
    pub(crate) fn new(provider: Provider, observer: Option<Observer>) -> Self {
        Self { provider, observer, held: Mutex::default() }
    }

    /// Credentials that are good at `now`, the service's time as far as is known.
    pub(crate) async fn at(&self, now: UnixSeconds) -> Result<Arc<Credentials>, Error> {
        let process = match &self.provider {
            Provider::Fixed(credentials) => return Ok(Arc::clone(credentials)),
            Provider::Process(process) => process,
        };
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.asked_again.is_none_or(|time| now < time)) {
            return Ok(Arc::clone(&held.issued.credentials));
        }
        let issued = match (self.ask(process, now).await, held.take()) {
            (Ok(issued), _) => issued,
            // What there is still lives: the program has until then to recover.
            (Err(_), Some(old)) if old.issued.lives(now) => old.issued,
            (Err(error), _) => return Err(error),
        };
        let credentials = Arc::clone(&issued.credentials);
        *held = Some(Held { asked_again: issued.asked_again(now), issued });
        Ok(credentials)
    }

    async fn ask(&self, process: &CredentialProcess, now: UnixSeconds) -> Result<Issued, Error> {
        self.observe(&Event::CredentialsAsked { of: process.name() });
        let issued = process.run().await?;
        if !issued.lives(now) {
            return Err(process.refused("gave credentials that have expired"));
        }
        let access_key_id = &issued.credentials.access_key_id;
        self.observe(&Event::CredentialsIssued { access_key_id, expires: issued.expires });
        Ok(issued)
    }

    fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.0(event);
        }
    }
}

impl Issued {
    fn lives(&self, now: UnixSeconds) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// When to ask for others: well before these expire, but not with every call once that time has come.
    fn asked_again(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let UnixSeconds(expires) = self.expires?;
        let well_before = expires.saturating_sub(REPLACED_BEFORE);
        let in_a_while = now.0.saturating_add(LEFT_ALONE).min(expires);
        Some(UnixSeconds(well_before.max(in_a_while)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_credentials_are_replaced() {
        let secret_access_key = instance_connect_core::secret::Secret::new(Vec::new());
        let credentials =
            Arc::new(Credentials { access_key_id: String::new(), secret_access_key, session_token: None });
        let asked_again = |expires: Option<i64>, now| {
            let issued = Issued { credentials: Arc::clone(&credentials), expires: expires.map(UnixSeconds) };
            issued.asked_again(UnixSeconds(now)).map(|time| time.0)
        };
        for (expires, now, expected) in [
            (None, 0, None),
            (Some(3600), 0, Some(3300)),
            // Short-lived ones, and those that a failed program left us with.
            (Some(3600), 3300, Some(3360)),
            (Some(3600), 3590, Some(3600)),
            (Some(i64::MIN), i64::MAX, Some(i64::MIN)),
            (Some(i64::MAX), i64::MAX, Some(i64::MAX)),
        ] {
            assert_eq!(asked_again(expires, now), expected, "{expires:?} {now}");
        }
    }
}
