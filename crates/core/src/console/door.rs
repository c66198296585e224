//! What the console's gateway and the control plane say to each other over a unix socket on their machine.
//!
//! Each connection of a person has one connection of the gateway, and one more says all the time that the gateway is there. Each
//! message is a line of JSON. The gateway asks and the control plane answers; once a session is attached, both send
//! [frames](crate::stream). The gateway holds no secret and decides nothing about who may: what it passes on here is all that the
//! control plane has to judge by.

use super::limits;
use super::{ConsoleAddress, Mode};
use crate::link::Line;
use instance_connect_planted::parser_entered;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Longest message with its line end, in bytes: an RSA key of 16,384 bits takes some 2,800.
pub const LINE: usize = 16 * 1024;

/// Offers on one connection: as many as the gateway takes of one client.
pub const OFFERS: usize = limits::OFFERED_KEYS;

/// Longest key, in bytes, as `type base64`.
pub const KEY: usize = 8 * 1024;

/// Longest text for a person, in bytes.
pub const TEXT: usize = 400;

/// One line for a person, of printable ASCII.
pub type Text = Line<TEXT>;

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The gateway is there, as long as this connection lasts.
    Serve(Serve),
    /// Somebody has offered a key: is it expected?
    Offer(Offer),
    /// Somebody has proved to hold a key that is, and is to be brought to the line.
    Attach(Attach),
}

/// A gateway, as people find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// Its version.
    pub version: String,
    /// Its public host keys, each as `type base64`.
    pub host_keys: Vec<String>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A key that somebody offers for the line of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The user name that was given.
    #[serde(with = "text")]
    pub address: ConsoleAddress,
    /// The key as `type base64`, printed by the gateway from what it has parsed.
    #[serde(with = "text")]
    pub key: Line<KEY>,
    /// Where the client is, canonical: an IPv4 address is never written as IPv6.
    pub source: IpAddr,
}

/// A person who has come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What was expected.
    #[serde(flatten)]
    pub offer: Offer,
    /// What the client calls itself, such as `SSH-2.0-OpenSSH_9.2`.
    #[serde(with = "text")]
    pub client: Text,
}

/// What the control plane says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Serve`].
    Serving {},
    /// To an [`Offer`]: whether this key for this line is expected, from there, now.
    Expected(bool),
    /// To [`Attach`]: frames follow in both directions.
    Attached(Attached),
    /// To [`Attach`], and the connection ends.
    Refused(Refused),
}

/// A session that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its id, for logs.
    #[serde(with = "text")]
    pub session: Line<64>,
    /// What it may do. The control plane sees to that too.
    #[serde(with = "ModeText")]
    pub mode: Mode,
    /// What the person is told first.
    #[serde(with = "text")]
    pub notice: Text,
}

/// A session that has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, as one sentence for the person.
    #[serde(with = "text")]
    pub reason: Text,
}

/// Why bytes are no message, or a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It has no end within [`LINE`].
    #[error("a message of more than {LINE} bytes")]
    TooLong,
    /// It says something else. Where, and not what: this goes into a log.
    #[error("a message that is not what it should be, at byte {0}")]
    Malformed(usize),
}

/// The bytes of a message.
///
/// # Errors
/// [`DoorError::TooLong`].
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, DoorError> {
    let mut line = serde_json::to_vec(message).map_err(|error| DoorError::Malformed(error.column()))?;
    line.push(b'\n');
    if line.len() > LINE { Err(DoorError::TooLong) } else { Ok(line) }
}

/// Messages out of bytes that come in any pieces. What follows the last message is kept for whoever reads frames.
#[derive(Debug, Default)]
pub struct MessageReader {
    bytes: Vec<u8>,
    /// How many of them hold no line end.
    searched: usize,
}

impl MessageReader {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next message, once it is there whole.
    ///
    /// # Errors
    /// What is no message of this kind, or has no end in time: the connection has to end then.
    // Not an iterator: each message may be of another type.
    #[expect(clippy::should_implement_trait, reason = "an iterator's items have one type")]
    pub fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, DoorError> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let end = unsearched.iter().position(|byte| *byte == b'\n').map(|place| self.searched + place);
        let length = end.map_or(self.bytes.len(), |end| end + 1);
        if length > LINE || (end.is_none() && length == LINE) {
            return Err(DoorError::TooLong);
        }
        let Some(end) = end else {
            self.searched = length;
            return Ok(None);
        };
        let rest = self.bytes.split_off(end + 1);
        let line = std::mem::replace(&mut self.bytes, rest);
        self.searched = 0;
        parser_entered(&line);
        serde_json::from_slice(&line).map(Some).map_err(|error| DoorError::Malformed(error.column()))
    }

    /// What was pushed and belongs to no message: the first bytes of the frames.
    pub fn into_rest(self) -> Vec<u8> {
        self.bytes
    }
}

/// Types that are read from their text.
mod text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a text of another form"))
    }
}

/// As [`Mode`] is written here.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "snake_case")]
enum ModeText {
    Write,
    Watch,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: &str = "i-0123456789abcdef0.port0";

    fn offer() -> Offer {
        Offer {
            address: ADDRESS.parse().unwrap(),
            key: "ssh-ed25519 AAAA".parse().unwrap(),
            source: "192.0.2.1".parse().unwrap(),
        }
    }

    fn read<M: DeserializeOwned>(bytes: &[u8]) -> Result<Option<M>, DoorError> {
        let mut reader = MessageReader::default();
        reader.push(bytes);
        reader.next()
    }

    #[test]
    fn each_request_as_it_is_written() {
        let members = format!(r#""address":"{ADDRESS}","key":"ssh-ed25519 AAAA","source":"192.0.2.1""#);
        let serve = Serve {
            version: "0.1.0".to_owned(),
            host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            address: "127.0.0.1:2022".parse().unwrap(),
        };
        let attach = Attach { offer: offer(), client: "SSH-2.0-x".parse().unwrap() };
        for (request, text) in [
            (
                Request::Serve(serve),
                r#"{"serve":{"version":"0.1.0","host_keys":["ssh-ed25519 AAAA"],"address":"127.0.0.1:2022"}}"#.to_owned(),
            ),
            (Request::Offer(offer()), format!(r#"{{"offer":{{{members}}}}}"#)),
            (Request::Attach(attach), format!(r#"{{"attach":{{{members},"client":"SSH-2.0-x"}}}}"#)),
        ] {
            let line = encode(&request).unwrap();
            assert_eq!(String::from_utf8_lossy(&line), format!("{text}\n"));
            assert_eq!(read::<Request>(&line).unwrap(), Some(request));
        }
    }

    #[test]
    fn each_answer_as_it_is_written() {
        let attached = Attached {
            session: "5f8b".parse().unwrap(),
            mode: Mode::Watch,
            notice: "watching".parse().unwrap(),
        };
        let refused = Refused { reason: "Push the key again.".parse().unwrap() };
        for (answer, text) in [
            (Answer::Serving {}, r#"{"serving":{}}"#),
            (Answer::Expected(true), r#"{"expected":true}"#),
            (
                Answer::Attached(attached),
                r#"{"attached":{"session":"5f8b","mode":"watch","notice":"watching"}}"#,
            ),
            (Answer::Refused(refused), r#"{"refused":{"reason":"Push the key again."}}"#),
        ] {
            let line = encode(&answer).unwrap();
            assert_eq!(String::from_utf8_lossy(&line), format!("{text}\n"));
            assert_eq!(read::<Answer>(&line).unwrap(), Some(answer));
        }
    }

    #[test]
    fn unknown_members_are_ignored_and_unknown_messages_are_refused() {
        let later = format!(
            r#"{{"offer":{{"address":"{ADDRESS}","key":"ssh-ed25519 AAAA","source":"192.0.2.1","later":[1]}}}}"#
        );
        assert_eq!(read::<Request>(format!("{later}\n").as_bytes()).unwrap(), Some(Request::Offer(offer())));
        for text in [
            "{\"withdraw\":{}}\n",
            "{}\n",
            "\n",
            "{\"offer\":{}}\n",
            "{\"offer\":{\"address\":\"root\",\"key\":\"ssh-ed25519 AAAA\",\"source\":\"192.0.2.1\"}}\n",
            "{\"offer\":{\"address\":\"i-0123456789abcdef0.port0\",\"key\":\"a\\nb\",\"source\":\"192.0.2.1\"}}\n",
            "{\"offer\":{\"address\":\"i-0123456789abcdef0.port0\",\"key\":\"a\",\"source\":\"here\"}}\n",
            "{\"expected\":true}\n",
            "{\"serve\":{}} {\"serve\":{}}\n",
        ] {
            assert!(matches!(read::<Request>(text.as_bytes()), Err(DoorError::Malformed(_))), "{text}");
        }
        // What people are shown moves no cursor.
        let escape = "{\"refused\":{\"reason\":\"\\u001b[2J\"}}\n";
        assert!(matches!(read::<Answer>(escape.as_bytes()), Err(DoorError::Malformed(_))));
    }

    #[test]
    fn frames_begin_where_the_last_message_ends() {
        let mut reader = MessageReader::default();
        reader.push(b"{\"expected\":true}\n{\"expected\":false}\n\x05\0\0");
        assert_eq!(reader.next().unwrap(), Some(Answer::Expected(true)));
        assert_eq!(reader.next().unwrap(), Some(Answer::Expected(false)));
        assert_eq!(reader.next::<Answer>().unwrap(), None);
        assert_eq!(reader.into_rest(), b"\x05\0\0");
    }

    #[test]
    fn a_message_ends_in_time() {
        let padded = |length: usize| {
            let mut line = b"{\"expected\":true}".to_vec();
            line.resize(length - 1, b' ');
            line.push(b'\n');
            line
        };
        assert_eq!(read::<Answer>(&padded(LINE)).unwrap(), Some(Answer::Expected(true)));
        assert!(matches!(read::<Answer>(&padded(LINE + 1)), Err(DoorError::TooLong)));
        assert!(read::<Answer>(&vec![b' '; LINE - 1]).unwrap().is_none());
        assert!(matches!(read::<Answer>(&vec![b' '; LINE]), Err(DoorError::TooLong)));
        let long =
            Serve { version: "x".repeat(LINE), host_keys: Vec::new(), address: ([127, 0, 0, 1], 1).into() };
        assert!(matches!(encode(&Request::Serve(long)), Err(DoorError::TooLong)));
    }

    proptest! {
        /// However the bytes come, the messages are the same.
        #[test]
        fn pieces_of_messages_do_not_matter(expected in proptest::collection::vec(any::<bool>(), 0..9), cut in 1..30usize) {
            let bytes: Vec<u8> = expected.iter().flat_map(|is| encode(&Answer::Expected(*is)).unwrap()).collect();
            let (mut reader, mut read) = (MessageReader::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                reader.push(piece);
                while let Some(message) = reader.next::<Answer>().unwrap() {
                    read.push(message);
                }
            }
            let expected: Vec<_> = expected.into_iter().map(Answer::Expected).collect();
            prop_assert_eq!(read, expected);
        }

        /// Bytes from outside are messages or are refused. Catches the planted `parser-panics`.
        #[test]
        fn any_bytes_are_refused_or_messages(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            bytes.push(b'\n');
            if let Ok(Some(request)) = read::<Request>(&bytes) {
                prop_assert_eq!(read::<Request>(&encode(&request).unwrap()).unwrap(), Some(request));
            }
        }
    }
}
