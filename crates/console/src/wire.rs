//! The TCP connection of a client: when it was heard last, and how to cut it.

use rustix::net::{Shutdown, shutdown, sockopt};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// What the kernel keeps for a client that does not read, in bytes; without a bound it grows to megabytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Ends a connection from outside of the SSH library, whose task goes on by itself otherwise. Cuts when it is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
    heard: Heard,
}

/// When something was last heard.
type Heard = Arc<Mutex<Instant>>;

/// The connection as the SSH library sees it.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    heard: Heard,
}

/// # Errors
/// The connection has just broken, or descriptors have run out.
pub(crate) fn watch(stream: TcpStream) -> io::Result<(WatchedStream, Wire)> {
    // A key is a packet; waiting for more only delays it.
    stream.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER)?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    let heard = Arc::new(Mutex::new(Instant::now()));
    Ok((WatchedStream { stream, heard: Arc::clone(&heard) }, Wire { socket, heard }))
}

impl Wire {
    /// Ends both directions. Bytes that the kernel has taken are still sent.
    pub(crate) fn cut(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Ends once nothing was heard for so long.
    pub(crate) fn silent_for(&self, longest: Duration) -> impl Future<Output = ()> + use<> {
        let heard = Arc::clone(&self.heard);
        async move {
            loop {
                let last_heard = last(&heard);
                sleep_until(last_heard + longest).await;
                if last(&heard) == last_heard {
                    return;
                }
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

fn last(heard: &Heard) -> Instant {
    *heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
