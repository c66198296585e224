//! `sshd_config` as text: which line says what, in the order in which sshd reads them. sshd takes the first value that it
//! meets, so the order is the meaning. What holds in the end is asked of sshd itself (`sshd -T`); this says why.

use crate::root::Root;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The file, by its path in the system.
    pub(crate) file: PathBuf,
    /// Its number, from 1.
    pub(crate) line: usize,
    /// In small letters.
    pub(crate) keyword: String,
    /// The rest of the line.
    pub(crate) value: String,
    /// The `Match` that it stands under. It says nothing about other logins.
    pub(crate) matching: Option<String>,
}

impl Setting {
    /// Where it stands, as people point to lines.
    pub(crate) fn place(&self) -> String {
        format!("{} line {}", self.file.display(), self.line)
    }

    /// Whether it has sshd read this file, if there is one.
    pub(crate) fn includes(&self, file: &Path) -> bool {
        let fits = |pattern: &String| {
            let pattern = Path::new(RELATIVE_TO).join(pattern);
            let names = [pattern.as_path(), file].map(|path| path.file_name()?.to_str());
            matches!(names, [Some(wanted), Some(name)] if matches(wanted, name))
                && pattern.parent() == file.parent()
        };
        self.keyword == "include" && words(&self.value).iter().any(fits)
    }
}

/// Where sshd looks for files that are included by a relative path.
const RELATIVE_TO: &str = "/etc/ssh";

/// As deep as sshd follows `Include`.
const DEPTH: usize = 16;

/// More than any sshd_config has.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Reads a configuration with everything that it includes. The `Include` lines are in the list too.
///
/// # Errors
/// Its main file cannot be read. Included files that cannot be are left out, as sshd does with those that are not there.
pub(crate) fn read_config(root: &Root, main: &Path) -> io::Result<Vec<Setting>> {
    let read = |path: &Path| crate::files::read(&root.path(path), FILE_LIMIT);
    let text = read(main)?.ok_or(io::ErrorKind::NotFound)?;
    let mut reader = Reader {
        included: &|pattern| {
            let files = expand(root, pattern).into_iter();
            files
                .filter_map(|path| {
                    let text = String::from_utf8_lossy(&read(&path).ok()??).into_owned();
                    Some((path, text))
                })
                .collect()
        },
        settings: Vec::new(),
    };
    reader.read(main, &String::from_utf8_lossy(&text), None, 0);
    Ok(reader.settings)
}

struct Reader<'a> {
    /// The files of an `Include` pattern, in sshd's order.
    included: &'a dyn Fn(&str) -> Vec<(PathBuf, String)>,
    settings: Vec<Setting>,
}

impl Reader<'_> {
    /// A `Match` in an included file ends with that file.
    fn read(&mut self, file: &Path, text: &str, matching: Option<String>, depth: usize) {
        let mut matching = matching;
        for (position, line) in text.lines().enumerate() {
            let Some((keyword, value)) = parse_line(line) else { continue };
            if keyword == "match" {
                matching = (!value.eq_ignore_ascii_case("all")).then(|| value.to_owned());
                continue;
            }
            self.settings.push(Setting {
                file: file.to_owned(),
                line: position + 1,
                keyword: keyword.clone(),
                value: value.to_owned(),
                matching: matching.clone(),
            });
            if keyword == "include" && depth < DEPTH {
                for pattern in words(value) {
                    for (path, text) in (self.included)(&pattern) {
                        self.read(&path, &text, matching.clone(), depth + 1);
                    }
                }
            }
        }
    }
}

/// Keyword and value, parted by blanks or an equals sign.
fn parse_line(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    Some((keyword.to_ascii_lowercase(), value))
}

/// The words of a value: quotes keep blanks together.
pub(crate) fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in value.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The files of an `Include` pattern, sorted by name. Wildcards are understood in the last part of the path, where
/// everybody has them.
fn expand(root: &Root, pattern: &str) -> Vec<PathBuf> {
    let pattern = Path::new(RELATIVE_TO).join(pattern);
    let (Some(directory), Some(name)) =
        (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![pattern];
    }
    let entries = fs::read_dir(root.path(directory)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|found| matches(name, found) && (name.starts_with('.') || !found.starts_with('.')))
        .collect();
    names.sort_unstable();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Whether a pattern of sshd's fits: `*` stands for anything, `?` for one character (`match_pattern` in OpenSSH).
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut in_text) = (0, 0);
    // After a star: where to go on when what followed it does not fit here.
    let mut retry: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, in_text));
                at += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(in_text) => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else { return false };
                at = after_star;
                in_text = from + 1;
                retry = Some((after_star, in_text));
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(main: &str, others: &[(&str, &str)]) -> Vec<String> {
        let mut reader = Reader {
            included: &|pattern| {
                let fits = others.iter().filter(|(path, _)| matches(pattern, path));
                fits.map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
            },
            settings: Vec::new(),
        };
        reader.read(Path::new("main"), main, None, 0);
        let shown = |setting: &Setting| {
            let Setting { keyword, value, matching, .. } = setting;
            format!("{} {keyword}={value} [{}]", setting.place(), matching.as_deref().unwrap_or_default())
        };
        reader.settings.iter().filter(|setting| setting.keyword != "include").map(shown).collect()
    }

    #[test]
    fn lines_in_the_order_in_which_sshd_meets_them() {
        let main = "# UsePAM no\n\nUsePAM yes\nInclude d/*.conf\n  Port=22\nPort = 23\nMatch User a\n\tPort 24\nInclude d/2.conf\nMatch all\nPort 25";
        let others =
            [("d/1.conf", "Port 1\nMatch User b\nPort 2"), ("d/2.conf", "Port 3"), ("d/3", "Port 4")];
        let expected = [
            "main line 3 usepam=yes []",
            "d/1.conf line 1 port=1 []",
            "d/1.conf line 3 port=2 [User b]",
            "d/2.conf line 1 port=3 []",
            "main line 5 port=22 []",
            "main line 6 port=23 []",
            "main line 8 port=24 [User a]",
            "d/2.conf line 1 port=3 [User a]",
            "main line 11 port=25 []",
        ];
        assert_eq!(read(main, &others), expected);
    }

    #[test]
    fn files_that_include_themselves_end() {
        assert_eq!(read("Include a", &[("a", "Port 1\nInclude a")]).len(), DEPTH);
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(r#"a  "b c" 'd "e'f "" "#), ["a", "b c", "d \"ef", ""]);
        assert_eq!(words("  "), [""; 0]);
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("alice", "alice", true),
            ("alice", "alic", false),
            ("a*e", "alice", true),
            ("a*e", "alicex", false),
            ("*", "", true),
            ("?", "", false),
            ("??", "ab", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*.conf", "a.conf.bak", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn patterns_without_wildcards_are_equality(a in "[ab]{0,4}", b in "[ab]{0,4}") {
            prop_assert_eq!(matches(&a, &b), a == b);
            let starred = format!("*{a}*");
            prop_assert_eq!(matches(&starred, &b), b.contains(&a));
        }

        #[test]
        fn any_text_is_read(text in "(.{0,40}\n){0,6}") {
            let _ = read(&text, &[]);
            let _ = words(&text);
        }
    }
}
