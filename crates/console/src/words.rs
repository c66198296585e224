//! What the gateway itself says on a person's terminal.
//!
//! Everything is in brackets, so that nobody takes it for the line's own words, and each line begins and ends as terminals in raw mode
//! need it. It is ASCII: nobody says what else a terminal can show.

use instance_connect_core::console::{ConsoleAddress, Mode};

/// To a watcher who asks for it.
pub(crate) const NO_BREAK: &str = "BREAK not sent: this session only watches";

/// After it was asked for. Nobody says whether it was sent: a pseudo-terminal and most sockets carry none.
pub(crate) const BREAK: &str = "BREAK asked for; not every line has one";

/// When the person asked for it.
pub(crate) const LEFT: &str = "You have left the serial console.";

/// When nobody answers at the other end of the socket, or no longer does.
pub(crate) const CONTROL_PLANE_GONE: &str =
    "The connection to the control plane was lost. Push a key and connect again in a moment.";

/// When something came that is no frame.
pub(crate) const BROKEN: &str =
    "The control plane sent something that cannot be shown. Connect again in a moment.";

/// When there is no place.
pub(crate) const TOO_MANY_SESSIONS: &str =
    "The gateway holds as many sessions as it may. Try again when somebody has left.";

/// When the program is told to end.
pub(crate) const ENDING: &str = "The gateway is being stopped. Push a key and connect again in a moment.";

/// A line of the gateway's own.
pub(crate) fn line(text: &str) -> Vec<u8> {
    format!("\r\n[{text}]\r\n").into_bytes()
}

/// The first line of a session.
pub(crate) fn banner(address: &ConsoleAddress, mode: Mode, notice: &str) -> Vec<u8> {
    let notice = if notice.is_empty() { String::new() } else { format!(" ({notice})") };
    let (verb, keys) = match mode {
        Mode::Write => ("Connected to", "Leave: Ctrl-] .  Break: Ctrl-] b"),
        Mode::Watch => ("Watching", "Leave: Ctrl-] ."),
    };
    format!("{verb} {address}{notice}. {keys}\r\n").into_bytes()
}

/// Where bytes are missing.
pub(crate) fn lost(bytes: u64) -> String {
    format!("... {bytes} bytes not shown: this connection was too slow")
}

/// When a session has lasted as long as one may.
pub(crate) fn time_limit(seconds: u64) -> String {
    format!("This session has lasted {seconds} s, as long as one may.")
}

/// When nothing was typed for too long.
pub(crate) fn idle(seconds: u64) -> String {
    format!("Nothing was typed for {seconds} s.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_of_both_modes() {
        let address = "i-0123456789abcdef0.port0".parse().unwrap();
        for (mode, notice, banner) in [
            (
                Mode::Write,
                "ends 14:00 UTC",
                "Connected to i-0123456789abcdef0.port0 (ends 14:00 UTC). Leave: Ctrl-] .  Break: Ctrl-] b\r\n",
            ),
            (Mode::Watch, "", "Watching i-0123456789abcdef0.port0. Leave: Ctrl-] .\r\n"),
        ] {
            assert_eq!(String::from_utf8(super::banner(&address, mode, notice)).unwrap(), banner);
        }
    }

    #[test]
    fn own_lines_stand_alone_on_a_raw_terminal() {
        assert_eq!(line(LEFT), b"\r\n[You have left the serial console.]\r\n");
        assert_eq!(lost(3), "... 3 bytes not shown: this connection was too slow");
    }
}
