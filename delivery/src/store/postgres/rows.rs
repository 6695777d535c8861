//! Rows as they are in memory.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageId, MessageState, PressedAction, Status, Time};

use super::columns::{COUNTED, plain, seq};
use crate::{InboxKey, store::Accepted};

/// A locked row of `inboxes`.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    pub(super) id: i64,
    pub(super) key: InboxKey,
    pub(super) head: i64,
    pub(super) min_seq: i64,
    pub(super) kept: i64,
    /// Messages by status.
    pub(super) counts: [i64; COUNTED],
    pub(super) born_pos: i64,
    pub(super) group_pos: i64,
    pub(super) next_expiry: Option<i64>,
    /// The latest record of its tenant when it was locked.
    pub(super) tenant_pos: i64,
}

/// What columns of `messages` repeat of a body.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) message_id: MessageId,
    pub(super) channel: Option<String>,
    pub(super) message_type: String,
    pub(super) sender: String,
    pub(super) priority: i16,
    /// None for a body that does not say it.
    pub(super) created_at: Option<i64>,
    pub(super) expire_at: Option<i64>,
    pub(super) collapse_key: Option<String>,
}

impl Facts {
    pub(super) fn of(body: &Body) -> Self {
        let facts = body.facts();
        Self {
            message_id: body.id().clone(),
            channel: facts.channel_id.as_ref().map(ToString::to_string),
            message_type: plain(&facts.message_type).into_owned(),
            sender: plain(&facts.sender).into_owned(),
            priority: facts.priority.into(),
            created_at: facts.created_at.map(Time::millis),
            expire_at: body.expire_at().map(Time::millis),
            collapse_key: facts.collapse_key.as_deref().map(|key| plain(key).into_owned()),
        }
    }
}

/// A row of `bodies`.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) id: i64,
    pub(super) body: Arc<Body>,
    pub(super) facts: Arc<Facts>,
    /// Its sender took it back.
    pub(super) recalled: bool,
    /// When the store was asked, as far as that is known.
    pub(super) accepted: Option<Accepted>,
}

impl Content {
    pub(super) fn new(id: i64, body: Arc<Body>, accepted: Option<Accepted>) -> Self {
        let facts = Arc::new(Facts::of(&body));
        Self { id, body, facts, recalled: false, accepted }
    }
}

/// How a row of `messages` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is as it was read.
    AsRead,
    /// It is new.
    New,
    /// Its state is another.
    State,
    /// What it repeats of the body is another, too.
    Facts,
}

/// A row of `messages`.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) seq: i64,
    pub(super) version: i64,
    pub(super) body: i64,
    pub(super) status: Status,
    pub(super) stored_at: i64,
    pub(super) read_at: Option<i64>,
    pub(super) gone_at: Option<i64>,
    pub(super) reread: bool,
    /// No newer one takes its place any more, whatever the facts say.
    pub(super) collapse_over: bool,
    pub(super) facts: Arc<Facts>,
    pub(super) written: Written,
}

impl Message {
    pub(super) fn expired(&self, at: i64) -> bool {
        self.facts.expire_at.is_some_and(|expire_at| expire_at <= at)
    }

    pub(super) fn collapse_key(&self) -> Option<&str> {
        self.facts.collapse_key.as_deref().filter(|_| !self.collapse_over)
    }

    pub(super) fn state(&self) -> MessageState {
        MessageState {
            seq: seq(self.seq),
            version: seq(self.version),
            is_read: self.status.is_read(),
            status: self.status,
            read_at: self.read_at.map(Time::from_millis),
        }
    }

    pub(super) fn touch(&mut self, how: Written) {
        if matches!((self.written, how), (Written::AsRead, _) | (Written::State, Written::Facts)) {
            self.written = how;
        }
    }
}

/// A row of `changes`.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) seq: i64,
    pub(super) message_seq: i64,
    pub(super) message_id: MessageId,
    pub(super) kind: i16,
    pub(super) status: Status,
    pub(super) device: Option<DeviceId>,
    pub(super) at: i64,
    pub(super) action: Option<PressedAction>,
}
