//! The checker must find every fault that is planted, and nothing in a clean history.

use std::collections::BTreeSet;

use protocol::Status;

use crate::support::history::{
    ARCHIVED, Change, Event, History, READ, Register, UNREAD, Violation, What,
};

/// The users of the clean history: ann and bob, and the ann of another tenant.
const ANN: &str = "ann";
const BOB: &str = "bob";
const NAMESAKE: &str = "t2/ann";

/// A message arrives; its number is that of its operation.
fn new(seq: u64, op: u64) -> Change {
    Change { seq, message: u32::try_from(op).unwrap(), op: Some(op), what: What::Sent }
}

fn became(seq: u64, op: u64, status: Status) -> Change {
    Change { op: None, what: What::Became(status), ..new(seq, op) }
}

fn received(conn: u64, change: Change) -> Event {
    Event::Received { conn, change }
}

fn connected(conn: u64, user: &str, since: u64) -> Event {
    Event::Connected { conn, user: user.to_owned(), since }
}

fn send(op: u64, users: &[&str]) -> Event {
    Event::Send { op, users: users.iter().map(ToString::to_string).collect() }
}

fn acked(op: u64) -> Event {
    Event::Acked { op, message: Some(u32::try_from(op).unwrap()) }
}

fn mark(op: u64) -> Register {
    Register::Mark { user: ANN.to_owned(), op }
}

fn write(write: u64, register: Register, value: u64) -> Event {
    Event::Write { write, register, value }
}

fn holds(register: Register, value: u64) -> Event {
    Event::Holds { who: "node a".to_owned(), register, value }
}

fn store(user: &str, changes: &[Change]) -> Event {
    Event::Store { user: user.to_owned(), changes: changes.to_vec() }
}

fn read(who: &str, read: &[u64]) -> Event {
    let read = read.iter().copied().collect();
    Event::Read { user: ANN.to_owned(), who: who.to_owned(), read }
}

/// Two devices of ann; op 3 was never answered, op 4 was refused, op 5 was taken back.
fn clean() -> Vec<Event> {
    vec![
        connected(1, ANN, 0),
        connected(3, NAMESAKE, 0),
        send(1, &[ANN, BOB]),
        received(1, new(1, 1)),
        acked(1),
        send(2, &[ANN]),
        send(3, &[ANN]),
        send(4, &[ANN]),
        acked(2),
        Event::Refused { op: 4 },
        received(1, new(2, 3)),
        received(1, new(3, 2)),
        connected(2, ANN, 2),
        received(2, new(3, 2)),
        // Read, made unread while nobody knows of another reading, read again.
        write(10, mark(1), READ),
        Event::Written { write: 10 },
        received(1, became(4, 1, Status::Read)),
        received(2, became(4, 1, Status::Read)),
        write(11, mark(2), READ),
        write(12, mark(3), READ),
        Event::NotWritten { write: 12 },
        send(5, &[ANN]),
        acked(5),
        received(1, new(5, 5)),
        write(13, Register::Recall { op: 5 }, 1),
        Event::Written { write: 13 },
        received(1, became(6, 5, Status::Recalled)),
        // Connected late: what was taken back is not shown.
        received(2, became(5, 5, Status::Recalled)),
        received(2, became(6, 5, Status::Recalled)),
        write(14, Register::Text { op: 2 }, 1),
        Event::Written { write: 14 },
        received(1, Change { what: What::Edited, ..new(7, 2) }),
        received(2, Change { what: What::Edited, ..new(7, 2) }),
        send(6, &[NAMESAKE]),
        received(3, new(1, 6)),
        acked(6),
        Event::Confirmed { device: "phone".to_owned(), seq: 6 },
        Event::Resumed { conn: 4, user: ANN.to_owned(), device: "phone".to_owned() },
        received(4, became(6, 5, Status::Recalled)),
        received(4, Change { what: What::Edited, ..new(7, 2) }),
        Event::Quiet { conn: 1, seq: 7 },
        Event::Quiet { conn: 2, seq: 7 },
        Event::Quiet { conn: 3, seq: 1 },
        store(
            ANN,
            &[
                new(1, 1),
                new(2, 3),
                new(3, 2),
                became(4, 1, Status::Read),
                became(5, 5, Status::Recalled),
                became(6, 5, Status::Recalled),
                Change { what: What::Edited, ..new(7, 2) },
            ],
        ),
        store(BOB, &[new(1, 1)]),
        store(NAMESAKE, &[new(1, 6)]),
        read("phone", &[1]),
        read("the list", &[1]),
        holds(mark(1), READ),
        holds(mark(2), UNREAD),
        holds(mark(3), UNREAD),
        holds(Register::Recall { op: 5 }, 1),
        holds(Register::Recall { op: 2 }, 0),
        holds(Register::Text { op: 2 }, 1),
        Event::Counted { user: ANN.to_owned(), who: "node a".to_owned(), said: 2, listed: 2 },
    ]
}

fn check(events: Vec<Event>) -> BTreeSet<Violation> {
    let history = History::default();
    for event in events {
        history.note(event);
    }
    history.check()
}

fn log_of<'a>(events: &'a mut [Event], of: &str) -> &'a mut Vec<Change> {
    let log = |event: &'a mut Event| match event {
        Event::Store { user, changes } if user == of => Some(changes),
        _ => None,
    };
    events.iter_mut().find_map(log).unwrap()
}

/// The place of a change's arrival.
fn arrival(events: &[Event], of: u64, at: u64) -> usize {
    let is = |event: &Event| matches!(event, Event::Received { conn, change } if *conn == of && change.seq == at);
    events.iter().position(is).unwrap()
}

#[test]
fn a_clean_history_passes() {
    assert_eq!(check(clean()), BTreeSet::new());
}

type Fault = (&'static str, fn(&mut Vec<Event>), fn(&Violation) -> bool);

fn each_is_found(faults: &[Fault]) {
    for (what, plant, wanted) in faults {
        let mut events = clean();
        plant(&mut events);
        let found = check(events);
        assert!(found.iter().any(wanted), "{what}: found only {found:?}");
    }
}

#[test]
fn planted_faults_of_inboxes_are_found() {
    each_is_found(&[
        (
            "an acked message is gone",
            |events| log_of(events, ANN).retain(|change| change.op != Some(2)),
            |v| matches!(v, Violation::Lost { op: 2, .. }),
        ),
        (
            "an acked message is at one of its recipients only",
            |events| log_of(events, BOB).clear(),
            |v| matches!(v, Violation::Lost { op: 1, user } if user == BOB),
        ),
        (
            "a message leaks into another inbox",
            |events| log_of(events, BOB).push(new(2, 2)),
            |v| matches!(v, Violation::Foreign { op: 2, user } if user == BOB),
        ),
        (
            "a message leaks to the namesake in another tenant",
            |events| log_of(events, NAMESAKE).push(new(2, 2)),
            |v| matches!(v, Violation::Foreign { op: 2, user } if user == NAMESAKE),
        ),
        (
            "a message that nobody sent",
            |events| log_of(events, ANN).push(new(8, 99)),
            |v| matches!(v, Violation::Foreign { op: 99, .. }),
        ),
        (
            "a refused message appears",
            |events| log_of(events, ANN).push(new(8, 4)),
            |v| matches!(v, Violation::Resurrected { op: 4, .. }),
        ),
        (
            "a message is stored twice",
            |events| log_of(events, ANN).push(new(8, 1)),
            |v| matches!(v, Violation::Repeated { op: 1, .. }),
        ),
        (
            "a send with one idempotency key is stored twice",
            |events| log_of(events, ANN).push(Change { message: 77, ..new(8, 1) }),
            |v| matches!(v, Violation::Repeated { op: 1, .. }),
        ),
        (
            "the store skips a seq",
            |events| log_of(events, ANN)[3].seq = 5,
            |v| matches!(v, Violation::Hole { after: 3, found: 5, .. }),
        ),
        (
            "what was answered first stands behind",
            |events| {
                let log = log_of(events, ANN);
                (log[0].op, log[2].op) = (log[2].op, log[0].op);
                (log[0].message, log[2].message) = (log[2].message, log[0].message);
            },
            |v| matches!(v, Violation::Order { op: 2, .. }),
        ),
    ]);
}

#[test]
fn planted_faults_of_connections_are_found() {
    each_is_found(&[
        (
            "a connection skips a seq",
            |events| drop(events.remove(arrival(events, 1, 2))),
            |v| matches!(v, Violation::Gap { conn: 1, after: 1, found: 3 }),
        ),
        (
            "a connection gets a seq twice",
            |events| {
                let at = arrival(events, 1, 1);
                events.insert(at, events[at].clone());
            },
            |v| matches!(v, Violation::Gap { conn: 1, after: 1, found: 1 }),
        ),
        (
            "a connection gets two changes in the wrong order",
            |events| {
                let (one, other) = (arrival(events, 1, 2), arrival(events, 1, 3));
                events.swap(one, other);
            },
            |v| matches!(v, Violation::Gap { conn: 1, after: 3, found: 2 }),
        ),
        (
            "a resume does not go on where it was",
            |events| drop(events.remove(arrival(events, 2, 3))),
            |v| matches!(v, Violation::Gap { conn: 2, after: 2, found: 4 }),
        ),
        (
            "a device is resumed behind what it has not confirmed",
            |events| {
                events.remove(arrival(events, 4, 6));
                let is = |event: &Event| matches!(event, Event::Confirmed { .. });
                let at = events.iter().position(is).unwrap();
                events[at] = Event::Confirmed { device: "phone".to_owned(), seq: 5 };
            },
            |v| matches!(v, Violation::Skipped { conn: 4, confirmed: 5, found: 7 }),
        ),
        (
            "a connection saw something else than the store has",
            |events| {
                let at = arrival(events, 1, 1);
                events[at] = received(1, new(1, 2));
            },
            |v| matches!(v, Violation::Divergent { conn: 1, seq: 1 }),
        ),
        (
            "a connection was told another state than the store has",
            |events| {
                let at = arrival(events, 1, 4);
                events[at] = received(1, became(4, 1, Status::Unread));
            },
            |v| matches!(v, Violation::Divergent { conn: 1, seq: 4 }),
        ),
        (
            "a message goes to another user's connection",
            |events| events.insert(arrival(events, 1, 4), received(3, new(2, 2))),
            |v| matches!(v, Violation::Foreign { op: 2, user } if user == NAMESAKE),
        ),
        (
            "a connection stays behind when all is quiet",
            |events| {
                events.remove(arrival(events, 2, 7));
                let quiet = events.iter_mut().find(|e| matches!(e, Event::Quiet { conn: 2, .. }));
                *quiet.unwrap() = Event::Quiet { conn: 2, seq: 6 };
            },
            |v| matches!(v, Violation::Behind { conn: 2, at: 6, head: 7 }),
        ),
    ]);
}

#[test]
fn planted_faults_of_states_are_found() {
    each_is_found(&[
        (
            "two devices do not agree on what is read",
            |events| events.push(read("laptop", &[1, 2])),
            |v| matches!(v, Violation::ReadDiffers { .. }),
        ),
        (
            "the count of unread messages drifts",
            |events| {
                let (user, who) = (ANN.to_owned(), "node b".to_owned());
                events.push(Event::Counted { user, who, said: 3, listed: 2 });
            },
            |v| matches!(v, Violation::Miscounted { .. }),
        ),
        (
            "an acknowledged reading is lost",
            |events| events.push(holds(mark(1), UNREAD)),
            |v| matches!(v, Violation::Stale { value: UNREAD, .. }),
        ),
        (
            "a message is read that nobody read",
            |events| events.push(holds(mark(3), READ)),
            |v| matches!(v, Violation::Stale { value: READ, .. }),
        ),
        (
            "an overwritten state comes back",
            |events| {
                events.push(write(20, mark(1), UNREAD));
                events.push(Event::Written { write: 20 });
                events.push(holds(mark(1), READ));
            },
            |v| matches!(v, Violation::Stale { value: READ, .. }),
        ),
        (
            "what was archived is read again",
            |events| {
                events.push(write(20, mark(1), ARCHIVED));
                events.push(Event::Written { write: 20 });
                events.push(write(21, mark(1), READ));
                events.push(Event::Written { write: 21 });
                events.push(holds(mark(1), READ));
            },
            |v| matches!(v, Violation::Stale { value: READ, .. }),
        ),
        (
            "an edit is lost",
            |events| events.push(holds(Register::Text { op: 2 }, 0)),
            |v| matches!(v, Violation::Stale { register: Register::Text { op: 2 }, .. }),
        ),
        (
            "what was taken back is shown",
            |events| events.push(holds(Register::Recall { op: 5 }, 0)),
            |v| matches!(v, Violation::Stale { register: Register::Recall { op: 5 }, .. }),
        ),
    ]);
}

/// Of a write that was not answered nobody knows; of two at once either may be the last.
#[test]
fn what_cannot_be_known_is_no_fault() {
    let mut events = clean();
    events.push(holds(mark(2), READ));
    events.push(write(20, mark(1), READ));
    events.push(write(21, mark(1), UNREAD));
    events.push(Event::Written { write: 20 });
    events.push(Event::Written { write: 21 });
    events.push(holds(mark(1), UNREAD));
    assert_eq!(check(events), BTreeSet::new());
}
