//! What all connections of a gateway share.

use crate::place::UnauthenticatedPlaces;
use crate::settings::Settings;
use russh::server::Config;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where the control plane is asked.
    pub(crate) socket: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) config: Arc<Config>,
    pub(crate) places: UnauthenticatedPlaces,
    pub(crate) sessions: Arc<Semaphore>,
    /// Whether the control plane is there.
    pub(crate) present: watch::Receiver<bool>,
    /// Whether this is to end.
    pub(crate) ending: watch::Receiver<bool>,
}

impl Gateway {
    /// Ends when the gateway is to.
    pub(crate) async fn ended(&self) {
        let mut ending = self.ending.clone();
        if ending.wait_for(|is_ending| *is_ending).await.is_err() {
            // Nobody is left who could end it.
            std::future::pending::<()>().await;
        }
    }
}
