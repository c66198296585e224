//! What sshd makes of its configuration for one login: the lines of `sshd -T`.

/// Settings by keyword, in small letters. Some come several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effective(Vec<(String, String)>);

impl Effective {
    /// Reads what `sshd -T` printed.
    pub(crate) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            (keyword.to_ascii_lowercase(), value.trim().to_owned())
        };
        Self(text.lines().map(line).collect())
    }

    /// A setting. What sshd prints as `none` is no setting.
    pub(crate) fn get(&self, keyword: &str) -> Option<&str> {
        self.all(keyword).find(|value| *value != "none")
    }

    /// Every value of a setting.
    pub(crate) fn all(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == keyword).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Effective;

    #[test]
    fn settings_of_sshd() {
        let printed = "usepam yes\nallowusers a\nallowusers b c\nauthorizedkeyscommand none\nForceCommand /bin/x %u\nbanner\n";
        let effective = Effective::parse(printed);
        assert_eq!(effective.all("allowusers").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(effective.get("authorizedkeyscommand"), None);
        assert_eq!(effective.get("forcecommand"), Some("/bin/x %u"));
        assert_eq!(effective.get("banner"), Some(""));
        assert_eq!(effective.get("nothing"), None);
    }
}
