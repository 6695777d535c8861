//! Holds what was sent against what arrived: lost, duplicated, reordered, foreign.
//!
//! The ledger knows every send; each recipient's socket has one bit in it. A number per user inside
//! the content would not do: a content is shared by all recipients of a send.

use std::collections::HashSet;

use crate::scan::Stamp;

/// Most sends of one run; a record has 48 bytes, so this is 240 MB of ledger.
pub(crate) const SENDS_MAX: usize = 5_000_000;
/// Most positions remembered as skipped, to tell a late frame from a repeated one. Beyond it a late
/// frame counts as a duplicate: a run with that many holes has failed anyway.
const SKIPPED_MAX: usize = 100_000;
/// Most faults described in words.
const EXAMPLES_MAX: usize = 10;

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not answered.
    Waiting,
    /// Answered 2xx: it must arrive.
    Accepted,
    /// Refused: it must not arrive.
    Refused,
    /// The connection broke or 5xx: it may arrive.
    Unknown,
}

/// One send. Times are of [`crate::clock::now`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    /// When the schedule wanted it.
    pub(crate) scheduled: u64,
    /// When it was written.
    pub(crate) sent: u64,
    /// When the answer was read; 0 before.
    pub(crate) answered: u64,
    /// First recipient and how many neighbours.
    pub(crate) first: u32,
    /// How many neighbours receive it.
    pub(crate) count: u32,
    /// Sockets it has reached.
    pub(crate) received: u32,
    /// What became of it.
    pub(crate) outcome: Outcome,
    expected: bool,
    bits: u64,
}

/// Where one socket's inbox stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inbox {
    /// The last position seen.
    pub(crate) cursor: u64,
    /// The backlog is through: what comes now was pushed.
    pub(crate) live: bool,
    /// Its latencies count.
    pub(crate) measured: bool,
}

/// What went wrong, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// The same seq twice.
    pub(crate) duplicated: u64,
    /// A seq that was not the last one plus one.
    pub(crate) reordered: u64,
    /// A message for somebody else.
    pub(crate) foreign: u64,
    /// A frame that does not decode, or says other than we sent.
    pub(crate) corrupt: u64,
    /// One send at two seqs of one inbox.
    pub(crate) stored_twice: u64,
    /// A send that was refused and came all the same.
    pub(crate) refused_arrived: u64,
    /// The server told a client to fetch by REST.
    pub(crate) resync: u64,
}

/// The ledger and the inboxes.
pub(crate) struct Checker {
    /// Which run this is; stamps of other runs are history, not ours.
    pub(crate) run: u32,
    /// One per socket.
    pub(crate) inboxes: Vec<Inbox>,
    /// What went wrong.
    pub(crate) faults: Faults,
    /// The first faults in words.
    pub(crate) examples: Vec<String>,
    /// Deliveries of this run's sends, each socket counted.
    pub(crate) deliveries: u64,
    /// Changes of whatever origin.
    pub(crate) changes: u64,
    sends: Vec<Send>,
    reached: Vec<u64>,
    bits: u64,
    users: u32,
    devices: u32,
    owed: i64,
    skipped: HashSet<(u32, u64)>,
}

impl Checker {
    pub(crate) fn new(run: u32, users: u32, devices: u32) -> Self {
        Self {
            run,
            inboxes: vec![Inbox { measured: true, ..Inbox::default() }; (users * devices) as usize],
            faults: Faults::default(),
            examples: Vec::new(),
            deliveries: 0,
            changes: 0,
            sends: Vec::new(),
            reached: Vec::new(),
            bits: 0,
            users,
            devices,
            owed: 0,
            skipped: HashSet::new(),
        }
    }

    /// How many sends were planned.
    pub(crate) fn sends(&self) -> u64 {
        self.sends.len() as u64
    }

    /// A send.
    pub(crate) fn send(&self, send: u64) -> &Send {
        &self.sends[usize::try_from(send).expect("sends are counted in memory")]
    }

    fn send_mut(&mut self, send: u64) -> &mut Send {
        &mut self.sends[usize::try_from(send).expect("sends are counted in memory")]
    }

    /// Whether another `count` sends fit the ledger.
    pub(crate) fn has_room(&self, count: u32) -> bool {
        self.sends.len() + count as usize <= SENDS_MAX
    }

    /// A new send to `count` users from `first` on. Without `expected` nobody is online to get it.
    pub(crate) fn plan(&mut self, first: u32, count: u32, scheduled: u64, expected: bool) -> u64 {
        let bits = self.bits;
        if expected {
            self.bits += u64::from(count) * u64::from(self.devices);
            let words = usize::try_from(self.bits.div_ceil(64)).expect("bits are in memory");
            self.reached.resize(words, 0);
        }
        self.sends.push(Send {
            scheduled,
            sent: scheduled,
            answered: 0,
            first,
            count,
            received: 0,
            outcome: Outcome::Waiting,
            expected,
            bits,
        });
        self.sends() - 1
    }

    /// The send was written.
    pub(crate) fn sent(&mut self, send: u64, at: u64) {
        self.send_mut(send).sent = at;
    }

    /// The send was answered, or never will be.
    pub(crate) fn answered(&mut self, send: u64, outcome: Outcome, at: u64) {
        let devices = self.devices;
        let record = self.send_mut(send);
        record.answered = at;
        record.outcome = outcome;
        let record = *record;
        let received = record.received;
        match outcome {
            Outcome::Accepted if record.expected => {
                self.owed += i64::from(record.count * devices) - i64::from(received);
            }
            // It came before its refusal did.
            Outcome::Refused => self.faults.refused_arrived += u64::from(received),
            Outcome::Accepted | Outcome::Unknown | Outcome::Waiting => {}
        }
    }

    /// Deliveries of accepted sends that are still to come.
    pub(crate) fn owed(&self) -> u64 {
        u64::try_from(self.owed).unwrap_or(0)
    }

    /// The socket continues after `cursor`.
    pub(crate) fn begin(&mut self, socket: u32, cursor: u64, live: bool) {
        let inbox = &mut self.inboxes[socket as usize];
        inbox.cursor = cursor;
        inbox.live = live;
    }

    /// A change came; whether it is new to this socket.
    pub(crate) fn change(&mut self, socket: u32, seq: u64) -> bool {
        self.changes += 1;
        let inbox = &mut self.inboxes[socket as usize];
        let last = inbox.cursor;
        if seq == last + 1 {
            inbox.cursor = seq;
            return true;
        }
        if seq > last {
            inbox.cursor = seq;
            self.faults.reordered += 1;
            self.example(format!("socket {socket}: seq {seq} after {last}"));
            let room = SKIPPED_MAX.saturating_sub(self.skipped.len()) as u64;
            self.skipped.extend((last + 1..seq.min(last + 1 + room)).map(|seq| (socket, seq)));
            return true;
        }
        if self.skipped.remove(&(socket, seq)) {
            self.faults.reordered += 1;
            self.example(format!("socket {socket}: seq {seq} late, after {last}"));
            return true;
        }
        self.faults.duplicated += 1;
        self.example(format!("socket {socket}: seq {seq} again, after {last}"));
        false
    }

    /// A new change carries a stamp; the send it belongs to, if it is rightly here.
    pub(crate) fn deliver(&mut self, socket: u32, stamp: Stamp) -> Option<&Send> {
        if stamp.run != self.run {
            return None;
        }
        let known = usize::try_from(stamp.send).ok().and_then(|send| self.sends.get_mut(send));
        let Some(record) =
            known.filter(|send| send.first == stamp.first && send.count == stamp.count)
        else {
            self.faults.corrupt += 1;
            self.example(format!("socket {socket}: a stamp of no send: {stamp:?}"));
            return None;
        };
        let (user, device) = (socket / self.devices, socket % self.devices);
        let place = (user + self.users - record.first) % self.users;
        if place >= record.count {
            self.faults.foreign += 1;
            self.example(format!("socket {socket} of user {user}: {stamp:?}"));
            return None;
        }
        if record.expected {
            let bit = record.bits + u64::from(place) * u64::from(self.devices) + u64::from(device);
            let word = &mut self.reached[usize::try_from(bit / 64).expect("bits are in memory")];
            if *word & 1 << (bit % 64) != 0 {
                self.faults.stored_twice += 1;
                self.example(format!("socket {socket}: send {} at two seqs", stamp.send));
                return None;
            }
            *word |= 1 << (bit % 64);
            record.received += 1;
            self.deliveries += 1;
            match record.outcome {
                Outcome::Accepted => self.owed -= 1,
                Outcome::Refused => self.faults.refused_arrived += 1,
                Outcome::Waiting | Outcome::Unknown => {}
            }
        }
        Some(self.send(stamp.send))
    }

    /// Whether every socket has it.
    pub(crate) fn complete(&self, send: &Send) -> bool {
        send.expected && send.received == send.count * self.devices
    }

    /// A frame that does not say what it should.
    pub(crate) fn corrupt(&mut self, socket: u32, what: &str) {
        self.faults.corrupt += 1;
        self.example(format!("socket {socket}: {what}"));
    }

    /// Sends by what became of them: accepted, refused, unknown, waiting.
    pub(crate) fn outcomes(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for send in &self.sends {
            counts[match send.outcome {
                Outcome::Accepted => 0,
                Outcome::Refused => 1,
                Outcome::Unknown => 2,
                Outcome::Waiting => 3,
            }] += 1;
        }
        counts
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

#[cfg(test)]
mod tests;
