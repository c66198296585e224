//! OS accounts of this machine, as far as they have to be known.

use anyhow::Context as _;
use std::process::Command;

/// One line of the account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    shell: String,
}

impl Account {
    /// Reads `name:password:uid:gid:gecos:home:shell` (passwd(5)).
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, _, shell] = fields.as_slice() else { return None };
        Some(Self {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            shell: (*shell).to_owned(),
        })
    }

    /// A person's account: an ordinary uid and a shell to log in to. 65534 is `nobody`.
    pub(crate) fn is_ordinary(&self) -> bool {
        let no_login = ["/nologin", "/false", "/sync"].iter().any(|end| self.shell.ends_with(end));
        (1000..65534).contains(&self.uid) && !self.shell.is_empty() && !no_login
    }
}

/// All accounts that can be listed.
pub(crate) fn all() -> anyhow::Result<Vec<Account>> {
    getent(None)
}

/// The account of this name, wherever it is kept.
pub(crate) fn named(name: &str) -> anyhow::Result<Option<Account>> {
    Ok(getent(Some(name))?.into_iter().find(|account| account.name == name))
}

/// Asks the system's name service, so that accounts outside `/etc/passwd` are found too.
fn getent(name: Option<&str>) -> anyhow::Result<Vec<Account>> {
    let output = Command::new("getent").arg("passwd").args(name).output().context("cannot run getent")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(Account::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn ordinary_accounts() {
        for (line, expected) in [
            ("alice:x:1000:1000:,,,:/home/alice:/bin/bash", Some(true)),
            ("root:x:0:0:root:/root:/bin/bash", Some(false)),
            ("daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin", Some(false)),
            ("svc:x:1001:1001::/srv:/usr/sbin/nologin", Some(false)),
            ("svc:x:1001:1001::/srv:", Some(false)),
            ("nobody:x:65534:65534:nobody:/nonexistent:/bin/sh", Some(false)),
            ("broken:x:1000", None),
            ("broken:x:-1:0:::/bin/sh", None),
        ] {
            assert_eq!(Account::parse(line).map(|account| account.is_ordinary()), expected, "{line}");
        }
    }
}
