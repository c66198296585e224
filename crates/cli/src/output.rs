//! Everything that is printed, in one place.

use crate::failure::{Exit, Failure};
use instance_connect_core::printable::printable;
use std::io::{ErrorKind, Write as _};

/// A result, on standard output. Whoever closed it does not want it; where it cannot be written, as on a full disk, the
/// command has failed.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    part(text).map(drop)
}

/// A part of a long result. Whether there may be more: whoever closed standard output does not want it.
pub(crate) fn part(text: &str) -> Result<bool, Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::General, format!("cannot write the result: {error}"))),
    }
}

/// What a question is about, on standard error: it is no result.
pub(crate) fn asked_about(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A failure with what to do about it, on standard error.
pub(crate) fn failure(failure: &Failure) {
    let _ = writeln!(std::io::stderr().lock(), "error: {}", failure.message);
    if let Some(text) = &failure.hint {
        hint(text);
    }
}

/// What is waited for, on standard error.
pub(crate) fn waiting(what: &str) {
    let _ = writeln!(std::io::stderr().lock(), "waiting for {what}");
}

/// What to do, on standard error.
pub(crate) fn hint(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hint: {text}");
}

/// What is to be done with a result, on standard error: the result itself may go into a file.
pub(crate) fn steps(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What went well and should not stay as it is, on standard error.
pub(crate) fn warning(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {text}");
}

/// One step, on standard error, for `--debug`. What a terminal would obey is escaped: some of it comes from outside.
pub(crate) fn debug(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "debug: {}", printable(text));
}

/// Help, the version, or what is wrong with the command line.
pub(crate) fn command_line(error: &clap::Error) {
    let _ = error.print();
}
