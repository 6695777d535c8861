//! What the server says by itself: messages, and what became of subscriptions.
//!
//! All of it is dealt with on the task that reads from the connection, in order, without a queue: what
//! this node does not take, Redis keeps for it (`client-output-buffer-limit pubsub`), and closes the
//! connection when that is too much, which is noticed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use delivery::{
    InboxKey,
    spans::{Carried, KeyValue, Span, SpanKind, Spans, TENANT},
    store::{Accepted, Change, StatusChange, Stored},
};
use protocol::{
    StatusUpdate,
    envelope::{
        self, Changes, Connected, DecodeError, Envelope, Event, InboxChange, NodeFacts, What,
    },
};
use redis::{PushInfo, PushKind, Value};
use smallvec::SmallVec;

use super::{
    Doubt, Inbound, PresenceNews,
    devices::Verdict,
    link::Link,
    metrics::{Conflict, Strange},
    node::Node,
    outgoing::Class,
    peers::News,
};

/// Takes one push of the server.
pub(super) fn hear(node: &Arc<Node>, link: &Arc<Link>, connection: u64, push: &PushInfo) {
    match (&push.kind, &push.data[..]) {
        (
            PushKind::Message | PushKind::SMessage,
            [Value::BulkString(topic), Value::BulkString(payload)],
        ) => message(node, link, &String::from_utf8_lossy(topic), payload),
        (PushKind::Subscribe | PushKind::SSubscribe, [Value::BulkString(topic), ..]) => {
            node.interests.confirmed(&String::from_utf8_lossy(topic), connection);
        }
        // Where nobody asked for it, a slot has moved to another server.
        (PushKind::Unsubscribe | PushKind::SUnsubscribe, [Value::BulkString(topic), ..])
            if node.interests.ended(&String::from_utf8_lossy(topic), connection)
                || node.topics.is_own(&String::from_utf8_lossy(topic)) =>
        {
            link.has_moved();
        }
        (PushKind::Disconnection, _) => link.broken(connection),
        _ => {}
    }
}

fn message(node: &Arc<Node>, link: &Link, topic: &str, payload: &[u8]) {
    match read(node, payload) {
        Ok(None) => {}
        Ok(Some(envelope)) if envelope.sender == node.epoch => own(node, link, &envelope.event),
        Ok(Some(Envelope { sender, number, event })) => {
            let missing = node.missing(sender, topic, number);
            if missing > 0 {
                node.metrics.holes.increment(missing);
                node.doubt(Doubt::Hole);
            }
            node.metrics.received(event.label()).increment(1);
            others(node, link, sender, event);
        }
        Err(error) => {
            let strange = match error {
                DecodeError::Kind(_) => Strange::Kind,
                DecodeError::Version(_) => Strange::Version,
                DecodeError::TooBig | DecodeError::Malformed(_) => Strange::Malformed,
            };
            node.metrics.passed_over(strange).increment(1);
            match strange {
                Strange::Malformed => {
                    tracing::debug!(%error, "passed over what is no envelope");
                    node.doubt(Doubt::Hole);
                }
                // Each heartbeat of a newer node is one: they are doubted together.
                Strange::Version => node.newer.store(true, Ordering::Relaxed),
                // Only what older nodes need not know comes as a new kind.
                Strange::Kind | Strange::Busy => {}
            }
        }
    }
}

fn read(node: &Node, payload: &[u8]) -> Result<Option<Envelope>, DecodeError> {
    let (sender, changes) = envelope::peek(payload)?;
    // They went to who is connected here before they were published.
    if sender == node.epoch && changes {
        return Ok(None);
    }
    Envelope::decode(payload).map(Some)
}

/// What this node said, come back.
fn own(node: &Node, link: &Link, event: &Event) {
    match event {
        Event::Ping { count } => link.pong(*count, &node.metrics.round_trip),
        Event::Connected(words) => node.devices.heard_own(words),
        _ => {}
    }
}

fn others(node: &Arc<Node>, link: &Link, sender: u64, event: Event) {
    match event {
        Event::Changes(changes) => {
            node.inbound(|inbound| hand_over(inbound, changes, link.way(), &node.itself.spans));
        }
        Event::Group { tenant, pos } => node.inbound(|inbound| inbound.group(&tenant, pos)),
        Event::Connected(words) => connected(node, &words),
        Event::Presence { tenant, channel, joined, left } => {
            let news = PresenceNews::Changed { joined: &joined, left: &left };
            node.inbound(|inbound| inbound.presence(sender, &tenant, &channel, news));
        }
        Event::PresenceList { tenant, channel, users, more } => {
            let news = PresenceNews::All { users: &users, more };
            node.inbound(|inbound| inbound.presence(sender, &tenant, &channel, news));
        }
        Event::PresenceAsk { tenant, channel } => node.tell_presence(&tenant, &channel),
        Event::Revoked => node.inbound(|inbound| inbound.revoked()),
        Event::Hello(facts) | Event::Heartbeat(facts) => heartbeat(node, sender, &facts),
        Event::Goodbye { .. } => {
            node.peers.remove(sender);
            node.node_gone(sender);
        }
        Event::Inquiry(inquiry) => node.answer(sender, inquiry),
        Event::Findings(found) => node.questions.found(sender, found),
        Event::Spent(spent) => node.inbound(|inbound| inbound.spent(&spent)),
        // Of a topic that is somebody else's own.
        Event::Ping { .. } => {}
    }
}

fn heartbeat(node: &Node, sender: u64, facts: &NodeFacts) {
    node.observe(facts.clock);
    let News { first, lost } = node.peers.heard(sender, facts, std::time::Instant::now());
    if first {
        compare(node, facts);
    }
    if lost > 0 {
        tracing::debug!(node = %facts.node, lost, "another node had to drop what it had for others");
        node.doubt(Doubt::Lost);
    }
}

/// Says what two nodes of one cluster must not have in common, or must, and is found out by nobody else.
fn compare(node: &Node, other: &NodeFacts) {
    let itself = &node.itself;
    if other.node == itself.name {
        tracing::error!(
            target: "error",
            node = %itself.name,
            "another running node has the same NODE_ID: each needs its own, or operators and clients take one for the other"
        );
        node.metrics.conflicts(Conflict::NodeId).increment(1);
    }
    let Some(ours) = itself.secrets else { return };
    if other.secrets.is_some_and(|theirs| theirs != ours.tokens) {
        tracing::error!(
            target: "error",
            node = %other.node,
            "another node has another JWT_SECRET: each refuses the tokens that the other one made"
        );
        node.metrics.conflicts(Conflict::Secrets).increment(1);
    } else if other.admin.is_some_and(|theirs| theirs != ours.admin) {
        tracing::error!(
            target: "error",
            node = %other.node,
            "another node has another ADMIN_TOKEN: admins who are let in there are refused here"
        );
        node.metrics.conflicts(Conflict::AdminToken).increment(1);
    }
}

fn connected(node: &Arc<Node>, words: &Connected) {
    node.observe(words.stamp);
    match node.devices.heard(words) {
        Verdict::Nothing => {}
        Verdict::Replaced(connection) => {
            let inbox = InboxKey::new(words.tenant.clone(), words.user.clone());
            node.inbound(|inbound| inbound.replaced(&inbox, &connection));
        }
        Verdict::SayAgain(words) => {
            let inbox = InboxKey::new(words.tenant.clone(), words.user.clone());
            node.say(&node.topics.inbox(&inbox), Event::Connected(words), Class::Change);
        }
    }
}

/// Changes as the store would hand them over, in contiguous pieces; they were so long on their way.
fn hand_over(
    inbound: &dyn Inbound,
    Changes { tenant, user, changes }: Changes,
    way: Duration,
    spans: &Spans,
) {
    let began = Instant::now();
    // They end when all is written to whoever is connected here.
    let mut receiving: SmallVec<[Span; 1]> = SmallVec::new();
    let inbox = InboxKey::new(tenant, user);
    let mut piece: Vec<Stored> = Vec::with_capacity(changes.len());
    for InboxChange { seq, what, age, span } in changes {
        let change = match what {
            What::Message { state, body } => Change::Message { state, body },
            What::Status(StatusUpdate { message_id, status, device_id, at, action }) => {
                Change::Status(StatusChange { message_id, status, device: device_id, at, action })
            }
            What::InStore => {
                if !piece.is_empty() {
                    inbound.changes(&std::mem::take(&mut piece));
                }
                inbound.in_store(&inbox, seq);
                continue;
            }
        };
        let age = age.map(|age| Duration::from_micros(age).saturating_add(way));
        let mut accepted = age.and_then(Accepted::ago);
        if let (Some(accepted), Some(span)) = (&mut accepted, span)
            && let Some(traced) = spans.carried(&Carried::from(span))
        {
            let tenant = || vec![KeyValue::new(TENANT, inbox.tenant.as_str().to_owned())];
            let span = traced.delivery("bus receive", SpanKind::Consumer, began, tenant);
            accepted.trace = span.as_ref().map(|span| Arc::clone(span.traced()));
            receiving.extend(span);
        }
        piece.push(Stored { inbox: inbox.clone(), seq, change, accepted });
    }
    if !piece.is_empty() {
        inbound.changes(&piece);
    }
}
