//! What sshd's service puts on its command line. Options there beat every file: that is how the stock
//! `ec2-instance-connect` package sets its command (wire.md 3.9).

use super::{COMMAND, COMMAND_USER, words};
use crate::root::Root;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The command on sshd's command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitOptions {
    /// The file that says so.
    pub(crate) file: PathBuf,
    /// `AuthorizedKeysCommand`.
    pub(crate) command: Option<String>,
    /// `AuthorizedKeysCommandUser`.
    pub(crate) user: Option<String>,
}

impl UnitOptions {
    /// The same as arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let option = |keyword, value: &Option<String>| {
            value.as_ref().map(|value| vec!["-o".to_owned(), format!("{keyword}={value}")])
        };
        [option(COMMAND, &self.command), option(COMMAND_USER, &self.user)]
            .into_iter()
            .flatten()
            .flatten()
            .collect()
    }
}

/// What distributions call sshd's service.
pub(crate) const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];

/// Where units are, the first wins.
pub(crate) const UNIT_DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// What the service's files say, `None` when they leave the command to the configuration.
pub(crate) fn read_unit_options(root: &Root) -> Option<UnitOptions> {
    UNITS.iter().find_map(|unit| {
        let files = unit_files(root, unit);
        options_of(&files, &|path| fs::read_to_string(root.path(path)).ok())
    })
}

/// The files of a unit in the order in which systemd reads them: the unit, then its drop-ins by name.
fn unit_files(root: &Root, unit: &str) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        // A link to /dev/null is how a file is masked. It is read as empty here too.
        let text = fs::read_to_string(root.path(&path)).ok()?;
        Some((path, text))
    };
    let main = UNIT_DIRECTORIES.iter().find_map(|directory| read(Path::new(directory).join(unit)));
    let mut drop_ins = BTreeMap::new();
    for directory in UNIT_DIRECTORIES.iter().map(|directory| Path::new(directory).join(format!("{unit}.d"))) {
        let entries = fs::read_dir(root.path(&directory)).into_iter().flatten().flatten();
        for name in entries.map(|entry| entry.file_name()) {
            if name.to_str().is_some_and(|name| name.ends_with(".conf")) {
                drop_ins.entry(name.clone()).or_insert_with(|| directory.join(name));
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values().filter_map(read)).collect()
}

fn options_of(files: &[(PathBuf, String)], read: &dyn Fn(&str) -> Option<String>) -> Option<UnitOptions> {
    let mut starts: Vec<(&Path, String)> = Vec::new();
    let mut variables = BTreeMap::new();
    for (file, text) in files {
        let text = text.replace("\\\n", " ");
        for (keyword, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
            match (keyword.trim_end(), value.trim()) {
                ("ExecStart", "") => starts.clear(),
                ("ExecStart", command) => starts.push((file, command.to_owned())),
                ("Environment", assignments) => {
                    variables.extend(words(assignments).iter().filter_map(|word| assignment(word)))
                }
                ("EnvironmentFile", path) => {
                    let text = read(path.trim_start_matches('-')).unwrap_or_default();
                    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
                    variables.extend(lines.filter_map(|line| assignment(&words(line).join(" "))));
                }
                _ => {}
            }
        }
    }
    starts.iter().find_map(|(file, command)| options_in(file, &expand(command, &variables)))
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

/// The words of a command line. A variable that is a word of its own is as many words as it has.
fn expand(command: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let expand_word = |word: String| match word.strip_prefix('$') {
        Some(name) => {
            let name = name.trim_start_matches('{').trim_end_matches('}');
            variables.get(name).map(|value| words(value)).unwrap_or_default()
        }
        None => vec![word.replace("%%", "%")],
    };
    words(command).into_iter().flat_map(expand_word).collect()
}

fn options_in(file: &Path, words: &[String]) -> Option<UnitOptions> {
    let mut found = UnitOptions { file: file.to_owned(), ..UnitOptions::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let option = match word.as_str() {
            "-o" => words.next().map(String::as_str),
            word => word.strip_prefix("-o"),
        };
        let Some((keyword, value)) = option.and_then(|option| option.split_once([' ', '='])) else {
            continue;
        };
        // As in the file, the first value counts.
        match keyword.to_ascii_lowercase().as_str() {
            COMMAND => _ = found.command.get_or_insert_with(|| value.trim().to_owned()),
            COMMAND_USER => _ = found.user.get_or_insert_with(|| value.trim().to_owned()),
            _ => {}
        }
    }
    (found.command.is_some() || found.user.is_some()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(files: &[(&str, &str)]) -> Option<(String, String, String)> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let environment =
            "# OPTIONS=-oAuthorizedKeysCommand=/no\nSSHD_OPTS=\"-o 'AuthorizedKeysCommand /env %u'\"\n";
        let found = options_of(&files, &|path| (path == "/etc/default/ssh").then(|| environment.to_owned()))?;
        Some((
            found.file.display().to_string(),
            found.command.unwrap_or_default(),
            found.user.unwrap_or_default(),
        ))
    }

    #[test]
    fn commands_on_command_lines() {
        let stock = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %%u %%f\" -o \"AuthorizedKeysCommandUser ec2-instance-connect\" $SSHD_OPTS\n";
        let plain = ("ssh.service", "[Service]\nExecStart=/usr/sbin/sshd -D\n");
        let row = |file: &str, command: &str, user: &str| {
            Some((file.to_owned(), command.to_owned(), user.to_owned()))
        };
        assert_eq!(options(&[plain]), None);
        let command = "/usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f";
        let expected = row("ec2.conf", command, "ec2-instance-connect");
        assert_eq!(options(&[plain, ("ec2.conf", stock)]), expected);
        // A drop-in that sorts later takes it away again.
        assert_eq!(
            options(&[plain, ("ec2.conf", stock), ("zz.conf", "[Service]\nExecStart=\nExecStart=/x -D\n")]),
            None
        );
        let short =
            "ExecStart=/usr/sbin/sshd -D \\\n  -oauthorizedkeyscommand=/a -o AuthorizedKeysCommand=/b\n";
        assert_eq!(options(&[("u", short)]), row("u", "/a", ""));
        let file = "EnvironmentFile=-/etc/default/ssh\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n";
        assert_eq!(options(&[("u", file)]), row("u", "/env %u", ""));
        let given = "Environment=\"A=-o AuthorizedKeysCommandUser=x\"\nExecStart=/usr/sbin/sshd -D $A\n";
        assert_eq!(options(&[("u", given)]), row("u", "", "x"));
    }
}
