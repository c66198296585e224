//! Checks of our own: does a pushed key arrive on this machine, and is it believed?

use super::check::{Check, note, ok, problem};
use crate::identity::Identity;
use crate::install::{AGENT_USER, KEYS_GROUP};
use crate::status::{LinkStatus, duration};

/// What is known about the agent and what it works with.
#[derive(Debug, Default)]
pub(super) struct AgentFacts {
    /// The files of `/etc/instance-connect`: what is wrong with each, or nothing.
    pub(super) installation: Vec<(&'static str, Result<(), String>)>,
    pub(super) identity: Option<Result<Identity, String>>,
    pub(super) run_directory: Option<Result<(), String>>,
    pub(super) is_running: bool,
    pub(super) link: Option<LinkStatus>,
    /// What the control plane answered, or why not.
    pub(super) answer: Option<Result<Answer, String>>,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// An answer of the agents listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) server: String,
    /// How far this machine's wall clock is ahead of the server's, in seconds.
    pub(super) ahead: Option<i64>,
}

/// Signers and certificates are good for days. This is more than any clock that something keeps right is off.
const CLOCK_TOLERANCE: i64 = 300;

const ENROLL: &str =
    "instance-connect-agent enroll, with a new join token; --replace if this machine was enrolled before";

impl AgentFacts {
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.installation()];
        checks.extend(self.identity());
        checks.extend(self.run_directory());
        checks.push(self.link());
        checks.extend(self.control_plane());
        checks.extend(self.clock());
        checks
    }

    /// Whom to trust is what both the agent and the sshd command need to know.
    fn installation(&self) -> Check {
        const NAME: &str = "installation";
        let why = "a key counts only if the control plane that root trusts here has signed it for this instance; without these files none does";
        let is_missing = |reason: &str| reason == MISSING;
        let wrong: Vec<_> =
            self.installation.iter().filter_map(|(name, read)| Some((name, read.as_ref().err()?))).collect();
        if wrong.is_empty() {
            return ok(NAME, "/etc/instance-connect says which instance this is, and whom it trusts");
        }
        let found: Vec<String> =
            wrong.iter().map(|(name, reason)| format!("/etc/instance-connect/{name}: {reason}")).collect();
        let all_missing = wrong.iter().all(|(_, reason)| is_missing(reason));
        let mend = if all_missing {
            ENROLL
        } else {
            "put right what is named here; the files must be root's (chown root, chmod 644)"
        };
        problem(NAME, found.join("\n"), why, mend)
    }

    fn identity(&self) -> Option<Check> {
        const NAME: &str = "identity";
        let why =
            "without a good certificate the control plane does not talk to this machine, so no key gets here";
        Some(match self.identity.as_ref()? {
            Err(reason) => problem(NAME, reason.clone(), why, ENROLL),
            Ok(identity) => {
                let text = identity.to_text(self.now);
                if self.now < identity.not_before {
                    problem(
                        NAME,
                        text,
                        why,
                        "set this machine's clock right; if it is right: instance-connect-agent enroll --replace",
                    )
                } else if self.now > identity.not_after {
                    problem(NAME, text, why, ENROLL)
                } else {
                    ok(NAME, text)
                }
            }
        })
    }

    fn run_directory(&self) -> Option<Check> {
        let why = "the agent writes keys there, and the sshd command, whose group it is, reads them";
        let mend = format!(
            "instance-connect-agent install, or: install -d -o {AGENT_USER} -g {KEYS_GROUP} -m 2750 /run/instance-connect; then restart the agent"
        );
        Some(match self.run_directory.as_ref()? {
            Ok(()) => {
                ok("run-directory", "/run/instance-connect is the agent's, and the sshd command may read it")
            }
            Err(reason) => problem("run-directory", reason.clone(), why, mend),
        })
    }

    fn link(&self) -> Check {
        const NAME: &str = "link";
        const WHY: &str = "keys come over the link. Those that are here already work to their deadline";
        if !self.is_running {
            return problem(
                NAME,
                "the agent does not run",
                WHY,
                "systemctl start instance-connect-agent; if it ends again: journalctl -u instance-connect-agent",
            );
        }
        let Some(link) = &self.link else {
            return note(NAME, "the agent runs, and its status cannot be read", WHY, "run this as root");
        };
        let since = duration(self.now - link.since);
        let last_error = link.last_error.as_ref();
        if link.open {
            let signers_end =
                link.signers.iter().filter_map(|signer| signer.split(' ').nth(3)?.parse::<i64>().ok()).max();
            return match signers_end {
                Some(last_day) if last_day < self.now / 86_400 => problem(
                    NAME,
                    format!("open for {since}, and by this machine's clock every signer's last day is over"),
                    "the sshd command believes no signer after its last day",
                    "set this machine's clock right; if it is right, the control plane has to renew its signer",
                ),
                _ => ok(NAME, format!("open for {since}")),
            };
        }
        let reason = last_error.map_or_else(|| "it is being opened".to_owned(), |error| error.text.clone());
        let mend = if reason.contains("identity_revoked") {
            "this machine's identity is revoked: ".to_owned() + ENROLL
        } else if reason.contains("replaced") {
            "another machine uses this one's identity, such as a clone: enrol each with a token of its own"
                .to_owned()
        } else {
            "see the check named control-plane".to_owned()
        };
        problem(NAME, format!("down for {since}: {reason}"), WHY, mend)
    }

    fn control_plane(&self) -> Option<Check> {
        const NAME: &str = "control-plane";
        match self.answer.as_ref()? {
            Ok(answer) => Some(ok(NAME, format!("{} answers", answer.server))),
            Err(reason) => {
                let mend = if reason.contains("certificate") || reason.contains("Certificate") {
                    "compare this machine's clock and the server's; a server with another CA needs enrolling again"
                } else {
                    "see that the name resolves and that nothing on the way (firewall, proxy, route) stops TCP to it"
                };
                Some(problem(NAME, reason.clone(), "the agent opens its link to there", mend))
            }
        }
    }

    /// How far this machine's wall clock is ahead of the control plane's, in seconds, where that answers.
    pub(super) fn ahead(&self) -> Option<i64> {
        self.answer.as_ref()?.as_ref().ok()?.ahead
    }

    fn clock(&self) -> Option<Check> {
        const NAME: &str = "clock";
        let ahead = self.ahead()?;
        let off = duration(ahead.abs());
        Some(if ahead.abs() <= CLOCK_TOLERANCE {
            ok(NAME, format!("within {off} of the control plane's"))
        } else {
            let found =
                format!("{off} {} the control plane's", if ahead > 0 { "ahead of" } else { "behind" });
            let why = "certificates, signers and accounts begin and end by the wall clock (keys do not)";
            problem(NAME, found, why, "timedatectl set-ntp true, or whatever keeps this machine's time")
        })
    }
}

/// The reason of a file that is not there.
pub(super) const MISSING: &str = "it is missing";
