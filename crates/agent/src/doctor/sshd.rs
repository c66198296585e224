//! Checks of sshd: does it ask our command for this login, and would it take the answer?

use super::check::{Check, note, ok, problem};
use crate::install::{COMMAND_PROGRAM, DROP_IN, KEYS_USER, is_ours};
use crate::sshd::{COMMAND, COMMAND_USER, Effective, Setting, UnitOptions, words};
use std::path::{Path, PathBuf};

/// What is known about sshd.
#[derive(Debug, Default)]
pub(super) struct SshdFacts {
    /// Where it is.
    pub(super) program: Option<PathBuf>,
    /// What it says about its files, and what holds for this login: `Err` is its complaint.
    pub(super) effective: Option<Result<Effective, String>>,
    /// What its files say.
    pub(super) settings: Vec<Setting>,
    /// What its service adds.
    pub(super) unit_options: Option<UnitOptions>,
    /// Whether our drop-in is there.
    pub(super) has_drop_in: bool,
    pub(super) running: Running,
    /// Whether sshd would run the program of its command: `Err` says why not.
    pub(super) command_is_safe: Option<Result<(), String>>,
    /// How our command ended when it was run as sshd would, for a key that nobody has.
    pub(super) trial: Option<Result<(), String>>,
    /// Whether the command behind ours would be run.
    pub(super) chained_is_safe: Option<Result<(), String>>,
    /// Root wants a metadata service, which the distribution's scripts ask.
    pub(super) serves_scripts: bool,
    /// SELinux is enforcing, and our policy is not loaded.
    pub(super) selinux_without_policy: Option<bool>,
}

/// The sshd that waits for connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Running {
    #[default]
    Unknown,
    /// It has read its files after the last change to them.
    Current,
    /// This file has been changed since.
    Outdated(PathBuf),
}

const NOT_ASKED: &str = "sshd asks one command for keys. Where it is not ours, it never hears of pushed keys";
const INSTALL: &str = "instance-connect-agent install";

impl SshdFacts {
    pub(super) fn checks(&self, user: Option<&str>) -> Vec<Check> {
        let Some(program) = &self.program else {
            let why = "logins are OpenSSH's; without its server there are none";
            return vec![problem(
                "sshd",
                "there is no sshd on this machine",
                why,
                "install OpenSSH's server",
            )];
        };
        let effective = match &self.effective {
            Some(Ok(effective)) => effective,
            Some(Err(complaint)) => {
                let found = format!("{} refuses its configuration:\n{complaint}", program.display());
                let why = "sshd does not start like this; one that runs goes on with what it read earlier";
                return vec![problem("sshd", found, why, "correct the line it names, then: sshd -t")];
            }
            None => return vec![note("sshd", "not looked at", "only root may ask sshd", "run this as root")],
        };
        let mut checks = vec![ok("sshd", format!("{} accepts its configuration", program.display()))];
        checks.push(self.command(effective, user));
        checks.extend(self.command_path());
        checks.extend(self.trial(effective));
        checks.extend(self.chained());
        checks.push(self.reloaded());
        checks.extend(public_keys(effective));
        checks.extend(methods(effective));
        checks.extend(self.selinux());
        checks
    }

    /// Is it ours that sshd asks, and if not, which line is to blame?
    fn command(&self, effective: &Effective, user: Option<&str>) -> Check {
        const NAME: &str = "sshd-command";
        if let Some(asked) = self.asked(effective).filter(|asked| self.serves_scripts && is_stock(asked)) {
            let beside = if self.has_drop_in { "; ours, which is installed, is not asked" } else { "" };
            return ok(
                NAME,
                format!("sshd asks the distribution's {asked}, and that the metadata service{beside}"),
            );
        }
        let on_command_line =
            self.unit_options.as_ref().and_then(|options| options.command.as_ref().zip(Some(options)));
        if let Some((command, options)) = on_command_line {
            let found =
                format!("{} starts sshd with -o AuthorizedKeysCommand={command}", options.file.display());
            let why = "an option on sshd's command line beats every file, so ours is not asked";
            return problem(
                NAME,
                found,
                why,
                format!("{INSTALL} --mask-unit-drop-in, or take the option out there"),
            );
        }
        let command = effective.get(COMMAND).unwrap_or("none");
        if is_ours(command) {
            let asked_as = effective.get(COMMAND_USER).unwrap_or("none");
            return ok(NAME, format!("sshd asks {command} as {asked_as}"));
        }
        let for_some = self.first(|setting| setting.matching.is_some() && setting.value == command);
        let for_all = self.first(|setting| setting.matching.is_none());
        match (for_some, for_all) {
            (Some(setting), Some(global)) if is_ours(&global.value) => {
                let matching = setting.matching.as_deref().unwrap_or_default();
                let found = format!(
                    "{}, under \"Match {matching}\", has sshd ask {command} for {}",
                    setting.place(),
                    user.unwrap_or("this login")
                );
                problem(
                    NAME,
                    found,
                    NOT_ASKED,
                    "take that line out, or have it end with what stands in our file",
                )
            }
            (_, Some(setting)) if self.has_drop_in && !is_ours(&setting.value) => {
                let found = format!("{} comes before {DROP_IN} and has sshd ask {command}", setting.place());
                problem(NAME, found, "sshd takes the first value that it meets", INSTALL)
            }
            (_, _) if self.has_drop_in => {
                let found = format!("no Include line has sshd read {DROP_IN}; it asks {command}");
                problem(NAME, found, NOT_ASKED, INSTALL)
            }
            (_, _) => problem(NAME, format!("sshd asks {command}"), NOT_ASKED, INSTALL),
        }
    }

    /// The command that sshd asks: an option on its command line beats every file.
    fn asked<'a>(&'a self, effective: &'a Effective) -> Option<&'a str> {
        let option = self.unit_options.as_ref().and_then(|options| options.command.as_deref());
        option.or_else(|| effective.get(COMMAND))
    }

    /// Whether it is the distribution's own.
    pub(super) fn asks_scripts(&self) -> bool {
        let Some(Ok(effective)) = &self.effective else { return false };
        self.asked(effective).is_some_and(is_stock)
    }

    fn first(&self, which: impl Fn(&&Setting) -> bool) -> Option<&Setting> {
        self.settings.iter().filter(|setting| setting.keyword == COMMAND).find(which)
    }

    fn command_path(&self) -> Option<Check> {
        let why = "sshd runs no command that others than root could replace, and none above which they could";
        Some(match self.command_is_safe.as_ref()? {
            Ok(()) => ok("command-path", "the command and all above it are root's alone"),
            Err(reason) => problem(
                "command-path",
                reason.clone(),
                why,
                "chown root and chmod go-w what is named here; what is missing comes with the package",
            ),
        })
    }

    fn trial(&self, effective: &Effective) -> Option<Check> {
        let why = "sshd counts a command that fails as one that knows no key";
        let user = effective.get(COMMAND_USER).unwrap_or(KEYS_USER);
        Some(match self.trial.as_ref()? {
            Ok(()) => ok("command-runs", format!("as {user} it answers")),
            Err(reason) => problem(
                "command-runs",
                format!("as {user}: {reason}"),
                why,
                format!("{INSTALL}; it makes the user, its group and the directories"),
            ),
        })
    }

    fn chained(&self) -> Option<Check> {
        let why = "keys that only the other command knows do not log in. Pushed keys do";
        Some(match self.chained_is_safe.as_ref()? {
            Ok(()) => ok("chained-command", "the command behind ours may be run"),
            Err(reason) => {
                note("chained-command", reason.clone(), why, "chown root and chmod go-w what is named here")
            }
        })
    }

    fn reloaded(&self) -> Check {
        const NAME: &str = "sshd-reloaded";
        match &self.running {
            Running::Current => ok(NAME, "the running sshd has read its files since they were changed last"),
            Running::Outdated(file) => {
                let found = format!("{} was changed after the running sshd had read it", file.display());
                problem(NAME, found, "sshd goes on with what it read", "systemctl reload ssh (or sshd)")
            }
            Running::Unknown => {
                let why = "an sshd that was started before its files were changed does not know of it";
                note(
                    NAME,
                    "no running sshd was found by its pid file",
                    why,
                    "if one runs: systemctl reload ssh (or sshd)",
                )
            }
        }
    }

    fn selinux(&self) -> Option<Check> {
        let why =
            "sshd is confined: without a policy that says so, it may not read what the agent has written";
        Some(match self.selinux_without_policy? {
            true => problem(
                "selinux",
                "SELinux is enforcing, and our policy module is not loaded",
                why,
                "semodule -i /usr/share/selinux/packages/instance_connect.pp, then restorecon -RF /run/instance-connect /usr/libexec/instance-connect",
            ),
            false => ok("selinux", "enforcing, with our policy module"),
        })
    }
}

/// Does sshd take public keys, and of the types that are pushed?
fn public_keys(effective: &Effective) -> Vec<Check> {
    const NAME: &str = "public-keys";
    if effective.get("pubkeyauthentication") == Some("no") {
        let why = "a pushed key is a public key";
        return vec![problem(
            NAME,
            "PubkeyAuthentication is no for this login",
            why,
            "set PubkeyAuthentication yes",
        )];
    }
    // The name until OpenSSH 8.5.
    let accepted = ["pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"]
        .iter()
        .find_map(|keyword| effective.get(keyword));
    let Some(accepted) = accepted else { return vec![ok(NAME, "accepted")] };
    let accepts = |algorithms: &[&str]| accepted.split(',').any(|algorithm| algorithms.contains(&algorithm));
    let types = [("ED25519", &["ssh-ed25519"][..]), ("RSA", &["rsa-sha2-512", "rsa-sha2-256"][..])];
    let refused: Vec<&str> =
        types.iter().filter(|(_, algorithms)| !accepts(algorithms)).map(|(name, _)| *name).collect();
    let why = "sshd turns such keys away before it asks any command";
    let mend = "add them to PubkeyAcceptedAlgorithms, or push keys of another type";
    vec![match refused.as_slice() {
        [] => ok(NAME, "accepted, ED25519 and RSA"),
        [one] => note(NAME, format!("sshd refuses {one} keys"), why, mend),
        all => problem(NAME, format!("sshd refuses {} keys", all.join(" and ")), why, mend),
    }]
}

/// Is a key enough?
fn methods(effective: &Effective) -> Option<Check> {
    const NAME: &str = "methods";
    let methods: Vec<&str> = effective.all("authenticationmethods").flat_map(str::split_whitespace).collect();
    let is_enough = |list: &&str| ["any", "publickey"].contains(list);
    if methods.is_empty() || methods.iter().any(is_enough) {
        return None;
    }
    let found = format!("AuthenticationMethods is {}", methods.join(" "));
    let has_key = |list: &&str| list.split(',').any(|method| method == "publickey");
    Some(if methods.iter().any(has_key) {
        note(
            NAME,
            found,
            "a key alone does not log in here",
            "answer what else is asked, or add publickey as a list of its own",
        )
    } else {
        problem(NAME, found, "no public key logs in here", "add publickey as a list of its own")
    })
}

/// Whether a command is that of the distributions' host package (wire.md 3.9).
fn is_stock(command: &str) -> bool {
    program_of(command).file_name().is_some_and(|name| name == "eic_run_authorized_keys")
}

/// The command behind ours, with its arguments.
pub(super) fn chained_command(command: &str) -> Option<String> {
    words(command).into_iter().skip_while(|word| word != "--chain").nth(1)
}

/// Whether the program of a command is ours, where it is.
pub(super) fn program_of(command: &str) -> PathBuf {
    words(command).into_iter().next().map_or_else(|| Path::new(COMMAND_PROGRAM).to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    const OURS: &str = "authorizedkeyscommand /usr/libexec/instance-connect/instance-connect-authorized-keys %u %f %U\nauthorizedkeyscommanduser instance-connect-keys\n";

    fn facts(effective: &str) -> SshdFacts {
        SshdFacts {
            program: Some("/usr/sbin/sshd".into()),
            effective: Some(Ok(Effective::parse(effective))),
            has_drop_in: true,
            running: Running::Current,
            ..SshdFacts::default()
        }
    }

    fn setting(file: &str, value: &str, matching: Option<&str>) -> Setting {
        Setting {
            file: file.into(),
            line: 7,
            keyword: COMMAND.to_owned(),
            value: value.to_owned(),
            matching: matching.map(str::to_owned),
        }
    }

    fn found(facts: &SshdFacts) -> Vec<(&'static str, Verdict, String)> {
        let checks = facts.checks(Some("alice")).into_iter().filter(|check| check.verdict != Verdict::Ok);
        checks.map(|check| (check.check, check.verdict, check.found)).collect()
    }

    #[test]
    fn whose_command_it_is_and_who_is_to_blame() {
        assert_eq!(found(&facts(OURS)), []);
        let blamed = |facts: &SshdFacts| match found(facts).as_slice() {
            [("sshd-command", Verdict::Problem, found)] => found.clone(),
            other => panic!("{other:?}"),
        };
        let other = "authorizedkeyscommand /bin/x %u\n";
        assert_eq!(blamed(&SshdFacts { has_drop_in: false, ..facts(other) }), "sshd asks /bin/x %u");
        assert!(blamed(&facts(other)).starts_with("no Include line"));
        let ours = setting(DROP_IN, &format!("{COMMAND_PROGRAM} %u %f %U"), None);
        let earlier = vec![setting("/etc/ssh/sshd_config.d/00-a.conf", "/bin/x %u", None), ours.clone()];
        let said = blamed(&SshdFacts { settings: earlier, ..facts(other) });
        assert!(said.starts_with("/etc/ssh/sshd_config.d/00-a.conf line 7 comes before"), "{said}");
        let in_match = vec![ours, setting("/etc/ssh/sshd_config", "/bin/x %u", Some("Group a"))];
        let said = blamed(&SshdFacts { settings: in_match, ..facts(other) });
        assert!(said.starts_with("/etc/ssh/sshd_config line 7, under \"Match Group a\""), "{said}");
        let option = UnitOptions { file: "/x.conf".into(), command: Some("/bin/y".to_owned()), user: None };
        let said = blamed(&SshdFacts { unit_options: Some(option), ..facts(OURS) });
        assert!(said.starts_with("/x.conf starts sshd with -o"), "{said}");
    }

    /// Where a metadata service is wanted, the distribution's scripts may be what sshd asks.
    #[test]
    fn the_distributions_scripts_are_as_good_as_ours_where_they_are_served() {
        let stock = "/usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f";
        let configured = format!("authorizedkeyscommand {stock}\n");
        let option = || UnitOptions { file: "/x.conf".into(), command: Some(stock.to_owned()), user: None };
        let rows = [
            (facts(&configured), true),
            (SshdFacts { unit_options: Some(option()), ..facts(OURS) }, true),
            (facts(OURS), false),
        ];
        for (facts, asks_scripts) in rows {
            assert_eq!(facts.asks_scripts(), asks_scripts);
            let is_asked = |facts: &SshdFacts| found(facts).is_empty();
            assert_eq!(is_asked(&facts), !asks_scripts, "{facts:?}");
            assert!(is_asked(&SshdFacts { serves_scripts: true, ..facts }));
        }
    }

    #[test]
    fn keys_and_methods() {
        let rows = [
            ("pubkeyauthentication no", Some(("public-keys", Verdict::Problem))),
            ("pubkeyauthentication yes", None),
            ("pubkeyacceptedalgorithms ssh-ed25519,rsa-sha2-256", None),
            ("pubkeyacceptedkeytypes ecdsa-sha2-nistp256", Some(("public-keys", Verdict::Problem))),
            ("pubkeyacceptedalgorithms ssh-ed25519", Some(("public-keys", Verdict::Note))),
            ("authenticationmethods any", None),
            ("authenticationmethods password publickey", None),
            ("authenticationmethods publickey,password", Some(("methods", Verdict::Note))),
            ("authenticationmethods password", Some(("methods", Verdict::Problem))),
        ];
        for (line, expected) in rows {
            let found = found(&facts(&format!("{OURS}{line}\n")));
            assert_eq!(found.first().map(|(check, verdict, _)| (*check, *verdict)), expected, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_a_note_and_what_is_not_there_a_problem() {
        let unseen = SshdFacts { effective: None, ..facts("") };
        assert!(matches!(found(&unseen).as_slice(), [("sshd", Verdict::Note, _)]));
        assert!(matches!(found(&SshdFacts::default()).as_slice(), [("sshd", Verdict::Problem, _)]));
        let unknown = SshdFacts { running: Running::Unknown, ..facts(OURS) };
        assert!(matches!(found(&unknown).as_slice(), [("sshd-reloaded", Verdict::Note, _)]));
    }

    #[test]
    fn programs_in_a_command() {
        let command = "/a/b %u --chain \"/c d/e\" %k";
        assert_eq!(program_of(command), Path::new("/a/b"));
        assert_eq!(chained_command(command).as_deref(), Some("/c d/e"));
        assert_eq!(chained_command("/a/b %u"), None);
    }
}
