//! Whether an OS user exists on this machine, for the flag in an ack. A push for a user who does not exist succeeds as
//! it does with AWS (wire.md 1.3), and the caller is warned. The flag is not worth a late ack: what cannot be found
//! out in time counts as existing.

use crate::host::Watched;
use instance_connect_core::document::{BootInstant, OsUser};
use instance_connect_core::link::limits;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long an answer of the name service is good for: a user who is created is soon seen.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Answers remembered at a time.
const REMEMBERED_COUNT: usize = 256;

/// Where users are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsUserSettings {
    /// The local users. Who is in here exists, and nobody needs to be asked.
    pub passwd: PathBuf,
    /// `id`, which asks whatever name services the machine has.
    pub id_command: PathBuf,
}

impl Default for OsUserSettings {
    fn default() -> Self {
        Self { passwd: "/etc/passwd".into(), id_command: "id".into() }
    }
}

/// The users of this machine.
#[derive(Debug)]
pub(crate) struct OsUsers {
    local: Watched<HashMap<String, u32>>,
    id_command: PathBuf,
    remembered: HashMap<OsUser, (BootInstant, bool)>,
}

impl OsUsers {
    pub(crate) fn new(settings: OsUserSettings) -> Self {
        let local = Watched::new(settings.passwd, |text| Ok(parse_passwd(text.unwrap_or_default())));
        Self { local, id_command: settings.id_command, remembered: HashMap::new() }
    }

    /// Reads the local users again where they have changed: once for each grant.
    pub(crate) fn refresh(&mut self) {
        self.local.refresh();
    }

    /// The uid of a local user.
    pub(crate) fn local_uid(&self, user: &OsUser) -> Option<u32> {
        self.local.value()?.get(user.as_str()).copied()
    }

    /// Whether the user exists, where that is known without asking.
    pub(crate) fn known(&self, user: &OsUser, now: BootInstant) -> Option<bool> {
        if self.local_uid(user).is_some() {
            return Some(true);
        }
        let (asked_at, exists) = self.remembered.get(user)?;
        (now.since(*asked_at) < REMEMBERED).then_some(*exists)
    }

    /// Asks the name services. `None` when they do not say within [`limits::USER_LOOKUP`].
    pub(crate) fn ask(&self, user: &OsUser) -> impl Future<Output = Option<bool>> + Send + use<> {
        let mut command = Command::new(&self.id_command);
        // The name is an OsUser: it neither begins with a hyphen nor is a number.
        command.args(["-u", "--", user.as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        async move {
            let status = tokio::time::timeout(limits::USER_LOOKUP, command.status()).await.ok()?.ok()?;
            match status.code() {
                Some(0) => Some(true),
                Some(1) => Some(false),
                _ => None,
            }
        }
    }

    /// Remembers an answer.
    pub(crate) fn remember(&mut self, user: OsUser, exists: bool, now: BootInstant) {
        if self.remembered.len() >= REMEMBERED_COUNT {
            self.remembered.clear();
        }
        self.remembered.insert(user, (now, exists));
    }
}

fn parse_passwd(text: &str) -> HashMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        Some((name.to_owned(), uid.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}
