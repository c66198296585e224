//! The other end, made for each test: a CA, an agents listener, and links that a test holds in its hand.

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_agent::{MachineClock, ServerUrl};
use instance_connect_core::document::{
    Anchors, BootInstant, Region, ServerInstant, SignerStatement, SigningKey, UnixDay,
};
use instance_connect_core::link::{
    Ack, AckOutcome, AgentFrame, Capabilities, ENROLL_PATH, EnrollAnswer, EnrollError, EnrollErrorCode,
    EnrollRequest, Goodbye, Grant, GrantId, Hello, JoinTokenText, LINK_PATH, Pong, Refusal, STREAM_PATH,
    STREAM_PROTOCOL, ServerFrame, Signer, StreamTicket, TICKET_HEADER, VersionText, Welcome,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ACCOUNT: &str = "123456789012";

/// Longer than anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the machine's clock shows, on the server's: they have different epochs.
pub(crate) fn server_time(now: BootInstant) -> ServerInstant {
    ServerInstant(now.0 + 77_000_000_000_000)
}

/// A CA with its intermediates, an anchor and a signer.
pub(crate) struct Authority {
    pub(crate) root: CertifiedIssuer<'static, KeyPair>,
    pub(crate) nodes: CertifiedIssuer<'static, KeyPair>,
    pub(crate) agents: CertifiedIssuer<'static, KeyPair>,
    pub(crate) anchor: SigningKey,
    pub(crate) signer: SigningKey,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            |name: &str| CertifiedIssuer::signed_by(ca(name), KeyPair::generate().unwrap(), &root).unwrap();
        Self {
            nodes: intermediate("nodes"),
            agents: intermediate("agents"),
            anchor: SigningKey::from_seed(&[1; 32]).unwrap(),
            signer: SigningKey::from_seed(&[2; 32]).unwrap(),
            root,
        }
    }

    pub(crate) fn token(&self) -> JoinTokenText {
        let root_sha256 = digest(&SHA256, self.root.der()).as_ref().try_into().unwrap();
        JoinTokenText::new(INSTANCE.parse().unwrap(), Zeroizing::new([3; 32]), root_sha256)
    }

    pub(crate) fn server_ca(&self) -> String {
        self.nodes.pem() + &self.root.pem()
    }

    pub(crate) fn anchors(&self) -> String {
        format!("{}\n", Anchors::line(&REGION.parse().unwrap(), &self.anchor.verifying_key()))
    }

    pub(crate) fn statement(&self, clock: &dyn MachineClock) -> SignerStatement {
        let region: Region = REGION.parse().unwrap();
        let tomorrow = UnixDay(clock.wall().day().0 + 1);
        SignerStatement::issue(&self.anchor, self.signer.verifying_key(), &region, tomorrow)
    }

    /// A certificate for an agent's key.
    pub(crate) fn agent_chain(&self, key: &impl PublicKeyData) -> String {
        self.agent_chain_of(key, 1, Validity::default())
    }

    /// The same of any generation.
    pub(crate) fn agent_chain_of(
        &self,
        key: &impl PublicKeyData,
        generation: u64,
        Validity(not_before, not_after): Validity,
    ) -> String {
        let urn = format!("urn:instance-connect:{REGION}:{ACCOUNT}:agent:{INSTANCE}:{generation}");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        (params.not_before, params.not_after) = (at(not_before).into(), at(not_after).into());
        params.subject_alt_names = vec![SanType::URI(urn.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.agents).unwrap().pem() + &self.agents.pem()
    }

    /// The answer to an enrolment, as it should be.
    pub(crate) fn enroll_answer(&self, request: &EnrollRequest) -> EnrollAnswer {
        let csr = CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
        EnrollAnswer {
            instance_id: INSTANCE.parse().unwrap(),
            region: REGION.parse().unwrap(),
            account_id: ACCOUNT.parse().unwrap(),
            certificate_chain: self.agent_chain(&csr.public_key),
            server_ca: self.server_ca(),
            anchors: self.anchors(),
        }
    }

    /// The TLS of an agents listener whose certificate comes from `issuer`.
    fn server_config(&self, issuer: &CertifiedIssuer<'static, KeyPair>) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, issuer).unwrap();
        let mut clients = RootCertStore::empty();
        clients.add(self.agents.der().clone()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&crypto))
            .allow_unauthenticated()
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone(), issuer.der().clone(), self.root.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap()
    }
}

/// From when to when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Validity(pub(crate) u64, pub(crate) u64);

impl Default for Validity {
    /// Nobody thinks of renewing it yet.
    fn default() -> Self {
        Self(1_700_000_000, 4_000_000_000)
    }
}

/// That of a certificate that is to be renewed.
pub(crate) const LONG_DUE: Validity = Validity(1_000_000_000, 1_900_000_000);

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// How one enrolment is answered, other than as it should be.
type Answer = Box<dyn FnOnce(&Authority, &EnrollRequest) -> (StatusCode, Vec<u8>) + Send>;

/// An agents listener.
pub(crate) struct ControlPlane {
    pub(crate) authority: Arc<Authority>,
    pub(crate) port: u16,
    context: Arc<Context>,
    links: mpsc::Receiver<Socket>,
    streams: mpsc::Receiver<(StreamTicket, TokioIo<Upgraded>)>,
    failures: mpsc::Receiver<String>,
    listening: JoinHandle<()>,
}

/// What the listener's connections and the test have in common.
struct Context {
    authority: Arc<Authority>,
    links: mpsc::Sender<Socket>,
    streams: mpsc::Sender<(StreamTicket, TokioIo<Upgraded>)>,
    /// Whether streams are refused.
    refuses_streams: AtomicBool,
    /// The enrolment requests that came.
    requests: Mutex<Vec<EnrollRequest>>,
    answers: Mutex<VecDeque<Answer>>,
    refusals: Mutex<VecDeque<EnrollErrorCode>>,
    /// The generations of the certificates that opened links.
    generations: Mutex<Vec<u64>>,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new();
        let tls = authority.server_config(&authority.nodes);
        Self::listen(authority, tls).await
    }

    /// Its server certificate comes from the agents intermediate, as who stole that could make one.
    pub(crate) async fn start_impostor() -> Self {
        let authority = Authority::new();
        let tls = authority.server_config(&authority.agents);
        Self::listen(authority, tls).await
    }

    async fn listen(authority: Authority, tls: ServerConfig) -> Self {
        let authority = Arc::new(authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (link_sender, links) = mpsc::channel(16);
        let (stream_sender, streams) = mpsc::channel(16);
        let (failure_sender, failures) = mpsc::channel(16);
        let context = Arc::new(Context {
            authority: Arc::clone(&authority),
            links: link_sender,
            streams: stream_sender,
            refuses_streams: AtomicBool::new(false),
            requests: Mutex::default(),
            answers: Mutex::default(),
            refusals: Mutex::default(),
            generations: Mutex::default(),
        });
        let (tls, shared) = (TlsAcceptor::from(Arc::new(tls)), Arc::clone(&context));
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (connection, failures) =
                    (serve(stream, tls.clone(), Arc::clone(&shared)), failure_sender.clone());
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        let _ = failures.try_send(error);
                    }
                });
            }
        });
        Self { authority, port, context, links, streams, failures, listening }
    }

    pub(crate) fn url(&self) -> ServerUrl {
        format!("https://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// Answers the next enrolment in this way. Without it the answer is as it should be.
    pub(crate) fn answer(
        &self,
        answer: impl FnOnce(&Authority, &EnrollRequest) -> (StatusCode, Vec<u8>) + Send + 'static,
    ) {
        self.context.answers.lock().unwrap().push_back(Box::new(answer));
    }

    /// The enrolment requests that came.
    pub(crate) fn requests(&self) -> Vec<EnrollRequest> {
        self.context.requests.lock().unwrap().clone()
    }

    /// Refuses the next link with this.
    pub(crate) fn refuse_link(&self, code: EnrollErrorCode) {
        self.context.refusals.lock().unwrap().push_back(code);
    }

    /// The generations of the certificates that opened links.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.context.generations.lock().unwrap().clone()
    }

    /// How many of the refusals have not been given yet.
    pub(crate) fn refusals_left(&self) -> usize {
        self.context.refusals.lock().unwrap().len()
    }

    /// The next link, its hello not read yet.
    pub(crate) async fn accept_raw(&mut self) -> ServerLink {
        ServerLink { socket: timeout(PATIENCE, self.links.recv()).await.unwrap().unwrap(), grants: 0 }
    }

    /// The next link, welcomed and told the signer, when the agent has heard that.
    pub(crate) async fn accept(&mut self, clock: &dyn MachineClock) -> ServerLink {
        let mut link = self.accept_raw().await;
        link.welcome(clock).await;
        let statement = self.authority.statement(clock).to_string().parse().unwrap();
        link.send(ServerFrame::Signer(Signer { statement })).await;
        // It is the ack that shows it.
        assert_eq!(link.grant("", clock.boot()).await, AckOutcome::Refused(Refusal::Expired));
        link
    }

    /// The next stream, with the ticket that it has shown.
    pub(crate) async fn accept_stream(&mut self) -> (StreamTicket, TokioIo<Upgraded>) {
        timeout(PATIENCE, self.streams.recv()).await.unwrap().unwrap()
    }

    /// Whether streams are refused from now on.
    pub(crate) fn refuse_streams(&self, refused: bool) {
        self.context.refuses_streams.store(refused, Ordering::SeqCst);
    }

    /// Why the next connection came to nothing.
    pub(crate) async fn failure(&mut self) -> String {
        timeout(PATIENCE, self.failures.recv()).await.unwrap().unwrap()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, context: Arc<Context>) -> Result<(), String> {
    let stream = tls.accept(stream).await.map_err(|error| error.to_string())?;
    let generation = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|own| generation(own));
    let service = service_fn(|request| answer_request(request, Arc::clone(&context), generation));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.with_upgrades().await.map_err(|error| error.to_string())
}

fn generation(certificate: &[u8]) -> u64 {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    match names.value.general_names[..] {
        [GeneralName::URI(urn)] => urn.rsplit(':').next().unwrap().parse().unwrap(),
        ref other => panic!("{other:?}"),
    }
}

async fn answer_request(
    request: Request<Incoming>,
    context: Arc<Context>,
    generation: Option<u64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match (request.method(), request.uri().path()) {
        (&Method::POST, ENROLL_PATH) => {
            assert!(generation.is_none(), "an enrolment has no certificate yet");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let request = EnrollRequest::from_json(&body).unwrap();
            let answer = context.answers.lock().unwrap().pop_front();
            let (status, body) = match answer {
                Some(answer) => answer(&context.authority, &request),
                None => (StatusCode::OK, context.authority.enroll_answer(&request).to_json()),
            };
            context.requests.lock().unwrap().push(request);
            Response::builder().status(status).body(Full::from(body))
        }
        (&Method::GET, LINK_PATH) => {
            let generation = generation.expect("a link has a certificate");
            match context.refusals.lock().unwrap().pop_front() {
                Some(code) => {
                    let body = EnrollError { code, message: "not today".to_owned() }.to_json();
                    Response::builder().status(code.status()).body(Full::from(body))
                }
                None => {
                    context.generations.lock().unwrap().push(generation);
                    upgrade(request, context.links.clone())
                }
            }
        }
        (&Method::GET, STREAM_PATH) if context.refuses_streams.load(Ordering::SeqCst) => {
            Response::builder().status(StatusCode::FORBIDDEN).body(Full::default())
        }
        (&Method::GET, STREAM_PATH) => {
            assert!(generation.is_some(), "a stream has a certificate");
            upgrade_to_stream(request, context.streams.clone())
        }
        other => panic!("{other:?}"),
    };
    Ok(response.unwrap())
}

fn upgrade_to_stream(
    mut request: Request<Incoming>,
    streams: mpsc::Sender<(StreamTicket, TokioIo<Upgraded>)>,
) -> http::Result<Response<Full<Bytes>>> {
    assert_eq!(request.headers()[CONNECTION], "upgrade");
    assert_eq!(request.headers()[UPGRADE], STREAM_PROTOCOL);
    let ticket = request.headers()[TICKET_HEADER].to_str().unwrap();
    let ticket = StreamTicket::from_header(ticket).unwrap();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgraded.await.unwrap());
        let _ = streams.send((ticket, stream)).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, STREAM_PROTOCOL)
        .body(Full::default())
}

fn upgrade(
    mut request: Request<Incoming>,
    links: mpsc::Sender<Socket>,
) -> http::Result<Response<Full<Bytes>>> {
    let accept_key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgraded.await.unwrap());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        let _ = links.send(socket).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept_key)
        .body(Full::default())
}

/// The server's end of one link.
pub(crate) struct ServerLink {
    socket: Socket,
    grants: u64,
}

impl ServerLink {
    /// Reads hello and answers it.
    pub(crate) async fn welcome(&mut self, clock: &dyn MachineClock) -> Hello {
        self.welcome_with(Capabilities::RENEWAL, clock).await
    }

    /// The same, of a server that can do this.
    pub(crate) async fn welcome_with(
        &mut self,
        capabilities: Capabilities,
        clock: &dyn MachineClock,
    ) -> Hello {
        let AgentFrame::Hello(hello) = self.receive().await else { panic!("no hello") };
        let welcome = Welcome {
            version: hello.common_version().unwrap(),
            capabilities,
            sent_at: hello.sent_at,
            server_time: server_time(clock.boot()),
            server_clock: "1b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            server_version: VersionText::lossy("0.1.0-test"),
        };
        self.send(ServerFrame::Welcome(welcome)).await;
        hello
    }

    pub(crate) async fn send(&mut self, frame: ServerFrame) {
        self.send_bytes(frame.encode()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame, pings included. What the agent says of its anchors is passed over, and that keys were not used,
    /// which is told in between: most tests use none.
    pub(crate) async fn receive(&mut self) -> AgentFrame {
        loop {
            match self.receive_any().await {
                AgentFrame::Anchors(_) | AgentFrame::ExpiredUnused(_) => {}
                frame => return frame,
            }
        }
    }

    /// The next frame, whatever it is.
    pub(crate) async fn receive_any(&mut self) -> AgentFrame {
        match self.next_message().await {
            Some(Message::Binary(frame)) => AgentFrame::decode(&frame).unwrap().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Answers a ping, as a server does at once.
    pub(crate) async fn answer_ping(&mut self, clock: &dyn MachineClock) {
        self.answer_ping_at(clock.boot()).await;
    }

    /// Answers a ping when the server's clock shows what `now` is on the machine's.
    pub(crate) async fn answer_ping_at(&mut self, now: BootInstant) {
        let AgentFrame::Ping(ping) = self.receive().await else { panic!("no ping") };
        self.send(ServerFrame::Pong(Pong { sent_at: ping.sent_at, server_time: server_time(now) })).await;
    }

    /// Sends a grant and waits for its ack.
    pub(crate) async fn grant(&mut self, document: &str, deadline: BootInstant) -> AckOutcome {
        let id = self.send_grant(document, deadline).await;
        let AgentFrame::Ack(Ack { id: acknowledged, outcome }) = self.receive().await else {
            panic!("no ack")
        };
        assert_eq!(acknowledged, id);
        outcome
    }

    /// Sends a grant whose deadline is this one of the machine's clock.
    pub(crate) async fn send_grant(&mut self, document: &str, deadline: BootInstant) -> GrantId {
        self.grants += 1;
        let (id, deadline, document) =
            (GrantId(self.grants), server_time(deadline), document.parse().unwrap());
        self.send(ServerFrame::Grant(Grant { id, deadline, document, twins: Vec::new() })).await;
        id
    }

    /// The agent says goodbye and closes.
    pub(crate) async fn goodbye(mut self) -> Goodbye {
        let AgentFrame::Goodbye(goodbye) = self.receive().await else { panic!("no goodbye") };
        self.closed().await;
        goodbye
    }

    /// The agent closes, or its connection breaks, without another frame.
    pub(crate) async fn closed(mut self) {
        match self.next_message().await {
            None | Some(Message::Close(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn next_message(&mut self) -> Option<Message> {
        timeout(PATIENCE, self.socket.next()).await.unwrap()?.ok()
    }
}
