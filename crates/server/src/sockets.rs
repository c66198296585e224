//! Listening sockets: those that a service manager has kept since an earlier run, or ours.
//!
//! While the program is replaced, whoever connects to a socket that is kept waits in the kernel until the next one accepts.

use anyhow::{Context as _, ensure};
use instance_connect_notify::NotifySocket;
use instance_connect_planted::planted;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

/// Connections that the kernel holds until they are accepted: as many as Linux allows by default. A short queue fills up
/// in a flood, and then a good client's attempts are dropped too.
const BACKLOG: i32 = 4096;

/// Bytes of answers that the kernel keeps for one client. Left to itself it keeps up to several MiB, and a client that
/// sends and never reads would be worked for until those are full. Several of the largest frames of a link fit, and two of
/// the largest TCP segments, which are those of the loopback interface: were there room for one, the rest of a long answer
/// would wait 40 ms for each to be acknowledged.
const SEND_BUFFER: usize = 64 * 1024;

/// The sockets that this process was started with (sd_listen_fds(3)), by their names.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<(String, TcpListener)>);

impl Inherited {
    /// Takes them. Called once, before anything else opens descriptors.
    ///
    /// # Errors
    /// The environment is malformed.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let passed = sd_listen_fds::get().context("LISTEN_FDS")?;
        let named =
            |(name, socket): (Option<String>, _)| (name.unwrap_or_default(), TcpListener::from(socket));
        Ok(Self(passed.into_iter().map(named).collect()))
    }

    /// Listens on an address: with the socket that was passed under this name, if it is one of this address. Another one
    /// is given into the keeping of `notify`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn listen(
        &mut self,
        name: &str,
        address: SocketAddr,
        notify: Option<&NotifySocket>,
    ) -> anyhow::Result<tokio::net::TcpListener> {
        let socket = match self.named(name, address) {
            Some(socket) => socket,
            None => {
                let socket =
                    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
                if let Some(Err(error)) = notify.map(|notify| notify.keep(name, socket.as_fd())) {
                    tracing::warn!(%error, name, "the service manager does not keep a socket");
                }
                socket
            }
        };
        // What is accepted inherits it.
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        rustix::net::listen(&socket, BACKLOG).with_context(|| format!("cannot listen on {address}"))?;
        socket.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(socket)?)
    }

    /// Refuses what is left over: a mistake in a name would otherwise leave clients at a socket that nobody accepts from.
    ///
    /// # Errors
    /// The names of these sockets.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let names: Vec<_> = self.0.into_iter().map(|(name, _)| name).collect();
        ensure!(
            names.is_empty(),
            "was started with sockets of names it does not know: {names:?}; they are public, agents and admin"
        );
        Ok(())
    }

    /// The socket of this name. One that listens elsewhere than the configuration says is closed: what the configuration
    /// allows, such as plain http, it allows for its own address.
    fn named(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        let (_, socket) = self.0.swap_remove(index);
        match socket.local_addr() {
            _ if planted("any-socket-used") => Some(socket),
            Ok(own) if own == address || (address.port() == 0 && own.ip() == address.ip()) => Some(socket),
            own => {
                tracing::warn!(name, ?own, %address, "was started with a socket of another address; it is not used");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};
    use std::os::fd::OwnedFd;

    fn inherited(sockets: impl IntoIterator<Item = (&'static str, TcpListener)>) -> Inherited {
        Inherited(sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)).collect())
    }

    #[tokio::test]
    async fn a_socket_of_the_address_is_used_with_who_waits_there() {
        let kept = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = kept.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut inherited = inherited([("agents", other), ("public", kept)]);
        let listener = inherited.listen("public", address, None).unwrap();
        assert_eq!(listener.accept().await.unwrap().1, waiting.local_addr().unwrap());
        let any_port = inherited.listen("agents", "127.0.0.1:0".parse().unwrap(), None).unwrap();
        assert_ne!(any_port.local_addr().unwrap(), address);
        inherited.finish().unwrap();
    }

    /// Otherwise plain http, which the configuration allows on loopback, would be served to everybody.
    #[tokio::test]
    async fn a_socket_of_another_address_is_not_used() {
        let kept = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = kept.local_addr().unwrap().port();
        for configured in ["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()] {
            let kept = kept.try_clone().unwrap();
            let mut inherited = inherited([("public", kept)]);
            let listener = inherited.listen("public", configured.parse().unwrap(), None).unwrap();
            let own = listener.local_addr().unwrap();
            assert!(own.ip().is_loopback() && own.port() != port, "{own}");
            inherited.finish().unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_no_listener_of_ours_is_refused() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let udp = TcpListener::from(OwnedFd::from(udp));
        assert!(inherited([("public", udp)]).listen("public", address, None).is_err());
        let unknown = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = inherited([("pubic", unknown)]).finish().unwrap_err().to_string();
        assert!(error.contains("pubic"), "{error}");
        Inherited::default().finish().unwrap();
    }
}
