//! Throttling: how often somebody may ask. Token buckets, on a clock that is given.
//!
//! A bucket holds a burst of tokens and is filled again at a steady rate. What is kept of it is how long it takes until
//! it is full; a full one is not kept at all. So each token taken keeps a bucket in memory for `1 / rate` longer and no
//! more: n of them in a second leave n / rate buckets, however many callers they come from.

use crate::api::ApiError;
use crate::authz::{Authorized, Caller, InstanceOperation};
use crate::ids::{AccountId, InstanceId, UserId};
use crate::limits;
use crate::link::{EnrollError, EnrollErrorCode};
use crate::origin::Network;
use crate::sigv4::Verified;
use instance_connect_document::{ServerInstant, decimal};
use instance_connect_planted::planted;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// What callers are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleLimits {
    /// Requests of one principal, whatever they ask for.
    pub principal: Rate,
    /// What one principal does to one instance.
    pub instance: Rate,
    /// Requests of one source that end before anybody is authenticated: malformed, unsigned, wrongly signed. Enrolments
    /// without a good join token are held to the same, and counted for themselves.
    pub unauthenticated: Rate,
}

impl Default for ThrottleLimits {
    fn default() -> Self {
        Self {
            principal: limits::PRINCIPAL_RATE,
            instance: limits::INSTANCE_RATE,
            unauthenticated: limits::UNAUTHENTICATED_RATE,
        }
    }
}

/// The buckets of a control plane.
#[derive(Debug)]
pub struct Throttle {
    principals: Buckets<UserId>,
    instances: Buckets<(InstanceId, UserId)>,
    unauthenticated: Buckets<Network>,
    enrolments: Buckets<Network>,
    lookups: Buckets<AccountId>,
}

impl Throttle {
    /// With all buckets full.
    pub fn new(limits: ThrottleLimits) -> Self {
        Self {
            principals: Buckets::new(limits.principal),
            instances: Buckets::new(limits.instance),
            unauthenticated: Buckets::new(limits.unauthenticated),
            enrolments: Buckets::new(limits.unauthenticated),
            lookups: Buckets::new(limits::LOOKUP_RATE),
        }
    }

    /// Asked before a request is judged: whether its source may go on sending what nobody has signed. It takes no
    /// token, so signing well costs none; while the source has none, good requests are refused too.
    ///
    /// # Errors
    /// [`ApiError::Throttling`].
    pub fn admit_source(&self, source: IpAddr, now: ServerInstant) -> Result<(), ApiError> {
        throttled_unless(self.unauthenticated.has_token(&Network::of(source), now))
    }

    /// A request of this source ended before anybody was authenticated.
    pub fn count_unauthenticated(&mut self, source: IpAddr, now: ServerInstant) {
        // With none left it stays at none.
        let _ = self.unauthenticated.take(&Network::of(source), now);
    }

    /// Takes a token of a source that asks for an identity, before its join token is looked for: that takes a while, and
    /// whoever asks a thousand times at once shall not be admitted a thousand times.
    ///
    /// # Errors
    /// [`EnrollErrorCode::Throttled`].
    pub fn admit_enrolment(&mut self, source: IpAddr, now: ServerInstant) -> Result<(), EnrollError> {
        if self.enrolments.take(&Network::of(source), now) {
            return Ok(());
        }
        let message = "too many enrolments from this address have failed".to_owned();
        Err(EnrollError { code: EnrollErrorCode::Throttled, message })
    }

    /// An enrolment that was admitted did not fail by the fault of who asked: it has cost nothing.
    pub fn forgive_enrolment(&mut self, source: IpAddr, now: ServerInstant) {
        self.enrolments.give_back(&Network::of(source), now);
    }

    /// Takes a token of the principal that a request is proven to be from.
    ///
    /// # Errors
    /// [`ApiError::Throttling`].
    pub fn admit_caller(&mut self, caller: &Verified<Caller>, now: ServerInstant) -> Result<(), ApiError> {
        throttled_unless(self.principals.take(&caller.get().user.id, now))
    }

    /// Takes a token of a principal at an instance. Only what is authorized is counted, so only instances that exist
    /// have buckets, and nobody can use up another's.
    ///
    /// # Errors
    /// [`ApiError::Throttling`].
    pub fn admit_operation<Op: InstanceOperation>(
        &mut self,
        authorized: &Authorized<Op>,
        now: ServerInstant,
    ) -> Result<(), ApiError> {
        let key = (authorized.instance().id.clone(), authorized.caller().user.id.clone());
        throttled_unless(self.instances.take(&key, now))
    }

    /// Takes a token of an account that looks for events: one account must not keep the others from theirs.
    ///
    /// # Errors
    /// [`ApiError::Throttling`].
    pub fn admit_lookup(&mut self, account: &AccountId, now: ServerInstant) -> Result<(), ApiError> {
        throttled_unless(self.lookups.take(account, now))
    }
}

fn throttled_unless(admitted: bool) -> Result<(), ApiError> {
    if admitted { Ok(()) } else { Err(ApiError::Throttling) }
}

/// A steady rate, and how much may come at once. As text `20/100`: 20 a second, 100 at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// Neither may be 0. For constants, where that does not build; text is parsed.
    pub(crate) const fn new(per_second: u32, burst: u32) -> Self {
        assert!(per_second > 0 && burst > 0, "a rate and its burst are at least 1");
        Self { per_second, burst }
    }

    /// Nanoseconds until one token more is there; rounded up, so that no more than the rate comes through.
    fn refill(self) -> u64 {
        1_000_000_000_u64.div_ceil(u64::from(self.per_second))
    }

    /// Nanoseconds until an empty bucket is full: less than 2^62.
    fn refill_all(self) -> u64 {
        self.refill() * u64::from(self.burst)
    }
}

/// Not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written like 20/100: how many a second, and how many at once; neither is 0")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let number = |digits| decimal::parse(digits).filter(|number| *number > 0).ok_or(RateError);
        let (per_second, burst) = text.split_once('/').ok_or(RateError)?;
        Ok(Self { per_second: number(per_second)?, burst: number(burst)? })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_second, self.burst)
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// One bucket. Times are of one clock that does not go back, counted from where it begins.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    level: Level,
}

impl Bucket {
    /// A full one.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, level: Level::FULL }
    }

    /// Whether there is a token.
    pub fn has_token(&self, now: Duration) -> bool {
        self.level.at(now).holds_a_token(self.rate)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let level = self.level.at(now);
        let taken = level.holds_a_token(self.rate);
        if taken {
            self.level = level.less_a_token(self.rate);
        }
        taken
    }
}

/// Buckets of one rate, one for each key that has taken a token lately.
#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    levels: HashMap<K, Level>,
    /// How many may be kept until full ones are looked for.
    sweep_at: usize,
}

/// How empty a bucket is.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Nanoseconds until it is full, counted from then.
    missing: u64,
    then: Duration,
}

impl Level {
    const FULL: Self = Self { missing: 0, then: Duration::ZERO };

    /// The same bucket at this instant. A clock that goes back fills nothing.
    fn at(self, now: Duration) -> Self {
        let passed = u64::try_from(now.saturating_sub(self.then).as_nanos()).unwrap_or(u64::MAX);
        Self { missing: self.missing.saturating_sub(passed), then: self.then.max(now) }
    }

    fn holds_a_token(self, rate: Rate) -> bool {
        let one = if planted("burst-exceeded") { 0 } else { rate.refill() };
        self.missing + one <= rate.refill_all()
    }

    fn less_a_token(self, rate: Rate) -> Self {
        Self { missing: self.missing + rate.refill(), ..self }
    }
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// Looking for full buckets among fewer than this is not worth it.
    const SWEEP_AT_LEAST: usize = 1024;

    fn new(rate: Rate) -> Self {
        Self { rate, levels: HashMap::new(), sweep_at: Self::SWEEP_AT_LEAST }
    }

    fn has_token(&self, key: &K, now: ServerInstant) -> bool {
        self.level(key, now).holds_a_token(self.rate)
    }

    /// Takes a token, if there is one.
    fn take(&mut self, key: &K, now: ServerInstant) -> bool {
        let level = self.level(key, now);
        if !level.holds_a_token(self.rate) {
            return false;
        }
        let level = level.less_a_token(self.rate);
        match self.levels.get_mut(key) {
            Some(kept) => *kept = level,
            None => {
                self.sweep(now);
                self.levels.insert(key.clone(), level);
            }
        }
        true
    }

    /// Gives back a token that was taken.
    fn give_back(&mut self, key: &K, now: ServerInstant) {
        // A bucket that is not kept is full.
        if let Some(kept) = self.levels.get_mut(key) {
            let level = kept.at(since_epoch(now));
            *kept = Level { missing: level.missing.saturating_sub(self.rate.refill()), ..level };
        }
    }

    fn level(&self, key: &K, now: ServerInstant) -> Level {
        self.levels.get(key).copied().unwrap_or(Level::FULL).at(since_epoch(now))
    }

    /// Forgets full buckets each time there are twice as many as were left the last time, which is a constant number of
    /// steps for each insertion.
    fn sweep(&mut self, now: ServerInstant) {
        if self.levels.len() < self.sweep_at {
            return;
        }
        self.levels.retain(|_, level| level.at(since_epoch(now)).missing > 0);
        self.sweep_at = (2 * self.levels.len()).max(Self::SWEEP_AT_LEAST);
        self.levels.shrink_to(self.sweep_at);
    }
}

fn since_epoch(now: ServerInstant) -> Duration {
    now.since(ServerInstant(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_for_itself() {
        let taken = |bucket: &mut Bucket, second: u64| {
            let now = Duration::from_secs(second);
            let taken = (0..).take_while(|_| bucket.take(now)).count();
            assert!(!bucket.has_token(now) && bucket.has_token(now + Duration::from_secs(1)));
            taken
        };
        let mut bucket = Bucket::new(Rate::new(50, 100));
        assert_eq!([1000, 1001, 1060].map(|second| taken(&mut bucket, second)), [100, 50, 100]);
        assert!(!bucket.take(Duration::from_secs(1059)), "a clock that goes back fills nothing");
    }

    fn buckets(rate: &str) -> Buckets<u32> {
        Buckets::new(rate.parse().unwrap())
    }

    #[test]
    fn tokens_are_taken_and_come_back() {
        // The rate; milliseconds at which one asks; whether it is admitted.
        let (yes, no) = (true, false);
        let rows: &[(&str, &[(u64, bool)])] = &[
            ("1/1", &[(0, yes), (0, no), (999, no), (1000, yes), (1000, no), (2000, yes)]),
            ("1/2", &[(0, yes), (0, yes), (0, no), (1000, yes), (1500, no), (2000, yes), (2000, no)]),
            ("a refusal costs nothing: 1/1", &[(0, yes), (500, no), (900, no), (1000, yes)]),
            ("no more than the burst is saved up: 1/2", &[(0, yes), (9000, yes), (9000, yes), (9000, no)]),
            ("5/1", &[(0, yes), (199, no), (200, yes), (399, no), (400, yes)]),
            ("the clock goes back: 1/1", &[(5000, yes), (4000, no), (5999, no), (6000, yes)]),
            (
                "the clock goes back, with tokens left: 1/2",
                &[(5000, yes), (4000, yes), (4000, no), (5000, no)],
            ),
        ];
        for (what, asked) in rows {
            let mut buckets = buckets(what.rsplit(' ').next().unwrap());
            for (number, (time, admitted)) in asked.iter().enumerate() {
                let now = ServerInstant(time * SECOND / 1000);
                assert_eq!(buckets.take(&0, now), *admitted, "{what}: {number}");
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_service() {
        let ThrottleLimits { principal, instance, unauthenticated } = ThrottleLimits::default();
        assert_eq!(
            [principal, instance, unauthenticated].map(|rate| rate.to_string()),
            ["20/100", "5/10", "50/500"]
        );
    }

    #[test]
    fn rates_are_read_strictly_and_written_as_read() {
        for text in ["20/100", "1/1", "4294967295/4294967295"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/",
            "20",
            "20/",
            "/100",
            "0/1",
            "1/0",
            "+1/1",
            "1/ 1",
            "1/1/1",
            "1.5/2",
            "4294967296/1",
            "-1/1",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
        let limits: ThrottleLimits = serde_json::from_str(r#"{"principal":"1/2"}"#).unwrap();
        assert_eq!(limits, ThrottleLimits { principal: Rate::new(1, 2), ..ThrottleLimits::default() });
        assert_eq!(
            serde_json::to_string(&limits).unwrap(),
            r#"{"principal":"1/2","instance":"5/10","unauthenticated":"50/500"}"#
        );
        for text in [r#"{"principal":"0/2"}"#, r#"{"principle":"1/2"}"#, r#"{"principal":5}"#] {
            assert!(serde_json::from_str::<ThrottleLimits>(text).is_err(), "{text}");
        }
    }

    /// An attacker with ever new keys, at a million a second.
    #[test]
    fn full_buckets_are_forgotten() {
        let mut buckets = buckets("1000/10");
        for key in 0..200_000 {
            assert!(buckets.take(&key, ServerInstant(u64::from(key) * 1000)));
            // A thousand of them have not been filled again; as many more may wait to be swept.
            assert!(buckets.levels.len() <= 2 * 1024, "{key}: {}", buckets.levels.len());
        }
        assert!(buckets.levels.capacity() < 16 * 1024, "{}", buckets.levels.capacity());
    }

    #[test]
    fn the_furthest_instant_is_one_like_others() {
        let mut buckets = buckets("4294967295/4294967295");
        assert!(buckets.take(&0, ServerInstant(0)));
        assert!(buckets.take(&0, ServerInstant(u64::MAX)));
        let mut buckets = self::buckets("1/2");
        let admitted = [0; 4].map(|key| buckets.take(&key, ServerInstant(u64::MAX)));
        assert_eq!(admitted, [true, true, false, false]);
        // The longest time until full that there is.
        let mut buckets = self::buckets("1/4294967295");
        buckets.levels.insert(0, Level { missing: 4_294_967_295 * SECOND, then: Duration::ZERO });
        assert!(!buckets.take(&0, ServerInstant(SECOND - 1)));
        assert!(buckets.take(&0, ServerInstant(SECOND)));
    }

    /// Rates, and the times between requests.
    fn rate_and_gaps() -> impl Strategy<Value = (Rate, Vec<u64>)> {
        let gaps = prop_oneof![Just(0), 1..SECOND / 1000, 1..2 * SECOND];
        let rate = (1..200_u32, 1..50_u32).prop_map(|(per_second, burst)| Rate::new(per_second, burst));
        (rate, prop::collection::vec(gaps, 1..200))
    }

    fn times(gaps: &[u64]) -> Vec<u64> {
        gaps.iter()
            .scan(0, |now, gap| {
                *now += gap;
                Some(*now)
            })
            .collect()
    }

    proptest! {
        /// In any window of length t, no more than burst + rate * t.
        #[test]
        fn no_window_admits_more_than_the_burst_and_the_rate((rate, gaps) in rate_and_gaps()) {
            let mut buckets = Buckets::new(rate);
            let admitted: Vec<u64> =
                times(&gaps).into_iter().filter(|time| buckets.take(&0, ServerInstant(*time))).collect();
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = u64::try_from(last - first + 1).unwrap();
                    let refilled = u64::from(rate.per_second) * (to - from) / SECOND;
                    prop_assert!(count <= u64::from(rate.burst) + refilled, "{from} to {to}: {count}");
                }
            }
        }

        #[test]
        fn whoever_stays_below_the_rate_is_never_refused((rate, gaps) in rate_and_gaps()) {
            let mut buckets = Buckets::new(rate);
            let below: Vec<u64> = gaps.iter().map(|gap| gap + rate.refill()).collect();
            for time in times(&below) {
                prop_assert!(buckets.take(&0, ServerInstant(time)));
            }
        }

        #[test]
        fn a_full_burst_is_admitted_at_once_and_then_none(rate in rate_and_gaps().prop_map(|(rate, _)| rate), now: u64) {
            let mut buckets = Buckets::new(rate);
            for _ in 0..rate.burst {
                prop_assert!(buckets.take(&0, ServerInstant(now)));
            }
            prop_assert!(!buckets.has_token(&0, ServerInstant(now)));
            prop_assert!(!buckets.take(&0, ServerInstant(now)));
        }

        /// What one key is told does not depend on what others do, nor on what was swept.
        #[test]
        fn keys_do_not_influence_each_other((rate, gaps) in rate_and_gaps(), others in 1..200_u32) {
            let (mut shared, mut alone) = (Buckets::new(rate), Buckets::new(rate));
            for (time, round) in times(&gaps).into_iter().zip(0_u32..20) {
                let now = ServerInstant(time);
                prop_assert_eq!(shared.take(&0, now), alone.take(&0, now));
                for other in 1..=others {
                    shared.take(&(round * others + other), now);
                }
            }
        }

        #[test]
        fn asking_is_answered_as_taking_would_be((rate, gaps) in rate_and_gaps()) {
            let mut buckets = Buckets::new(rate);
            for time in times(&gaps) {
                let has = buckets.has_token(&0, ServerInstant(time));
                prop_assert_eq!(buckets.take(&0, ServerInstant(time)), has);
            }
        }

        /// However long it was kept.
        #[test]
        fn what_is_given_back_was_never_taken((rate, gaps) in rate_and_gaps()) {
            let (mut lending, mut plain) = (Buckets::new(rate), Buckets::new(rate));
            let mut lent = false;
            for time in times(&gaps) {
                let now = ServerInstant(time);
                if lent {
                    lending.give_back(&0, now);
                }
                prop_assert_eq!(lending.take(&0, now), plain.take(&0, now));
                lent = lending.take(&0, now);
            }
        }

        #[test]
        fn rate_parser_never_panics(text: String) {
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
    }
}
