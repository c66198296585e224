//! Checks of the metadata service, and of what the distributions' own host scripts look at on this machine before they believe it
//! (wire.md 3.3; docs/metadata.md): would they give sshd a pushed key?

use super::check::{Check, Verdict, note, ok, problem};
use super::units::Unit;
use crate::install::{METADATA_UNIT, UNIT};
use crate::metadata::{METADATA_ADDRESS, Own};
use crate::status::duration;
use instance_connect_core::document::InstanceId;
use instance_connect_core::ids::AvailabilityZone;
use instance_connect_core::limits::STAPLES_BACKDATED;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What is known, on a machine that has the scripts, or whose root wants the service.
#[derive(Debug)]
pub(super) struct MetadataFacts {
    /// Where the scripts are, if they are installed.
    pub(super) scripts: Option<PathBuf>,
    /// What root has decided for the machine itself.
    pub(super) settings: Result<Option<Own>, String>,
    /// For how many guests besides.
    pub(super) guests: usize,
    /// `None` where systemd is not what starts services.
    pub(super) unit: Option<Unit>,
    /// Which instance this is.
    pub(super) instance: Option<InstanceId>,
    /// What was answered at the service's address, or why nothing was; `None` where nobody was asked.
    pub(super) answer: Option<Result<Answer, String>>,
    /// `/sys/hypervisor/uuid`.
    pub(super) hypervisor: Option<String>,
    /// `/sys/devices/virtual/dmi/id/board_asset_tag`.
    pub(super) board_asset_tag: Option<String>,
    /// Whether the scripts would find the root of the chain that was answered; `None` where there was no chain.
    pub(super) root: Option<SignerRoot>,
    /// How far this machine's wall clock is ahead of the control plane's, in seconds.
    pub(super) ahead: Option<i64>,
}

/// What is said at the service's address. What was not found there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) instance: String,
    pub(super) zone: Option<String>,
    pub(super) region: Option<String>,
    pub(super) chain: Option<String>,
}

/// The root of the signers among the authorities that this machine trusts.
#[derive(Debug)]
pub(super) struct SignerRoot {
    /// The file of its own that the scripts look for, or the bundle of all.
    pub(super) place: PathBuf,
    pub(super) is_bundle: bool,
    pub(super) found: Found,
}

/// What there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Itself,
    Another,
    Nothing,
}

const CLOCK: &str = "metadata-clock";
const SET_CLOCK: &str = "timedatectl set-ntp true, or whatever keeps this machine's time";

/// A wall clock that is ahead by so many seconds takes a noticeable part of a key's minute.
const AHEAD: i64 = 5;

/// How long keys live, in seconds: a wall clock that is ahead by that has them all ended.
const LIFETIME: i64 = 60;

const SILENT: &str = "the scripts do nothing then, and tell sshd of no key";
const NO_KEY: &str = "the scripts give up then, and sshd takes no key from them";

impl MetadataFacts {
    /// `asks_scripts` is whether sshd asks the scripts for keys, and not our command: then logins fail by what is only noted
    /// otherwise.
    pub(super) fn checks(&self, asks_scripts: bool) -> Vec<Check> {
        const NAME: &str = "metadata-settings";
        let settings = match &self.settings {
            Ok(Some(settings)) => settings,
            Ok(None) if self.guests > 0 => {
                let found =
                    "metadata.toml has no listen: it is for guests, and the machine itself is shown no key";
                return vec![ok(NAME, found)];
            }
            Ok(None) => {
                let found = "there is no metadata.toml: the distribution's scripts get no key from us";
                return vec![ok(NAME, found)];
            }
            Err(reason) => {
                let why = "the agent does not start again with a file that it cannot understand or that others can change";
                let mend = "put right what is named here, chown root and chmod 644 the file, then: systemctl restart instance-connect-agent";
                return vec![problem(NAME, reason.clone(), why, mend)];
            }
        };
        let mut found = vec![self.place(settings)];
        found.extend(self.service(settings));
        found.extend(self.zone());
        if self.scripts.is_some() {
            found.push(self.machine());
            found.extend(self.root());
            found.extend(self.clock());
        }
        if asks_scripts {
            let noted = found.iter_mut().filter(|check| check.verdict == Verdict::Note);
            noted.for_each(|check| check.verdict = Verdict::Problem);
        }
        // These take nothing, or not all, from who logs in now.
        found.extend(self.unit(settings));
        if self.scripts.is_some() {
            found.extend(self.minute());
        }
        found
    }

    fn place(&self, settings: &Own) -> Check {
        const NAME: &str = "metadata-settings";
        let listen = settings.listen;
        if self.scripts.is_some() && listen != SocketAddr::from((METADATA_ADDRESS, 80)) {
            let found = format!("metadata.toml has the service on {listen}");
            return note(
                NAME,
                found,
                "the scripts ask 169.254.169.254, port 80, and nowhere else",
                "listen = \"169.254.169.254:80\", where the machine has no metadata service of a cloud",
            );
        }
        ok(NAME, format!("a metadata service on {listen} is wanted"))
    }

    fn unit(&self, settings: &Own) -> Option<Check> {
        const NAME: &str = "metadata-unit";
        if settings.listen.ip() != METADATA_ADDRESS {
            return None;
        }
        let unit = self.unit?;
        let Some((found, _)) = unit.fault(METADATA_UNIT) else {
            return Some(ok(NAME, format!("{METADATA_UNIT} starts with the machine")));
        };
        // systemd opens no socket for a service that runs.
        let enable =
            format!("systemctl stop {UNIT}; systemctl enable --now {METADATA_UNIT}; systemctl start {UNIT}");
        let mend = match unit {
            Unit::Missing => "it comes with the package".to_owned(),
            Unit::Masked => format!("systemctl unmask {METADATA_UNIT}; {enable}"),
            Unit::Disabled | Unit::Enabled => enable,
        };
        let why = "it puts the address on this machine and opens its port, which the agent may not";
        Some(note(NAME, found, why, mend))
    }

    fn service(&self, settings: &Own) -> Option<Check> {
        const NAME: &str = "metadata-service";
        let listen = settings.listen;
        let own = self.instance.as_ref().map(InstanceId::as_str);
        Some(match self.answer.as_ref()? {
            Err(reason) => note(
                NAME,
                format!("{listen}: {reason}"),
                "the scripts ask there for keys",
                "instance-connect-agent status says where the service listens, or why it cannot; a metadata.toml that is newer than the agent wants it restarted",
            ),
            Ok(answer) if Some(answer.instance.as_str()) == own => {
                ok(NAME, format!("{listen} answers as {}", answer.instance))
            }
            Ok(answer) => note(
                NAME,
                format!(
                    "somebody else answers at {listen}: there this is {:?}, and here {}",
                    answer.instance,
                    own.unwrap_or("no instance")
                ),
                "the scripts ask whoever has that address: a cloud, a hypervisor, another program",
                "use our own command here (instance-connect-agent install), or have the other one end: ip address show to 169.254.169.254, and ip route get to it, say where it is",
            ),
        })
    }

    /// Judged where it is our service that answers.
    fn zone(&self) -> Option<Check> {
        const NAME: &str = "metadata-zone";
        let answer = self.answer.as_ref()?.as_ref().ok()?;
        if Some(answer.instance.as_str()) != self.instance.as_ref().map(InstanceId::as_str) {
            return None;
        }
        let (Some(zone), Some(region)) = (&answer.zone, &answer.region) else {
            return Some(note(
                NAME,
                "the service does not know yet where this instance is",
                NO_KEY,
                "the control plane says so with each link: see the check named link",
            ));
        };
        let mend = "create the instance again in a zone such as us-east-1a, and enrol this machine as that one; or use our own command";
        let parsed: Option<AvailabilityZone> = zone.parse().ok();
        let found = parsed.as_ref().and_then(AvailabilityZone::region_for_stock_scripts);
        Some(if found.is_none() {
            let why = "the scripts take zones of two or three words, one digit and a letter, such as us-east-1a, and end with status 255 at others";
            note(NAME, format!("this instance is in the zone {zone:?}"), why, mend)
        } else if found != Some(region) {
            let why = "the scripts take the zone without its letter for the region, and look for a signer of that name";
            note(NAME, format!("the zone {zone:?} is not one of the region {region:?}"), why, mend)
        } else {
            ok(NAME, format!("{zone}, which the scripts take"))
        })
    }

    /// The scripts look whether they run in EC2: what they look at has to say the instance id.
    fn machine(&self) -> Check {
        const NAME: &str = "board-asset-tag";
        const XEN: &str = "/sys/hypervisor/uuid";
        const TAG: &str = "/sys/devices/virtual/dmi/id/board_asset_tag";
        let own = self.instance.as_ref().map_or("i-…", InstanceId::as_str);
        match (&self.hypervisor, &self.board_asset_tag) {
            (Some(uuid), _) if uuid.starts_with("ec2") => ok(NAME, format!("{XEN} begins with ec2")),
            (Some(_), _) => note(
                NAME,
                format!("{XEN} does not begin with ec2"),
                SILENT,
                "where this file is (in guests of Xen) the scripts look at nothing else: use our own command here",
            ),
            // As the shell has it.
            (None, Some(tag)) if tag.trim_end_matches('\n') == own => ok(NAME, format!("{TAG} is {own}")),
            (None, tag) => {
                let found = tag.as_ref().map_or_else(
                    || format!("{TAG} is missing"),
                    |tag| format!("{TAG} is {:?}, and not {own}", tag.trim_end()),
                );
                let mend = format!(
                    "it comes from the firmware: start a guest of QEMU with -smbios type=2,asset={own}; where nobody can set it, use our own command"
                );
                note(NAME, found, SILENT, mend)
            }
        }
    }

    fn root(&self) -> Option<Check> {
        const NAME: &str = "signer-root";
        let SignerRoot { place, is_bundle, found } = self.root.as_ref()?;
        let shown = place.display();
        let (file, then) = if *is_bundle {
            (
                "/etc/pki/ca-trust/source/anchors/Instance_Connect_signer_root.pem".to_owned(),
                "update-ca-trust",
            )
        } else {
            let name = place.file_stem().unwrap_or_default().to_string_lossy();
            (format!("/usr/local/share/ca-certificates/{name}.crt"), "update-ca-certificates")
        };
        let mend = format!(
            "put what an administrator gets from instance-connect signer ca into {file}, then: {then}"
        );
        Some(match found {
            Found::Itself => ok(NAME, format!("{shown} has the root of those who sign")),
            Found::Another => note(
                NAME,
                format!("{shown} is another certificate than the root of those who sign"),
                NO_KEY,
                mend,
            ),
            Found::Nothing if *is_bundle => {
                note(NAME, format!("the root of those who sign is not in {shown}"), NO_KEY, mend)
            }
            Found::Nothing => note(NAME, format!("{shown} is missing"), NO_KEY, mend),
        })
    }

    /// With a wall clock that is far off the scripts take no key.
    fn clock(&self) -> Option<Check> {
        let ahead = self.ahead?;
        let off = duration(ahead.abs());
        if ahead >= LIFETIME {
            let why = "for the scripts keys end by this machine's wall clock: all of them have ended when they come";
            Some(note(CLOCK, format!("{off} ahead of the control plane's"), why, SET_CLOCK))
        } else if ahead < -STAPLES_BACKDATED {
            let why =
                "for openssl, which the scripts ask, nobody has said yet that the signer is not revoked";
            Some(note(CLOCK, format!("{off} behind the control plane's"), why, SET_CLOCK))
        } else {
            None
        }
    }

    /// With one that is a little ahead, none at the end of its minute.
    fn minute(&self) -> Option<Check> {
        let ahead = self.ahead?;
        if !(AHEAD..LIFETIME).contains(&ahead) {
            return None;
        }
        let why = "for the scripts keys end by this machine's wall clock, so that much earlier";
        Some(note(CLOCK, format!("{} ahead of the control plane's", duration(ahead)), why, SET_CLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Shows;

    const ID: &str = "i-0123456789abcdef0";

    fn settings(listen: &str) -> Own {
        Own { listen: listen.parse().unwrap(), shows: Shows::default() }
    }

    fn answer() -> Answer {
        let some = |text: &str| Some(text.to_owned());
        Answer {
            instance: ID.to_owned(),
            zone: some("us-east-1a"),
            region: some("us-east-1"),
            chain: some(""),
        }
    }

    fn signer_root(found: Found) -> Option<SignerRoot> {
        let place = "/etc/ssl/certs/Instance_Connect_signer_root.pem".into();
        Some(SignerRoot { place, is_bundle: false, found })
    }

    fn facts() -> MetadataFacts {
        MetadataFacts {
            scripts: Some("/usr/share/ec2-instance-connect".into()),
            guests: 0,
            settings: Ok(Some(settings("169.254.169.254:80"))),
            unit: Some(Unit::Enabled),
            instance: Some(ID.parse().unwrap()),
            answer: Some(Ok(answer())),
            hypervisor: None,
            board_asset_tag: Some(format!("{ID}\n")),
            root: signer_root(Found::Itself),
            ahead: Some(1),
        }
    }

    fn at(zone: &str, region: &str) -> Option<Result<Answer, String>> {
        Some(Ok(Answer { zone: Some(zone.to_owned()), region: Some(region.to_owned()), ..answer() }))
    }

    #[test]
    fn what_the_scripts_would_stumble_over() {
        let of_another = Answer { instance: "i-00000000000000001".to_owned(), ..answer() };
        let bundle = SignerRoot {
            place: "/etc/ssl/certs/ca-bundle.crt".into(),
            is_bundle: true,
            found: Found::Nothing,
        };
        let rows: Vec<(MetadataFacts, &str, &str)> = vec![
            (
                MetadataFacts { settings: Ok(Some(settings("127.0.0.1:80"))), ..facts() },
                "metadata-settings",
                "has the service on 127.0.0.1:80",
            ),
            (
                MetadataFacts { answer: Some(Err("Connection refused".to_owned())), ..facts() },
                "metadata-service",
                "169.254.169.254:80: Connection refused",
            ),
            (
                MetadataFacts { answer: Some(Ok(of_another)), ..facts() },
                "metadata-service",
                "somebody else answers at 169.254.169.254:80: there this is \"i-00000000000000001\"",
            ),
            (
                MetadataFacts { answer: Some(Ok(Answer { zone: None, ..answer() })), ..facts() },
                "metadata-zone",
                "does not know yet",
            ),
            (
                MetadataFacts { answer: at("us-west-2-lax-1a", "us-west-2"), ..facts() },
                "metadata-zone",
                "\"us-west-2-lax-1a\"",
            ),
            (
                MetadataFacts { answer: at("us-east-1a", "us-east-2"), ..facts() },
                "metadata-zone",
                "is not one of the region \"us-east-2\"",
            ),
            (
                MetadataFacts { hypervisor: Some("abc".to_owned()), ..facts() },
                "board-asset-tag",
                "does not begin with ec2",
            ),
            (
                MetadataFacts { board_asset_tag: None, ..facts() },
                "board-asset-tag",
                "board_asset_tag is missing",
            ),
            (
                MetadataFacts { board_asset_tag: Some("Not Specified\n".to_owned()), ..facts() },
                "board-asset-tag",
                "board_asset_tag is \"Not Specified\", and not i-0123456789abcdef0",
            ),
            (
                MetadataFacts { root: signer_root(Found::Nothing), ..facts() },
                "signer-root",
                "Instance_Connect_signer_root.pem is missing",
            ),
            (
                MetadataFacts { root: signer_root(Found::Another), ..facts() },
                "signer-root",
                "is another certificate",
            ),
            (MetadataFacts { root: Some(bundle), ..facts() }, "signer-root", "is not in /etc/ssl/certs/ca-"),
            (MetadataFacts { ahead: Some(60), ..facts() }, "metadata-clock", "60 s ahead"),
            (MetadataFacts { ahead: Some(-7300), ..facts() }, "metadata-clock", "2 h behind"),
        ];
        for (facts, check, expected) in rows {
            for (asks_scripts, verdict) in [(true, Verdict::Problem), (false, Verdict::Note)] {
                let checks = facts.checks(asks_scripts);
                let found: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
                let [only] = found.as_slice() else { panic!("{check} {expected}: {found:?}") };
                assert_eq!((only.check, only.verdict), (check, verdict));
                assert!(only.found.contains(expected), "{}", only.found);
                assert!(only.why.is_some() && only.mend.is_some());
            }
        }
    }

    #[test]
    fn what_takes_nothing_from_who_logs_in_now_is_a_note_whoever_is_asked() {
        let unit = |unit| MetadataFacts { unit: Some(unit), ..facts() };
        let ahead = |seconds| MetadataFacts { ahead: Some(seconds), ..facts() };
        let rows = [
            (unit(Unit::Disabled), "metadata.socket is not enabled"),
            (unit(Unit::Masked), "metadata.socket is masked"),
            (unit(Unit::Missing), "metadata.socket is not installed"),
            (ahead(5), "5 s ahead"),
            (ahead(59), "59 s ahead"),
        ];
        for (facts, expected) in rows {
            let checks = facts.checks(true);
            let found: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
            let [only] = found.as_slice() else { panic!("{expected}: {found:?}") };
            assert_eq!(only.verdict, Verdict::Note);
            assert!(only.found.contains(expected), "{}", only.found);
        }
    }

    #[test]
    fn a_machine_in_order_and_one_that_wants_no_service_have_nothing_wrong() {
        let without_service = MetadataFacts { settings: Ok(None), answer: None, ..facts() };
        let without_scripts = MetadataFacts {
            scripts: None,
            settings: Ok(Some(settings("127.0.0.1:8080"))),
            board_asset_tag: None,
            ..facts()
        };
        let in_xen = MetadataFacts { hypervisor: Some("ec2f".to_owned()), board_asset_tag: None, ..facts() };
        for facts in [facts(), without_service, without_scripts, in_xen] {
            let checks = facts.checks(true);
            assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
        }
    }

    #[test]
    fn settings_that_the_agent_would_not_start_with_are_a_problem_whoever_is_asked() {
        let facts = MetadataFacts { settings: Err("metadata.toml: x".to_owned()), answer: None, ..facts() };
        let checks = facts.checks(false);
        assert_eq!((checks[0].check, checks[0].verdict), ("metadata-settings", Verdict::Problem));
    }
}
