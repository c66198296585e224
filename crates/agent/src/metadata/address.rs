//! Putting the address of the metadata service on this machine, as root: only where nobody else has it. A machine of a cloud
//! has a metadata service already, and ours would take its place.

use super::settings::METADATA_ADDRESS;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// How long somebody with the address has to answer. It is one hop away, or nowhere.
const ANSWER: Duration = Duration::from_secs(1);

/// Where systems have it.
const PROGRAMS: [&str; 4] = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];

/// The interface that the address is put on: only this machine reaches it there.
const INTERFACE: &str = "lo";

/// Why the address is not put on this machine, or not taken away.
#[derive(Debug, thiserror::Error)]
pub enum AddressFailure {
    /// Somebody answers there.
    #[error(
        "{METADATA_ADDRESS}: something answers there already, so this machine has a metadata service, of its cloud or hypervisor; \
         ours would take its place"
    )]
    Taken,
    /// It is on another interface than the one it would be put on.
    #[error("{METADATA_ADDRESS} is on interface {0} of this machine; remove it there first")]
    Elsewhere(String),
    /// The kernel was not told.
    #[error("ip {arguments}: {error}")]
    Ip {
        /// What was asked for.
        arguments: String,
        /// What went wrong.
        error: io::Error,
    },
}

/// Adds the address, unless it is there.
///
/// # Errors
/// See [`AddressFailure`]: then nothing has changed.
pub fn add_metadata_address() -> Result<(), AddressFailure> {
    match interface()? {
        Some(interface) if interface == INTERFACE => return Ok(()),
        Some(elsewhere) => return Err(AddressFailure::Elsewhere(elsewhere)),
        None => {}
    }
    if somebody_answers(SocketAddr::from((METADATA_ADDRESS, 80))) {
        return Err(AddressFailure::Taken);
    }
    let address = format!("{METADATA_ADDRESS}/32");
    ip(&["address", "add", &address, "dev", INTERFACE, "scope", "host"]).map(drop)
}

/// Takes it away again, if it is there.
///
/// # Errors
/// [`AddressFailure::Ip`].
pub fn remove_metadata_address() -> Result<(), AddressFailure> {
    if interface()?.as_deref() != Some(INTERFACE) {
        return Ok(());
    }
    ip(&["address", "del", &format!("{METADATA_ADDRESS}/32"), "dev", INTERFACE]).map(drop)
}

/// Whether there is somebody at an address: also one who does not listen on the port.
fn somebody_answers(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, ANSWER) {
        Ok(_) => true,
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
        }
    }
}

/// Which interface of this machine has the address.
fn interface() -> Result<Option<String>, AddressFailure> {
    let listed = ip(&["-oneline", "-4", "address", "show", "to", &format!("{METADATA_ADDRESS}/32")])?;
    // `1: lo    inet 169.254.169.254/32 scope host lo`
    let listed = String::from_utf8_lossy(&listed.stdout);
    Ok(listed.lines().next().and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned))
}

fn ip(arguments: &[&str]) -> Result<Output, AddressFailure> {
    let failed = |error| AddressFailure::Ip { arguments: arguments.join(" "), error };
    // Not wherever PATH leads: this is root.
    let program = PROGRAMS.into_iter().find(|program| Path::new(program).exists()).unwrap_or("/usr/sbin/ip");
    let output = Command::new(program).args(arguments).output().map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(io::Error::other(said.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn whoever_has_the_address_is_noticed_also_without_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(somebody_answers(address));
        drop(listener);
        // Refused: the address is somebody's, ours here.
        assert!(somebody_answers(address));
    }
}
