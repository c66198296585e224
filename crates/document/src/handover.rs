//! The file in which an agent hands a key to the sshd command: where it is and what is in it.
//!
//! A file is for one key of one OS user and holds a section for each live grant of it, newest last:
//! ```text
//! !Deadline=<CLOCK_BOOTTIME in nanoseconds>
//! !Signer=<signer statement>
//! <document, which ends with a blank line>
//! ```
//! The sections' deadlines are the only part that no signature covers: they are the agent's word, which it has from the
//! control plane ([`transfer`](crate::transfer)).

use crate::deadline::{self, LONGEST_LIFETIME};
use crate::document::{DOCUMENT_LIMIT, claimed_request};
use crate::time::BootInstant;
use crate::{Fingerprint, OsUser, RequestId, decimal};
use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_planted::parser_entered;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

/// Most sections in one file. Beyond it the one that ends first makes room.
pub const SECTIONS_PER_FILE: usize = 8;

/// Largest hand-over file, in bytes.
pub const HANDOVER_LIMIT: usize = 64 * 1024;

/// A deadline line and a signer line are shorter than this together.
const SECTION_HEAD_LIMIT: usize = 512;

// A full file of the longest documents fits: merging never makes a file that parsing refuses for its length.
const _: () = assert!(SECTIONS_PER_FILE * (SECTION_HEAD_LIMIT + DOCUMENT_LIMIT) <= HANDOVER_LIMIT);

/// The directory of a user's live keys, relative to the run directory: `live/<hex of SHA-256 of the name>`. A hash,
/// because a user's name may hold characters that mean something in a path.
pub fn live_directory(user: &OsUser) -> String {
    let mut path = String::from("live/");
    push_hex(&mut path, digest(&SHA256, user.as_str().as_bytes()).as_ref());
    path
}

/// The hand-over file of one key of one user, relative to the run directory: in [`live_directory`], named by the hex of
/// the fingerprint's 32 bytes.
pub fn live_file(user: &OsUser, fingerprint: &Fingerprint) -> String {
    let mut path = live_directory(user);
    path.push('/');
    push_hex(&mut path, fingerprint.as_bytes());
    path
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

/// One grant in a hand-over file. Nothing in it has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// When the grant ends, on this boot's clock.
    pub deadline: BootInstant,
    /// The signer statement, one line without its line feed.
    pub statement: &'a str,
    /// The document, byte for byte.
    pub document: &'a str,
}

/// Why bytes are not a hand-over file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// Longer than [`HANDOVER_LIMIT`], or a part of it longer than it can be.
    TooLong,
    /// Not text, or it stops in the middle of a section, as an empty file does.
    Truncated,
    /// A section does not begin with a deadline, a number of nanoseconds.
    Deadline,
    /// A deadline is not followed by a signer statement.
    Signer,
    /// More sections than [`SECTIONS_PER_FILE`].
    TooMany,
    /// What was to be added is not one section.
    NotOneSection,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the hand-over file, or a section of it, is too long",
            Self::Truncated => "the hand-over file is not text, or is cut off",
            Self::Deadline => "a section of the hand-over file does not begin with its deadline",
            Self::Signer => "a section of the hand-over file does not name its signer after its deadline",
            Self::TooMany => "the hand-over file has more than 8 sections",
            Self::NotOneSection => "the grant is not one section of a hand-over file",
        })
    }
}

impl std::error::Error for HandoverError {}

/// A hand-over file taken apart: at least one section, at most [`SECTIONS_PER_FILE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover<'a>(Vec<Section<'a>>);

impl<'a> Handover<'a> {
    /// Takes a hand-over file apart, strictly.
    ///
    /// # Errors
    /// Anything that [`merge`] would not have written.
    pub fn parse(file: &'a [u8]) -> Result<Self, HandoverError> {
        parser_entered(file);
        if file.len() > HANDOVER_LIMIT {
            return Err(HandoverError::TooLong);
        }
        let mut rest = std::str::from_utf8(file).map_err(|_| HandoverError::Truncated)?;
        let mut sections = Vec::new();
        while !rest.is_empty() || sections.is_empty() {
            if sections.len() == SECTIONS_PER_FILE {
                return Err(HandoverError::TooMany);
            }
            let (section, after) = parse_section(rest)?;
            sections.push(section);
            rest = after;
        }
        Ok(Self(sections))
    }

    /// The sections, newest last.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.0
    }

    /// When the last of its grants ends. The file is of no use from then on.
    pub fn deadline(&self) -> BootInstant {
        self.0.iter().map(|section| section.deadline).max().unwrap_or(BootInstant(0))
    }
}

fn parse_section(text: &str) -> Result<(Section<'_>, &str), HandoverError> {
    let (deadline, text) = text.split_once('\n').ok_or(HandoverError::Truncated)?;
    let deadline = deadline
        .strip_prefix("!Deadline=")
        .and_then(decimal::parse)
        .map(BootInstant)
        .ok_or(HandoverError::Deadline)?;
    let (statement, text) = text.split_once('\n').ok_or(HandoverError::Truncated)?;
    let statement = statement.strip_prefix("!Signer=").ok_or(HandoverError::Signer)?;
    // A document has no blank line but its last, so that is where it ends.
    let end = text.find("\n\n").ok_or(HandoverError::Truncated)? + 2;
    let (document, rest) = text.split_at_checked(end).ok_or(HandoverError::Truncated)?;
    if statement.len() > SECTION_HEAD_LIMIT / 2 || document.len() > DOCUMENT_LIMIT {
        return Err(HandoverError::TooLong);
    }
    Ok((Section { deadline, statement, document }, rest))
}

/// The file to write when `new` is delivered and `existing` is there: its live sections, then the new one. A document
/// that is there already is replaced. An existing file that does not parse offers nothing, so nothing of it is kept.
///
/// # Errors
/// When `new` is not one section: too long, or with line feeds where none belong.
pub fn merge(existing: Option<&[u8]>, new: &Section<'_>, now: BootInstant) -> Result<String, HandoverError> {
    let new_text = file_of(std::slice::from_ref(new));
    if Handover::parse(new_text.as_bytes())?.sections() != [*new] {
        return Err(HandoverError::NotOneSection);
    }
    let mut sections = existing.map(|file| live_sections(file, now)).unwrap_or_default();
    sections.retain(|section| section.document != new.document);
    if sections.len() == SECTIONS_PER_FILE {
        let ends_first = sections.iter().enumerate().min_by_key(|(_, section)| section.deadline);
        if let Some((position, _)) = ends_first {
            sections.remove(position);
        }
    }
    sections.push(*new);
    Ok(file_of(&sections))
}

/// The file to write when a push is withdrawn: the live sections of other requests. `None` when there are none, and
/// the file is to be removed.
pub fn withdraw(existing: &[u8], request: &RequestId, now: BootInstant) -> Option<String> {
    let mut sections = live_sections(existing, now);
    sections.retain(|section| claimed_request(section.document).as_ref() != Some(request));
    (!sections.is_empty()).then(|| file_of(&sections))
}

/// The file to write when the machine has lost time `by`: its live sections, each ending that much earlier. `None` when
/// none is left, and the file is to be removed.
pub fn shorten(existing: &[u8], by: Duration, now: BootInstant) -> Option<String> {
    let mut sections = live_sections(existing, now);
    sections.iter_mut().for_each(|section| section.deadline = section.deadline.before(by));
    sections.retain(|section| section.deadline > now);
    (!sections.is_empty()).then(|| file_of(&sections))
}

fn live_sections(file: &[u8], now: BootInstant) -> Vec<Section<'_>> {
    let mut sections = Handover::parse(file).map(|handover| handover.0).unwrap_or_default();
    sections.retain(|section| deadline::check(section.deadline, now, LONGEST_LIFETIME).is_ok());
    sections
}

fn file_of(sections: &[Section<'_>]) -> String {
    let mut file = String::new();
    for Section { deadline, statement, document } in sections {
        let _ = write!(file, "!Deadline={}\n!Signer={statement}\n{document}", deadline.0);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: BootInstant = BootInstant(1_000_000_000_000);

    fn at(seconds: u64) -> BootInstant {
        BootInstant(NOW.0 + seconds * 1_000_000_000)
    }

    fn section(seconds: u64, document: &str) -> Section<'_> {
        Section { deadline: at(seconds), statement: "statement", document }
    }

    fn documents(file: &str) -> Vec<&str> {
        let handover = Handover::parse(file.as_bytes()).unwrap();
        handover.sections().iter().map(|section| section.document.trim_end()).collect()
    }

    #[test]
    fn paths_are_hex_and_nothing_else() {
        let user: OsUser = "alice".parse().unwrap();
        let directory = "live/2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90";
        assert_eq!(live_directory(&user), directory);
        let file = live_file(&user, &Fingerprint::from_bytes([0xab; 32]));
        assert_eq!(file, format!("{directory}/{}", "ab".repeat(32)));
    }

    #[test]
    fn the_same_key_pushed_again_is_one_file_with_both() {
        let first = merge(None, &section(40, "a\n\n"), NOW).unwrap();
        assert_eq!(first, format!("!Deadline={}\n!Signer=statement\na\n\n", at(40).0));
        let both = merge(Some(first.as_bytes()), &section(50, "b\n\n"), NOW).unwrap();
        assert_eq!(documents(&both), ["a", "b"]);
        assert_eq!(Handover::parse(both.as_bytes()).unwrap().deadline(), at(50));
        // The later deadline counts also where it came first.
        let again = merge(Some(both.as_bytes()), &section(10, "c\n\n"), NOW).unwrap();
        assert_eq!(Handover::parse(again.as_bytes()).unwrap().deadline(), at(50));
    }

    #[test]
    fn lost_time_ends_sections_earlier() {
        let first = merge(None, &section(10, "a\n\n"), NOW).unwrap();
        let both = merge(Some(first.as_bytes()), &section(50, "b\n\n"), NOW).unwrap();
        let shortened = shorten(both.as_bytes(), Duration::from_secs(10), NOW).unwrap();
        assert_eq!(documents(&shortened), ["b"]);
        assert_eq!(Handover::parse(shortened.as_bytes()).unwrap().deadline(), at(40));
        assert_eq!(shorten(both.as_bytes(), Duration::from_secs(50), NOW), None);
        assert_eq!(shorten(b"nonsense", Duration::ZERO, NOW), None);
    }

    #[test]
    fn dead_sections_and_odd_files_are_left_behind() {
        let file = merge(None, &section(10, "dies\n\n"), NOW).unwrap();
        let file = merge(Some(file.as_bytes()), &section(20, "lives\n\n"), NOW).unwrap();
        let merged = merge(Some(file.as_bytes()), &section(60, "new\n\n"), at(10)).unwrap();
        assert_eq!(documents(&merged), ["lives", "new"]);
        // Sections from before a reboot have deadlines that are nowhere near.
        let merged = merge(Some(merged.as_bytes()), &section(0, "new\n\n"), BootInstant(7)).unwrap();
        assert_eq!(documents(&merged), ["new"]);
        for odd in ["", "!Deadline=", "junk\n\n", "!Deadline=1\n!Signer=x\nno end"] {
            let merged = merge(Some(odd.as_bytes()), &section(10, "new\n\n"), NOW).unwrap();
            assert_eq!(documents(&merged), ["new"], "{odd:?}");
        }
    }

    #[test]
    fn the_same_document_twice_is_one_section() {
        let file = merge(None, &section(10, "a\n\n"), NOW).unwrap();
        let file = merge(Some(file.as_bytes()), &section(20, "a\n\n"), NOW).unwrap();
        assert_eq!(file, merge(None, &section(20, "a\n\n"), NOW).unwrap());
    }

    #[test]
    fn above_eight_the_one_that_ends_first_makes_room() {
        let mut file = merge(None, &section(30, "0\n\n"), NOW).unwrap();
        for (number, seconds) in [(1, 20), (2, 25), (3, 40), (4, 41), (5, 42), (6, 43), (7, 44), (8, 45)] {
            file = merge(Some(file.as_bytes()), &section(seconds, &format!("{number}\n\n")), NOW).unwrap();
        }
        assert_eq!(documents(&file), ["0", "2", "3", "4", "5", "6", "7", "8"]);
    }

    #[test]
    fn a_full_file_of_the_longest_sections_parses() {
        let mut file = String::new();
        for number in 0..SECTIONS_PER_FILE {
            let document = format!("{number}{}\n\n", "x".repeat(DOCUMENT_LIMIT - 3));
            let statement = "s".repeat(SECTION_HEAD_LIMIT / 2);
            let new = Section { deadline: at(60), statement: &statement, document: &document };
            file = merge(Some(file.as_bytes()), &new, NOW).unwrap();
        }
        assert!(file.len() <= HANDOVER_LIMIT);
        assert_eq!(Handover::parse(file.as_bytes()).unwrap().sections().len(), SECTIONS_PER_FILE);
    }

    #[test]
    fn only_one_whole_section_can_be_added() {
        let long = "x".repeat(DOCUMENT_LIMIT) + "\n\n";
        let two = format!("a\n\n{}", file_of(&[section(50, "b\n\n")]));
        let rows = [
            (section(10, ""), HandoverError::Truncated),
            (section(10, "a\n"), HandoverError::Truncated),
            (section(10, &long), HandoverError::TooLong),
            (section(10, &two), HandoverError::NotOneSection),
            (section(10, "a\n\nb\n\n"), HandoverError::Deadline),
            (Section { statement: "s\nt", ..section(10, "a\n\n") }, HandoverError::NotOneSection),
        ];
        for (new, expected) in rows {
            assert_eq!(merge(None, &new, NOW), Err(expected), "{new:?}");
        }
    }

    #[test]
    fn odd_files_are_refused() {
        let good = file_of(&[section(10, "a\n\n")]);
        let rows = [
            (String::new(), HandoverError::Truncated),
            ("\n".to_owned(), HandoverError::Deadline),
            (format!("\n{good}"), HandoverError::Deadline),
            (format!("{good}\n"), HandoverError::Deadline),
            (good.trim_end().to_owned(), HandoverError::Truncated),
            (good.replace("!Deadline=", "!Deadline=0"), HandoverError::Deadline),
            (good.replace("!Deadline=", "!Deadline=-"), HandoverError::Deadline),
            (good.replace("!Deadline", "!deadline"), HandoverError::Deadline),
            (good.replace("!Signer", "!Signed"), HandoverError::Signer),
            (good.repeat(9), HandoverError::TooMany),
            ("x".repeat(HANDOVER_LIMIT + 1), HandoverError::TooLong),
        ];
        for (file, expected) in rows {
            assert_eq!(Handover::parse(file.as_bytes()), Err(expected), "{file:.80}");
        }
        assert_eq!(Handover::parse(b"!Deadline=1\n!Signer=\xff\na\n\n"), Err(HandoverError::Truncated));
        assert!(Handover::parse(good.repeat(8).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn handover_parser_never_panics(file: Vec<u8>) {
            let _ = Handover::parse(&file);
            let _ = merge(Some(&file), &section(10, "new\n\n"), NOW);
        }

        #[test]
        fn one_file_for_each_list_of_sections(file in "(!(Deadline|Signer)=[0-9]{0,3}\n|[a\n]{0,4}){0,12}") {
            if let Ok(handover) = Handover::parse(file.as_bytes()) {
                prop_assert_eq!(file_of(handover.sections()), file);
            }
        }
    }
}
