//! Says that the agent is ready, to whoever started it and asked to be told (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The datagram socket that is to be told.
#[derive(Clone, Debug)]
pub struct NotifySocket(SocketAddr);

impl NotifySocket {
    /// The value of `NOTIFY_SOCKET`: a path, or `@` and a name in the abstract namespace.
    ///
    /// # Errors
    /// When it is too long for the name of a socket.
    pub fn parse(value: &OsStr) -> io::Result<Self> {
        let bytes = value.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(value),
        };
        address.map(Self)
    }

    /// Tells it, without waiting for a reader who has no room.
    pub(crate) fn tell(&self) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(b"READY=1", &self.0).map(|_| ())
    }
}
