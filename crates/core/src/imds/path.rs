//! The path of a request's target, taken apart.

use super::LONGEST_TARGET;
use crate::percent;

/// A well-formed path. Nothing is made of `.`, `..` and empty segments: they name nothing here.
pub(super) struct Path<'a> {
    raw: &'a str,
    segments: Vec<String>,
}

impl<'a> Path<'a> {
    /// Reads a target in origin form. A query is cut off. `None` where it is no path, is longer than [`LONGEST_TARGET`], or holds
    /// something else than visible ASCII or a percent escape that is none, or that is no UTF-8 together with its neighbours.
    pub(super) fn read(target: &'a str) -> Option<Self> {
        let is_visible = target.bytes().all(|byte| byte.is_ascii_graphic());
        if target.len() > LONGEST_TARGET || !is_visible {
            return None;
        }
        let (raw, _) = target.split_once('?').unwrap_or((target, ""));
        let below = raw.strip_prefix('/')?;
        let segments = match below {
            "" => Vec::new(),
            _ => {
                let below = below.strip_suffix('/').unwrap_or(below);
                // First the segments, then the escapes: an escaped slash is a part of a name.
                below.split('/').map(percent::decode).collect::<Option<_>>()?
            }
        };
        Some(Self { raw, segments })
    }

    /// As it came, without the query.
    pub(super) fn raw(&self) -> &'a str {
        self.raw
    }

    /// The names in it, decoded. A slash at its end makes no difference.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}
