//! What happened, and whether it may have happened.
//!
//! Clients write down what they did and saw, in one order; [`History::check`] compares that with
//! what the store says in the end. A request without an answer is "maybe", not "no". The checker has
//! tests of its own (`history_checker.rs`): each planted fault must be found.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A message of a test, whatever id the server gave it; it stands in the title.
pub(crate) type Op = u64;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A send begins.
    Send { op: Op, users: Vec<String> },
    /// It was answered 2xx.
    Acked { op: Op },
    /// It was refused for good: it must not appear.
    Refused { op: Op },
    /// A connection is up; its next change is the one after `since`.
    Connected { conn: u64, user: String, since: u64 },
    /// It was told to start again from a list.
    Reset { conn: u64 },
    /// It got a change; `op` for a message, none for a changed state.
    Received { conn: u64, seq: u64, op: Option<Op> },
    /// It is up, and stands here, now that everything is quiet.
    Quiet { conn: u64, seq: u64 },
    /// The whole log of an inbox, in the end.
    Store { user: String, changes: Vec<(u64, Option<Op>)> },
    /// What somebody holds for read, in the end.
    Read { user: String, who: String, read: BTreeSet<Op> },
}

/// What must not have happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// An acked message is not in the inbox.
    Lost { op: Op, user: String },
    /// A message reached somebody it was not for, or nobody sent it.
    Foreign { op: Op, user: String },
    /// A refused message is there.
    Resurrected { op: Op, user: String },
    /// A message is in an inbox twice.
    Repeated { op: Op, user: String },
    /// The store's log skips or repeats a seq.
    Hole { user: String, after: u64, found: u64 },
    /// A connection skips or repeats a seq, its first one after a resume included.
    Gap { conn: u64, after: u64, found: u64 },
    /// Something was answered before this one was sent, and yet stands behind it.
    Order { op: Op, user: String },
    /// A connection saw another change at this seq than the store has.
    Divergent { conn: u64, seq: u64 },
    /// A live connection does not hold the head although all is quiet.
    Behind { conn: u64, at: u64, head: u64 },
    /// Two hold different things for read.
    ReadDiffers { user: String, one: String, other: String },
}

/// Events in the order in which they were written down.
#[derive(Default)]
pub(crate) struct History {
    events: Mutex<Vec<Event>>,
    ops: AtomicU64,
    conns: AtomicU64,
}

/// The title of a message.
pub(crate) fn title(op: Op) -> String {
    format!("op-{op}")
}

/// The message of a title.
pub(crate) fn op_of(title: &str) -> Op {
    title.strip_prefix("op-").and_then(|op| op.parse().ok()).unwrap_or(Op::MAX)
}

impl History {
    /// A new message.
    pub(crate) fn op(&self) -> Op {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    /// A new connection.
    pub(crate) fn conn(&self) -> u64 {
        self.conns.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes it down.
    pub(crate) fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    /// How many events there are of a kind.
    pub(crate) fn count(&self, kind: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| kind(event)).count()
    }

    /// How many sends were answered 2xx.
    pub(crate) fn acked(&self) -> usize {
        self.count(|event| matches!(event, Event::Acked { .. }))
    }

    /// Fails with what is wrong.
    pub(crate) fn assert_clean(&self) {
        let violations = self.check();
        let first: Vec<_> = violations.iter().take(10).collect();
        assert!(violations.is_empty(), "{} violations, first: {first:#?}", violations.len());
    }

    /// Everything that is wrong, each once.
    pub(crate) fn check(&self) -> BTreeSet<Violation> {
        let events = self.events.lock().unwrap();
        let store = Stores::new(&events);
        let mut found = BTreeSet::new();
        check_sends(&events, &store, &mut found);
        check_connections(&events, &store, &mut found);
        check_read_state(&events, &mut found);
        found
    }
}

/// The final logs: by user and seq, and by user and message.
struct Stores<'a> {
    logs: HashMap<&'a str, &'a [(u64, Option<Op>)]>,
    seqs: HashMap<(&'a str, Op), u64>,
}

impl<'a> Stores<'a> {
    fn new(events: &'a [Event]) -> Self {
        let mut stores = Self { logs: HashMap::new(), seqs: HashMap::new() };
        for event in events {
            if let Event::Store { user, changes } = event {
                stores.logs.insert(user, changes);
                for (seq, op) in changes {
                    if let Some(op) = op {
                        stores.seqs.entry((user, *op)).or_insert(*seq);
                    }
                }
            }
        }
        stores
    }
}

fn check_sends(events: &[Event], store: &Stores<'_>, found: &mut BTreeSet<Violation>) {
    let mut sent: HashMap<Op, &[String]> = HashMap::new();
    let mut refused: HashSet<Op> = HashSet::new();
    // Per user, the highest seq of what was answered so far: what is sent now comes behind it.
    let mut floor: HashMap<&str, u64> = HashMap::new();
    for event in events {
        match event {
            Event::Send { op, users } => {
                sent.insert(*op, users);
                for user in users {
                    if let Some(seq) = store.seqs.get(&(user.as_str(), *op))
                        && floor.get(user.as_str()).is_some_and(|floor| seq < floor)
                    {
                        found.insert(Violation::Order { op: *op, user: user.clone() });
                    }
                }
            }
            Event::Acked { op } => {
                for user in sent.get(op).copied().unwrap_or_default() {
                    match store.seqs.get(&(user.as_str(), *op)) {
                        Some(seq) => {
                            let floor = floor.entry(user).or_default();
                            *floor = (*floor).max(*seq);
                        }
                        None if store.logs.contains_key(user.as_str()) => {
                            found.insert(Violation::Lost { op: *op, user: user.clone() });
                        }
                        None => {}
                    }
                }
            }
            Event::Refused { op } => {
                refused.insert(*op);
            }
            _ => {}
        }
    }
    for (&user, log) in &store.logs {
        let (mut last, mut seen) = (0, HashSet::new());
        for (seq, op) in *log {
            let user = user.to_owned();
            if *seq != last + 1 {
                found.insert(Violation::Hole { user: user.clone(), after: last, found: *seq });
            }
            last = *seq;
            let Some(op) = *op else { continue };
            if !seen.insert(op) {
                found.insert(Violation::Repeated { op, user: user.clone() });
            }
            if refused.contains(&op) {
                found.insert(Violation::Resurrected { op, user: user.clone() });
            }
            if !sent.get(&op).is_some_and(|users| users.contains(&user)) {
                found.insert(Violation::Foreign { op, user });
            }
        }
    }
}

fn check_connections(events: &[Event], store: &Stores<'_>, found: &mut BTreeSet<Violation>) {
    struct Conn<'a> {
        user: &'a str,
        last: u64,
    }
    let mut conns: HashMap<u64, Conn<'_>> = HashMap::new();
    for event in events {
        match event {
            Event::Connected { conn, user, since } => {
                conns.insert(*conn, Conn { user, last: *since });
            }
            Event::Reset { conn } => {
                conns.remove(conn);
            }
            Event::Received { conn, seq, op } => {
                let Some(at) = conns.get_mut(conn) else { continue };
                if *seq != at.last + 1 {
                    found.insert(Violation::Gap { conn: *conn, after: at.last, found: *seq });
                }
                at.last = *seq;
                let Some(log) = store.logs.get(at.user) else { continue };
                // The log is dense, or a hole was reported above.
                let stored =
                    usize::try_from(*seq).ok().and_then(|seq| log.get(seq.wrapping_sub(1)));
                if stored.is_none_or(|(_, stored)| stored != op) {
                    found.insert(Violation::Divergent { conn: *conn, seq: *seq });
                }
            }
            Event::Quiet { conn, seq } => {
                let Some(at) = conns.get(conn) else { continue };
                let head = store.logs.get(at.user).and_then(|log| log.last()).map_or(0, |c| c.0);
                if *seq != head {
                    found.insert(Violation::Behind { conn: *conn, at: *seq, head });
                }
            }
            _ => {}
        }
    }
}

fn check_read_state(events: &[Event], found: &mut BTreeSet<Violation>) {
    let mut first: HashMap<&str, (&str, &BTreeSet<Op>)> = HashMap::new();
    for event in events {
        if let Event::Read { user, who, read } = event {
            let (one, expected) = *first.entry(user).or_insert((who, read));
            if expected != read {
                found.insert(Violation::ReadDiffers {
                    user: user.clone(),
                    one: one.to_owned(),
                    other: who.clone(),
                });
            }
        }
    }
}
