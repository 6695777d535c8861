//! Several nodes on one clock, told of each other by a bus that takes its time.

use std::time::Duration;

use ::metrics::NoopRecorder;
use governor::clock::FakeRelativeClock;
use proptest::{collection::vec, prelude::*};
use protocol::{
    Time,
    envelope::{SPENT_MAX, Spent},
};

use super::{super::sharing::TELL_EVERY, *};
use crate::{InboxKey, identity::UserCaller};

/// What the bus takes.
const WAY: Duration = Duration::from_millis(40);

const MS: Duration = Duration::from_millis(1);

struct Node {
    limiter: Limiter<FakeRelativeClock>,
    tells_at: Duration,
}

/// Nodes, and what is on its way between them.
struct Nodes {
    clock: FakeRelativeClock,
    now: Duration,
    nodes: Vec<Node>,
    on_the_way: Vec<(Duration, usize, Vec<Spent>)>,
    bus: bool,
}

impl Nodes {
    fn new(count: usize, config: &LimitConfig) -> Self {
        let clock = FakeRelativeClock::default();
        let secret = BudgetSecret(*b"shared by nodes!");
        let nodes = (0..count).map(|at| Node {
            limiter: Limiter::with_clock(
                config.clone(),
                Some(&secret),
                clock.clone(),
                &NoopRecorder,
            ),
            // Not all at the same time.
            tells_at: TELL_EVERY.mul_f64(at as f64 / count as f64),
        });
        let nodes = nodes.collect();
        Self { clock, now: Duration::ZERO, nodes, on_the_way: Vec::new(), bus: true }
    }

    fn of_users(count: usize, rate: Rate) -> Self {
        Self::new(count, &LimitConfig { user: Some(rate), ..LimitConfig::default() })
    }

    fn limiter(&self, at: usize) -> &Limiter<FakeRelativeClock> {
        &self.nodes[at].limiter
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let next = self.nodes.iter().map(|node| node.tells_at);
            let next = next.chain(self.on_the_way.iter().map(|(at, ..)| *at)).min();
            let next = next.unwrap_or(until).clamp(self.now, until);
            self.clock.advance(next - self.now);
            self.now = next;
            for at in 0..self.nodes.len() {
                if self.nodes[at].tells_at <= self.now {
                    self.nodes[at].tells_at += TELL_EVERY;
                    if self.bus {
                        let spent = self.limiter(at).spent();
                        self.on_the_way.push((self.now + WAY, at, spent));
                    }
                }
            }
            let now = self.now;
            let (arrived, rest) =
                std::mem::take(&mut self.on_the_way).into_iter().partition(|(at, ..)| *at <= now);
            self.on_the_way = rest;
            let arrived: Vec<_> = arrived;
            for (_, from, spent) in arrived {
                for at in (0..self.nodes.len()).filter(|at| *at != from) {
                    self.limiter(at).charge(&spent);
                }
            }
        }
    }

    /// What is let through at most until now, by the promise that [`super::super::sharing`] makes.
    fn bound(&self, rate: Rate) -> f64 {
        let others = (self.nodes.len() - 1) as f64;
        once(rate, self.now) + others * once(rate, TELL_EVERY + WAY + 10 * MS)
    }
}

/// A burst, and what comes back in a time.
fn once(rate: Rate, time: Duration) -> f64 {
    f64::from(rate.burst()) + time.as_nanos() as f64 / rate.nanos_of(1) as f64
}

fn user(name: &str) -> Caller {
    let inbox = InboxKey::new(TenantId::default(), name.parse().unwrap());
    Caller::User(Arc::new(UserCaller::new(inbox, Time::default())))
}

/// How much of `units` is let through.
fn take(limiter: &Limiter<FakeRelativeClock>, caller: &Caller, units: u32) -> u32 {
    (0..units).map(|_| u32::from(limiter.caller(caller).is_ok())).sum()
}

/// Asks each node for more than it gives, each `pause`.
fn greedy(nodes: &mut Nodes, on: std::ops::Range<usize>, caller: &Caller, time: Duration) -> u32 {
    let (until, mut taken) = (nodes.now + time, 0);
    while nodes.now < until {
        for at in on.clone() {
            while nodes.limiter(at).caller(caller).is_ok() {
                taken += 1;
            }
        }
        nodes.pass(10 * MS);
    }
    taken
}

const RATES: [(u32, u32); 6] = [(20, 20), (100, 5), (1_000, 1_000), (1, 1), (5, 15), (50, 100)];

#[test]
fn who_asks_all_nodes_gets_the_rate_once() {
    let time = Duration::from_secs(60);
    for (per_second, burst) in RATES {
        let rate = Rate::new(per_second, burst);
        for count in [1, 2, 3, 10] {
            let mut nodes = Nodes::of_users(count, rate);
            let taken = f64::from(greedy(&mut nodes, 0..count, &user("ann"), time));
            assert!(taken <= nodes.bound(rate), "{rate:?} on {count}: {taken}");
            // What the nodes let through too much was paid back long ago.
            let late = f64::from(per_second) * count as f64 * 0.25;
            let once = once(rate, time);
            assert!(taken <= once + count as f64 + late, "{rate:?} on {count}: {taken}, {once}");
            assert!(taken >= once - 2.0 - late, "{rate:?} on {count}: {taken}, {once}");
        }
    }
}

#[test]
fn who_asks_one_node_gets_what_a_single_node_gives() {
    for (per_second, burst) in RATES {
        let rate = Rate::new(per_second, burst);
        let time = Duration::from_secs(20);
        let single = greedy(&mut Nodes::of_users(1, rate), 0..1, &user("ann"), time);
        let mut nodes = Nodes::of_users(5, rate);
        // Others on other nodes are nothing to him.
        greedy(&mut nodes, 1..5, &user("bob"), Duration::from_secs(1));
        assert_eq!(greedy(&mut nodes, 0..1, &user("ann"), time), single, "{rate:?}");
    }
}

#[test]
fn who_keeps_below_what_is_told_gets_no_more() {
    let rate = Rate::new(2_000, 20_000);
    let mut nodes = Nodes::of_users(3, rate);
    let mut taken = 0;
    // Of three nodes a little less than a twentieth of what comes back until they tell, again and again.
    while nodes.now < Duration::from_secs(60) {
        for at in 0..3 {
            taken += take(nodes.limiter(at), &user("ann"), 19);
        }
        nodes.pass(10 * MS);
    }
    assert!(f64::from(taken) <= nodes.bound(rate), "{taken}");
    // With pauses in which the buckets are full and forgotten.
    let (mut nodes, mut taken) = (Nodes::of_users(3, Rate::new(100, 100)), 0);
    while nodes.now < Duration::from_secs(60) {
        for at in 0..3 {
            taken += take(nodes.limiter(at), &user("ann"), 100);
        }
        nodes.pass(Duration::from_secs(1));
        nodes.nodes.iter().for_each(|node| node.limiter.forget_full());
    }
    assert!(f64::from(taken) <= nodes.bound(Rate::new(100, 100)), "{taken}");
}

#[test]
fn little_use_is_nobody_elses_affair() {
    let nodes = Nodes::of_users(1, Rate::new(2_000, 20_000));
    for _ in 0..19 {
        take(nodes.limiter(0), &user("ann"), 1);
        nodes.clock.advance(MS);
    }
    assert_eq!(nodes.limiter(0).spent(), []);
    take(nodes.limiter(0), &user("ann"), 1);
    let [Spent { nanos, .. }] = nodes.limiter(0).spent()[..] else { panic!() };
    assert_eq!(nanos, 20 * 500_000);
    assert_eq!(nodes.limiter(0).spent(), [], "it is told once");
}

#[test]
fn a_service_and_an_address_that_guesses_are_known_everywhere() {
    let (ip, service_rate) = (Some(Rate::new(1, 20)), Some(Rate::new(1, 9)));
    let config = LimitConfig { ip, service: service_rate, ..LimitConfig::default() };
    let mut nodes = Nodes::new(2, &config);
    // Its own rate, which the other node does not know yet.
    assert_eq!(take(nodes.limiter(0), &service("a", 30), 20), 20);
    assert_eq!(take(nodes.limiter(0), &service("b", 0), 4), 4);
    assert_eq!(take(nodes.limiter(1), &service("b", 0), 1), 1);
    let client =
        |limiter: &Limiter<_>, text: &str| limiter.client(text.parse().ok(), &HeaderMap::new());
    let guesser = client(nodes.limiter(0), "203.0.113.9");
    nodes.limiter(0).request(guesser).unwrap();
    nodes.limiter(0).bad_request_credential(guesser);
    nodes.pass(Duration::from_millis(300));
    assert_eq!(take(nodes.limiter(1), &service("a", 30), 20), 10);
    assert_eq!(take(nodes.limiter(1), &service("b", 0), 9), 4);
    assert_eq!(nodes.limiter(1).request(guesser).unwrap().unwrap().remaining, 8);
    assert_eq!(nodes.limiter(1).connect(guesser), Ok(None));
}

#[test]
fn what_was_used_while_nobody_was_told_is_past_when_it_has_come_back() {
    let rate = Rate::new(100, 100);
    let mut nodes = Nodes::of_users(2, rate);
    nodes.bus = false;
    greedy(&mut nodes, 0..1, &user("ann"), Duration::from_secs(60));
    greedy(&mut nodes, 0..1, &user("bob"), Duration::from_secs(1));
    nodes.pass(Duration::from_secs(30));
    take(nodes.limiter(0), &user("ann"), 10);
    nodes.bus = true;
    nodes.pass(Duration::from_millis(300));
    // A second of it at most, as if it was late.
    let left = nodes.limiter(1).caller(&user("ann")).unwrap().unwrap().remaining;
    assert!((0..90).contains(&left), "{left}");
    nodes.pass(Duration::from_secs(2));
    assert_eq!(take(nodes.limiter(1), &user("ann"), 200), 100);
}

#[test]
fn a_telling_is_bounded_and_the_most_goes_first() {
    let nodes = Nodes::of_users(2, Rate::new(10, 10));
    let (here, there) = (nodes.limiter(0), nodes.limiter(1));
    for n in 0..SPENT_MAX + 10 {
        take(here, &user(&format!("user-{n}")), if n < SPENT_MAX - 5 { 2 } else { 1 });
    }
    let told = here.spent();
    assert_eq!(told.len(), SPENT_MAX);
    assert_eq!(told.iter().filter(|spent| spent.nanos == 200_000_000).count(), SPENT_MAX - 5);
    assert_eq!(here.spent().len(), 10, "the others' turn");
    // Who is not here yet is kept in a bounded place.
    for _ in 0..10 {
        there.charge(&told);
    }
    assert_eq!(there.user.load_full().unwrap().keys(), 0);
    let strange = |n: u64| Spent { scope: 2, key: n, nanos: 10_000_000 };
    for chunk in (0..20_000).collect::<Vec<_>>().chunks(SPENT_MAX) {
        there.charge(&chunk.iter().copied().map(strange).collect::<Vec<_>>());
    }
    let kept = |limiter: &Limiter<_>| limiter.user.load_full().unwrap().newcomers();
    assert_eq!(kept(there), super::super::state::NEWCOMERS_MAX);
    nodes.clock.advance(Duration::from_secs(1));
    there.forget_full();
    assert!(kept(there) <= SPENT_MAX, "who has all again is forgotten");
    nodes.clock.advance(Duration::from_secs(5));
    there.forget_full();
    assert_eq!(kept(there), 0);
}

#[test]
fn no_node_can_lock_anybody_out_for_long() {
    let mut nodes = Nodes::of_users(2, Rate::new(10, 10));
    take(nodes.limiter(0), &user("ann"), 1);
    let mine = nodes.limiter(0).spent()[0];
    for _ in 0..50 {
        nodes.limiter(0).charge(&[Spent { nanos: u64::MAX, ..mine }]);
        nodes.limiter(1).charge(&[Spent { nanos: u64::MAX, ..mine }]);
    }
    // Of a newer node, of a limit that is off here.
    nodes.limiter(0).charge(&[Spent { scope: 77, ..mine }, Spent { scope: 1, ..mine }]);
    for at in 0..2 {
        let limited = nodes.limiter(at).caller(&user("ann")).unwrap_err();
        assert!(limited.retry_after_seconds() <= 3_601, "{limited}");
        assert_eq!(take(nodes.limiter(at), &user("bob"), 1), 1);
    }
    nodes.pass(Duration::from_secs(3_601));
    assert_eq!(take(nodes.limiter(0), &user("ann"), 1), 1);
}

#[test]
fn a_node_without_others_notes_nothing() {
    let config = LimitConfig { user: Some(Rate::new(10, 10)), ..LimitConfig::default() };
    let limiter = Limiter::new(config, &NoopRecorder);
    assert!((0..10).all(|_| limiter.caller(&user("ann")).is_ok()));
    assert_eq!(limiter.spent(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whoever asks whichever nodes for whatever and whenever.
    #[test]
    fn no_traffic_gets_more_than_is_promised(
        per_second in 1..200_u32,
        burst in 1..100_u32,
        count in 1..6_usize,
        asks in vec((0..6_usize, 1..40_u32, 0..400_u64), 1..300),
    ) {
        let rate = Rate::new(per_second, burst);
        let mut nodes = Nodes::of_users(count, rate);
        let mut taken = 0;
        for (at, units, pause) in asks {
            taken += take(nodes.limiter(at % count), &user("ann"), units);
            prop_assert!(f64::from(taken) <= nodes.bound(rate), "{} at {:?}", taken, nodes.now);
            // Mostly at once, sometimes a while later.
            nodes.pass(MS * (pause.saturating_sub(300) as u32));
        }
    }
}
