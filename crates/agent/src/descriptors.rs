//! File descriptors: the agent takes as many as its metadata service may need, and lets that use half of what there is.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Two for each guest that there may be, a listener and a connection or more, and as many for everything else.
const WANTED: u64 = 4096;

/// Raises this process's limit, as far as it may, and says how many connections its metadata service may hold.
pub(crate) fn raise_for_metadata() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    let current = current.unwrap_or(WANTED);
    if current < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        return usize::try_from(wanted / 2).unwrap_or(0);
    }
    usize::try_from(current.min(WANTED) / 2).unwrap_or(0)
}
