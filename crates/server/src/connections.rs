//! The connections of a listener: how many there may be, and how long a client may keep each of them waiting.
//!
//! `core::places` says which connection goes when there is no place for another. What a connection waits for is its
//! [`Phase`]. Reading a body and working on a request are bounded where they are done; every other wait is bounded here,
//! and ends the connection, in whatever state the protocol above is.

mod listener;

use crate::drain::UnderWay;
use crate::links::lock;
use crate::metrics::ListenerMetrics;
use futures_util::task::AtomicWaker;
use instance_connect_core::places::{Closed, ConnectionId, NoPlace, PerSource, Places};
use instance_connect_core::proxies::TrustedProxies;
use instance_connect_planted::planted;
pub(crate) use listener::{ACCEPT_PAUSE, Acceptance, Listener, accept};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until};

/// From accepting a connection to the first byte of its first request, a TLS handshake included.
const OPENING: Duration = Duration::from_secs(10);

/// From an answer to the first byte of the next request. SDKs keep connections for about as long.
const IDLE: Duration = Duration::from_secs(60);

/// From the first byte of a request to the end of its head: some KiB that a client sends at once.
const HEAD: Duration = Duration::from_secs(10);

/// From an answer's being ready to the kernel's having taken all of it. It is short: whoever takes longer does not read.
const ANSWER: Duration = Duration::from_secs(10);

/// From our last word to the client's. Closing at once, with bytes unread, would take the answer away again before a
/// client that is still sending has read it (RFC 9112, 9.6).
const LINGERING: Duration = Duration::from_secs(2);

/// Bytes that are read meanwhile and thrown away.
const LINGERING_BYTES: usize = 256 * 1024;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first byte of a first request.
    Opening,
    /// The first byte of another request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// A request's body, then the work on it.
    Request,
    /// The client, to take an answer.
    Answer,
    /// The client, to close it too.
    Lingering,
    /// Nothing: its place has been given to another.
    Closed,
}

impl Phase {
    /// How long it may last.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Opening => Some(OPENING),
            Self::Idle => Some(IDLE),
            Self::Head if planted("slow-heads-allowed") => None,
            Self::Head => Some(HEAD),
            Self::Request => None,
            Self::Answer => Some(ANSWER),
            Self::Lingering => Some(LINGERING),
            Self::Closed => Some(Duration::ZERO),
        }
    }
}

/// Serves a connection in a task of its own.
fn spawn<F>(connection: Connection, serve: impl FnOnce(Connection) -> F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (peer, overdue) = (connection.peer, Overdue::new(connection.progress.clone()));
    let served = serve(connection);
    tokio::spawn(async move {
        tokio::select! {
            // Whatever phase it enters, `overdue` looks at it next.
            biased;
            () = served => {}
            phase = overdue => tracing::debug!(%peer, ?phase, "closing a connection"),
        }
    })
}

/// A connection in its place, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: IpAddr,
    id: ConnectionId,
    places: Arc<Mutex<Places<Progress>>>,
    progress: Progress,
    under_way: UnderWay,
    metrics: ListenerMetrics,
}

impl Connection {
    fn admit(
        places: &Arc<Mutex<Places<Progress>>>,
        peer: SocketAddr,
        trusted: &TrustedProxies,
        under_way: UnderWay,
        metrics: &ListenerMetrics,
    ) -> Option<Self> {
        let is_proxy = trusted.contain(peer.ip());
        let per_source = if is_proxy { PerSource::Shared } else { PerSource::Limited };
        let progress = Progress::new();
        let admitted = lock(places).admit(peer.ip(), per_source, progress.clone());
        match admitted {
            Ok((id, closed)) => {
                close(closed, metrics);
                metrics.open.inc();
                let (peer, places, metrics) = (peer.ip().to_canonical(), Arc::clone(places), metrics.clone());
                Some(Self { peer, id, places, progress, under_way, metrics })
            }
            Err(error) => {
                metrics.closed_for_others.inc();
                tracing::debug!(%peer, %error, "refusing a connection");
                None
            }
        }
    }

    /// Whom it is from, as far as the connection itself tells: its peer, or the client that a trusted proxy has named.
    /// In the one form that policies, limits and records see: `::ffff:a.b.c.d` is IPv4.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether its next answer is the last one.
    pub(crate) fn is_draining(&self) -> bool {
        self.under_way.is_draining()
    }

    /// For work that goes on when the connection has ended.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.under_way.clone()
    }

    /// A trusted proxy has named its client: the connection counts as that one's from now on.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub(crate) fn is_from(&mut self, client: IpAddr) -> Result<(), NoPlace> {
        self.peer = client;
        let closed = lock(&self.places).moves(self.id, client)?;
        close(closed, &self.metrics);
        Ok(())
    }

    /// Watches the bytes that come and go.
    pub(crate) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, progress: self.progress.clone(), lingering: LINGERING_BYTES }
    }

    /// The head of a request is there.
    pub(crate) fn head_arrived(&self) {
        self.progress.enter(Phase::Request);
    }

    /// The whole request is there. Until [`Self::worked`] the connection is not closed for another.
    ///
    /// # Errors
    /// [`Closed`] when it has been, a moment ago: then nothing may be done for it any more.
    pub(crate) fn works(&self) -> Result<(), Closed> {
        lock(&self.places).works(self.id)
    }

    /// The work is done.
    pub(crate) fn worked(&self) {
        lock(&self.places).waits(self.id);
    }

    /// The answer is sent from now.
    pub(crate) fn answers(&self) {
        self.progress.enter(Phase::Answer);
    }
}

/// Closes the connection that had to go for another one.
fn close(closed: Option<Progress>, metrics: &ListenerMetrics) {
    if let Some(closed) = closed {
        metrics.closed_for_others.inc();
        closed.close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.places).left(self.id);
        self.metrics.open.dec();
    }
}

/// The phase a connection is in, and since when.
#[derive(Clone, Debug)]
struct Progress {
    current: Arc<Mutex<(Phase, Instant)>>,
    /// Wakes the connection's task.
    task: Arc<AtomicWaker>,
}

impl Progress {
    fn new() -> Self {
        Self { current: Arc::new(Mutex::new((Phase::Opening, Instant::now()))), task: Arc::default() }
    }

    /// Enters a phase, in the connection's own task.
    fn enter(&self, next: Phase) {
        self.enter_from(next, |now| now != Phase::Closed);
    }

    fn enter_from(&self, next: Phase, from: impl FnOnce(Phase) -> bool) {
        let mut current = lock(&self.current);
        if from(current.0) {
            *current = (next, Instant::now());
        }
    }

    /// Closes the connection, from any task.
    fn close(&self) {
        self.enter(Phase::Closed);
        self.task.wake();
    }
}

/// Ends when a phase has lasted too long, with that phase. It is polled in the connection's own task, after whatever
/// enters phases there, so that entering one wakes nobody.
///
/// Where a phase ends later than the timer, the timer is left as it is until it goes off: a request has four phases, and
/// setting it for each would cost more than looking in vain every few seconds.
struct Overdue {
    progress: Progress,
    timer: Pin<Box<Sleep>>,
}

impl Overdue {
    fn new(progress: Progress) -> Self {
        Self { progress, timer: Box::pin(sleep_until(Instant::now() + OPENING)) }
    }
}

impl Future for Overdue {
    type Output = Phase;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Phase> {
        self.progress.task.register(context.waker());
        let (phase, since) = *lock(&self.progress.current);
        let Some(limit) = phase.limit() else { return Poll::Pending };
        let end = since + limit;
        if end < self.timer.deadline() {
            self.timer.as_mut().reset(end);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.timer.deadline() >= end {
                return Poll::Ready(phase);
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// A stream that notes when a request begins to come, and when an answer has gone.
///
/// Where the beginning of a request comes together with the request before it, it is noted only at its next byte; until
/// then the connection counts as idle.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    progress: Progress,
    /// How many bytes it still reads after its end.
    lingering: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.enter_from(Phase::Head, |now| matches!(now, Phase::Opening | Phase::Idle));
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// hyper flushes when it has written the whole of an answer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.progress.enter_from(Phase::Idle, |now| now == Phase::Answer);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        self.progress.enter_from(Phase::Lingering, |now| !matches!(now, Phase::Lingering | Phase::Closed));
        let mut bytes = [0; 4096];
        while self.lingering > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            match buffer.filled().len() {
                0 => break,
                read => self.lingering = self.lingering.saturating_sub(read),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
