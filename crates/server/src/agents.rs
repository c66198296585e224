//! The agents listener: enrolment, and the links (docs/link.md).

mod enroll;
mod host_facts;
mod host_keys;
mod identity;
mod link;
#[cfg(test)]
mod tests;

use crate::agents_tls::AgentsTls;
use crate::api;
use crate::audit_log::AuditLog;
use crate::connections::{self, Connection, Listener};
use crate::drain::Drain;
use crate::http::{self, Body, BodyError, Late, Whole};
use crate::inventory::LiveInventory;
use crate::links::{Links, lock};
use crate::log;
use crate::metrics::{self, Limit, Metrics};
use crate::new_ids;
use crate::pki::{self, AgentCertificate};
use crate::public_tls::TlsSession;
use crate::streams::Streams;
pub(crate) use enroll::create_join_token;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::{Method, Response, StatusCode};
use instance_connect_core::audit::{self, Refused, Share};
use instance_connect_core::document::ServerInstant;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::{BootId, Region};
use instance_connect_core::inventory::AgentStanding;
use instance_connect_core::link::{
    self as link_protocol, AgentUrn, ENROLL_PATH, EnrollAnswer, EnrollError, EnrollErrorCode, Goodbye,
    GoodbyeCode, LINK_PATH, STREAM_PATH, STREAM_PROTOCOL, StreamTicket, TICKET_HEADER,
};
use instance_connect_core::origin::Origin;
use instance_connect_core::proxies::TrustedProxies;
use instance_connect_core::throttle::Throttle;
use instance_connect_planted::planted;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::Instrument as _;
use tracing::field::Empty;

/// What the agents listener needs.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) region: Region,
    pub(crate) inventory: Arc<LiveInventory>,
    pub(crate) links: Arc<Links>,
    /// What agents were asked to open.
    pub(crate) streams: Arc<Streams>,
    pub(crate) random: Arc<dyn Random>,
    /// Places for links.
    pub(crate) places: Arc<Semaphore>,
    /// The end of links and enrolments.
    pub(crate) drain: Drain,
    pub(crate) audit: AuditLog,
    /// Which clock deadlines are on: the boot of this machine.
    pub(crate) clock_id: BootId,
    /// How long the certificates of agents are good.
    pub(crate) certificate_lifetime: Duration,
    /// What those who enrol are held to; without it, to nothing.
    pub(crate) throttle: Option<Arc<Mutex<Throttle>>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A connection whose other end has proved to be an agent.
#[derive(Debug)]
pub(crate) struct AgentConnection {
    certificate: AgentCertificate,
    source: IpAddr,
    /// Before TLS.
    accepted_at: ServerInstant,
}

impl Agents {
    /// Serves the listener until the process ends.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener, tls: Arc<AgentsTls>) {
        connections::accept(listener, TrustedProxies::default(), |stream, connection| {
            Arc::clone(&self).serve_connection(Arc::clone(&tls), stream, connection)
        })
        .await;
    }

    /// Ends all links with a word to their agents. Returns when that is done, and no enrolment is under way.
    pub(crate) async fn end(&self) {
        self.links.end_all(&Goodbye::new(GoodbyeCode::ShuttingDown, "the control plane stops or restarts"));
        self.drain.idle().await;
    }

    async fn serve_connection(
        self: Arc<Self>,
        tls: Arc<AgentsTls>,
        stream: TcpStream,
        connection: Connection,
    ) {
        let (peer, accepted_at) = (connection.peer(), self.links.clock().monotonic());
        let stream = match tls.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        };
        let session = TlsSession::of(stream.get_ref().1);
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let certificate = certificate.map(|certificate| pki::agent_certificate(&certificate));
        let agent = match certificate.transpose() {
            Ok(certificate) => certificate
                .map(|certificate| Arc::new(AgentConnection { certificate, source: peer, accepted_at })),
            Err(error) => return tracing::warn!(%error, %peer, "a certificate of ours names no agent"),
        };
        let service = move |request| {
            let (agents, agent) = (Arc::clone(&self), agent.clone());
            async move { Ok::<_, Infallible>(agents.answer(request, agent, peer, session).await) }
        };
        http::serve(stream, connection, link_protocol::limits::ENROLL_BODY, service).await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Whole,
        agent: Option<Arc<AgentConnection>>,
        peer: IpAddr,
        session: TlsSession,
    ) -> Response<Body> {
        let answer = match (request.method(), request.uri().path()) {
            (&Method::POST, ENROLL_PATH) => {
                // A task of its own: whoever hangs up must not stop an enrolment between its token and its record.
                let under_way = self.drain.under_way();
                let enrolled = tokio::spawn(async move {
                    let _under_way = under_way;
                    self.enroll(request, peer, session).await
                });
                let enrolled = enrolled.await;
                enrolled.unwrap_or_else(|_| Err(enroll::unavailable()))
            }
            (&Method::GET, LINK_PATH) => self.open_link(request, agent),
            (&Method::GET, STREAM_PATH) => self.take_stream(request, agent.as_deref()),
            _ => Err(refusal(EnrollErrorCode::NotFound, "there is no such path on the agents listener")),
        };
        answer.unwrap_or_else(|error| {
            use EnrollErrorCode as Code;
            let mut response = json_response(error.code.status(), error.to_json());
            // For those who ask again and again. The latter two no agent of ours ever meets.
            if matches!(error.code, Code::Throttled | Code::CertificateRequired | Code::NotFound) {
                response.extensions_mut().insert(Late);
            }
            response
        })
    }

    async fn enroll(
        &self,
        request: Whole,
        peer: IpAddr,
        session: TlsSession,
    ) -> Result<Response<Body>, EnrollError> {
        let origin = Origin {
            request: new_ids::request_id(self.random.as_ref()),
            time: self.links.clock().wall(),
            source: peer,
            user_agent: api::user_agent(request.headers()),
            tls: Some(session.details(request.headers())),
        };
        let span = log::request_span(&origin.request, Empty);
        let enrolled = self.enroll_throttled(request, &origin).instrument(span).await;
        self.metrics.enrolled(enrolled.as_ref().map_or_else(|error| error.code.name(), |_| metrics::SUCCESS));
        if let Err(error) = &enrolled {
            let code = error.code.name();
            self.audit.refuse(Share::Enrolments, origin.source, code, || {
                let event_id = new_ids::uuid(self.random.as_ref());
                audit::refusal(Refused::Enrolment, &origin, &self.region, code, None, &event_id)
            });
        }
        Ok(json_response(200, enrolled?.to_json()))
    }

    /// A good join token costs nothing in the end. Where a source has failed too often it is not looked at.
    async fn enroll_throttled(&self, request: Whole, origin: &Origin) -> Result<EnrollAnswer, EnrollError> {
        let Some(throttle) = &self.throttle else { return self.enroll_from(request, origin).await };
        let now = || self.links.clock().monotonic();
        if !planted("enrolments-unthrottled") {
            let admitted = lock(throttle).admit_enrolment(origin.source, now());
            admitted.inspect_err(|_| self.metrics.throttled(Limit::Enrolment))?;
        }
        let enrolled = self.enroll_from(request, origin).await;
        let has_a_good_token = match &enrolled {
            Ok(_) => true,
            Err(error) => {
                matches!(error.code, EnrollErrorCode::AlreadyEnrolled | EnrollErrorCode::Unavailable)
            }
        };
        if has_a_good_token {
            lock(throttle).forgive_enrolment(origin.source, now());
        }
        enrolled
    }

    async fn enroll_from(&self, request: Whole, origin: &Origin) -> Result<EnrollAnswer, EnrollError> {
        let body = request.into_body().map_err(|error| match error {
            BodyError::TooLarge => refusal(EnrollErrorCode::TooLarge, "the request is too large"),
            BodyError::Incomplete | BodyError::TooSlow => {
                refusal(EnrollErrorCode::BadRequest, "the request did not arrive whole")
            }
        })?;
        enroll::enroll(self, &body, origin).await
    }

    /// Upgrades a request to a link, for the identity its connection has proved.
    fn open_link(
        self: Arc<Self>,
        mut request: Whole,
        agent: Option<Arc<AgentConnection>>,
    ) -> Result<Response<Body>, EnrollError> {
        use EnrollErrorCode as Code;
        let agent = agent
            .ok_or_else(|| refusal(Code::CertificateRequired, "the link needs the agent's certificate"))?;
        let identity = &agent.certificate.identity;
        // A stale certificate is let in as far as to its hello, which says where it is.
        let is_stale = self.admit(identity)? == AgentStanding::Stale;
        let link = Arc::clone(&self.places).try_acquire_owned();
        let link = link.map_err(|_| refusal(Code::Unavailable, "there are too many links"))?;
        let key = request.headers().get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let key = key.filter(|_| upgrades_to(&request, "websocket"));
        let accept = key.map(derive_accept_key).and_then(|key| HeaderValue::try_from(key).ok());
        let accept = accept.ok_or_else(|| refusal(Code::BadRequest, "the link is a WebSocket"))?;
        let opening = self.links.slot(&identity.instance).opening(is_stale);
        let places = link::Places { link, opening, is_stale };
        let upgrade = hyper::upgrade::on(&mut request);
        let under_way = self.drain.under_way();
        tokio::spawn(async move {
            let _under_way = under_way;
            match upgrade.await {
                Ok(upgraded) => link::run(&self, &agent, upgraded, places).await,
                Err(error) => {
                    tracing::debug!(%error, "a link did not open");
                    if is_stale {
                        self.end_stale(&agent, None).await;
                    }
                }
            }
        });
        let mut response = upgraded_to("websocket");
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response)
    }

    /// Upgrades a request to a stream that its agent was asked for.
    fn take_stream(
        &self,
        mut request: Whole,
        agent: Option<&AgentConnection>,
    ) -> Result<Response<Body>, EnrollError> {
        use EnrollErrorCode as Code;
        let agent = agent
            .ok_or_else(|| refusal(Code::CertificateRequired, "a stream needs the agent's certificate"))?;
        let identity = &agent.certificate.identity;
        let ticket = request.headers().get(TICKET_HEADER).and_then(|value| value.to_str().ok());
        let ticket = ticket.filter(|_| upgrades_to(&request, STREAM_PROTOCOL));
        let ticket = ticket.and_then(StreamTicket::from_header);
        let ticket = ticket.ok_or_else(|| refusal(Code::BadRequest, "this is no stream"))?;
        let refused = || refusal(Code::TicketRefused, "no stream is waited for with this ticket");
        // The certificate of the link may be replaced while a stream is on its way, but it must not be a stale one's.
        if self.admit(identity)? == AgentStanding::Stale {
            return Err(refused());
        }
        let awaited = self.streams.redeem(&identity.instance, &ticket).ok_or_else(refused)?;
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => awaited.bring(upgraded),
                Err(error) => tracing::debug!(%error, "a stream did not open"),
            }
        });
        Ok(upgraded_to(STREAM_PROTOCOL))
    }

    /// What an identity is worth now, if it may be heard at all.
    fn admit(&self, identity: &AgentUrn) -> Result<AgentStanding, EnrollError> {
        use EnrollErrorCode as Code;
        let standing = self.standing(identity);
        let unavailable = |_| refusal(Code::Unavailable, "the store does not answer; try again");
        match standing.map_err(unavailable)? {
            standing @ (AgentStanding::Good | AgentStanding::Stale) => Ok(standing),
            AgentStanding::Suspended => {
                let message =
                    "two machines hold this identity; an operator has to say which is the right one";
                Err(refusal(Code::IdentitySuspended, message))
            }
            AgentStanding::Revoked => {
                let message = "this identity is no longer the instance's; enrol the machine again";
                Err(refusal(Code::IdentityRevoked, message))
            }
        }
    }
}

fn upgrades_to(request: &Whole, protocol: &str) -> bool {
    let upgrade = request.headers().get(UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
}

fn upgraded_to(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn refusal(code: EnrollErrorCode, message: &str) -> EnrollError {
    EnrollError { code, message: message.to_owned() }
}

fn json_response(status: u16, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
