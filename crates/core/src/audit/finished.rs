//! The names of the log's files: the one that is written to, and the finished ones beside it.

use instance_connect_document::UnixSeconds;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

/// What tells a finished file of the log from the others: when it was finished, in UTC, and a number, as in
/// `20310211T020506Z-0001`. They are in order as they follow each other, and so are their texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FinishedFile {
    time: String,
    number: u32,
}

/// The text is not that of a finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a finished file of the audit log is named like 20310211T020506Z-0001")]
pub struct NotAFinishedFile;

impl FinishedFile {
    /// The one that is finished `now`, and behind the `last` one even where the clock has gone back since.
    pub fn after(last: Option<&Self>, now: UnixSeconds) -> Self {
        let time = time_text(now);
        match last {
            Some(last) if last.time >= time => {
                Self { time: last.time.clone(), number: last.number.saturating_add(1) }
            }
            _ => Self { time, number: 1 },
        }
    }

    /// Whether it was finished before this, so that nothing in it is as new.
    pub fn is_before(&self, time: UnixSeconds) -> bool {
        self.time < time_text(time)
    }
}

fn time_text(time: UnixSeconds) -> String {
    jiff::Timestamp::from_second(time.0).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

impl fmt::Display for FinishedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:04}", self.time, self.number)
    }
}

impl FromStr for FinishedFile {
    type Err = NotAFinishedFile;

    /// Takes exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, NotAFinishedFile> {
        let (time, number) = text.split_once('-').ok_or(NotAFinishedFile)?;
        let is_time = time.len() == 16
            && time.bytes().enumerate().all(|(position, byte)| match position {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let number = number.parse().map_err(|_| NotAFinishedFile)?;
        let file = Self { time: time.to_owned(), number };
        if is_time && file.to_string() == text { Ok(file) } else { Err(NotAFinishedFile) }
    }
}

/// How the files of one log are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNames {
    prefix: String,
    suffix: String,
}

impl LogNames {
    /// Those of the log whose live file has this name, such as `audit.log`.
    pub fn of(live: &str) -> Self {
        let (stem, suffix) = match live.rfind('.') {
            None | Some(0) => (live, ""),
            Some(dot) => live.split_at(dot),
        };
        Self { prefix: format!("{stem}-"), suffix: suffix.to_owned() }
    }

    /// The name of a finished file.
    pub fn finished(&self, file: &FinishedFile) -> String {
        format!("{}{file}{}", self.prefix, self.suffix)
    }

    /// The finished files of this log among these names, in the order in which they were finished.
    pub fn finished_among(&self, names: &[OsString]) -> Vec<FinishedFile> {
        let mut finished: Vec<_> = names.iter().filter_map(|name| self.read(name.to_str()?)).collect();
        finished.sort_unstable();
        finished
    }

    /// Which finished file of this log has this name, if it is one.
    pub fn read(&self, name: &str) -> Option<FinishedFile> {
        name.strip_prefix(&self.prefix)?.strip_suffix(&self.suffix)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let name = |last: Option<&FinishedFile>, now| FinishedFile::after(last, UnixSeconds(now));
        let first = name(None, 1_928_541_906);
        assert_eq!(first.to_string(), "20310211T020506Z-0001");
        let second = name(Some(&first), 1_928_541_906);
        assert_eq!(second.to_string(), "20310211T020506Z-0002");
        assert_eq!(name(Some(&second), 1_928_541_905).to_string(), "20310211T020506Z-0003");
        assert_eq!(name(Some(&second), 1_928_541_907).to_string(), "20310211T020507Z-0001");
        for text in
            ["", "20310211T020506Z", "20310211T020506Z-1", "20310211T020506Z-+001", "20310211-020506Z-0001"]
        {
            assert_eq!(text.parse::<FinishedFile>(), Err(NotAFinishedFile), "{text}");
        }
    }

    #[test]
    fn names_of_one_log() {
        let file = FinishedFile::after(None, UnixSeconds(1_928_541_906));
        for (live, expected) in [
            ("audit.log", "audit-20310211T020506Z-0001.log"),
            ("a.b.c", "a.b-20310211T020506Z-0001.c"),
            ("audit", "audit-20310211T020506Z-0001"),
            (".audit", ".audit-20310211T020506Z-0001"),
        ] {
            let names = LogNames::of(live);
            assert_eq!(names.finished(&file), expected);
            assert_eq!(names.read(expected), Some(file.clone()));
            for other in
                [live, "", &expected.replace("0001", "1"), &format!("x{expected}"), &format!("{expected}.gz")]
            {
                assert_eq!(names.read(other), None, "{other}");
            }
        }
    }

    proptest! {
        /// Whatever the clock does.
        #[test]
        fn each_name_is_new_and_behind_the_one_before(times in prop::collection::vec(0i64..5_000_000_000, 1..20)) {
            let mut last: Option<FinishedFile> = None;
            for time in times {
                let next = FinishedFile::after(last.as_ref(), UnixSeconds(time));
                prop_assert_eq!(next.to_string().parse(), Ok(next.clone()));
                if let Some(last) = last {
                    prop_assert!(last < next && last.to_string() < next.to_string());
                }
                last = Some(next);
            }
        }

        #[test]
        fn a_name_is_read_exactly(text in "[0-9]{8}T[0-9]{6}Z-[0-9]{1,5}") {
            if let Ok(file) = text.parse::<FinishedFile>() {
                prop_assert_eq!(file.to_string(), text);
            }
        }
    }
}
