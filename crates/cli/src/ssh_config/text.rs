//! What the file says. Three languages quote differently in it: ssh's own, that of a shell in `ProxyCommand`, and ssh's words in
//! `KnownHostsCommand`.

use crate::arguments::{ServiceOptions, SshConfigOptions};
use crate::failure::{Exit, Failure};
use crate::machine::SUFFIX;
use instance_connect_core::shell;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The text of the file, behind its first line.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

/// Names as ssh matches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPattern(String);

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_*?".contains(&b);
        let is_anything = text.bytes().all(|b| b"*?.".contains(&b));
        if text.len() > 255 || is_anything || text.starts_with('-') || !text.bytes().all(allowed) {
            return Err("it is not a name of letters, digits, dots, hyphens, underscores, * and ?, with one that is not * or ?".to_owned());
        }
        // ssh compares with a host name that it has made small.
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl HostPattern {
    /// The hosts that are meant. A pattern without a dot means none of the DNS, whose names have dots: `web-*` is not
    /// `web-1.example.com`, for which whoever may set tags could put another machine.
    fn hosts(&self) -> String {
        if self.0.contains('.') { self.0.clone() } else { format!("{},!*.*", self.0) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text {
    /// The text for a service, with the sockets of agents in `agents`.
    pub(super) fn new(
        service: &ServiceOptions,
        options: &SshConfigOptions,
        agents: &Path,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::General, format!("where is this program? {error}")))?;
        let program = text_of(&program)?;
        let agents = text_of(agents)?;
        if agents.contains(['"', '\\', '$', '~']) {
            let message = format!("ssh cannot name a socket in {agents:?}");
            return Err(Failure::new(Exit::Parameter, message).hint("choose another directory with --agents"));
        }
        let mut words = vec![program.clone()];
        words.extend(service_words(service)?);
        words.extend(["proxy".to_owned(), "--address".to_owned(), options.address.name().to_owned()]);
        words.extend(["--agents".to_owned(), agents.clone()]);
        let proxy: Vec<String> = words.iter().map(|word| shell::quoted(&percent(word))).collect();
        let known_hosts = [program, "known-hosts".to_owned(), "--agents".to_owned(), agents.clone()];
        let known_hosts: Vec<String> = known_hosts.iter().map(|word| for_ssh(&percent(word))).collect();
        let suffix = format!("*{SUFFIX}");
        let names = options.names.iter().map(HostPattern::hosts);
        let hosts = [IDS.to_owned(), suffix].into_iter().chain(names);
        let user = options
            .os_user
            .as_ref()
            .map_or_else(String::new, |user| format!("    User {}\n", for_ssh(user.as_str())));
        let block = |hosts: String| {
            format!(
                "Match host \"{hosts},{UNQUOTABLE}\" originalhost \"*,{UNQUOTABLE}\" user \"*,{UNQUOTABLE}\"\n\
                 {user}\
                 \x20   # Finds the machine, pushes a key made for this one login, and is its agent.\n\
                 \x20   ProxyCommand {} --typed='%n' -- '%h' '%p' '%r'\n\
                 \x20   IdentityAgent \"{}/%h\"\n\
                 \x20   IdentitiesOnly no\n\
                 \x20   IdentityFile none\n\
                 \x20   PubkeyAuthentication yes\n\
                 \x20   AddKeysToAgent no\n\
                 \x20   PKCS11Provider none\n\
                 \x20   # The machine proves itself by a key that the service has accepted. Where that has none, your own known_hosts counts.\n\
                 \x20   KnownHostsCommand {} -- %h %H %t %K\n\
                 \x20   StrictHostKeyChecking ask\n\
                 \x20   CheckHostIP no\n\
                 \x20   VerifyHostKeyDNS no\n\
                 \x20   UpdateHostKeys no\n\
                 \x20   # The name is ours to look up.\n\
                 \x20   CanonicalizeHostname no\n\
                 \x20   ProxyUseFdpass no\n",
                proxy.join(" "),
                percent(&agents),
                known_hosts.join(" "),
            )
        };
        Ok(Self(format!(
            "# ssh takes the first value it finds: what stands here holds for these hosts, whatever your own configuration says.\n\
             # No host or user with a quote or a backslash gets here: %h, %n and %r go through a shell.\n\
             {}\
             Match all\n",
            hosts.map(block).collect::<String>(),
        )))
    }
}

/// The options that say which service it is, as they were given; paths from the root.
fn service_words(service: &ServiceOptions) -> Result<Vec<String>, Failure> {
    // Every member, so that one that is added is not forgotten here; what is done is shown to whoever asks for it each time.
    let ServiceOptions { profile, region, endpoint_url, ca_bundle, allow_plain_http, ready_file, debug: _ } =
        service;
    let mut words = Vec::new();
    for (option, value) in [("--profile", profile), ("--region", region), ("--endpoint-url", endpoint_url)] {
        if let Some(value) = value {
            words.push(format!("{option}={}", one_line(value)?));
        }
    }
    for (option, path) in [("--ca-bundle", ca_bundle), ("--ready-file", ready_file)] {
        if let Some(path) = path {
            words.push(format!("{option}={}", text_of(&super::absolute(path)?)?));
        }
    }
    if *allow_plain_http {
        words.push("--allow-plain-http".to_owned());
    }
    Ok(words)
}

/// Hosts that look like instance ids: an id has eight hexadecimal digits or more, and a host of the DNS has dots.
const IDS: &str = "i-????????*,!*.*";

/// What no host or user may hold that is put between single quotes: they end them, in fish a backslash too.
const UNQUOTABLE: &str = r"!*'*,!*\*";

fn text_of(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::new(Exit::Parameter, format!("{} is not text, so ssh cannot name it", path.display()))
    })?;
    one_line(text)
}

fn one_line(text: &str) -> Result<String, Failure> {
    if text.contains(char::is_control) {
        return Err(Failure::new(Exit::Parameter, format!("{text:?} does not fit on one line")));
    }
    Ok(text.to_owned())
}

/// ssh puts something in for each percent sign that is alone.
fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word as ssh splits them.
fn for_ssh(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for text in ["web", "Web-*", "db?.eu", "*.internal"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text.to_ascii_lowercase());
        }
        for text in ["", "*", "**", "*.*", "a b", "a,b", "!a", "-a", "a\"b", "a\nb", "a'b", "#a"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
