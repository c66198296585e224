//! Datagrams of lines, as what sshd starts sends them to the agent.

use std::str::Split;

/// The lines of a datagram of at most `limit` bytes, of which each ends with a line feed.
pub(crate) fn lines(datagram: &[u8], limit: usize) -> Option<Split<'_, char>> {
    if datagram.len() > limit {
        return None;
    }
    let text = std::str::from_utf8(datagram).ok()?;
    Some(text.strip_suffix('\n')?.split('\n'))
}
