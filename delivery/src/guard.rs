//! Guesses at what people choose: passwords, codes of six digits, and `ADMIN_TOKEN`.
//!
//! Each attempt is counted before it is looked at, and taken back when it was right, so that a thousand at once
//! are a thousand. Three things are counted, and the first that says so refuses:
//! * **pair**: one account from one address. From the sixth wrong attempt on each one doubles the wait.
//! * **address**: one address at whatever accounts.
//! * **account**: one account from all addresses together, against guesses from very many. Its waits are
//!   short: somebody else's guesses must not keep its owner out.
//!
//! An address from which an account's login went well is known for a month, and the only one whose count
//! concerns it there is the pair: whoever guesses from elsewhere cannot keep the owner out. Only a
//! neighbour behind the same address can, for as long as the pair waits.
//!
//! Random secrets of 128 bits and more (signed tokens, keys, tickets, sessions) are none of this: who shows a right one is never
//! refused, and wrong ones cost their address (`limit`, `BAD_CREDENTIAL_UNITS`). Counts are a node's own.

use std::{
    collections::HashMap,
    hash::Hasher,
    net::{IpAddr, Ipv6Addr},
    sync::OnceLock,
    time::Duration,
};

use ::metrics::{Counter, Gauge, Recorder};
use parking_lot::Mutex;
use protocol::Time;
use rustc_hash::FxBuildHasher;
use siphasher::sip::SipHasher13;

use crate::{clock::millis, metrics::Metric};

/// Most counts of each kind, and most known pairs: 32 bytes each. At the limit the half that was not used since
/// the last time goes. An attacker who has so many addresses loses counts by it that are his own, and
/// not the account's, which each attempt uses.
pub const ENTRIES_MAX: usize = 65_536;

/// When a count that was not added to is forgotten.
pub const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// How long an address of a good login is known.
pub const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The part of an IPv6 address that is one customer's: each host may take any address of its /64.
const IPV6_PREFIX: u128 = !0 << 64;

/// How a count turns into a wait: none for so many wrong attempts, then a second, doubled by each further
/// one, up to the longest.
struct Scale {
    free: u32,
    longest: Duration,
}

const PAIR: Scale = Scale { free: 5, longest: Duration::from_secs(900) };
const ADDRESS: Scale = Scale { free: 30, longest: Duration::from_secs(900) };
const ACCOUNT: Scale = Scale { free: 100, longest: Duration::from_secs(15) };

/// What was counted too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// An account from an address.
    Pair,
    /// An address.
    Address,
    /// An account.
    Account,
}

/// Too many wrong attempts. Not a word about which of them it was: whether an account exists is nobody's
/// business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong attempts; try again in {} s", .wait.as_millis().div_ceil(1_000))]
pub struct Guarded {
    /// When the next attempt is looked at.
    pub wait: Duration,
}

/// An attempt that may be looked at. Unless [`Guard::passed`] or [`Guard::unjudged`] is told of it, it was wrong.
#[must_use]
#[derive(Clone, Copy)]
pub struct Attempt {
    pair: u64,
    /// Of the address and the account, unless the pair is known.
    others: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    wrong: u32,
    last: i64,
    until: i64,
}

impl Count {
    fn wait(&self, now: Time) -> Option<Duration> {
        let left = self.until.saturating_sub(now.millis());
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    fn add(&mut self, scale: &Scale, now: Time) {
        if now.millis().saturating_sub(self.last) > millis(FORGET_AFTER) {
            *self = Self::default();
        }
        self.last = now.millis();
        self.wrong = self.wrong.saturating_add(1);
        if let Some(over) = self.wrong.checked_sub(scale.free) {
            let wait = 1_000_i64.checked_shl(over).filter(|wait| *wait > 0 && over < 32);
            let wait = wait.unwrap_or(i64::MAX).min(millis(scale.longest));
            self.until = now.millis().saturating_add(wait);
        }
    }

    fn take_back(&mut self) {
        self.wrong = self.wrong.saturating_sub(1);
        self.until = 0;
    }
}

/// A map that forgets what was not used for long.
struct Recent<V> {
    young: HashMap<u64, V, FxBuildHasher>,
    old: HashMap<u64, V, FxBuildHasher>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<V: Copy + Default> Recent<V> {
    fn get(&mut self, key: u64) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&key) {
            *self.at(key) = value;
        }
        self.young.get_mut(&key)
    }

    fn at(&mut self, key: u64) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= ENTRIES_MAX / 2 {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }

    fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[derive(Default)]
struct State {
    pairs: Recent<Count>,
    addresses: Recent<Count>,
    accounts: Recent<Count>,
    /// Until when, by pair.
    known: Recent<i64>,
}

const ATTEMPTS: Metric = Metric::counter(
    "pushhub_guarded_attempts_total",
    "result",
    "Passwords, codes and admin tokens that were tried: `passed`, `looked_at` (those that passed among them), and, not looked \
     at because of too many wrong ones, `pair` (from one address at one account), `address`, `account`.",
);

const ENTRIES: Metric = Metric::gauge(
    "pushhub_guard_entries",
    "",
    "Addresses and accounts whose wrong attempts are counted, and pairs of both that are known.",
);

/// Every metric of this area.
pub const METRICS: &[Metric] = &[ATTEMPTS, ENTRIES];

const RESULTS: [&str; 5] = ["passed", "looked_at", "pair", "address", "account"];

struct GuardMetrics {
    attempts: [Counter; RESULTS.len()],
    entries: Gauge,
}

/// Counts wrong attempts.
pub struct Guard {
    /// By a key of its own: nobody can look for two accounts that meet.
    hasher: SipHasher13,
    state: Mutex<State>,
    metrics: OnceLock<GuardMetrics>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&rand::random()),
            state: Mutex::default(),
            metrics: OnceLock::new(),
        }
    }
}

impl Guard {
    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn Recorder) {
        self.metrics.get_or_init(|| {
            for metric in METRICS {
                metric.describe(recorder);
            }
            GuardMetrics {
                attempts: RESULTS
                    .map(|result| ATTEMPTS.to_counter(recorder, &[("result", result)])),
                entries: ENTRIES.to_gauge(recorder, &[]),
            }
        });
    }

    /// Whether an attempt at an account, of whatever name, may be looked at.
    ///
    /// # Errors
    /// [`Guarded`].
    pub fn enter(&self, account: &str, from: IpAddr, now: Time) -> Result<Attempt, Guarded> {
        let address = self.address(from);
        let account = self.hash(&[account.as_bytes()]);
        let pair = self.hash(&[&address.to_be_bytes(), &account.to_be_bytes()]);
        let mut state = self.state.lock();
        let known = state.known.get(pair).is_some_and(|until| *until > now.millis());
        let others = (!known).then_some((address, account));
        let entered = state.enter(Attempt { pair, others }, now);
        let entries = state.pairs.len() + state.addresses.len() + state.accounts.len();
        let entries = entries + state.known.len();
        drop(state);
        if let Some(metrics) = self.metrics.get() {
            metrics.entries.set(entries as f64);
            let index = match &entered {
                Ok(_) => 1,
                Err((Counted::Pair, _)) => 2,
                Err((Counted::Address, _)) => 3,
                Err((Counted::Account, _)) => 4,
            };
            metrics.attempts[index].increment(1);
        }
        entered.map_err(|(_, guarded)| guarded)
    }

    /// It was right: the address is known from now on.
    pub fn passed(&self, attempt: Attempt, now: Time) {
        let mut state = self.state.lock();
        state.take_back(attempt);
        state.pairs.remove(attempt.pair);
        *state.known.at(attempt.pair) = now.millis().saturating_add(millis(KNOWN_FOR));
        drop(state);
        if let Some(metrics) = self.metrics.get() {
            metrics.attempts[0].increment(1);
        }
    }

    /// It could not be looked at.
    pub fn unjudged(&self, attempt: Attempt) {
        self.state.lock().take_back(attempt);
    }

    fn address(&self, from: IpAddr) -> u64 {
        match from.to_canonical() {
            IpAddr::V4(address) => self.hash(&[&address.octets()]),
            IpAddr::V6(address) => {
                let prefix = Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX);
                self.hash(&[&prefix.octets()])
            }
        }
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher;
        for part in parts {
            hasher.write(part);
            hasher.write(&[0xff]);
        }
        hasher.finish()
    }
}

impl State {
    fn enter(&mut self, attempt: Attempt, now: Time) -> Result<Attempt, (Counted, Guarded)> {
        let Attempt { pair, others } = attempt;
        let refused = |counted, wait| Err((counted, Guarded { wait }));
        if let Some(wait) = self.pairs.at(pair).wait(now) {
            return refused(Counted::Pair, wait);
        }
        if let Some((address, account)) = others {
            if let Some(wait) = self.addresses.at(address).wait(now) {
                return refused(Counted::Address, wait);
            }
            if let Some(wait) = self.accounts.at(account).wait(now) {
                return refused(Counted::Account, wait);
            }
            self.addresses.at(address).add(&ADDRESS, now);
            self.accounts.at(account).add(&ACCOUNT, now);
        }
        self.pairs.at(pair).add(&PAIR, now);
        Ok(attempt)
    }

    fn take_back(&mut self, Attempt { pair, others }: Attempt) {
        self.pairs.at(pair).take_back();
        if let Some((address, account)) = others {
            self.addresses.at(address).take_back();
            self.accounts.at(account).take_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    fn at(seconds: i64) -> Time {
        Time::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    /// Tries at one moment until it is refused; how many were looked at.
    fn looked_at(guard: &Guard, account: &str, from: IpAddr, now: Time) -> (usize, Duration) {
        for n in 0..1_000 {
            if let Err(guarded) = guard.enter(account, from, now) {
                return (n, guarded.wait);
            }
        }
        panic!("nothing was refused");
    }

    #[test]
    fn each_wrong_attempt_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let guard = Guard::default();
        let mut now = at(0);
        assert_eq!(looked_at(&guard, "ann", HOME, now), (5, Duration::from_secs(1)));
        let mut waits = vec![];
        for _ in 0..14 {
            let wait = guard.enter("ann", HOME, now).err().unwrap().wait;
            waits.push(wait.as_secs());
            now = Time::from_millis(now.millis() + millis(wait));
            let _ = guard.enter("ann", HOME, now).unwrap();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        // Forgotten after an hour of quiet.
        let later = Time::from_millis(now.millis() + 3_600_001);
        assert_eq!(looked_at(&guard, "ann", HOME, later).0, 5);
    }

    #[test]
    fn who_guesses_from_elsewhere_keeps_nobody_out() {
        let guard = Guard::default();
        let login = guard.enter("ann", HOME, at(0)).unwrap();
        guard.passed(login, at(0));
        // From one place, and from very many: the account counts.
        assert_eq!(looked_at(&guard, "ann", address(0), at(1)).0, 5);
        let mut tried = 5;
        for n in 1..1_000 {
            tried += usize::from(guard.enter("ann", address(n), at(1)).is_ok());
        }
        assert_eq!(tried, 100, "an account is tried so often from addresses that are not known");
        // The owner is not concerned at home, and waits for some seconds elsewhere.
        for _ in 0..100 {
            let login = guard.enter("ann", HOME, at(2)).unwrap();
            guard.passed(login, at(2));
        }
        let wait = guard.enter("ann", address(5_000), at(1)).err().unwrap().wait;
        assert!(wait <= ACCOUNT.longest, "{wait:?}");
        // Nor is anybody else.
        assert!(guard.enter("bob", address(5_000), at(2)).is_ok());
    }

    #[test]
    fn an_address_that_tries_many_accounts_waits() {
        let guard = Guard::default();
        let tried = (0..1_000).filter(|n| guard.enter(&n.to_string(), HOME, at(0)).is_ok()).count();
        assert_eq!(tried, 30);
        // Its /64 is one address.
        let guard = Guard::default();
        let neighbour = |n: u128| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | n));
        let tried = (0..1_000_u128)
            .filter(|n| guard.enter(&n.to_string(), neighbour(*n), at(0)).is_ok())
            .count();
        assert_eq!(tried, 30);
        assert!(guard.enter("ann", neighbour(1 << 64), at(0)).is_ok());
    }

    #[test]
    fn good_and_unjudged_attempts_cost_nothing() {
        let guard = Guard::default();
        for n in 0..1_000 {
            let attempt = guard.enter("ann", address(n), at(0)).unwrap();
            if n % 2 == 0 { guard.passed(attempt, at(0)) } else { guard.unjudged(attempt) }
        }
        assert_eq!(looked_at(&guard, "ann", HOME, at(0)).0, 5);
    }

    #[test]
    fn attempts_at_one_moment_are_all_counted() {
        let guard = Guard::default();
        let held: Vec<_> = (0..50).map(|_| guard.enter("ann", HOME, at(0))).collect();
        assert_eq!(held.iter().filter(|entered| entered.is_ok()).count(), 5);
    }

    #[test]
    fn memory_is_bounded_and_the_owner_stays_known() {
        let guard = Guard::default();
        let login = guard.enter("ann", HOME, at(0)).unwrap();
        guard.passed(login, at(0));
        for n in 0..200_000 {
            let _ = guard.enter(&format!("user{n}"), address(n), at(1));
        }
        let state = guard.state.lock();
        for len in [state.pairs.len(), state.addresses.len(), state.accounts.len()] {
            assert!(len <= ENTRIES_MAX, "{len}");
        }
        assert_eq!(state.known.len(), 1);
    }
}
