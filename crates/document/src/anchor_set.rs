//! Anchors that roll over: a whole anchors file, signed by an anchor that the machine trusts already.
//!
//! It is an anchors file as it is: what is not an anchor stands in comments, so whoever reads anchors need not know of it.
//!
//! ```text
//! # Instance Connect anchor set 2
//! us-east-1 ed25519 <public key>
//! us-east-1 ed25519 <public key>
//! # signed <signature of a domain line and everything above>
//! ```

use crate::signing::{SigningKey, VerifyingKey};
use crate::statement::Anchors;
use crate::{Region, base64_decode, base64_encode, decimal};
use instance_connect_planted::{parser_entered, planted};
use std::fmt;
use std::str::FromStr;

/// Longest anchor set in bytes: 16 anchors and both comments fit twice.
pub const ANCHOR_SET_LIMIT: usize = 4096;

/// First line of what an anchor signs: neither a document nor a signer statement begins like this.
const DOMAIN: &str = "instance-connect anchor set v1\n";

const FIRST_LINE: &str = "# Instance Connect anchor set ";
const LAST_LINE: &str = "# signed ";

/// An anchors file that an anchor has signed. Parsing does not check the signature; [`AnchorSet::replaces`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorSet {
    number: u32,
    text: String,
    anchors: Anchors,
    /// Where the last line begins: what is above it is signed.
    signed: usize,
    signature: Vec<u8>,
}

/// The text is not an anchor set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorSetError;

/// Why a machine keeps the anchors that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorSetRefusal {
    /// What it has is as new, or newer: an old set must not bring an old anchor back.
    NotNewer,
    /// No anchor that it has signed the set, or not for all that is in it: an anchor speaks for its own region.
    Untrusted,
}

impl AnchorSet {
    /// The set that `by` signs. Numbers go up with each set of a region. Issued again it is the same, byte for byte.
    pub fn issue(by: &SigningKey, number: u32, region: &Region, anchors: &[VerifyingKey]) -> String {
        let lines: String =
            anchors.iter().map(|anchor| format!("{}\n", Anchors::line(region, anchor))).collect();
        let signed = format!("{FIRST_LINE}{number}\n{lines}");
        let signature = base64_encode(&by.sign(format!("{DOMAIN}{signed}").as_bytes()));
        format!("{signed}{LAST_LINE}{signature}\n")
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The anchors file.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a machine with these anchors takes this set in their place.
    ///
    /// # Errors
    /// Why it does not.
    pub fn replaces(&self, current: &Anchors) -> Result<(), AnchorSetRefusal> {
        if self.number <= current.set() {
            return Err(AnchorSetRefusal::NotNewer);
        }
        let (signed, _) = self.text.split_at(self.signed);
        let message = format!("{DOMAIN}{signed}");
        let vouches = |(region, anchor): &(Region, VerifyingKey)| {
            let of_region = |(of, _): &(Region, VerifyingKey)| of == region;
            let speaks_for_all = self.anchors.each().iter().chain(current.each()).all(of_region);
            speaks_for_all && anchor.verifies(message.as_bytes(), &self.signature)
        };
        if current.each().iter().any(vouches) || planted("anchors-unsigned") {
            Ok(())
        } else {
            Err(AnchorSetRefusal::Untrusted)
        }
    }
}

/// The number in the first line of an anchors file; 0 for one that is no set.
pub(crate) fn number_of(file: &str) -> u32 {
    let first = file.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
    first.and_then(decimal::parse).unwrap_or(0)
}

impl FromStr for AnchorSet {
    type Err = AnchorSetError;

    fn from_str(text: &str) -> Result<Self, AnchorSetError> {
        parser_entered(text.as_bytes());
        if text.len() > ANCHOR_SET_LIMIT {
            return Err(AnchorSetError);
        }
        let lines = text.strip_suffix('\n').ok_or(AnchorSetError)?;
        let (above, last) = lines.rsplit_once('\n').ok_or(AnchorSetError)?;
        let signature = last.strip_prefix(LAST_LINE).and_then(base64_decode).ok_or(AnchorSetError)?;
        let anchors = Anchors::parse(text).map_err(|_| AnchorSetError)?;
        let number = anchors.set();
        if number == 0 || anchors.each().is_empty() {
            return Err(AnchorSetError);
        }
        Ok(Self { number, text: text.to_owned(), anchors, signed: above.len() + 1, signature })
    }
}

impl fmt::Display for AnchorSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an anchor set is an anchors file with its number in the first line and a signature in the last",
        )
    }
}

impl std::error::Error for AnchorSetError {}

impl fmt::Display for AnchorSetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNewer => "the anchors of this machine are as new, or newer",
            Self::Untrusted => "no anchor of this machine has signed it, for its own region alone",
        })
    }
}

impl std::error::Error for AnchorSetRefusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn set(by: u8, number: u32, anchors: &[u8]) -> String {
        let anchors: Vec<_> = anchors.iter().map(|seed| key(*seed).verifying_key()).collect();
        AnchorSet::issue(&key(by), number, &"us-east-1".parse().unwrap(), &anchors)
    }

    fn takes(current: &str, next: &str) -> Result<(), AnchorSetRefusal> {
        next.parse::<AnchorSet>().unwrap().replaces(&Anchors::parse(current).unwrap())
    }

    /// Catches the planted `anchors-unsigned`.
    #[test]
    fn a_machine_follows_a_roll_over_and_nothing_else() {
        use AnchorSetRefusal::{NotNewer, Untrusted};
        let plain = Anchors::line(&"us-east-1".parse().unwrap(), &key(1).verifying_key());
        let (first, both, second) = (set(1, 1, &[1]), set(1, 2, &[1, 2]), set(2, 3, &[2]));
        let elsewhere = Anchors::line(&"us-east-2".parse().unwrap(), &key(1).verifying_key());
        let rows = [
            (&plain, &first, Ok(())),
            (&plain, &both, Ok(())),
            (&first, &both, Ok(())),
            (&both, &second, Ok(())),
            // It was away for all of the overlap.
            (&first, &second, Err(Untrusted)),
            // Played again: the anchor that was given up does not come back.
            (&second, &both, Err(NotNewer)),
            (&second, &set(1, 9, &[1, 2]), Err(Untrusted)),
            (&both, &both, Err(NotNewer)),
            (&first, &set(9, 2, &[9]), Err(Untrusted)),
            // An anchor of one region says nothing of another.
            (&elsewhere, &both, Err(Untrusted)),
            (&format!("{plain}\n{elsewhere}"), &both, Err(Untrusted)),
            (&String::new(), &both, Err(Untrusted)),
        ];
        for (current, next, expected) in rows {
            assert_eq!(takes(current, next), expected, "{current} {next}");
        }
    }

    #[test]
    fn a_set_is_taken_as_it_was_signed_only() {
        let (current, good) = (set(1, 1, &[1]), set(1, 2, &[1, 2]));
        assert!(takes(&current, &good).is_ok());
        for (from, to) in [("set 2", "set 3"), ("# signed", "us-east-1 ed25519 AAAA\n# signed")] {
            let altered = good.replacen(from, to, 1);
            let refused =
                altered.parse::<AnchorSet>().ok().map(|set| set.replaces(&Anchors::parse(&current).unwrap()));
            assert_ne!(refused, Some(Ok(())), "{altered}");
        }
        let more = Anchors::line(&"us-east-1".parse().unwrap(), &key(7).verifying_key());
        assert_eq!(
            takes(&current, &good.replacen("# signed", &format!("{more}\n# signed"), 1)),
            Err(AnchorSetRefusal::Untrusted)
        );
        for text in
            ["", "\n", "# signed \n", &good[1..], good.trim_end(), &format!("{good}\n"), &set(1, 2, &[])]
        {
            assert_eq!(text.parse::<AnchorSet>(), Err(AnchorSetError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn anchor_set_parser_never_panics(text in "(# Instance Connect anchor set [0-9]{0,3}\n)?(.{0,40}\n){0,3}(# signed .{0,9}\n)?") {
            let _ = text.parse::<AnchorSet>();
        }
    }
}
