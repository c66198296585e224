//! One connection from its first byte to its last: a place, a proven key, a shell, a session, a goodbye.
//!
//! The SSH library runs in a task of its own. Should it panic, the task ends, and with it what is here; whatever ends here cuts the
//! wire, and with it ends the library's task. A place is given back when both are gone.

use crate::client::{Arrival, Client, Progress};
use crate::gateway::Gateway;
use crate::place::Place;
use crate::session::{Parting, Screen, attend};
use crate::wire::{Wire, watch};
use crate::words;
use instance_connect_core::ssh_key::{KeyTypes, PublicKey};
use russh::server::{Handle, Handler, RunningSession, run_stream};
use russh::{ChannelId, Disconnect};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a client may take to read the last words of a session.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a client may take to go by itself: one that has to be sent away reports an error.
const LEAVE: Duration = Duration::from_secs(2);

/// How long the SSH library may take to notice that the wire is cut. All that it waits for there ends sooner.
const UNWIND: Duration = Duration::from_secs(10);

/// Serves a connection from this source.
pub(crate) async fn serve(stream: TcpStream, source: IpAddr, place: Place, gateway: Arc<Gateway>) {
    let (client, progress) = Client::new(Arc::clone(&gateway), source, place.expecting());
    let reason = serve_with(client, progress, stream, source, place, &gateway).await;
    tracing::debug!(%source, reason, "a connection ends");
}

/// Why a connection ends, for the log.
type Reason = &'static str;

async fn serve_with<H>(
    handler: H,
    mut progress: Progress,
    stream: TcpStream,
    source: IpAddr,
    mut place: Place,
    gateway: &Gateway,
) -> Reason
where
    H: Handler + Send + 'static,
{
    let deadline = Instant::now() + gateway.settings.authentication;
    let Ok((stream, wire)) = watch(stream) else { return "broken" };
    let config = Arc::clone(&gateway.config);
    let started = tokio::select! {
        biased;
        () = place.taken() => return "its place was given to another",
        () = sleep_until(deadline) => return "authentication took too long",
        () = gateway.ended() => return "the gateway ends",
        started = run_stream(config, stream, handler) => started,
    };
    let Ok(running) = started else { return "no SSH" };
    let mut running = Running::new(running, wire);

    let reason = tokio::select! {
        biased;
        () = place.taken() => Some("its place was given to another"),
        () = sleep_until(deadline) => Some("authentication took too long"),
        () = gateway.ended() => Some("the gateway ends"),
        authenticated = &mut progress.authenticated => authenticated.err().map(|_| "it left before authentication"),
        () = running.ended() => return "it left before authentication",
    };
    if let Some(reason) = reason {
        running.cut().await;
        return reason;
    }

    // Whoever finds no seat keeps the place of a stranger until it has been told.
    let seat = Arc::clone(&gateway.sessions).try_acquire_owned().ok();
    let place = if seat.is_some() { None } else { Some(place) };
    let arrival = tokio::select! {
        biased;
        () = gateway.ended() => None,
        () = running.ended() => return "it left without a session",
        // Clients ask for a shell at once: as long again is plenty.
        () = sleep(gateway.settings.authentication) => None,
        arrival = &mut progress.arrived => arrival.ok(),
    };
    let Some(arrival) = arrival else {
        running.cut().await;
        return "it asked for no shell";
    };
    let is_seated = seat.is_some();
    let reason = session(arrival, progress, source, is_seated, running, gateway).await;
    drop((seat, place));
    reason
}

/// Brings somebody to the line, and says goodbye.
async fn session(
    arrival: Arrival,
    Progress { input, .. }: Progress,
    source: IpAddr,
    is_seated: bool,
    mut running: Running<impl Handler>,
    gateway: &Gateway,
) -> Reason {
    let (address, channel) = (arrival.offer.address.clone(), arrival.channel);
    let screen = Screen::new(running.handle.clone(), channel);
    tracing::info!(%address, %source, key = fingerprint(arrival.offer.key.as_str()), client = arrival.name.as_str(), "somebody comes in");
    let attended = async {
        if is_seated {
            attend(arrival, input, &screen, gateway).await
        } else {
            Parting::failed(words::TOO_MANY_SESSIONS)
        }
    };
    let silence = running.wire.silent_for(gateway.settings.longest_silence());
    let parting = tokio::select! {
        biased;
        () = running.ended() => None,
        () = silence => None,
        parting = attended => Some(parting),
    };
    let Some(parting) = parting else {
        tracing::info!(%address, %source, "the connection of a session is gone");
        running.cut().await;
        return "it is gone";
    };
    tracing::info!(%address, %source, why = %parting.text, "a session ends");
    say_goodbye(&parting, &screen, channel, &mut running).await;
    running.cut().await;
    "its session has ended"
}

/// As `ssh-keygen -l` prints it, and the audit log has it.
fn fingerprint(key: &str) -> String {
    PublicKey::parse(key, &KeyTypes::all())
        .map_or_else(|_| "?".to_owned(), |key| key.fingerprint().to_string())
}

/// The last line, the status, and the end of the channel and the connection.
async fn say_goodbye(
    parting: &Parting,
    screen: &Screen,
    channel: ChannelId,
    running: &mut Running<impl Handler>,
) {
    let handle = running.handle.clone();
    let words = async {
        screen.show(words::line(&parting.text)).await?;
        handle.exit_status_request(channel, parting.status).await?;
        handle.eof(channel).await?;
        handle.close(channel).await
    };
    tokio::select! {
        biased;
        () = running.ended() => return,
        said = timeout(LAST_WORDS, words) => if !matches!(said, Ok(Ok(()))) { return },
    }
    if timeout(LEAVE, running.ended()).await.is_err() {
        let why = "the session has ended".to_owned();
        let sent = handle.disconnect(Disconnect::ByApplication, why, String::new());
        let _ = timeout(LEAVE, async {
            if sent.await.is_ok() {
                running.ended().await;
            }
        })
        .await;
    }
}

/// The SSH library at work on a connection.
struct Running<H: Handler> {
    /// None once it has ended.
    session: Option<Pin<Box<RunningSession<H>>>>,
    handle: Handle,
    wire: Wire,
}

impl<H: Handler> Running<H> {
    fn new(session: RunningSession<H>, wire: Wire) -> Self {
        let handle = session.handle();
        Self { session: Some(Box::pin(session)), handle, wire }
    }

    /// Ends when the library has: the client has gone, or broke the protocol, or the library panicked.
    async fn ended(&mut self) {
        if let Some(session) = &mut self.session {
            // What ended it is the client's affair, and may quote it.
            let _ = session.as_mut().await;
            self.session = None;
        }
    }

    /// Cuts the wire, and waits for the library to notice.
    async fn cut(mut self) {
        self.wire.cut();
        if timeout(UNWIND, self.ended()).await.is_err() {
            tracing::error!("the SSH library goes on without a wire");
        }
    }
}

#[cfg(test)]
mod tests;
