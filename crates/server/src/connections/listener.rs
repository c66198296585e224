//! A listener from its first connection to its end.

use super::{Connection, Phase, Progress, spawn};
use crate::drain::Drain;
use crate::links::lock;
use crate::metrics::ListenerMetrics;
use instance_connect_core::places::{ConnectionLimits, Places};
use instance_connect_core::proxies::TrustedProxies;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long a listener rests when it cannot accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a failure to accept counts. While it lasts there is another one every [`ACCEPT_PAUSE`].
const FAILURE_COUNTS: Duration = Duration::from_secs(5);

/// How long a client may still begin a request once the end has begun. Where it keeps its connection busy, it is told with
/// the answer that this is the last one, rather than finding the connection closed under its next request.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// How often connections are looked for then that nobody begins a request on.
const LAST_LOOKS: Duration = Duration::from_millis(50);

/// Where connections come from, and what holds for them.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) limits: ConnectionLimits,
    /// The end of all this.
    pub(crate) drain: Arc<Drain>,
    pub(crate) acceptance: Arc<Acceptance>,
    pub(crate) metrics: ListenerMetrics,
}

impl Listener {
    /// One that nobody watches, and that never ends.
    #[cfg(test)]
    pub(crate) fn new(socket: TcpListener, limits: ConnectionLimits) -> Self {
        let (drain, acceptance) = (Arc::default(), Arc::default());
        Self { socket, limits, drain, acceptance, metrics: ListenerMetrics::default() }
    }
}

/// Whether a listener accepts connections.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    /// When that has failed last, and how.
    failed: Mutex<Option<(Instant, io::ErrorKind)>>,
}

/// A listener could not accept connections a moment ago.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("connections cannot be accepted: {0}")]
pub(crate) struct NotAccepting(io::ErrorKind);

impl Acceptance {
    /// # Errors
    /// [`NotAccepting`] for a moment after each failure.
    pub(crate) fn check(&self) -> Result<(), NotAccepting> {
        match *lock(&self.failed) {
            Some((at, error)) if at.elapsed() < FAILURE_COUNTS => Err(NotAccepting(error)),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, error: &io::Error) {
        *lock(&self.failed) = Some((Instant::now(), error.kind()));
    }
}

/// Accepts connections until the end begins, and serves each in a task of its own until it ends, or is closed for
/// waiting too long, or for another. Those that come later wait in the kernel for whoever listens next.
/// Connections of `trusted` proxies have no limit of their own.
pub(crate) async fn accept<F>(
    Listener { socket, limits, drain, acceptance, metrics }: Listener,
    trusted: TrustedProxies,
    serve: impl Fn(TcpStream, Connection) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Mutex::new(Places::new(limits)));
    let mut end = pin!(drain.begun());
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.as_mut() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                metrics.accepted.inc();
                let admitted = Connection::admit(&places, peer, &trusted, drain.under_way(), &metrics);
                let Some(connection) = admitted else { continue };
                // Answers are small and whole; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                spawn(connection, |connection| serve(stream, connection));
            }
            Err(error) => {
                // Out of descriptors, most likely: the next accept would fail at once, again and again.
                acceptance.failed(&error);
                metrics.accept_failures.inc();
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    close_unused(&places).await;
}

/// Closes connections that nobody has begun a request on for a while, again and again: one may be about to be answered.
async fn close_unused(places: &Mutex<Places<Progress>>) {
    tokio::time::sleep(LAST_REQUESTS).await;
    let mut looks = tokio::time::interval(LAST_LOOKS);
    loop {
        looks.tick().await;
        let now = Instant::now();
        let unused = lock(places).close_waiting(|progress| progress.is_unused(now));
        unused.iter().for_each(Progress::close);
    }
}

impl Progress {
    /// Whether no request has come for a while, or not the whole of its head.
    fn is_unused(&self, now: Instant) -> bool {
        let (phase, since) = *lock(&self.current);
        let is_waited_for = match phase {
            Phase::Opening | Phase::Idle | Phase::Head => true,
            Phase::Request | Phase::Answer | Phase::Lingering | Phase::Closed => false,
        };
        is_waited_for && now.duration_since(since) >= LAST_REQUESTS
    }
}
