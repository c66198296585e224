//! TLS of the agents listener, with a certificate of ours that is made anew while connections go on.

use crate::pki::{Pki, SERVER_LIFETIME, SERVER_RENEWED_BEFORE};
use arc_swap::ArcSwap;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Clock;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// The certificate that the agents listener has now, and what the next one is made of.
#[derive(Debug)]
pub(crate) struct AgentsTls {
    current: ArcSwap<Current>,
    pki: Arc<Pki>,
    names: Vec<String>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When its certificate ends.
    expires: UnixSeconds,
}

impl AgentsTls {
    /// Makes the first certificate, for these names.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(pki: Arc<Pki>, names: Vec<String>, now: UnixSeconds) -> anyhow::Result<Self> {
        let current = ArcSwap::from_pointee(Current::made(&pki, &names, now)?);
        Ok(Self { current, pki, names })
    }

    /// Makes the next certificate in time, until the process ends.
    pub(crate) async fn keep(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.renew(clock.wall());
        }
    }

    /// Makes the next certificate if it is time.
    fn renew(&self, now: UnixSeconds) {
        if now.0 <= self.expires().0 - SERVER_RENEWED_BEFORE {
            return;
        }
        match Current::made(&self.pki, &self.names, now) {
            Ok(next) => {
                tracing::info!(expires = next.expires.0, "the agents listener has another certificate");
                self.current.store(Arc::new(next));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "a certificate for the agents listener cannot be made; trying again in an hour"
                );
            }
        }
    }

    /// When the certificate ends that it has now.
    pub(crate) fn expires(&self) -> UnixSeconds {
        self.current.load().expires
    }

    /// Does the handshake of one connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.current.load().config);
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl Current {
    fn made(pki: &Pki, names: &[String], now: UnixSeconds) -> anyhow::Result<Self> {
        let config = Arc::new(pki.agents_tls(names, now)?);
        Ok(Self { config, expires: UnixSeconds(now.0.saturating_add(SERVER_LIFETIME.whole_seconds())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_store::{MasterKey, SqliteStore};
    use instance_connect_testkit::{SeededRandom, World};

    #[tokio::test]
    async fn its_certificate_is_made_anew_30_days_before_its_end() {
        const DAY: i64 = 24 * 60 * 60;
        let (directory, world, random) =
            (tempfile::tempdir().unwrap(), World::new(), Arc::new(SeededRandom::new(1)));
        let key = MasterKey::from_bytes([1; 32]);
        let store = SqliteStore::open(directory.path(), &key, random.clone()).unwrap();
        let pki = Pki::load(&store, random.as_ref(), &world.region, world.now).await.unwrap();
        let tls = AgentsTls::new(Arc::new(pki), vec!["localhost".to_owned()], world.now).unwrap();
        let day = |number: i64| UnixSeconds(world.now.0 + number * DAY);
        let first = Arc::clone(&tls.current.load().config);
        assert_eq!(tls.expires(), day(365));
        for (now, expires) in [(0, 365), (335, 365), (336, 336 + 365), (337, 336 + 365)] {
            tls.renew(day(now));
            assert_eq!(tls.expires(), day(expires), "day {now}");
            assert_eq!(Arc::ptr_eq(&first, &tls.current.load().config), expires == 365, "day {now}");
        }
    }
}
