//! Which connections a listener holds, and which of them goes when there is no place for another.
//!
//! A connection either waits for its client (to begin a request, to finish one, to take an answer) or is worked for.
//! Work is bounded and is never cut off. Of those that wait for their clients, the one that has waited longest is closed
//! for a newcomer, and it is looked for where most are held: however many somebody opens, they push out their own.

use crate::origin::Network;
use instance_connect_planted::planted;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// How many connections a listener holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionLimits {
    /// Of all sources.
    pub in_all: usize,
    /// Of one source: an IPv4 address, or a /64.
    pub per_source: usize,
}

/// The connections of one listener. `C` is what closes one: it is given back where that is to be done.
#[derive(Debug)]
pub struct Places<C> {
    limits: ConnectionLimits,
    connections: HashMap<ConnectionId, Held<C>>,
    sources: HashMap<Network, Source>,
    /// Sources of which a connection waits for its client, by how many they hold and by how long the longest has waited:
    /// the last entry is where the next to go is.
    waiting_sources: BTreeMap<(usize, Reverse<Turn>), Network>,
    last_id: u64,
    last_turn: Turn,
}

/// A connection of one [`Places`]; never used again there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// Counts up with each wait that begins, so that an earlier one is a longer one.
type Turn = u64;

#[derive(Debug)]
struct Held<C> {
    source: Network,
    close: C,
    /// Since when it waits for its client; none while it is worked for.
    waits: Option<Turn>,
}

/// Whether the limit of one source holds for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerSource {
    /// As for everybody.
    Limited,
    /// Many clients are behind it: a trusted proxy.
    Shared,
}

#[derive(Debug, Default)]
struct Source {
    held: usize,
    waiting: BTreeMap<Turn, ConnectionId>,
}

/// There is no place, and no connection that could be closed for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many connections as there may be are being worked for")]
pub struct NoPlace;

/// A connection was closed for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was closed for another")]
pub struct Closed;

impl<C> Places<C> {
    /// With all places free.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            connections: HashMap::new(),
            sources: HashMap::new(),
            waiting_sources: BTreeMap::new(),
            last_id: 0,
            last_turn: 0,
        }
    }

    /// Gives a new connection a place, where it waits for its client. What closes the one that had to go for it is given
    /// back beside its id.
    ///
    /// # Errors
    /// [`NoPlace`] when all that could go are being worked for.
    pub fn admit(
        &mut self,
        peer: IpAddr,
        per_source: PerSource,
        close: C,
    ) -> Result<(ConnectionId, Option<C>), NoPlace> {
        let source = Network::of(peer);
        let closed = self.goes_for(source, per_source)?.and_then(|goes| self.remove(goes));
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.hold(id, source, close);
        Ok((id, closed))
    }

    /// A proxy has said whom a connection is from that waits for its client: it is of that source from now on. What
    /// closes the one that had to go for it is given back.
    ///
    /// # Errors
    /// [`NoPlace`], and it has lost its own.
    pub fn moves(&mut self, id: ConnectionId, client: IpAddr) -> Result<Option<C>, NoPlace> {
        let Some(close) = self.remove(id) else { return Ok(None) };
        let source = Network::of(client);
        let closed = self.goes_for(source, PerSource::Limited)?.and_then(|goes| self.remove(goes));
        self.hold(id, source, close);
        Ok(closed)
    }

    fn hold(&mut self, id: ConnectionId, source: Network, close: C) {
        let turn = self.next_turn();
        self.connections.insert(id, Held { source, close, waits: Some(turn) });
        self.change(source, |source| {
            source.held += 1;
            source.waiting.insert(turn, id);
        });
    }

    /// The whole request is there, and is worked on.
    ///
    /// # Errors
    /// [`Closed`] when the connection has just been closed for another: nothing is to be done for it.
    pub fn works(&mut self, id: ConnectionId) -> Result<(), Closed> {
        let held = self.connections.get_mut(&id).ok_or(Closed)?;
        if planted("work-cut-off") {
            return Ok(());
        }
        let (source, waits) = (held.source, held.waits.take());
        self.change(source, |source| {
            if let Some(turn) = waits {
                source.waiting.remove(&turn);
            }
        });
        Ok(())
    }

    /// The answer is there: from here on it is the client's turn.
    pub fn waits(&mut self, id: ConnectionId) {
        let turn = self.next_turn();
        let Some(held) = self.connections.get_mut(&id) else { return };
        let (source, waited) = (held.source, held.waits.replace(turn));
        self.change(source, |source| {
            if let Some(earlier) = waited {
                source.waiting.remove(&earlier);
            }
            source.waiting.insert(turn, id);
        });
    }

    /// The connection has ended.
    pub fn left(&mut self, id: ConnectionId) {
        self.remove(id);
    }

    /// Takes their places from connections that wait for their clients, where `which` says so. Gives what closes them.
    pub fn close_waiting(&mut self, which: impl Fn(&C) -> bool) -> Vec<C> {
        let waiting = self.connections.iter().filter(|(_, held)| held.waits.is_some() && which(&held.close));
        let going: Vec<_> = waiting.map(|(id, _)| *id).collect();
        going.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// The connection that has to go for one more of this source; none while there is a free place.
    fn goes_for(&self, source: Network, per_source: PerSource) -> Result<Option<ConnectionId>, NoPlace> {
        let most = match per_source {
            PerSource::Limited => self.limits.per_source,
            PerSource::Shared => self.limits.in_all,
        };
        let full = self.sources.get(&source).filter(|source| source.held >= most);
        let among = match full {
            // Whoever has all that one source may have makes room for itself.
            Some(source) => Some(source),
            None if self.connections.len() < self.limits.in_all => return Ok(None),
            None => self.waiting_sources.last_key_value().and_then(|(_, most)| self.sources.get(most)),
        };
        among.and_then(Source::longest).map(|(_, id)| Some(id)).ok_or(NoPlace)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<C> {
        let Held { source, close, waits } = self.connections.remove(&id)?;
        self.change(source, |source| {
            source.held -= 1;
            if let Some(turn) = waits {
                source.waiting.remove(&turn);
            }
        });
        Some(close)
    }

    /// Changes what is held of a source, and keeps the order of sources right.
    fn change(&mut self, network: Network, change: impl FnOnce(&mut Source)) {
        let source = self.sources.entry(network).or_default();
        if let Some(key) = source.order() {
            self.waiting_sources.remove(&key);
        }
        change(source);
        if let Some(key) = source.order() {
            self.waiting_sources.insert(key, network);
        }
        if source.held == 0 {
            self.sources.remove(&network);
        }
    }

    fn next_turn(&mut self) -> Turn {
        self.last_turn += 1;
        self.last_turn
    }
}

impl Source {
    /// The connection that has waited longest for its client.
    fn longest(&self) -> Option<(Turn, ConnectionId)> {
        self.waiting.first_key_value().map(|(turn, id)| (*turn, *id))
    }

    /// Where it stands among the sources.
    fn order(&self) -> Option<(usize, Reverse<Turn>)> {
        self.longest().map(|(turn, _)| (self.held, Reverse(turn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn places(in_all: usize, per_source: usize) -> Places<u32> {
        Places::new(ConnectionLimits { in_all, per_source })
    }

    /// Each connection is named by a number, which is what closes it.
    fn admit(places: &mut Places<u32>, source: u8, name: u32) -> (ConnectionId, Option<u32>) {
        places.admit(peer(source), PerSource::Limited, name).unwrap()
    }

    #[test]
    fn a_source_makes_room_for_itself() {
        let mut places = places(10, 2);
        for name in 1..=2 {
            assert_eq!(admit(&mut places, 1, name).1, None);
        }
        assert_eq!(admit(&mut places, 2, 3).1, None);
        assert_eq!(admit(&mut places, 1, 4).1, Some(1));
        assert_eq!(admit(&mut places, 1, 5).1, Some(2));
    }

    #[test]
    fn those_that_wait_can_be_closed_and_those_that_are_worked_for_cannot() {
        let mut places = places(10, 10);
        let ids: Vec<_> = (1..=4).map(|name| admit(&mut places, 1, name).0).collect();
        places.works(ids[0]).unwrap();
        let mut closed = places.close_waiting(|name| *name != 4);
        closed.sort_unstable();
        assert_eq!(closed, [2, 3]);
        assert_eq!(places.works(ids[1]), Err(Closed));
        places.waits(ids[0]);
        assert_eq!(places.close_waiting(|name| *name == 1), [1]);
        assert_eq!(places.close_waiting(|_| true), [4]);
    }

    #[test]
    fn the_source_that_holds_most_makes_room_for_others() {
        let mut places = places(4, 3);
        // The only one of its source has waited longest of all, and stays.
        admit(&mut places, 1, 1);
        for name in 2..=4 {
            admit(&mut places, 2, name);
        }
        assert_eq!(admit(&mut places, 3, 5).1, Some(2));
        // Two, one, one: again the one that holds most.
        assert_eq!(admit(&mut places, 4, 6).1, Some(3));
        // One each: the one that has waited longest.
        assert_eq!(admit(&mut places, 5, 7).1, Some(1));
    }

    #[test]
    fn work_is_never_cut_off() {
        let mut places = places(2, 2);
        let (first, _) = admit(&mut places, 1, 1);
        let (second, _) = admit(&mut places, 1, 2);
        places.works(first).unwrap();
        places.works(second).unwrap();
        assert_eq!(places.admit(peer(1), PerSource::Limited, 3), Err(NoPlace));
        assert_eq!(places.admit(peer(2), PerSource::Limited, 3), Err(NoPlace));
        // Answered, the second before the first.
        places.waits(second);
        places.waits(first);
        assert_eq!(admit(&mut places, 2, 4).1, Some(2));
        // Too late for a request that arrives now.
        assert_eq!(places.works(second), Err(Closed));
        places.waits(second);
        places.left(second);
        assert_eq!(admit(&mut places, 2, 5).1, Some(1));
    }

    #[test]
    fn behind_a_proxy_each_client_has_its_own_limit() {
        let mut places = places(5, 2);
        let proxied: Vec<_> =
            (1..=4).map(|name| places.admit(peer(9), PerSource::Shared, name).unwrap()).collect();
        assert!(proxied.iter().all(|(_, closed)| closed.is_none()), "a proxy has no limit of its own");
        let move_to =
            |places: &mut Places<u32>, index: usize, source| places.moves(proxied[index].0, peer(source));
        assert_eq!(move_to(&mut places, 0, 1), Ok(None));
        assert_eq!(move_to(&mut places, 1, 1), Ok(None));
        assert_eq!(move_to(&mut places, 2, 1), Ok(Some(1)), "the third of one client pushes out its first");
        assert_eq!(move_to(&mut places, 0, 1), Ok(None), "which is gone");
        assert_eq!(places.connections.len(), 3);
        places.works(proxied[1].0).unwrap();
        places.works(proxied[2].0).unwrap();
        assert_eq!(move_to(&mut places, 3, 1), Err(NoPlace));
        assert_eq!(places.works(proxied[3].0), Err(Closed));
        assert_eq!(places.connections.len(), 2);
    }

    #[test]
    fn who_leaves_makes_room() {
        let mut places = places(1, 1);
        for name in 0..3 {
            let (id, closed) = admit(&mut places, 1, name);
            assert_eq!(closed, None);
            places.left(id);
        }
        assert!(places.sources.is_empty() && places.waiting_sources.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(u8),
        Works(usize),
        Waits(usize),
        Left(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..6_u8).prop_map(Step::Admit),
            2 => (0..40_usize).prop_map(Step::Works),
            2 => (0..40_usize).prop_map(Step::Waits),
            1 => (0..40_usize).prop_map(Step::Left),
        ]
    }

    /// The same rules by looking at all connections each time: its source, and since which step it waits.
    #[derive(Default)]
    struct Plain(BTreeMap<ConnectionId, (u8, Option<usize>)>);

    impl Plain {
        fn held(&self, source: u8) -> usize {
            self.0.values().filter(|(of, _)| *of == source).count()
        }

        fn goes_for(&self, source: u8, limits: ConnectionLimits) -> Result<Option<ConnectionId>, NoPlace> {
            let full = self.held(source) >= limits.per_source;
            if !full && self.0.len() < limits.in_all {
                return Ok(None);
            }
            let candidates = self.0.iter().filter_map(|(id, (of, waits))| {
                let waits = waits.filter(|_| !full || *of == source)?;
                Some(((Reverse(self.held(*of)), waits), *id))
            });
            candidates.min().map(|(_, id)| Some(id)).ok_or(NoPlace)
        }
    }

    proptest! {
        #[test]
        fn limits_hold_and_the_right_one_goes(
            in_all in 1..8_usize,
            per_source in 1..5_usize,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let limits = ConnectionLimits { in_all, per_source };
            let (mut places, mut plain) = (Places::new(limits), Plain::default());
            // Ids of all times: those of connections that are gone must do nothing.
            let mut ids: Vec<ConnectionId> = Vec::new();
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Admit(source) => match (places.admit(peer(source), PerSource::Limited, now), plain.goes_for(source, limits)) {
                        (Ok((id, closed)), Ok(goes)) => {
                            prop_assert_eq!(closed.is_some(), goes.is_some());
                            if let Some(goes) = goes {
                                prop_assert!(places.works(goes).is_err());
                                plain.0.remove(&goes);
                            }
                            plain.0.insert(id, (source, Some(now)));
                            ids.push(id);
                        }
                        (refused, expected) => prop_assert_eq!(refused.err(), expected.err()),
                    },
                    Step::Works(index) => if let Some(id) = ids.get(index) {
                        prop_assert_eq!(places.works(*id).is_ok(), plain.0.contains_key(id));
                        plain.0.entry(*id).and_modify(|(_, waits)| *waits = None);
                    },
                    Step::Waits(index) => if let Some(id) = ids.get(index) {
                        places.waits(*id);
                        plain.0.entry(*id).and_modify(|(_, waits)| *waits = Some(now));
                    },
                    Step::Left(index) => if let Some(id) = ids.get(index) {
                        places.left(*id);
                        plain.0.remove(id);
                    },
                }
                prop_assert!(places.connections.len() <= in_all);
                prop_assert_eq!(places.connections.len(), plain.0.len());
                for (network, source) in &places.sources {
                    prop_assert!(source.held <= per_source);
                    prop_assert_eq!(source.order().is_some_and(|key| places.waiting_sources.get(&key) == Some(network)),
                        !source.waiting.is_empty());
                }
                prop_assert_eq!(places.waiting_sources.len(),
                    places.sources.values().filter(|source| !source.waiting.is_empty()).count());
            }
        }
    }
}
