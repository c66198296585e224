//! `audit verify`: whether the lines of a log are as they were written (docs/audit.md).

use super::arguments::VerifyOptions;
use super::files;
use crate::administration::show;
use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::output;
use instance_connect_core::audit::{Chain, ChainValue, Tie};
use serde_json::{Value, json};

/// What was found.
#[derive(Default)]
struct Findings {
    lines: u64,
    files: usize,
    /// Lines that state no value, with where the first of them is.
    cut_off: u64,
    first_cut_off: Option<String>,
    /// Where the first line is that is not tied to the one before.
    broken: Option<String>,
    broken_lines: u64,
    /// Whether a line has stated its value.
    has_begun: bool,
    /// Whether the first line is the first of its log, or follows the value that was given.
    from_the_beginning: bool,
    expected: bool,
    newest: Option<ChainValue>,
}

pub(super) fn run(options: &VerifyOptions, format: OutputFormat) -> Result<u8, Failure> {
    let findings = read(options)?;
    output::result(&match format {
        OutputFormat::Json => show::json(&findings.json(options))?,
        OutputFormat::Text => findings.text(options),
    })?;
    Ok(u8::from(!findings.is_intact(options)))
}

fn read(options: &VerifyOptions) -> Result<Findings, Failure> {
    let mut chain = options.after.map(Chain::after).unwrap_or_default();
    let mut findings = Findings {
        expected: options.after.is_some() && options.after == options.expect,
        ..Findings::default()
    };
    let mut line = Vec::new();
    for mut file in files::open(&options.paths)? {
        findings.files += 1;
        let mut number = 0_u64;
        while file.read_line(&mut line)? {
            number += 1;
            let tie = chain.read(&line);
            let place = || format!("{}:{number}", file.path.display());
            findings.take(tie, options.after.is_some(), place);
            findings.expected |= options.expect == Some(chain.value());
        }
    }
    findings.newest = (findings.lines > 0).then(|| chain.value());
    Ok(findings)
}

impl Findings {
    fn take(&mut self, tie: Tie, is_after: bool, place: impl Fn() -> String) {
        self.lines += 1;
        match tie {
            Tie::Intact => {
                self.from_the_beginning |= !self.has_begun;
                self.has_begun = true;
            }
            Tie::Unstated => {
                self.cut_off += 1;
                self.first_cut_off.get_or_insert_with(place);
            }
            // What came before is not here, so this one is taken as it is.
            Tie::Broken if !self.has_begun && !is_after => self.has_begun = true,
            Tie::Broken => {
                self.has_begun = true;
                self.broken_lines += 1;
                self.broken.get_or_insert_with(place);
            }
        }
    }

    fn is_intact(&self, options: &VerifyOptions) -> bool {
        self.broken.is_none() && (self.expected || options.expect.is_none())
    }

    fn text(&self, options: &VerifyOptions) -> String {
        let mut text = Vec::new();
        if let Some(place) = &self.broken {
            text.push(format!(
                "{place}: this line was changed, or lines before it were removed, added or moved"
            ));
            if self.broken_lines > 1 {
                text.push(format!("{} lines in all are not tied to the one before", self.broken_lines));
            }
        }
        if let (Some(expected), false) = (options.expect, self.expected) {
            text.push(format!(
                "No line has the chain value {expected}: lines were removed at the end, or all were made anew"
            ));
        }
        if let Some(place) = &self.first_cut_off {
            text.push(format!("{place}: cut off when it was written ({} such lines)", self.cut_off));
        }
        if self.is_intact(options) {
            let begin = if self.from_the_beginning {
                ""
            } else {
                "; the first stands behind lines that are not here"
            };
            text.push(format!(
                "{} lines in {} files are as they were written{begin}",
                self.lines, self.files
            ));
        }
        if let Some(newest) = self.newest {
            text.push(format!("Newest chain value: {newest}"));
        }
        text.join("\n")
    }

    fn json(&self, options: &VerifyOptions) -> Value {
        json!({
            "Intact": self.is_intact(options),
            "Lines": self.lines,
            "Files": self.files,
            "CutOffLines": self.cut_off,
            "FromTheBeginning": self.from_the_beginning,
            "FirstBrokenLine": self.broken,
            "BrokenLines": self.broken_lines,
            "ExpectedValueFound": options.expect.map(|_| self.expected),
            "NewestValue": self.newest.map(|value| value.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_core::audit::{RefusalCounts, refusal_counts};
    use instance_connect_core::document::UnixSeconds;
    use std::fs;
    use std::path::Path;

    /// The texts of two finished files and the live one, with three lines each.
    fn log() -> [String; 3] {
        let mut chain = Chain::default();
        [0, 3, 6].map(|first| {
            let mut text = Vec::new();
            for number in first..first + 3 {
                let counts = RefusalCounts { by_error_code: [("code", number)].into(), not_recorded: 0 };
                let line = refusal_counts(&counts, UnixSeconds(0), &"xx-test-1".parse().unwrap(), "id");
                chain.append(&line, &mut text);
            }
            String::from_utf8(text).unwrap()
        })
    }

    const NAMES: [&str; 3] =
        ["audit-20310211T020506Z-0001.log", "audit-20310211T020506Z-0002.log", "audit.log"];

    fn write(directory: &Path, log: &[String; 3]) {
        for (name, text) in NAMES.iter().zip(log) {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    fn options(path: &Path) -> VerifyOptions {
        VerifyOptions { paths: vec![path.to_owned()], expect: None, after: None }
    }

    fn broken_at(findings: &Findings) -> Option<&str> {
        findings.broken.as_deref().and_then(|place| place.rsplit('/').next())
    }

    #[test]
    fn a_log_that_nobody_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &log());
        let mut options = options(directory.path());
        let findings = read(&options).unwrap();
        assert!(findings.is_intact(&options) && findings.from_the_beginning);
        assert_eq!((findings.lines, findings.files, findings.cut_off), (9, 3, 0));
        // It grows, is deleted from at its beginning, and was cut off once.
        let kept = findings.newest;
        let mut live = log()[2].clone() + "{\"cut\n";
        let mut chain = Chain::after(kept.unwrap());
        chain.read(b"{\"cut\n");
        let mut text = Vec::new();
        let counts = RefusalCounts { by_error_code: [].into(), not_recorded: 0 };
        chain
            .append(&refusal_counts(&counts, UnixSeconds(0), &"xx-test-1".parse().unwrap(), "id"), &mut text);
        live.push_str(&String::from_utf8(text).unwrap());
        fs::write(directory.path().join("audit.log"), live).unwrap();
        fs::remove_file(directory.path().join(NAMES[0])).unwrap();
        options.expect = kept;
        let findings = read(&options).unwrap();
        assert!(findings.is_intact(&options) && !findings.from_the_beginning);
        assert_eq!((findings.lines, findings.cut_off), (8, 1));
        assert_eq!(findings.newest, Some(chain.value()));
        assert!(read(&VerifyOptions { after: kept, ..options }).unwrap().broken.is_some());
    }

    /// The first line's own value cannot be checked without the one before it, and what is left of the last line may look
    /// cut off: both are said. Everywhere else a changed byte is a broken line.
    #[test]
    fn no_byte_is_changed_unseen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let text = log()[0].clone().into_bytes();
        let lines = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect::<Vec<_>>();
        let (second, last) = (lines[0], text.len() - lines.last().unwrap());
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            let findings = read(&options(&path)).unwrap();
            let is_said = at < second && !findings.from_the_beginning || at >= last && findings.cut_off == 1;
            assert!(findings.broken.is_some() || is_said, "byte {at}");
        }
    }

    #[test]
    fn whoever_changes_it_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &log());
        let kept = read(&options(directory.path())).unwrap().newest;
        let lines = |file: usize| log()[file].lines().map(str::to_owned).collect::<Vec<_>>();
        let text = |lines: &[String]| lines.join("\n") + "\n";
        let [edited, removed, swapped, truncated] = [(); 4].map(|()| lines(1));
        let mut cases = [(edited, 2), (removed, 2), (swapped, 1), (truncated, 0)];
        cases[0].0[1] = cases[0].0[1].replace("code", "c0de");
        cases[1].0.remove(1);
        cases[2].0.swap(0, 1);
        cases[3].0.pop();
        for (number, (lines, line)) in cases.into_iter().enumerate() {
            let mut log = log();
            log[1] = text(&lines);
            write(directory.path(), &log);
            // Without its last line, the next file does not follow.
            let expected = if line == 0 { format!("{}:1", NAMES[2]) } else { format!("{}:{line}", NAMES[1]) };
            let findings = read(&options(directory.path())).unwrap();
            assert_eq!(broken_at(&findings), Some(expected.as_str()), "{number}");
        }
        // A file that is gone; and what is cut off at the end, which only somebody sees who has kept a value.
        write(directory.path(), &log());
        fs::remove_file(directory.path().join(NAMES[1])).unwrap();
        assert_eq!(broken_at(&read(&options(directory.path())).unwrap()), Some("audit.log:1"));
        let mut log = log();
        log[2] = text(&lines(2)[..2]);
        write(directory.path(), &log);
        let mut options = options(directory.path());
        assert!(read(&options).unwrap().is_intact(&options));
        options.expect = kept;
        let findings = read(&options).unwrap();
        assert!(!findings.is_intact(&options) && findings.broken.is_none());
        assert!(findings.text(&options).contains("No line has the chain value"));
    }
}
