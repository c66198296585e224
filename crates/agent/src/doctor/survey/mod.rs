//! Looking at the machine. Nothing is judged here, and nothing changed.

mod metadata;

use super::account::AccountFacts;
use super::agent::{AgentFacts, Answer, MISSING};
use super::metadata::MetadataFacts;
use super::record::{RecordFacts, SessionProgram};
use super::sshd::{Running, SshdFacts, chained_command, program_of};
use super::units::{Unit, UnitFacts};
use crate::Directories;
use crate::accounts::{Account, account, group};
use crate::anchors;
use crate::connect::connect_tls;
use crate::files::{self, SMALL_FILE};
use crate::host_reports::{OFFERS_MODE, SESSIONS_MODE};
use crate::identity::read_identity;
use crate::install::{
    AGENT_USER, ANCHORS_SERVICE, ANCHORS_UNIT, DROP_IN, KEYS_GROUP, NOBODY, PAM, SESSION_PROGRAM, UNIT,
    is_ours, is_static_file,
};
use crate::root::Root;
use crate::sshd::{
    COMMAND, COMMAND_USER, CONFIGS, Effective, Setting, Sshd, UNIT_DIRECTORIES, read_config,
    read_unit_options, words,
};
use crate::state::{State, StateError};
use crate::status::{is_running, read_status};
use http::Request;
use http::header::{DATE, HOST};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instance_connect_authorized_keys::check_program_in;
use instance_connect_core::document::{
    AnchorSet, Anchors, HostVeto, InstanceId, OFFERS_SOCKET, SESSIONS_SOCKET, UnixSeconds,
};
use instance_connect_core::link::limits;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::timeout;

/// What was seen.
pub(super) struct Facts {
    pub(super) sshd: SshdFacts,
    pub(super) agent: AgentFacts,
    /// `None` where systemd is not what starts services.
    pub(super) units: Option<UnitFacts>,
    /// `None` where neither the distribution's scripts are nor a metadata service is wanted.
    pub(super) metadata: Option<MetadataFacts>,
    pub(super) record: RecordFacts,
    pub(super) account: Option<AccountFacts>,
}

/// The fingerprint of no key.
const NO_KEY: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) async fn survey(os_user: Option<&str>, now: UnixSeconds) -> Facts {
    let (root, directories) = (Root::this_system(), Directories::default());
    let veto = read_veto(&directories.etc);
    let account = os_user.map(|name| account_facts(&root, name, veto.clone().ok(), now));
    let uid = account.as_ref().and_then(|facts| facts.account.as_ref()).map_or(65534, |account| account.uid);
    let agent = agent_facts(&root, &directories, veto.map(drop), now).await;
    let metadata = metadata::metadata_facts(&root, &directories, agent.ahead()).await;
    let sshd = sshd_facts(&root, os_user.unwrap_or(NOBODY), uid);
    let serves_scripts = metadata.as_ref().is_some_and(|metadata| matches!(metadata.settings, Ok(Some(_))));
    Facts {
        sshd: SshdFacts { serves_scripts, ..sshd },
        agent,
        metadata,
        units: root.program("systemctl").map(|_| unit_facts(&root, &directories)),
        record: record_facts(&root, &directories.run),
        account,
    }
}

fn sshd_facts(root: &Root, user: &str, uid: u32) -> SshdFacts {
    let Some(sshd) = Sshd::find(root) else { return SshdFacts::default() };
    let config = CONFIGS.iter().map(Path::new).find(|path| root.path(path).exists());
    let settings = config.and_then(|config| read_config(root, config).ok()).unwrap_or_default();
    let mut facts = SshdFacts {
        program: Some(sshd.program.clone()),
        unit_options: read_unit_options(root),
        has_drop_in: root.path(DROP_IN).exists(),
        selinux_without_policy: selinux_without_policy(root),
        ..SshdFacts::default()
    };
    if rustix::process::geteuid().is_root() {
        let effective = sshd.check().and_then(|()| sshd.effective(user, None));
        if let Ok(effective) = &effective {
            facts.running = running(root, effective, config, &settings);
            look_at_command(root, effective, user, uid, &mut facts);
        }
        facts.effective = Some(effective);
    }
    SshdFacts { settings, ..facts }
}

fn look_at_command(root: &Root, effective: &Effective, user: &str, uid: u32, facts: &mut SshdFacts) {
    let Some(command) = effective.get(COMMAND).filter(|command| is_ours(command)) else { return };
    let safe =
        |program: &Path| check_program_in(root.directory(), program).map_err(|reason| reason.to_string());
    let is_safe = safe(&program_of(command));
    if is_safe.is_ok() {
        let asked_as = effective.get(COMMAND_USER).unwrap_or_default();
        facts.trial = Some(trial(root, command, asked_as, user, uid));
    }
    facts.command_is_safe = Some(is_safe);
    facts.chained_is_safe = chained_command(command).map(|program| safe(Path::new(&program)));
}

/// Runs our part of the command as sshd would, for a key that nobody has.
fn trial(root: &Root, command: &str, asked_as: &str, user: &str, uid: u32) -> Result<(), String> {
    let account = name_service(root, asked_as).ok_or("there is no such user")?;
    let own = words(command).into_iter().take_while(|word| word != "--chain");
    let own: Vec<String> = own
        .map(|word| match word.as_str() {
            "%u" => user.to_owned(),
            "%f" => NO_KEY.to_owned(),
            "%U" => uid.to_string(),
            _ => word,
        })
        .collect();
    let setpriv = root.program("setpriv").ok_or("there is no setpriv to try it with")?;
    let (uid, gid) = (format!("--reuid={}", account.uid), format!("--regid={}", account.gid));
    let mut arguments = vec![uid.as_str(), gid.as_str(), "--init-groups", "--"];
    arguments.extend(own.iter().map(String::as_str));
    let output = root.run(&setpriv, &arguments, "").map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Compares when sshd wrote its pid file, which it does whenever it has read its files, with when those were changed.
fn running(root: &Root, effective: &Effective, config: Option<&Path>, settings: &[Setting]) -> Running {
    let pid_file = effective.get("pidfile").map(|path| root.path(path));
    let started =
        pid_file.as_ref().and_then(|path| Some((fs::read_to_string(path).ok()?, fs::metadata(path).ok()?)));
    let Some((pid, metadata)) = started else { return Running::Unknown };
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    if name.trim_end() != "sshd" {
        return Running::Unknown;
    }
    let read_at = (metadata.mtime(), metadata.mtime_nsec());
    let mut files: Vec<&Path> = settings.iter().map(|setting| setting.file.as_path()).chain(config).collect();
    files.extend([Path::new(DROP_IN), Path::new("/etc/ssh/sshd_config.d")]);
    let is_newer = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec()) > read_at;
    let changed =
        files.into_iter().find(|file| fs::metadata(root.path(file)).is_ok_and(|found| is_newer(&found)));
    changed.map_or(Running::Current, |file| Running::Outdated(file.to_owned()))
}

/// `None` where SELinux does not enforce anything.
fn selinux_without_policy(root: &Root) -> Option<bool> {
    let enforcing = fs::read_to_string(root.path("/sys/fs/selinux/enforce")).ok()?;
    if enforcing.trim() != "1" {
        return None;
    }
    let entries =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let modules =
        entries(root.path("/var/lib/selinux")).flat_map(|policy| entries(policy.join("active/modules")));
    let mut modules = modules.collect::<Vec<_>>().into_iter();
    Some(!modules.any(|priority| priority.join("instance_connect").exists()))
}

fn account_facts(root: &Root, name: &str, veto: Option<HostVeto>, now: UnixSeconds) -> AccountFacts {
    let account = name_service(root, name);
    let shell = account.as_ref().map(|account| account.shell.as_str()).filter(|shell| !shell.is_empty());
    let is_program = |found: Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    let read = |path: &str| fs::read_to_string(root.path(path)).unwrap_or_default();
    let groups = match &account {
        Some(account) => root.run_well("id", &["-Gn", "--", &account.name], "").unwrap_or_default(),
        None => String::new(),
    };
    let shadow = read("/etc/shadow");
    let pam = read("/etc/pam.d/sshd");
    AccountFacts {
        name: name.to_owned(),
        groups: groups.split_whitespace().map(str::to_owned).collect(),
        shadow: shadow.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned),
        shell_is_program: fs::metadata(root.path(shell.unwrap_or("/bin/sh"))).is_ok_and(is_program),
        shells: read("/etc/shells"),
        pam_wants_listed_shell: pam.lines().any(|line| !line.starts_with('#') && line.contains("pam_shells")),
        nologin: ["/etc/nologin", "/run/nologin"].into_iter().find(|path| root.path(path).exists()),
        veto,
        today: now.0 / 86_400,
        account,
    }
}

/// An account, wherever the system has it from.
fn name_service(root: &Root, name: &str) -> Option<Account> {
    let line = root.run_well("getent", &["passwd", "--", name], "").ok()?;
    Account::parse(line.lines().next()?)
}

async fn agent_facts(
    root: &Root,
    directories: &Directories,
    veto: Result<(), String>,
    now: UnixSeconds,
) -> AgentFacts {
    let Directories { etc, state, run } = directories;
    AgentFacts {
        installation: vec![
            (
                "instance-id",
                read_trusted(&etc.join("instance-id"), |text| text.trim().parse::<InstanceId>()).map(drop),
            ),
            ("anchors", read_trusted(&etc.join("anchors"), Anchors::parse).map(drop)),
            ("host.toml", veto),
        ],
        identity: Some(read_identity(state)),
        run_directory: Some(run_directory(root, run)),
        is_running: is_running(run),
        link: read_status(run),
        answer: ask_control_plane(state, now).await,
        now: now.0,
    }
}

fn unit_facts(root: &Root, directories: &Directories) -> UnitFacts {
    UnitFacts {
        agent: unit(root, UNIT),
        anchors: unit(root, ANCHORS_UNIT),
        anchors_service: unit(root, ANCHORS_SERVICE),
        waiting: waiting_anchors(directories),
    }
}

fn unit(root: &Root, name: &str) -> Unit {
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let directories = || UNIT_DIRECTORIES.iter().map(|directory| root.path(directory));
    let Some(file) = directories().map(|directory| directory.join(name)).find(is_there) else {
        return Unit::Missing;
    };
    if fs::read_link(file).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Unit::Masked;
    }
    let entries = directories().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    let mut wants = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "wants"));
    if wants.any(|entry| is_there(&entry.path().join(name))) { Unit::Enabled } else { Unit::Disabled }
}

/// The number of the anchor set that `update-anchors` would take.
fn waiting_anchors(Directories { etc, state, .. }: &Directories) -> Option<u32> {
    let current = read_trusted(&etc.join("anchors"), Anchors::parse).ok()?;
    let sent: AnchorSet = anchors::read_unsafe(&state.join(anchors::NEXT)).ok()??.parse().ok()?;
    sent.replaces(&current).ok().map(|()| sent.number())
}

fn record_facts(root: &Root, run: &Path) -> RecordFacts {
    let pam = root.path(PAM);
    let program = root.path(SESSION_PROGRAM);
    let is_executable = fs::metadata(&program).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
    let may_look = rustix::process::geteuid().is_root() && is_running(run);
    let sockets = [(OFFERS_SOCKET, OFFERS_MODE), (SESSIONS_SOCKET, SESSIONS_MODE)];
    RecordFacts {
        pam_is_link: pam.is_symlink(),
        pam: fs::read_to_string(pam).ok(),
        session_program: Some(SessionProgram {
            is_safe: check_program_in(root.directory(), Path::new(SESSION_PROGRAM)),
            is_executable,
            is_static: is_static_file(&program).unwrap_or(false),
        }),
        sockets: sockets
            .into_iter()
            .filter(|_| may_look)
            .map(|(name, mode)| (name, socket(root, &run.join(name), mode)))
            .collect(),
    }
}

/// Whether the agent would get a datagram that is sent there by those who may. None is sent.
fn socket(root: &Root, path: &Path, mode: u32) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|_| MISSING)?;
    let agent = account(root, AGENT_USER).map(|account| account.uid);
    let readers = group(root, KEYS_GROUP).map(|group| group.gid);
    if !found.file_type().is_socket() {
        Err("it is no socket".to_owned())
    } else if (Some(found.uid()), Some(found.gid())) != (agent, readers) {
        Err(format!("it belongs to {}:{}, not to {AGENT_USER}:{KEYS_GROUP}", found.uid(), found.gid()))
    } else if found.mode() & 0o7777 != mode {
        Err(format!("it has mode {:04o}, and not {mode:04o}", found.mode() & 0o7777))
    } else {
        let connected = UnixDatagram::unbound().and_then(|sender| sender.connect(path));
        connected.map_err(|error| format!("nobody listens there: {error}"))
    }
}

fn read_veto(etc: &Path) -> Result<HostVeto, String> {
    let path = etc.join("host.toml");
    if path.symlink_metadata().is_ok() {
        read_trusted(&path, HostVeto::parse)
    } else {
        Ok(HostVeto::default())
    }
}

/// Reads a file by the rules of agent and command.
fn read_trusted<T, E: ToString>(path: &Path, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, String> {
    let bytes = files::read_trusted(path, SMALL_FILE).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes.ok_or(MISSING)?).map_err(|_| "it is not text")?;
    parse(&text).map_err(|error| error.to_string())
}

fn run_directory(root: &Root, run: &Path) -> Result<(), String> {
    let shown = run.display();
    let Ok(found) = fs::symlink_metadata(root.path(run)) else { return Err(format!("{shown} is missing")) };
    let Some(agent) = account(root, AGENT_USER) else { return Err(format!("there is no user {AGENT_USER}")) };
    let Some(readers) = group(root, KEYS_GROUP) else {
        return Err(format!("there is no group {KEYS_GROUP}"));
    };
    let mode = found.mode() & 0o7777;
    if !found.is_dir() {
        Err(format!("{shown} is no directory"))
    } else if (found.uid(), found.gid()) != (agent.uid, readers.gid) {
        Err(format!("{shown} belongs to {}:{}, not to {AGENT_USER}:{KEYS_GROUP}", found.uid(), found.gid()))
    } else if mode & 0o772 != 0o750 {
        Err(format!("{shown} has mode {mode:04o}, and not 2750"))
    } else {
        Ok(())
    }
}

/// Asks the agents listener anything. It opens no link: that would end the agent's own.
async fn ask_control_plane(state: &Path, now: UnixSeconds) -> Option<Result<Answer, String>> {
    let state = match State::load(state) {
        Ok(state) => state,
        Err(StateError::NotEnrolled(_) | StateError::Unusable { .. }) => return None,
    };
    let server = state.server.to_string();
    let asking = async {
        let stream =
            connect_tls(&state.server, Arc::clone(&state.tls)).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::get("/").header(HOST, state.server.authority()).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let answering = sender.send_request(request);
        tokio::pin!(answering);
        tokio::select! {
            answer = &mut answering => answer,
            _ = connection => answering.await,
        }
        .map_err(|error| {
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
        })
    };
    let answer = match timeout(limits::CONNECT, asking).await {
        Ok(answer) => answer.map_err(|reason| format!("{server}: {reason}")),
        Err(_) => Err(format!("{server}: no answer within {} s", limits::CONNECT.as_secs())),
    };
    let date = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    Some(answer.map(|answer| {
        let at = answer.headers().get(DATE).and_then(|value| date(value.to_str().ok()?));
        Answer { server, ahead: at.map(|at| now.0 - at.as_second()) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_core::document::SigningKey;

    /// An anchor set waits until root has taken it, and one that root would not take waits for nobody.
    #[test]
    fn anchors_that_wait_for_root() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let directories = Directories { etc: at("etc"), state: at("state"), run: at("run") };
        fs::create_dir(&directories.etc).unwrap();
        fs::create_dir(&directories.state).unwrap();
        let set = |by: u8, number| {
            let key = SigningKey::from_seed(&[by; 32]).unwrap();
            AnchorSet::issue(&key, number, &"us-east-1".parse().unwrap(), &[key.verifying_key()])
        };
        assert_eq!(waiting_anchors(&directories), None, "not enrolled");
        fs::write(at("etc/anchors"), set(1, 1)).unwrap();
        assert_eq!(waiting_anchors(&directories), None, "nothing was sent");
        for (sent, expected) in [(set(1, 2), Some(2)), (set(1, 1), None), (set(9, 9), None)] {
            fs::write(at("state/anchors.next"), sent).unwrap();
            assert_eq!(waiting_anchors(&directories), expected);
        }
    }

    #[test]
    fn units_by_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path()).unwrap();
        let [local, packaged] = ["etc/systemd/system", "usr/lib/systemd/system"].map(|name| root.path(name));
        fs::create_dir_all(&packaged).unwrap();
        fs::create_dir_all(local.join("paths.target.wants")).unwrap();
        assert_eq!(unit(&root, UNIT), Unit::Missing);
        fs::write(packaged.join(UNIT), "").unwrap();
        assert_eq!(unit(&root, UNIT), Unit::Disabled);
        let link = |target: &str, path: PathBuf| std::os::unix::fs::symlink(target, path).unwrap();
        link("/usr/lib/systemd/system/x", local.join("paths.target.wants").join(UNIT));
        assert_eq!(unit(&root, UNIT), Unit::Enabled);
        link("/dev/null", local.join(UNIT));
        assert_eq!(unit(&root, UNIT), Unit::Masked);
    }
}
