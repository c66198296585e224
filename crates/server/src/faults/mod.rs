//! Faults on demand and the calls seen, for the tests of programs that use this service. Only `dev` has them.
//!
//! A fault makes a call fail, be late, or push a key that ends sooner. None makes a call succeed that would have failed:
//! what is here gives the control API errors, delays and shorter grants, and nothing else.

mod control;
mod fault;

pub(crate) use control::{BODY, Control, PATH};
pub(crate) use fault::Fault;

use crate::http::Whole;
use crate::links::lock;
use crate::{dev, metrics};
use anyhow::{Context as _, ensure};
use fault::Effect;
use hyper::Response;
use hyper::header::{DATE, HeaderValue};
use instance_connect_core::api::{self, ApiError, Operation, Protocol};
use instance_connect_core::document::{ServerInstant, UnixSeconds};
use instance_connect_core::environment::Clock;
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::{AccessKeyId, InstanceId};
use instance_connect_core::inventory::User;
use instance_connect_core::origin::Origin;
use instance_connect_core::query::Parameters;
use instance_connect_core::sigv4::{AuthenticationError, Expected, Presented, RequestHead, in_http};
use instance_connect_planted::planted;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes of the file in which `dev` says with which faults it begins: more than [`FAULTS`] take.
const FILE_BYTES: u64 = 64 * 1024;

/// Faults at a time.
const FAULTS: usize = 64;

/// The last calls that are kept.
const CALLS: usize = 1000;

/// What a control plane has of faults and calls seen: in production nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Option<Arc<Mutex<State>>>);

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were asked for.
    faults: Vec<Numbered>,
    /// How many were asked for so far.
    asked: u64,
    /// The last ones.
    calls: VecDeque<Seen>,
    /// How many there were so far.
    seen: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Numbered {
    id: u64,
    #[serde(flatten)]
    fault: Fault,
}

/// A call that was answered.
#[derive(Clone, Debug, Serialize)]
struct Seen {
    number: u64,
    /// When it came, in milliseconds of a clock that counts from no particular moment.
    at_ms: u64,
    took_ms: u64,
    request_id: String,
    /// Whose the operation is, as credential scopes have it. `None` where the request named none.
    service: Option<&'static str>,
    operation: Option<&'static str>,
    /// The first that the request names.
    instance_id: Option<String>,
    /// The ARN of who was authenticated.
    caller: Option<String>,
    /// The key it says that it is signed with.
    access_key_id: Option<String>,
    status: u16,
    error: Option<&'static str>,
    /// The faults that failed or delayed it, or moved the clock.
    faults: Vec<u64>,
}

/// What is noted of a call while it is being answered. In production it stays empty.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    at: Option<ServerInstant>,
    operation: Option<Operation>,
    instances: Vec<InstanceId>,
    caller: Option<String>,
    clock_offset: Option<i64>,
    faults: Vec<u64>,
}

impl Faults {
    /// With those of a file from the beginning: for a control plane of `dev`, whose configuration lies in this directory and
    /// which listens at these addresses, and for no other.
    pub(crate) fn of_dev(file: &Path, directory: &Path, listening: &[SocketAddr]) -> anyhow::Result<Self> {
        let is_dev =
            dev::is_directory_of_dev(directory) && listening.iter().all(|address| address.ip().is_loopback());
        ensure!(
            is_dev || planted("faults-in-service"),
            "faults can be caused in instance-connectd dev only, and on loopback addresses"
        );
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text));
        read.with_context(|| format!("cannot read {}", file.display()))?;
        Self::begin_with(serde_json::from_str(&text).with_context(|| file.display().to_string())?)
    }

    /// With these from the beginning.
    pub(crate) fn begin_with(faults: Vec<Fault>) -> anyhow::Result<Self> {
        let mut state = State::default();
        for fault in faults {
            state.add(fault).map_err(anyhow::Error::msg)?;
        }
        Ok(Self(Some(Arc::new(Mutex::new(state)))))
    }

    /// A request has come. Holds it up where that has been asked for: before anything of it is judged, so that it is judged
    /// like one that comes later.
    pub(crate) async fn arrived(&self, request: &Whole, clock: &dyn Clock) -> Noted {
        if self.0.is_none() {
            return Noted::default();
        }
        let mut noted = Noted { at: Some(clock.monotonic()), ..named_in(request).unwrap_or_default() };
        let delay = |effect| if let Effect::Delay(delay) = effect { Some(delay) } else { None };
        if let Some(delay) = self.take(&mut noted, delay) {
            tokio::time::sleep(delay).await;
        }
        noted
    }

    /// Judges a signature that is good by our clock by one that is off as well, where that has been asked for.
    pub(crate) fn judge_clock<'a>(
        &self,
        noted: &mut Noted,
        head: &'a RequestHead<'a>,
        expected: &Expected<'a>,
    ) -> Result<(), AuthenticationError> {
        let offset = |effect| if let Effect::ClockOffset(seconds) = effect { Some(seconds) } else { None };
        let Some(offset) = self.take(noted, offset) else { return Ok(()) };
        noted.clock_offset = Some(offset);
        let now = UnixSeconds(expected.now.0.saturating_add(offset));
        Presented::read(head, &Expected { now, ..*expected }).map(drop)
    }

    /// Fails a call whose caller is authenticated, where that has been asked for. Calls of a protocol that does not know the
    /// error are not failed by it.
    pub(crate) fn fail(&self, noted: &mut Noted, caller: &User) -> Result<(), ApiError> {
        if self.0.is_none() {
            return Ok(());
        }
        noted.caller = Some(caller.arn());
        let Some(protocol) = noted.operation.map(Operation::protocol) else { return Ok(()) };
        let instance = noted.instances.first().map_or("i-00000000000000000", InstanceId::as_str);
        let known = ApiError::of_protocol(protocol, instance);
        let error = |effect| match effect {
            Effect::Error(name) => known.iter().find(|error| error.code(protocol) == name).cloned(),
            Effect::Delay(_) | Effect::ClockOffset(_) | Effect::KeyLifetime(_) => None,
        };
        self.take(noted, error).map_or(Ok(()), Err)
    }

    /// The grant of a push, ending sooner where that has been asked for.
    pub(crate) fn shorten(&self, grant: Grant) -> Grant {
        let lifetime =
            |effect| if let Effect::KeyLifetime(lifetime) = effect { Some(lifetime) } else { None };
        let (operation, instances) = (Some(Operation::SendSshPublicKey), vec![grant.instance().clone()]);
        let mut noted = Noted { operation, instances, ..Noted::default() };
        match self.take(&mut noted, lifetime) {
            Some(lifetime) => grant.ending_after(lifetime),
            None => grant,
        }
    }

    /// A call has been answered.
    pub(crate) fn answered<B>(
        &self,
        noted: Noted,
        origin: &Origin,
        access_key: Option<AccessKeyId>,
        now: ServerInstant,
        code: &'static str,
        response: &mut Response<B>,
    ) {
        let Some(state) = &self.0 else { return };
        if let Some(offset) = noted.clock_offset
            && let Some(date) = in_http(UnixSeconds(origin.time.0.saturating_add(offset)))
            && let Ok(date) = HeaderValue::from_str(&date)
        {
            // What clients learn from that their clock and ours differ.
            response.headers_mut().insert(DATE, date);
        }
        let at = noted.at.unwrap_or(now);
        lock(state).keep(Seen {
            number: 0,
            at_ms: milliseconds(at.since(ServerInstant(0))),
            took_ms: milliseconds(now.since(at)),
            request_id: origin.request.to_string(),
            service: noted.operation.map(Operation::service),
            operation: noted.operation.map(Operation::name),
            instance_id: noted.instances.first().map(ToString::to_string),
            caller: noted.caller,
            access_key_id: access_key.map(|id| id.to_string()),
            status: response.status().as_u16(),
            error: (code != metrics::SUCCESS).then_some(code),
            faults: noted.faults,
        });
    }

    /// The first fault of a kind that is for this call. It has happened.
    fn take<T>(&self, noted: &mut Noted, of_kind: impl Fn(Effect) -> Option<T>) -> Option<T> {
        let mut state = lock(self.0.as_ref()?);
        let is_for = |fault: &Fault| {
            fault.is_for(noted.operation, &noted.instances) && of_kind(fault.effect).is_some()
        };
        let place = state.faults.iter().position(|numbered| is_for(&numbered.fault))?;
        let Numbered { id, fault } = state.faults.get_mut(place)?;
        noted.faults.push(*id);
        let effect = fault.effect;
        if !fault.happened() {
            state.faults.remove(place);
        }
        of_kind(effect)
    }
}

impl State {
    /// Adds a fault behind the others.
    fn add(&mut self, fault: Fault) -> Result<Numbered, String> {
        if self.faults.len() >= FAULTS {
            return Err(format!("there are {FAULTS} faults already; remove some"));
        }
        self.asked += 1;
        let numbered = Numbered { id: self.asked, fault };
        self.faults.push(numbered.clone());
        Ok(numbered)
    }

    /// Keeps a call, and forgets the oldest where there are too many.
    fn keep(&mut self, seen: Seen) {
        if self.calls.len() >= CALLS {
            self.calls.pop_front();
        }
        self.seen += 1;
        self.calls.push_back(Seen { number: self.seen, ..seen });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The operation that a request names, and the instances, as far as they are some.
fn named_in(request: &Whole) -> Option<Noted> {
    let target = request.uri().to_string();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let head = RequestHead::read(request.method().as_str(), &target, headers).ok()?;
    let body = request.body().as_ref().ok()?;
    Some(match Protocol::of(&head).ok()? {
        Protocol::Json => {
            let (operation, instances) = (api::route(&head).ok(), instance_named(body).into_iter().collect());
            Noted { operation, instances, ..Noted::default() }
        }
        Protocol::Query(service) => {
            let mut parameters = Parameters::read(head.query(), body).ok()?;
            let operation = parameters.operation(service).ok().map(Operation::Query);
            Noted { operation, instances: parameters.instances(), ..Noted::default() }
        }
    })
}

/// The instance that a request in JSON names, if it is one.
fn instance_named(body: &[u8]) -> Option<InstanceId> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(rename = "InstanceId")]
        instance_id: String,
    }
    serde_json::from_slice::<Members>(body).ok()?.instance_id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_testkit::World;

    /// Faults are out of reach of a control plane in production, whatever its arguments are.
    #[test]
    fn only_a_control_plane_of_dev_has_faults() {
        let (of_dev, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(of_dev.path().join(".instance-connect-dev"), "").unwrap();
        let file = other.path().join("faults.json");
        std::fs::write(&file, r#"[{"error":"AuthException"}]"#).unwrap();
        let loopback: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for (directory, address, has) in [
            (&of_dev, "127.0.0.2:1", true),
            (&of_dev, "[::1]:1", true),
            (&of_dev, "0.0.0.0:1", false),
            (&of_dev, "[::]:1", false),
            (&of_dev, "192.0.2.1:1", false),
            (&other, "127.0.0.1:1", false),
        ] {
            for place in 0..3 {
                let mut listening = [loopback; 3];
                listening[place] = address.parse().unwrap();
                let faults = Faults::of_dev(&file, directory.path(), &listening);
                assert_eq!(faults.is_ok(), has, "{directory:?} {listening:?}");
            }
        }
        for wrong in ["", "{}", r#"[{"error":"No"}]"#] {
            std::fs::write(&file, wrong).unwrap();
            assert!(Faults::of_dev(&file, of_dev.path(), &[loopback]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_calls_are_kept() {
        let (faults, origin) = (Faults::begin_with(Vec::new()).unwrap(), World::new().origin());
        for _ in 0..CALLS + 2 {
            let mut response = Response::new(());
            faults.answered(
                Noted::default(),
                &origin,
                None,
                ServerInstant(0),
                metrics::SUCCESS,
                &mut response,
            );
        }
        let state = lock(faults.0.as_ref().unwrap());
        let numbers: Vec<u64> = state.calls.iter().map(|seen| seen.number).collect();
        assert_eq!((numbers.len(), numbers[0], numbers[CALLS - 1]), (CALLS, 3, state.seen));
    }
}
