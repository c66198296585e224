//! The program's log, on standard error. The audit log is another thing (`audit_log`).
//!
//! Whatever is said about a request is said within its span, `request{id=…}`: the id that the client was told too.

use crate::config::{LogFormat, LogLevel};
use crate::traces::Traces;
use instance_connect_core::printable::printable;
use std::io::{self, Stderr, Write};
use tracing::{Span, Value};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, registry};

/// Writes the log in this format and from this level on, or what `RUST_LOG` asks for; beside it go traces, if there are any.
pub(crate) fn start(format: LogFormat, LogLevel(level): LogLevel, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(level.as_str().to_ascii_lowercase()));
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    let log = fmt::layer().with_ansi(false).log_internal_errors(false);
    let log = match format {
        LogFormat::Text => log.with_writer(|| Lines::<Stderr>(io::stderr())).boxed(),
        LogFormat::Json => log.json().with_writer(io::stderr).boxed(),
    };
    match traces {
        // The filter is everybody's, so that a span of a trace is not even made.
        None => registry().with(log).with(filter).init(),
        Some(traces) => registry().with(log.with_filter(filter)).with(traces.layer()).init(),
    }
}

/// The span of a request, whatever the level of the log. `trace_id` is that of its trace, if it is in one.
pub(crate) fn request_span(id: &impl std::fmt::Display, trace_id: Option<&impl Value>) -> Span {
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
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt;

    /// What the log says.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

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
        let writer = said.clone();
        let log = fmt().with_ansi(false).with_writer(move || Lines(writer.clone()));
        let hostile = "bob\n2026-11-23T00:00:00Z ERROR all is lost\r\u{1b}[2J\u{202e}";
        tracing::subscriber::with_default(log.finish(), || {
            let _request = request_span(&"4f7c6d0a", Some(&"4bf92f35")).entered();
            tracing::warn!(user = %hostile, text = hostile, "of {hostile}");
        });
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        assert!(said.ends_with('\n') && !said.contains(['\r', '\u{1b}', '\u{202e}']), "{said}");
        assert!(
            said.contains(" WARN request{id=4f7c6d0a trace_id=\"4bf92f35\"}: ")
                && said.contains(r"of bob\n2026"),
            "{said}"
        );
    }
}
