//! A gateway from its start to its end.

use crate::VERSION;
use crate::algorithms::config;
use crate::descriptors::raise_for;
use crate::gateway::Gateway;
use crate::host_keys::{HostKeyError, HostKeys};
use crate::listener::accept;
use crate::place::UnauthenticatedPlaces;
use crate::presence::keep;
use crate::settings::Settings;
use instance_connect_core::console::door::Serve;
use instance_connect_notify::{NotifySocket, State};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Which gateway to run, and how.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The control plane's socket.
    pub socket: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the host keys are, or are to be made.
    pub host_keys: PathBuf,
    /// Whether the ECDSA host key is shown as well, to clients that know no ED25519.
    pub ecdsa_host_key: bool,
    /// Its bounds.
    pub settings: Settings,
    /// Who is to be told when clients can connect.
    pub notify: Option<NotifySocket>,
    /// What is written then.
    pub ready_file: Option<PathBuf>,
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// It has no host keys.
    #[error(transparent)]
    HostKeys(#[from] HostKeyError),
    /// It cannot listen there.
    #[error("{address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The ready file cannot be written.
    #[error("{}: {error}", path.display())]
    ReadyFile {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    schema: u32,
    address: SocketAddr,
    host_keys: &'a [String],
}

/// Runs the gateway until `stop` is ready, whether the control plane is there or not.
///
/// # Errors
/// What keeps it from starting. Once started it goes on whatever happens.
pub async fn run(settings: RunSettings, stop: impl Future<Output = ()> + Send) -> Result<(), RunFailure> {
    let RunSettings { socket, listen, host_keys, ecdsa_host_key, settings, notify, ready_file } = settings;
    let keys = HostKeys::load_or_make(&host_keys)?;
    let keys = if ecdsa_host_key { keys } else { keys.without_ecdsa() };
    let failed = |error| RunFailure::Listen { address: listen, error };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let settings = raise_for(settings);
    let (present, is_present) = watch::channel(false);
    let (end, ending) = watch::channel(false);
    let gateway = Arc::new(Gateway {
        socket: socket.clone(),
        settings,
        config: Arc::new(config(&keys, &settings)),
        places: UnauthenticatedPlaces::new(settings.unauthenticated),
        sessions: Arc::new(Semaphore::new(settings.sessions)),
        present: is_present,
        ending,
    });
    let public = keys.public();
    if let Some(path) = ready_file {
        let ready = Ready { schema: 1, address, host_keys: &public };
        write_ready(&path, &ready).map_err(|error| RunFailure::ReadyFile { path, error })?;
    }
    tell(notify.as_ref(), State::Ready);
    for fingerprint in keys.fingerprints() {
        tracing::info!(fingerprint, "host key");
    }
    tracing::info!(version = VERSION, %address, "the gateway listens");
    let serve = Serve { version: VERSION.to_owned(), host_keys: public, address };
    let stopped = async {
        stop.await;
        tell(notify.as_ref(), State::Stopping);
        end.send_replace(true);
        // `accept` ends now, and with it all of this.
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = keep(&socket, serve, present) => {}
        () = stopped => {}
        () = accept(listener, gateway) => {}
    }
    tracing::info!("the gateway has ended");
    Ok(())
}

fn write_ready(path: &Path, ready: &Ready<'_>) -> io::Result<()> {
    let text = serde_json::to_vec(ready)?;
    let unfinished = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&text)?;
    fs::rename(&unfinished, path)
}

fn tell(notify: Option<&NotifySocket>, state: State) {
    if let Some(Err(error)) = notify.map(|notify| notify.tell(state)) {
        tracing::warn!(%error, "whoever started this cannot be told how it is");
    }
}
