//! What happened, and whether it may have happened.
//!
//! Clients write down what they did and saw, in one order; [`History::check`] compares that with
//! what the store says in the end. A request without an answer is "maybe", not "no". The checker has
//! tests of its own (`history_checker.rs`): each planted fault must be found.

mod connections;
mod registers;
mod sends;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::{MessageId, ServerFrame, Status};

/// A message of a test, whatever id the server gave it; it stands in the title.
pub(crate) type Op = u64;

/// A message by the server's id, as a number: see [`History::message`].
pub(crate) type Msg = u32;

/// What a change says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is new.
    Sent,
    /// It says something else now.
    Edited,
    /// Its state is this.
    Became(Status),
}

/// One change of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) seq: u64,
    pub(crate) message: Msg,
    /// What its title says; a changed state has none.
    pub(crate) op: Option<Op>,
    pub(crate) what: What,
}

/// What is overwritten, so that the last write counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Register {
    /// What a user holds of a message: a [`Status`], [`UNREAD`] at first. Archived is for good.
    Mark { user: String, op: Op },
    /// What a message says: the number of its edit, 0 at first.
    Text { op: Op },
    /// Whether a message was taken back: 0 at first, and 1 for good.
    Recall { op: Op },
}

pub(crate) const UNREAD: u64 = 0;
pub(crate) const READ: u64 = 1;
pub(crate) const ARCHIVED: u64 = 2;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A send begins.
    Send { op: Op, users: Vec<String> },
    /// It was answered 2xx, with this id where that is of interest.
    Acked { op: Op, message: Option<Msg> },
    /// It was refused for good: it must not appear.
    Refused { op: Op },
    /// A connection is up; its next change is the one after `since`.
    Connected { conn: u64, user: String, since: u64 },
    /// It was told to start again from a list.
    Reset { conn: u64 },
    /// It got a change.
    Received { conn: u64, change: Change },
    /// A connection is up that leaves it to the server where its device goes on.
    Resumed { conn: u64, user: String, device: String },
    /// A device said that everything up to here has arrived.
    Confirmed { device: String, seq: u64 },
    /// It is up, and stands here, now that everything is quiet.
    Quiet { conn: u64, seq: u64 },
    /// A write begins.
    Write { write: u64, register: Register, value: u64 },
    /// It was answered 2xx.
    Written { write: u64 },
    /// It was refused: it did not happen.
    NotWritten { write: u64 },
    /// What a register holds in the end, as somebody sees it.
    Holds { who: String, register: Register, value: u64 },
    /// The whole log of an inbox, in the end.
    Store { user: String, changes: Vec<Change> },
    /// What somebody holds for read, in the end.
    Read { user: String, who: String, read: BTreeSet<Op> },
    /// How many are unread, as the server counts and as its list has it.
    Counted { user: String, who: String, said: u64, listed: u64 },
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
    /// A device that left it to the server was not given what it had not confirmed.
    Skipped { conn: u64, confirmed: u64, found: u64 },
    /// Something was answered before this one was sent, and yet stands behind it.
    Order { op: Op, user: String },
    /// A connection saw another change at this seq than the store has.
    Divergent { conn: u64, seq: u64 },
    /// A live connection does not hold the head although all is quiet.
    Behind { conn: u64, at: u64, head: u64 },
    /// Two hold different things for read.
    ReadDiffers { user: String, one: String, other: String },
    /// A register holds what was overwritten, or what nobody wrote.
    Stale { who: String, register: Register, value: u64 },
    /// A count is not that of the list.
    Miscounted { user: String, who: String },
}

/// Events in the order in which they were written down.
pub(crate) struct History {
    began: Instant,
    events: Mutex<Vec<(Duration, Event)>>,
    messages: Mutex<HashMap<MessageId, Msg>>,
    /// The next one; 0 is nobody's.
    numbers: AtomicU64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            events: Mutex::default(),
            messages: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }
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
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A new connection.
    pub(crate) fn conn(&self) -> u64 {
        self.op()
    }

    /// The number of a message of the server's.
    pub(crate) fn message(&self, id: &MessageId) -> Msg {
        let mut messages = self.messages.lock().unwrap();
        let next = Msg::try_from(messages.len()).unwrap();
        match messages.entry(id.clone()) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(free) => *free.insert(next),
        }
    }

    /// What a frame of a log is to the checker; none for one without a seq.
    pub(crate) fn change(&self, frame: &ServerFrame) -> Option<Change> {
        let (seq, id, op, what) = match frame {
            ServerFrame::Message { seq, data, .. } => {
                let what = if data.state.seq == *seq { What::Sent } else { What::Edited };
                (seq, &data.fields.id, Some(op_of(&data.fields.title)), what)
            }
            ServerFrame::StatusUpdate { seq, data } => {
                (seq, &data.message_id, None, What::Became(data.status))
            }
            _ => return None,
        };
        Some(Change { seq: seq.0, message: self.message(id), op, what })
    }

    /// Writes down that a write begins; its number.
    pub(crate) fn write(&self, register: Register, value: u64) -> u64 {
        let write = self.op();
        self.note(Event::Write { write, register, value });
        write
    }

    /// Writes it down.
    pub(crate) fn note(&self, event: Event) {
        let mut events = self.events.lock().unwrap();
        // Inside, so that times are in the order of events.
        events.push((self.began.elapsed(), event));
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many events there are of a kind.
    pub(crate) fn count(&self, kind: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|(_, event)| kind(event)).count()
    }

    /// How many things happened.
    pub(crate) fn len(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// Which message is which, as their senders were told.
    pub(crate) fn ops(&self) -> HashMap<Msg, Op> {
        let events = self.events.lock().unwrap();
        let told = |(_, event): &(Duration, Event)| match event {
            Event::Acked { op, message: Some(message) } => Some((*message, *op)),
            _ => None,
        };
        events.iter().filter_map(told).collect()
    }

    /// How many sends were answered 2xx.
    pub(crate) fn acked(&self) -> usize {
        self.count(|event| matches!(event, Event::Acked { .. }))
    }

    /// The events that may have to do with something that is wrong, with their times.
    pub(crate) fn about(&self, violation: &Violation) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let concerned = events.iter().filter(|(_, event)| violation.concerns(event));
        concerned.map(|(at, event)| format!("{:9.3} {event:?}", at.as_secs_f64())).collect()
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
        let events: Vec<&Event> = events.iter().map(|(_, event)| event).collect();
        let store = Stores::new(&events);
        let mut found = BTreeSet::new();
        sends::check(&events, &store, &mut found);
        connections::check(&events, &store, &mut found);
        registers::check(&events, &mut found);
        check_read_state(&events, &mut found);
        found
    }
}

impl Violation {
    /// Whether it is worth reading this event to understand it.
    fn concerns(&self, event: &Event) -> bool {
        let of_message = |op: Op| match event {
            Event::Send { op: this, .. }
            | Event::Acked { op: this, .. }
            | Event::Refused { op: this } => *this == op,
            Event::Received { change, .. } => change.op == Some(op),
            _ => false,
        };
        let near = |seq: u64, this: u64| this.abs_diff(seq) <= 3;
        let of_conn = |of: u64, seq: u64| match event {
            Event::Connected { conn, .. }
            | Event::Resumed { conn, .. }
            | Event::Reset { conn }
            | Event::Quiet { conn, .. } => *conn == of,
            Event::Received { conn, change } => *conn == of && near(seq, change.seq),
            _ => false,
        };
        match self {
            Self::Lost { op, .. }
            | Self::Foreign { op, .. }
            | Self::Resurrected { op, .. }
            | Self::Repeated { op, .. }
            | Self::Order { op, .. } => of_message(*op),
            Self::Gap { conn, after: seq, .. }
            | Self::Skipped { conn, found: seq, .. }
            | Self::Divergent { conn, seq }
            | Self::Behind { conn, at: seq, .. } => of_conn(*conn, *seq),
            Self::Hole { .. } | Self::ReadDiffers { .. } | Self::Miscounted { .. } => false,
            Self::Stale { register, .. } => match event {
                Event::Write { register: this, .. } | Event::Holds { register: this, .. } => {
                    this == register
                }
                _ => false,
            },
        }
    }
}

/// The final logs, and which message is which.
struct Stores<'a> {
    logs: HashMap<&'a str, &'a [Change]>,
    /// Where a message is in an inbox.
    seqs: HashMap<(&'a str, Op), u64>,
    ops: HashMap<Msg, Op>,
}

impl<'a> Stores<'a> {
    fn new(events: &[&'a Event]) -> Self {
        let (mut logs, mut ops) = (HashMap::new(), HashMap::new());
        let mut learn = |change: &Change| {
            if let Some(op) = change.op {
                ops.insert(change.message, op);
            }
        };
        for event in events {
            match event {
                Event::Store { user, changes } => {
                    changes.iter().for_each(&mut learn);
                    logs.insert(user.as_str(), changes.as_slice());
                }
                Event::Received { change, .. } => learn(change),
                _ => {}
            }
        }
        // Last: what the sender was told is never wrong.
        for event in events {
            if let Event::Acked { op, message: Some(message) } = event {
                ops.insert(*message, *op);
            }
        }
        let mut seqs = HashMap::new();
        for (user, log) in &logs {
            for change in *log {
                if let Some(op) = ops.get(&change.message) {
                    seqs.entry((*user, *op)).or_insert(change.seq);
                }
            }
        }
        Self { logs, seqs, ops }
    }

    /// The message of a change; [`Op::MAX`] for one that nobody sent.
    fn op(&self, change: &Change) -> Op {
        self.ops.get(&change.message).copied().unwrap_or(Op::MAX)
    }
}

fn check_read_state(events: &[&Event], found: &mut BTreeSet<Violation>) {
    let mut first: HashMap<&str, (&str, &BTreeSet<Op>)> = HashMap::new();
    for event in events {
        match event {
            Event::Read { user, who, read } => {
                let (one, expected) = *first.entry(user).or_insert((who, read));
                if expected != read {
                    found.insert(Violation::ReadDiffers {
                        user: user.clone(),
                        one: one.to_owned(),
                        other: who.clone(),
                    });
                }
            }
            Event::Counted { user, who, said, listed } if said != listed => {
                found.insert(Violation::Miscounted { user: user.clone(), who: who.clone() });
            }
            _ => {}
        }
    }
}

/// What somebody holds of messages who knows nothing but frames.
#[derive(Default)]
pub(crate) struct Holding {
    ops: HashMap<MessageId, Op>,
    states: BTreeMap<MessageId, Status>,
}

impl Holding {
    /// Takes a frame in.
    pub(crate) fn take(&mut self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Message { data, .. } => {
                self.ops.insert(data.fields.id.clone(), op_of(&data.fields.title));
                self.states.insert(data.fields.id.clone(), data.state.status);
            }
            ServerFrame::StatusUpdate { data, .. } => {
                self.states.insert(data.message_id.clone(), data.status);
            }
            _ => {}
        }
    }

    /// What is read, of what is there.
    pub(crate) fn read(&self) -> BTreeSet<Op> {
        let read = |status: &Status| matches!(status, Status::Read | Status::Archived);
        let there = self.states.iter().filter(|(_, status)| read(status));
        there.filter_map(|(id, _)| self.ops.get(id)).copied().collect()
    }
}
