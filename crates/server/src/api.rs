//! The control API on the public listener: one request, read aloud.

use crate::audit_log::AuditLog;
use crate::http::{self, Body, BodyError};
use crate::inventory::LiveInventory;
use crate::links::{Delivered, DeliveryError, Links};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use instance_connect_core::api::{
    self, ApiError, Operation, SendSerialConsoleSshPublicKey, SendSshPublicKey, success_body, well_formed,
};
use instance_connect_core::audit::{self, Outcome, Parameters as _};
use instance_connect_core::authz::{Caller, authorize, claimed_caller};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::{Region, RequestId};
use instance_connect_core::inventory::Inventory;
use instance_connect_core::limits;
use instance_connect_core::link::Refusal;
use instance_connect_core::origin::Origin;
use instance_connect_core::sigv4::{Expected, Presented, Verified};
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_kill_point::kill_point;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// The signing name of this edge.
const SERVICE: &str = "ec2-instance-connect";

/// What the control API needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) region: Region,
    pub(crate) key_types: KeyTypes,
    pub(crate) inventory: Arc<LiveInventory>,
    pub(crate) links: Arc<Links>,
    pub(crate) audit: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clock_guard: ClockGuard,
    /// How far a signed request's time may be from ours.
    pub(crate) clock_window: Duration,
    pub(crate) random: Arc<dyn Random>,
}

impl Api {
    /// Serves the listener until the process ends.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        http::accept(listener, |stream, peer| {
            let api = Arc::clone(&self);
            let service = service_fn(move |request| {
                // A task of its own: a caller who hangs up must not stop a push between its intent and its record.
                tokio::spawn(Arc::clone(&api).answer(request, peer))
            });
            async {
                http::serve(stream, service).await;
                // All answers of this connection have been sent.
                kill_point("answer-after");
            }
        })
        .await;
    }

    /// Answers one request: whatever becomes of it, with a request id.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let origin = Origin {
            request: self.fresh_request_id(),
            time: self.clock.wall(),
            source: http::source(peer),
            user_agent: user_agent(&request),
            secure_transport: false,
        };
        let result = self.handle(request, &origin).await;
        kill_point("answer-before");
        response(&origin.request, &result)
    }

    /// From bytes to a verified caller: unambiguous, bounded, well-formed, authenticated, in the order of wire.md 1.10.
    async fn handle(&self, request: Request<Incoming>, origin: &Origin) -> Result<String, ApiError> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.to_string();
        let head = http::read_head(&parts, &target)?;
        api::speaks_json(&head)?;
        let body = http::read_body(body, limits::API_BODY).await.map_err(|error| match error {
            BodyError::TooLarge => ApiError::RequestTooLarge,
            BodyError::Incomplete => ApiError::Serialization,
        })?;
        if !well_formed(&body) {
            return Err(ApiError::Serialization);
        }
        let operation = api::route(&head)?;
        self.clock_guard.admit(origin.time).map_err(|error| internal(origin, error))?;
        let (region, window) = (self.region.as_str(), self.clock_window);
        let expected = Expected { region, service: SERVICE, now: origin.time, window };
        let presented = Presented::read(&head, &expected)?;
        let inventory = self.inventory.current().map_err(|error| internal(origin, error))?;
        let key = presented.access_key_id().and_then(|claimed| claimed_caller(&inventory, claimed));
        let caller = presented.verify(&body, key)?;
        self.perform(operation, caller, &body, &inventory, origin).await
    }

    /// Performs an operation for a verified caller, and records what came of it before anyone is told.
    async fn perform(
        &self,
        operation: Operation,
        caller: Verified<Caller>,
        body: &[u8],
        inventory: &Inventory,
        origin: &Origin,
    ) -> Result<String, ApiError> {
        let by = caller.get().clone();
        let mut parameters = Value::Null;
        let result = match operation {
            Operation::SendSshPublicKey => self.push(caller, body, inventory, origin, &mut parameters).await,
            Operation::SendSerialConsoleSshPublicKey => {
                self.push_serial(caller, body, inventory, origin, &mut parameters)
            }
        };
        let outcome = match &result {
            Ok(delivered) => Outcome::Success { os_user_exists: delivered.os_user_exists },
            Err(error) => Outcome::Failure(error),
        };
        let event_id = fresh_uuid(self.random.as_ref());
        let record = audit::record(origin, &by, operation, parameters, &self.region, outcome, &event_id);
        kill_point("outcome-before");
        if let Err(error) = self.audit.commit(record).await {
            // Without a record there is no success, and no key may stay behind.
            if let Ok(delivered) = &result {
                self.links.withdraw(&delivered.grant);
            }
            return Err(internal(origin, error));
        }
        kill_point("outcome-after");
        result.map(|_| success_body(&origin.request))
    }

    /// `SendSSHPublicKey`, from parameters to the machine's acknowledgement.
    async fn push(
        &self,
        caller: Verified<Caller>,
        body: &[u8],
        inventory: &Inventory,
        origin: &Origin,
        recorded: &mut Value,
    ) -> Result<Delivered, ApiError> {
        let parameters = SendSshPublicKey::parse(body, &self.key_types)?;
        *recorded = parameters.recorded();
        let authorized = authorize(caller, parameters, inventory, &self.region, origin)?;
        let grant =
            Grant::issue(&authorized, origin.request.clone(), self.clock.wall(), self.clock.monotonic())?;
        let intent =
            audit::intent(origin, authorized.caller(), Operation::SendSshPublicKey, recorded, &self.region);
        kill_point("intent-before");
        self.audit.commit(intent).await.map_err(|error| internal(origin, error))?;
        kill_point("intent-after");
        self.links.deliver(grant).await.map_err(|error| delivery_error(origin, error))
    }

    /// `SendSerialConsoleSSHPublicKey`: verified, parsed and authorised; no account can switch the console on yet.
    fn push_serial(
        &self,
        caller: Verified<Caller>,
        body: &[u8],
        inventory: &Inventory,
        origin: &Origin,
        recorded: &mut Value,
    ) -> Result<Delivered, ApiError> {
        let parameters = SendSerialConsoleSshPublicKey::parse(body, &self.key_types)?;
        *recorded = parameters.recorded();
        authorize(caller, parameters, inventory, &self.region, origin)?;
        Err(ApiError::SerialConsoleAccessDisabled)
    }

    #[expect(clippy::expect_used, reason = "the hyphenated form of a UUID is what a request id is")]
    fn fresh_request_id(&self) -> RequestId {
        fresh_uuid(self.random.as_ref()).parse().expect("a UUID is a request id")
    }
}

/// A random UUID.
pub(crate) fn fresh_uuid(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Keeps the highest time seen: after a step back, signatures that had expired would hold once more.
#[derive(Debug, Default)]
pub(crate) struct ClockGuard(AtomicI64);

/// The wall clock is behind a time it has shown before.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the clock went back by more than {} s; refusing signed requests until it has caught up", limits::CLOCK_STEP_BACK.as_secs())]
pub(crate) struct ClockWentBack;

impl ClockGuard {
    fn admit(&self, now: UnixSeconds) -> Result<(), ClockWentBack> {
        let highest = self.0.fetch_max(now.0, Ordering::Relaxed);
        let tolerated = i64::try_from(limits::CLOCK_STEP_BACK.as_secs()).unwrap_or(0);
        if now.0 < highest.saturating_sub(tolerated) { Err(ClockWentBack) } else { Ok(()) }
    }
}

/// What a caller is told of a failed delivery. The reason in our words is in the log, under the request id.
fn delivery_error(origin: &Origin, error: DeliveryError) -> ApiError {
    tracing::warn!(request = %origin.request, %error, "a push was not delivered");
    match error {
        DeliveryError::Busy => ApiError::Throttling,
        DeliveryError::Refused(Refusal::UserFull | Refusal::InstanceFull) => ApiError::Throttling,
        DeliveryError::Refused(Refusal::Vetoed) => ApiError::VetoedByHost,
        DeliveryError::Refused(reason) => ApiError::InstanceUnavailable { refused: Some(reason.name()) },
        DeliveryError::Unknown => ApiError::InstanceUnavailable { refused: None },
        DeliveryError::Encoding => ApiError::Service,
    }
}

fn internal(origin: &Origin, error: impl std::fmt::Display) -> ApiError {
    tracing::error!(request = %origin.request, %error, "a request failed on our side");
    ApiError::Service
}

/// The client's name for itself, cut to what a record holds.
fn user_agent(request: &Request<Incoming>) -> String {
    let value = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(value).chars().take(limits::USER_AGENT).collect()
}

/// The answer on the wire (wire.md 1.5, 1.8).
fn response(request: &RequestId, result: &Result<String, ApiError>) -> Response<Body> {
    let (status, code, body) = match result {
        Ok(body) => (200, None, body.clone()),
        Err(error) => {
            let wire = error.to_wire();
            (wire.status, Some(wire.code), wire.body)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(api::CONTENT_TYPE));
    if let Ok(id) = HeaderValue::from_str(request.as_str()) {
        headers.insert("x-amzn-requestid", id);
    }
    #[cfg(not(feature = "planted-doubtful-connection-kept"))]
    if matches!(result, Err(ApiError::MalformedHead(_))) {
        // What follows on this connection may be the rest of this request, whatever it looks like.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(code) = code {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(code));
    }
    response
}

#[cfg(test)]
mod tests;
