//! How the agent is doing: the agent writes it down in `RUN/status.json` whenever it changes, and `status` shows it, with what
//! the machine's files say.

use crate::Directories;
use crate::files;
use crate::identity::{Identity, read_identity};
use crate::lines::{LineStatus, are_wanted};
use crate::metadata::WatchedMetadata;
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
    /// The metadata service, where the agent has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<MetadataStatus>,
    /// The serial lines that it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lines: Vec<LineStatus>,
}

/// What the agent knows about its metadata service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetadataStatus {
    /// The generations that sign what it shows, in ascending order; none before the control plane has named any.
    pub(crate) generations: Vec<u32>,
    /// For how many guests it answers.
    pub(crate) guests: usize,
    /// Where it is to listen.
    pub(crate) listeners: Vec<ListenerStatus>,
}

/// Whether the metadata service listens somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerStatus {
    /// An address of this machine, or of an interface that leads to guests.
    pub(crate) place: String,
    /// Why it does not.
    pub(crate) error: Option<String>,
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

    /// How the metadata service is doing now.
    pub(crate) fn metadata(&mut self, metadata: MetadataStatus) {
        if self.status.metadata.as_ref() != Some(&metadata) {
            self.status.metadata = Some(metadata);
            self.write();
        }
    }

    /// How the serial lines are doing now.
    pub(crate) fn lines(&mut self, lines: Vec<LineStatus>) {
        if self.status.lines != lines {
            self.status.lines = lines;
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
    /// As the agent that runs wrote it; `None` where root wants no metadata service.
    metadata: Result<Option<MetadataStatus>, String>,
    /// Likewise; `None` where root has named no serial lines.
    lines: Result<Option<Vec<LineStatus>>, String>,
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
        let agent_running = is_running(run);
        let mut link = read_status(run);
        // What an agent wrote that does not run any more is not so.
        let status = link.as_mut().and_then(|link| link.metadata.take()).filter(|_| agent_running);
        let lines = link.as_mut().map(|link| std::mem::take(&mut link.lines)).filter(|_| agent_running);
        let lines = are_wanted(etc).map(|wanted| wanted.then(|| lines.unwrap_or_default()));
        let wanted = WatchedMetadata::read(etc);
        let metadata = wanted.map(|wanted| wanted.map(|_| status.unwrap_or_default()));
        Self {
            schema: 1,
            instance_id: instance_id
                .and_then(|text| text.trim().parse::<InstanceId>().ok())
                .map(|id| id.to_string()),
            enrolled: read_link(state).ok().map(enrolled),
            identity: read_identity(state),
            agent_running,
            link,
            metadata,
            lines,
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
        lines.extend(self.metadata_texts().into_iter().map(|text| ("metadata", text)));
        lines.extend(self.line_texts().into_iter().map(|text| ("line", text)));
        lines.push(("live keys", self.live_keys.to_string()));
        if let Some(LastError { at, text }) = link.and_then(|link| link.last_error.as_ref()) {
            lines.push(("last error", format!("{} ago: {text}", duration(self.now - at))));
        }
        lines.into_iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
    }

    /// Nothing where there is no metadata service, as on most machines.
    fn metadata_texts(&self) -> Vec<String> {
        let status = match &self.metadata {
            Ok(Some(status)) => status,
            Ok(None) => return Vec::new(),
            Err(reason) => return vec![reason.clone()],
        };
        let MetadataStatus { generations, guests, listeners } = status;
        if !self.agent_running {
            return vec!["wanted; the agent does not run".to_owned()];
        }
        if listeners.is_empty() {
            return vec!["wanted, and not there; restart the agent if it stays so".to_owned()];
        }
        let listener = |ListenerStatus { place, error }: &ListenerStatus| match error {
            Some(error) => format!("cannot listen on {place}: {error}"),
            None => format!("listens on {place}"),
        };
        let guests = match guests {
            0 => None,
            1 => Some("answers for 1 guest".to_owned()),
            _ => Some(format!("answers for {guests} guests")),
        };
        let listeners = listeners.iter().map(listener);
        listeners.chain(guests).chain([generations_text(generations)]).collect()
    }

    /// Nothing where there are no serial lines, as on most machines.
    fn line_texts(&self) -> Vec<String> {
        let lines = match &self.lines {
            Ok(Some(lines)) => lines,
            Ok(None) => return Vec::new(),
            Err(reason) => return vec![reason.clone()],
        };
        if lines.is_empty() {
            return vec!["wanted, and not there; the agent has to run".to_owned()];
        }
        let text = |LineStatus { instance, port, place, error }: &LineStatus| match error {
            Some(error) => format!("{instance}.port{port} is not open: {error}"),
            None => format!("{instance}.port{port} is open: {place}"),
        };
        lines.iter().map(text).collect()
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

/// Who signs what the metadata service shows.
fn generations_text(generations: &[u32]) -> String {
    match generations {
        [] => "nobody has been named yet who signs".to_owned(),
        [one] => format!("generation {one} signs"),
        several => {
            let numbers: Vec<_> = several.iter().map(u32::to_string).collect();
            format!("generations {} sign", numbers.join(" and "))
        }
    }
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
    fn the_metadata_service_is_told_of_as_far_as_the_agent_that_runs_knows() {
        let [etc, state, run] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [etc, state, run] = [&etc, &state, &run].map(|directory| directory.path().to_owned());
        let directories = Directories { etc, state, run };
        let mut file = StatusFile::new(&directories.run, UnixSeconds(100));
        let lock = fs::File::create(directories.run.join(LOCK)).unwrap();
        let told = || -> Vec<String> {
            let text = Status::read(&directories, UnixSeconds(100), BootInstant(0)).to_text();
            let lines = text.lines().filter_map(|line| line.strip_prefix("metadata"));
            lines.map(|line| line.trim().to_owned()).collect()
        };
        let settings = directories.etc.join("metadata.toml");
        assert_eq!(told(), [""; 0]);
        fs::write(&settings, "listen = 1").unwrap();
        assert!(told()[0].contains("metadata.toml: "));
        fs::write(&settings, "listen = \"127.0.0.1:80\"").unwrap();
        assert_eq!(told(), ["wanted; the agent does not run"]);
        lock.try_lock().unwrap();
        assert_eq!(told(), ["wanted, and not there; restart the agent if it stays so"]);
        let listener = |place: &str, error: Option<&str>| ListenerStatus {
            place: place.to_owned(),
            error: error.map(str::to_owned),
        };
        let own = listener("127.0.0.1:80", None);
        let tap = listener("169.254.169.254:80 of tap0", Some("there is no such interface"));
        file.metadata(MetadataStatus { generations: vec![], guests: 0, listeners: vec![own.clone()] });
        assert_eq!(told(), ["listens on 127.0.0.1:80", "nobody has been named yet who signs"]);
        file.metadata(MetadataStatus { generations: vec![3, 4], guests: 2, listeners: vec![own, tap] });
        let expected = [
            "listens on 127.0.0.1:80",
            "cannot listen on 169.254.169.254:80 of tap0: there is no such interface",
            "answers for 2 guests",
            "generations 3 and 4 sign",
        ];
        assert_eq!(told(), expected);
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

    #[test]
    fn serial_lines_are_told_of_as_far_as_the_agent_that_runs_knows() {
        let [etc, state, run] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [etc, state, run] = [&etc, &state, &run].map(|directory| directory.path().to_owned());
        let directories = Directories { etc, state, run };
        let told = || {
            let text = Status::read(&directories, UnixSeconds(100), BootInstant(0)).to_text();
            let lines = text.lines().filter_map(|line| line.strip_prefix("line "));
            lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
        };
        assert!(told().is_empty());
        let settings = directories.etc.join("lines.toml");
        fs::write(&settings, "[[line]]\nuinx = \"/a\"\n").unwrap();
        assert!(told()[0].contains("lines.toml: "));
        fs::write(&settings, "[[line]]\nunix = \"/a\"\n").unwrap();
        assert_eq!(told(), ["wanted, and not there; the agent has to run"]);

        let mut file = StatusFile::new(&directories.run, UnixSeconds(100));
        let lock = fs::File::create(directories.run.join(LOCK)).unwrap();
        lock.try_lock().unwrap();
        let line = |port, error: Option<&str>| LineStatus {
            instance: "i-00000001".to_owned(),
            port,
            place: "/a".to_owned(),
            error: error.map(str::to_owned),
        };
        file.lines(vec![line(0, None), line(1, Some("/a: No such file"))]);
        assert_eq!(
            told(),
            ["i-00000001.port0 is open: /a", "i-00000001.port1 is not open: /a: No such file"]
        );
    }
}
