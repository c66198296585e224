//! The other end, made for each test: a CA, an agents listener, and links that a test holds in its hand.

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_agent::ServerUrl;
use instance_connect_core::document::{
    Anchors, BootInstant, Region, ServerInstant, SignerStatement, SigningKey, UnixDay, UnixSeconds,
};
use instance_connect_core::link::{
    Ack, AckOutcome, AgentFrame, Capabilities, DocumentText, ENROLL_PATH, EnrollAnswer, EnrollError, EnrollErrorCode,
    EnrollRequest, Goodbye, GoodbyeCode, Grant, GrantId, Hello, JoinTokenText, LINK_PATH, Pong, ServerFrame, Signer,
    VersionText, Welcome, limits,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use zeroize::Zeroizing;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ACCOUNT: &str = "123456789012";

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How far the server's clock is ahead of the machine's: they have nothing to do with each other.
const SERVER_EPOCH: u64 = 77_000_000_000_000;

/// What the machine's clock shows now, on the server's.
pub(crate) fn server_time(now: BootInstant) -> ServerInstant {
    ServerInstant(now.0 + SERVER_EPOCH)
}

type CertificateAuthority = CertifiedIssuer<'static, KeyPair>;

pub(crate) struct ControlPlane {
    pub(crate) url: ServerUrl,
    pub(crate) port: u16,
    pub(crate) root: CertificateAuthority,
    pub(crate) nodes: CertificateAuthority,
    pub(crate) agents: CertificateAuthority,
    pub(crate) anchor: SigningKey,
    pub(crate) signer: SigningKey,
    shared: Arc<Shared>,
    links: mpsc::Receiver<Socket>,
    failures: mpsc::Receiver<String>,
    listening: JoinHandle<()>,
}

/// What the listener's tasks and the test have in common.
#[derive(Default)]
struct Shared {
    /// The requests that came, in order.
    requests: Mutex<Vec<EnrollRequest>>,
    /// How the next enrolments are answered: status and body.
    answers: Mutex<VecDeque<(StatusCode, Vec<u8>)>>,
    /// How the next links are refused.
    refusals: Mutex<VecDeque<EnrollErrorCode>>,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let root = CertifiedIssuer::self_signed(ca("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            |name: &str| CertifiedIssuer::signed_by(ca(name), KeyPair::generate().unwrap(), &root).unwrap();
        let (nodes, agents) = (intermediate("nodes"), intermediate("agents"));
        Self::start_as(root, nodes, agents, false).await
    }

    /// Another listener of the same CA whose server certificate comes from the agents intermediate, as a thief of that
    /// could make it.
    pub(crate) async fn impostor(self) -> Self {
        let Self { root, nodes, agents, .. } = self;
        Self::start_as(root, nodes, agents, true).await
    }

    async fn start_as(
        root: CertificateAuthority,
        nodes: CertificateAuthority,
        agents: CertificateAuthority,
        impostor: bool,
    ) -> Self {
        let issuer = if impostor { &agents } else { &nodes };
        let tls = TlsAcceptor::from(Arc::new(server_config(&root, issuer, &agents)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (link_sender, links) = mpsc::channel(16);
        let (failure_sender, failures) = mpsc::channel(16);
        let context = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = connection(stream, tls.clone(), Arc::clone(&context), link_sender.clone());
                let failures = failure_sender.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        let _ = failures.try_send(error);
                    }
                });
            }
        });
        Self {
            url: format!("https://127.0.0.1:{port}").parse().unwrap(),
            port,
            root,
            nodes,
            agents,
            anchor: SigningKey::from_seed(&[1; 32]).unwrap(),
            signer: SigningKey::from_seed(&[2; 32]).unwrap(),
            shared,
            links,
            failures,
            listening,
        }
    }

    pub(crate) fn token(&self) -> JoinTokenText {
        JoinTokenText::new(INSTANCE.parse().unwrap(), Zeroizing::new([3; 32]), self.root_sha256())
    }

    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        digest(&SHA256, self.root.der()).as_ref().try_into().unwrap()
    }

    pub(crate) fn server_ca(&self) -> String {
        self.nodes.pem() + &self.root.pem()
    }

    pub(crate) fn anchors(&self) -> String {
        format!("{}\n", Anchors::line(&REGION.parse().unwrap(), &self.anchor.verifying_key()))
    }

    pub(crate) fn statement(&self, wall: UnixSeconds) -> SignerStatement {
        let region: Region = REGION.parse().unwrap();
        SignerStatement::issue(&self.anchor, self.signer.verifying_key(), &region, UnixDay(wall.day().0 + 1))
    }

    /// A certificate for an agent's key.
    pub(crate) fn agent_chain(&self, key: &impl PublicKeyData) -> String {
        let urn = format!("urn:instance-connect:{REGION}:{ACCOUNT}:agent:{INSTANCE}:1");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(urn.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.agents).unwrap().pem() + &self.agents.pem()
    }

    /// The answer to an enrolment, as it should be.
    pub(crate) fn enroll_answer(&self, csr: &str) -> EnrollAnswer {
        let csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        EnrollAnswer {
            instance_id: INSTANCE.parse().unwrap(),
            region: REGION.parse().unwrap(),
            account_id: ACCOUNT.parse().unwrap(),
            certificate_chain: self.agent_chain(&csr.public_key),
            server_ca: self.server_ca(),
            anchors: self.anchors(),
        }
    }

    /// Answers the next enrolment, whatever it asks for, with this.
    pub(crate) fn answer_next_enrolment(&self, status: StatusCode, body: impl Into<Vec<u8>>) {
        self.shared.answers.lock().unwrap().push_back((status, body.into()));
    }

    /// Answers the next enrolment as it should be: the certificate is made for the key in the request.
    pub(crate) fn accept_next_enrolment(&self) {
        self.answer_next_enrolment(StatusCode::ACCEPTED, "");
    }

    pub(crate) fn refuse_next_link(&self, code: EnrollErrorCode) {
        self.shared.refusals.lock().unwrap().push_back(code);
    }

    /// The enrolment requests that have come.
    pub(crate) fn requests(&self) -> Vec<EnrollRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Serves enrolments that wait for a certificate until `client` is done.
    pub(crate) async fn serve<T>(&self, client: impl Future<Output = T>) -> T {
        timeout(PATIENCE, client).await.unwrap()
    }

    /// The next link, its hello not read yet.
    pub(crate) async fn accept_raw(&mut self) -> ServerLink {
        let socket = timeout(PATIENCE, self.links.recv()).await.expect("no link came").unwrap();
        ServerLink { socket, next_grant: 1 }
    }

    /// The next link, opened: hello answered with welcome and signer. `now` is what the machine's clock shows.
    pub(crate) async fn accept(&mut self, now: BootInstant, wall: UnixSeconds) -> ServerLink {
        let mut link = self.accept_raw().await;
        link.welcome(now).await;
        let statement = self.statement(wall).to_string().parse().unwrap();
        link.send(ServerFrame::Signer(Signer { statement })).await;
        link
    }

    /// Why the next connection came to nothing.
    pub(crate) async fn failure(&mut self) -> String {
        timeout(PATIENCE, self.failures.recv()).await.expect("no connection failed").unwrap()
    }

    /// A test that is over should not have been connected to by anything it does not know of.
    pub(crate) fn no_link_is_waiting(&mut self) -> bool {
        self.links.try_recv().is_err()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
