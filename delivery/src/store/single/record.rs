//! What the journal holds: one record for each accepted thing, the payload once however many
//! recipients it has.

use std::sync::Arc;

use protocol::{Body, ChannelId, DeviceId, MessageId, TenantId, Time, UserId};
use serde::{Deserialize, Serialize};

pub(super) use crate::store::facts::Facts;
use crate::store::{Audience, Channel, Group, Mark, SenderKey, StoredAnswer};

/// The position of a record in the journal: rising, never reused.
pub(super) type Lsn = u64;

/// A record in memory.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A message to its audience.
    Message(Arc<MessageRecord>),
    /// Another content for a message, or none any more, for all who received it.
    Rewrite(Arc<RewriteRecord>),
    /// A user's mark, decided: every target changes and takes one seq.
    Mark(Arc<MarkRecord>),
    /// A button that a user pressed, decided.
    Press(Arc<PressRecord>),
    /// An inbox begins to exist.
    Seen { tenant: TenantId, user: UserId, at: Time },
    /// A message that waits for its time; the latest with an id counts.
    Scheduled(Arc<MessageRecord>),
    /// A message that waited does so no more.
    Cancelled { tenant: TenantId, id: MessageId },
    /// The answer to a request with an `Idempotency-Key`.
    Answer(Arc<StoredAnswer>),
    /// A change of users, channels or their members.
    Directory(Arc<DirectoryRecord>),
    /// A user is forgotten.
    Forget(Arc<ForgetRecord>),
    /// Proof that the journal can be written.
    Probe,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct MessageRecord {
    pub(super) tenant: TenantId,
    pub(super) sender: SenderKey,
    /// Who receives it; users each once.
    pub(super) audience: Arc<Audience>,
    pub(super) body: Arc<Body>,
    /// When the store was asked.
    pub(super) at: Time,
    /// When it is, or was, to be sent, where it was scheduled.
    pub(super) scheduled_at: Option<Time>,
}

/// An edit or a recall.
#[derive(Clone, Debug)]
pub(super) struct RewriteRecord {
    pub(super) tenant: TenantId,
    pub(super) id: MessageId,
    /// The record of the message.
    pub(super) target: Lsn,
    /// Of the message.
    pub(super) audience: Arc<Audience>,
    pub(super) at: Time,
    /// What it says now; none for a recall.
    pub(super) body: Option<Arc<Body>>,
}

/// A decided mark. The decision is made before the record is written, with all earlier changes of
/// the inbox in its file and no other mark under way, so that replaying it needs no decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MarkRecord {
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    pub(super) device: Option<DeviceId>,
    pub(super) at: Time,
    pub(super) mark: Mark,
    /// Where the messages were created, and their ids.
    pub(super) targets: Vec<(u64, MessageId)>,
    /// What the unread count changes by.
    pub(super) unread_delta: i64,
}

/// A decided press, see [`MarkRecord`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PressRecord {
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    pub(super) device: Option<DeviceId>,
    pub(super) at: Time,
    /// Where the message was created, and its id.
    pub(super) target: (u64, MessageId),
    pub(super) index: u8,
    /// The button's callback word.
    pub(super) action: String,
    /// Whether the message was archived, which it stays; else it is read now.
    pub(super) archived: bool,
    /// What the unread count changes by.
    pub(super) unread_delta: i64,
}

/// A change of users, channels or their members, decided: whoever comes was out and whoever leaves
/// was in, so that replaying it needs no look at what was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum DirectoryRecord {
    /// A channel is this now. `since` is the record that made it; none if this one does.
    Channel { tenant: TenantId, channel: Channel, since: Option<Lsn> },
    /// A channel is gone, and all its members with it.
    ChannelGone { tenant: TenantId, id: ChannelId },
    /// Users come to a channel and leave it.
    Members { tenant: TenantId, id: ChannelId, join: Vec<UserId>, leave: Vec<UserId>, at: Time },
    /// A user is this now, and comes to groups and leaves them.
    User { tenant: TenantId, facts: Facts, join: Vec<Group>, leave: Vec<Group>, at: Time },
}

/// A user is forgotten: what is of the inbox with an earlier place in the journal is void, what has a later
/// one makes a new inbox. Decided as a [`DirectoryRecord`] is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ForgetRecord {
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    /// The groups that the user is in.
    pub(super) leave: Vec<Group>,
}

/// A record as bytes. Field names are not written: add fields at the end, kinds at the end.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    #[serde(borrow)]
    Message(EncodedMessage<'a>),
    #[serde(borrow)]
    Rewrite(EncodedRewrite<'a>),
    Mark(Arc<MarkRecord>),
    Press(Arc<PressRecord>),
    /// With unix ms.
    Seen(TenantId, UserId, i64),
    #[serde(borrow)]
    Scheduled(EncodedMessage<'a>),
    Cancelled(TenantId, MessageId),
    Answer(Arc<StoredAnswer>),
    Directory(Arc<DirectoryRecord>),
    Probe,
    Forget(Arc<ForgetRecord>),
}

#[derive(Serialize, Deserialize)]
struct EncodedMessage<'a> {
    tenant: TenantId,
    sender: SenderKey,
    audience: Arc<Audience>,
    /// Unix ms: a [`Time`] would be written as a text, for every message.
    at: i64,
    scheduled_at: Option<i64>,
    #[serde(borrow)]
    body: EncodedBody<'a>,
}

#[derive(Serialize, Deserialize)]
struct EncodedRewrite<'a> {
    tenant: TenantId,
    id: MessageId,
    target: Lsn,
    audience: Arc<Audience>,
    at: Time,
    #[serde(borrow)]
    body: Option<EncodedBody<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedBody<'a>(MessageId, Option<i64>, &'a str);

impl<'a> EncodedBody<'a> {
    fn new(body: &Body, json: &'a [u8]) -> Self {
        let json = std::str::from_utf8(json).expect("a body is JSON, and JSON is UTF-8");
        Self(body.id().clone(), body.expire_at().map(Time::millis), json)
    }

    fn decode(self) -> Arc<Body> {
        let Self(id, expire_at, json) = self;
        Arc::new(Body::from_stored(id, expire_at.map(Time::from_millis), json.as_bytes()))
    }
}

impl<'a> EncodedMessage<'a> {
    fn new(record: &MessageRecord, json: &'a [u8]) -> Self {
        Self {
            tenant: record.tenant.clone(),
            sender: record.sender.clone(),
            audience: Arc::clone(&record.audience),
            at: record.at.millis(),
            scheduled_at: record.scheduled_at.map(Time::millis),
            body: EncodedBody::new(&record.body, json),
        }
    }

    fn decode(self) -> Arc<MessageRecord> {
        Arc::new(MessageRecord {
            tenant: self.tenant,
            sender: self.sender,
            audience: self.audience,
            body: self.body.decode(),
            at: Time::from_millis(self.at),
            scheduled_at: self.scheduled_at.map(Time::from_millis),
        })
    }
}

/// A record in the journal cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("journal record {lsn} cannot be read")]
pub(super) struct RecordError {
    lsn: Lsn,
    #[source]
    source: rmp_serde::decode::Error,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let json;
        let encoded = match self {
            Self::Message(record) => {
                json = record.body.json();
                Encoded::Message(EncodedMessage::new(record, &json))
            }
            Self::Scheduled(record) => {
                json = record.body.json();
                Encoded::Scheduled(EncodedMessage::new(record, &json))
            }
            Self::Rewrite(record) => {
                json = record.body.as_ref().map(|body| body.json()).unwrap_or_default();
                Encoded::Rewrite(EncodedRewrite {
                    tenant: record.tenant.clone(),
                    id: record.id.clone(),
                    target: record.target,
                    audience: Arc::clone(&record.audience),
                    at: record.at,
                    body: record.body.as_ref().map(|body| EncodedBody::new(body, &json)),
                })
            }
            Self::Mark(mark) => Encoded::Mark(Arc::clone(mark)),
            Self::Press(press) => Encoded::Press(Arc::clone(press)),
            Self::Seen { tenant, user, at } => {
                Encoded::Seen(tenant.clone(), user.clone(), at.millis())
            }
            Self::Cancelled { tenant, id } => Encoded::Cancelled(tenant.clone(), id.clone()),
            Self::Answer(answer) => Encoded::Answer(Arc::clone(answer)),
            Self::Directory(record) => Encoded::Directory(Arc::clone(record)),
            Self::Forget(record) => Encoded::Forget(Arc::clone(record)),
            Self::Probe => Encoded::Probe,
        };
        rmp_serde::to_vec(&encoded).expect("records have no failing Serialize")
    }

    pub(super) fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Self, RecordError> {
        let encoded: Encoded<'_> =
            rmp_serde::from_slice(bytes).map_err(|source| RecordError { lsn, source })?;
        Ok(match encoded {
            Encoded::Message(record) => Self::Message(record.decode()),
            Encoded::Scheduled(record) => Self::Scheduled(record.decode()),
            Encoded::Rewrite(record) => Self::Rewrite(Arc::new(RewriteRecord {
                tenant: record.tenant,
                id: record.id,
                target: record.target,
                audience: record.audience,
                at: record.at,
                body: record.body.map(EncodedBody::decode),
            })),
            Encoded::Mark(mark) => Self::Mark(mark),
            Encoded::Press(press) => Self::Press(press),
            Encoded::Seen(tenant, user, at) => {
                Self::Seen { tenant, user, at: Time::from_millis(at) }
            }
            Encoded::Cancelled(tenant, id) => Self::Cancelled { tenant, id },
            Encoded::Answer(answer) => Self::Answer(answer),
            Encoded::Directory(record) => Self::Directory(record),
            Encoded::Forget(record) => Self::Forget(record),
            Encoded::Probe => Self::Probe,
        })
    }
}
