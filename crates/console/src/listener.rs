//! Accepting connections, each of which is served in a task of its own.

use crate::connection::serve;
use crate::gateway::Gateway;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a listener rests when it cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long sessions may take to say goodbye at the end.
const GOODBYES: Duration = Duration::from_secs(8);

/// Accepts connections until the gateway ends, and waits for those there are to say goodbye.
pub(crate) async fn accept(socket: TcpListener, gateway: Arc<Gateway>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = gateway.ended() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    // Its place is free again: it was the task's own.
                    tracing::error!(%error, "a connection failed; others go on");
                }
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match gateway.places.admit(peer.ip()) {
                Ok(place) => {
                    let source = peer.ip().to_canonical();
                    connections.spawn(serve(stream, source, place, Arc::clone(&gateway)));
                }
                Err(error) => tracing::debug!(%peer, %error, "refusing a connection"),
            },
            Err(error) => {
                // Out of descriptors, most likely: the next accept would fail at once, again and again.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    let _ = timeout(GOODBYES, async { while connections.join_next().await.is_some() {} }).await;
}
