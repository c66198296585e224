//! What `/metrics` tells: each of these is described in docs/operations.md, and a test compares the two.
//!
//! Names and units are those of Prometheus's conventions. No label names a user or an instance: what a label can be is
//! bounded by this program, whoever sends what. What every push counts is found once, at the start, and is one addition.

mod histogram;
mod process;

use crate::links::{Delivered, DeliveryError};
use crate::traces::SpanCounts;
pub(crate) use histogram::Histogram;
use instance_connect_core::api::Operation;
use instance_connect_core::document::UnixSeconds;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The media type of the format.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request's `code` is where there is no error.
pub(crate) const SUCCESS: &str = "Success";

/// One label.
type Label = [(&'static str, &'static str); 1];

/// Two of them.
type Labels = [(&'static str, &'static str); 2];

/// A gauge of a number with a fraction.
type FloatGauge = Gauge<f64, AtomicU64>;

/// Everything that is counted, and what is looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    request_durations: Family<Label, Histogram>,
    pushes: Counter,
    push_durations: Histogram,
    deliveries: Family<Label, Counter>,
    delivered: Counter,
    throttled: Family<Label, Counter>,
    enrolments: Family<Label, Counter>,
    links: Gauge,
    links_opened: Counter,
    links_ended: Family<Label, Counter>,
    connections: Family<Label, Gauge>,
    connections_accepted: Family<Label, Counter>,
    connections_closed_for_others: Family<Label, Counter>,
    accept_failures: Family<Label, Counter>,
    certificate_expiry: Family<Label, Gauge>,
    stock_signer_expiry: Gauge,
    audit_queue: Gauge,
    store_age: FloatGauge,
    ready: Gauge,
    process: process::Metrics,
}

/// What is counted of one listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerMetrics {
    pub(crate) open: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) closed_for_others: Counter,
    pub(crate) accept_failures: Counter,
}

/// What is looked up when somebody asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pub(crate) is_ready: bool,
    pub(crate) stock_signer_expires: UnixSeconds,
    pub(crate) audit_queue: usize,
    pub(crate) store_age: Duration,
}

/// Which rate was exceeded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Source,
    Principal,
    Instance,
    Lookup,
    Enrolment,
}

impl Metrics {
    /// Those of a process that starts now. `audit_syncs` are the audit log's own, and `spans` those of traces.
    pub(crate) fn new(audit_syncs: Histogram, spans: SpanCounts) -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let request_durations = Family::default();
        let deliveries = Family::default();
        let build = Family::<Label, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        added(&mut registry, "build_info", "The version that runs; always 1", build);
        added(
            &mut registry,
            "audit_sync_duration_seconds",
            "Time to write and sync lines of the audit log",
            audit_syncs,
        );
        let SpanCounts { exported, dropped, failed } = spans;
        for (name, help, count) in [
            (
                "spans_exported",
                "Spans of traces in batches that the collector answered with success",
                exported,
            ),
            ("spans_dropped", "Spans of traces for which there was no room", dropped),
            ("spans_failed", "Spans of traces in batches without an answer of success", failed),
        ] {
            added(&mut registry, name, help, count);
        }
        Self {
            pushes: requests.get_or_create_owned(&request_labels(Some(Operation::SendSshPublicKey), SUCCESS)),
            push_durations: request_durations
                .get_or_create_owned(&[("operation", Operation::SendSshPublicKey.name())]),
            delivered: deliveries.get_or_create_owned(&[("outcome", "delivered")]),
            requests: added(&mut registry, "requests", "Requests of the API that were answered", requests),
            request_durations: added(
                &mut registry,
                "request_duration_seconds",
                "Time from a whole request to its answer",
                request_durations,
            ),
            deliveries: added(
                &mut registry,
                "deliveries",
                "Keys sent to machines, by what came of it",
                deliveries,
            ),
            throttled: added(
                &mut registry,
                "throttled",
                "What was refused for coming too often, by the limit",
                Family::default(),
            ),
            enrolments: added(
                &mut registry,
                "enrolments",
                "Enrolments that were answered",
                Family::default(),
            ),
            links: added(&mut registry, "links", "Links that are open", Gauge::default()),
            links_opened: added(&mut registry, "links_opened", "Links that were opened", Counter::default()),
            links_ended: added(
                &mut registry,
                "links_ended",
                "Links that ended, also before they were open, by why",
                Family::default(),
            ),
            connections: added(
                &mut registry,
                "connections",
                "Connections that are open and no links",
                Family::default(),
            ),
            connections_accepted: added(
                &mut registry,
                "connections_accepted",
                "Connections that were accepted",
                Family::default(),
            ),
            connections_closed_for_others: added(
                &mut registry,
                "connections_closed_for_others",
                "Connections that were closed or refused because there were too many",
                Family::default(),
            ),
            accept_failures: added(
                &mut registry,
                "accept_failures",
                "Connections that could not be accepted, mostly for want of file descriptors",
                Family::default(),
            ),
            certificate_expiry: added(
                &mut registry,
                "certificate_expiry_timestamp_seconds",
                "When a listener's certificate ends",
                Family::default(),
            ),
            stock_signer_expiry: added(
                &mut registry,
                "stock_signer_expiry_timestamp_seconds",
                "When the certificate of the metadata service's signer ends",
                Gauge::default(),
            ),
            audit_queue: added(
                &mut registry,
                "audit_queue_length",
                "Lines that wait for the audit log",
                Gauge::default(),
            ),
            store_age: added(
                &mut registry,
                "store_age_seconds",
                "Time since the store has confirmed the inventory",
                FloatGauge::default(),
            ),
            ready: added(&mut registry, "ready", "Whether /readyz says so: 1 or 0", Gauge::default()),
            process: process::Metrics::new(&mut registry),
            registry,
        }
    }

    /// A request has been answered.
    pub(crate) fn answered(&self, operation: Option<Operation>, code: &'static str, took: Duration) {
        if operation == Some(Operation::SendSshPublicKey) && code == SUCCESS {
            self.pushes.inc();
            self.push_durations.observe(took);
            return;
        }
        let [operation, code] = request_labels(operation, code);
        self.requests.get_or_create(&[operation, code]).inc();
        self.request_durations.get_or_create(&[operation]).observe(took);
    }

    /// A key was sent to a machine.
    pub(crate) fn sent(&self, result: &Result<Delivered, DeliveryError>) {
        let outcome = match result {
            Ok(_) => {
                self.delivered.inc();
                return;
            }
            Err(DeliveryError::Unknown) => "unknown",
            Err(DeliveryError::Refused(_)) => "refused",
            Err(DeliveryError::Busy) => "busy",
            Err(DeliveryError::Encoding) => "failed",
        };
        self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Something was refused for coming too often.
    pub(crate) fn throttled(&self, limit: Limit) {
        let limit = match limit {
            Limit::Source => "source",
            Limit::Principal => "principal",
            Limit::Instance => "instance",
            Limit::Lookup => "lookup",
            Limit::Enrolment => "enrolment",
        };
        self.throttled.get_or_create(&[("limit", limit)]).inc();
    }

    /// An enrolment has been answered.
    pub(crate) fn enrolled(&self, code: &'static str) {
        self.enrolments.get_or_create(&[("code", code)]).inc();
    }

    /// A link is open.
    pub(crate) fn link_opened(&self) {
        self.links_opened.inc();
        self.links.inc();
    }

    /// A link is not open any more.
    pub(crate) fn link_closed(&self) {
        self.links.dec();
    }

    /// A link has ended, open or not, for this reason.
    pub(crate) fn link_ended(&self, reason: &'static str) {
        self.links_ended.get_or_create(&[("reason", reason)]).inc();
    }

    /// What is counted of a listener.
    pub(crate) fn listener(&self, listener: &'static str) -> ListenerMetrics {
        let label = [("listener", listener)];
        ListenerMetrics {
            open: self.connections.get_or_create_owned(&label),
            accepted: self.connections_accepted.get_or_create_owned(&label),
            closed_for_others: self.connections_closed_for_others.get_or_create_owned(&label),
            accept_failures: self.accept_failures.get_or_create_owned(&label),
        }
    }

    /// Where it is noted when the certificate of a listener ends.
    pub(crate) fn certificate_expiry(&self, listener: &'static str) -> Gauge {
        self.certificate_expiry.get_or_create_owned(&[("listener", listener)])
    }

    /// All of it as text, with what is looked up for it.
    ///
    /// # Errors
    /// Formatting has failed.
    pub(crate) fn text(&self, observed: Observed) -> Result<String, std::fmt::Error> {
        self.ready.set(observed.is_ready.into());
        self.stock_signer_expiry.set(observed.stock_signer_expires.0);
        self.audit_queue.set(i64::try_from(observed.audit_queue).unwrap_or(i64::MAX));
        self.store_age.set(observed.store_age.as_secs_f64());
        self.process.look();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
impl Default for Metrics {
    fn default() -> Self {
        Self::new(Histogram::default(), SpanCounts::default())
    }
}

/// Before anything in it was understood a request has no operation.
fn request_labels(operation: Option<Operation>, code: &'static str) -> Labels {
    [("operation", operation.map_or("", Operation::name)), ("code", code)]
}

fn added<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(format!("instance_connect_{name}"), help, metric.clone());
    metric
}

#[cfg(test)]
mod tests;
