//! Streams that agents are asked for, and bring (docs/stream.md 1).

use crate::links::{Link, Links, lock};
use aws_lc_rs::digest::{SHA256, digest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_core::console::Mode;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::link::{
    OpenStream, OwnedLine, ServerFrame, StreamId, StreamRefusal, StreamTicket, limits,
};
use instance_connect_core::stream::EndCode;
use instance_connect_planted::planted;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// A stream's connection, after its upgrade.
pub(crate) type Stream = TokioIo<Upgraded>;

/// What agents were asked for and have not brought yet.
#[derive(Debug)]
pub(crate) struct Streams {
    links: Arc<Links>,
    random: Arc<dyn Random>,
    last_id: AtomicU64,
    asked: Mutex<HashMap<StreamId, Asked>>,
}

#[derive(Debug)]
struct Asked {
    /// Only who has asked and the agent know the ticket itself.
    ticket_sha256: [u8; 32],
    agent: InstanceId,
    until: ServerInstant,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Stream, StreamRefusal>>;

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoStream {
    /// The agent has no link now, or none that has this line.
    #[error("its agent is not connected, or no longer has the line")]
    NoLink,
    /// The agent says so.
    #[error("its agent refuses: {0}")]
    Refused(StreamRefusal),
    /// The agent has not brought it in time.
    #[error("its agent did not answer in time")]
    Late,
}

impl From<NoStream> for EndCode {
    /// What is on record of a session that had no stream.
    fn from(error: NoStream) -> Self {
        match error {
            NoStream::NoLink | NoStream::Late | NoStream::Refused(StreamRefusal::Unreachable) => {
                Self::AgentLost
            }
            NoStream::Refused(StreamRefusal::Overloaded) => Self::Overloaded,
            NoStream::Refused(_) => Self::LineFailed,
        }
    }
}

/// Where a stream that an agent brings is waited for.
#[derive(Debug)]
pub(crate) struct Awaited(Answer);

impl Streams {
    pub(crate) fn new(links: Arc<Links>, random: Arc<dyn Random>) -> Self {
        Self { links, random, last_id: AtomicU64::new(0), asked: Mutex::default() }
    }

    /// Whether an agent says, over the link that it has now, that it owns a line.
    pub(crate) fn is_owned(&self, agent: &InstanceId, line: &OwnedLine) -> bool {
        self.owner(agent, line).is_some()
    }

    /// Whether an agent has said, over the link that it has now, which lines it owns. One that knows of none says nothing of them.
    pub(crate) fn has_spoken(&self, agent: &InstanceId) -> bool {
        self.links.slot(agent).current().is_some_and(|link| link.has_spoken_of_lines())
    }

    fn owner(&self, agent: &InstanceId, line: &OwnedLine) -> Option<Arc<Link>> {
        self.links.slot(agent).current().filter(|link| link.owns(line))
    }

    /// Asks an agent for a stream to a line, and waits until it is there: [`limits::STREAM_TICKET`] at most.
    pub(crate) async fn open(
        &self,
        agent: &InstanceId,
        line: OwnedLine,
        mode: Mode,
        replay: u32,
    ) -> Result<Stream, NoStream> {
        let link = self.owner(agent, &line).ok_or(NoStream::NoLink)?;
        let id = StreamId(self.last_id.fetch_add(1, Ordering::Relaxed));
        let mut ticket = [0; 32];
        self.random.fill(&mut ticket);
        let (answer, answered) = oneshot::channel();
        let until = self.links.clock().monotonic().after(limits::STREAM_TICKET);
        let asked = Asked { ticket_sha256: sha256(&ticket), agent: agent.clone(), until, answer };
        lock(&self.asked).insert(id, asked);
        let _forget = Forget { streams: self, id };
        let ticket = StreamTicket::from_bytes(ticket);
        if !link.send(ServerFrame::OpenStream(OpenStream { id, ticket, line, mode, replay })) {
            return Err(NoStream::NoLink);
        }
        match tokio::time::timeout(limits::STREAM_TICKET, answered).await {
            Ok(Ok(stream)) => stream.map_err(NoStream::Refused),
            Ok(Err(_)) | Err(_) => Err(NoStream::Late),
        }
    }

    /// Uses up a ticket that this agent shows. `None` for one that it was not given, or not for now.
    pub(crate) fn redeem(&self, agent: &InstanceId, ticket: &StreamTicket) -> Option<Awaited> {
        let (sha256, now) = (sha256(ticket.as_bytes()), self.links.clock().monotonic());
        let is_shown = |asked: &Asked| {
            asked.ticket_sha256 == sha256
                && (asked.agent == *agent || planted("tickets-of-others"))
                && now < asked.until
        };
        let mut all = lock(&self.asked);
        let id = all.iter().find(|(_, asked)| is_shown(asked)).map(|(id, _)| *id)?;
        all.remove(&id).map(|asked| Awaited(asked.answer))
    }

    /// How many are asked for and not there yet.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.asked).len()
    }

    /// An agent says that it brings no stream.
    pub(crate) fn refused(&self, agent: &InstanceId, id: StreamId, refusal: StreamRefusal) {
        let mut all = lock(&self.asked);
        if all.get(&id).is_some_and(|asked| asked.agent == *agent)
            && let Some(asked) = all.remove(&id)
        {
            let _ = asked.answer.send(Err(refusal));
        }
    }
}

impl Awaited {
    /// The stream is there.
    pub(crate) fn bring(self, stream: Upgraded) {
        // Whoever has waited may have given up; then the connection is closed with this.
        let _ = self.0.send(Ok(TokioIo::new(stream)));
    }
}

/// Forgets a stream that is no longer waited for, also when whoever waited was dropped.
struct Forget<'a> {
    streams: &'a Streams,
    id: StreamId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.streams.asked).remove(&self.id);
    }
}

fn sha256(bytes: &[u8; 32]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
