//! The control API on the public listener: one request, read aloud.

use crate::audit_log::AuditLog;
use crate::connections::{self, Connection, Listener};
use crate::console::Console;
use crate::faults::{Faults, Noted};
use crate::http::{self, Body, BodyError, Late, Whole};
use crate::inventory::LiveInventory;
use crate::links::{Delivered, DeliveryError, Links, lock};
use crate::log;
use crate::metrics::{self, Limit, Metrics};
use crate::new_ids;
use crate::proxies::Proxies;
use crate::public_tls::{PublicTls, TlsSession};
use crate::traces;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use instance_connect_core::api::{
    self, ApiError, Operation, Protocol, SendSerialConsoleSshPublicKey, SendSshPublicKey, success_body,
    well_formed,
};
use instance_connect_core::audit::{self, AuditedRequest, Line, Outcome, Refused, Share};
use instance_connect_core::authz::{Caller, authorize, claimed_caller};
use instance_connect_core::console::{ConsolePush, Mode};
use instance_connect_core::document::{ServerInstant, UnixSeconds};
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::{AccessKeyId, Region, RequestId};
use instance_connect_core::inventory::Inventory;
use instance_connect_core::limits;
use instance_connect_core::origin::Origin;
use instance_connect_core::query::Parameters;
use instance_connect_core::revocation::SignedPush;
use instance_connect_core::sigv4::{
    AuthenticationError, ClockWindow, Expected, Presented, UsedSignature, Verified,
};
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::Throttle;
use instance_connect_kill_point::kill_point;
use instance_connect_planted::planted;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::{Instrument as _, Span};

/// What the control API needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) region: Region,
    pub(crate) key_types: KeyTypes,
    pub(crate) inventory: Arc<LiveInventory>,
    pub(crate) links: Arc<Links>,
    pub(crate) console: Arc<Console>,
    pub(crate) audit: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clock_guard: Arc<ClockGuard>,
    pub(crate) readiness: Readiness,
    /// How far a signed request's time may be from ours.
    pub(crate) clock_window: ClockWindow,
    pub(crate) random: Arc<dyn Random>,
    /// What callers are held to; without it, to nothing.
    pub(crate) throttle: Option<Arc<Mutex<Throttle>>>,
    /// Load balancers in front.
    pub(crate) proxies: Proxies,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: traces::RequestSpans,
    /// What `dev` lets one make go wrong; in production nothing.
    pub(crate) faults: Faults,
}

impl Api {
    /// Serves the listener until the process ends, in plain http where there is no `tls`.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener, tls: Option<Arc<PublicTls>>) {
        let trusted = self.proxies.trusted.clone();
        connections::accept(listener, trusted, |stream, connection| {
            let (api, tls) = (Arc::clone(&self), tls.clone());
            async move {
                let peer = connection.peer();
                if let Err(error) = api.open_connection(stream, connection, tls).await {
                    tracing::debug!(%error, %peer, "a connection did not open");
                }
            }
        })
        .await;
    }

    /// Learns whom a connection is from, and does its TLS handshake, before anything else is read of it.
    async fn open_connection(
        self: Arc<Self>,
        mut stream: TcpStream,
        mut connection: Connection,
        tls: Option<Arc<PublicTls>>,
    ) -> io::Result<()> {
        self.proxies.read_header(&mut stream, &mut connection).await?;
        match tls {
            Some(tls) => {
                let (stream, session) = tls.accept(stream).await?;
                self.serve_connection(stream, connection, Some(session)).await;
            }
            None => self.serve_connection(stream, connection, None).await,
        }
        Ok(())
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
        tls: Option<TlsSession>,
    ) {
        let (peer, under_way) = (connection.peer(), connection.under_way());
        let service = move |request| {
            let (api, under_way) = (Arc::clone(&self), under_way.clone());
            // A task of its own: a caller who hangs up must not stop a push between its intent and its record.
            tokio::spawn(async move {
                let _under_way = under_way;
                api.answer(request, peer, tls).await
            })
        };
        http::serve(stream, connection, limits::API_BODY, service).await;
        // All answers of this connection have been sent.
        kill_point("answer-after");
    }

    /// Answers one request: whatever becomes of it, with a request id.
    async fn answer(
        self: Arc<Self>,
        request: Whole,
        peer: IpAddr,
        tls: Option<TlsSession>,
    ) -> Response<Body> {
        let noted = self.faults.arrived(&request, self.clock.as_ref()).await;
        let origin = Origin {
            request: new_ids::request_id(self.random.as_ref()),
            time: self.clock.wall(),
            source: self.proxies.client(peer, request.headers()),
            user_agent: user_agent(request.headers()),
            tls: tls.map(|session| session.details(request.headers())),
        };
        let begun = self.clock.monotonic();
        let traced = self.traces.begin(&origin.request, request.headers(), begun);
        let span = log::request_span(&origin.request, traces::trace_id(&traced));
        let claimed = Claimed { noted, ..Claimed::default() };
        self.answer_from(request, claimed, &origin, begun, &traced)
            .instrument(span)
            .instrument(traced.clone())
            .await
    }

    async fn answer_from(
        &self,
        request: Whole,
        mut claimed: Claimed,
        origin: &Origin,
        begun: ServerInstant,
        traced: &Span,
    ) -> Response<Body> {
        let admitted =
            self.throttled(Limit::Source, |throttle, now| throttle.admit_source(origin.source, now));
        let (result, late) = match admitted {
            Ok(()) => (self.handle(request, origin, &mut claimed).await, None),
            Err(error) => {
                claimed.protocol = spoken(request);
                self.sample(origin, &error, &claimed);
                (Err(error), Some(Late))
            }
        };
        kill_point("answer-before");
        let (mut response, code) = response(claimed.protocol, &origin.request, result);
        if let Some(late) = late {
            response.extensions_mut().insert(late);
        }
        traces::answered(traced, claimed.operation, code, response.status());
        let now = self.clock.monotonic();
        self.metrics.answered(claimed.operation, code, now.since(begun));
        self.faults.answered(claimed.noted, origin, claimed.access_key, now, code, &mut response);
        response
    }

    /// From bytes to what the caller is told.
    async fn handle(
        &self,
        request: Whole,
        origin: &Origin,
        claimed: &mut Claimed,
    ) -> Result<String, ApiError> {
        let (parts, body) = request.into_parts();
        match self.authenticate(&parts, body, origin, claimed) {
            Ok(call) => {
                self.faults.fail(&mut claimed.noted, &call.caller.get().user)?;
                self.perform(call, origin).await
            }
            Err(error) => {
                self.count_unauthenticated(origin, &error);
                self.sample(origin, &error, claimed);
                Err(error)
            }
        }
    }

    /// From bytes to a verified caller: unambiguous, bounded, well-formed, authenticated, in the order of wire.md 1.10.
    /// `claimed` is filled in as far as it gets.
    fn authenticate(
        &self,
        parts: &Parts,
        body: Result<Bytes, BodyError>,
        origin: &Origin,
        claimed: &mut Claimed,
    ) -> Result<Call, ApiError> {
        let target = parts.uri.to_string();
        let head = http::read_head(parts, &target)?;
        claimed.protocol = Protocol::of(&head)?;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge => ApiError::RequestTooLarge,
            BodyError::Incomplete => ApiError::Serialization,
            BodyError::TooSlow => ApiError::RequestTimeout,
        })?;
        let (operation, parameters) = match claimed.protocol {
            Protocol::Json if !well_formed(&body) => return Err(ApiError::Serialization),
            Protocol::Json => (api::route(&head)?, Parameters::default()),
            Protocol::Query(service) => {
                let mut parameters = Parameters::read(head.query(), &body)?;
                (Operation::Query(parameters.operation(service)?), parameters)
            }
        };
        claimed.operation = Some(operation);
        self.clock_guard.admit(origin.time).map_err(|error| self.readiness.lost(&error))?;
        let (region, window) = (self.region.as_str(), self.clock_window);
        let expected = Expected { region, service: operation.service(), now: origin.time, window };
        let presented = Presented::read(&head, &expected)?;
        claimed.access_key = presented.access_key_id().cloned();
        self.faults.judge_clock(&mut claimed.noted, &head, &expected)?;
        let inventory = self.inventory.current().map_err(|error| self.readiness.lost(&error))?;
        self.readiness.kept();
        let key = presented.access_key_id().and_then(|claimed| claimed_caller(&inventory, claimed));
        let caller = presented.verify(&body, key)?;
        let used = presented.used().ok_or(AuthenticationError::Mismatch)?;
        // Filters are compared with it, so it is as long as a name and a port can be.
        let host = head.header("host").unwrap_or_default().chars().take(limits::HOST).collect();
        Ok(Call { operation, caller, body, parameters, host, inventory, used })
    }

    /// Performs an operation for a verified caller, and records what came of it before anyone is told.
    async fn perform(&self, call: Call, origin: &Origin) -> Result<String, ApiError> {
        match call.operation {
            Operation::Administer(operation) => return self.administer(operation, call, origin).await,
            Operation::Query(operation) => return self.query(operation, call, origin).await,
            Operation::SendSshPublicKey | Operation::SendSerialConsoleSshPublicKey => {}
        }
        let mut audited = AuditedRequest::new(origin, call.caller.get(), call.operation, &self.region);
        let result = self.operate(call, origin, &mut audited).await;
        let outcome = match &result {
            Ok(pushed) => Outcome::Success { os_user_exists: pushed.os_user_exists() },
            Err(error) => Outcome::Failure(error),
        };
        if let Err(error) = self.record(&audited, outcome, origin).await {
            // Without a record there is no success, and no key may stay behind.
            match &result {
                Ok(Pushed::ToMachine(delivered)) => self.links.withdraw(&delivered.grant),
                Ok(Pushed::ToConsole) => self.console.release(&origin.request),
                Err(_) => {}
            }
            return Err(error);
        }
        result.map(|_| success_body(&origin.request))
    }

    /// Puts on record what came of a request whose caller is verified. Where that fails, nobody may be told of a success.
    pub(crate) async fn record(
        &self,
        audited: &AuditedRequest,
        outcome: Outcome<'_>,
        origin: &Origin,
    ) -> Result<(), ApiError> {
        let event_id = new_ids::uuid(self.random.as_ref());
        if let Outcome::Failure(error @ ApiError::Throttling) = outcome {
            // Nothing was done, and a loop that has run away must not fill the log.
            let code = error.code(audited.protocol());
            self.audit.refuse(Share::Callers, origin.source, code, || audited.record(outcome, &event_id));
            return Ok(());
        }
        kill_point("outcome-before");
        self.commit(audited.record(outcome, &event_id)).await?;
        kill_point("outcome-after");
        Ok(())
    }

    /// Puts a line of the audit log on disk.
    pub(crate) async fn commit(&self, line: Line) -> Result<(), ApiError> {
        self.audit.commit(line).instrument(traces::audit_write()).await.map_err(internal)
    }

    /// Puts on disk that this is about to be done.
    pub(crate) async fn commit_intent(&self, audited: &AuditedRequest) -> Result<(), ApiError> {
        kill_point("intent-before");
        self.commit(audited.intent()).await?;
        kill_point("intent-after");
        Ok(())
    }

    /// Makes a change that is decided on the newest inventory, and returns when this process decides by it. One change at a
    /// time: what it is decided on holds until it is made.
    pub(crate) async fn in_turn<T>(
        &self,
        change: impl AsyncFnOnce(Arc<Inventory>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let _turn = self.inventory.turn().await;
        let follow = async || {
            let followed = self.inventory.refresh().await;
            followed.map_err(|error| internal(format!("{error:#}")))
        };
        follow().await?;
        let made = change(self.inventory.current().map_err(internal)?).await?;
        follow().await?;
        Ok(made)
    }

    async fn operate(
        &self,
        call: Call,
        origin: &Origin,
        audited: &mut AuditedRequest,
    ) -> Result<Pushed, ApiError> {
        let Call { operation, caller, body, inventory, used, .. } = call;
        self.throttled(Limit::Principal, |throttle, now| throttle.admit_caller(&caller, now))?;
        match operation {
            Operation::SendSshPublicKey => {
                let pushed = self.push(caller, &body, &inventory, used.signed_at, origin, audited).await;
                pushed.map(Pushed::ToMachine)
            }
            Operation::SendSerialConsoleSshPublicKey => {
                let pushed =
                    self.push_serial(caller, &body, &inventory, used.signed_at, origin, audited).await;
                pushed.map(|()| Pushed::ToConsole)
            }
            Operation::Administer(_) | Operation::Query(_) => Err(internal("this is no push")),
        }
    }

    /// `SendSSHPublicKey`, from parameters to the machine's acknowledgement.
    async fn push(
        &self,
        caller: Verified<Caller>,
        body: &[u8],
        inventory: &Inventory,
        signed_at: UnixSeconds,
        origin: &Origin,
        audited: &mut AuditedRequest,
    ) -> Result<Delivered, ApiError> {
        let parameters = SendSshPublicKey::parse(body, &self.key_types)?;
        audited.parameters(&parameters);
        let authorized = traces::authorization()
            .in_scope(|| authorize(caller, parameters, inventory, &self.region, origin))?;
        audited.decided_by(authorized.decided_by());
        self.throttled(Limit::Instance, |throttle, now| throttle.admit_operation(&authorized, now))?;
        let grant =
            Grant::issue(&authorized, origin.request.clone(), self.clock.wall(), self.clock.monotonic())?;
        let grant = self.faults.shorten(grant);
        let account = &authorized.instance().account;
        inventory.revocations.admit(&SignedPush::of(&grant, account, signed_at))?;
        self.commit_intent(audited).await?;
        let sent = self.links.deliver(grant).instrument(traces::delivery()).await;
        self.metrics.sent(&sent);
        let delivered = sent.map_err(delivery_error)?;
        // A revocation may have come while the key was on its way: it withdraws what it finds, and this what it does not.
        let push = SignedPush::of(&delivered.grant, account, signed_at);
        let current = self.inventory.current().map_err(internal);
        if let Err(error) = current.and_then(|inventory| inventory.revocations.admit(&push)) {
            self.links.withdraw(&delivered.grant);
            audited.withdrawn();
            return Err(error);
        }
        Ok(delivered)
    }

    /// `SendSerialConsoleSSHPublicKey`, from parameters to the reservation of the instance's one session.
    async fn push_serial(
        &self,
        caller: Verified<Caller>,
        body: &[u8],
        inventory: &Inventory,
        signed_at: UnixSeconds,
        origin: &Origin,
        audited: &mut AuditedRequest,
    ) -> Result<(), ApiError> {
        let parameters = SendSerialConsoleSshPublicKey::parse(body, &self.key_types)?;
        audited.parameters(&parameters);
        let authorized = traces::authorization()
            .in_scope(|| authorize(caller, parameters, inventory, &self.region, origin))?;
        audited.decided_by(authorized.decided_by());
        self.throttled(Limit::Instance, |throttle, now| throttle.admit_operation(&authorized, now))?;
        self.console.check(authorized.instance(), inventory)?;
        let push = ConsolePush::of(&authorized, origin.request.clone());
        self.admit_for_console(inventory, &push, signed_at)?;
        self.commit_intent(audited).await?;
        self.reserve_console(&push, Mode::Write, signed_at)
    }

    fn admit_for_console(
        &self,
        inventory: &Inventory,
        push: &ConsolePush,
        signed_at: UnixSeconds,
    ) -> Result<(), ApiError> {
        inventory.revocations.admit(&SignedPush::of_console(push, signed_at))
    }

    /// Takes a key for a console. As with keys for machines: a revocation that comes meanwhile either finds it, or is found here.
    pub(crate) fn reserve_console(
        &self,
        push: &ConsolePush,
        mode: Mode,
        signed_at: UnixSeconds,
    ) -> Result<(), ApiError> {
        self.console.reserve(push.clone(), mode)?;
        let current = self.inventory.current().map_err(internal);
        let admitted = current.and_then(|inventory| self.admit_for_console(&inventory, push, signed_at));
        admitted.inspect_err(|_| self.console.release(&push.request))
    }

    /// Asks the throttle, where there is one.
    pub(crate) fn throttled(
        &self,
        limit: Limit,
        admit: impl FnOnce(&mut Throttle, ServerInstant) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        admit(&mut lock(throttle), self.clock.monotonic()).inspect_err(|_| self.metrics.throttled(limit))
    }

    /// Counts a request that ended before anybody was authenticated against its source.
    fn count_unauthenticated(&self, origin: &Origin, error: &ApiError) {
        if *error != ApiError::Service
            && let Some(throttle) = &self.throttle
        {
            lock(throttle).count_unauthenticated(origin.source, self.clock.monotonic());
        }
    }

    /// Counts a request of nobody we know, and puts a few of them on record.
    fn sample(&self, origin: &Origin, error: &ApiError, claimed: &Claimed) {
        let code = error.code(claimed.protocol);
        self.audit.refuse(Share::Strangers, origin.source, code, || {
            let event_id = new_ids::uuid(self.random.as_ref());
            let access_key = claimed.access_key.as_ref();
            audit::refusal(Refused::ApiRequest, origin, &self.region, code, access_key, &event_id)
        });
    }
}

/// Where a key is that was pushed.
enum Pushed {
    /// On its machine.
    ToMachine(Delivered),
    /// At the console of its instance.
    ToConsole,
}

impl Pushed {
    /// Whether the machine has the OS user, as far as it could tell.
    const fn os_user_exists(&self) -> Option<bool> {
        match self {
            Self::ToMachine(delivered) => Some(delivered.os_user_exists),
            Self::ToConsole => None,
        }
    }
}

/// The protocol in which a request is answered that nobody looks at any further.
fn spoken(request: Whole) -> Protocol {
    let (parts, _) = request.into_parts();
    let target = parts.uri.to_string();
    let head = http::read_head(&parts, &target).ok();
    head.and_then(|head| Protocol::of(&head).ok()).unwrap_or_default()
}

/// What a request says of itself, before anything of it is verified.
#[derive(Debug, Default)]
struct Claimed {
    protocol: Protocol,
    operation: Option<Operation>,
    access_key: Option<AccessKeyId>,
    noted: Noted,
}

/// A request of a verified caller.
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) caller: Verified<Caller>,
    pub(crate) body: Bytes,
    /// Those of the query protocol, but for the operation's name.
    pub(crate) parameters: Parameters,
    /// By which name, and port, the service was reached: signed with all else.
    pub(crate) host: String,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) used: UsedSignature,
}

/// Keeps the highest time seen: after a step back, signatures that had expired would hold once more.
#[derive(Debug, Default)]
pub(crate) struct ClockGuard(AtomicI64);

/// The wall clock is behind a time it has shown before.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the clock went back by more than {} s; refusing signed requests until it has caught up", limits::CLOCK_STEP_BACK.as_secs())]
pub(crate) struct ClockWentBack;

impl ClockGuard {
    /// # Errors
    /// [`ClockWentBack`].
    pub(crate) fn admit(&self, now: UnixSeconds) -> Result<(), ClockWentBack> {
        let highest = self.0.fetch_max(now.0, Ordering::Relaxed);
        let tolerated = i64::try_from(limits::CLOCK_STEP_BACK.as_secs()).unwrap_or(0);
        if now.0 < highest.saturating_sub(tolerated) { Err(ClockWentBack) } else { Ok(()) }
    }
}

/// Whether requests can be served at all. It is logged when that changes, not at each request: anybody can send those.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    is_lost: AtomicBool,
}

impl Readiness {
    fn lost(&self, error: &dyn std::fmt::Display) -> ApiError {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "requests are refused until this has passed");
        }
        ApiError::Service
    }

    fn kept(&self) {
        if self.is_lost.load(Ordering::Relaxed) && self.is_lost.swap(false, Ordering::Relaxed) {
            tracing::warn!("requests are served again");
        }
    }
}

/// What a caller is told of a failed delivery. The reason in our words is in the log, under the request id.
fn delivery_error(error: DeliveryError) -> ApiError {
    tracing::warn!(%error, "a push was not delivered");
    match error {
        DeliveryError::Busy => ApiError::Busy,
        DeliveryError::Refused(reason) => ApiError::Refused(reason),
        DeliveryError::Unknown => ApiError::InstanceUnavailable,
        DeliveryError::Encoding => ApiError::Service,
    }
}

/// Something failed that is no fault of the caller's. It is logged under the request's id, in whose span this is.
pub(crate) fn internal(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "a request failed on our side");
    ApiError::Service
}

/// The client's name for itself, cut to what a record holds.
pub(crate) fn user_agent(headers: &HeaderMap) -> String {
    let value = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(value).chars().take(limits::USER_AGENT).collect()
}

/// The answer on the wire (wire.md 1.5, 1.8, 9.4, 9.6), and what it is counted as.
fn response(
    protocol: Protocol,
    request: &RequestId,
    result: Result<String, ApiError>,
) -> (Response<Body>, &'static str) {
    let is_doubtful = matches!(result, Err(ApiError::MalformedHead(_)));
    let (status, code, body, retry_after) = match result {
        Ok(body) => (200, None, body, None),
        Err(error) => {
            let wire = error.to_wire(protocol, request);
            (wire.status, Some(wire.code), wire.body, error.retry_after())
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(protocol.content_type()));
    if let Ok(id) = HeaderValue::from_str(request.as_str()) {
        headers.insert("x-amzn-requestid", id);
    }
    if is_doubtful && !planted("doubtful-connection-kept") {
        // What follows on this connection may be the rest of this request, whatever it looks like.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let (Protocol::Json, Some(code)) = (protocol, code) {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(code));
    }
    if let Some(Ok(milliseconds)) = retry_after.map(|wait| u64::try_from(wait.as_millis())) {
        headers.insert("x-amz-retry-after", milliseconds.into());
    }
    (response, code.unwrap_or(metrics::SUCCESS))
}

#[cfg(test)]
mod tests;
