//! Where the service listens: for the machine itself on its loopback interface, for a guest on the interface that leads to
//! it. Which these are follows `metadata.toml`.
//!
//! Who asks on an interface is who is there, whatever address he says he has: every socket is bound to its interface, and so are
//! its answers. An address alone would not do, also not for the machine itself: the kernel takes what is sent to an address of
//! any interface from all of them, and so a neighbour or a guest would be answered as this machine.

#[cfg(test)]
mod tests;

use super::Metadata;
use super::server::{self, Asker};
use super::settings::{Interface, METADATA_ADDRESS, MetadataSettings, Seen, WatchedMetadata};
use crate::descriptors;
use crate::status::ListenerStatus;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// How often `metadata.toml` and the interfaces are looked at, and how soon it is tried again to listen.
const LOOK: Duration = Duration::from_secs(5);

/// The interface of the machine itself.
const LOOPBACK: &str = "lo";

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// The name of the passed socket of the machine itself. That of an interface has it behind this and a hyphen.
const PASSED: &str = "metadata";

/// The sockets that the service manager has opened for the metadata service (sd_listen_fds(3)).
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(String, TcpListener)>);

impl PassedSockets {
    /// Takes them. Called once, before anything else opens descriptors.
    ///
    /// # Errors
    /// The environment is malformed, or there is a socket of another name: nobody would accept from it.
    pub fn take() -> io::Result<Self> {
        let mut passed = Vec::new();
        for (name, socket) in sd_listen_fds::get().map_err(io::Error::other)? {
            let name = name.unwrap_or_default();
            if name != PASSED && !name.starts_with("metadata-") {
                return Err(io::Error::other(format!(
                    "a socket of the name {name:?}; the agent takes metadata, and metadata-INTERFACE of guests"
                )));
            }
            passed.push((name, TcpListener::from(socket)));
        }
        Ok(Self(passed))
    }

    /// The socket for that place, if it is one of its address and interface.
    fn of(&self, place: &Place) -> Option<io::Result<TcpListener>> {
        let name = match &place.interface {
            Some(interface) => format!("{PASSED}-{interface}"),
            None => PASSED.to_owned(),
        };
        let (_, socket) = self.0.iter().find(|(passed, _)| *passed == name)?;
        let device = SockRef::from(socket).device().ok()?;
        let is_bound = device.as_deref() == Some(place.device().as_bytes());
        let is_of_address = socket.local_addr().is_ok_and(|address| address == place.address);
        (is_bound && is_of_address).then(|| socket.try_clone())
    }
}

/// Somewhere to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    address: SocketAddr,
    /// `None` is the machine itself.
    interface: Option<Interface>,
    /// Whether root has said that nobody there can send from another's address.
    is_shared: bool,
}

impl Place {
    fn device(&self) -> &str {
        self.interface.as_ref().map_or(LOOPBACK, Interface::as_str)
    }

    /// Which incarnation of its interface it is on; `None` for the machine itself.
    ///
    /// # Errors
    /// The interface is not there, or not such that who asks there is a guest.
    fn interface_index(&self) -> io::Result<Option<u32>> {
        let Some(interface) = &self.interface else { return Ok(None) };
        let index = index(interface).ok_or_else(|| io::Error::other("there is no such interface"))?;
        if !self.is_shared && is_shared(interface) {
            return Err(io::Error::other(
                "it is a bridge or a network card, with more behind it than one guest: give each guest an interface of its own, \
                 or a source and anti_spoofing = true",
            ));
        }
        let filter = |of: &str| -> io::Result<u8> {
            let setting = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"))?;
            setting.trim().parse().map_err(io::Error::other)
        };
        // The kernel goes by the higher of the two; 2 is the loose one.
        match filter("all")?.max(filter(interface.as_str())?) {
            1 => Ok(Some(index)),
            _ => Err(io::Error::other(format!(
                "its reverse-path filter is not strict: sysctl net.ipv4.conf.{interface}.rp_filter=1 (and no 2 for all)"
            ))),
        }
    }
}

/// Whether an interface is one of those that lead to many: a bridge, or a network card. A tap has a device, too.
fn is_shared(interface: &Interface) -> bool {
    let has = |what: &str| Path::new("/sys/class/net").join(interface.as_str()).join(what).exists();
    has("bridge") || (has("device") && !has("tun_flags"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{} of {interface}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// A listener, with which incarnation of its interface it is bound to.
struct Listening {
    task: AbortHandle,
    interface_index: Option<u32>,
}

/// Keeps listening where the settings say, until it is dropped.
pub(super) async fn keep(metadata: Arc<Metadata>, mut watched: WatchedMetadata, passed: Arc<PassedSockets>) {
    let mut tasks = JoinSet::new();
    let mut listening: BTreeMap<Place, Listening> = BTreeMap::new();
    let mut refused: BTreeMap<Place, String> = BTreeMap::new();
    let in_all = Arc::new(Semaphore::new(descriptors::raise_for_metadata()));
    loop {
        match watched.refresh() {
            Seen::Change => metadata.set_settings(watched.settings.clone()),
            Seen::Nothing => {}
            Seen::Unusable => metadata.doubt_settings(),
        }
        let wanted = places(&watched.settings);
        listening.retain(|place, listening| {
            let is_wanted = wanted.contains(place)
                && !listening.task.is_finished()
                && place.interface_index().is_ok_and(|index| index == listening.interface_index);
            if !is_wanted {
                listening.task.abort();
            }
            is_wanted
        });
        refused.retain(|place, _| wanted.contains(place));
        for place in &wanted {
            if listening.contains_key(place) {
                continue;
            }
            match open(place, &passed) {
                Ok((listener, interface_index)) => {
                    tracing::info!("the metadata service listens on {place}");
                    refused.remove(place);
                    let asker = Asker { metadata: Arc::clone(&metadata), interface: place.interface.clone() };
                    let task = tasks.spawn(server::serve(listener, asker, Arc::clone(&in_all)));
                    listening.insert(place.clone(), Listening { task, interface_index });
                }
                Err(error) => {
                    let error = error.to_string();
                    if refused.get(place) != Some(&error) {
                        tracing::error!(error, "the metadata service cannot listen on {place}; trying again");
                        refused.insert(place.clone(), error);
                    }
                }
            }
        }
        while tasks.try_join_next().is_some() {}
        let status =
            |place: &Place| ListenerStatus { place: place.to_string(), error: refused.get(place).cloned() };
        let served = listening.keys().filter_map(|place| place.interface.clone()).collect();
        metadata.set_listeners(wanted.iter().map(status).collect(), served);
        sleep(LOOK).await;
    }
}

fn places(settings: &MetadataSettings) -> Vec<Place> {
    let own = settings.own.iter().map(|own| Place { address: own.listen, interface: None, is_shared: false });
    let guests = settings.interfaces().into_iter().map(|interface| Place {
        address: settings.guests_listen.into(),
        interface: Some(interface.clone()),
        is_shared: settings
            .guests
            .iter()
            .any(|guest| guest.interface == *interface && guest.source.is_some()),
    });
    own.chain(guests).collect()
}

fn open(place: &Place, passed: &PassedSockets) -> io::Result<(tokio::net::TcpListener, Option<u32>)> {
    let interface_index = place.interface_index()?;
    let listener = match passed.of(place) {
        Some(passed) => passed?,
        None => bind(place).map_err(|error| explained(place, &error))?,
    };
    server::prepare(&listener)?;
    Ok((tokio::net::TcpListener::from_std(listener)?, interface_index))
}

fn bind(place: &Place) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(place.address), Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(place.device().as_bytes()))?;
    socket.bind(&place.address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What the person who reads the log can do.
fn explained(place: &Place, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied if place.interface.is_some() => {
            "the agent needs CAP_NET_BIND_SERVICE for guests (docs/metadata.md, Guests)"
        }
        io::ErrorKind::AddrNotAvailable if place.interface.is_some() => {
            "the address is not on this machine: ip address add 169.254.169.254/32 dev INTERFACE"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::AddrNotAvailable
            if place.address.ip() == METADATA_ADDRESS =>
        {
            "systemctl enable --now instance-connect-metadata.socket, and start the agent again"
        }
        _ => return io::Error::new(error.kind(), error.to_string()),
    };
    io::Error::new(error.kind(), format!("{error}; {advice}"))
}

/// Which incarnation of an interface it is: another one of the same name has another index.
fn index(interface: &Interface) -> Option<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).ok()?;
    name_to_index(socket, interface.as_str()).ok()
}
