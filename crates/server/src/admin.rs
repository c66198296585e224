//! The admin listener, for those who watch: `/metrics`, `/healthz`, `/readyz`. It takes nothing and changes nothing, but for
//! the faults that `dev` lets one cause.

use crate::agents_tls::AgentsTls;
use crate::api::ClockGuard;
use crate::audit_log::AuditLog;
use crate::connections::{self, Acceptance, Listener};
use crate::drain::Drain;
use crate::faults::{self, Control};
use crate::http::{self, Body, Whole};
use crate::inventory::LiveInventory;
use crate::metrics::{self, Metrics, Observed};
use crate::public_tls::PublicTls;
use crate::stock::StockSigners;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Clock;
use instance_connect_core::places::ConnectionLimits;
use instance_connect_core::proxies::TrustedProxies;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;

/// Connections of those who watch: some of them, with some to spare.
pub(crate) const CONNECTIONS: ConnectionLimits = ConnectionLimits { in_all: 64, per_source: 64 };

/// Bytes of a request's body. None has any.
const BODY: usize = 0;

const TEXT: &str = "text/plain; charset=utf-8";

/// What there is to watch.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) inventory: Arc<LiveInventory>,
    pub(crate) audit: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clock_guard: Arc<ClockGuard>,
    /// The end of the other listeners.
    pub(crate) drain: Arc<Drain>,
    pub(crate) public_tls: Option<Arc<PublicTls>>,
    pub(crate) agents_tls: Arc<AgentsTls>,
    pub(crate) stock: Arc<StockSigners>,
    /// Whether they accept connections, by their names.
    pub(crate) listeners: [(&'static str, Arc<Acceptance>); 2],
    /// Faults and calls seen, in `dev`.
    pub(crate) control: Option<Control>,
}

impl Admin {
    /// Serves the listener until the process ends.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener) {
        connections::accept(listener, TrustedProxies::default(), |stream, connection| {
            let admin = Arc::clone(&self);
            let body = if self.control.is_some() { faults::BODY } else { BODY };
            http::serve(stream, connection, body, move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            })
        })
        .await;
    }

    async fn answer(self: Arc<Self>, request: Whole) -> Response<Body> {
        if let Some(control) = &self.control
            && request.uri().path().starts_with(faults::PATH)
        {
            return control.answer(&request);
        }
        if request.method() != Method::GET {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET is what this is for\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => readiness(&self.conditions()),
            "/metrics" => {
                // Looks at files of the kernel, of which those of descriptors are many.
                let text = tokio::task::spawn_blocking(move || self.metrics()).await;
                match text {
                    Ok(Ok(text)) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
                    Ok(Err(_)) | Err(_) => {
                        response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no metrics\n".to_owned())
                    }
                }
            }
            _ => response(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n".to_owned()),
        }
    }

    fn metrics(&self) -> Result<String, std::fmt::Error> {
        let expires = |listener, expires: UnixSeconds| {
            self.metrics.certificate_expiry(listener).set(expires.0);
        };
        if let Some(tls) = &self.public_tls {
            expires("public", tls.expires());
        }
        expires("agents", self.agents_tls.expires());
        self.metrics.text(Observed {
            is_ready: self.conditions().is_empty(),
            stock_signer_expires: self.stock.in_force().expires(),
            audit_queue: self.audit.waiting(),
            store_age: self.inventory.age(),
        })
    }

    /// Each condition of readiness that does not hold, with why.
    fn conditions(&self) -> Vec<(&'static str, String)> {
        let mut failing = Vec::new();
        let mut check =
            |name, result: Result<(), String>| failing.extend(result.err().map(|why| (name, why)));
        check("store", self.inventory.current().map(drop).map_err(text));
        check("audit", self.audit.check().map_err(text));
        check("clock", self.clock_guard.admit(self.clock.wall()).map_err(text));
        for (name, acceptance) in &self.listeners {
            check(name, acceptance.check().map_err(text));
        }
        let is_ending = self.drain.has_begun();
        check(
            "draining",
            if is_ending { Err("the control plane is about to end".to_owned()) } else { Ok(()) },
        );
        failing
    }
}

fn readiness(failing: &[(&'static str, String)]) -> Response<Body> {
    if failing.is_empty() {
        return response(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    let lines = failing.iter().map(|(name, why)| format!("{name}: {why}\n")).collect();
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit_log::{AuditSettings, FileSize};
    use crate::pki::Pki;
    use http_body_util::BodyExt as _;
    use hyper::Request;
    use hyper::body::Bytes;
    use instance_connect_core::document::ServerInstant;
    use instance_connect_store::{MasterKey, SqliteStore, Store};
    use instance_connect_testkit::{ManualClock, SeededRandom, World};
    use std::time::Duration;

    struct Setting {
        admin: Arc<Admin>,
        clock: Arc<ManualClock>,
        directory: tempfile::TempDir,
    }

    impl Setting {
        async fn new() -> Self {
            let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
            let random = Arc::new(SeededRandom::new(1));
            let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
            let (key, data) = (MasterKey::from_bytes([1; 32]), directory.path().join("data"));
            let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data, &key, random.clone()).unwrap());
            let pki = Pki::load(store.as_ref(), random.as_ref(), &world.region, world.now).await.unwrap();
            let names = vec!["localhost".to_owned()];
            let settings = AuditSettings { path: data.join("audit.log"), max_bytes: FileSize::default() };
            let admin = Arc::new(Admin {
                metrics: Arc::default(),
                inventory: Arc::new(LiveInventory::load(store, clock.clone()).await.unwrap()),
                audit: AuditLog::open(&settings, clock.clone(), random.as_ref()).unwrap(),
                clock: clock.clone(),
                clock_guard: Arc::default(),
                drain: Arc::default(),
                public_tls: None,
                agents_tls: Arc::new(AgentsTls::new(Arc::new(pki), names, world.now).unwrap()),
                stock: StockSigners::of_tests().await,
                listeners: [("public", Arc::default()), ("agents", Arc::default())],
                control: None,
            });
            Self { admin, clock, directory }
        }

        async fn ask(&self, method: Method, path: &str) -> (u16, String) {
            let request = Request::builder().method(method).uri(path).body(Ok(Bytes::new())).unwrap();
            let answer = Arc::clone(&self.admin).answer(request).await;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }

        /// What `/readyz` says, and that the metric says the same.
        async fn ready(&self) -> String {
            let (status, text) = self.ask(Method::GET, "/readyz").await;
            assert_eq!(status, if text == "ready\n" { 200 } else { 503 }, "{text}");
            let (_, metrics) = self.ask(Method::GET, "/metrics").await;
            let metric = format!("\ninstance_connect_ready {}\n", u8::from(status == 200));
            assert!(metrics.contains(&metric), "{text}\n{metrics}");
            text
        }
    }

    #[tokio::test]
    async fn every_condition_of_readiness_is_named() {
        let setting = Setting::new().await;
        let Setting { admin, clock, directory } = &setting;
        assert_eq!(setting.ready().await, "ready\n");
        // The store is not asked any more.
        clock.advance(Duration::from_secs(6));
        let stale = "store: the inventory has not been confirmed by the store for too long\n";
        assert_eq!(setting.ready().await, stale);
        admin.inventory.refresh().await.unwrap();
        // Somebody's logrotate.
        let (live, moved) = (directory.path().join("data/audit.log"), directory.path().join("data/moved"));
        std::fs::rename(&live, &moved).unwrap();
        let expected =
            "audit: its file was moved, replaced or removed by somebody else; restart the service\n";
        assert_eq!(setting.ready().await, expected);
        std::fs::write(&live, "").unwrap();
        assert_eq!(setting.ready().await, expected);
        std::fs::rename(&moved, &live).unwrap();
        assert_eq!(setting.ready().await, "ready\n");
        let cannot = "agents: connections cannot be accepted: out of memory\n";
        admin.listeners[1].1.failed(&std::io::ErrorKind::OutOfMemory.into());
        admin.drain.begin();
        assert_eq!(setting.ready().await, format!("{cannot}draining: the control plane is about to end\n"));
    }

    #[tokio::test]
    async fn a_clock_that_went_back_is_told_also_where_nobody_sends_requests() {
        let setting = Setting::new().await;
        let now = setting.clock.wall();
        for (step, is_ready) in [(0, true), (100, true), (70, true), (69, false), (100, true)] {
            setting.clock.set_wall(UnixSeconds(now.0 + step));
            assert_eq!(setting.ready().await == "ready\n", is_ready, "{step}");
        }
    }

    #[tokio::test]
    async fn other_paths_and_methods() {
        let setting = Setting::new().await;
        assert_eq!(setting.ask(Method::GET, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(setting.ask(Method::GET, "/").await.0, 404);
        assert_eq!(setting.ask(Method::POST, "/metrics").await.0, 405);
    }
}
