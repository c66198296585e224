//! Checks of the record: would it tell that a pushed key was offered, and that a login with it began and ended? And is what root
//! runs for that at each login root's alone?

use super::agent::MISSING;
use super::check::{Check, note, ok, problem};
use crate::install::{PAM, SESSION_PROGRAM};
use crate::sshd::Effective;
use instance_connect_authorized_keys::UnsafeProgram;

/// What is known about how the agent hears of logins.
#[derive(Debug, Default)]
pub(super) struct RecordFacts {
    /// What PAM does for sshd, where that can be read.
    pub(super) pam: Option<String>,
    /// Whether its file is a symbolic link: then something else writes it.
    pub(super) pam_is_link: bool,
    /// The program that PAM runs; `None` where it was not looked at.
    pub(super) session_program: Option<SessionProgram>,
    /// The agent's sockets: what is wrong with each, or nothing. None while it does not run, and for anybody but root.
    pub(super) sockets: Vec<(&'static str, Result<(), String>)>,
}

/// The program that PAM runs as root when a login begins and ends.
#[derive(Debug)]
pub(super) struct SessionProgram {
    /// Whether it, and all above it, is root's alone.
    pub(super) is_safe: Result<(), UnsafeProgram>,
    pub(super) is_executable: bool,
    pub(super) is_static: bool,
}

const UNRECORDED: &str =
    "logins with pushed keys work, and the audit log does not tell when they begin and end";
const INSTALL: &str = "instance-connect-agent install";

impl RecordFacts {
    /// `effective` is what sshd makes of its files.
    pub(super) fn checks(&self, effective: Option<&Effective>) -> Vec<Check> {
        let mut checks: Vec<Check> = effective.map(|effective| self.pam(effective)).into_iter().collect();
        // One that PAM does not run harms nobody.
        if self.our_line().is_some() {
            checks.extend(self.session_program());
        }
        checks.extend(self.sockets());
        checks
    }

    fn pam(&self, effective: &Effective) -> Check {
        const NAME: &str = "pam";
        let line = format!("session optional pam_exec.so quiet {SESSION_PROGRAM}");
        if effective.get("usepam") != Some("yes") {
            let mend = format!("set UsePAM yes, then: {INSTALL}");
            return note(NAME, "sshd does not use PAM (UsePAM is not yes)", UNRECORDED, mend);
        }
        let Some(text) = &self.pam else {
            return note(
                NAME,
                format!("{PAM}: {MISSING}"),
                UNRECORDED,
                format!("put your distribution's there, then: {INSTALL}"),
            );
        };
        let Some((number, ours)) = self.our_line() else {
            let mend = if self.pam_is_link {
                format!("it is a symbolic link: have what writes it begin it with: {line}")
            } else {
                INSTALL.to_owned()
            };
            return note(NAME, format!("{PAM} does not run {SESSION_PROGRAM}"), UNRECORDED, mend);
        };
        if !matches!(ours.as_slice(), ["session", "optional", ..]) {
            let found = format!("{PAM} line {number} begins with {}", shown(&ours));
            let why = "only a session line is run when logins begin and end, and only an optional one lets them go on where the program cannot be started";
            return note(NAME, found, why, format!("have it read: {line}"));
        }
        match pam_lines(text).next() {
            Some((first, words)) if first != number => {
                let found = format!("{PAM} line {first} comes before ours: {}", shown(&words));
                let why = "a module before ours can set variables that users choose, and have it tell of another key";
                note(NAME, found, why, format!("have this be its first line: {line}"))
            }
            _ => ok(NAME, format!("tells us of logins ({PAM} line {number})")),
        }
    }

    fn our_line(&self) -> Option<(usize, Vec<&str>)> {
        pam_lines(self.pam.as_deref()?).find(|(_, words)| words.contains(&SESSION_PROGRAM))
    }

    fn session_program(&self) -> Option<Check> {
        const NAME: &str = "session-program";
        let program = self.session_program.as_ref()?;
        let is_optional = self.our_line().is_some_and(|(_, words)| words.get(1) == Some(&"optional"));
        let unusable = |found: String, mend: String| match is_optional {
            true => note(NAME, found, UNRECORDED, mend),
            false => {
                problem(NAME, found, "our line in PAM's stack is not optional, so no login goes on", mend)
            }
        };
        Some(match &program.is_safe {
            Err(reason @ UnsafeProgram::System(..)) => {
                unusable(reason.to_string(), format!("it comes with the package; without one: {INSTALL}"))
            }
            Err(reason) => problem(
                NAME,
                reason.to_string(),
                "PAM runs it as root at each login: whoever can replace it is root",
                "chown root and chmod go-w what is named here; install it anew if somebody may have done so",
            ),
            Ok(()) if !program.is_static => problem(
                NAME,
                format!("{SESSION_PROGRAM} is not a statically linked program"),
                "PAM runs it as root, and users whose variables PAM reads (pam_env) can have its dynamic loader load what is theirs",
                "install the package's, or build it as docs/login.md says",
            ),
            Ok(()) if !program.is_executable => unusable(
                format!("{SESSION_PROGRAM} may not be executed"),
                format!("chmod 755 {SESSION_PROGRAM}"),
            ),
            Ok(()) => ok(NAME, "it and all above it are root's alone, and nothing is loaded into it"),
        })
    }

    fn sockets(&self) -> Option<Check> {
        const NAME: &str = "sockets";
        let wrong = self.sockets.iter().filter_map(|(name, seen)| Some((name, seen.as_ref().err()?)));
        let found: Vec<String> =
            wrong.map(|(name, reason)| format!("/run/instance-connect/{name}: {reason}")).collect();
        if self.sockets.is_empty() {
            return None;
        }
        if found.is_empty() {
            return Some(ok(NAME, "the agent hears of keys that are offered, and of logins"));
        }
        Some(note(
            NAME,
            found.join("\n"),
            "the sshd command and what PAM runs tell the agent of keys and logins there: logins go on, and the audit log does not have them, or has what somebody made up",
            "systemctl restart instance-connect-agent, which makes them anew",
        ))
    }
}

/// The lines of a PAM stack that do something, counted from 1, as words.
fn pam_lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let line = line.split('#').next().unwrap_or_default();
        (number, line.split_whitespace().collect::<Vec<_>>())
    });
    lines.filter(|(_, words)| !words.is_empty())
}

/// The beginning of a line: what is done, and by what.
fn shown(words: &[&str]) -> String {
    words.iter().take(3).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use std::io;

    const USEPAM: &str = "usepam yes\n";
    const REST: &str = "auth required pam_unix.so\nsession required pam_env.so user_readenv=1\n";

    fn ours() -> String {
        format!("session optional pam_exec.so quiet {SESSION_PROGRAM}\n")
    }

    fn facts(pam: &str) -> RecordFacts {
        let session_program = SessionProgram { is_safe: Ok(()), is_executable: true, is_static: true };
        RecordFacts {
            pam: Some(pam.to_owned()),
            session_program: Some(session_program),
            sockets: vec![("offers.sock", Ok(())), ("sessions.sock", Ok(()))],
            ..RecordFacts::default()
        }
    }

    /// What is not in order.
    fn found(facts: &RecordFacts, effective: &str) -> Vec<(&'static str, Verdict, String)> {
        let checks = facts.checks(Some(&Effective::parse(effective)));
        let wrong = checks.into_iter().filter(|check| check.verdict != Verdict::Ok);
        wrong.map(|check| (check.check, check.verdict, check.found)).collect()
    }

    #[test]
    fn where_our_line_stands_in_pams_stack() {
        let ours = ours();
        let rows = [
            (format!("# BEGIN\n{ours}# END\n\n{REST}"), USEPAM, None),
            (format!("\n   # a comment\n{ours}{REST}"), USEPAM, None),
            (REST.to_owned(), USEPAM, Some("does not run /usr/libexec")),
            (format!("# {ours}{REST}"), USEPAM, Some("does not run /usr/libexec")),
            (format!("{REST}{ours}"), USEPAM, Some("line 1 comes before ours: auth required pam_unix.so")),
            (format!("@include common-auth\n{ours}"), USEPAM, Some("line 1 comes before ours: @include")),
            (
                ours.replace("optional", "required"),
                USEPAM,
                Some("line 1 begins with session required pam_exec.so"),
            ),
            (ours.replace("session ", "auth "), USEPAM, Some("line 1 begins with auth optional")),
            (ours.clone(), "usepam no", Some("UsePAM is not yes")),
            (ours, "", Some("UsePAM is not yes")),
        ];
        for (pam, effective, expected) in rows {
            match (found(&facts(&pam), effective).as_slice(), expected) {
                ([], None) => {}
                ([("pam", Verdict::Note, said)], Some(expected)) => {
                    assert!(said.contains(expected), "{pam}: {said}");
                }
                (other, _) => panic!("{pam}: {other:?}"),
            }
        }
        let missing = RecordFacts { pam: None, ..facts("") };
        assert!(matches!(found(&missing, USEPAM).as_slice(), [("pam", Verdict::Note, _)]));
        let linked = RecordFacts { pam_is_link: true, ..facts(REST) };
        let checks = linked.checks(Some(&Effective::parse(USEPAM)));
        assert!(checks[0].mend.as_ref().unwrap().contains("symbolic link"), "{checks:?}");
    }

    /// What others could replace, or load into it, makes them root. What is not there makes nobody anything.
    #[test]
    fn the_program_that_root_runs_at_each_login() {
        let path = || SESSION_PROGRAM.into();
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let rows = [
            (Ok(()), true, true, None),
            (Err(UnsafeProgram::System(path(), gone)), false, false, Some(Verdict::Note)),
            (Err(UnsafeProgram::Owner(path())), true, true, Some(Verdict::Problem)),
            (Err(UnsafeProgram::Writable(path())), true, true, Some(Verdict::Problem)),
            (Ok(()), true, false, Some(Verdict::Problem)),
            (Ok(()), false, true, Some(Verdict::Note)),
        ];
        for (is_safe, is_executable, is_static, expected) in rows {
            let shown = format!("{is_safe:?} {is_executable} {is_static}");
            let program = SessionProgram { is_safe, is_executable, is_static };
            let facts = RecordFacts { session_program: Some(program), ..facts(&ours()) };
            let found: Vec<_> =
                found(&facts, USEPAM).into_iter().map(|(check, verdict, _)| (check, verdict)).collect();
            let expected: Vec<_> = expected.map(|verdict| ("session-program", verdict)).into_iter().collect();
            assert_eq!(found, expected, "{shown}");
            // With a line that is not optional, no login goes on where it cannot be started.
            let required = RecordFacts { pam: Some(ours().replace("optional", "required")), ..facts };
            let verdicts = required.checks(None).into_iter().map(|check| (check.check, check.verdict));
            let expected = expected.first().map(|(check, _)| (*check, Verdict::Problem));
            assert_eq!(
                verdicts.filter(|(_, verdict)| *verdict != Verdict::Ok).collect::<Vec<_>>(),
                Vec::from_iter(expected)
            );
            let unused = RecordFacts { pam: Some(REST.to_owned()), ..required };
            assert!(!unused.checks(None).iter().any(|check| check.check == "session-program"), "{shown}");
        }
    }

    #[test]
    fn sockets_on_which_nobody_listens_lose_the_record() {
        let sockets = vec![("offers.sock", Ok(())), ("sessions.sock", Err(MISSING.to_owned()))];
        let facts = RecordFacts { sockets, ..facts(&ours()) };
        let expected = "/run/instance-connect/sessions.sock: it is missing".to_owned();
        assert_eq!(found(&facts, USEPAM), [("sockets", Verdict::Note, expected)]);
        assert!(RecordFacts::default().checks(None).is_empty(), "nothing was looked at");
    }
}
