//! What sshd asks for each key it is offered: may this key open this account, now? The way to the answer, read aloud,
//! is [`answer`]; the program around it (`main.rs`) reads the clocks, prints and reports.
//!
//! It runs before login and in front of every account, so it is small: synchronous, without network, without name
//! service, one file opened where there is no key. `docs/login.md` describes it to administrators.

mod arguments;
mod chained;
mod files;
mod host;
mod live;
mod program;
mod report;
mod session;

pub use arguments::{ArgumentsError, CommandLine, Invocation, Login, USAGE};
pub use chained::{Chained, ChainedError};
pub use files::FileError;
pub use host::BrokenHost;
pub use program::{UnsafeProgram, check_program, check_program_in};
pub use report::Reporter;
pub use session::{PamEnvironment, session_events, started};

use host::Host;
use instance_connect_document::{
    Accepted, DeadlineRefusal, Expected, Fingerprint, Handover, MachineTime, Offer, Refusal, verify,
};
use instance_connect_planted::planted;
use live::KeyFile;

/// What to tell sshd, the system's log and the agent.
#[derive(Debug, Default)]
pub struct Answer {
    /// Lines of `authorized_keys` for sshd; empty when there is no key.
    pub keys: String,
    /// Lines for the system's log.
    pub log: Vec<String>,
    /// One for each key in `keys`.
    pub offers: Vec<Offer>,
}

/// Answers sshd. Nothing is in the answer's `keys` that has not passed every check.
///
/// `clock` is read once there is a key to judge, as late as can be.
///
/// # Errors
/// Where the installation is broken, nothing can be judged.
pub fn answer(login: &Login, clock: fn() -> MachineTime) -> Result<Answer, BrokenHost> {
    let mut answer = Answer::default();
    let key_files = live::key_files(login)?;
    if key_files.is_empty() {
        return Ok(answer);
    }
    let host = Host::read(&login.etc)?;
    let now = clock();
    for key_file in &key_files {
        answer.add(judge(key_file, login, &host, now));
    }
    Ok(answer)
}

impl Answer {
    fn add(&mut self, other: Self) {
        self.keys.push_str(&other.keys);
        self.log.extend(other.log);
        self.offers.extend(other.offers);
    }
}

/// Judges one key file, which may hold several grants of the same key.
fn judge(key_file: &KeyFile, login: &Login, host: &Host, now: MachineTime) -> Answer {
    let fingerprint = key_file.fingerprint;
    let refused = |reason: &dyn std::fmt::Display| Answer {
        log: vec![format!(
            "Refused the ssh key with fingerprint: {fingerprint}, for user {}: {reason}",
            login.user
        )],
        ..Answer::default()
    };
    let file = match &key_file.content {
        Ok(file) => file,
        Err(error) => return refused(error),
    };
    let handover = match Handover::parse(file) {
        Ok(handover) => handover,
        Err(error) => return refused(&error),
    };
    let expected = Expected {
        anchors: &host.anchors,
        instance: &host.instance,
        user: &login.user,
        boot: &host.boot,
        fingerprint: Some(fingerprint),
        longest_lifetime: host.veto.longest_lifetime(),
    };
    let mut accepted = Vec::new();
    let mut refusals = Vec::new();
    for section in handover.sections() {
        match verify(section, &expected, now) {
            Ok(grant) => accepted.push(grant),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let vetoed = host.veto.permits(&login.user, login.uid).err();
    if let (Some(veto), false, true) = (vetoed, accepted.is_empty(), !planted("veto-ignored")) {
        return refused(&veto);
    }
    // A grant that has ended is nothing to report where a later push of the same key is still good, nor in a scan,
    // where nobody asked for this very key.
    let ended = Refusal::Deadline(DeadlineRefusal::Passed);
    if !accepted.is_empty() || login.fingerprint.is_none() {
        refusals.retain(|refusal| *refusal != ended);
    }
    let mut answer = provide(&accepted, login, fingerprint, now);
    for refusal in &refusals {
        answer.add(refused(refusal));
    }
    answer
}

/// The answer that gives sshd a key, allowed by these grants. Without any, an empty one.
fn provide(accepted: &[Accepted<'_>], login: &Login, fingerprint: Fingerprint, now: MachineTime) -> Answer {
    let Some(first) = accepted.first() else { return Answer::default() };
    // Every grant is of the one key with this fingerprint: its line is the same in each.
    let provided = |grant: &Accepted<'_>| {
        // Administrators search for this text; it is that of the stock host scripts (wire.md 3.4).
        format!(
            "Providing ssh key from EC2 Instance Connect with fingerprint: {fingerprint}, request-id: {}, for IAM principal: {}",
            grant.request(),
            grant.caller(),
        )
    };
    Answer {
        keys: format!("{}\n", first.key_line()),
        log: accepted.iter().map(provided).collect(),
        offers: vec![Offer {
            user: login.user.clone(),
            fingerprint,
            requests: accepted.iter().map(|grant| grant.request().clone()).collect(),
            at: now.boot,
        }],
    }
}
