use super::*;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use instance_connect_core::api::{ApiError, Operation, SendSshPublicKey};
use instance_connect_core::audit::{AuditedRequest, Chain, EventFilter, Outcome, Refused, Tie};
use instance_connect_core::document::{ServerInstant, UnixSeconds};
use instance_connect_core::limits;
use instance_connect_core::origin::Origin;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_testkit::{ManualClock, SeededRandom, World};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::slice;
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Setting {
    directory: TempDir,
    world: World,
    clock: Arc<ManualClock>,
    random: SeededRandom,
    max_bytes: u64,
}

impl Setting {
    fn new() -> Self {
        let world = World::new();
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let directory = tempfile::tempdir().unwrap();
        Self { directory, world, clock, random: SeededRandom::new(1), max_bytes: limits::AUDIT_FILE }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.log")
    }

    fn settings(&self) -> AuditSettings {
        AuditSettings { path: self.path(), max_bytes: FileSize(self.max_bytes) }
    }

    fn open(&self) -> anyhow::Result<AuditLog> {
        AuditLog::open(&self.settings(), self.clock.clone(), &self.random)
    }

    fn log_file(&self) -> LogFile {
        LogFile::open(&self.settings()).unwrap()
    }

    /// Starts as the program does, without its writer. How many intents it closed.
    fn recover(&self) -> usize {
        recovery::recover(&mut self.log_file(), self.clock.wall(), &self.random).unwrap()
    }

    /// A line that shows this text as its user agent.
    fn line(&self, text: &str) -> Line {
        let origin = Origin { user_agent: text.to_owned(), ..self.world.origin() };
        audit::refusal(Refused::ApiRequest, &origin, &self.world.region, "code", None, "id")
    }

    /// The lines of a push, its intent first.
    fn push(&self, number: usize) -> [Line; 2] {
        let request = request_id(number).parse().unwrap();
        let origin = Origin { request, ..self.world.origin() };
        let body = self.world.push_body("deploy");
        let caller = self.world.verified(body.as_bytes()).unwrap();
        let mut audited =
            AuditedRequest::new(&origin, caller.get(), Operation::SendSshPublicKey, &self.world.region);
        audited.parameters(&SendSshPublicKey::parse(body.as_bytes(), &KeyTypes::default()).unwrap());
        [audited.intent(), audited.record(Outcome::Failure(&ApiError::Service), "id")]
    }

    /// Makes it so that a file was last written to this long ago.
    fn written(&self, name: &str, ago: Duration) {
        let now = UNIX_EPOCH + Duration::from_secs(self.clock.wall().0.unsigned_abs());
        let file = File::options().append(true).open(self.directory.path().join(name)).unwrap();
        file.set_modified(now - ago).unwrap();
    }

    /// The names of all files, the finished ones first and in their order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names.pop().as_deref(), Some("audit.log"));
        names.push("audit.log".to_owned());
        names
    }

    /// The lines of all files, in the order in which they were written.
    fn lines(&self) -> Vec<String> {
        let text = |name: &String| fs::read_to_string(self.directory.path().join(name)).unwrap();
        self.names()
            .iter()
            .flat_map(|name| text(name).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// How all lines are tied to each other.
    fn ties(&self) -> Vec<Tie> {
        let mut chain = Chain::default();
        self.lines().iter().map(|line| chain.read(line.as_bytes())).collect()
    }

    /// The user agents of all lines.
    fn user_agents(&self) -> Vec<String> {
        self.lines().iter().map(|line| record(line)["userAgent"].as_str().unwrap().to_owned()).collect()
    }

    /// The requests whose interruption is on record.
    fn interrupted(&self) -> Vec<String> {
        let records =
            self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
        let interrupted = records.iter().filter(|record| record["errorCode"] == "Interrupted");
        interrupted.map(|record| record["requestID"].as_str().unwrap().to_owned()).collect()
    }
}

fn request_id(number: usize) -> String {
    format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}")
}

fn record(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Who reads the log back would stop at it: nothing is done of which the intent is such a line.
#[tokio::test]
async fn a_line_that_is_too_long_is_not_committed_and_stops_no_other() {
    let setting = Setting::new();
    let log = setting.open().unwrap();
    let mut audited = {
        let caller = setting.world.verified(b"{}").unwrap();
        let (origin, region) = (setting.world.origin(), &setting.world.region);
        AuditedRequest::new(&origin, caller.get(), Operation::SendSshPublicKey, region)
    };
    let elements = Value::from("x".repeat(usize::try_from(limits::AUDIT_LINE).unwrap()));
    let outcome = Outcome::Administered { response_elements: Some(&elements) };
    assert!(log.commit(audited.record(outcome, "id")).await.is_err());
    // What a caller sends is left out, and the line says so.
    audited.administered(&elements);
    log.commit(audited.intent()).await.unwrap();
    let text = fs::read_to_string(setting.path()).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(r#""requestParameters":{"omitted":true}"#), "{text}");
}

#[tokio::test]
async fn committed_lines_are_in_the_file() {
    let setting = Setting::new();
    let log = setting.open().unwrap();
    let commits = (0..1000).map(|n| log.commit(setting.line(&n.to_string())));
    join_all(commits).await.into_iter().for_each(Result::unwrap);
    let written: BTreeSet<String> = setting.user_agents().into_iter().collect();
    assert_eq!((written.len(), setting.lines().len()), (1000, 1000));
    assert_eq!(mode(&setting.path()), 0o600);
}

#[tokio::test]
async fn a_line_that_was_cut_off_does_not_spoil_the_next() {
    let setting = Setting::new();
    setting.log_file().write(b"whole\ncut o", setting.world.now).unwrap();
    setting.written("audit.log", Duration::ZERO);
    setting.open().unwrap().commit(setting.line("next")).await.unwrap();
    let lines = setting.lines();
    assert_eq!((lines.len(), &lines[0], &lines[1]), (3, &"whole".to_owned(), &"cut o".to_owned()));
    assert_eq!(record(&lines[2])["userAgent"], "next");
    assert_eq!(setting.ties(), [Tie::Unstated, Tie::Unstated, Tie::Intact]);
}

#[tokio::test]
async fn a_full_disk_refuses_everyone() {
    let setting = Setting::new();
    let log = AuditLog::on_a_full_disk(setting.clock.clone());
    assert!(log.commit(setting.line("")).await.is_err());
    assert!(log.commit(setting.line("")).await.is_err());
}

#[test]
fn a_log_that_others_can_reach_is_refused() {
    let refused = |prepare: &dyn Fn(&Setting)| {
        let setting = Setting::new();
        prepare(&setting);
        format!("{:#}", LogFile::open(&setting.settings()).unwrap_err())
    };
    let with_mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o620, 0o604, 0o602, 0o666] {
        let error = refused(&|setting| {
            fs::write(setting.path(), "").unwrap();
            with_mode(&setting.path(), mode);
        });
        assert!(error.contains("chmod 600"), "{mode:o}: {error}");
    }
    for mode in [0o720, 0o702, 0o1777] {
        let error = refused(&|setting| with_mode(setting.directory.path(), mode));
        assert!(error.contains("directory"), "{mode:o}: {error}");
    }
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    assert!(refused(&|setting| symlink(elsewhere.path(), setting.path()).unwrap()).contains("not a file"));
    assert!(refused(&|setting| symlink("nowhere", setting.path()).unwrap()).contains("not a file"));
    assert!(refused(&|setting| fs::create_dir(setting.path()).unwrap()).contains("not a file"));
    let setting = Setting::new();
    let _first = setting.log_file();
    assert!(LogFile::open(&setting.settings()).unwrap_err().to_string().contains("another program"));
}

/// Over files, starts and lines that were cut off.
#[tokio::test]
async fn the_chain_goes_on() {
    let setting = Setting { max_bytes: 4096, ..Setting::new() };
    for start in 0..5 {
        let log = setting.open().unwrap();
        let commits = (0..start * 5).map(|n| log.commit(setting.line(&n.to_string())));
        join_all(commits).await.into_iter().for_each(Result::unwrap);
        drop(log);
        // The writer is a thread: it has ended when the log can be had.
        let mut log = loop {
            match LogFile::open(&setting.settings()) {
                Ok(log) => break log,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        log.write(b"{\"cut\":\"of", setting.world.now).unwrap();
    }
    let ties = setting.ties();
    let count = |tie| ties.iter().filter(|other| **other == tie).count();
    assert_eq!((count(Tie::Intact), count(Tie::Unstated), ties.len()), (50, 5, 55));
    assert!(setting.names().len() > 3, "{:?}", setting.names());
}

/// Every committed line is in one file, whole, and behind those of its task that were committed before it.
#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_split_where_files_change() {
    let setting = Arc::new(Setting { max_bytes: 20_000, ..Setting::new() });
    let log = setting.open().unwrap();
    let tasks = (0..8).map(|task| {
        let (setting, log) = (Arc::clone(&setting), log.clone());
        tokio::spawn(async move {
            for n in 0..100 {
                log.commit(setting.line(&format!("{task} {n}"))).await.unwrap();
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    let written = setting.user_agents();
    assert_eq!(written.len(), 800);
    for task in 0..8 {
        let of_task = written.iter().filter_map(|text| text.strip_prefix(&format!("{task} ")));
        assert!(of_task.eq((0..100).map(|n| n.to_string()).collect::<Vec<_>>()));
    }
    let names = setting.names();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let path = setting.directory.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= 20_000);
        assert_eq!(mode(&path), 0o600);
    }
}

#[test]
fn files_end_with_the_utc_day_and_their_names_follow_each_other() {
    let mut setting = Setting::new();
    // Three of these lines, none more.
    setting.max_bytes = 3 * Chain::length_of(&setting.line("second")) as u64;
    let append = |log: &mut LogFile, text: &str| {
        log.append(&[setting.line(text)], setting.clock.wall()).unwrap();
    };
    let mut log = setting.log_file();
    // It is 02:05:06.
    append(&mut log, "first");
    setting.clock.advance(DAY - Duration::from_secs(2 * 60 * 60 + 5 * 60 + 7));
    append(&mut log, "first");
    setting.clock.advance(Duration::from_secs(1));
    (0..7).for_each(|_| append(&mut log, "second"));
    setting.clock.advance(Duration::from_secs(10));
    (0..3).for_each(|_| append(&mut log, "second"));
    drop(log);
    // Another program goes on, and the clock has been set back.
    setting.clock.set_wall(UnixSeconds(setting.clock.wall().0 - 5));
    setting.written("audit.log", Duration::ZERO);
    let mut log = setting.log_file();
    (0..3).for_each(|_| append(&mut log, "second"));
    let expected = [
        "audit-20310212T000000Z-0001.log",
        "audit-20310212T000000Z-0002.log",
        "audit-20310212T000000Z-0003.log",
        "audit-20310212T000010Z-0001.log",
        "audit-20310212T000010Z-0002.log",
        "audit.log",
    ];
    assert_eq!(setting.names(), expected);
    let expected = [vec!["first"; 2], vec!["second"; 13]].concat();
    assert_eq!(setting.user_agents(), expected);
}

#[test]
fn a_log_of_yesterday_is_finished_before_it_is_written_to() {
    let setting = Setting::new();
    setting.log_file().append(&[setting.line("before")], setting.world.now).unwrap();
    setting.written("audit.log", DAY);
    setting.log_file().append(&[setting.line("after")], setting.world.now).unwrap();
    assert_eq!(setting.names(), ["audit-20310211T020506Z-0001.log", "audit.log"]);
    assert_eq!(setting.user_agents(), ["before", "after"]);
}

#[test]
fn no_file_is_overwritten() {
    let setting = Setting { max_bytes: 1, ..Setting::new() };
    let mut log = setting.log_file();
    log.write(b"first\n", setting.world.now).unwrap();
    let taken = setting.directory.path().join("audit-20310211T020506Z-0001.log");
    fs::write(&taken, "somebody else's").unwrap();
    assert!(log.write(b"second\n", setting.world.now).is_err());
    assert_eq!(fs::read_to_string(taken).unwrap(), "somebody else's");
    assert_eq!(fs::read_to_string(setting.path()).unwrap(), "first\n");
}

#[tokio::test]
async fn open_intents_are_closed_before_anything_else_is_written() {
    let setting = Setting::new();
    let [[open, _], [answered, answer], [last, _]] = [0, 1, 2].map(|number| setting.push(number));
    let mut log = setting.log_file();
    log.append(&[open, answered, answer, last], setting.world.now).unwrap();
    log.write(b"{\"eventVersion\":\"1.", setting.world.now).unwrap();
    drop(log);
    let log = setting.open().unwrap();
    log.commit(setting.line("a request")).await.unwrap();
    assert_eq!(setting.interrupted(), [request_id(0), request_id(2)]);
    let lines = setting.lines();
    assert_eq!(lines.len(), 8);
    assert_eq!(record(&lines[7])["userAgent"], "a request");
}

#[test]
fn open_intents_are_found_in_the_files_they_can_be_in() {
    // Each line has its own file.
    let setting = Setting { max_bytes: 1, ..Setting::new() };
    let pushes: Vec<[Line; 2]> = (0..4).map(|number| setting.push(number)).collect();
    let mut log = setting.log_file();
    for line in [&pushes[0][0], &pushes[1][0], &pushes[2][0], &pushes[1][1], &pushes[3][0], &pushes[3][1]] {
        log.append(slice::from_ref(line), setting.world.now).unwrap();
    }
    drop(log);
    // The first of them was written long before the last: what it says was over by then.
    for (name, ago) in setting.names().iter().zip([61, 60, 59, 30, 10, 0]) {
        setting.written(name, Duration::from_secs(ago));
    }
    assert_eq!(setting.recover(), 1);
    assert_eq!(setting.interrupted(), [request_id(2)]);
}

/// A clock that was set between two files does not hide the older one.
#[test]
fn the_last_two_files_are_read_whatever_their_times() {
    let setting = Setting { max_bytes: 1, ..Setting::new() };
    let mut log = setting.log_file();
    log.append(&setting.push(0)[..1], setting.world.now).unwrap();
    log.append(&[setting.line("")], setting.world.now).unwrap();
    drop(log);
    setting.written(&setting.names()[0], 30 * DAY);
    assert_eq!(setting.recover(), 1);
}

/// A failure can cut the log off anywhere: whatever is left of its last two lines, the next start closes exactly the
/// intents that have no record.
#[test]
fn a_log_cut_off_at_any_byte_is_recovered() {
    let [[first, _], [second, answer]] = [0, 1].map(|number| Setting::new().push(number));
    // Two intents, then the record of one of them; the first line is always whole.
    let ends = [&first, &second, &answer].map(|line| line.as_bytes().len());
    let log = [first.as_bytes(), second.as_bytes(), answer.as_bytes()].concat();
    for cut in ends[0]..=log.len() {
        // In memory: thousands of syncs are not what this is about.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let setting = Setting { directory, ..Setting::new() };
        setting.log_file().write(&log[..cut], setting.world.now).unwrap();
        // A line that lacks nothing but its line feed is whole.
        let has_second = cut + 1 >= ends[0] + ends[1];
        let has_answer = cut + 1 >= log.len();
        let expected: &[usize] = if has_second && !has_answer { &[0, 1] } else { &[0] };
        let expected: Vec<_> = expected.iter().map(|number| request_id(*number)).collect();
        assert_eq!(setting.recover(), expected.len(), "cut at {cut}");
        assert_eq!(setting.interrupted(), expected, "cut at {cut}");
        assert_eq!(setting.recover(), 0, "cut at {cut}");
    }
}

/// Nobody waits for the record of a refused request, and it takes no place that others wait for.
#[tokio::test(start_paused = true)]
async fn refused_requests_are_sampled_and_counted() {
    let setting = Setting::new();
    let log = setting.open().unwrap();
    let refuse = |from: [u8; 4], n: usize| {
        log.refuse(Share::Strangers, from.into(), "code", || setting.line(&n.to_string()));
    };
    (0..100).for_each(|n| refuse([192, 0, 2, 1], n));
    // As many wait for the log as fill more than half of the queue, since the writer does not run yet.
    let mut waiting: Vec<_> = (0..QUEUE / 2).map(|_| Box::pin(log.commit(setting.line("waits")))).collect();
    assert!(waiting.iter_mut().all(|commit| commit.now_or_never().is_none()));
    refuse([192, 0, 2, 2], 100);
    join_all(waiting).await.into_iter().for_each(Result::unwrap);
    let world = &setting.world;
    let (region, random) = (world.region.clone(), Arc::new(SeededRandom::new(2)));
    let counts = tokio::spawn(log.clone().record_refusals(region, setting.clock.clone(), random));
    tokio::task::yield_now().await;
    counts.abort();
    log.commit(setting.line("last")).await.unwrap();
    let lines = setting.lines();
    let sampled = lines
        .iter()
        .filter(|line| record(line)["userAgent"].as_str().is_some_and(|text| text.parse::<usize>().is_ok()));
    assert_eq!(sampled.count(), 5);
    let counted: Vec<_> = lines.iter().filter(|line| record(line)["eventName"] == "CountRefusals").collect();
    let [counts] = counted.as_slice() else { panic!("{counted:?}") };
    let expected = serde_json::json!({ "byErrorCode": { "code": 101 }, "notRecorded": 96 });
    assert_eq!(record(counts)["additionalEventData"]["refusals"], expected);
}

/// Nobody waits for a look-up of somebody else.
#[tokio::test]
async fn look_ups_are_made_one_at_a_time() {
    let setting = Setting::new();
    let log = setting.open().unwrap();
    let look_up = async || {
        let filter = EventFilter::default();
        log.lookup(Wanted { filter, account: None, max_results: 1, from: None }).await.unwrap()
    };
    let turn = log.lookups.try_acquire().unwrap();
    assert!(look_up().await.is_none());
    drop(turn);
    assert!(look_up().await.is_some());
}
