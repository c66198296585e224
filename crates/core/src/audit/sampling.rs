//! Which of the refused requests are recorded: anybody can have requests refused, and nobody shall fill the disk with it.

use crate::limits;
use crate::origin::Network;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Those who share what is recorded in a minute. However loud the ones are, what the others are refused is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// Whoever sends the API what nobody has signed.
    Strangers,
    /// Whoever asks for an identity without a good join token.
    Enrolments,
    /// Verified callers who ask too often.
    Callers,
}

/// Counts refused requests and picks those that are recorded, a few a minute. Its memory is bounded: a source is
/// remembered for a minute, and only if one of its requests was picked.
#[derive(Debug, Default)]
pub struct Sampler {
    refused: BTreeMap<&'static str, u64>,
    picked: BTreeMap<Share, u32>,
    picked_by_source: HashMap<(Share, Network), u32>,
    lost: u64,
}

/// What was refused in a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCounts {
    /// How many requests, by error code.
    pub by_error_code: BTreeMap<&'static str, u64>,
    /// How many of them have no record.
    pub not_recorded: u64,
}

impl Sampler {
    /// Counts a refused request, and says whether it is picked: at most [`limits::REFUSALS_RECORDED`] of a share are until
    /// the next [`Sampler::end_minute`], and at most [`limits::REFUSALS_RECORDED_PER_SOURCE`] of one source among them.
    pub fn pick(&mut self, share: Share, source: IpAddr, error_code: &'static str) -> bool {
        *self.refused.entry(error_code).or_default() += 1;
        let of_share = self.picked.entry(share).or_default();
        if *of_share >= limits::REFUSALS_RECORDED {
            return false;
        }
        let of_source = self.picked_by_source.entry((share, Network::of(source))).or_default();
        let picked = *of_source < limits::REFUSALS_RECORDED_PER_SOURCE;
        if picked {
            *of_source += 1;
            *of_share += 1;
        }
        picked
    }

    /// Notes that a request which was picked could not be recorded.
    pub fn lose(&mut self) {
        self.lost += 1;
    }

    /// Begins another minute. Tells what was refused in the one that ends, if anything was.
    pub fn end_minute(&mut self) -> Option<RefusalCounts> {
        let minute = std::mem::take(self);
        let all: u64 = minute.refused.values().sum();
        let picked: u64 = minute.picked.into_values().map(u64::from).sum();
        let recorded = picked.saturating_sub(minute.lost);
        (all > 0).then_some(RefusalCounts { by_error_code: minute.refused, not_recorded: all - recorded })
    }
}
