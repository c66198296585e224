//! The signals by which a program is told to stop.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From when it is made on, these signals do not end the process any more.
#[derive(Debug)]
pub(crate) struct Stop(Vec<Signal>);

impl Stop {
    pub(crate) fn listen(kinds: &[SignalKind]) -> io::Result<Self> {
        kinds.iter().map(|kind| signal(*kind)).collect::<Result<_, _>>().map(Self)
    }

    /// Returns at the next of the signals.
    pub(crate) async fn wait(&mut self) {
        poll_fn(|context| {
            let is_heard = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if is_heard { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
