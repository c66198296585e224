//! `metadata.toml`, in the directory of what root decides: whether there is a metadata service, for whom, and where.

use crate::host::Watched;
use instance_connect_core::document::{HostVeto, InstanceId};
use instance_connect_core::limits::GUESTS_PER_HOST;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

/// In `/etc/instance-connect`.
const METADATA_FILE: &str = "metadata.toml";

/// Where the host scripts ask (wire.md 3.1).
pub(crate) const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// What root has decided about the metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetadataSettings {
    /// For the machine itself.
    pub(crate) own: Option<Own>,
    /// Where guests ask, on their interfaces.
    pub(crate) guests_listen: SocketAddrV4,
    /// For whom else the agent answers.
    pub(crate) guests: Vec<Guest>,
}

/// The machine's own service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Where it listens: on this machine alone.
    pub(crate) listen: SocketAddr,
    pub(crate) shows: Shows,
}

/// A guest of this machine: an instance without an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) instance: InstanceId,
    /// The interface of this machine that leads to the guest: who asks there is the guest, whatever address it says it has.
    pub(crate) interface: Interface,
    /// The guest's address, where others ask on the interface, too, and root has said that none of them can use it.
    pub(crate) source: Option<Ipv4Addr>,
    /// What root does not let a control plane do there: the keys of `host.toml`, for the guest.
    pub(crate) veto: HostVeto,
    pub(crate) shows: Shows,
}

/// What is shown of an instance that only this machine can know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shows {
    /// Whether everybody who asks may read the instance's tags.
    pub(crate) tags: bool,
    pub(crate) local_ipv4: Option<Ipv4Addr>,
    pub(crate) local_hostname: Option<String>,
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Interface(String);

impl Interface {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the kernel takes for a name, and a path cannot be misled by. `lo` is this machine itself.
    fn parse(name: &str) -> Result<Self, String> {
        let is_name = (1..=15).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && !b"/:".contains(&b))
            && ![".", "..", "lo", "all", "default"].contains(&name);
        if is_name { Ok(Self(name.to_owned())) } else { Err(format!("{name:?} is no interface of a guest")) }
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    #[serde(default)]
    tags: bool,
    local_ipv4: Option<Ipv4Addr>,
    local_hostname: Option<String>,
    guests_listen: Option<SocketAddrV4>,
    #[serde(default, rename = "guest")]
    guests: Vec<GuestTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestTable {
    instance: String,
    interface: String,
    source: Option<Ipv4Addr>,
    #[serde(default)]
    anti_spoofing: bool,
    allow_users: Option<Vec<String>>,
    deny_users: Option<Vec<String>>,
    max_lifetime_seconds: Option<u32>,
    #[serde(default)]
    tags: bool,
    local_ipv4: Option<Ipv4Addr>,
    local_hostname: Option<String>,
}

impl MetadataSettings {
    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let shows = shows(file.tags, file.local_ipv4, file.local_hostname)?;
        let own = match file.listen {
            Some(listen) => Some(Own { listen: of_this_machine(listen)?, shows }),
            None if shows != Shows::default() => {
                return Err(
                    "tags, local_ipv4 and local_hostname are of the machine itself, and need its listen"
                        .into(),
                );
            }
            None => None,
        };
        if file.guests.len() > GUESTS_PER_HOST {
            return Err(format!("more than {GUESTS_PER_HOST} guests"));
        }
        let guests = file.guests.into_iter().enumerate();
        let guests = guests.map(|(position, table)| {
            Guest::read(table).map_err(|reason| format!("guest {}: {reason}", position + 1))
        });
        let guests: Vec<Guest> = guests.collect::<Result<_, _>>()?;
        check_distinct(&guests)?;
        if own.is_none() && guests.is_empty() {
            return Err("there is neither listen, for the machine itself, nor a [[guest]]".into());
        }
        let guests_listen = file.guests_listen.unwrap_or(SocketAddrV4::new(METADATA_ADDRESS, 80));
        Ok(Self { own, guests_listen, guests })
    }

    /// The guest of that id.
    pub(crate) fn guest(&self, instance: &InstanceId) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.instance == *instance)
    }

    /// Who asks on an interface from that address.
    pub(crate) fn guest_at(&self, interface: &Interface, source: Ipv4Addr) -> Option<&Guest> {
        let is_it = |guest: &&Guest| {
            guest.interface == *interface && guest.source.is_none_or(|expected| expected == source)
        };
        self.guests.iter().find(is_it)
    }

    /// The interfaces that lead to guests.
    pub(crate) fn interfaces(&self) -> BTreeSet<&Interface> {
        self.guests.iter().map(|guest| &guest.interface).collect()
    }
}

/// The settings, and their file.
#[derive(Debug)]
pub(crate) struct WatchedMetadata {
    pub(crate) settings: MetadataSettings,
    file: Watched<Option<MetadataSettings>>,
    /// Whether the file has been such that it cannot be used.
    is_doubtful: bool,
}

/// What has become of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// There is something else in it.
    Change,
    /// It cannot be used, or is gone.
    Unusable,
}

impl WatchedMetadata {
    /// The file in that directory; `None` where there is none, and so no service.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(etc: &Path) -> Result<Option<Self>, String> {
        let path = etc.join(METADATA_FILE);
        let mut file = Watched::new(path, |text| text.map(MetadataSettings::parse).transpose());
        let settings = file.read()?.clone();
        Ok(settings.map(|settings| Self { settings, file, is_doubtful: false }))
    }

    /// Reads the file again if it has changed. What was in it before one that cannot be used, or is gone, stays here; why it
    /// cannot be used is logged.
    pub(super) fn refresh(&mut self) -> Seen {
        match self.file.refresh() {
            Some(Some(settings)) if *settings != self.settings || self.is_doubtful => {
                tracing::info!(guests = settings.guests.len(), "metadata.toml has changed");
                self.settings = settings.clone();
                self.is_doubtful = false;
                Seen::Change
            }
            Some(Some(_)) => Seen::Nothing,
            Some(None) | None => {
                self.is_doubtful = true;
                Seen::Unusable
            }
        }
    }
}

impl Guest {
    fn read(table: GuestTable) -> Result<Self, String> {
        let instance = table.instance.parse().map_err(|error| format!("instance: {error}"))?;
        let interface = Interface::parse(&table.interface).map_err(|error| format!("interface: {error}"))?;
        match (table.source, table.anti_spoofing) {
            (Some(_), false) => {
                return Err("source: an address alone is not believed. Give each guest an interface of its own, or say \
                            anti_spoofing = true once this machine lets no guest send from an address of another's"
                    .into());
            }
            (None, true) => return Err("anti_spoofing: there is no source that it is about".into()),
            (Some(_), true) | (None, false) => {}
        }
        Ok(Self {
            instance,
            interface,
            source: table.source,
            veto: veto(table.allow_users, table.deny_users, table.max_lifetime_seconds)?,
            shows: shows(table.tags, table.local_ipv4.or(table.source), table.local_hostname)?,
        })
    }
}

/// The same keys as in `host.toml`, by the same rules.
fn veto(
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    max_lifetime_seconds: Option<u32>,
) -> Result<HostVeto, String> {
    let users = |key: &str, users: Option<Vec<String>>| users.map(|users| format!("{key} = {users:?}\n"));
    let lifetime = max_lifetime_seconds.map(|seconds| format!("max_lifetime_seconds = {seconds}\n"));
    let lines = [users("allow_users", allow), users("deny_users", deny), lifetime];
    HostVeto::parse(&lines.into_iter().flatten().collect::<String>()).map_err(|error| error.to_string())
}

fn shows(tags: bool, local_ipv4: Option<Ipv4Addr>, local_hostname: Option<String>) -> Result<Shows, String> {
    let is_name = |name: &String| {
        (1..=253).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    };
    if local_hostname.as_ref().is_some_and(|name| !is_name(name)) {
        return Err("local_hostname: a name is 1 to 253 letters, digits, hyphens and dots".into());
    }
    Ok(Shows { tags, local_ipv4, local_hostname })
}

/// Whoever reaches the service reads who has pushed keys for whom.
fn of_this_machine(listen: SocketAddr) -> Result<SocketAddr, String> {
    let ip = listen.ip();
    if ip.is_loopback() || ip == IpAddr::V4(METADATA_ADDRESS) {
        return Ok(listen);
    }
    Err(format!(
        "listen: {ip} can be reached from other machines; it has to be {METADATA_ADDRESS} or a loopback address"
    ))
}

/// No two guests are taken for one another: not by their ids, nor by where they ask from.
fn check_distinct(guests: &[Guest]) -> Result<(), String> {
    for (position, guest) in guests.iter().enumerate() {
        for other in guests.iter().take(position) {
            if guest.instance == other.instance {
                return Err(format!("{} is given twice", guest.instance));
            }
            let same_interface = guest.interface == other.interface;
            match (guest.source, other.source) {
                (Some(source), Some(other)) if source != other => {}
                (Some(source), Some(_)) if same_interface => {
                    return Err(format!("{source} on {} is given twice", guest.interface));
                }
                (None, _) | (_, None) if same_interface => {
                    return Err(format!(
                        "{} leads to two guests: give each an interface of its own, or each a source",
                        guest.interface
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "listen = \"169.254.169.254:80\"\n";

    fn guest(rest: &str) -> String {
        format!("[[guest]]\ninstance = \"i-0123456789abcdef0\"\ninterface = \"tap0\"\n{rest}\n")
    }

    #[test]
    fn what_root_decides_of_the_machine_itself() {
        let minimal = MetadataSettings::parse(OWN).unwrap();
        let own = minimal.own.unwrap();
        assert_eq!(own.listen, SocketAddr::from((METADATA_ADDRESS, 80)));
        assert_eq!(own.shows, Shows::default());
        assert!(minimal.guests.is_empty());
        let all = "listen = \"127.0.0.1:8080\"\ntags = true\nlocal_ipv4 = \"192.0.2.7\"\nlocal_hostname = \"db1.example.com\"";
        let shows = MetadataSettings::parse(all).unwrap().own.unwrap().shows;
        assert!(shows.tags && shows.local_ipv4 == Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(shows.local_hostname.as_deref(), Some("db1.example.com"));
    }

    #[test]
    fn what_root_decides_of_guests() {
        let root = "allow_users = [\"root\"]\nlocal_hostname = \"guest1\"";
        let settings = MetadataSettings::parse(&guest(root)).unwrap();
        assert_eq!(
            (settings.own.as_ref(), settings.guests_listen),
            (None, SocketAddrV4::new(METADATA_ADDRESS, 80))
        );
        let [tap] = &settings.guests[..] else { panic!() };
        let user = |name: &str| name.parse().unwrap();
        assert!(
            tap.veto.permits(&user("root"), None).is_ok() && tap.veto.permits(&user("alice"), None).is_err()
        );
        let anywhere = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(settings.guest_at(&tap.interface, anywhere), Some(tap));
        assert_eq!(settings.guest_at(&Interface("tap1".into()), anywhere), None);

        let on_bridge = |id: &str, source: &str| {
            format!(
                "[[guest]]\ninstance = \"{id}\"\ninterface = \"br0\"\nsource = \"{source}\"\nanti_spoofing = true\n"
            )
        };
        let two = on_bridge("i-00000001", "192.0.2.1") + &on_bridge("i-00000002", "192.0.2.2");
        let settings = MetadataSettings::parse(&two).unwrap();
        let bridge = Interface("br0".into());
        let at = |last| {
            settings.guest_at(&bridge, Ipv4Addr::new(192, 0, 2, last)).map(|guest| guest.instance.as_str())
        };
        assert_eq!([at(1), at(2), at(3)], [Some("i-00000001"), Some("i-00000002"), None]);
        assert_eq!(settings.interfaces().len(), 1);
        assert_eq!(settings.guests[0].shows.local_ipv4, Some(anywhere));
        // Root is denied unless it is allowed, as on the machine itself.
        assert!(settings.guests[0].veto.permits(&user("root"), None).is_err());
    }

    #[test]
    fn what_is_not_meant_is_refused_with_the_reason() {
        let one = guest("");
        let rows = [
            (String::new(), "neither listen"),
            ("listen = \"0.0.0.0:80\"".into(), "0.0.0.0 can be reached from other machines"),
            ("listen = \"192.0.2.7:80\"".into(), "192.0.2.7 can be reached from other machines"),
            ("listen = \"[::]:80\"".into(), ":: can be reached from other machines"),
            ("listen = 80".into(), "invalid type"),
            (format!("{OWN}lisen = 1"), "unknown field `lisen`"),
            (format!("{OWN}tags = \"yes\""), "invalid type"),
            (format!("{OWN}local_hostname = \"a b\""), "local_hostname"),
            (format!("{OWN}local_hostname = \"\""), "local_hostname"),
            (format!("tags = true\n{one}"), "need its listen"),
            (guest("source = \"192.0.2.1\""), "an address alone is not believed"),
            (guest("anti_spoofing = true"), "there is no source"),
            (guest("allow_users = [\"a b\"]"), "guest 1"),
            (guest("max_lifetime_seconds = 0"), "guest 1"),
            (guest("stream_ports = [22]"), "unknown field"),
            (one.replace("tap0", "lo"), "is no interface of a guest"),
            (one.replace("tap0", "../x"), "is no interface of a guest"),
            (one.replace("tap0", "a-name-that-is-too-long"), "is no interface of a guest"),
            (one.replace("i-0", "x-0"), "guest 1: instance"),
            (one.clone() + &one, "i-0123456789abcdef0 is given twice"),
            (one.clone() + &one.replace("i-01", "i-11"), "tap0 leads to two guests"),
            (
                one.clone() + &guest("source = \"192.0.2.1\"\nanti_spoofing = true").replace("i-01", "i-11"),
                "tap0 leads to two guests",
            ),
        ];
        for (text, expected) in rows {
            let error = MetadataSettings::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let same = guest("source = \"192.0.2.1\"\nanti_spoofing = true");
        let error = MetadataSettings::parse(&(same.clone() + &same.replace("i-01", "i-11"))).unwrap_err();
        assert_eq!(error, "192.0.2.1 on tap0 is given twice");
    }

    #[test]
    fn without_the_file_there_is_no_service_and_a_file_of_anybody_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let etc = tempfile::tempdir().unwrap();
        assert!(WatchedMetadata::read(etc.path()).unwrap().is_none());
        let file = etc.path().join(METADATA_FILE);
        std::fs::write(&file, OWN).unwrap();
        let mut watched = WatchedMetadata::read(etc.path()).unwrap().unwrap();
        std::fs::write(&file, guest("")).unwrap();
        assert_eq!((watched.refresh(), watched.settings.guests.len()), (Seen::Change, 1));
        assert_eq!(watched.refresh(), Seen::Nothing);
        // What is meant by a mistake, or a file of anybody's, is not known.
        std::fs::write(&file, "").unwrap();
        assert_eq!((watched.refresh(), watched.settings.guests.len()), (Seen::Unusable, 1));
        std::fs::write(&file, guest("")).unwrap();
        assert_eq!((watched.refresh(), watched.refresh()), (Seen::Change, Seen::Nothing));
        std::fs::write(&file, OWN).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!((watched.refresh(), watched.settings.guests.len()), (Seen::Unusable, 1));
        assert!(WatchedMetadata::read(etc.path()).is_err());
    }
}
