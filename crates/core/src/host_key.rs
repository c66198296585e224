//! SSH host keys: what a machine's agent claims they are, what is pinned, and what a report of them comes to.

use crate::ids::{Fingerprint, InstanceId};
use crate::link::limits;
use crate::ssh_key::{KeyError, KeyTypes, PublicKey};
use instance_connect_planted::planted;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One public host key of a machine.
///
/// It prints as `type base64`, made from the parsed key: neither an option, nor a comment, nor a second line that an
/// agent has sent gets into anybody's known hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey {
    line: String,
    fingerprint: Fingerprint,
}

/// The host keys of one machine.
pub type HostKeys = BTreeSet<HostKey>;

impl HostKey {
    /// Its type, as in `ssh-ed25519`.
    pub fn key_type(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// Its fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// `type base64`.
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl FromStr for HostKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = PublicKey::parse(text, &KeyTypes::of_hosts())?;
        Ok(Self { line: key.line(), fingerprint: key.fingerprint() })
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The host keys among the lines that an agent sends, at most [`limits::HOST_KEYS`]. What else there is, such as a key of a
/// type that this version does not know, is left out: a machine has several keys, and one that is known is enough.
pub fn claimed<'l>(lines: impl IntoIterator<Item = &'l str>) -> HostKeys {
    lines.into_iter().take(limits::HOST_KEYS).filter_map(|line| line.parse().ok()).collect()
}

/// What is kept of the host keys of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownHostKeys {
    /// What clients are told: the first that were reported, or the last that were accepted.
    pub pinned: HostKeys,
    /// What was reported last, where that is something else. Clients are not told.
    pub pending: HostKeys,
}

/// What a report comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyReport {
    /// It says what is known already.
    Known,
    /// It is the first, and pinned.
    Pinned,
    /// It differs from what is pinned: an administrator has to accept it.
    Pending,
    /// It has a key that is pinned to this other instance of the account, and is kept as pending. A machine that can
    /// prove itself with it could be taken for the other one.
    InUse(InstanceId),
}

impl KnownHostKeys {
    /// What a report comes to. `in_use` is an instance of the same account that one of the keys is pinned to.
    ///
    /// Nothing is accepted by being reported again, and a report without keys says nothing: a machine whose files cannot
    /// be read has not changed its keys.
    pub fn judge(&self, reported: &HostKeys, in_use: Option<InstanceId>) -> HostKeyReport {
        let is_known = match self.pending.is_empty() {
            true => *reported == self.pinned,
            false => *reported == self.pending,
        };
        if reported.is_empty() || is_known {
            return HostKeyReport::Known;
        }
        if let Some(other) = in_use {
            return HostKeyReport::InUse(other);
        }
        if *reported == self.pinned {
            // Back to what clients are told: nothing is left to accept.
            return HostKeyReport::Pinned;
        }
        let is_first = self.pinned.is_empty() && self.pending.is_empty();
        if is_first || planted("host-keys-believed") { HostKeyReport::Pinned } else { HostKeyReport::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcbDBcIVf5lZW8kHRq1oJ3mVjLIyUdBK5yyrn4hPA5y";

    fn keys(lines: &[&str]) -> HostKeys {
        let keys = claimed(lines.iter().copied());
        assert_eq!(keys.len(), lines.len());
        keys
    }

    #[test]
    fn what_a_report_comes_to() {
        use HostKeyReport::{InUse, Known, Pending, Pinned};
        let other: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        for (pinned, pending, reported, in_use, expected) in [
            (&[][..], &[][..], &[A][..], None, Pinned),
            (&[], &[], &[A, B], None, Pinned),
            (&[A], &[], &[A], None, Known),
            (&[A], &[], &[B], None, Pending),
            // One more, or one less, is a change.
            (&[A], &[], &[A, B], None, Pending),
            (&[A, B], &[], &[A], None, Pending),
            (&[A], &[B], &[B], None, Known),
            (&[A], &[B], &[A, B], None, Pending),
            (&[A], &[B], &[A], None, Pinned),
            // Another's key is not pinned, not even as the first, and told once.
            (&[], &[], &[A], Some(&other), InUse(other.clone())),
            (&[], &[A], &[A], Some(&other), Known),
            (&[], &[A], &[B], None, Pending),
            (&[A], &[], &[B], Some(&other), InUse(other.clone())),
            (&[A], &[B], &[], None, Known),
            (&[], &[], &[], None, Known),
        ] {
            let known = KnownHostKeys { pinned: keys(pinned), pending: keys(pending) };
            let report = known.judge(&keys(reported), in_use.cloned());
            assert_eq!(report, expected, "{pinned:?} {pending:?} {reported:?}");
        }
    }

    #[test]
    fn a_host_key_is_one_line_and_nothing_but_a_key() {
        for (text, line) in [
            (A.to_owned(), Some(A)),
            (format!("{A} root@host"), Some(A)),
            (format!("{A} x\n* {B}"), None),
            (format!("@cert-authority * {A}"), None),
            (format!("i-0123456789abcdef0 {A}"), None),
            (format!("command=\"x\" {A}"), None),
            (format!("{A}\0"), None),
            ("sk-ssh-ed25519@openssh.com AAAA".to_owned(), None),
            (String::new(), None),
        ] {
            let key = text.parse::<HostKey>().ok();
            assert_eq!(key.as_ref().map(HostKey::line), line, "{text:?}");
        }
        assert_eq!(A.parse::<HostKey>().unwrap().key_type(), "ssh-ed25519");
        assert!(claimed([A; 1000]).len() == 1 && claimed(std::iter::repeat_n("x", 8).chain([A])).is_empty());
    }

    proptest! {
        #[test]
        fn host_key_never_panics_and_prints_one_line(text: String) {
            if let Ok(key) = text.parse::<HostKey>() {
                prop_assert!(!key.line().contains(char::is_control));
            }
        }
    }
}
