//! Whether an agent takes a grant: every check that the sshd command will make at the login, made before the push is
//! told that it succeeded.

use super::codes::Refusal;
use super::limits;
use super::text::{DocumentText, StatementText};
use instance_connect_document::{
    self as document, Anchors, BootId, BootInstant, DeadlineRefusal, Expected, Fingerprint, HostVeto,
    InstanceId, MachineTime, OsUser, RequestId, Section, VouchedSigner, verify_by,
};
use std::collections::VecDeque;

/// What a machine is, and what its administrator lets a control plane do.
#[derive(Clone, Copy, Debug)]
pub struct MachineTerms<'a> {
    /// Whom it trusts to vouch for signers.
    pub anchors: &'a Anchors,
    /// Its `host.toml`.
    pub veto: &'a HostVeto,
    /// Its instance id.
    pub instance: &'a InstanceId,
    /// The boot it is in.
    pub boot: &'a BootId,
}

/// A grant that may be installed. Only [`admit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted<'a> {
    user: OsUser,
    fingerprint: Fingerprint,
    request: RequestId,
    section: Section<'a>,
}

impl<'a> Admitted<'a> {
    /// For whom the key is.
    pub const fn user(&self) -> &OsUser {
        &self.user
    }

    /// The key.
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The request that pushed it.
    pub const fn request(&self) -> &RequestId {
        &self.request
    }

    /// What goes into the hand-over file.
    pub const fn section(&self) -> &Section<'a> {
        &self.section
    }
}

/// Judges a grant. `deadline` is as [`super::AgentEvent::Grant`] has it, `statements` are those of the link, newest
/// first, and `uid` tells the OS user's uid where that is known at once.
///
/// # Errors
/// The first check that fails. Only the deadline is checked before the signature.
pub fn admit<'a>(
    document: &'a DocumentText,
    deadline: Result<BootInstant, DeadlineRefusal>,
    statements: &'a VecDeque<StatementText>,
    signers: &mut Signers,
    terms: &MachineTerms<'_>,
    uid: impl FnOnce(&OsUser) -> Option<u32>,
    now: MachineTime,
) -> Result<Admitted<'a>, Refusal> {
    // The host may allow keys less time than the push; then they have less, and are not refused.
    let longest_lifetime = terms.veto.longest_lifetime();
    let deadline = deadline?.min(now.boot.after(longest_lifetime));
    // The document says for whom it is, and `verify` that this is what was signed.
    let user = claimed_user(document.as_str()).ok_or(Refusal::Malformed)?;
    let expected = Expected {
        anchors: terms.anchors,
        instance: terms.instance,
        user: &user,
        boot: terms.boot,
        fingerprint: None,
        longest_lifetime,
    };
    let mut refusal = Refusal::SignerUntrusted;
    for statement in statements {
        let section = Section { deadline, statement: statement.as_str(), document: document.as_str() };
        let signer = signers.vouched(terms.anchors, statement);
        match signer.and_then(|signer| verify_by(&signer, &section, &expected, now)) {
            Ok(accepted) => {
                terms.veto.permits(&user, uid(&user)).map_err(|_| Refusal::Vetoed)?;
                let (fingerprint, request) = (accepted.fingerprint(), accepted.request().clone());
                return Ok(Admitted { user, fingerprint, request, section });
            }
            // Another statement may be its signer's.
            Err(document::Refusal::Signature) => refusal = Refusal::BadSignature,
            Err(other) if Refusal::from(other) == Refusal::SignerUntrusted => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(refusal)
}

/// The signers whose statements have been checked, so that a grant costs one signature check and not two. Other anchors
/// begin it anew.
#[derive(Debug, Default)]
pub struct Signers {
    anchors: Option<Anchors>,
    /// Newest last.
    checked: VecDeque<(StatementText, Result<VouchedSigner, document::Refusal>)>,
}

impl Signers {
    fn vouched(
        &mut self,
        anchors: &Anchors,
        statement: &StatementText,
    ) -> Result<VouchedSigner, document::Refusal> {
        if self.anchors.as_ref() != Some(anchors) {
            (self.anchors, self.checked) = (Some(anchors.clone()), VecDeque::new());
        }
        if let Some((_, checked)) = self.checked.iter().find(|(known, _)| known == statement) {
            return *checked;
        }
        let checked = anchors.vouch_for(statement.as_str());
        self.checked.push_back((statement.clone(), checked));
        if self.checked.len() > limits::STATEMENTS_KEPT {
            self.checked.pop_front();
        }
        checked
    }
}

fn claimed_user(document: &str) -> Option<OsUser> {
    let mut headers = document.lines().take_while(|line| line.starts_with('#'));
    headers.find_map(|line| line.strip_prefix("#User="))?.parse().ok()
}

impl From<document::Refusal> for Refusal {
    fn from(refusal: document::Refusal) -> Self {
        match refusal {
            document::Refusal::Statement
            | document::Refusal::UnknownSigner
            | document::Refusal::SignerLapsed => Self::SignerUntrusted,
            document::Refusal::Malformed(_)
            | document::Refusal::KeyLine(_)
            | document::Refusal::OtherUser
            | document::Refusal::OtherKey => Self::Malformed,
            document::Refusal::Signature => Self::BadSignature,
            document::Refusal::OtherInstance => Self::WrongInstance,
            document::Refusal::OtherBoot => Self::WrongBoot,
            document::Refusal::Deadline(reason) => reason.into(),
            document::Refusal::LongPast => Self::Expired,
        }
    }
}

impl From<DeadlineRefusal> for Refusal {
    fn from(refusal: DeadlineRefusal) -> Self {
        match refusal {
            DeadlineRefusal::NoSample | DeadlineRefusal::StaleSample | DeadlineRefusal::FutureSample => {
                Self::NoClock
            }
            DeadlineRefusal::Passed => Self::Expired,
            DeadlineRefusal::TooFar => Self::TooLong,
        }
    }
}

/// The requests that were withdrawn lately, so that a withdrawal may overtake its grant.
#[derive(Debug, Default)]
pub struct Withdrawals(VecDeque<(BootInstant, RequestId)>);

impl Withdrawals {
    /// Remembers a withdrawal. When there is no room the oldest stays: [`Withdrawals::permits`] then refuses everything.
    pub fn remember(&mut self, request: RequestId, now: BootInstant) {
        self.forget_old(now);
        let known = self.0.iter().any(|(_, withdrawn)| *withdrawn == request);
        if !known && self.0.len() <= limits::WITHDRAWN_REMEMBERED {
            self.0.push_back((now, request));
        }
    }

    /// Whether a grant of this request may be installed.
    ///
    /// # Errors
    /// It was withdrawn, or more were than can be remembered and so it may have been.
    pub fn permits(&mut self, request: &RequestId, now: BootInstant) -> Result<(), Refusal> {
        self.forget_old(now);
        if self.0.iter().any(|(_, withdrawn)| withdrawn == request) {
            return Err(Refusal::Withdrawn);
        }
        if self.0.len() > limits::WITHDRAWN_REMEMBERED {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    fn forget_old(&mut self, now: BootInstant) {
        let old = |(at, _): &(BootInstant, RequestId)| now.since(*at) > limits::WITHDRAWN_MEMORY;
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_document::{
        DocumentTerms, Region, SignerStatement, SigningKey, UnixDay, UnixSeconds,
    };
    use std::time::Duration;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBybtAyAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRob";
    const BOOT: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
    const NOW: MachineTime =
        MachineTime { boot: BootInstant(1_000_000_000), wall: UnixSeconds(1_700_000_000) };

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn statement(anchor: u8, signer: u8, last_day: u32) -> StatementText {
        let region: Region = "us-east-1".parse().unwrap();
        let signer = key(signer).verifying_key();
        SignerStatement::issue(&key(anchor), signer, &region, UnixDay(last_day)).to_string().parse().unwrap()
    }

    fn document(user: &str, instance: &str, boot: &str, signer: u8) -> DocumentText {
        let terms = DocumentTerms {
            expires_at: UnixSeconds(1_700_000_060),
            instance: &instance.parse().unwrap(),
            caller: "arn:aws:iam::123456789012:user/alice",
            request: &"7f1c520b-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            user: &user.parse().unwrap(),
            boot: &boot.parse().unwrap(),
            key_line: KEY,
        };
        terms.sign(&key(signer)).unwrap().parse().unwrap()
    }

    const DAY: u32 = 1_700_000_000 / 86_400;

    /// Anchor 1 and signers 2 and 3 are good; signer 4 has lapsed; signer 5's anchor is not known here.
    fn judge(
        document: &DocumentText,
        deadline: Result<BootInstant, DeadlineRefusal>,
        host_toml: &str,
    ) -> Result<(OsUser, BootInstant), Refusal> {
        let region: Region = "us-east-1".parse().unwrap();
        let anchors = Anchors::parse(&Anchors::line(&region, &key(1).verifying_key())).unwrap();
        let statements = VecDeque::from([
            statement(1, 2, DAY),
            statement(1, 3, DAY),
            statement(1, 4, DAY - 1),
            statement(9, 5, DAY),
            StatementText::lossy("not one"),
        ]);
        let terms = MachineTerms {
            anchors: &anchors,
            veto: &HostVeto::parse(host_toml).unwrap(),
            instance: &"i-0123456789abcdef0".parse().unwrap(),
            boot: &BOOT.parse().unwrap(),
        };
        let uid = |user: &OsUser| (user.as_str() == "toor").then_some(0);
        let admitted = admit(document, deadline, &statements, &mut Signers::default(), &terms, uid, NOW)?;
        Ok((admitted.user().clone(), admitted.section().deadline))
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let in_a_minute = Ok(NOW.boot.after(Duration::from_secs(60)));
        let good = document("alice", "i-0123456789abcdef0", BOOT, 2);
        let flipped: DocumentText = good.as_str().replacen("alice", "alicf", 1).parse().unwrap();
        let renamed: DocumentText = good.as_str().replacen("#User=alice", "#User=bob", 1).parse().unwrap();
        let rows = [
            (good.clone(), in_a_minute, "", None),
            (document("alice", "i-0123456789abcdef0", BOOT, 3), in_a_minute, "", None),
            (good.clone(), Err(DeadlineRefusal::NoSample), "", Some(Refusal::NoClock)),
            (good.clone(), Err(DeadlineRefusal::StaleSample), "", Some(Refusal::NoClock)),
            (good.clone(), Err(DeadlineRefusal::Passed), "", Some(Refusal::Expired)),
            (good.clone(), Err(DeadlineRefusal::TooFar), "", Some(Refusal::TooLong)),
            (good.clone(), Ok(NOW.boot), "", Some(Refusal::Expired)),
            ("#Instance=x\n".parse().unwrap(), in_a_minute, "", Some(Refusal::Malformed)),
            ("#User=alice\n".parse().unwrap(), in_a_minute, "", Some(Refusal::Malformed)),
            (document("alice", "i-0123456789abcdef0", BOOT, 4), in_a_minute, "", Some(Refusal::BadSignature)),
            (flipped, in_a_minute, "", Some(Refusal::BadSignature)),
            (renamed, in_a_minute, "", Some(Refusal::BadSignature)),
            (
                document("alice", "i-0123456789abcdef1", BOOT, 2),
                in_a_minute,
                "",
                Some(Refusal::WrongInstance),
            ),
            (
                document("alice", "i-0123456789abcdef0", &BOOT.replace('0', "1"), 2),
                in_a_minute,
                "",
                Some(Refusal::WrongBoot),
            ),
            (document("root", "i-0123456789abcdef0", BOOT, 2), in_a_minute, "", Some(Refusal::Vetoed)),
            (document("toor", "i-0123456789abcdef0", BOOT, 2), in_a_minute, "", Some(Refusal::Vetoed)),
            (good, in_a_minute, "deny_users = [\"alice\"]", Some(Refusal::Vetoed)),
        ];
        for (document, deadline, host_toml, refusal) in rows {
            assert_eq!(judge(&document, deadline, host_toml).err(), refusal, "{document:?} {host_toml}");
        }
    }

    #[test]
    fn without_a_statement_that_an_anchor_vouches_for_nobody_is_trusted() {
        let document = document("alice", "i-0123456789abcdef0", BOOT, 5);
        let anchors = Anchors::parse("").unwrap();
        let terms = MachineTerms {
            anchors: &anchors,
            veto: &HostVeto::default(),
            instance: &"i-0123456789abcdef0".parse().unwrap(),
            boot: &BOOT.parse().unwrap(),
        };
        for statements in [VecDeque::new(), VecDeque::from([statement(9, 5, DAY)])] {
            let deadline = Ok(NOW.boot.after(Duration::from_secs(1)));
            let judged =
                admit(&document, deadline, &statements, &mut Signers::default(), &terms, |_| None, NOW);
            assert_eq!(judged, Err(Refusal::SignerUntrusted));
        }
    }

    #[test]
    fn the_host_shortens_a_grant() {
        let good = document("alice", "i-0123456789abcdef0", BOOT, 2);
        let deadline = NOW.boot.after(Duration::from_secs(60));
        let (_, shortened) = judge(&good, Ok(deadline), "max_lifetime_seconds = 5").unwrap();
        assert_eq!(shortened, NOW.boot.after(Duration::from_secs(5)));
        let (_, whole) = judge(&good, Ok(deadline), "").unwrap();
        assert_eq!(whole, deadline);
    }

    #[test]
    fn withdrawals_are_remembered_for_two_minutes_and_never_forgotten_early() {
        let mut withdrawals = Withdrawals::default();
        let request =
            |number: u32| format!("{number:08x}-6a0e-4c11-9d0b-1c5a6f0e9a11").parse::<RequestId>().unwrap();
        let at = |seconds: u64| BootInstant(seconds * 1_000_000_000);
        withdrawals.remember(request(0), at(0));
        withdrawals.remember(request(0), at(1));
        assert_eq!(withdrawals.permits(&request(0), at(120)), Err(Refusal::Withdrawn));
        assert_eq!(withdrawals.permits(&request(1), at(120)), Ok(()));
        assert_eq!(withdrawals.permits(&request(0), at(121)), Ok(()));
        for number in 0..1024 {
            withdrawals.remember(request(number), at(200));
        }
        assert_eq!(withdrawals.permits(&request(5000), at(200)), Ok(()));
        withdrawals.remember(request(5000), at(201));
        withdrawals.remember(request(5001), at(202));
        assert_eq!(withdrawals.permits(&request(0), at(202)), Err(Refusal::Withdrawn));
        assert_eq!(withdrawals.permits(&request(5001), at(202)), Err(Refusal::Busy));
        assert_eq!(withdrawals.permits(&request(5001), at(320)), Err(Refusal::Busy));
    }

    #[test]
    fn other_anchors_are_asked_anew() {
        let region: Region = "us-east-1".parse().unwrap();
        let anchors = |seed: u8| Anchors::parse(&Anchors::line(&region, &key(seed).verifying_key())).unwrap();
        let mut signers = Signers::default();
        let good = statement(1, 2, DAY);
        assert!(signers.vouched(&anchors(1), &good).is_ok());
        assert!(signers.vouched(&anchors(1), &good).is_ok());
        assert_eq!(signers.vouched(&anchors(9), &good), Err(document::Refusal::UnknownSigner));
        assert!(signers.vouched(&anchors(1), &good).is_ok());
        for signer in 10..30 {
            assert!(signers.vouched(&anchors(1), &statement(1, signer, DAY)).is_ok());
        }
        assert_eq!(signers.checked.len(), limits::STATEMENTS_KEPT);
    }
}
