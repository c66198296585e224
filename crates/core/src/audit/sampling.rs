//! Which of the refused requests are recorded: anybody can have requests refused, and nobody shall fill the disk with it.

use crate::limits;
use crate::origin::Network;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Counts refused requests and picks those that are recorded, a few a minute. Its memory is bounded: a source is
/// remembered for a minute, and only if one of its requests was picked.
#[derive(Debug, Default)]
pub struct Sampler {
    refused: BTreeMap<&'static str, u64>,
    picked: u32,
    picked_by_source: HashMap<Network, u32>,
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
    /// Counts a refused request, and says whether it is picked: at most [`limits::REFUSALS_RECORDED`] are until the next
    /// [`Sampler::end_minute`], and at most [`limits::REFUSALS_RECORDED_PER_SOURCE`] of one source.
    pub fn pick(&mut self, source: IpAddr, error_code: &'static str) -> bool {
        *self.refused.entry(error_code).or_default() += 1;
        if self.picked >= limits::REFUSALS_RECORDED {
            return false;
        }
        let of_source = self.picked_by_source.entry(Network::of(source)).or_default();
        let picked = *of_source < limits::REFUSALS_RECORDED_PER_SOURCE;
        if picked {
            *of_source += 1;
            self.picked += 1;
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
        let recorded = u64::from(minute.picked).saturating_sub(minute.lost);
        (all > 0).then_some(RefusalCounts { by_error_code: minute.refused, not_recorded: all - recorded })
    }
}
