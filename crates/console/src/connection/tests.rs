//! What happens here when the SSH library panics: as it would, within its task.

use super::*;
use crate::algorithms::config;
use crate::host_keys::HostKeys;
use crate::place::UnauthenticatedPlaces;
use crate::settings::Settings;
use instance_connect_core::places::ConnectionLimits;
use russh::Channel;
use russh::server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// When the library panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeAuthentication,
    InSession,
}

/// A client that anybody can be, until then.
struct Panicking {
    moment: Moment,
    authenticated: Option<oneshot::Sender<()>>,
}

impl Handler for Panicking {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        assert_ne!(self.moment, Moment::BeforeAuthentication, "as was to be");
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.authenticated.take().unwrap().send(()).unwrap();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        panic!("as was to be");
    }
}

fn gateway(directory: &Path) -> Gateway {
    let settings = Settings {
        unauthenticated: ConnectionLimits { in_all: 1, per_source: 1 },
        sessions: 1,
        ..Settings::default()
    };
    let keys = HostKeys::load_or_make(directory).unwrap();
    Gateway {
        socket: directory.join("none"),
        settings,
        config: Arc::new(config(&keys, &settings)),
        places: UnauthenticatedPlaces::new(settings.unauthenticated),
        sessions: Arc::new(Semaphore::new(settings.sessions)),
        present: watch::channel(true).1,
        ending: watch::channel(false).1,
    }
}

/// One connection ends, its place and its seat are free, and the next one is served.
#[tokio::test]
async fn a_panic_of_the_library_ends_one_connection() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = gateway(directory.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (moment, reason) in [
        (Moment::BeforeAuthentication, "it left before authentication"),
        (Moment::InSession, "it left without a session"),
        (Moment::InSession, "it left without a session"),
        (Moment::BeforeAuthentication, "it left before authentication"),
    ] {
        // A key like any other.
        let key = directory.path().join("ssh_host_ed25519_key");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "IdentityAgent=none",
            ])
            .args(["-p", &port.to_string(), "127.0.0.1", "-i"])
            .arg(key);
        let mut ssh = ssh.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let place = gateway.places.admit(peer.ip()).unwrap();
        let (authenticated, is_authenticated) = oneshot::channel();
        let (_arrived, arrived) = oneshot::channel();
        let (_input, input) = mpsc::channel(1);
        let progress = Progress { authenticated: is_authenticated, arrived, input };
        let handler = Panicking { moment, authenticated: Some(authenticated) };
        let served = serve_with(handler, progress, stream, peer.ip(), place, &gateway).await;
        assert_eq!(served, reason, "{moment:?}");
        assert_eq!((gateway.places.clear(), gateway.sessions.available_permits()), (0, 1), "{moment:?}");
        assert_eq!(ssh.wait().await.unwrap().code(), Some(255), "{moment:?}");
    }
}
