//! Says how a program is, to whoever started it and asked to be told (sd_notify(3)).

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
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
        self.connect()?.send(message.as_bytes()).map(|_| ())
    }

    /// Gives a descriptor into its keeping. It passes it on, under this name, when it starts the program again
    /// (`FileDescriptorStoreMax=`, sd_listen_fds(3)). The one that it kept under this name is forgotten.
    ///
    /// # Errors
    /// As [`Self::tell`].
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let socket = self.connect()?;
        socket.send(format!("FDSTOREREMOVE=1\nFDNAME={name}").as_bytes())?;
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let message = format!("FDSTORE=1\nFDNAME={name}");
        sendmsg(&socket, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::empty())?;
        Ok(())
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&self.0)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::fs::File;
    use std::io::{IoSliceMut, Read as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_given_into_its_keeping_comes_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("notify"), directory.path().join("file"));
        let manager = UnixDatagram::bind(&socket).unwrap();
        std::fs::write(&file, "kept").unwrap();
        let notify = NotifySocket::parse(socket.as_os_str()).unwrap();
        notify.keep("public", File::open(&file).unwrap().as_fd()).unwrap();

        let mut message = [0; 100];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"FDSTOREREMOVE=1\nFDNAME=public");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut message)];
        let received = recvmsg(&manager, &mut slices, &mut control, RecvFlags::empty()).unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = control.drain().next() else {
            panic!("no descriptor")
        };
        let mut text = String::new();
        File::from(descriptors.next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((&message[..received.bytes], &*text), (&b"FDSTORE=1\nFDNAME=public"[..], "kept"));
    }
}
