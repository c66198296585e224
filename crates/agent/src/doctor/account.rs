//! Checks of an account: would sshd let it in with any key at all, and what would become of the login then?

use super::check::{Check, note, ok, problem};
use crate::accounts::Account;
use crate::sshd::{Effective, matches};
use instance_connect_core::document::{HostVeto, OsUser};

/// What is known about the account that a key was pushed for.
#[derive(Debug, Default)]
pub(super) struct AccountFacts {
    pub(super) name: String,
    /// As the system's name services have it.
    pub(super) account: Option<Account>,
    /// The names of its groups.
    pub(super) groups: Vec<String>,
    /// Its line in `/etc/shadow`, if it has one there.
    pub(super) shadow: Option<String>,
    /// Whether its shell is a program.
    pub(super) shell_is_program: bool,
    /// `/etc/shells`.
    pub(super) shells: String,
    /// Whether PAM lets in only who has a shell of those (`pam_shells`).
    pub(super) pam_wants_listed_shell: bool,
    /// `/etc/nologin` or `/run/nologin`, when there.
    pub(super) nologin: Option<&'static str>,
    /// The machine's own veto, where it could be read.
    pub(super) veto: Option<HostVeto>,
    /// Days since 1970.
    pub(super) today: i64,
}

impl AccountFacts {
    /// `effective` is what sshd makes of its files for this user.
    pub(super) fn checks(&self, effective: Option<&Effective>) -> Vec<Check> {
        let mut checks = vec![self.veto()];
        let Some(account) = &self.account else {
            let found = format!("there is no account {} on this machine", self.name);
            let mend = format!("useradd --create-home {}, or push for an account that exists", self.name);
            checks.push(problem(
                "account",
                found,
                "sshd asks nobody about an account that does not exist",
                mend,
            ));
            return checks;
        };
        checks.push(ok("account", format!("{} has uid {}", self.name, account.uid)));
        checks.push(self.shell(account));
        checks.extend(self.nologin(account));
        if let Some(effective) = effective {
            checks.push(self.admission(effective));
            checks.extend(self.root(account, effective));
            checks.extend(self.locked(effective));
        }
        checks.extend(self.expired());
        checks
    }

    fn veto(&self) -> Check {
        const NAME: &str = "veto";
        const WHY: &str = "what /etc/instance-connect/host.toml forbids, no control plane can do here";
        let Ok(user) = self.name.parse::<OsUser>() else {
            let found = format!("{:?} is no name that a key can be pushed for", self.name);
            return problem(
                NAME,
                found,
                "the API takes user names of 1 to 32 plain characters",
                "use another account",
            );
        };
        let Some(veto) = &self.veto else {
            return problem(
                NAME,
                "/etc/instance-connect/host.toml cannot be used",
                WHY,
                "see the check named installation",
            );
        };
        match veto.permits(&user, self.account.as_ref().map(|account| account.uid)) {
            Ok(()) => ok(NAME, format!("this machine's host.toml allows {user}")),
            Err(refusal) => problem(
                NAME,
                refusal.to_string(),
                WHY,
                format!(
                    "if {user} is to be logged in to, have allow_users in /etc/instance-connect/host.toml name it"
                ),
            ),
        }
    }

    fn shell(&self, account: &Account) -> Check {
        const NAME: &str = "shell";
        let shell = if account.shell.is_empty() { "/bin/sh" } else { &account.shell };
        let mend = format!("usermod --shell /bin/sh {}", self.name);
        let is_listed = self.shells.lines().any(|line| line.trim() == shell);
        if !self.shell_is_program {
            return problem(
                NAME,
                format!("{shell} is not there, or no program"),
                "sshd refuses an account whose shell it cannot run",
                mend,
            );
        }
        if ["nologin", "false", "true"].iter().any(|name| shell.rsplit('/').next() == Some(name)) {
            return problem(
                NAME,
                format!("it is {shell}"),
                "the key is accepted, and the session ends at once",
                mend,
            );
        }
        match (is_listed, self.pam_wants_listed_shell) {
            (true, _) => ok(NAME, shell),
            (false, true) => problem(
                NAME,
                format!("{shell} is not in /etc/shells"),
                "PAM lets in only those with a shell of that list (pam_shells)",
                format!("echo {shell} >> /etc/shells"),
            ),
            (false, false) => {
                ok(NAME, format!("{shell}, which is not in /etc/shells; nobody here asks for that"))
            }
        }
    }

    fn nologin(&self, account: &Account) -> Option<Check> {
        let file = self.nologin.filter(|_| account.uid != 0)?;
        Some(problem(
            "nologin",
            format!("there is {file}"),
            "while it is there, only root logs in",
            format!("rm {file}, when the machine is ready for others"),
        ))
    }

    /// `DenyUsers`, `AllowUsers`, `DenyGroups`, `AllowGroups`: all four must let the account pass.
    fn admission(&self, effective: &Effective) -> Check {
        const NAME: &str = "admission";
        let patterns = |keyword| effective.all(keyword).flat_map(str::split_whitespace).collect::<Vec<_>>();
        // `user@host` holds for connections from there only.
        let fits_user = |pattern: &&str| matches(pattern.split('@').next().unwrap_or(pattern), &self.name);
        let fits_groups = |pattern: &&str| self.groups.iter().any(|group| matches(pattern, group));
        let [denied, allowed] = ["denyusers", "allowusers"].map(patterns);
        let [denied_groups, allowed_groups] = ["denygroups", "allowgroups"].map(patterns);
        let why = "sshd turns the account away whatever key it comes with";
        let groups = self.groups.join(", ");
        if let Some(pattern) = denied.iter().find(|pattern| fits_user(pattern)) {
            return match pattern.split_once('@') {
                None => problem(NAME, format!("DenyUsers has {pattern}"), why, "take it out of DenyUsers"),
                Some((_, host)) => note(
                    NAME,
                    format!("DenyUsers has {pattern}"),
                    why,
                    format!("connect from elsewhere than {host}, or take it out of DenyUsers"),
                ),
            };
        }
        if !allowed.is_empty() {
            let fitting: Vec<_> = allowed.iter().filter(|pattern| fits_user(pattern)).collect();
            if fitting.is_empty() {
                return problem(
                    NAME,
                    format!("AllowUsers has {}, and not {}", allowed.join(" "), self.name),
                    why,
                    format!("add {} to AllowUsers", self.name),
                );
            }
            if fitting.iter().all(|pattern| pattern.contains('@')) {
                let found = format!(
                    "AllowUsers has it only as {}",
                    fitting.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                );
                return note(
                    NAME,
                    found,
                    "from elsewhere sshd turns it away",
                    format!("connect from there, or add {} to AllowUsers", self.name),
                );
            }
        }
        if let Some(pattern) = denied_groups.iter().find(|pattern| fits_groups(pattern)) {
            return problem(
                NAME,
                format!("DenyGroups has {pattern}, and {} is in {groups}", self.name),
                why,
                "take it out of DenyGroups, or the account out of the group",
            );
        }
        if !allowed_groups.is_empty() && !allowed_groups.iter().any(fits_groups) {
            let found =
                format!("AllowGroups has {}, and {} is in {groups}", allowed_groups.join(" "), self.name);
            return problem(
                NAME,
                found,
                why,
                "put the account into one of those groups, or one of its groups into AllowGroups",
            );
        }
        ok(NAME, "sshd's lists of users and groups let it pass")
    }

    fn root(&self, account: &Account, effective: &Effective) -> Option<Check> {
        let setting = effective.get("permitrootlogin").filter(|_| account.uid == 0)?;
        let mend = "set PermitRootLogin prohibit-password";
        match setting {
            "no" => Some(problem(
                "root-login",
                "PermitRootLogin is no",
                "sshd turns root away whatever key it comes with",
                mend,
            )),
            "forced-commands-only" => Some(problem(
                "root-login",
                "PermitRootLogin is forced-commands-only",
                "a pushed key comes without a command",
                mend,
            )),
            _ => None,
        }
    }

    /// A locked password does not matter to PAM, where a key is concerned. Without PAM, sshd looks at it itself.
    fn locked(&self, effective: &Effective) -> Option<Check> {
        let is_locked = self.field(1)?.starts_with('!');
        if !is_locked || effective.get("usepam") == Some("yes") {
            return None;
        }
        let mend = format!(
            "set UsePAM yes, or give it a password that nobody has: usermod --password '*' {}",
            self.name
        );
        Some(problem(
            "locked",
            "the password is locked (! in /etc/shadow), and UsePAM is not yes",
            "without PAM, sshd turns locked accounts away, keys or not",
            mend,
        ))
    }

    fn expired(&self) -> Option<Check> {
        const NAME: &str = "expired";
        let days = |field: usize| self.field(field)?.parse::<i64>().ok();
        if let Some(expired) = days(7).filter(|last_day| *last_day <= self.today) {
            let found = format!("the account ended {} days ago", self.today - expired);
            return Some(problem(
                NAME,
                found,
                "an expired account is turned away whatever key it comes with",
                format!("chage --expiredate -1 {}", self.name),
            ));
        }
        if days(2) == Some(0) {
            let mend = format!("chage --lastday -1 {}", self.name);
            return Some(problem(
                NAME,
                "the password must be changed at the next login",
                "the session asks for a new password and does nothing else",
                mend,
            ));
        }
        None
    }

    /// A field of `/etc/shadow`, from 0.
    fn field(&self, number: usize) -> Option<&str> {
        self.shadow.as_deref()?.trim_end().split(':').nth(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    fn alice() -> AccountFacts {
        AccountFacts {
            name: "alice".to_owned(),
            account: Account::parse("alice:x:1000:1000::/home/alice:/bin/sh"),
            groups: vec!["alice".to_owned(), "wheel".to_owned()],
            shadow: Some("alice:*:19000:0:99999:7:::".to_owned()),
            shell_is_program: true,
            shells: "/bin/sh\n".to_owned(),
            pam_wants_listed_shell: true,
            veto: Some(HostVeto::default()),
            today: 20_000,
            ..AccountFacts::default()
        }
    }

    /// What is not in order, by check.
    fn found(facts: &AccountFacts, effective: &str) -> Vec<(&'static str, Verdict)> {
        let checks = facts.checks(Some(&Effective::parse(effective)));
        let wrong = checks.into_iter().filter(|check| check.verdict != Verdict::Ok);
        wrong.map(|check| (check.check, check.verdict)).collect()
    }

    #[test]
    fn lists_of_users_and_groups() {
        let rows = [
            ("", None),
            ("allowusers alice", None),
            ("allowusers bob\nallowusers al?ce", None),
            ("allowusers bob", Some(Verdict::Problem)),
            ("allowusers alice@10.0.0.1", Some(Verdict::Note)),
            ("allowusers alice@10.0.0.1\nallowusers a*", None),
            ("denyusers bob", None),
            ("denyusers a*", Some(Verdict::Problem)),
            ("denyusers alice@10.*", Some(Verdict::Note)),
            ("allowusers alice\ndenyusers alice", Some(Verdict::Problem)),
            ("allowgroups wheel", None),
            ("allowgroups adm", Some(Verdict::Problem)),
            ("denygroups adm", None),
            ("denygroups w*", Some(Verdict::Problem)),
        ];
        for (effective, expected) in rows {
            let expected: Vec<_> = expected.map(|verdict| ("admission", verdict)).into_iter().collect();
            assert_eq!(found(&alice(), effective), expected, "{effective}");
        }
    }

    #[test]
    fn passwords_that_are_locked_matter_without_pam_only() {
        let locked = |shadow: &str| AccountFacts { shadow: Some(shadow.to_owned()), ..alice() };
        for (shadow, effective, expected) in [
            ("alice:!:19000:0:99999:7:::", "usepam no", &[("locked", Verdict::Problem)][..]),
            ("alice:!$6$x:19000:0:99999:7:::", "", &[("locked", Verdict::Problem)]),
            ("alice:!:19000:0:99999:7:::", "usepam yes", &[]),
            ("alice:*:19000:0:99999:7:::", "usepam no", &[]),
            ("alice:*:19000:0:99999:7::19999:", "usepam yes", &[("expired", Verdict::Problem)]),
            ("alice:*:19000:0:99999:7::20001:", "usepam yes", &[]),
            ("alice:*:0:0:99999:7:::", "usepam yes", &[("expired", Verdict::Problem)]),
            ("alice", "usepam no", &[]),
        ] {
            assert_eq!(found(&locked(shadow), effective), expected, "{shadow} {effective}");
        }
    }

    #[test]
    fn shells() {
        let with = |shell: &str| AccountFacts {
            account: Account::parse(&format!("alice:x:1000:1000::/home/alice:{shell}")),
            ..alice()
        };
        assert_eq!(found(&with(""), ""), []);
        assert_eq!(found(&with("/usr/sbin/nologin"), ""), [("shell", Verdict::Problem)]);
        assert_eq!(found(&with("/bin/false"), ""), [("shell", Verdict::Problem)]);
        assert_eq!(found(&with("/bin/zsh"), ""), [("shell", Verdict::Problem)]);
        assert_eq!(found(&AccountFacts { pam_wants_listed_shell: false, ..with("/bin/zsh") }, ""), []);
        assert_eq!(
            found(&AccountFacts { shell_is_program: false, ..alice() }, ""),
            [("shell", Verdict::Problem)]
        );
    }

    #[test]
    fn root_needs_more_leave_than_others() {
        let root = AccountFacts {
            name: "root".to_owned(),
            account: Account::parse("root:x:0:0::/root:/bin/sh"),
            nologin: Some("/etc/nologin"),
            veto: HostVeto::parse("allow_users = [\"root\"]").ok(),
            ..alice()
        };
        assert_eq!(found(&root, "permitrootlogin prohibit-password"), []);
        for setting in ["no", "forced-commands-only"] {
            let effective = format!("permitrootlogin {setting}");
            assert_eq!(found(&root, &effective), [("root-login", Verdict::Problem)]);
        }
        let vetoed = AccountFacts { veto: Some(HostVeto::default()), ..root };
        assert_eq!(found(&vetoed, ""), [("veto", Verdict::Problem)]);
        assert_eq!(
            found(&AccountFacts { nologin: Some("/run/nologin"), ..alice() }, ""),
            [("nologin", Verdict::Problem)]
        );
    }

    #[test]
    fn accounts_that_do_not_exist_and_names_that_cannot() {
        assert_eq!(found(&AccountFacts { account: None, ..alice() }, ""), [("account", Verdict::Problem)]);
        let odd = AccountFacts { name: "-x".to_owned(), ..alice() };
        assert_eq!(found(&odd, ""), [("veto", Verdict::Problem)]);
    }
}
