use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const ALICE: &str = "alice";
const BOB: &str = "bob";
/// A line, and another one.
const HERE: u8 = 0;
const THERE: u8 = 1;

/// The lines, with a clock and a count of requests.
struct World {
    sessions: ConsoleSessions,
    now: u64,
    pushed: u32,
}

impl World {
    fn new() -> Self {
        Self { sessions: ConsoleSessions::new(ConsoleSettings::default()), now: 1000 * SECOND, pushed: 0 }
    }

    fn at(&mut self, second: u64) -> &mut Self {
        self.now = (1000 + second) * SECOND;
        self
    }

    fn now(&self) -> ServerInstant {
        ServerInstant(self.now)
    }

    fn next(&mut self, instance: u8, principal: &str, key: u8) -> ConsolePush {
        self.pushed += 1;
        push(instance, principal, key, self.pushed)
    }

    fn push(&mut self, instance: u8, principal: &str, key: u8) -> Result<Reserved, ReserveError> {
        let (push, now) = (self.next(instance, principal, key), self.now());
        self.sessions.reserve(push, now)
    }

    fn push_watch(&mut self, instance: u8, principal: &str, key: u8) -> Result<Reserved, ReserveError> {
        let (push, now) = (self.next(instance, principal, key), self.now());
        self.sessions.reserve_watcher(push, now)
    }

    fn offered(&self, instance: u8, key: u8) -> bool {
        self.sessions.offered(&address(instance), fingerprint(key), self.now())
    }

    fn attach(&mut self, instance: u8, key: u8) -> Result<Attached, NotAttached> {
        let offered = self.offered(instance, key);
        let attached = self.sessions.attach(&address(instance), fingerprint(key), ServerInstant(self.now));
        assert_eq!(offered, attached != Err(NotAttached::NotExpected), "what is offered is what attaches");
        attached
    }

    /// The session that this key opens.
    fn session(&mut self, instance: u8, key: u8) -> SessionId {
        self.attach(instance, key).unwrap().push.request.clone()
    }

    fn end(&mut self, session: &SessionId) {
        self.sessions.end(session, ServerInstant(self.now));
    }

    fn occupant(&self, instance: u8) -> Option<Occupant> {
        self.sessions.occupant(&id(instance), self.now())
    }
}

fn id(instance: u8) -> InstanceId {
    format!("i-0123456789abcde{instance:02x}").parse().unwrap()
}

fn address(instance: u8) -> ConsoleAddress {
    ConsoleAddress::of(id(instance))
}

fn fingerprint(key: u8) -> Fingerprint {
    Fingerprint::from_bytes([key; 32])
}

fn account(number: u64) -> AccountId {
    format!("{number:012}").parse().unwrap()
}

fn request(number: u32) -> RequestId {
    format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}").parse().unwrap()
}

fn push(instance: u8, principal: &str, key: u8, number: u32) -> ConsolePush {
    ConsolePush {
        instance: id(instance),
        account: account(1),
        principal: principal.to_owned(),
        fingerprint: fingerprint(key),
        request: request(number),
    }
}

#[test]
fn a_key_opens_one_session_of_its_own_instance_within_its_minute() {
    let mut world = World::new();
    let reserved = world.push(HERE, ALICE, 1).unwrap();
    assert_eq!(reserved, Reserved { until: ServerInstant(1060 * SECOND), replaced: None });
    // What is offered, when, and whether it is expected.
    for (instance, key, second, expected) in [
        (HERE, 1, 0, true),
        (HERE, 1, 59, true),
        (HERE, 2, 0, false),
        (THERE, 1, 0, false),
        (HERE, 1, 60, false),
        (HERE, 1, 61, false),
    ] {
        assert_eq!(world.at(second).offered(instance, key), expected, "{instance} {key} {second}");
    }
    world.now = 1060 * SECOND - 1;
    for (instance, key) in [(HERE, 2), (THERE, 1)] {
        assert_eq!(world.attach(instance, key), Err(NotAttached::NotExpected));
    }
    let Attached { mode, push } = world.attach(HERE, 1).unwrap();
    assert_eq!((mode, push.principal.as_str(), &push.request), (Mode::Write, ALICE, &request(1)));
    assert_eq!(world.sessions.count(), 1);
    assert_eq!(world.attach(HERE, 1), Err(NotAttached::NotExpected), "it was used");
}

#[test]
fn a_key_at_its_deadline_attaches_nobody() {
    for second in [60, 61, 3600] {
        let mut world = World::new();
        world.push(HERE, ALICE, 1).unwrap();
        assert_eq!(world.at(second).attach(HERE, 1), Err(NotAttached::NotExpected));
        assert_eq!(world.occupant(HERE), None);
        assert_eq!(world.sessions.count(), 0);
    }
}

/// Whoever has the place keeps it, however far they are.
#[test]
fn an_occupant_is_told_and_never_replaced() {
    let mut world = World::new();
    let until = world.push(HERE, ALICE, 1).unwrap().until;
    let told = |world: &mut World, occupancy, since| {
        let Err(ReserveError::Occupied(occupant)) = world.push(HERE, BOB, 2) else { panic!("taken over") };
        assert_eq!(occupant.push.principal, ALICE);
        assert_eq!((occupant.occupancy, occupant.since), (occupancy, ServerInstant(since * SECOND)));
        assert_eq!(world.occupant(HERE), Some(occupant));
        assert!(!world.offered(HERE, 2));
    };
    told(&mut world, Occupancy::Reserved { until }, 1000);
    told(world.at(59), Occupancy::Reserved { until }, 1000);
    let session = world.session(HERE, 1);
    told(&mut world, Occupancy::Attached, 1059);
    told(world.at(3000), Occupancy::Attached, 1059);
    assert!(matches!(world.push(HERE, ALICE, 3), Err(ReserveError::Occupied(_))), "nor by itself");
    world.end(&session);
    let until = ServerInstant(4030 * SECOND);
    told(&mut world, Occupancy::Ending { until }, 4000);
    told(world.at(3029), Occupancy::Ending { until }, 4000);
    assert!(matches!(world.push(HERE, ALICE, 3), Err(ReserveError::Occupied(_))), "nor by itself");
    // Other lines are not concerned.
    world.push(THERE, BOB, 2).unwrap();
    assert_eq!(world.at(3030).occupant(HERE), None);
    world.push(HERE, BOB, 2).unwrap();
    assert_eq!(world.occupant(HERE).unwrap().push.principal, BOB);
}

#[test]
fn without_a_teardown_delay_the_place_is_free_at_once() {
    let mut world = World::new();
    world.sessions = ConsoleSessions::new(ConsoleSettings { teardown_delay: Duration::ZERO });
    world.push(HERE, ALICE, 1).unwrap();
    let session = world.session(HERE, 1);
    world.end(&session);
    assert_eq!(world.occupant(HERE), None);
    assert_eq!(world.sessions.lines.len(), 0);
    world.push(HERE, BOB, 2).unwrap();
    // What has ended cannot end again.
    let other = world.session(HERE, 2);
    world.end(&session);
    assert_eq!(world.occupant(HERE).unwrap().occupancy, Occupancy::Attached);
    world.end(&other);
    assert_eq!(world.occupant(HERE), None);
}

#[test]
fn ones_own_unused_reservation_is_replaced_and_its_key_is_good_no_more() {
    let mut world = World::new();
    world.push(HERE, ALICE, 1).unwrap();
    let reserved = world.at(30).push(HERE, ALICE, 2).unwrap();
    assert_eq!(reserved, Reserved { until: ServerInstant(1090 * SECOND), replaced: Some(request(1)) });
    assert_eq!((world.offered(HERE, 1), world.offered(HERE, 2)), (false, true));
    // The same key again has its minute from then on.
    world.at(80).push(HERE, ALICE, 2).unwrap();
    assert_eq!((world.at(139).offered(HERE, 2), world.at(140).offered(HERE, 2)), (true, false));
}

#[test]
fn whoever_never_comes_is_throttled() {
    // When each push comes; what is in the way of the last one.
    let (free, throttled) = (false, true);
    for (what, seconds, last) in [
        ("replaced", &[0, 1, 2, 3][..], throttled),
        ("expired", &[0, 60, 120, 180], throttled),
        ("the last one can still be used", &[0, 60, 120, 179], throttled),
        ("two", &[0, 60, 120], free),
        ("the first is long ago", &[0, 60, 120, 660], free),
        ("the first is not quite long ago", &[0, 60, 120, 659], throttled),
    ] {
        let mut world = World::new();
        let (now, before) = seconds.split_last().unwrap();
        for second in before {
            assert!(world.at(*second).push(HERE, ALICE, 1).is_ok(), "{what}: {second}");
        }
        let answer = world.at(*now).push(HERE, ALICE, 1);
        assert_eq!(answer == Err(ReserveError::Throttled), last, "{what}: {answer:?}");
        assert_eq!(answer.is_ok(), !last, "{what}");
        // Others, and other lines, are not concerned; but what she has reserved is hers.
        assert!(world.push(THERE, ALICE, 2).is_ok(), "{what}");
        if world.occupant(HERE).is_none() {
            assert!(world.push(HERE, BOB, 2).is_ok(), "{what}");
        }
    }
}

#[test]
fn a_refused_push_leaves_the_reservation_as_it_was() {
    let mut world = World::new();
    for second in 0..3 {
        world.at(second).push(HERE, ALICE, 1).unwrap();
    }
    assert_eq!(world.at(3).push(HERE, ALICE, 2), Err(ReserveError::Throttled));
    assert!(matches!(world.push(HERE, BOB, 3), Err(ReserveError::Occupied(_))));
    assert_eq!([1, 2, 3].map(|key| world.offered(HERE, key)), [true, false, false]);
    world.attach(HERE, 1).unwrap();
}

#[test]
fn a_reservation_that_was_used_or_withdrawn_counts_for_nothing() {
    let mut world = World::new();
    for round in 0..5 {
        world.at(100 * round).push(HERE, ALICE, 1).unwrap();
        let session = world.session(HERE, 1);
        world.end(&session);
    }
    world.at(600);
    for _ in 0..5 {
        world.push(HERE, ALICE, 1).unwrap();
        let last = request(world.pushed);
        world.sessions.release(&last);
        assert!(!world.offered(HERE, 1));
        assert_eq!(world.occupant(HERE), None);
    }
}

#[test]
fn only_the_push_itself_is_released_and_no_session() {
    let mut world = World::new();
    world.push(HERE, ALICE, 1).unwrap();
    world.push_watch(HERE, BOB, 2).unwrap();
    world.sessions.release(&request(7));
    world.sessions.release(&request(99));
    assert!(world.offered(HERE, 1) && world.offered(HERE, 2));
    let (write, watch) = (world.session(HERE, 1), world.session(HERE, 2));
    for session in [&write, &watch] {
        world.sessions.release(session);
    }
    assert_eq!(world.occupant(HERE).unwrap().occupancy, Occupancy::Attached);
    assert_eq!(world.sessions.watchers(&id(HERE)).count(), 1);
    // A watcher's key that has not come is.
    world.push_watch(HERE, ALICE, 3).unwrap();
    let last = request(world.pushed);
    world.sessions.release(&last);
    assert!(!world.offered(HERE, 3));
}

#[test]
fn watchers_never_have_the_writers_place() {
    let mut world = World::new();
    for number in 0..8 {
        world.push_watch(HERE, &format!("watcher-{number}"), 10 + number).unwrap();
        assert_eq!(world.attach(HERE, 10 + number).unwrap().mode, Mode::Watch);
    }
    assert_eq!(world.occupant(HERE), None);
    world.push(HERE, ALICE, 1).unwrap();
    let session = world.session(HERE, 1);
    world.push_watch(HERE, BOB, 2).unwrap();
    world.end(&session);
    world.attach(HERE, 2).unwrap();
    assert_eq!(world.sessions.watchers(&id(HERE)).count(), 9);
    assert_eq!(world.at(30).occupant(HERE), None);
    // When one leaves, only that one does.
    world.end(&request(1));
    let left: Vec<String> = world.sessions.watchers(&id(HERE)).map(|push| push.principal.clone()).collect();
    assert_eq!(left.len(), 8);
    assert!(!left.contains(&"watcher-0".to_owned()) && left.contains(&BOB.to_owned()));
}

#[test]
fn a_watchers_key_is_good_for_its_minute_and_once() {
    let mut world = World::new();
    world.push_watch(HERE, BOB, 1).unwrap();
    assert_eq!((world.offered(THERE, 1), world.offered(HERE, 2)), (false, false));
    assert_eq!((world.at(59).offered(HERE, 1), world.at(60).offered(HERE, 1)), (true, false));
    world.push_watch(HERE, BOB, 2).unwrap();
    let replaced = world.push_watch(HERE, BOB, 3).unwrap().replaced;
    assert_eq!(replaced, Some(request(2)));
    assert_eq!(world.attach(HERE, 2), Err(NotAttached::NotExpected));
    world.attach(HERE, 3).unwrap();
    assert_eq!(world.attach(HERE, 3), Err(NotAttached::NotExpected));
    // Who watches may watch twice.
    assert_eq!(world.push_watch(HERE, BOB, 4).unwrap().replaced, None);
    world.attach(HERE, 4).unwrap();
    assert_eq!(world.sessions.watchers(&id(HERE)).count(), 2);
}

#[test]
fn a_line_has_so_many_watchers_and_no_more() {
    let mut world = World::new();
    let names: Vec<String> = (0..limits::WATCHERS).map(|number| format!("watcher-{number}")).collect();
    for (key, name) in (0_u8..).zip(&names) {
        world.push_watch(HERE, name, key).unwrap();
    }
    assert_eq!(world.push_watch(HERE, BOB, 99), Err(ReserveError::WatchersFull));
    world.push_watch(THERE, BOB, 99).unwrap();
    world.push(HERE, ALICE, 100).unwrap();
    // One's own is replaced all the same, and what has expired makes room.
    world.push_watch(HERE, &names[3], 50).unwrap();
    world.session(HERE, 0);
    world.at(60).push_watch(HERE, BOB, 99).unwrap();
}

#[test]
fn a_key_is_good_for_what_its_owner_pushed_it_for_last() {
    let mut world = World::new();
    world.push(HERE, ALICE, 1).unwrap();
    assert_eq!(world.push_watch(HERE, ALICE, 1).unwrap().replaced, Some(request(1)));
    assert_eq!(world.occupant(HERE), None);
    assert_eq!(world.attach(HERE, 1).unwrap().mode, Mode::Watch);
    world.push_watch(HERE, ALICE, 1).unwrap();
    world.push(HERE, ALICE, 1).unwrap();
    assert_eq!(world.attach(HERE, 1).unwrap().mode, Mode::Write);
    assert_eq!(world.attach(HERE, 1), Err(NotAttached::NotExpected));
    // Two keys of hers stand side by side, for different things.
    world.push(THERE, ALICE, 2).unwrap();
    world.push_watch(THERE, ALICE, 3).unwrap();
    assert_eq!(world.attach(THERE, 3).unwrap().mode, Mode::Watch);
    assert_eq!(world.attach(THERE, 2).unwrap().mode, Mode::Write);
}

/// Nobody else takes a writer's right away by pushing the writer's public key.
#[test]
fn a_key_that_somebody_else_pushed_to_watch_with_still_writes() {
    for watch_first in [true, false] {
        let mut world = World::new();
        if watch_first {
            world.push_watch(HERE, BOB, 1).unwrap();
        }
        world.push(HERE, ALICE, 1).unwrap();
        if !watch_first {
            world.push_watch(HERE, BOB, 1).unwrap();
        }
        let attached = world.attach(HERE, 1).unwrap();
        assert_eq!((attached.mode, attached.push.principal.as_str()), (Mode::Write, ALICE));
        let attached = world.attach(HERE, 1).unwrap();
        assert_eq!((attached.mode, attached.push.principal.as_str()), (Mode::Watch, BOB));
    }
}

#[test]
fn there_are_so_many_sessions_and_no_more() {
    let mut world = World::new();
    let lines = u8::try_from(limits::SESSIONS / limits::WATCHERS).unwrap();
    for line in 0..lines {
        for key in 0..u8::try_from(limits::WATCHERS).unwrap() {
            world.push_watch(line, ALICE, key).unwrap();
            world.attach(line, key).unwrap();
        }
    }
    assert_eq!(world.sessions.count(), limits::SESSIONS);
    let first = world.sessions.watchers(&id(0)).next().unwrap().request.clone();
    world.push(lines, ALICE, 1).unwrap();
    assert_eq!(world.attach(lines, 1), Err(NotAttached::Full));
    // The key was not used up.
    world.end(&first);
    world.attach(lines, 1).unwrap();
}

#[test]
fn a_terminated_session_has_its_place_until_it_has_ended() {
    let mut world = World::new();
    world.push_watch(HERE, BOB, 9).unwrap();
    let watcher = world.session(HERE, 9);
    let now = world.now();
    assert_eq!(world.sessions.terminate(&id(HERE), now), Withdrawn::default());
    world.push(HERE, ALICE, 1).unwrap();
    let withdrawn = world.sessions.terminate(&id(HERE), now);
    assert_eq!((withdrawn.unused.len(), withdrawn.sessions.len()), (1, 0));
    assert!(!world.offered(HERE, 1) && world.occupant(HERE).is_none());
    world.push(HERE, BOB, 2).unwrap();
    let session = world.session(HERE, 2);
    let withdrawn = world.sessions.terminate(&id(HERE), now);
    assert_eq!((withdrawn.unused.len(), &withdrawn.sessions[0].push.request), (0, &session));
    assert_eq!(world.occupant(HERE).unwrap().occupancy, Occupancy::Attached);
    world.end(&session);
    assert!(matches!(world.push(HERE, ALICE, 3), Err(ReserveError::Occupied(_))));
    assert_eq!(world.sessions.terminate(&id(HERE), now), Withdrawn::default(), "there is none any more");
    assert_eq!(world.sessions.watchers(&id(HERE)).map(|push| &push.request).collect::<Vec<_>>(), [&watcher]);
    assert_eq!(world.sessions.terminate(&id(THERE), now), Withdrawn::default());
}

#[test]
fn what_is_revoked_is_what_is_meant() {
    // What is revoked, and by their numbers what goes: keys that nobody has come with, and sessions.
    let (mine, other) = (account(1), account(2));
    let (here, there) = (id(HERE), id(THERE));
    let all = Selection { account: &mine, instance: None, principal: None, fingerprint: None };
    let rows: [(Selection<'_>, &[u32], &[u32]); 8] = [
        (all, &[2, 3, 5], &[1, 4]),
        (Selection { instance: Some(&here), ..all }, &[2, 5], &[1, 4]),
        (Selection { instance: Some(&there), ..all }, &[3], &[]),
        (Selection { principal: Some(ALICE), ..all }, &[3], &[1, 4]),
        (Selection { principal: Some(BOB), ..all }, &[2], &[]),
        (Selection { fingerprint: Some(fingerprint(4)), ..all }, &[], &[4]),
        (Selection { principal: Some(BOB), fingerprint: Some(fingerprint(4)), ..all }, &[], &[]),
        (Selection { account: &other, ..all }, &[], &[]),
    ];
    for (selection, unused, sessions) in rows {
        let mut world = World::new();
        world.push(HERE, ALICE, 1).unwrap();
        world.session(HERE, 1);
        world.push_watch(HERE, BOB, 2).unwrap();
        world.push(THERE, ALICE, 3).unwrap();
        world.push_watch(HERE, ALICE, 4).unwrap();
        world.session(HERE, 4);
        world.push_watch(HERE, "carol", 5).unwrap();
        let now = world.now();
        let withdrawn = world.sessions.revoke(selection, now);
        let sorted = |mut ids: Vec<RequestId>| {
            ids.sort();
            ids
        };
        let pushes = sorted(withdrawn.unused.iter().map(|push| push.request.clone()).collect());
        let ended = sorted(withdrawn.sessions.iter().map(|of| of.push.request.clone()).collect());
        let ids = |numbers: &[u32]| numbers.iter().map(|number| request(*number)).collect::<Vec<_>>();
        assert_eq!((pushes, ended), (ids(unused), ids(sessions)), "{selection:?}");
        for key in [2, 3, 5_u8] {
            let instance = if key == 3 { THERE } else { HERE };
            assert_eq!(
                world.offered(instance, key),
                !unused.contains(&u32::from(key)),
                "{selection:?} {key}"
            );
        }
        // The sessions end when their streams have.
        assert_eq!(world.sessions.count(), 2);
        for session in &withdrawn.sessions {
            world.end(&session.push.request);
        }
        assert_eq!(world.sessions.count(), 2 - sessions.len());
    }
}

#[test]
fn what_is_over_is_forgotten() {
    let mut sessions = ConsoleSessions::new(ConsoleSettings::default());
    for number in 0..100_000_u32 {
        // A hundred a second of ever new instances: what is remembered is that of eleven minutes.
        let now = ServerInstant(u64::from(number) * SECOND / 100);
        let instance = format!("i-{number:08x}").parse().unwrap();
        let push = ConsolePush { instance, ..push(HERE, ALICE, 1, number) };
        sessions.reserve(push, now).unwrap();
        assert!(sessions.lines.len() <= limits::LINES, "{number}");
    }
    let later = ServerInstant(100_000 * SECOND);
    sessions.sweep_at = 0;
    sessions.sweep(later);
    assert_eq!(sessions.lines.len(), 0);
    assert!(sessions.lines.capacity() < 4 * ConsoleSessions::SWEEP_AT_LEAST, "{}", sessions.lines.capacity());
}

/// A flood of pushes that nobody comes with does not keep others out.
#[test]
fn where_there_is_no_place_what_was_unused_is_forgotten_first() {
    let mut sessions = ConsoleSessions::new(ConsoleSettings::default());
    let flood = |number: usize| {
        let instance = format!("i-{number:08x}").parse().unwrap();
        ConsolePush { instance, ..push(HERE, ALICE, 1, u32::try_from(number).unwrap()) }
    };
    for number in 0..limits::LINES {
        sessions.reserve(flood(number), ServerInstant(0)).unwrap();
    }
    // All of them wait for somebody to come.
    let one_more = || ConsolePush { instance: id(HERE), ..push(HERE, BOB, 2, 1) };
    assert_eq!(sessions.reserve(one_more(), ServerInstant(SECOND)), Err(ReserveError::Full));
    assert_eq!(sessions.reserve_watcher(one_more(), ServerInstant(SECOND)), Err(ReserveError::Full));
    // Those that are known go on as ever.
    assert!(sessions.reserve(flood(7), ServerInstant(SECOND)).is_ok());
    let session = ConsoleAddress::of(flood(9).instance);
    sessions.attach(&session, fingerprint(1), ServerInstant(SECOND)).unwrap();
    sessions.reserve(one_more(), ServerInstant(60 * SECOND)).unwrap();
    assert!(
        sessions.lines.len() < 10
            && sessions.occupant(session.instance(), ServerInstant(60 * SECOND)).is_some()
    );
}

#[test]
fn the_furthest_instants_are_like_others() {
    let mut sessions = ConsoleSessions::new(ConsoleSettings { teardown_delay: Duration::MAX });
    sessions.reserve(push(HERE, ALICE, 1, 1), ServerInstant(0)).unwrap();
    sessions.attach(&address(HERE), fingerprint(1), ServerInstant(0)).unwrap();
    sessions.end(&request(1), ServerInstant(u64::MAX - 1));
    let refused = sessions.reserve(push(HERE, BOB, 2, 2), ServerInstant(u64::MAX - 1));
    assert!(matches!(refused, Err(ReserveError::Occupied(_))));
}

/// What somebody does: at which line, who, with which key.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8, usize, u8),
    Watch(u8, usize, u8),
    Come(u8, u8),
    Leave(usize),
    Terminate(u8),
    Revoke(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_u8, 0..3_usize, 0..3_u8).prop_map(|(line, who, key)| Step::Push(line, who, key)),
        2 => (0..2_u8, 0..3_usize, 0..3_u8).prop_map(|(line, who, key)| Step::Watch(line, who, key)),
        4 => (0..2_u8, 0..3_u8).prop_map(|(line, key)| Step::Come(line, key)),
        2 => (0..8_usize).prop_map(Step::Leave),
        1 => (0..2_u8).prop_map(Step::Terminate),
        1 => (0..3_usize).prop_map(Step::Revoke),
        3 => (0..90_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// However people push, come, leave and are sent away: a line has one writer, who came with a key that was pushed for it less
    /// than a minute before; each push opens one session at most; and the next writer comes after the delay.
    #[test]
    fn a_line_has_one_writer_at_a_time(steps in steps()) {
        let names = [ALICE, BOB, "carol"];
        let mut world = World::new();
        // Sessions there are; when each push was; when each line was left by its writer.
        let mut open: Vec<(u8, Attached)> = Vec::new();
        let mut pushed: HashMap<RequestId, u64> = HashMap::new();
        let mut left = [None; 2];
        for step in steps {
            match step {
                Step::Push(line, who, key) => {
                    let occupied = open.iter().any(|(at, of)| *at == line && of.mode == Mode::Write);
                    let reserved = world.push(line, names[who], key);
                    prop_assert!(!(occupied && reserved.is_ok()));
                    if reserved.is_ok() {
                        let delay_is_over = left[usize::from(line)].is_none_or(|at| world.now >= at + 30 * SECOND);
                        prop_assert!(delay_is_over);
                        pushed.insert(request(world.pushed), world.now);
                    }
                }
                Step::Watch(line, who, key) => {
                    let reserved = world.push_watch(line, names[who], key);
                    prop_assert!(matches!(reserved, Ok(_) | Err(ReserveError::WatchersFull)));
                    if reserved.is_ok() {
                        pushed.insert(request(world.pushed), world.now);
                    }
                }
                Step::Come(line, key) => if let Ok(attached) = world.attach(line, key) {
                    let at = pushed.remove(&attached.push.request).expect("pushed, and used for the first time");
                    prop_assert!(world.now < at + 60 * SECOND);
                    prop_assert_eq!(&attached.push.instance, &id(line));
                    prop_assert_eq!(attached.push.fingerprint, fingerprint(key));
                    open.push((line, attached));
                },
                Step::Leave(which) => if which < open.len() {
                    let (line, attached) = open.remove(which);
                    world.end(&attached.push.request);
                    if attached.mode == Mode::Write {
                        left[usize::from(line)] = Some(world.now);
                    }
                },
                Step::Terminate(line) => {
                    let now = world.now();
                    world.sessions.terminate(&id(line), now);
                }
                Step::Revoke(who) => {
                    let (now, account) = (world.now(), account(1));
                    let selection = Selection { account: &account, instance: None, principal: Some(names[who]), fingerprint: None };
                    let withdrawn = world.sessions.revoke(selection, now);
                    prop_assert!(withdrawn.unused.iter().all(|push| push.principal == names[who]));
                    prop_assert!(withdrawn.unused.iter().all(|push| pushed.remove(&push.request).is_some()));
                    let sessions = open.iter().filter(|(_, of)| of.push.principal == names[who]).count();
                    prop_assert_eq!(withdrawn.sessions.len(), sessions);
                }
                Step::Wait(seconds) => world.now += seconds * SECOND,
            }
            prop_assert_eq!(world.sessions.count(), open.len());
            for line in 0..2_u8 {
                let writers = open.iter().filter(|(at, of)| *at == line && of.mode == Mode::Write).count();
                let attached = world.occupant(line).filter(|it| it.occupancy == Occupancy::Attached);
                prop_assert_eq!(writers, usize::from(attached.is_some()));
                let watchers = open.iter().filter(|(at, of)| *at == line && of.mode == Mode::Watch).count();
                prop_assert_eq!(world.sessions.watchers(&id(line)).count(), watchers);
            }
        }
    }
}
