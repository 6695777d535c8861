//! Envelopes to bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    BODY_BYTES_MAX, CHANGES_MAX, Changes, Connected, ENVELOPE_BYTES_MAX, Envelope, Event,
    InboxChange, NodeAbout, NodeFacts, SPAN_BYTES, SPENT_MAX, Spent, USERS_MAX, VERSION, What,
    form,
    inquiry::{write_findings, write_inquiry},
    kind,
    pack::Writer,
};
use crate::{Body, MessageState, Status, StatusUpdate, Time, UserId};

/// Bytes of an envelope that are neither body nor text: for the first allocation.
const OVERHEAD: usize = 96;

/// About the bytes of what is found of one connection.
const FACTS_BYTES: usize = 256;

/// Bytes of a caller in [`Event::Spent`], mostly: of a key nine.
const SPENT_BYTES: usize = 16;

impl Envelope {
    /// As bytes. Bodies over [`BODY_BYTES_MAX`] are left out ([`What::InStore`]), and users of a list
    /// over [`USERS_MAX`], which is then marked as incomplete, and connections over
    /// [`super::CONNECTIONS_MAX`]. Changes must have gone through [`Changes::split`], a
    /// [`Event::Presence`] name at most [`USERS_MAX`] users on each side, and a [`Event::Spent`] at most
    /// [`SPENT_MAX`] callers.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let body = match &self.event {
            Event::Changes(changes) => changes.changes.iter().map(weight).sum(),
            Event::Presence { .. } | Event::PresenceList { .. } => 1 << 10,
            Event::Findings(findings) => findings.connections.len() * FACTS_BYTES,
            Event::Spent(spent) => spent.len() * SPENT_BYTES,
            _ => 0,
        };
        let mut out = Writer(Vec::with_capacity(OVERHEAD + body));
        out.array(5);
        out.uint(VERSION);
        out.uint(number(&self.event));
        out.uint(self.sender);
        out.uint(self.number);
        payload(&mut out, &self.event);
        Bytes::from(out.0)
    }
}

impl Changes {
    /// In pieces that keep to the limits of an envelope.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let weight_of_all: usize = self.changes.iter().map(weight).sum();
        if self.changes.len() <= CHANGES_MAX && weight_of_all <= ENVELOPE_BYTES_MAX / 2 {
            return vec![self];
        }
        let Self { tenant, user, changes } = self;
        let mut pieces = vec![Vec::new()];
        let mut bytes = 0;
        for change in changes {
            let weight = weight(&change);
            let last = pieces.last_mut().expect("there is always one");
            if last.len() < CHANGES_MAX
                && (last.is_empty() || bytes + weight <= ENVELOPE_BYTES_MAX / 2)
            {
                bytes += weight;
                last.push(change);
            } else {
                bytes = weight;
                pieces.push(vec![change]);
            }
        }
        let piece = |changes| Self { tenant: tenant.clone(), user: user.clone(), changes };
        pieces.into_iter().map(piece).collect()
    }
}

/// About the bytes that a change takes.
fn weight(change: &InboxChange) -> usize {
    match &change.what {
        What::Message { body, .. } if body.json_tail().len() <= BODY_BYTES_MAX => {
            body.json_tail().len() + 200
        }
        What::Status(_) => 600,
        What::Message { .. } | What::InStore => 16,
    }
}

const fn number(event: &Event) -> u64 {
    match event {
        Event::Changes(_) => kind::CHANGES,
        Event::Group { .. } => kind::GROUP,
        Event::Connected(_) => kind::CONNECTED,
        Event::Presence { .. } => kind::PRESENCE,
        Event::PresenceList { .. } => kind::PRESENCE_LIST,
        Event::PresenceAsk { .. } => kind::PRESENCE_ASK,
        Event::Revoked => kind::REVOKED,
        Event::Hello(_) => kind::HELLO,
        Event::Heartbeat(_) => kind::HEARTBEAT,
        Event::Goodbye { .. } => kind::GOODBYE,
        Event::Ping { .. } => kind::PING,
        Event::Inquiry(_) => kind::INQUIRY,
        Event::Findings(_) => kind::FINDINGS,
        Event::Spent(_) => kind::SPENT,
    }
}

fn payload(out: &mut Writer, event: &Event) {
    match event {
        Event::Changes(changes) => write_changes(out, changes),
        Event::Group { tenant, pos } => {
            out.array(2);
            out.str(tenant.as_str());
            out.uint(*pos);
        }
        Event::Connected(Connected { tenant, user, device, connection, stamp, again }) => {
            out.array(6);
            out.str(tenant.as_str());
            out.str(user.as_str());
            out.str(device.as_str());
            out.str(connection.as_str());
            out.uint(*stamp);
            out.bool(*again);
        }
        Event::Presence { tenant, channel, joined, left } => {
            out.array(4);
            out.str(tenant.as_str());
            out.str(channel.as_str());
            write_users(out, joined);
            write_users(out, left);
        }
        Event::PresenceList { tenant, channel, users, more } => {
            out.array(4);
            out.str(tenant.as_str());
            out.str(channel.as_str());
            write_users(out, users);
            out.bool(*more || users.len() > USERS_MAX);
        }
        Event::PresenceAsk { tenant, channel } => {
            out.array(2);
            out.str(tenant.as_str());
            out.str(channel.as_str());
        }
        Event::Revoked => out.array(0),
        Event::Hello(NodeFacts { node, clock, lost, connections, secrets, about, admin })
        | Event::Heartbeat(NodeFacts { node, clock, lost, connections, secrets, about, admin }) => {
            out.array(7);
            out.str(node.as_str());
            out.uint(*clock);
            out.uint(*lost);
            write_optional(out, *connections);
            write_optional(out, *secrets);
            match about {
                Some(about) => write_about(out, about),
                None => out.nil(),
            }
            write_optional(out, *admin);
        }
        Event::Goodbye { node } => {
            out.array(1);
            out.str(node.as_str());
        }
        Event::Ping { count } => {
            out.array(1);
            out.uint(*count);
        }
        Event::Inquiry(inquiry) => write_inquiry(out, inquiry),
        Event::Findings(findings) => write_findings(out, findings),
        Event::Spent(spent) => {
            debug_assert!(spent.len() <= SPENT_MAX);
            out.array(1);
            out.array(spent.len());
            for Spent { scope, key, nanos } in spent {
                out.array(3);
                out.uint(*scope);
                out.uint(*key);
                out.uint(*nanos);
            }
        }
    }
}

fn write_optional(out: &mut Writer, number: Option<u64>) {
    match number {
        Some(number) => out.uint(number),
        None => out.nil(),
    }
}

fn write_about(out: &mut Writer, NodeAbout { role, version, started_at, draining }: &NodeAbout) {
    out.array(4);
    out.str(role);
    out.str(version);
    out.int(started_at.millis());
    out.bool(*draining);
}

/// `[tenant, user, bodies, changes]`. A body stands once, however many changes show it.
fn write_changes(out: &mut Writer, changes: &Changes) {
    let mut bodies: Vec<&Arc<Body>> = Vec::new();
    for change in &changes.changes {
        if let What::Message { body, .. } = &change.what
            && body.json_tail().len() <= BODY_BYTES_MAX
            && !bodies.iter().any(|known| Arc::ptr_eq(known, body))
        {
            bodies.push(body);
        }
    }
    out.array(4);
    out.str(changes.tenant.as_str());
    out.str(changes.user.as_str());
    out.array(bodies.len());
    for body in &bodies {
        out.array(3);
        out.str(body.id().as_str());
        write_time(out, body.expire_at());
        out.bin(body.json_tail());
    }
    out.array(changes.changes.len());
    for InboxChange { seq, what, age, span } in &changes.changes {
        let place = |body| bodies.iter().position(|known| Arc::ptr_eq(known, body));
        match what {
            What::Message { state, body } => match place(body) {
                Some(place) => {
                    write_message(out, seq.0, state, place, told(*age, *span));
                    write_told(out, *age, *span);
                }
                None => write_in_store(out, seq.0),
            },
            What::Status(StatusUpdate { message_id, status, device_id, at, action }) => {
                out.array(7 + told(*age, *span));
                out.uint(seq.0);
                out.uint(form::STATUS);
                out.str(message_id.as_str());
                out.uint(status_number(*status));
                match device_id {
                    Some(device) => out.str(device.as_str()),
                    None => out.nil(),
                }
                out.int(at.millis());
                match action {
                    Some(action) => {
                        out.array(2);
                        out.uint(action.index.into());
                        out.str(&action.action);
                    }
                    None => out.nil(),
                }
                write_told(out, *age, *span);
            }
            What::InStore => write_in_store(out, seq.0),
        }
    }
}

fn write_message(out: &mut Writer, seq: u64, state: &MessageState, body: usize, more: usize) {
    out.array(8 + more);
    out.uint(seq);
    out.uint(form::MESSAGE);
    out.uint(body as u64);
    out.uint(state.seq.0);
    out.uint(state.version.0);
    out.bool(state.is_read);
    out.uint(status_number(state.status));
    write_time(out, state.read_at);
}

/// How many elements [`write_told`] adds.
fn told(age: Option<u64>, span: Option<[u8; SPAN_BYTES]>) -> usize {
    match (age, span) {
        (None, _) => 0,
        (Some(_), None) => 1,
        (Some(_), Some(_)) => 2,
    }
}

/// What a newer version has added at the end of a change.
fn write_told(out: &mut Writer, age: Option<u64>, span: Option<[u8; SPAN_BYTES]>) {
    let Some(age) = age else { return };
    out.uint(age);
    span.iter().for_each(|span| out.bin(span));
}

fn write_in_store(out: &mut Writer, seq: u64) {
    out.array(2);
    out.uint(seq);
    out.uint(form::IN_STORE);
}

fn write_users(out: &mut Writer, users: &[UserId]) {
    let users = &users[..users.len().min(USERS_MAX)];
    out.array(users.len());
    users.iter().for_each(|user| out.str(user.as_str()));
}

fn write_time(out: &mut Writer, time: Option<Time>) {
    match time {
        Some(time) => out.int(time.millis()),
        None => out.nil(),
    }
}

pub(super) const STATUSES: [Status; 6] = [
    Status::Unread,
    Status::Read,
    Status::Archived,
    Status::Recalled,
    Status::Expired,
    Status::Collapsed,
];

const fn status_number(status: Status) -> u64 {
    match status {
        Status::Unread => 0,
        Status::Read => 1,
        Status::Archived => 2,
        Status::Recalled => 3,
        Status::Expired => 4,
        Status::Collapsed => 5,
    }
}
