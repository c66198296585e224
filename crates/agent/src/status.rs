//! How the agent is doing: the agent writes it down in `RUN/status.json` whenever it changes, and `status` shows it, with what
//! the machine's files say.

use crate::Directories;
use crate::files;
use crate::identity::{Identity, read_identity};
use crate::state::{LinkFile, read_link};
use instance_connect_core::document::{BootInstant, Handover, InstanceId, UnixSeconds};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// In the run directory.
const STATUS: &str = "status.json";

/// In the run directory; the agent holds it for as long as it runs.
pub(crate) const LOCK: &str = "agent.lock";

/// What the agent knows about its link. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    pub(crate) schema: u32,
    /// Whether it is open.
    pub(crate) open: bool,
    /// Since when it is, or is not.
    pub(crate) since: i64,
    /// Statements of the signers whose keys would be taken.
    pub(crate) signers: Vec<String>,
    /// Why there was no link the last time that there was none.
    pub(crate) last_error: Option<LastError>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastError {
    pub(crate) at: i64,
    pub(crate) text: String,
}

/// Signers remembered. There are two while one replaces the other.
const SIGNERS: usize = 8;

/// Where the agent writes its status.
#[derive(Debug)]
pub(crate) struct StatusFile {
    path: PathBuf,
    status: LinkStatus,
}

impl StatusFile {
    pub(crate) fn new(run: &Path, now: UnixSeconds) -> Self {
        let status = LinkStatus { schema: 1, since: now.0, ..LinkStatus::default() };
        let file = Self { path: run.join(STATUS), status };
        file.write();
        file
    }

    pub(crate) fn opened(&mut self, now: UnixSeconds) {
        self.status.open = true;
        self.status.since = now.0;
        self.status.signers.clear();
        self.write();
    }

    pub(crate) fn signer(&mut self, statement: &str) {
        if self.status.signers.len() < SIGNERS {
            self.status.signers.push(statement.to_owned());
            self.write();
        }
    }

    pub(crate) fn lost(&mut self, why: &str, now: UnixSeconds) {
        if self.status.open {
            self.status.open = false;
            self.status.since = now.0;
        }
        self.status.last_error = Some(LastError { at: now.0, text: why.to_owned() });
        self.write();
    }

    /// It is for people to look at: that it cannot be written stops nothing.
    fn write(&self) {
        let unfinished = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(&self.status).unwrap_or_default();
        let written =
            files::create(&unfinished, &text, 0o640).and_then(|_| fs::rename(&unfinished, &self.path));
        if let Err(error) = written {
            tracing::warn!(file = %self.path.display(), %error, "the status cannot be written");
        }
    }
}

/// What the agent wrote last; `None` when it never ran, or not since the machine was started.
pub(crate) fn read_status(run: &Path) -> Option<LinkStatus> {
    serde_json::from_slice(&files::read(&run.join(STATUS), files::SMALL_FILE).ok()??).ok()
}

/// Whether an agent runs, by the lock that it holds: the kernel lists those.
pub(crate) fn is_running(run: &Path) -> bool {
    let Ok(lock) = fs::metadata(run.join(LOCK)) else { return false };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_ours = |line: &str| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some("FLOCK") && words.nth(3).is_some_and(|file| inode(file) == Some(lock.ino()))
    };
    locks.lines().any(is_ours)
}

/// The inode in `08:01:1234`.
fn inode(file: &str) -> Option<u64> {
    file.rsplit(':').next()?.parse().ok()
}

/// How many keys would log in now.
pub(crate) fn live_keys(run: &Path, now: BootInstant) -> usize {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries(run.join("live")).flat_map(|user| entries(user.path()));
    let is_live = |path: PathBuf| {
        let file = files::read(&path, files::SMALL_FILE).ok().flatten().unwrap_or_default();
        Handover::parse(&file).is_ok_and(|handover| handover.deadline() > now)
    };
    files.filter(|file| is_live(file.path())).count()
}

/// What `status` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: u32,
    instance_id: Option<String>,
    enrolled: Option<Enrolled>,
    identity: Result<Identity, String>,
    agent_running: bool,
    link: Option<LinkStatus>,
    live_keys: usize,
    #[serde(skip)]
    now: i64,
}

#[derive(Debug, Serialize)]
struct Enrolled {
    server: String,
    region: String,
    account_id: String,
}

impl Status {
    /// Reads what there is on this machine.
    pub fn read(directories: &Directories, now: UnixSeconds, boot: BootInstant) -> Self {
        let Directories { etc, state, run } = directories;
        let enrolled = |LinkFile { server, region, account_id, .. }| Enrolled { server, region, account_id };
        let instance_id = files::read_trusted(&etc.join("instance-id"), files::SMALL_FILE).ok().flatten();
        let instance_id = instance_id.and_then(|bytes| String::from_utf8(bytes).ok());
        Self {
            schema: 1,
            instance_id: instance_id
                .and_then(|text| text.trim().parse::<InstanceId>().ok())
                .map(|id| id.to_string()),
            enrolled: read_link(state).ok().map(enrolled),
            identity: read_identity(state),
            agent_running: is_running(run),
            link: read_status(run),
            live_keys: live_keys(run, boot),
            now: now.0,
        }
    }

    /// Whether keys that are pushed arrive.
    pub fn is_linked(&self) -> bool {
        self.agent_running && self.link.as_ref().is_some_and(|link| link.open)
    }

    /// The same as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The same for people.
    pub fn to_text(&self) -> String {
        let none = || "none; run instance-connect-agent enroll as root".to_owned();
        let instance = match (&self.instance_id, &self.enrolled) {
            (Some(id), Some(Enrolled { region, account_id, .. })) => {
                format!("{id} in {region}, account {account_id}")
            }
            (Some(id), None) => id.clone(),
            (None, _) => none(),
        };
        let identity = match &self.identity {
            Ok(identity) => identity.to_text(self.now),
            Err(reason) => reason.clone(),
        };
        let server = self.enrolled.as_ref().map_or("", |enrolled| &enrolled.server);
        let mut lines = vec![
            ("instance", instance),
            ("identity", identity),
            ("agent", if self.agent_running { "running".to_owned() } else { "not running".to_owned() }),
            ("link", self.link_text(server)),
        ];
        let link = self.link.as_ref();
        lines.extend(
            link.iter()
                .flat_map(|link| &link.signers)
                .map(|signer| ("signer", signer_text(signer, self.now))),
        );
        lines.push(("live keys", self.live_keys.to_string()));
        if let Some(LastError { at, text }) = link.and_then(|link| link.last_error.as_ref()) {
            lines.push(("last error", format!("{} ago: {text}", duration(self.now - at))));
        }
        lines.into_iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
    }

    fn link_text(&self, server: &str) -> String {
        match &self.link {
            Some(link) if self.is_linked() => {
                format!("open for {} to {server}", duration(self.now - link.since))
            }
            Some(link) if self.agent_running => {
                format!("down for {}, to {server}", duration(self.now - link.since))
            }
            Some(_) | None => "down".to_owned(),
        }
    }
}

/// `ed25519 <key> <region> <last day> <signature>`, as people want to know it.
fn signer_text(statement: &str, now: i64) -> String {
    let fields: Vec<&str> = statement.split(' ').collect();
    let last_day = fields.get(3).and_then(|day| day.parse::<i64>().ok()).unwrap_or_default();
    let left = last_day.saturating_sub(now / 86_400);
    format!("{} of {}, for {left} more days", fields.get(1).unwrap_or(&""), fields.get(2).unwrap_or(&""))
}

/// A time in the one unit that says enough.
pub(crate) fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_writes_is_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StatusFile::new(directory.path(), UnixSeconds(100));
        assert_eq!(
            read_status(directory.path()).map(|status| (status.open, status.since)),
            Some((false, 100))
        );
        file.opened(UnixSeconds(110));
        (0..20).for_each(|_| file.signer("ed25519 AAAA us-east-1 20000 BBBB"));
        let status = read_status(directory.path()).unwrap();
        assert_eq!((status.open, status.since, status.signers.len()), (true, 110, SIGNERS));
        file.lost("first", UnixSeconds(120));
        file.lost("second", UnixSeconds(130));
        let status = read_status(directory.path()).unwrap();
        assert_eq!((status.open, status.since), (false, 120));
        assert_eq!(status.last_error, Some(LastError { at: 130, text: "second".to_owned() }));
    }

    #[test]
    fn an_agent_runs_while_its_lock_is_held() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_running(directory.path()));
        let file = fs::File::create(directory.path().join(LOCK)).unwrap();
        assert!(!is_running(directory.path()));
        file.try_lock().unwrap();
        assert!(is_running(directory.path()));
    }

    #[test]
    fn durations() {
        for (seconds, text) in
            [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
