//! The system's own accounts, as `/etc/passwd` and `/etc/group` have them.

use crate::root::Root;

/// A line of `passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) shell: String,
}

impl Account {
    /// Reads a line: `name:password:uid:gid:comment:home:shell`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim_end().split(':').collect();
        let [name, _, uid, gid, _, _, shell] = fields.as_slice() else { return None };
        Some(Self {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            shell: (*shell).to_owned(),
        })
    }
}

/// A line of `group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) gid: u32,
    pub(crate) members: Vec<String>,
}

impl Group {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields.as_slice() else { return None };
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Some(Self { name: (*name).to_owned(), gid: gid.parse().ok()?, members })
    }
}

/// A local account.
pub(crate) fn account(root: &Root, name: &str) -> Option<Account> {
    let text = std::fs::read_to_string(root.path("/etc/passwd")).ok()?;
    text.lines().filter_map(Account::parse).find(|account| account.name == name)
}

/// A local group.
pub(crate) fn group(root: &Root, name: &str) -> Option<Group> {
    let text = std::fs::read_to_string(root.path("/etc/group")).ok()?;
    text.lines().filter_map(Group::parse).find(|group| group.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_and_group() {
        let alice = Account::parse("alice:x:1000:100:A,,,:/home/alice:/bin/sh\n").unwrap();
        assert_eq!((alice.uid, alice.gid, alice.shell.as_str()), (1000, 100, "/bin/sh"));
        assert_eq!(Account::parse("alice:x:1000"), None);
        assert_eq!(Account::parse("alice:x:y:100:::"), None);
        let group = Group::parse("adm:x:4:a,b").unwrap();
        assert_eq!((group.gid, group.members), (4, vec!["a".to_owned(), "b".to_owned()]));
        assert!(Group::parse("adm:x:4:").unwrap().members.is_empty());
    }
}
