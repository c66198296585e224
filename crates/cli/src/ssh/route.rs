//! Where a login goes and how the machine proves itself: from the options, else from the ready file, else as it was looked up.

use crate::arguments::LoginOptions;
use crate::failure::{Exit, Failure};
use crate::machine::Machine;
use crate::ready_file::{Entry, ReadyFile};
use instance_connect_core::console::ConsoleAddress;
use instance_connect_core::host_key::HostKeys;
use instance_connect_core::ids::{InstanceId, OsUser};
use std::path::Path;

/// Largest file of host keys read.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Everything the ssh command needs to know about the machine.
pub(crate) struct Route {
    pub(crate) instance: InstanceId,
    pub(crate) user: OsUser,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The host keys to trust, as lines; `None` leaves that to the caller's own known hosts.
    pub(crate) known_hosts: Option<String>,
    /// The name they stand under, where that is not the address.
    pub(crate) alias: Option<String>,
}

impl Route {
    /// Whether options or ready file say where the machine is.
    pub(super) fn is_known(options: &LoginOptions, ready: Option<&ReadyFile>) -> bool {
        let entry = ready.and_then(|file| file.instance(&options.target.instance));
        options.host.is_some() || entry.is_some_and(|entry| entry.ssh_host.is_some())
    }

    /// Puts the route together. What was looked up counts where nobody has said it.
    pub(super) fn find(
        options: &LoginOptions,
        ready: Option<&ReadyFile>,
        looked_up: Option<Machine>,
    ) -> Result<Self, Failure> {
        let instance = options.target.instance.clone();
        let entry = ready.and_then(|file| file.instance(&instance));
        let user = options.target.user(options.os_user.as_ref(), entry.and_then(Entry::user))?;
        let in_file = entry.and_then(|entry| entry.ssh_host.clone());
        let host = options.host.clone().or(in_file);
        let Some(host) = host.or_else(|| looked_up.map(|machine| machine.host)) else {
            let message = format!("no address for {instance}");
            return Err(Failure::new(Exit::Parameter, message).hint("give --host"));
        };
        if !is_address(&host) {
            return Err(Failure::new(Exit::Parameter, format!("{host:?} is not a host name or an address")));
        }
        // Another host than the file's has not its port and its key.
        let entry = entry.filter(|entry| options.host.is_none() && entry.ssh_host.is_some());
        let port = options.port.or_else(|| entry?.ssh_port).unwrap_or(22);
        let known_hosts = match (&options.known_hosts, entry) {
            (Some(file), _) => Some(read(file)?),
            (None, Some(entry)) => Some(of_entry(entry, &instance)?),
            (None, None) => None,
        };
        let is_by_id = known_hosts.as_deref().is_some_and(|lines| names(lines, &instance));
        let alias = is_by_id.then(|| instance.to_string());
        Ok(Self { instance, user, host, port, known_hosts, alias })
    }

    /// To the serial line of an instance by way of a gateway, at which nothing is trusted yet but the caller's own known hosts.
    pub(crate) fn to_line(line: &ConsoleAddress, host: &str, port: u16) -> Result<Self, Failure> {
        let user = line.to_string().parse::<OsUser>();
        let user = user.map_err(|error| Failure::new(Exit::General, format!("{line}: {error}")))?;
        let (instance, host) = (line.instance().clone(), host.to_owned());
        Ok(Self { instance, user, host, port, known_hosts: None, alias: None })
    }

    /// Trusts these host keys alone, under the instance id.
    pub(super) fn trust(&mut self, keys: &HostKeys) {
        self.trust_as(&self.instance.to_string(), keys);
    }

    /// The same under a name that tells these keys from all others.
    pub(crate) fn trust_as(&mut self, name: &str, keys: &HostKeys) {
        self.known_hosts = Some(keys.iter().map(|key| format!("{name} {key}\n")).collect());
        self.alias = Some(name.to_owned());
    }

    /// Trusts the host keys in this file alone.
    pub(crate) fn trust_file(&mut self, file: &Path) -> Result<(), Failure> {
        self.known_hosts = Some(read(file)?);
        Ok(())
    }
}

/// The machine's key as the ready file has it, under the instance id, which outlives an address.
fn of_entry(entry: &Entry, instance: &InstanceId) -> Result<String, Failure> {
    let refuse =
        |what: &str| Failure::new(Exit::Configuration, format!("the ready file {what} for {instance}"));
    match (&entry.host_key, &entry.known_hosts) {
        (Some(key), _) if is_key_line(key) => Ok(format!("{instance} {key}\n")),
        (Some(_), _) => Err(refuse("has a host key that is none")),
        (None, Some(file)) => read(file),
        (None, None) => Err(refuse("has no host key")
            .hint("a host key is never trusted unseen; give --host and --known-hosts")),
    }
}

/// One line: a type, base64 and perhaps a comment.
fn is_key_line(text: &str) -> bool {
    let mut words = text.split(' ');
    let word = |word: Option<&str>| {
        word.is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'#'))
    };
    word(words.next()) && word(words.next()) && !text.contains(char::is_control)
}

fn read(path: &Path) -> Result<String, Failure> {
    let refuse = |why: &str| {
        Failure::new(Exit::Parameter, format!("known hosts {}: {why}", path.display()))
            .hint("it is a file as OpenSSH writes it, such as ~/.ssh/known_hosts")
    };
    match std::fs::metadata(path).map(|metadata| metadata.len()) {
        Err(error) => Err(refuse(&error.to_string())),
        Ok(length) if length > LARGEST_FILE => Err(refuse(&format!("larger than {LARGEST_FILE} bytes"))),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| refuse(&error.to_string())),
    }
}

/// Whether a line of known hosts is for the instance id.
fn names(lines: &str, instance: &InstanceId) -> bool {
    lines.lines().any(|line| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let hosts = if first.starts_with('@') { words.next().unwrap_or_default() } else { first };
        hosts.split(',').any(|host| host == instance.as_str())
    })
}

/// A name or an address, IPv6 zone included; nothing that ssh could read as an option or expand.
pub(crate) fn is_address(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
    !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["10.0.0.1", "::1", "fe80::1%eth0", "host-1.example.com"] {
            assert!(is_address(text), "{text}");
        }
        for text in ["", "-oProxyCommand=x", "a b", "a@b", "a;b", "$(x)", "a\n", &"a".repeat(256)] {
            assert!(!is_address(text), "{text}");
        }
    }

    #[test]
    fn key_lines() {
        for text in ["ssh-ed25519 AAAA", "ssh-ed25519 AAAA a comment"] {
            assert!(is_key_line(text), "{text}");
        }
        for text in
            ["", "ssh-ed25519", "ssh-ed25519 AAAA\nevil ssh-rsa AAAA", " ssh-ed25519 AAAA", "a  b", "# x"]
        {
            assert!(!is_key_line(text), "{text:?}");
        }
    }

    #[test]
    fn entries_by_instance_id() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        for text in [
            "i-0123456789abcdef0 ssh-ed25519 A",
            "# c\n\nhost,i-0123456789abcdef0 k A",
            "@revoked i-0123456789abcdef0 k A",
        ] {
            assert!(names(text, &id), "{text}");
        }
        for text in
            ["", "[127.0.0.1]:22 ssh-ed25519 A", "i-0123456789abcdef01 k A", "h i-0123456789abcdef0 A"]
        {
            assert!(!names(text, &id), "{text}");
        }
    }
}
