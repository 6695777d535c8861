//! Turns, lanes and pauses, with a clock that is a number.

use proptest::prelude::*;

use super::*;

fn at(millis: i64) -> Time {
    Time::from_millis(1_736_937_000_000 + millis)
}

fn service(n: i64) -> ServiceId {
    ServiceId::new(format!("s{n}")).unwrap()
}

fn event(id: i64) -> Due {
    Due { id, event: format!("evt_{id}"), body: "{}".to_owned() }
}

fn lesson(success: bool, took_ms: u64) -> Lesson {
    let took = Duration::from_millis(took_ms);
    Lesson { success, took, retry_after: None, retry_at: None }
}

/// Gives one turn to `key`, attempts one event, and gives the slot back.
fn one_attempt(schedule: &mut Schedule, key: i64, lesson: Lesson, now: Time) {
    schedule.expect(key, &service(key), now);
    let (turns, _) = schedule.turns(now);
    let turn = *turns.iter().find(|turn| turn.key == key).expect("it has a turn");
    assert!(matches!(schedule.next(turn, now), Next::Read(_)));
    assert!(schedule.read(key, vec![event(1)], None, now).is_some());
    schedule.settled(key, 1, lesson, now);
    for turn in turns {
        schedule.give_back(turn, now);
    }
}

/// Every attempt of an endpoint succeeded so far.
fn praise(schedule: &mut Schedule, key: i64, owner: &ServiceId) {
    schedule.expect(key, owner, at(0));
    schedule.entries.get_mut(&key).unwrap().successes = ENDPOINT_SLOTS;
    schedule.stand(key);
}

/// Everything a slot can get now, as a dispatcher takes it.
fn fill(schedule: &mut Schedule, pages: &mut impl FnMut(i64) -> Vec<Due>, now: Time) -> Vec<Turn> {
    let mut all = Vec::new();
    loop {
        let (turns, _) = schedule.turns(now);
        if turns.is_empty() {
            return all;
        }
        for turn in turns {
            if let Next::Read(_) = schedule.next(turn, now) {
                let page = pages(turn.key);
                assert!(schedule.read(turn.key, page, None, now).is_some());
            }
            all.push(turn);
        }
    }
}

#[test]
fn failing_and_slow_endpoints_never_take_a_quick_slot() {
    let mut schedule = Schedule::default();
    for key in 0..500 {
        // One half never answers, the other half answers late.
        one_attempt(&mut schedule, key, lesson(key % 2 == 0, 15_000), at(0));
    }
    for key in 0..500 {
        schedule.expect(key, &service(key), at(0));
    }
    let (turns, _) = schedule.turns(at(1));
    assert_eq!(turns.len(), LANE_SLOTS);
    assert!(turns.iter().all(|turn| turn.lane == Lane::Slow));
    assert_eq!(schedule.taken(), [0, LANE_SLOTS]);

    schedule.expect(1_000, &service(1_000), at(1));
    let (turns, next) = schedule.turns(at(1));
    assert_eq!(turns, [Turn { key: 1_000, lane: Lane::Quick }]);
    assert_eq!(next, None, "who waits for a slot is called by the slot");
}

#[test]
fn slots_that_wait_for_an_answer_leave_the_quick_lane() {
    let mut schedule = Schedule::default();
    for key in 0..500 {
        schedule.expect(key, &service(key), at(0));
    }
    // New endpoints that never answer: nobody knows it yet.
    let mut held = 0;
    let mut moved = vec![];
    while schedule.taken()[1] < SLOW_SLOTS_MAX {
        let (turns, _) = schedule.turns(at(0));
        assert_eq!(turns.len(), LANE_SLOTS);
        for mut turn in turns {
            assert_eq!(turn.lane, Lane::Quick);
            schedule.slow_down(&mut turn);
            assert_eq!(turn.lane, Lane::Slow);
            moved.push(turn);
            held += 1;
        }
        schedule.check();
        assert_eq!(schedule.taken(), [0, held]);
    }
    // Beyond that they stay where they are, so that there is a limit to them.
    let (turns, _) = schedule.turns(at(0));
    for mut turn in turns {
        schedule.slow_down(&mut turn);
        assert_eq!(turn.lane, Lane::Quick);
    }
    assert_eq!(schedule.taken(), [LANE_SLOTS, SLOW_SLOTS_MAX]);
    for turn in moved {
        schedule.give_back(turn, at(1));
    }
    assert_eq!(schedule.taken()[1], 0);
}

#[test]
fn an_endpoint_earns_its_slots() {
    let mut schedule = Schedule::default();
    let mut pages = |_| (0..64).map(event).collect();
    schedule.expect(1, &service(1), at(0));
    let mut turns = fill(&mut schedule, &mut pages, at(0));
    assert_eq!(turns.len(), 1);
    for id in 0..100 {
        schedule.settled(1, id, lesson(true, 10), at(0));
        assert!(matches!(schedule.next(turns[0], at(0)), Next::Event(_) | Next::Read(_)));
        turns.extend(fill(&mut schedule, &mut pages, at(0)));
        assert_eq!(turns.len(), (id as usize + 2).min(ENDPOINT_SLOTS));
        if turns.len() == ENDPOINT_SLOTS {
            break;
        }
    }
}

#[test]
fn an_endpoint_and_a_service_have_their_most() {
    let mut schedule = Schedule::default();
    let mut id = 0;
    let mut pages = |_| {
        id += 64;
        (id..id + 64).map(event).collect()
    };
    praise(&mut schedule, 1, &service(1));
    let first = fill(&mut schedule, &mut pages, at(0));
    assert_eq!(first.len(), ENDPOINT_SLOTS);
    // Nine more endpoints of the same service, all of which hold on to what they got.
    for key in 2..=10 {
        praise(&mut schedule, key, &service(1));
    }
    let second = fill(&mut schedule, &mut pages, at(0));
    assert_eq!(first.len() + second.len(), SERVICE_SLOTS);
    praise(&mut schedule, 11, &service(2));
    assert_eq!(fill(&mut schedule, &mut pages, at(0)).len(), ENDPOINT_SLOTS);
    // A slot that is given back goes to whoever of the service waited.
    schedule.give_back(first[0], at(5));
    let (turns, _) = schedule.turns(at(5));
    assert_eq!(turns.len(), 1);
    assert!((1..=10).contains(&turns[0].key));
}

#[test]
fn a_failing_endpoint_is_probed_in_growing_pauses_until_it_succeeds() {
    let mut schedule = Schedule::default();
    let (mut now, mut pauses) = (at(0), vec![]);
    for _ in 0..10 {
        one_attempt(&mut schedule, 1, lesson(false, 10), now);
        schedule.expect(1, &service(1), now);
        let (turns, next) = schedule.turns(now);
        if let Some(next) = next {
            assert!(turns.is_empty());
            pauses.push((next.millis() - now.millis()) / 1_000);
            now = next;
        } else {
            // After one failure there is no pause, and one slot.
            assert_eq!(turns, [Turn { key: 1, lane: Lane::Slow }]);
            schedule.give_back(turns[0], now);
        }
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    one_attempt(&mut schedule, 1, lesson(true, 10), now);
    schedule.expect(1, &service(1), now);
    assert_eq!(schedule.turns(now).0, [Turn { key: 1, lane: Lane::Quick }]);
}

#[test]
fn retry_after_holds_the_endpoint() {
    let mut schedule = Schedule::default();
    let busy = Lesson { retry_after: Some(Duration::from_secs(90)), ..lesson(false, 10) };
    one_attempt(&mut schedule, 1, busy, at(0));
    schedule.expect(1, &service(1), at(1));
    assert_eq!(schedule.turns(at(89_999)).1, Some(at(90_000)));
    assert_eq!(schedule.turns(at(90_000)).0.len(), 1);
}

#[test]
fn the_first_failure_takes_the_other_slots_away() {
    let mut schedule = Schedule::default();
    let mut pages = |_| (0..64).map(event).collect();
    praise(&mut schedule, 1, &service(1));
    let turns = fill(&mut schedule, &mut pages, at(0));
    assert_eq!(turns.len(), ENDPOINT_SLOTS);
    schedule.settled(1, 0, lesson(false, 15_000), at(1));
    for turn in &turns {
        assert!(matches!(schedule.next(*turn, at(1)), Next::Nothing));
        schedule.give_back(*turn, at(1));
    }
    let (turns, _) = schedule.turns(at(1));
    assert_eq!(turns, [Turn { key: 1, lane: Lane::Slow }]);
    assert!(schedule.entries[&1].page.is_empty() && schedule.entries[&1].claimed.is_empty());
}

#[test]
fn what_is_recorded_while_a_page_is_read_is_not_missed() {
    let mut schedule = Schedule::default();
    schedule.expect(1, &service(1), at(0));
    let (first, _) = schedule.turns(at(0));
    assert!(matches!(schedule.next(first[0], at(0)), Next::Read(_)));
    // The page has been read, and is empty, when this is recorded; a second slot comes for it.
    praise(&mut schedule, 1, &service(1));
    let (second, _) = schedule.turns(at(1));
    assert!(matches!(schedule.next(second[0], at(1)), Next::Nothing));
    schedule.give_back(second[0], at(1));
    assert!(schedule.read(1, vec![], None, at(1)).is_none());
    schedule.give_back(first[0], at(1));
    let (third, _) = schedule.turns(at(1));
    assert_eq!(third.len(), 1);
    // And when there is nothing, that is the end of it.
    assert!(matches!(schedule.next(third[0], at(1)), Next::Read(_)));
    assert!(schedule.read(1, vec![], None, at(1)).is_none());
    schedule.give_back(third[0], at(1));
    assert_eq!(schedule.turns(at(1)), (vec![], None));
}

#[test]
fn whoever_is_due_first_is_first() {
    let mut schedule = Schedule::default();
    for key in 0..LANE_SLOTS as i64 + 10 {
        schedule.expect(key, &service(key), at(1_000 - key));
    }
    let (turns, _) = schedule.turns(at(1_000));
    let keys: Vec<_> = turns.iter().map(|turn| turn.key).collect();
    assert_eq!(keys, (10..LANE_SLOTS as i64 + 10).rev().collect::<Vec<_>>());
}

#[test]
fn an_endpoint_that_is_forgotten_takes_no_turn_and_no_memory() {
    let mut schedule = Schedule::default();
    one_attempt(&mut schedule, 1, lesson(false, 10), at(0));
    schedule.expect(1, &service(1), at(0));
    schedule.forget(1);
    assert_eq!(schedule.turns(at(100_000)), (vec![], None));
    assert!(schedule.entries.is_empty() && schedule.services.is_empty());
    // One that succeeded and has nothing left is none either.
    one_attempt(&mut schedule, 2, lesson(true, 10), at(0));
    assert!(schedule.entries.is_empty());
}

impl Schedule {
    /// Events in memory.
    pub(in crate::webhook) fn held(&self) -> usize {
        self.entries.values().map(|entry| entry.claimed.len()).sum()
    }

    fn check(&self) {
        let mut services: FxHashMap<&ServiceId, usize> = FxHashMap::default();
        for entry in self.entries.values().filter(|entry| entry.slots > 0) {
            *services.entry(entry.service.as_ref().unwrap()).or_default() += entry.slots;
        }
        assert_eq!(
            services,
            self.services.iter().map(|(service, slots)| (service, *slots)).collect()
        );
        let standing = self
            .entries
            .iter()
            .filter_map(|(key, entry)| entry.standing.map(|(lane, at)| (lane as usize, at, *key)));
        let mut standing: Vec<_> = standing.collect();
        standing.sort_unstable();
        let waiting = self.waiting.iter().enumerate();
        let waiting: Vec<_> = waiting
            .flat_map(|(lane, set)| set.iter().map(move |(at, key)| (lane, *at, *key)))
            .collect();
        assert_eq!(standing, waiting);
        assert!(self.taken[0] <= LANE_SLOTS && self.taken[1] <= SLOW_SLOTS_MAX);
        assert!(self.services.values().all(|slots| (1..=SERVICE_SLOTS).contains(slots)));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Expect { key: i64, in_ms: i64 },
    Turns,
    Next { slot: usize, page: u8 },
    Settle { slot: usize, success: bool, slow: bool, retry: bool },
    SlowDown { slot: usize },
    GiveBack { slot: usize },
    Pardon { key: i64 },
    Forget { key: i64 },
    Hold { key: i64 },
    Wait { ms: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_i64;
    prop_oneof![
        4 => (key.clone(), 0..3_000_i64).prop_map(|(key, in_ms)| Step::Expect { key, in_ms }),
        4 => Just(Step::Turns),
        8 => (any::<usize>(), 0..4_u8).prop_map(|(slot, page)| Step::Next { slot, page }),
        6 => (any::<usize>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(slot, success, slow, retry)| Step::Settle { slot, success, slow, retry }),
        1 => any::<usize>().prop_map(|slot| Step::SlowDown { slot }),
        3 => any::<usize>().prop_map(|slot| Step::GiveBack { slot }),
        1 => key.clone().prop_map(|key| Step::Pardon { key }),
        1 => key.clone().prop_map(|key| Step::Forget { key }),
        1 => key.prop_map(|key| Step::Hold { key }),
        2 => (0..5_000_i64).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    /// Whatever happens in whatever order, the books are right, and whoever is expected afterwards
    /// has a turn.
    #[test]
    fn the_books_are_always_right(steps in proptest::collection::vec(step(), 1..120)) {
        let mut schedule = Schedule::default();
        let (mut now, mut id) = (0, 0);
        let mut slots: Vec<(Turn, Vec<i64>)> = vec![];
        for step in steps {
            let when = at(now);
            match step {
                Step::Expect { key, in_ms } => schedule.expect(key, &service(key / 3), at(now + in_ms)),
                Step::Turns => slots.extend(schedule.turns(when).0.into_iter().map(|turn| (turn, vec![]))),
                Step::Next { slot, page } if !slots.is_empty() => {
                    let slot = slot % slots.len();
                    let (turn, held) = &mut slots[slot];
                    match schedule.next(*turn, when) {
                        Next::Event(due) => held.push(due.id),
                        Next::Read(_) => {
                            let page = (0..page).map(|_| { id += 1; event(id) }).collect();
                            held.extend(schedule.read(turn.key, page, None, when).map(|due| due.id));
                        }
                        Next::Nothing => {}
                    }
                }
                Step::Settle { slot, success, slow, retry } if !slots.is_empty() => {
                    let slot = slot % slots.len();
                    let (turn, held) = &mut slots[slot];
                    if let Some(id) = held.pop() {
                        let retry_at = retry.then_some(at(now + 5_000));
                        let lesson = Lesson { retry_at, ..lesson(success, if slow { 5_000 } else { 5 }) };
                        schedule.settled(turn.key, id, lesson, when);
                    }
                }
                Step::SlowDown { slot } if !slots.is_empty() => {
                    let slot = slot % slots.len();
                    schedule.slow_down(&mut slots[slot].0);
                }
                Step::GiveBack { slot } if !slots.is_empty() => {
                    let slot = slot % slots.len();
                    schedule.give_back(slots.swap_remove(slot).0, when);
                }
                Step::Next { .. }
                | Step::Settle { .. }
                | Step::SlowDown { .. }
                | Step::GiveBack { .. } => {}
                Step::Pardon { key } => schedule.pardon(key),
                Step::Forget { key } => schedule.forget(key),
                Step::Hold { key } => schedule.hold(key, at(now + 2_000)),
                Step::Wait { ms } => now += ms,
            }
            schedule.check();
        }
        for (turn, _) in slots {
            schedule.give_back(turn, at(now));
            schedule.check();
        }
        prop_assert_eq!(schedule.taken(), [0, 0]);
        for key in 0..6 {
            schedule.expect(key, &service(key / 3), at(now));
        }
        let (turns, _) = schedule.turns(at(now + 120_000));
        let keys: FxHashSet<_> = turns.iter().map(|turn| turn.key).collect();
        prop_assert_eq!(keys.len(), 6);
    }
}
