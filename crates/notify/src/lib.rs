//! Says how a program is, to whoever started it and asked to be told (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// How a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does what it is there for.
    Ready,
    /// It is about to end.
    Stopping,
}

/// The datagram socket that is to be told.
#[derive(Clone, Debug)]
pub struct NotifySocket(SocketAddr);

impl NotifySocket {
    /// The one that this process was started with, if any: `NOTIFY_SOCKET`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_environment() -> io::Result<Option<Self>> {
        std::env::var_os("NOTIFY_SOCKET").map(|value| Self::parse(&value)).transpose()
    }

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
    ///
    /// # Errors
    /// Nobody reads there, or there is no room.
    pub fn tell(&self, state: State) -> io::Result<()> {
        let message = match state {
            State::Ready => "READY=1",
            State::Stopping => "STOPPING=1",
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &self.0).map(|_| ())
    }
}
