//! The unix socket by which the gateway asks (`core::console::door`).

use super::{Console, Refusal, Session, relay};
use crate::os_accounts;
use anyhow::{Context as _, bail};
use instance_connect_core::console::door::{
    Answer, Attach, Attached, MessageReader, OFFERS, Refused, Request, encode,
};
use instance_connect_core::link::Line;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections of the gateway: sessions, and as many again of people who have not authenticated yet.
const CONNECTIONS: usize = 2 * instance_connect_core::console::limits::SESSIONS;

/// How long the gateway may take from one message to the next: a person authenticates meanwhile.
const NEXT_MESSAGE: Duration = Duration::from_secs(30);

/// How long it may take to take an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The listening socket.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// As whom the gateway runs.
    gateway: u32,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(crate) struct DoorSettings {
    /// The path.
    pub(crate) socket: PathBuf,
    /// The OS user that the gateway runs as.
    pub(crate) user: String,
}

impl DoorSettings {
    /// Listens.
    pub(crate) fn open(&self) -> anyhow::Result<Door> {
        let user = os_accounts::named(&self.user)?.map(|user| user.uid);
        if user.is_none() {
            tracing::warn!(
                user = self.user,
                "there is no such user: no gateway but one of this process's own is heard"
            );
        }
        Door::open(&self.socket, user.unwrap_or_else(|| rustix::process::geteuid().as_raw()))
    }
}

impl Door {
    /// Listens at a path, which is no one else's: what an earlier process has left there is removed.
    ///
    /// Whoever is in the directory's group may connect; who may ask is decided by who they are.
    fn open(path: &Path, gateway: u32) -> anyhow::Result<Self> {
        match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    bail!("another process listens at {}", path.display());
                }
                fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen at {}", path.display()));
            }
            Ok(listener) => return Self::of(listener, path, gateway),
        }
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
        Self::of(listener, path, gateway)
    }

    fn of(listener: UnixListener, path: &Path, gateway: u32) -> anyhow::Result<Self> {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))?;
        Ok(Self { listener, path: path.to_owned(), gateway })
    }

    /// Serves the gateway until the process ends.
    pub(crate) async fn serve(self, console: Arc<Console>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "cannot accept the gateway");
                    tokio::time::sleep(crate::connections::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if self.is_gateway(peer.uid()) => {}
                peer => {
                    let uid = peer.map(|peer| peer.uid()).ok();
                    tracing::warn!(uid, "somebody who is not the console's gateway asks at its socket");
                    continue;
                }
            }
            let console = Arc::clone(&console);
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = Conversation::new(stream).hold(&console).await {
                    tracing::debug!(%error, "a connection of the console's gateway ended");
                }
            });
        }
    }

    /// The gateway's own user, whoever this process is, and root, which could be either.
    fn is_gateway(&self, uid: u32) -> bool {
        uid == self.gateway || uid == rustix::process::geteuid().as_raw() || uid == 0
    }
}

struct Conversation {
    stream: UnixStream,
    messages: MessageReader,
}

impl Conversation {
    fn new(stream: UnixStream) -> Self {
        Self { stream, messages: MessageReader::default() }
    }

    async fn hold(mut self, console: &Arc<Console>) -> anyhow::Result<()> {
        for _ in 0..=OFFERS {
            let next = timeout(NEXT_MESSAGE, self.next()).await;
            let Some(request) = next.context("it says nothing")?? else { return Ok(()) };
            match request {
                Request::Serve(serve) => {
                    let _presence = console.serve(serve);
                    self.answer(&Answer::Serving {}).await?;
                    // It has nothing more to say; what counts is that it is there.
                    let mut none = [0];
                    let mut draining = console.drain.under_way();
                    tokio::select! {
                        _ = self.stream.read(&mut none) => {}
                        () = draining.draining() => {}
                    }
                    return Ok(());
                }
                Request::Offer(offer) => {
                    self.answer(&Answer::Expected(console.is_expected(&offer))).await?;
                }
                Request::Attach(attach) => return self.attach(console, &attach).await,
            }
        }
        bail!("it asks too often")
    }

    /// The rest of the connection is one session.
    async fn attach(mut self, console: &Arc<Console>, attach: &Attach) -> anyhow::Result<()> {
        let _under_way = console.drain.under_way();
        let Session { running, stream, ordered, begun, held } = match console.attach(attach).await {
            Ok(session) => session,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let attached = Answer::Attached(Attached {
            session: running.push.request.as_str().parse()?,
            mode: running.mode,
            notice: Line::lossy(&running.name),
        });
        if let Err(error) = self.answer(&attached).await {
            tracing::debug!(%error, "the gateway has gone");
        }
        let said_first = self.messages.into_rest();
        let withdrawn = console.withdrawn(attach.offer.address.instance(), held.as_ref());
        let (end, passed) =
            relay::run(self.stream, &said_first, stream, running.mode, ordered, withdrawn).await;
        running.close(end, begun, passed).await;
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal) -> anyhow::Result<()> {
        let reason = Line::lossy(&refusal.to_string());
        self.answer(&Answer::Refused(Refused { reason })).await
    }

    /// The next request; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Request>> {
        let mut piece = [0; 4096];
        loop {
            if let Some(request) = self.messages.next()? {
                return Ok(Some(request));
            }
            match self.stream.read(&mut piece).await? {
                0 => return Ok(None),
                count => self.messages.push(piece.get(..count).unwrap_or_default()),
            }
        }
    }

    async fn answer(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let line = encode(answer)?;
        timeout(ANSWER, self.stream.write_all(&line)).await.context("it takes no answer")??;
        Ok(())
    }
}
