//! What the sshd command tells the agent when it has given sshd a key: one datagram, of which nobody waits for an
//! answer. It is what joins a login to the pushes that allowed it.
//!
//! ```text
//! KeyOffered v1
//! User=<OS user>
//! Fingerprint=SHA256:<base64>
//! Request=<uuid>            one for each grant of the key, in the order of the hand-over file
//! At=<CLOCK_BOOTTIME in nanoseconds>
//! ```
//! It is a claim: whoever may write to the agent's socket can make one. It adds to the record and opens nothing.

use crate::handover::SECTIONS_PER_FILE;
use crate::time::BootInstant;
use crate::{Fingerprint, OsUser, RequestId, datagram, decimal};
use instance_connect_planted::parser_entered;
use std::fmt;
use std::fmt::Write as _;

/// Where the agent listens, in the run directory: a datagram socket.
pub const OFFERS_SOCKET: &str = "offers.sock";

/// Largest datagram, in bytes.
pub const OFFER_LIMIT: usize = 1024;

const FIRST_LINE: &str = "KeyOffered v1";

/// A key was given to sshd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whose account it may open.
    pub user: OsUser,
    /// The key.
    pub fingerprint: Fingerprint,
    /// The pushes that allow it, 1 to [`SECTIONS_PER_FILE`] of them.
    pub requests: Vec<RequestId>,
    /// When, on the machine's boot clock.
    pub at: BootInstant,
}

/// The datagram is not an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferError;

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an offer is five or more lines: KeyOffered v1, User, Fingerprint, Request, At")
    }
}

impl std::error::Error for OfferError {}

impl Offer {
    /// The datagram.
    pub fn encode(&self) -> String {
        let Self { user, fingerprint, requests, at } = self;
        let mut text = format!("{FIRST_LINE}\nUser={user}\nFingerprint={fingerprint}\n");
        for request in requests.iter().take(SECTIONS_PER_FILE) {
            let _ = writeln!(text, "Request={request}");
        }
        let _ = writeln!(text, "At={}", at.0);
        text
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// Anything that [`Self::encode`] would not have written.
    pub fn parse(datagram: &[u8]) -> Result<Self, OfferError> {
        parser_entered(datagram);
        let mut lines = datagram::lines(datagram, OFFER_LIMIT).ok_or(OfferError)?.peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(OfferError);
        }
        let user = field(lines.next(), "User=")?.parse().map_err(|_| OfferError)?;
        let fingerprint = field(lines.next(), "Fingerprint=")?.parse().map_err(|_| OfferError)?;
        let mut requests = Vec::new();
        while let Some(request) = lines.next_if(|line| line.starts_with("Request=")) {
            requests.push(field(Some(request), "Request=")?.parse().map_err(|_| OfferError)?);
        }
        let at = decimal::parse(field(lines.next(), "At=")?).map(BootInstant).ok_or(OfferError)?;
        if lines.next().is_some() || !(1..=SECTIONS_PER_FILE).contains(&requests.len()) {
            return Err(OfferError);
        }
        Ok(Self { user, fingerprint, requests, at })
    }
}

fn field<'a>(line: Option<&'a str>, name: &str) -> Result<&'a str, OfferError> {
    line.and_then(|line| line.strip_prefix(name)).ok_or(OfferError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(requests: usize) -> Offer {
        let request = |n| format!("0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a1{n}").parse().unwrap();
        Offer {
            user: "alice".parse().unwrap(),
            fingerprint: Fingerprint::from_bytes([7; 32]),
            requests: (0..requests).map(request).collect(),
            at: BootInstant(1_234_567_890),
        }
    }

    #[test]
    fn the_datagram_is_this() {
        let expected = "KeyOffered v1\nUser=alice\n\
            Fingerprint=SHA256:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n\
            Request=0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a10\nRequest=0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11\n\
            At=1234567890\n";
        assert_eq!(offer(2).encode(), expected);
        for requests in 1..=SECTIONS_PER_FILE {
            let datagram = offer(requests).encode();
            assert!(datagram.len() <= OFFER_LIMIT);
            assert_eq!(Offer::parse(datagram.as_bytes()), Ok(offer(requests)));
        }
    }

    #[test]
    fn other_datagrams_are_refused() {
        let good = offer(1).encode();
        let nine =
            good.replace("At=", &"Request=0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a10\n".repeat(8)) + "At=1\n";
        for text in [
            "",
            "\n",
            "KeyOffered v1",
            good.trim_end(),
            &good.replace("v1", "v2"),
            &good.replace("User=alice\n", ""),
            &good.replace("alice", "al ice"),
            &good.replace("SHA256:", ""),
            &good.replace("Request=", "request="),
            &good.replace("At=", "At=0"),
            &good.replace('\n', "\r\n"),
            &format!("{good}\n"),
            &format!("{good}At=1\n"),
            &offer(0).encode(),
            &nine,
            &"x".repeat(OFFER_LIMIT + 1),
        ] {
            assert_eq!(Offer::parse(text.as_bytes()), Err(OfferError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn offer_parser_never_panics(datagram: Vec<u8>) {
            let _ = Offer::parse(&datagram);
        }

        #[test]
        fn one_datagram_for_each_offer(position in 0usize..180, byte: u8) {
            let mut datagram = offer(1).encode().into_bytes();
            if let Some(slot) = datagram.get_mut(position) {
                *slot = byte;
            }
            if let Ok(offer) = Offer::parse(&datagram) {
                prop_assert_eq!(offer.encode().into_bytes(), datagram);
            }
        }
    }
}
