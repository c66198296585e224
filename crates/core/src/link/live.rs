//! Which hand-over files there are, and how many more may be. The files themselves are the agent's; this says which to
//! make room for and which are of no use any more.

use super::codes::Refusal;
use crate::limits::{LIVE_KEYS_PER_INSTANCE, LIVE_KEYS_PER_USER};
use instance_connect_document::BootInstant;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The hand-over files of a machine by path (`document::live_file`), each with the deadline of its last grant.
#[derive(Debug, Default)]
pub struct LiveIndex(BTreeMap<String, BootInstant>);

impl LiveIndex {
    /// Whether the file `path` may be written: it is there already, or its user and the machine have room for another
    /// live key. Files past their deadline take no room, removed or not.
    ///
    /// # Errors
    /// Whose room is used up.
    pub fn room_for(&self, path: &str, now: BootInstant) -> Result<(), Refusal> {
        let live = |deadline: &BootInstant| *deadline > now;
        if self.0.get(path).is_some_and(live) {
            return Ok(());
        }
        if self.of_user(path).filter(|deadline| live(deadline)).count() >= LIVE_KEYS_PER_USER {
            return Err(Refusal::UserFull);
        }
        // Counting all is only needed when there might be too many.
        let full = self.0.len() >= LIVE_KEYS_PER_INSTANCE
            && self.0.values().filter(|deadline| live(deadline)).count() >= LIVE_KEYS_PER_INSTANCE;
        if full { Err(Refusal::InstanceFull) } else { Ok(()) }
    }

    /// Whether there is the file `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Whether there are files of the user whose file `path` is, or was.
    pub fn has_more_of_user(&self, path: &str) -> bool {
        self.of_user(path).next().is_some()
    }

    /// The deadlines of all files in the directory of `path`.
    fn of_user(&self, path: &str) -> impl Iterator<Item = &BootInstant> {
        let directory = path.rsplit_once('/').map_or(path, |(directory, _)| directory);
        let from = self.0.range::<str, _>((Bound::Included(directory), Bound::Unbounded));
        from.take_while(move |(other, _)| other.starts_with(directory)).map(|(_, deadline)| deadline)
    }

    /// A file has been written.
    pub fn insert(&mut self, path: String, deadline: BootInstant) {
        self.0.insert(path, deadline);
    }

    /// A file has been removed.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// The files whose last grant is over.
    pub fn expired(&self, now: BootInstant) -> Vec<String> {
        self.0.iter().filter(|(_, deadline)| **deadline <= now).map(|(path, _)| path.clone()).collect()
    }

    /// All files, live or not.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// How many files there are, live or not.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_64_keys_of_a_user_and_1024_of_a_machine() {
        let (now, later) = (BootInstant(10), BootInstant(20));
        let mut index = LiveIndex::default();
        for user in 0..16 {
            for key in 0..64 {
                let path = format!("live/{user:02}/{key:02}");
                assert_eq!(index.room_for(&path, now), Ok(()));
                index.insert(path, later);
            }
        }
        assert_eq!(index.room_for("live/00/64", now), Err(Refusal::UserFull));
        assert_eq!(index.room_for("live/16/00", now), Err(Refusal::InstanceFull));
        assert_eq!(index.room_for("live/00/00", now), Ok(()), "the same key needs no room");
        index.insert("live/00/00".to_owned(), now);
        assert_eq!(index.room_for("live/00/64", now), Ok(()), "a key past its deadline has none");
        assert_eq!(index.expired(now), ["live/00/00"]);
        index.remove("live/00/00");
        assert!(!index.contains("live/00/00") && index.contains("live/00/01"));
        assert!(index.has_more_of_user("live/00/00") && !index.has_more_of_user("live/16/00"));
        assert_eq!((index.len(), index.is_empty()), (1023, false));
        assert_eq!(index.room_for("live/16/00", now), Ok(()));
    }
}
