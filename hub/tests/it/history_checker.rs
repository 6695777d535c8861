//! The checker must find every fault that is planted, and nothing in a clean history.

use std::collections::BTreeSet;

use crate::support::history::{Event, History, Violation};

/// Two users, two devices of ann; op 3 was never answered, op 4 was refused.
fn clean() -> Vec<Event> {
    let ann = || "ann".to_owned();
    let send = |op, users: &[&str]| Event::Send {
        op,
        users: users.iter().map(ToString::to_string).collect(),
    };
    vec![
        Event::Connected { conn: 1, user: ann(), since: 0 },
        send(1, &["ann", "bob"]),
        Event::Received { conn: 1, seq: 1, op: Some(1) },
        Event::Acked { op: 1 },
        send(2, &["ann"]),
        send(3, &["ann"]),
        send(4, &["ann"]),
        Event::Acked { op: 2 },
        Event::Refused { op: 4 },
        Event::Received { conn: 1, seq: 2, op: Some(3) },
        Event::Received { conn: 1, seq: 3, op: Some(2) },
        Event::Connected { conn: 2, user: ann(), since: 2 },
        Event::Received { conn: 2, seq: 3, op: Some(2) },
        Event::Received { conn: 2, seq: 4, op: None },
        Event::Received { conn: 1, seq: 4, op: None },
        Event::Quiet { conn: 1, seq: 4 },
        Event::Quiet { conn: 2, seq: 4 },
        Event::Store {
            user: ann(),
            changes: vec![(1, Some(1)), (2, Some(3)), (3, Some(2)), (4, None)],
        },
        Event::Store { user: "bob".into(), changes: vec![(1, Some(1))] },
        Event::Read { user: ann(), who: "phone".into(), read: BTreeSet::from([1]) },
        Event::Read { user: ann(), who: "the list".into(), read: BTreeSet::from([1]) },
    ]
}

fn check(events: Vec<Event>) -> BTreeSet<Violation> {
    let history = History::default();
    for event in events {
        history.note(event);
    }
    history.check()
}

fn ann_log(events: &mut [Event]) -> &mut Vec<(u64, Option<u64>)> {
    events
        .iter_mut()
        .find_map(|event| match event {
            Event::Store { user, changes } if user == "ann" => Some(changes),
            _ => None,
        })
        .unwrap()
}

#[test]
fn a_clean_history_passes() {
    assert_eq!(check(clean()), BTreeSet::new());
}

#[test]
fn every_planted_fault_is_found() {
    type Fault = (&'static str, fn(&mut Vec<Event>), fn(&Violation) -> bool);
    let faults: [Fault; 12] = [
        (
            "an acked message is gone",
            |events| {
                let log = ann_log(events);
                log.retain(|(_, op)| *op != Some(2));
            },
            |v| matches!(v, Violation::Lost { op: 2, .. }),
        ),
        (
            "a message leaks into another inbox",
            |events| {
                events.push(Event::Store {
                    user: "bob".into(),
                    changes: vec![(1, Some(1)), (2, Some(2))],
                });
            },
            |v| matches!(v, Violation::Foreign { op: 2, user } if user == "bob"),
        ),
        (
            "a message that nobody sent",
            |events| ann_log(events).push((5, Some(99))),
            |v| matches!(v, Violation::Foreign { op: 99, .. }),
        ),
        (
            "a refused message appears",
            |events| ann_log(events).push((5, Some(4))),
            |v| matches!(v, Violation::Resurrected { op: 4, .. }),
        ),
        (
            "a message is stored twice",
            |events| ann_log(events).push((5, Some(1))),
            |v| matches!(v, Violation::Repeated { op: 1, .. }),
        ),
        (
            "the store skips a seq",
            |events| ann_log(events)[3].0 = 5,
            |v| matches!(v, Violation::Hole { after: 3, found: 5, .. }),
        ),
        (
            "a connection skips a seq",
            |events| events.retain(|e| !matches!(e, Event::Received { conn: 1, seq: 2, .. })),
            |v| matches!(v, Violation::Gap { conn: 1, after: 1, found: 3 }),
        ),
        (
            "a connection gets a seq twice",
            |events| events.insert(3, events[2].clone()),
            |v| matches!(v, Violation::Gap { conn: 1, after: 1, found: 1 }),
        ),
        (
            "a resume does not go on where it was",
            |events| events.retain(|e| !matches!(e, Event::Received { conn: 2, seq: 3, .. })),
            |v| matches!(v, Violation::Gap { conn: 2, after: 2, found: 4 }),
        ),
        (
            "what was answered first stands behind",
            |events| {
                let log = ann_log(events);
                (log[0].1, log[2].1) = (log[2].1, log[0].1);
            },
            |v| matches!(v, Violation::Order { op: 2, .. }),
        ),
        (
            "a connection saw something else than the store has",
            |events| {
                events.insert(2, Event::Received { conn: 1, seq: 1, op: Some(2) });
                events.remove(3);
            },
            |v| matches!(v, Violation::Divergent { conn: 1, seq: 1 }),
        ),
        (
            "two devices do not agree on what is read",
            |events| {
                events.push(Event::Read {
                    user: "ann".into(),
                    who: "laptop".into(),
                    read: BTreeSet::from([1, 2]),
                });
            },
            |v| matches!(v, Violation::ReadDiffers { .. }),
        ),
    ];
    for (what, plant, wanted) in faults {
        let mut events = clean();
        plant(&mut events);
        let found = check(events);
        assert!(found.iter().any(wanted), "{what}: found only {found:?}");
    }
    let mut events = clean();
    events.retain(|e| !matches!(e, Event::Received { conn: 2, seq: 4, .. }));
    let quiet = events.iter_mut().find(|e| matches!(e, Event::Quiet { conn: 2, .. })).unwrap();
    *quiet = Event::Quiet { conn: 2, seq: 3 };
    assert_eq!(check(events), BTreeSet::from([Violation::Behind { conn: 2, at: 3, head: 4 }]));
}
