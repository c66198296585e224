//! File descriptors: the process takes as many as it may have, and promises no more connections than these allow.

use anyhow::Context as _;
use instance_connect_core::limits;
use instance_connect_core::places::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything else: the store, the log, listeners.
const RESERVE: usize = 512;

/// How many connections and links a control plane holds; each takes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) public: ConnectionLimits,
    pub(crate) agents: ConnectionLimits,
    pub(crate) links: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { public: limits::API_CONNECTIONS, agents: limits::AGENT_CONNECTIONS, links: limits::LINKS }
    }
}

impl Capacity {
    /// As much of it as so many descriptors allow, each part in its proportion. Where that is less, it is said: what is
    /// not promised cannot be missing when it is needed, such as for the log.
    pub(crate) fn within(self, descriptors: usize) -> Self {
        let (needed, usable) = (self.descriptors(), descriptors.saturating_sub(RESERVE));
        if needed <= usable {
            return self;
        }
        let share = |part: usize| (part.saturating_mul(usable) / needed).max(1);
        let connections = |limits: ConnectionLimits| {
            let in_all = share(limits.in_all);
            ConnectionLimits { in_all, per_source: limits.per_source.min(in_all) }
        };
        let fitting = Self {
            public: connections(self.public),
            agents: connections(self.agents),
            links: share(self.links),
        };
        tracing::warn!(
            "{descriptors} file descriptors (the hard limit) do not suffice for {} public connections, {} agent connections \
             and {} links; holding {}, {} and {}. Raise it to {} (LimitNOFILE=, ulimit -Hn) for all of them",
            self.public.in_all,
            self.agents.in_all,
            self.links,
            fitting.public.in_all,
            fitting.agents.in_all,
            fitting.links,
            needed + RESERVE,
        );
        fitting
    }

    fn descriptors(self) -> usize {
        self.public.in_all + self.agents.in_all + self.links
    }
}

/// Raises the soft limit to the hard one, and gives how many there may be.
pub(crate) fn raise_limit() -> anyhow::Result<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    }
    // No maximum is no limit.
    Ok(maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_there_are_descriptors() {
        let all = Capacity::default();
        let needed = all.descriptors() + RESERVE;
        assert_eq!(all.within(needed), all);
        assert_eq!(all.within(usize::MAX), all);
        for descriptors in [0, 1, RESERVE, RESERVE + 4, 1024, 4096, 20_000, needed - 1] {
            let fitting = all.within(descriptors);
            assert_ne!(fitting, all, "{descriptors}");
            assert!(
                fitting.descriptors() <= descriptors.saturating_sub(RESERVE).max(3),
                "{descriptors}: {fitting:?}"
            );
            for limits in [fitting.public, fitting.agents] {
                assert!((1..=limits.in_all).contains(&limits.per_source), "{descriptors}: {limits:?}");
            }
        }
        let half = all.within(RESERVE + all.descriptors() / 2);
        assert_eq!((half.public.in_all, half.public.per_source, half.links), (5_000, 512, 10_000));
    }

    #[test]
    fn the_soft_limit_is_raised() {
        raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
