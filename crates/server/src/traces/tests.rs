use super::*;
use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry::{Key, Value};
use opentelemetry_sdk::trace::SpanData;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;

const REQUEST: &str = "0b7f1c52-5f0e-4b3a-9d0c-2f6b1c7a9e41";

/// Traces to a collector that nobody listens at.
fn traces() -> Traces {
    let endpoint = "http://127.0.0.1:9".parse().unwrap();
    Traces::to(&Destination::find(Some(&endpoint), |_| None).unwrap().unwrap()).unwrap()
}

/// The spans that have ended.
fn ended(traces: &mut Traces) -> Vec<SpanData> {
    std::iter::from_fn(|| traces.next_ended()).collect()
}

fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn begin(requests: &RequestSpans, headers: &HeaderMap) -> Span {
    requests.begin(&REQUEST.parse().unwrap(), headers, ServerInstant(1))
}

fn attribute(span: &SpanData, name: &'static str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == Key::new(name));
    found.map(|attribute| attribute.value.clone())
}

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const AMAZON: &str = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";

#[test]
fn a_request_and_its_parts_are_one_trace() {
    let mut traces = traces();
    tracing::subscriber::with_default(registry().with(traces.layer()), || {
        let request = begin(&RequestSpans::default(), &headers(&[("traceparent", KEPT)]));
        assert_eq!(trace_id(&request).unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        request.in_scope(|| {
            let log = crate::log::request_span(&REQUEST, trace_id(&request));
            log.in_scope(|| {
                delivery().in_scope(|| tracing::error!(user = "alice", "said in the log, and not here"));
            });
        });
        answered(
            &request,
            Some(Operation::SendSshPublicKey),
            "ServiceException",
            StatusCode::INTERNAL_SERVER_ERROR,
        );
    });
    let spans = ended(&mut traces);
    let [delivered, request] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((delivered.name.as_ref(), request.name.as_ref()), ("deliver", "SendSSHPublicKey"));
    for span in &spans {
        assert_eq!(span.span_context.trace_id(), TraceId::from(TRACE));
        assert!(!format!("{span:?}").contains("alice"), "{span:?}");
    }
    assert_eq!(request.parent_span_id, SpanId::from(0x00f0_67aa_0ba9_02b7_u64));
    assert_eq!(delivered.parent_span_id, request.span_context.span_id());
    assert!(matches!(request.status, Status::Error { .. }));
    assert_eq!(attribute(request, "aws.request_id"), Some(REQUEST.into()));
    assert_eq!(attribute(request, "error.type"), Some("ServiceException".into()));
    assert_eq!(attribute(request, "http.response.status_code"), Some(Value::I64(500)));
}

/// Which of a caller's words on its trace are taken, and whether the span is sent then.
#[test]
fn whose_trace_a_request_is_in() {
    for (name, sent, in_callers, is_kept) in [
        ("W3C", &[("traceparent", KEPT)][..], true, true),
        ("W3C, not kept", &[("traceparent", NOT_KEPT)], true, false),
        ("AWS", &[("x-amzn-trace-id", AMAZON)], true, true),
        ("W3C before AWS", &[("traceparent", NOT_KEPT), ("x-amzn-trace-id", AMAZON)], true, false),
        ("none", &[], false, true),
        ("malformed", &[("traceparent", "00-4bf9-01")], false, true),
    ] {
        let mut traces = traces();
        tracing::subscriber::with_default(registry().with(traces.layer()), || {
            let request = begin(&RequestSpans::default(), &headers(sent));
            assert_eq!(
                trace_id(&request).unwrap().to_string() == format!("{TRACE:032x}"),
                in_callers,
                "{name}"
            );
        });
        assert_eq!(ended(&mut traces).len(), usize::from(is_kept), "{name}");
    }
    let mut twice = headers(&[("traceparent", KEPT)]);
    twice.append("traceparent", NOT_KEPT.parse().unwrap());
    assert_eq!(context(&twice), None);
}

/// Whoever sends requests by the thousand cannot have all of them kept in a service that keeps few, or in somebody's trace.
#[test]
fn callers_traces_have_a_rate() {
    let mut traces = traces();
    let requests = RequestSpans::default();
    tracing::subscriber::with_default(registry().with(traces.layer()), || {
        for _ in 0..150 {
            begin(&requests, &headers(&[("traceparent", KEPT)]));
        }
    });
    let spans = ended(&mut traces);
    let of_caller = spans.iter().filter(|span| span.span_context.trace_id() == TraceId::from(TRACE)).count();
    assert_eq!((spans.len(), of_caller), (150, 100));
}

#[test]
fn spans_without_room_are_counted_and_nobody_waits() {
    let traces = traces();
    tracing::subscriber::with_default(registry().with(traces.layer()), || {
        for _ in 0..3000 {
            begin(&RequestSpans::default(), &HeaderMap::new());
        }
    });
    assert_eq!(traces.counts().dropped.get(), 3000 - 2048);
}

#[test]
fn without_a_collector_there_are_no_spans() {
    let log = crate::log::tests::Said::default().dispatch("trace", None);
    tracing::dispatcher::with_default(&log, || {
        assert!(!tracing::trace_span!("another").is_disabled());
        let request = begin(&RequestSpans::default(), &headers(&[("traceparent", KEPT)]));
        assert!(request.is_disabled() && delivery().is_disabled() && audit_write().is_disabled());
        assert!(trace_id(&request).is_none());
    });
}

#[test]
fn the_log_has_no_spans_of_traces() {
    let (mut traces, said) = (traces(), crate::log::tests::Said::default());
    tracing::dispatcher::with_default(&said.dispatch("trace,[request]=trace", Some(&traces)), || {
        let _traced = begin(&RequestSpans::default(), &HeaderMap::new()).entered();
        let _request = crate::log::request_span(&REQUEST, None::<&str>.as_ref()).entered();
        tracing::trace!("said");
    });
    let said = said.text();
    assert!(said.contains(" TRACE request{id="), "{said}");
    assert_eq!(said.matches("request{").count(), 1, "{said}");
    assert_eq!(ended(&mut traces).len(), 1);
}
