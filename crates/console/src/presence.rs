//! The one connection to the control plane that says all the time that the gateway is there, and tells it whether the control plane is.

use crate::door::{Door, DoorFailure};
use aws_lc_rs::rand;
use instance_connect_core::console::door::Serve;
use instance_connect_core::link::{Backoff, BackoffSettings};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long to wait until the next attempt: the control plane is on this machine, and starts again within seconds.
const RECONNECT: BackoffSettings =
    BackoffSettings { first: Duration::from_millis(200), longest: Duration::from_secs(3) };

/// Keeps the connection, without end. `present` says whether it is there.
pub(crate) async fn keep(socket: &Path, serve: Serve, present: watch::Sender<bool>) {
    let mut backoff = Backoff::new(RECONNECT);
    let mut told = false;
    loop {
        match introduce(socket, serve.clone()).await {
            Ok(door) => {
                tracing::info!(socket = %socket.display(), "the control plane is there");
                (told, backoff) = (false, Backoff::new(RECONNECT));
                present.send_replace(true);
                door.closed().await;
                present.send_replace(false);
                tracing::warn!("the control plane is gone: nobody can come in until it is back");
            }
            // Once, and not every three seconds.
            Err(error) if !told => {
                told = true;
                tracing::warn!(socket = %socket.display(), %error, "the control plane cannot be reached");
            }
            Err(_) => {}
        }
        sleep(backoff.next(random())).await;
    }
}

async fn introduce(socket: &Path, serve: Serve) -> Result<Door, DoorFailure> {
    let mut door = Door::open(socket).await?;
    door.serve(serve).await?;
    Ok(door)
}

/// Without randomness there are no key exchanges either; the wait is then the longest one.
fn random() -> u32 {
    let mut bytes = [0; 4];
    if rand::fill(&mut bytes).is_ok() { u32::from_be_bytes(bytes) } else { u32::MAX }
}
