//! Traces of requests, sent to an OpenTelemetry collector where one is named (docs/operations.md).
//!
//! Their spans are `tracing`'s, of a target of their own, which nothing listens to while there is no collector: then none is
//! made. They say how long the parts of a request take, under the request's id; who asks for what is in the audit log.

#[cfg(feature = "otel")]
mod collector;
mod destination;
#[cfg(feature = "otel")]
mod export;

pub(crate) use destination::{Destination, Endpoint, EndpointError};
#[cfg(feature = "otel")]
pub(crate) use export::{Exporting, Traces};
use hyper::{HeaderMap, StatusCode};
use instance_connect_core::api::Operation;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::ids::RequestId;
use instance_connect_core::limits;
use instance_connect_core::throttle::Bucket;
use instance_connect_core::trace_context::TraceContext;
use prometheus_client::metrics::counter::Counter;
use std::sync::Mutex;
use tracing::{Span, field, trace_span};

/// The target of these spans, which the log has no part of.
pub(crate) const TARGET: &str = "instance_connect_traces";

/// What became of spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanCounts {
    /// In batches that the collector answered with success.
    pub(crate) exported: Counter,
    /// Too many were waiting.
    pub(crate) dropped: Counter,
    /// In batches for which the collector was not reached, or that it did not answer with success.
    pub(crate) failed: Counter,
}

/// Where requests' spans begin.
#[derive(Debug)]
pub(crate) struct RequestSpans {
    /// For callers' traces: what is done on their word must not be more than we bear, whoever they are.
    from_callers: Mutex<Bucket>,
}

impl Default for RequestSpans {
    fn default() -> Self {
        Self { from_callers: Mutex::new(Bucket::new(limits::TRACE_CONTEXT_RATE)) }
    }
}

impl RequestSpans {
    /// The span of a request that is there as a whole, in the trace of its caller if there is room for that.
    pub(crate) fn begin(&self, request: &RequestId, headers: &HeaderMap, now: ServerInstant) -> Span {
        let span = trace_span!(
            target: TARGET,
            "request",
            otel.kind = "server",
            otel.status_code = field::Empty,
            aws.request_id = %request,
            rpc.system = "aws-api",
            rpc.method = field::Empty,
            http.response.status_code = field::Empty,
            "error.type" = field::Empty,
        );
        if !span.is_disabled()
            && let Some(context) = context(headers)
            && crate::links::lock(&self.from_callers).take(now.since(ServerInstant(0)))
        {
            set_parent(&span, context);
        }
        span
    }
}

/// What is answered to a request, and how it is counted.
pub(crate) fn answered(span: &Span, operation: Option<Operation>, code: &'static str, status: StatusCode) {
    if span.is_disabled() {
        return;
    }
    if let Some(operation) = operation {
        span.record("rpc.method", operation.name());
        rename(span, operation.name());
    }
    // An unsigned number would become a text.
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if !status.is_success() {
        span.record("error.type", code);
    }
    // What the caller did wrong is no error of the service's (OpenTelemetry's conventions for spans of HTTP servers).
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of deciding whether a request is allowed.
pub(crate) fn authorization() -> Span {
    trace_span!(target: TARGET, "authorize")
}

/// The span from a key's leaving for its machine to the machine's word.
pub(crate) fn delivery() -> Span {
    trace_span!(target: TARGET, "deliver", otel.kind = "client")
}

/// The span of writing a line of the audit log to the disk.
pub(crate) fn audit_write() -> Span {
    trace_span!(target: TARGET, "audit")
}

/// The trace that a request is a part of, if its headers say one, and one only.
fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(hyper::header::HeaderValue::as_bytes)
    };
    match only("traceparent") {
        Some(value) => TraceContext::from_traceparent(value),
        None => TraceContext::from_amzn_trace_id(only("x-amzn-trace-id")?),
    }
}

#[cfg(feature = "otel")]
pub(crate) use export::trace_id;
#[cfg(feature = "otel")]
use export::{rename, set_parent};

#[cfg(not(feature = "otel"))]
pub(crate) use without::*;

/// A program without them.
#[cfg(not(feature = "otel"))]
mod without {
    use super::{Destination, SpanCounts};
    use instance_connect_core::trace_context::TraceContext;
    use tracing::Span;
    use tracing_subscriber::layer::Identity;

    /// There are none.
    #[derive(Debug)]
    pub(crate) enum Traces {}

    /// There are none to be sent.
    #[derive(Debug)]
    pub(crate) enum Exporting {}

    impl Traces {
        pub(crate) fn to(_: &Destination) -> anyhow::Result<Self> {
            anyhow::bail!(
                "this program was built without traces: traces.endpoint and OTEL_EXPORTER_OTLP_ENDPOINT have no use"
            )
        }

        pub(crate) fn layer(&self) -> Identity {
            match *self {}
        }

        pub(crate) fn export(self) -> Exporting {
            match self {}
        }

        pub(crate) fn counts(&self) -> SpanCounts {
            match *self {}
        }
    }

    impl Exporting {
        pub(crate) async fn flush(self) {
            match self {}
        }
    }

    pub(super) fn set_parent(_: &Span, _: TraceContext) {}

    pub(super) fn rename(_: &Span, _: &'static str) {}

    pub(crate) fn trace_id(_: &Span) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
#[cfg(feature = "otel")]
mod tests;
