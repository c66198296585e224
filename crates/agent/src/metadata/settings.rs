//! `metadata.toml`, in the directory of what root decides: whether there is a metadata service, and where.

use crate::files::{self, SMALL_FILE};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// In `/etc/instance-connect`.
const METADATA_FILE: &str = "metadata.toml";

/// Where the host scripts ask (wire.md 3.1).
pub(crate) const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// What root has decided about the metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataSettings {
    /// Where it listens: on this machine alone.
    pub(crate) listen: SocketAddr,
    /// Whether every user of the machine may read the instance's tags.
    #[serde(default)]
    pub(crate) tags: bool,
    /// The machine's address, where that is not the one by which it reaches the control plane.
    pub(crate) local_ipv4: Option<Ipv4Addr>,
    /// The machine's name, where that is not its host name.
    pub(crate) local_hostname: Option<String>,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct MetadataSettingsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl MetadataSettings {
    /// Reads them; `None` where there is no such file, and so no service.
    pub(crate) fn read(etc: &Path) -> Result<Option<Self>, MetadataSettingsError> {
        let path = etc.join(METADATA_FILE);
        let failed = |reason: String| MetadataSettingsError { path: path.clone(), reason };
        let Some(bytes) =
            files::read_trusted(&path, SMALL_FILE).map_err(|error| failed(error.to_string()))?
        else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".to_owned()))?;
        Self::parse(&text).map(Some).map_err(failed)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        // Whoever reaches it reads who has pushed keys for whom.
        let is_own =
            settings.listen.ip().is_loopback() || settings.listen.ip() == IpAddr::V4(METADATA_ADDRESS);
        if !is_own {
            return Err(format!(
                "listen: {} can be reached from other machines; it has to be {METADATA_ADDRESS} or a loopback address",
                settings.listen.ip()
            ));
        }
        let is_name = |name: &String| {
            (1..=253).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        if settings.local_hostname.as_ref().is_some_and(|name| !is_name(name)) {
            return Err("local_hostname: a name is 1 to 253 letters, digits, hyphens and dots".to_owned());
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_decides_is_read_strictly() {
        let minimal = MetadataSettings::parse("listen = \"169.254.169.254:80\"").unwrap();
        assert_eq!(minimal.listen, SocketAddr::from((METADATA_ADDRESS, 80)));
        assert!(!minimal.tags && minimal.local_ipv4.is_none() && minimal.local_hostname.is_none());
        let all = "listen = \"127.0.0.1:8080\"\ntags = true\nlocal_ipv4 = \"192.0.2.7\"\nlocal_hostname = \"db1.example.com\"\n";
        let all = MetadataSettings::parse(all).unwrap();
        assert!(all.tags && all.local_ipv4 == Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(all.local_hostname.as_deref(), Some("db1.example.com"));
        let rows = [
            ("", "missing field `listen`"),
            ("listen = \"0.0.0.0:80\"", "0.0.0.0 can be reached from other machines"),
            ("listen = \"192.0.2.7:80\"", "192.0.2.7 can be reached from other machines"),
            ("listen = \"[::]:80\"", ":: can be reached from other machines"),
            ("listen = 80", "invalid type"),
            ("listen = \"127.0.0.1:80\"\nlisen = 1", "unknown field `lisen`"),
            ("listen = \"127.0.0.1:80\"\ntags = \"yes\"", "invalid type"),
            ("listen = \"127.0.0.1:80\"\nlocal_hostname = \"a b\"", "local_hostname"),
            ("listen = \"127.0.0.1:80\"\nlocal_hostname = \"\"", "local_hostname"),
        ];
        for (text, expected) in rows {
            let error = MetadataSettings::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn without_the_file_there_is_no_service_and_a_file_of_anybody_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(MetadataSettings::read(etc.path()).unwrap(), None);
        let file = etc.path().join(METADATA_FILE);
        std::fs::write(&file, "listen = \"127.0.0.1:80\"").unwrap();
        assert!(MetadataSettings::read(etc.path()).unwrap().is_some());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(MetadataSettings::read(etc.path()).is_err());
    }
}
