//! Who may sign documents: anchors, which a machine holds, vouch for signers, which come and go.
//!
//! A signer statement is one line, `ed25519 <signer's public key> <region> <last day> <signature>`, with one blank
//! between fields. The signature is that of an anchor of the region over a line naming what is signed, then the four
//! fields before it. This stands in for X.509: the sshd command checks two signatures and parses no certificate.

use crate::anchor_set::number_of;
use crate::signing::{SigningKey, VerifyingKey};
use crate::time::UnixDay;
use crate::{Refusal, Region, base64_decode, base64_encode, decimal};
use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_planted::parser_entered;
use std::fmt;
use std::str::FromStr;

/// First line of what an anchor signs. A document begins with `#`, so neither can be taken for the other.
const DOMAIN: &str = "instance-connect signer statement v1\n";

/// The only algorithm of anchors and signers, as statements and anchor files name it.
const ALGORITHM: &str = "ed25519";

/// Most anchors in one file: each may cost a signature check at a login. A region in the middle of a roll-over has two.
pub const ANCHORS_LIMIT: usize = 16;

/// An anchor's word that a key signs documents in a region up to and including a day.
///
/// Parsing does not check the signature; [`verify`](crate::verify) does, against the machine's [`Anchors`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerStatement {
    signer: VerifyingKey,
    region: Region,
    not_after: UnixDay,
    signature: [u8; 64],
}

impl SignerStatement {
    /// The statement of `anchor` that `signer` signs documents of `region` up to the end (UTC) of the day `not_after`.
    pub fn issue(anchor: &SigningKey, signer: VerifyingKey, region: &Region, not_after: UnixDay) -> Self {
        let signature = anchor.sign(signed_text(&signer, region, not_after).as_bytes());
        Self { signer, region: region.clone(), not_after, signature }
    }
}

fn signed_text(signer: &VerifyingKey, region: &Region, not_after: UnixDay) -> String {
    format!("{DOMAIN}{ALGORITHM} {signer} {region} {}\n", not_after.0)
}

impl fmt::Display for SignerStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signer, region, not_after, signature } = self;
        write!(f, "{ALGORITHM} {signer} {region} {} {}", not_after.0, base64_encode(signature))
    }
}

/// The line is not a signer statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementError;

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a signer statement is: ed25519, public key, region, last day, signature")
    }
}

impl std::error::Error for StatementError {}

impl FromStr for SignerStatement {
    type Err = StatementError;

    fn from_str(line: &str) -> Result<Self, StatementError> {
        parser_entered(line.as_bytes());
        let mut fields = line.split(' ');
        let mut field = || fields.next().ok_or(StatementError);
        if field()? != ALGORITHM {
            return Err(StatementError);
        }
        let signer = field()?.parse().map_err(|_| StatementError)?;
        let region = field()?.parse().map_err(|_| StatementError)?;
        let not_after = UnixDay(decimal::parse(field()?).ok_or(StatementError)?);
        let signature =
            base64_decode(field()?).and_then(|bytes| bytes.try_into().ok()).ok_or(StatementError)?;
        if fields.next().is_some() {
            return Err(StatementError);
        }
        Ok(Self { signer, region, not_after, signature })
    }
}

/// The anchors a machine trusts, each for one region. Several for a region are how anchors roll over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    /// Which set of its region the file is; 0 when it is none.
    set: u32,
    /// Of the whole file.
    sha256: [u8; 32],
    each: Vec<(Region, VerifyingKey)>,
}

/// A signer that an anchor of this machine vouches for. Only [`Anchors::vouch_for`] makes one. Whoever verifies many
/// documents keeps it for as long as the anchors are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VouchedSigner {
    pub(crate) signer: VerifyingKey,
    pub(crate) not_after: UnixDay,
}

/// Why an anchors file is refused, with the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorsError {
    line: usize,
    reason: &'static str,
}

impl fmt::Display for AnchorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for AnchorsError {}

impl Anchors {
    /// Reads an anchors file: `<region> ed25519 <base64 of 32 bytes> [comment]` on each line; lines that are blank or
    /// begin with `#` are skipped. A file without anchors is one that trusts nobody.
    ///
    /// # Errors
    /// Any line that is not an anchor, an anchor given twice, or more than [`ANCHORS_LIMIT`]: a machine that trusts
    /// other anchors than its administrator believes is refused as a whole.
    pub fn parse(text: &str) -> Result<Self, AnchorsError> {
        parser_entered(text.as_bytes());
        let mut anchors = Vec::new();
        for (position, line) in text.lines().enumerate() {
            if line.trim_ascii().is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |reason| AnchorsError { line: position + 1, reason };
            let anchor = parse_anchor(line).map_err(refused)?;
            if anchors.contains(&anchor) {
                return Err(refused("this anchor is given twice"));
            }
            if anchors.len() == ANCHORS_LIMIT {
                return Err(refused("more than 16 anchors"));
            }
            anchors.push(anchor);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Ok(Self { set: number_of(text), sha256, each: anchors })
    }

    /// The line of an anchors file for one anchor, without a line feed.
    pub fn line(region: &Region, anchor: &VerifyingKey) -> String {
        format!("{region} {ALGORITHM} {anchor}")
    }

    /// Which [`AnchorSet`](crate::AnchorSet) the file is; 0 when it is none.
    pub const fn set(&self) -> u32 {
        self.set
    }

    /// SHA-256 of the file: what tells a set from another one with its number.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(crate) fn each(&self) -> &[(Region, VerifyingKey)] {
        &self.each
    }

    /// Checks a statement: one of its region's anchors signed it. Whether its last day is over is for
    /// [`verify_by`](crate::verify_by) to say each time.
    ///
    /// # Errors
    /// [`Refusal::Statement`] or [`Refusal::UnknownSigner`].
    pub fn vouch_for(&self, statement: &str) -> Result<VouchedSigner, Refusal> {
        let statement: SignerStatement = statement.parse().map_err(|_| Refusal::Statement)?;
        let SignerStatement { signer, region, not_after, signature } = &statement;
        let signed = signed_text(signer, region, *not_after);
        let vouches = |anchor: &VerifyingKey| anchor.verifies(signed.as_bytes(), signature);
        if self.each.iter().any(|(of, anchor)| of == region && vouches(anchor)) {
            Ok(VouchedSigner { signer: *signer, not_after: *not_after })
        } else {
            Err(Refusal::UnknownSigner)
        }
    }
}

fn parse_anchor(line: &str) -> Result<(Region, VerifyingKey), &'static str> {
    let mut fields = line.split_ascii_whitespace();
    let mut field = || fields.next().ok_or("an anchor is: region, ed25519, base64 of its public key");
    let region = field()?.parse().map_err(|_| "the first field is not a region")?;
    if field()? != ALGORITHM {
        return Err("the second field is not ed25519");
    }
    let anchor = field()?.parse().map_err(|_| "the third field is not the base64 of 32 bytes")?;
    Ok((region, anchor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anchor() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }

    fn statement(region: &str) -> SignerStatement {
        let signer = SigningKey::from_seed(&[2; 32]).unwrap().verifying_key();
        SignerStatement::issue(&anchor(), signer, &region.parse().unwrap(), UnixDay(20_500))
    }

    #[test]
    fn statements_read_and_print() {
        let statement = statement("us-east-1");
        let line = statement.to_string();
        assert_eq!(line.parse::<SignerStatement>().unwrap(), statement);
        assert_eq!(statement.not_after, UnixDay(20_500));
        assert_eq!(statement.region.as_str(), "us-east-1");
        let respelled = [
            String::new(),
            format!("{line} "),
            format!(" {line}"),
            format!("{line}\n"),
            format!("{line} more"),
            line.replace(' ', "  "),
            line.replace("20500", "020500"),
            line.replace("20500", "+20500"),
            line.replace("20500", "99999999999"),
            line.replace("ed25519", "ed448"),
            line.replace("us-east-1", "US-EAST-1"),
            line.replace('=', ""),
            line.rsplit_once(' ').unwrap().0.to_owned(),
        ];
        for text in respelled {
            assert_eq!(text.parse::<SignerStatement>(), Err(StatementError), "{text:?}");
        }
    }

    #[test]
    fn an_anchor_vouches_in_its_own_region_only() {
        let line = |region: &str| Anchors::line(&region.parse().unwrap(), &anchor().verifying_key());
        let other = SigningKey::from_seed(&[3; 32]).unwrap().verifying_key();
        let other = Anchors::line(&"us-east-1".parse().unwrap(), &other);
        let statement = statement("us-east-1");
        let rows = [
            (line("us-east-1"), true),
            (format!("# ours\n\n{other}\n{} the next one\n", line("us-east-1")), true),
            (line("us-east-2"), false),
            (other, false),
            (String::new(), false),
        ];
        for (file, vouched) in rows {
            assert_eq!(vouches(&Anchors::parse(&file).unwrap(), &statement), vouched, "{file}");
        }
    }

    fn vouches(anchors: &Anchors, statement: &SignerStatement) -> bool {
        anchors.vouch_for(&statement.to_string()).is_ok()
    }

    #[test]
    fn a_statement_is_vouched_for_as_it_stands_only() {
        let region = "us-east-1".parse().unwrap();
        let anchors = Anchors::parse(&Anchors::line(&region, &anchor().verifying_key())).unwrap();
        let good = statement("us-east-1");
        let other_key = SigningKey::from_seed(&[9; 32]).unwrap().verifying_key();
        assert!(vouches(&anchors, &good));
        assert!(!vouches(&anchors, &SignerStatement { not_after: UnixDay(20_501), ..good.clone() }));
        assert!(!vouches(&anchors, &SignerStatement { signer: other_key, ..good.clone() }));
        // The same fields signed without the line that says what they are: something else that an anchor once signed.
        let bare = signed_text(&good.signer, &good.region, good.not_after).replace(DOMAIN, "");
        assert!(!vouches(&anchors, &SignerStatement { signature: anchor().sign(bare.as_bytes()), ..good }));
    }

    #[test]
    fn anchors_files_are_refused_with_the_line() {
        let good = Anchors::line(&"us-east-1".parse().unwrap(), &anchor().verifying_key());
        let many: String =
            (0..=16).map(|n| good.replace("us-east-1", &format!("us-east-{n}")) + "\n").collect();
        let rows = [
            (good.clone() + "\n" + &good, "line 2: this anchor is given twice"),
            ("\nus-east-1".to_owned(), "line 2: an anchor is: region, ed25519, base64 of its public key"),
            (good.replace("ed25519", "rsa"), "line 1: the second field is not ed25519"),
            (good.replace("us-east-1", "US"), "line 1: the first field is not a region"),
            (good.replace('=', ""), "line 1: the third field is not the base64 of 32 bytes"),
            (many, "line 17: more than 16 anchors"),
        ];
        for (file, expected) in rows {
            assert_eq!(Anchors::parse(&file).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn statement_parser_never_panics(text in ".{0,200}") {
            let _ = text.parse::<SignerStatement>();
        }

        #[test]
        fn anchors_parser_never_panics(text in "(.{0,80}\n){0,4}") {
            let _ = Anchors::parse(&text);
        }
    }
}
