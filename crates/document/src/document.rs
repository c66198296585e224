//! The grant document: encode, sign and verify, in one file so that they cannot drift apart.
//!
//! The grammar is that of wire.md 3.5: `#Name=Value` lines, the key line, the signature in base64 on one line, a blank
//! line. Signed is every `#` line and the key line, each with its one line feed. `#User`, `#Boot` and `#Alg` are ours;
//! the stock host scripts ignore them, but they are under the signature.

use crate::deadline::{self, DeadlineRefusal};
use crate::handover::Section;
use crate::key_line::{KeyLine, KeyLineError};
use crate::signing::SigningKey;
use crate::statement::{Anchors, VouchedSigner};
use crate::time::{BootInstant, UnixSeconds};
use crate::{BootId, Fingerprint, InstanceId, OsUser, RequestId, base64_decode, base64_encode, decimal};
use instance_connect_planted::{parser_entered, planted};
use std::fmt;
use std::time::Duration;

/// Largest document, in bytes: the longest key of the API (4,096), the longest ARN (2,048), and the rest.
pub const DOCUMENT_LIMIT: usize = 7 * 1024;

/// The one value of `#Alg` that this crate signs and verifies.
const ALGORITHM: &str = "ed25519";

/// How far past its expiry the wall clock may show a document to be. The deadline is what ends a grant; this only
/// keeps an agent that lies about deadlines from bringing old documents back for long, and must let a machine through
/// whose wall clock is wrong by hours.
const WALL_CLOCK_GRACE_SECONDS: i64 = 24 * 60 * 60;

/// The terms of a grant, as the control plane signs them for one boot of one machine.
#[derive(Clone, Copy, Debug)]
pub struct DocumentTerms<'a> {
    /// When it expires by the wall clock, for the stock host scripts.
    pub expires_at: UnixSeconds,
    /// The instance the key was pushed to.
    pub instance: &'a InstanceId,
    /// The ARN of the principal who pushed it, in printable ASCII.
    pub caller: &'a str,
    /// The request that pushed it.
    pub request: &'a RequestId,
    /// The OS user it was pushed for.
    pub user: &'a OsUser,
    /// The boot the machine was in when it was pushed.
    pub boot: &'a BootId,
    /// The key as `type base64`, without a comment.
    pub key_line: &'a str,
}

/// Why terms cannot be written as a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The expiry is not after the epoch.
    Expiry,
    /// The caller is empty, or not printable ASCII on one line.
    Caller,
    /// The key line is not one.
    KeyLine(KeyLineError),
    /// The document would be longer than [`DOCUMENT_LIMIT`].
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expiry => f.write_str("the expiry is not after 1970"),
            Self::Caller => f.write_str("the caller is not printable ASCII on one line"),
            Self::KeyLine(reason) => reason.fmt(f),
            Self::TooLong => f.write_str("the document is longer than 7 KiB"),
        }
    }
}

impl std::error::Error for EncodeError {}

impl DocumentTerms<'_> {
    /// The document of these terms, signed. Equal terms and signer give equal bytes.
    ///
    /// # Errors
    /// See [`EncodeError`]: what is not printable ASCII never gets into a document.
    pub fn sign(&self, signer: &SigningKey) -> Result<String, EncodeError> {
        let mut text = self.signed_text()?;
        let signature = signer.sign(text.as_bytes());
        text.push_str(&base64_encode(&signature));
        text.push_str("\n\n");
        if text.len() > DOCUMENT_LIMIT { Err(EncodeError::TooLong) } else { Ok(text) }
    }

    fn signed_text(&self) -> Result<String, EncodeError> {
        let Self { expires_at, instance, caller, request, user, boot, key_line } = self;
        if expires_at.0 <= 0 {
            return Err(EncodeError::Expiry);
        }
        if caller.is_empty() || !caller.bytes().all(is_printable) {
            return Err(EncodeError::Caller);
        }
        let key_line = KeyLine::parse(key_line).map_err(EncodeError::KeyLine)?.as_str();
        Ok(format!(
            "#Timestamp={}\n#Instance={instance}\n#Caller={caller}\n#Request={request}\n\
             #User={user}\n#Boot={boot}\n#Alg={ALGORITHM}\n{key_line}\n",
            expires_at.0,
        ))
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// What a machine expects of a document for it to open an account.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The anchors it trusts.
    pub anchors: &'a Anchors,
    /// Its own instance id.
    pub instance: &'a InstanceId,
    /// The OS user who is logging in.
    pub user: &'a OsUser,
    /// The boot it is in.
    pub boot: &'a BootId,
    /// The key that was offered, where that is known.
    pub fingerprint: Option<Fingerprint>,
    /// The longest that this machine lets a key live. More than a minute counts as a minute.
    pub longest_lifetime: Duration,
}

/// The time on a machine, read together.
#[derive(Clone, Copy, Debug)]
pub struct MachineTime {
    /// Its boot clock, which decides.
    pub boot: BootInstant,
    /// Its wall clock, which may be wrong.
    pub wall: UnixSeconds,
}

/// What a document that passed every check says. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    key_line: KeyLine<'a>,
    caller: &'a str,
    request: RequestId,
}

impl<'a> Accepted<'a> {
    /// The key line, without a line feed.
    pub fn key_line(&self) -> &'a str {
        self.key_line.as_str()
    }

    /// The fingerprint of the key in it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.key_line.fingerprint()
    }

    /// The ARN of the principal who pushed it: printable ASCII.
    pub fn caller(&self) -> &'a str {
        self.caller
    }

    /// The request that pushed it.
    pub fn request(&self) -> &RequestId {
        &self.request
    }
}

/// Why a document opens nothing, in the order in which [`verify`] checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The signer statement is not one.
    Statement,
    /// No anchor of the statement's region on this machine signed it.
    UnknownSigner,
    /// The last day of the statement is over.
    SignerLapsed,
    /// The document does not follow the grammar; how is said here.
    Malformed(&'static str),
    /// The signer did not sign this document.
    Signature,
    /// It is for another OS user.
    OtherUser,
    /// It is for another instance.
    OtherInstance,
    /// It is from before this boot.
    OtherBoot,
    /// Its key line is not one.
    KeyLine(KeyLineError),
    /// It is for another key than was offered.
    OtherKey,
    /// Its deadline has come, or is too far ahead.
    Deadline(DeadlineRefusal),
    /// By the wall clock it expired more than a day ago.
    LongPast,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement => f.write_str("its signer statement is malformed"),
            Self::UnknownSigner => f.write_str("its signer is not vouched for by an anchor of this machine"),
            Self::SignerLapsed => f.write_str("the last day of its signer is over"),
            Self::Malformed(how) => write!(f, "its document is malformed: {how}"),
            Self::Signature => f.write_str("its signature is not its signer's"),
            Self::OtherUser => f.write_str("it is for another user"),
            Self::OtherInstance => f.write_str("it is for another instance"),
            Self::OtherBoot => f.write_str("it is from before this boot"),
            Self::KeyLine(reason) => write!(f, "its key is malformed: {reason}"),
            Self::OtherKey => f.write_str("it is for another key"),
            Self::Deadline(reason) => reason.fmt(f),
            Self::LongPast => f.write_str("it expired more than a day ago"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Checks one section of a hand-over file in full, and says what it grants. The recipe of a login.
///
/// # Errors
/// The first check that fails, in the order of [`Refusal`].
pub fn verify<'a>(
    section: &Section<'a>,
    expected: &Expected<'_>,
    now: MachineTime,
) -> Result<Accepted<'a>, Refusal> {
    let signer = expected.anchors.vouch_for(section.statement)?;
    verify_by(&signer, section, expected, now)
}

/// The same, where the section's statement has been checked before.
///
/// # Errors
/// As for [`verify`], but for what [`Anchors::vouch_for`] has checked.
pub fn verify_by<'a>(
    signer: &VouchedSigner,
    section: &Section<'a>,
    expected: &Expected<'_>,
    now: MachineTime,
) -> Result<Accepted<'a>, Refusal> {
    // Who signs: a signer that an anchor of this machine vouches for, today.
    if now.wall.day() > signer.not_after {
        return Err(Refusal::SignerLapsed);
    }
    // What is signed. Nothing in it is looked at before the signature is known to be good.
    let parts = split(section.document)?;
    if !signer.signer.verifies(parts.signed.as_bytes(), &parts.signature) {
        return Err(Refusal::Signature);
    }
    let headers = Headers::parse(parts.headers)?;
    // Whom it is for.
    if headers.user != *expected.user && !planted("user-ignored") {
        return Err(Refusal::OtherUser);
    }
    if headers.instance != *expected.instance {
        return Err(Refusal::OtherInstance);
    }
    if headers.boot != *expected.boot && !planted("reboot-ignored") {
        return Err(Refusal::OtherBoot);
    }
    let key_line = KeyLine::parse(parts.key_line).map_err(Refusal::KeyLine)?;
    if expected.fingerprint.is_some_and(|offered| offered != key_line.fingerprint()) {
        return Err(Refusal::OtherKey);
    }
    // How long.
    deadline::check(section.deadline, now.boot, expected.longest_lifetime).map_err(Refusal::Deadline)?;
    if now.wall.0.saturating_sub(headers.expires_at.0) > WALL_CLOCK_GRACE_SECONDS {
        return Err(Refusal::LongPast);
    }
    Ok(Accepted { key_line, caller: headers.caller, request: headers.request })
}

/// The request that pushed a document, read without any check of its signature: for keeping files, never for access.
pub(crate) fn claimed_request(document: &str) -> Option<RequestId> {
    let parts = split(document).ok()?;
    Headers::parse(parts.headers).ok().map(|headers| headers.request)
}

/// What a document says of itself, read without any check of its signature: for the record, never for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedGrant {
    /// The request that pushed it.
    pub request: RequestId,
    /// For which instance.
    pub instance: InstanceId,
    /// For whom.
    pub user: OsUser,
    /// The key.
    pub fingerprint: Fingerprint,
}

impl ClaimedGrant {
    /// Reads it; `None` where it is no document.
    pub fn of(document: &str) -> Option<Self> {
        let parts = split(document).ok()?;
        let headers = Headers::parse(parts.headers).ok()?;
        let key = KeyLine::parse(parts.key_line).ok()?;
        let Headers { request, instance, user, .. } = headers;
        Some(Self { request, instance, user, fingerprint: key.fingerprint() })
    }
}

/// A document taken apart by its line feeds alone.
pub(crate) struct Parts<'a> {
    /// The `#` lines, each with its line feed.
    pub(crate) headers: &'a str,
    /// The key line, without its line feed.
    pub(crate) key_line: &'a str,
    /// What the signature is over: both of these, as they stand.
    pub(crate) signed: &'a str,
    signature: Vec<u8>,
}

pub(crate) fn split(document: &str) -> Result<Parts<'_>, Refusal> {
    parser_entered(document.as_bytes());
    if document.len() > DOCUMENT_LIMIT {
        return Err(Refusal::Malformed("longer than 7 KiB"));
    }
    if !document.bytes().all(|b| b == b'\n' || is_printable(b)) {
        return Err(Refusal::Malformed("something other than printable ASCII and line feeds"));
    }
    let header_lines = document.split_inclusive('\n').take_while(|line| line.starts_with('#'));
    let (headers, rest) = document.split_at(header_lines.map(str::len).sum());
    let (key_line, tail) = rest.split_once('\n').ok_or(Refusal::Malformed("no key line"))?;
    let (signed, _) = document.split_at(headers.len() + key_line.len() + 1);
    // One unwrapped line and one blank line, and then nothing: what follows would be read by nobody.
    let signature =
        tail.strip_suffix("\n\n").ok_or(Refusal::Malformed("no blank line after the signature"))?;
    let signature =
        base64_decode(signature).ok_or(Refusal::Malformed("the signature is not one line of base64"))?;
    Ok(Parts { headers, key_line, signed, signature })
}

/// The values of the headers that this version knows.
pub(crate) struct Headers<'a> {
    expires_at: UnixSeconds,
    instance: InstanceId,
    caller: &'a str,
    request: RequestId,
    user: OsUser,
    boot: BootId,
}

impl<'a> Headers<'a> {
    /// Reads header lines: each known name once, in any order, and any number of unknown ones.
    pub(crate) fn parse(lines: &'a str) -> Result<Self, Refusal> {
        const NAMES: [&str; 7] = ["Timestamp", "Instance", "Caller", "Request", "User", "Boot", "Alg"];
        let mut values = [None; NAMES.len()];
        for line in lines.lines() {
            let (name, value) = line
                .strip_prefix('#')
                .and_then(|header| header.split_once('='))
                .filter(|(name, value)| is_header_name(name) && !value.is_empty())
                .ok_or(Refusal::Malformed("a header is not #Name=Value"))?;
            let slot = values.iter_mut().zip(NAMES).find(|(_, known)| *known == name);
            if slot.is_some_and(|(slot, _)| slot.replace(value).is_some()) {
                return Err(Refusal::Malformed("a header is given twice"));
            }
        }
        let [expires_at, instance, caller, request, user, boot, algorithm] = values;
        if required(algorithm)? != ALGORITHM {
            return Err(Refusal::Malformed("#Alg is not ed25519"));
        }
        let malformed = |_| Refusal::Malformed("a header's value is not of its kind");
        Ok(Self {
            expires_at: decimal::parse(required(expires_at)?)
                .map(UnixSeconds)
                .ok_or(Refusal::Malformed("#Timestamp is not a number"))?,
            instance: required(instance)?.parse().map_err(malformed)?,
            caller: required(caller)?,
            request: required(request)?.parse().map_err(malformed)?,
            user: required(user)?.parse().map_err(malformed)?,
            boot: required(boot)?.parse().map_err(malformed)?,
        })
    }
}

fn required(value: Option<&str>) -> Result<&str, Refusal> {
    value.ok_or(Refusal::Malformed("a header is missing"))
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
