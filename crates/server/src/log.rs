//! The program's log, on standard error. The audit log is another thing (`audit_log`).

use crate::config::{LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{Subscriber, format};

/// Writes the log in this format and from this level on, or what `RUST_LOG` asks for.
pub(crate) fn start(format: LogFormat, LogLevel(level): LogLevel) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(level.as_str().to_ascii_lowercase()));
    let log = Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.event_format(format::json()).fmt_fields(format::JsonFields::new()).init(),
    }
}
