//! Ends the programs of the machines when `dev` ends, also when `dev` is killed: agents, sshd, and the users' programs of
//! logins that are open.
//!
//! A signal at the end of the parent would not do: sshd takes on other users' privileges, and with that the kernel forgets
//! it; and an sshd that just dies leaves the user's programs behind. So all of them run in the reaper's process group, and
//! the reaper ends who is in that group and all below them, since the users' programs lead sessions of their own.

use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, getpid, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How often to look whether all have ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// How many times to look before killing who was asked to end. sshd ends its session then, and an agent says goodbye.
const PATIENCE: usize = 100;

/// How many times to look in all.
const ROUNDS: usize = 150;

/// Ends all processes in this process's group but itself, and all below them; returns when they have ended.
pub(super) fn end_group() {
    if getpid() != getpgrp() {
        // Not started by `dev`, and in somebody else's group.
        return;
    }
    // Whoever was found stays known: when its parent ends first, nothing else tells that it belongs here. The descriptor
    // stands for that process and never for a later one of the same number.
    let mut known: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    for round in 0..ROUNDS {
        let processes = processes();
        known.retain(|id, _| processes.iter().any(|process| process.id == *id));
        for id in group(&processes) {
            if !known.contains_key(&id)
                && let Some(process) = Pid::from_raw(id)
                && let Ok(descriptor) = pidfd_open(process, PidfdFlags::empty())
                // Its number may have become another's in between; that one has started later.
                && processes.iter().any(|process| process.id == id && Some(process.started) == started_now(id))
            {
                let _ = pidfd_send_signal(&descriptor, Signal::TERM);
                known.insert(id, descriptor);
            }
        }
        if known.is_empty() {
            return;
        }
        if round >= PATIENCE {
            for process in known.values() {
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "they are not our children, and new ones may still be starting: there is no one event to wait for"
        )]
        std::thread::sleep(INTERVAL);
    }
}

/// The members of this process's group but itself, and all below them.
fn group(processes: &[Process]) -> Vec<i32> {
    let (own, group) = (getpid().as_raw_nonzero().get(), getpgrp().as_raw_nonzero().get());
    let members = processes.iter().filter(|process| process.group == group && process.id != own);
    let mut found: Vec<i32> = members.map(|process| process.id).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = processes.iter().filter(|process| process.parent == parent).map(|process| process.id);
        let children: Vec<i32> = children.filter(|id| !found.contains(id)).collect();
        found.extend(children);
    }
    found
}

/// When the process that has this number now was started.
fn started_now(id: i32) -> Option<u64> {
    Process::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?).map(|process| process.started)
}

/// All processes that run.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.filter_map(|stat| Process::parse(&stat)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    group: i32,
    /// When it was started, in clock ticks since boot.
    started: u64,
}

impl Process {
    /// Reads `/proc/<id>/stat` (proc_pid_stat(5)). `None` for one that has ended and waits for its parent to notice.
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the program's name in brackets, and may hold brackets and blanks itself.
        let (head, tail) = stat.rsplit_once(')')?;
        let (id, _name) = head.split_once(" (")?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?;
        let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        // Field 22; group was field 5.
        let started = fields.nth(16)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { id: id.parse().ok()?, parent, group, started })
    }
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn stat_lines() {
        let rest = "4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1000";
        for (head, expected) in [
            ("12 (sshd) S 3 4", Some((12, 3, 4))),
            ("12 (a) b (c) R 3 4", Some((12, 3, 4))),
            ("12 (sshd) Z 3 4", None),
            ("12 (sshd) S x 4", None),
            ("", None),
        ] {
            let line = format!("{head} {rest}");
            let started = 987;
            let expected = expected.map(|(id, parent, group)| Process { id, parent, group, started });
            assert_eq!(Process::parse(&line), expected, "{line}");
        }
    }
}
