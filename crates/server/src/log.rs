//! The program's log, on standard error. The audit log is another thing (`audit_log`).
//!
//! Whatever is said about a request is said within its span, `request{id=…}`: the id that the client was told too.

use crate::config::{LogFormat, LogLevel};
use crate::traces::{self, Traces};
use instance_connect_core::printable::printable;
use std::io::{self, Stderr, Write};
use tracing::{Dispatch, Span, Value};
use tracing_subscriber::filter::{FilterExt as _, FilterFn, LevelFilter};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, registry};

/// Writes the log in this format and from this level on, or what `RUST_LOG` asks for; beside it go traces, if there are any.
pub(crate) fn start(format: LogFormat, LogLevel(level): LogLevel, traces: Option<&Traces>) {
    let asked = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(level.as_str().to_ascii_lowercase()));
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    let log = fmt::layer().with_ansi(false).log_internal_errors(false);
    let log = match format {
        LogFormat::Text => log.with_writer(|| Lines::<Stderr>(io::stderr())).boxed(),
        LogFormat::Json => log.json().with_writer(io::stderr).boxed(),
    };
    dispatch(log, asked, traces).init();
}

/// The log, of what is asked for, and traces, if there are any. Spans of traces are in the log never.
pub(crate) fn dispatch(
    log: Box<dyn Layer<Registry> + Send + Sync>,
    asked: EnvFilter,
    traces: Option<&Traces>,
) -> Dispatch {
    let no_traces = FilterFn::new(|metadata| metadata.target() != traces::TARGET);
    // Two filters together have a hint only where both have one.
    let no_traces = no_traces.with_max_level_hint(LevelFilter::TRACE);
    match traces {
        // The filters are everybody's, so that a span of a trace is not even made.
        None => registry().with(log).with(asked).with(no_traces).into(),
        Some(traces) => registry().with(log.with_filter(asked.and(no_traces))).with(traces.layer()).into(),
    }
}

/// The span of a request, whatever the level of the log. `trace_id` is that of its trace, or empty where it is in none.
pub(crate) fn request_span(id: &impl std::fmt::Display, trace_id: impl Value) -> Span {
    tracing::error_span!("request", %id, trace_id)
}

/// Makes one line of each event, whatever text from outside is in it. JSON does that by itself.
#[derive(Debug)]
pub(crate) struct Lines<W>(pub(crate) W);

impl<W: Write> Write for Lines<W> {
    /// An event comes in one piece, with its line feed.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = printable(String::from_utf8_lossy(event).trim_end_matches('\n'));
        self.0.write_all((line + "\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt;

    /// What the log says.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// A log in text from this level on, and these traces.
        pub(crate) fn dispatch(&self, level: &str, traces: Option<&Traces>) -> Dispatch {
            let said = self.clone();
            let log = fmt::layer().with_ansi(false).with_writer(move || Lines(said.clone())).boxed();
            dispatch(log, EnvFilter::new(level), traces)
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_from_outside_begins_no_line_and_speaks_to_no_terminal() {
        let said = Said::default();
        let hostile = "bob\n2026-11-23T00:00:00Z ERROR all is lost\r\u{1b}[2J\u{202e}";
        tracing::dispatcher::with_default(&said.dispatch("info", None), || {
            let _request = request_span(&"4f7c6d0a", "4bf92f35").entered();
            tracing::warn!(user = %hostile, text = hostile, "of {hostile}");
        });
        let said = said.text();
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        assert!(said.ends_with('\n') && !said.contains(['\r', '\u{1b}', '\u{202e}']), "{said}");
        assert!(
            said.contains(" WARN request{id=4f7c6d0a trace_id=\"4bf92f35\"}: ")
                && said.contains(r"of bob\n2026"),
            "{said}"
        );
    }
}
