//! File descriptors: the process takes as many as it may have, and promises no more sessions than these allow.

use crate::settings::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of each connection: its socket, the same one to cut it by, and the connection to the control plane.
const EACH: usize = 3;

/// For everything else: listener, log, the runtime.
const RESERVE: usize = 64;

/// Raises this process's limit, and gives the settings with as many sessions as it allows.
pub(crate) fn raise_for(settings: Settings) -> Settings {
    let needed = needed(&settings);
    let wanted = u64::try_from(needed).unwrap_or(u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let current = current.unwrap_or(wanted);
    let raised =
        current >= most || setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).is_ok();
    let has = if raised { current.max(most) } else { current };
    within(settings, usize::try_from(has).unwrap_or(usize::MAX))
}

fn needed(settings: &Settings) -> usize {
    (settings.sessions + settings.unauthenticated.in_all) * EACH + RESERVE
}

fn within(settings: Settings, descriptors: usize) -> Settings {
    if needed(&settings) <= descriptors {
        return settings;
    }
    let sessions =
        (descriptors.saturating_sub(RESERVE) / EACH).saturating_sub(settings.unauthenticated.in_all).max(1);
    tracing::warn!(
        "{descriptors} file descriptors (the hard limit) do not suffice for {} sessions; holding {sessions}. Raise it to {} \
         (LimitNOFILE=, ulimit -Hn) for all of them",
        settings.sessions,
        needed(&settings),
    );
    Settings { sessions, ..settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_sessions_than_descriptors_allow() {
        let settings = Settings::default();
        for (descriptors, sessions) in
            [(needed(&settings), settings.sessions), (needed(&settings) - 1, 1023), (1024, 256), (0, 1)]
        {
            assert_eq!(within(settings, descriptors).sessions, sessions, "{descriptors}");
        }
    }
}
