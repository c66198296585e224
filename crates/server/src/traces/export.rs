//! From spans that have ended to the collector. A request only puts its spans in a queue, or counts those that find no room.

use super::collector::Collector;
use super::{Destination, SpanCounts, TARGET};
use instance_connect_core::trace_context::TraceContext;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter, SpanProcessor,
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Spans that wait for the exporter, about 1 KB each: OpenTelemetry's own default.
const QUEUE: usize = 2048;

/// Spans in one request to the collector: OpenTelemetry's own default.
const BATCH: usize = 512;

/// How long the first of them waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// How long what is left is tried to be sent when the service ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Traces that are to be sent.
#[derive(Debug)]
pub(crate) struct Traces {
    tracer: SdkTracer,
    exporter: opentelemetry_otlp::SpanExporter,
    queue: mpsc::Receiver<SpanData>,
    counts: SpanCounts,
}

impl Traces {
    /// Nothing is sent before [`Self::export`].
    ///
    /// # Errors
    /// What the environment asks of the SDK, and it cannot do.
    pub(crate) fn to(destination: &Destination) -> anyhow::Result<Self> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::at(destination)?)
            .with_endpoint(destination.url.to_string())
            .with_timeout(Duration::from_millis(destination.timeout))
            .build()?;
        let resource = resource();
        exporter.set_resource(&resource);
        let (sender, queue) = mpsc::channel(QUEUE);
        let counts = SpanCounts::default();
        let processor = QueueProcessor { queue: sender, counts: counts.clone() };
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build();
        Ok(Self { tracer: provider.tracer("instance-connectd"), exporter, queue, counts })
    }

    /// What listens to the spans of [`TARGET`], and nothing else: no line of the log becomes a part of a trace.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        OpenTelemetryLayer::new(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET))
    }

    /// What becomes of spans.
    pub(crate) fn counts(&self) -> SpanCounts {
        self.counts.clone()
    }

    /// A span that has ended.
    #[cfg(test)]
    pub(super) fn next_ended(&mut self) -> Option<SpanData> {
        self.queue.try_recv().ok()
    }

    /// Begins to send them, within a runtime.
    pub(crate) fn export(self) -> Exporting {
        let exporter = CountingExporter { exporter: self.exporter, counts: self.counts, is_lost: false };
        Exporting::begin(exporter, self.queue)
    }
}

/// `service.name` and `service.version`; what the environment says of them and of others counts more.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = Resource::builder().build();
    let is_named = named
        .get(&Key::new("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let resource = Resource::builder();
    let resource =
        if named.get(&version.key).is_some() { resource } else { resource.with_attribute(version) };
    if is_named { resource.build() } else { resource.with_service_name("instance-connectd").build() }
}

/// The end of the queue at which requests are.
#[derive(Debug)]
struct QueueProcessor {
    queue: mpsc::Sender<SpanData>,
    counts: SpanCounts,
}

impl SpanProcessor for QueueProcessor {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.try_send(span).is_err() {
            self.counts.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Spans on their way.
#[derive(Debug)]
pub(crate) struct Exporting {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporting {
    fn begin(
        exporter: CountingExporter<impl SpanExporter + 'static>,
        queue: mpsc::Receiver<SpanData>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(export(exporter, queue, stopped)) }
    }

    /// Sends what is left, as far as the collector takes it soon.
    pub(crate) async fn flush(self) {
        // The task only ends when it is told to.
        let _ = self.stop.send(());
        if timeout(FLUSH, self.task).await.is_err() {
            tracing::warn!("the last traces could not be sent in time");
        }
    }
}

/// Sends one batch after the other until it is told to stop, and then what is left.
async fn export(
    mut exporter: CountingExporter<impl SpanExporter>,
    mut queue: mpsc::Receiver<SpanData>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            () = gather(&mut queue, &mut batch) => exporter.send(batch).await,
            _ = &mut stopped => {
                exporter.send(batch).await;
                break;
            }
        }
    }
    queue.close();
    let mut rest = Vec::new();
    while queue.recv_many(&mut rest, BATCH).await > 0 {
        exporter.send(std::mem::take(&mut rest)).await;
    }
}

/// Waits for a span, and a little for more of them. What it has got is in `batch`, also where it is not waited for any more.
async fn gather(queue: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    queue.recv_many(batch, BATCH).await;
    let full =
        async { while batch.len() < BATCH && queue.recv_many(batch, BATCH - batch.len()).await > 0 {} };
    let _ = timeout(DELAY, full).await;
}

/// An exporter of which it is known what became of its spans, and whether the collector was lost the last time.
struct CountingExporter<E> {
    exporter: E,
    counts: SpanCounts,
    is_lost: bool,
}

impl<E: SpanExporter> CountingExporter<E> {
    /// It is logged when the collector is lost and when it is found again, not for each batch.
    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.exporter.export(batch).await;
        let was_lost = std::mem::replace(&mut self.is_lost, result.is_err());
        match result {
            Ok(()) => {
                self.counts.exported.inc_by(spans);
                if was_lost {
                    tracing::info!("traces are sent again");
                }
            }
            Err(error) => {
                self.counts.failed.inc_by(spans);
                if !was_lost {
                    tracing::warn!(%error, "traces cannot be sent; those of the time until then are lost");
                }
            }
        }
    }
}

/// A request's span goes on from its caller's.
pub(super) fn set_parent(span: &Span, context: TraceContext) {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace_id, span_id) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    let parent = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
    // It has not begun, and where nobody listens to it, it has no parent.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// What a span is called is known at its end.
pub(super) fn rename(span: &Span, name: &'static str) {
    span.context().span().update_name(name);
}

/// The trace that a span is in, for the log; none where there are none.
pub(crate) fn trace_id(span: &Span) -> Option<tracing::field::DisplayValue<TraceId>> {
    if span.is_disabled() {
        return None;
    }
    let id = span.context().span().span_context().trace_id();
    (id != TraceId::INVALID).then(|| tracing::field::display(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::Said;
    use opentelemetry::trace::Tracer as _;
    use opentelemetry_sdk::error::OTelSdkError;
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// A collector that answers batches with these, and then not at all.
    #[derive(Debug)]
    struct Answers(Mutex<VecDeque<bool>>);

    impl SpanExporter for Answers {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let answer = self.0.lock().unwrap().pop_front();
            match answer {
                Some(true) => Ok(()),
                Some(false) => Err(OTelSdkError::InternalFailure("refused".into())),
                None => std::future::pending().await,
            }
        }
    }

    fn exporter(answers: &[bool]) -> (CountingExporter<Answers>, SpanCounts) {
        let counts = SpanCounts::default();
        let exporter = Answers(Mutex::new(answers.iter().copied().collect()));
        (CountingExporter { exporter, counts: counts.clone(), is_lost: false }, counts)
    }

    /// A queue with so many spans in it.
    fn queue(spans: usize) -> mpsc::Receiver<SpanData> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let processor = QueueProcessor { queue: sender, counts: SpanCounts::default() };
        let tracer = SdkTracerProvider::builder().with_span_processor(processor).build().tracer("");
        for _ in 0..spans {
            drop(tracer.start("request"));
        }
        queue
    }

    #[tokio::test]
    async fn a_lost_collector_is_logged_once_and_once_when_it_is_back() {
        let (mut exporter, counts) = exporter(&[true, false, false, true, true, false]);
        let said = Said::default();
        let _log = tracing::dispatcher::set_default(&said.dispatch("info", None));
        for (lost, back) in [(0, 0), (1, 0), (1, 0), (1, 1), (1, 1), (2, 1)] {
            exporter.send(vec![queue(1).recv().await.unwrap()]).await;
            let said = said.text();
            let times = |text: &str| said.matches(text).count();
            let logged = (times("WARN"), times("traces cannot be sent"), times("traces are sent again"));
            assert_eq!(logged, (lost, lost, back), "{said}");
        }
        assert_eq!((counts.exported.get(), counts.failed.get()), (3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_sent_at_the_end_to_a_collector_that_answers() {
        let (exporter, counts) = exporter(&[true; 4]);
        let begun = Instant::now();
        Exporting::begin(exporter, queue(QUEUE)).flush().await;
        assert_eq!((counts.exported.get(), begun.elapsed()), (2048, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_does_not_answer_keeps_nobody_from_the_end_for_long() {
        for (answers, sent) in [(&[][..], 0), (&[true], 512), (&[true, true, true], 1536)] {
            let (exporter, counts) = exporter(answers);
            let begun = Instant::now();
            Exporting::begin(exporter, queue(QUEUE)).flush().await;
            assert_eq!((counts.exported.get(), begun.elapsed()), (sent, Duration::from_secs(2)));
        }
    }
}
