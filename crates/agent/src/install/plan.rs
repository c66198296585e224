//! What is to be changed, decided from what is there: nothing here reads or writes.

use super::block::with_block;
use super::change::Change;
use super::{
    AGENT_GROUP, AGENT_PROGRAM, AGENT_USER, ANCHORS_SERVICE, ANCHORS_UNIT, COMMAND_PROGRAM, DROP_IN, ETC,
    InstallFailure, KEYS_GROUP, KEYS_USER, LOCAL_UNITS, METADATA_ADDRESS_UNIT, METADATA_UNIT, PACKAGED_UNITS,
    PAM, RUN, SESSION_PROGRAM, STATE, UNIT, WANTED_BY,
};
use crate::sshd::{COMMAND, COMMAND_USER, Effective, Setting, UnitOptions, words};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    /// Where sshd's configuration is, by its path in the system.
    pub(super) config: PathBuf,
    /// Its text.
    pub(super) config_text: String,
    /// Whether it has lines of ours.
    pub(super) has_block: bool,
    /// What others have written into it and what it includes, line by line.
    pub(super) settings: Vec<Setting>,
    /// What sshd makes of it.
    pub(super) effective: Effective,
    /// What its service adds.
    pub(super) unit_options: Option<UnitOptions>,
    /// Which units packages have brought.
    pub(super) packaged_units: Vec<&'static str>,
    /// Whether systemd is what starts services there.
    pub(super) has_systemd: bool,
    /// What PAM does for sshd, if lines of ours can stand there.
    pub(super) pam_text: Option<String>,
    /// The program that PAM will run when a login begins and ends.
    pub(super) session_program: PathBuf,
    /// Whether it is one that nothing is loaded into.
    pub(super) session_is_static: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) no_chain: bool,
    pub(super) mask_drop_in: bool,
}

/// The command that sshd asks, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshdCommand {
    pub(super) command: String,
    pub(super) user: String,
}

/// What is to be done, in this order: at each moment sshd's files are good.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// What sshd is to ask in the end.
    pub(super) sshd: SshdCommand,
    /// The command that was there before.
    pub(super) chained: Option<SshdCommand>,
}

/// The units that are put where no package has brought them.
pub(super) const SHIPPED_UNITS: [(&str, &str); 5] = [
    (UNIT, include_str!("../../../../packaging/systemd/instance-connect-agent.service")),
    (ANCHORS_UNIT, include_str!("../../../../packaging/systemd/instance-connect-anchors.path")),
    (ANCHORS_SERVICE, include_str!("../../../../packaging/systemd/instance-connect-anchors.service")),
    // Not enabled: root does that on a machine with the distribution's own host package (docs/metadata.md).
    (METADATA_UNIT, include_str!("../../../../packaging/systemd/instance-connect-metadata.socket")),
    (
        METADATA_ADDRESS_UNIT,
        include_str!("../../../../packaging/systemd/instance-connect-metadata-address.service"),
    ),
];

impl Survey {
    pub(super) fn plan(&self, wishes: Wishes) -> Result<Plan, InstallFailure> {
        let masked =
            self.unit_options.as_ref().map(|options| mask(options, wishes.mask_drop_in)).transpose()?;
        let chained = if wishes.no_chain { None } else { self.existing()? };
        let sshd = ours(chained.as_ref());
        let mut changes = vec![
            // The first, for the record of all others lies there.
            Change::Directory { path: ETC.into(), owner: "root", group: "root", mode: 0o755 },
            Change::Users,
            Change::Directory { path: STATE.into(), owner: AGENT_USER, group: AGENT_GROUP, mode: 0o700 },
            Change::Directory { path: RUN.into(), owner: AGENT_USER, group: KEYS_GROUP, mode: 0o2750 },
            Change::Program { path: AGENT_PROGRAM.into() },
            Change::Program { path: COMMAND_PROGRAM.into() },
            Change::Program { path: SESSION_PROGRAM.into() },
        ];
        if sshd.user != KEYS_USER && sshd.user != "root" {
            changes.push(Change::Member { user: sshd.user.clone() });
        }
        if self.has_systemd {
            let is_packaged = |name: &str| self.packaged_units.contains(&name);
            let own = SHIPPED_UNITS.iter().filter(|(name, _)| !is_packaged(name));
            changes.extend(own.map(|(name, unit)| Change::file(Path::new(LOCAL_UNITS).join(name), unit)));
            changes.extend([UNIT, ANCHORS_UNIT].map(|unit| Change::Link {
                path: Path::new(WANTED_BY).join(unit),
                target: Path::new(if is_packaged(unit) { PACKAGED_UNITS } else { LOCAL_UNITS }).join(unit),
            }));
        }
        changes.extend(self.pam_change()?);
        changes.extend(masked);
        changes.push(self.sshd_change(&sshd));
        Ok(Plan { changes, sshd, chained })
    }

    /// Whether PAM tells us of logins.
    pub(super) fn hears_of_logins(&self) -> bool {
        self.effective.get("usepam") == Some("yes") && self.pam_text.is_some()
    }

    /// Our line in sshd's PAM stack. It is the first of all: a module before it could set variables, some of which users
    /// choose (`pam_env` with `user_readenv`), and have it speak of another key. When the login closes, those are there all the
    /// same: so the program takes PAM's own word only, and has no dynamic loader that would listen to them, as root.
    fn pam_change(&self) -> Result<Option<Change>, InstallFailure> {
        let Some(text) = self.pam_text.as_ref().filter(|_| self.hears_of_logins()) else { return Ok(None) };
        if !self.session_is_static {
            return Err(InstallFailure::NotStatic(self.session_program.clone()));
        }
        let line = format!("session optional pam_exec.so quiet {SESSION_PROGRAM}\n");
        Ok(Some(Change::Block { path: PAM.into(), content: with_block(text, &line) }))
    }

    /// The command that sshd asks today, ours left out.
    fn existing(&self) -> Result<Option<SshdCommand>, InstallFailure> {
        let on_command_line = self.unit_options.as_ref().and_then(|options| options.command.clone());
        let command = on_command_line.or_else(|| self.in_files(COMMAND));
        let Some(command) = command.filter(|command| !command.eq_ignore_ascii_case("none")) else {
            return Ok(None);
        };
        let on_command_line = self.unit_options.as_ref().and_then(|options| options.user.clone());
        let user = on_command_line.or_else(|| self.in_files(COMMAND_USER));
        match user {
            None => Err(InstallFailure::ChainedWithoutUser(command)),
            // A token names another user at each login: that is nobody who could be put into a group.
            Some(user) if user.contains('%') => Err(InstallFailure::ChainedUser(user)),
            Some(user) => Ok(Some(SshdCommand { command, user })),
        }
    }

    /// What sshd says that its files say. Where that is our own, what they would say without us.
    fn in_files(&self, keyword: &str) -> Option<String> {
        if !self.effective.get(COMMAND).is_some_and(is_ours) {
            return self.effective.get(keyword).map(str::to_owned);
        }
        let mut global = self.settings.iter().filter(|setting| setting.matching.is_none());
        global.find(|setting| setting.keyword == keyword).map(|setting| setting.value.clone())
    }

    /// A file of our own where sshd would read it before any other command; else lines at the beginning of its
    /// configuration, which are before everything.
    fn sshd_change(&self, sshd: &SshdCommand) -> Change {
        let lines =
            format!("AuthorizedKeysCommand {}\nAuthorizedKeysCommandUser {}\n", sshd.command, sshd.user);
        if self.drop_in_comes_first() {
            let head = "# Written by `instance-connect-agent install`, removed by `instance-connect-agent uninstall`.\n\
                        # sshd asks this command for keys; it prints those pushed within the last minute.\n";
            return Change::file(DROP_IN.into(), &format!("{head}{lines}"));
        }
        Change::Block { path: self.config.clone(), content: with_block(&self.config_text, &lines) }
    }

    /// Whether a file named [`DROP_IN`] would be the first that names a command or its user.
    fn drop_in_comes_first(&self) -> bool {
        let drop_in = Path::new(DROP_IN);
        let global = || self.settings.iter().filter(|setting| setting.matching.is_none());
        let Some(include) = global().position(|setting| setting.includes(drop_in)) else { return false };
        // Those behind the Include are read after ours, unless they come by it too and sort before.
        let is_before = |position: usize, setting: &Setting| {
            position < include
                || setting.file.parent() == drop_in.parent() && setting.file.as_path() < drop_in
        };
        let is_command = |setting: &Setting| [COMMAND, COMMAND_USER].contains(&setting.keyword.as_str());
        let mut settings = global().enumerate();
        !self.has_block
            && !settings.any(|(position, setting)| is_command(setting) && is_before(position, setting))
    }

    /// For whom another command is set, behind a Match that beats what holds for everybody.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| setting.matching.is_some() && setting.keyword == COMMAND)
    }
}

/// Whether a command is ours, wherever it is installed.
pub(crate) fn is_ours(command: &str) -> bool {
    words(command).first().is_some_and(|program| program == COMMAND_PROGRAM)
}

fn ours(chained: Option<&SshdCommand>) -> SshdCommand {
    let command = format!("{COMMAND_PROGRAM} %u %f %U");
    match chained {
        None => SshdCommand { command, user: KEYS_USER.to_owned() },
        Some(chained) => SshdCommand {
            command: format!("{command} --chain {}", chained.command),
            user: chained.user.clone(),
        },
    }
}

/// A link that makes systemd pass over the drop-in with the option, if that is wanted and possible.
fn mask(options: &UnitOptions, wanted: bool) -> Result<Change, InstallFailure> {
    let file = options.file.as_path();
    let is_drop_in =
        file.extension().is_some_and(|extension| extension == "conf") && !file.starts_with("/etc");
    let unit = file.parent().and_then(Path::file_name);
    match (unit, file.file_name()) {
        (Some(unit), Some(name)) if wanted && is_drop_in => Ok(Change::Link {
            path: Path::new(LOCAL_UNITS).join(unit).join(name),
            target: "/dev/null".into(),
        }),
        _ => Err(InstallFailure::CommandLine {
            file: file.to_owned(),
            options: options.arguments().join(" "),
            mend: if is_drop_in {
                "With --mask-unit-drop-in that file is masked (systemd passes over it, the package stays), and its command is asked after ours"
            } else {
                "Take the option out there, put it into /etc/ssh/sshd_config if it is still needed, and run this again"
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;
    use crate::sshd::read_config;
    use std::fs;

    const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf\n";
    const CONFIG: &str = "/etc/ssh/sshd_config";

    /// A machine with these files in /etc/ssh, of which sshd says this.
    fn survey(files: &[(&str, &str)], effective: &str) -> Survey {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc/ssh/sshd_config.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join("etc/ssh").join(name), text).unwrap();
        }
        let root = Root::new(directory.path()).unwrap();
        Survey {
            config: CONFIG.into(),
            config_text: fs::read_to_string(root.path(CONFIG)).unwrap(),
            has_block: false,
            settings: read_config(&root, Path::new(CONFIG)).unwrap(),
            effective: Effective::parse(effective),
            unit_options: None,
            packaged_units: SHIPPED_UNITS.map(|(name, _)| name).to_vec(),
            has_systemd: true,
            pam_text: Some("session required pam_unix.so\n".to_owned()),
            session_program: SESSION_PROGRAM.into(),
            session_is_static: true,
        }
    }

    fn is_drop_in(plan: &Plan) -> bool {
        match plan.changes.last() {
            Some(Change::File { path, .. }) => path == Path::new(DROP_IN),
            Some(Change::Block { path, content }) => {
                assert_eq!(path, Path::new(CONFIG));
                assert!(content.contains(&format!("\nAuthorizedKeysCommand {}\n", plan.sshd.command)));
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// The drop-in where it is the first to speak, and otherwise lines at the beginning of sshd_config.
    #[test]
    fn where_our_lines_go() {
        let command = "AuthorizedKeysCommand /bin/x\nAuthorizedKeysCommandUser x\n";
        let in_match = format!("Match User a\n{command}");
        let rows: [(&[(&str, &str)], bool); 12] = [
            (&[("sshd_config", INCLUDE)], true),
            (&[("sshd_config", "Include sshd_config.d/*.conf\nUsePAM yes\n")], true),
            (&[("sshd_config", "Include /etc/ssh/other.conf \"/etc/ssh/sshd_config.d/*.conf\"\n")], true),
            (&[("sshd_config", "UsePAM yes\n")], false),
            (&[("sshd_config", "Include /etc/ssh/sshd_config.d/*.local\n")], false),
            (&[("sshd_config", &format!("Match User a\n{INCLUDE}"))], false),
            (&[("sshd_config", &format!("{command}{INCLUDE}"))], false),
            (&[("sshd_config", &format!("AuthorizedKeysCommandUser x\n{INCLUDE}"))], false),
            (&[("sshd_config", &format!("{INCLUDE}{command}"))], true),
            (&[("sshd_config", INCLUDE), ("sshd_config.d/50-sss.conf", command)], true),
            (&[("sshd_config", INCLUDE), ("sshd_config.d/00-a.conf", command)], false),
            (&[("sshd_config", INCLUDE), ("sshd_config.d/00-a.conf", &in_match)], true),
        ];
        for (files, expected) in rows {
            let plan = survey(files, "authorizedkeyscommand none").plan(Wishes::default()).unwrap();
            assert_eq!(is_drop_in(&plan), expected, "{files:?}");
            assert_eq!(plan.sshd, ours(None));
        }
    }

    #[test]
    fn pam_tells_us_of_logins_where_sshd_uses_it() {
        let line = format!("session optional pam_exec.so quiet {SESSION_PROGRAM}\n");
        for (effective, has_text, expected) in [
            ("usepam yes", true, true),
            ("usepam no", true, false),
            ("usepam yes", false, false),
            ("", true, false),
        ] {
            let survey = survey(&[("sshd_config", INCLUDE)], effective);
            let survey = Survey { pam_text: survey.pam_text.clone().filter(|_| has_text), ..survey };
            let changes = survey.plan(Wishes::default()).unwrap().changes;
            let ours = changes.iter().find_map(|change| match change {
                Change::Block { path, content } if path == Path::new(PAM) => Some(content),
                _ => None,
            });
            assert_eq!(ours.is_some(), expected, "{effective} {has_text}");
            if let Some(content) = ours {
                let (before, after) = content.split_once(&line).unwrap();
                assert!(before.lines().all(|line| line.starts_with('#')));
                assert!(after.ends_with("session required pam_unix.so\n"));
            }
        }
    }

    /// A package of an earlier version has brought one of them only.
    #[test]
    fn units_that_no_package_has_brought_are_written() {
        let survey = survey(&[("sshd_config", INCLUDE)], "");
        let changes =
            Survey { packaged_units: vec![UNIT], ..survey }.plan(Wishes::default()).unwrap().changes;
        let local = |name: &str| Path::new(LOCAL_UNITS).join(name);
        for (name, _) in SHIPPED_UNITS {
            let is_written = changes
                .iter()
                .any(|change| matches!(change, Change::File { path, .. } if *path == local(name)));
            assert_eq!(is_written, name != UNIT, "{name}");
        }
        for (unit, directory) in [(UNIT, PACKAGED_UNITS), (ANCHORS_UNIT, LOCAL_UNITS)] {
            let (path, target) = (Path::new(WANTED_BY).join(unit), Path::new(directory).join(unit));
            assert!(changes.contains(&Change::Link { path, target }), "{unit}");
        }
    }

    /// With `LD_PRELOAD` in `~/.pam_environment` everybody would be root.
    #[test]
    fn pam_runs_no_program_that_loads_others() {
        for (effective, is_refused) in [("usepam yes", true), ("usepam no", false)] {
            let survey = survey(&[("sshd_config", INCLUDE)], effective);
            let plan = Survey { session_is_static: false, ..survey }.plan(Wishes::default());
            assert_eq!(matches!(plan, Err(InstallFailure::NotStatic(_))), is_refused, "{effective}");
        }
    }

    #[test]
    fn a_block_stays_a_block() {
        let with_block = Survey { has_block: true, ..survey(&[("sshd_config", INCLUDE)], "") };
        assert!(!is_drop_in(&with_block.plan(Wishes::default()).unwrap()));
    }

    #[test]
    fn a_command_that_is_there_is_chained_and_its_user_gets_at_the_keys() {
        let files = [
            ("sshd_config", INCLUDE),
            ("sshd_config.d/50-sss.conf", "AuthorizedKeysCommand /bin/x \"%u\" %k\n"),
        ];
        let effective = "authorizedkeyscommand /bin/x \"%u\" %k\nauthorizedkeyscommanduser nobody\n";
        let survey_before = survey(&files, effective);
        let plan = survey_before.plan(Wishes::default()).unwrap();
        let expected = format!("{COMMAND_PROGRAM} %u %f %U --chain /bin/x \"%u\" %k");
        assert_eq!(plan.sshd, SshdCommand { command: expected.clone(), user: "nobody".to_owned() });
        assert!(plan.changes.contains(&Change::Member { user: "nobody".to_owned() }));
        let alone = survey_before.plan(Wishes { no_chain: true, ..Wishes::default() }).unwrap();
        assert_eq!((alone.sshd, alone.chained), (ours(None), None));

        // Once ours is in effect, what stands behind it is chained, and not ours behind ours.
        let files = [
            files[0],
            ("sshd_config.d/50-sss.conf", "AuthorizedKeysCommand /bin/y\nAuthorizedKeysCommandUser root\n"),
        ];
        let effective = format!("authorizedkeyscommand {expected}\nauthorizedkeyscommanduser nobody\n");
        let plan = survey(&files, &effective).plan(Wishes::default()).unwrap();
        assert_eq!(plan.sshd.command, format!("{COMMAND_PROGRAM} %u %f %U --chain /bin/y"));
        assert_eq!(plan.sshd.user, "root");
        // Root reads everything.
        assert!(!plan.changes.iter().any(|change| matches!(change, Change::Member { .. })));
        let plan = survey(&[("sshd_config", INCLUDE)], &effective).plan(Wishes::default()).unwrap();
        assert_eq!(plan.sshd, ours(None));
    }

    #[test]
    fn a_command_that_cannot_be_chained_is_not_lost_in_silence() {
        let files = [("sshd_config", INCLUDE)];
        let refused = |effective| survey(&files, effective).plan(Wishes::default()).map(drop).unwrap_err();
        let refusal = refused("authorizedkeyscommand /bin/x\nauthorizedkeyscommanduser none");
        assert!(matches!(refusal, InstallFailure::ChainedWithoutUser(_)), "{refusal}");
        let refusal = refused("authorizedkeyscommand /bin/x\nauthorizedkeyscommanduser %u");
        assert!(matches!(refusal, InstallFailure::ChainedUser(_)), "{refusal}");
    }

    #[test]
    fn an_option_on_the_command_line_is_named_and_masked_only_if_that_is_wanted() {
        let with_option = |file: &str| Survey {
            unit_options: Some(UnitOptions {
                file: file.into(),
                command: Some("/eic %u".to_owned()),
                user: Some("eic".to_owned()),
            }),
            ..survey(&[("sshd_config", INCLUDE)], "")
        };
        let packaged = with_option("/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf");
        let refusal = packaged.plan(Wishes::default()).unwrap_err().to_string();
        assert!(refusal.contains("-o authorizedkeyscommand=/eic %u"), "{refusal}");
        assert!(refusal.contains("--mask-unit-drop-in"), "{refusal}");
        let wanted = Wishes { mask_drop_in: true, ..Wishes::default() };
        let plan = packaged.plan(wanted).unwrap();
        let mask = "/etc/systemd/system/ssh.service.d/ec2-instance-connect.conf";
        assert!(plan.changes.contains(&Change::Link { path: mask.into(), target: "/dev/null".into() }));
        assert_eq!(plan.sshd.command, format!("{COMMAND_PROGRAM} %u %f %U --chain /eic %u"));
        assert_eq!(plan.sshd.user, "eic");
        // The administrator's own file is not ours to mask.
        for file in [mask, "/etc/default/ssh"] {
            let refusal = with_option(file).plan(wanted).unwrap_err().to_string();
            assert!(refusal.contains("Take the option out there"), "{refusal}");
        }
    }
}
