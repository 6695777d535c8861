//! What happens to one inbox in a transaction: worked out in memory on the locked row and on the few
//! messages that it concerns, then written for all inboxes at once (`work`). No statement is here, so
//! that direct sends, what is taken over from groups, marks, edits and expiry follow one set of rules.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageState, PressedAction, Seq, Status, Time};

use super::{
    columns::{COUNTED, kind, seq, status_code},
    rows::{Content, Facts, Inbox, Logged, Message, Written},
};
use crate::store::{Accepted, Change, Mark, StatusChange, Stored, is_live};

/// What is published of a change.
#[derive(Clone, Debug)]
enum Told {
    /// The message at this place, with this content.
    Message(i64, Arc<Body>),
    Status(StatusChange),
}

/// One change that is published, and when the store was asked for it.
#[derive(Clone, Debug)]
struct Telling {
    what: Told,
    accepted: Option<Accepted>,
}

/// Who did something, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) device: Option<&'a DeviceId>,
    pub(super) at: i64,
    pub(super) accepted: &'a Accepted,
}

/// One inbox in a transaction.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) inbox: Inbox,
    /// The head as it was read.
    pub(super) before: i64,
    /// Messages that were read or are new, in the order of their places.
    pub(super) messages: Vec<Message>,
    pub(super) log: Vec<Logged>,
    told: Vec<Telling>,
    /// By how much the counts of channels change.
    pub(super) tallies: Vec<(String, [i64; COUNTED])>,
    /// Something is to be written.
    pub(super) touched: bool,
    /// `inboxes.next_expiry` must be looked up anew.
    pub(super) settled: bool,
}

impl Slot {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            before: inbox.head,
            inbox,
            messages: Vec::new(),
            log: Vec::new(),
            told: Vec::new(),
            tallies: Vec::new(),
            touched: false,
            settled: false,
        }
    }

    /// Takes a row that was read, unless it is here.
    pub(super) fn take(&mut self, message: Message) {
        if let Err(place) = self.messages.binary_search_by_key(&message.seq, |known| known.seq) {
            self.messages.insert(place, message);
        }
    }

    fn find(&self, message_seq: i64) -> Option<usize> {
        self.messages.binary_search_by_key(&message_seq, |message| message.seq).ok()
    }

    /// Whether a message is here.
    pub(super) fn has(&self, body: i64) -> bool {
        self.messages.iter().any(|message| message.body == body)
    }

    fn next_seq(&mut self) -> i64 {
        self.touched = true;
        self.inbox.head += 1;
        self.inbox.head
    }

    /// A message comes to a status (1) or goes from it (-1).
    fn count(&mut self, channel: Option<&str>, status: Status, by: i64) {
        let at = usize::try_from(status_code(status)).unwrap_or(COUNTED);
        if at >= COUNTED {
            return;
        }
        self.inbox.counts[at] += by;
        let Some(channel) = channel else { return };
        let known = self.tallies.iter().position(|(known, _)| known == channel);
        let place = known.unwrap_or_else(|| {
            self.tallies.push((channel.to_owned(), [0; COUNTED]));
            self.tallies.len() - 1
        });
        self.tallies[place].1[at] += by;
    }

    fn becomes(&mut self, place: usize, status: Status) {
        let (before, facts) = {
            let message = &mut self.messages[place];
            message.touch(Written::State);
            (std::mem::replace(&mut message.status, status), Arc::clone(&message.facts))
        };
        self.touched = true;
        self.count(facts.channel.as_deref(), before, -1);
        self.count(facts.channel.as_deref(), status, 1);
    }

    fn expires(&mut self, at: Option<i64>) {
        self.inbox.next_expiry = [self.inbox.next_expiry, at].into_iter().flatten().min();
    }

    /// A message arrives.
    pub(super) fn arrive(&mut self, content: &Content, at: i64) {
        let place = self.next_seq();
        let facts = &content.facts;
        if facts.collapse_key.is_some() {
            self.collapse(facts, place, at);
        }
        let status = if content.recalled { Status::Recalled } else { Status::Unread };
        self.messages.push(Message {
            seq: place,
            version: place,
            body: content.id,
            status,
            stored_at: at,
            read_at: None,
            gone_at: content.recalled.then_some(at),
            reread: false,
            collapse_over: false,
            facts: Arc::clone(facts),
            written: Written::New,
        });
        self.inbox.kept += 1;
        self.count(facts.channel.as_deref(), status, 1);
        self.expires(facts.expire_at);
        let what = Told::Message(place, Arc::clone(&content.body));
        self.told.push(Telling { what, accepted: content.accepted.clone() });
    }

    /// A newer message takes the place of unread ones of the same sender and key. One whose time had
    /// passed by then has expired.
    fn collapse(&mut self, newer: &Facts, at_seq: i64, at: i64) {
        for place in 0..self.messages.len() {
            let older = &self.messages[place];
            if older.status != Status::Unread
                || older.collapse_key() != newer.collapse_key.as_deref()
                || older.facts.sender != newer.sender
            {
                continue;
            }
            if older.expired(at) {
                self.becomes(place, Status::Expired);
                continue;
            }
            self.becomes(place, Status::Collapsed);
            let older = &mut self.messages[place];
            (older.version, older.gone_at, older.collapse_over) = (at_seq, Some(at), true);
        }
    }

    /// A message was edited, or taken back where there is no content. It takes its place in the log
    /// whatever has become of the message meanwhile.
    pub(super) fn rewrite(&mut self, content: &Content, recall: bool, at: i64) {
        let place = self.next_seq();
        let id = content.facts.message_id.clone();
        let kind = if recall { kind::RECALL } else { kind::EDIT };
        let found = self.messages.iter().position(|message| message.body == content.id);
        let (message_seq, status) = match found {
            // It was pruned.
            None => (0, Status::Expired),
            Some(found) => {
                if is_live(self.messages[found].status) && self.messages[found].expired(at) {
                    self.becomes(found, Status::Expired);
                }
                if recall {
                    self.recall(found, place, at);
                } else if is_live(self.messages[found].status) {
                    self.edit(found, content, place);
                }
                (self.messages[found].seq, self.messages[found].status)
            }
        };
        let time = Time::from_millis(at);
        let what = match (recall, found) {
            (false, Some(_)) => Told::Message(message_seq, Arc::clone(&content.body)),
            (false, None) => Told::Status(StatusChange::new(id.clone(), Status::Expired, time)),
            (true, _) => Told::Status(StatusChange::new(id.clone(), Status::Recalled, time)),
        };
        self.told.push(Telling { what, accepted: content.accepted.clone() });
        self.log.push(Logged {
            seq: place,
            message_seq,
            message_id: id,
            kind,
            status,
            device: None,
            at,
            action: None,
        });
    }

    fn edit(&mut self, found: usize, content: &Content, at_seq: i64) {
        let (status, before) = {
            let message = &mut self.messages[found];
            message.touch(Written::Facts);
            message.version = at_seq;
            let before = std::mem::replace(&mut message.facts, Arc::clone(&content.facts));
            (message.status, before)
        };
        self.count(before.channel.as_deref(), status, -1);
        self.count(content.facts.channel.as_deref(), status, 1);
        self.expires(content.facts.expire_at);
    }

    /// Whatever the message is its content is gone; one that could be seen is recalled from now on.
    fn recall(&mut self, found: usize, at_seq: i64, at: i64) {
        if is_live(self.messages[found].status) {
            self.becomes(found, Status::Recalled);
        }
        let message = &mut self.messages[found];
        message.touch(Written::State);
        (message.version, message.gone_at, message.collapse_over) = (at_seq, Some(at), true);
    }

    /// A message that was read is marked; the caller has seen that this changes it.
    pub(super) fn mark(&mut self, message_seq: i64, mark: Mark, by: By<'_>) {
        let became = mark.status();
        self.log_of_reader(message_seq, became, kind::MARK, None, by);
        if let Some(found) = self.find(message_seq) {
            self.messages[found].reread |= mark == Mark::Unread;
        }
    }

    /// A button is pressed; the caller has seen that it can be.
    pub(super) fn press(&mut self, message_seq: i64, action: PressedAction, by: By<'_>) {
        let found = self.find(message_seq).map(|found| &self.messages[found]);
        let archived = found.is_some_and(|message| message.status == Status::Archived);
        let became = if archived { Status::Archived } else { Status::Read };
        self.log_of_reader(message_seq, became, kind::PRESS, Some(action), by);
    }

    fn log_of_reader(
        &mut self,
        message_seq: i64,
        became: Status,
        kind: i16,
        action: Option<PressedAction>,
        By { device, at, accepted }: By<'_>,
    ) {
        let Some(found) = self.find(message_seq) else { return };
        let place = self.next_seq();
        self.becomes(found, became);
        let message = &mut self.messages[found];
        message.version = place;
        message.read_at = if became.is_read() { message.read_at.or(Some(at)) } else { None };
        let id = message.facts.message_id.clone();
        let what = Told::Status(StatusChange {
            device: device.cloned(),
            action: action.clone(),
            ..StatusChange::new(id.clone(), became, Time::from_millis(at))
        });
        self.told.push(Telling { what, accepted: Some(accepted.clone()) });
        self.log.push(Logged {
            seq: place,
            message_seq,
            message_id: id,
            kind,
            status: became,
            device: device.cloned(),
            at,
            action,
        });
    }

    /// A message is not kept any more.
    pub(super) fn forget(&mut self, channel: Option<&str>, status: Status) {
        (self.touched, self.settled) = (true, true);
        self.inbox.kept -= 1;
        self.count(channel, status, -1);
    }

    /// What is here and has expired by now becomes so.
    pub(super) fn settle(&mut self, now: i64) {
        for place in 0..self.messages.len() {
            let message = &self.messages[place];
            if is_live(message.status) && message.expired(now) {
                self.becomes(place, Status::Expired);
                self.settled = true;
            }
        }
    }

    /// What is published of this transaction: each change with what its message is by the end of it,
    /// as whoever reads it then finds it.
    pub(super) fn changes(&self) -> Vec<Stored> {
        let shown = |place: i64, body: &Arc<Body>| match self
            .find(place)
            .map(|found| &self.messages[found])
        {
            Some(message) if is_live(message.status) => {
                Change::Message { state: message.state(), body: Arc::clone(body) }
            }
            Some(message) => Change::Status(gone(message)),
            None => {
                Change::Message { state: MessageState::new(seq(place)), body: Arc::clone(body) }
            }
        };
        (self.before + 1..)
            .zip(&self.told)
            .map(|(place, told)| Stored {
                inbox: self.inbox.key.clone(),
                seq: Seq(place.cast_unsigned()),
                change: match &told.what {
                    Told::Message(of, body) => shown(*of, body),
                    Told::Status(change) => Change::Status(change.clone()),
                },
                accepted: told.accepted.clone(),
            })
            .collect()
    }
}

/// What stands in the place of a message that must not be shown any more.
pub(super) fn gone(message: &Message) -> StatusChange {
    let at = match (message.status, message.facts.expire_at) {
        (Status::Expired, Some(at)) => at,
        _ => message.gone_at.unwrap_or_default(),
    };
    let id = message.facts.message_id.clone();
    StatusChange::new(id, message.status, Time::from_millis(at))
}
