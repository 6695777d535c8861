//! What the journal holds: one record for each accepted thing, the payload once however many
//! recipients it has.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageId, TenantId, Time, UserId};
use serde::{Deserialize, Serialize};

use crate::store::Mark;

/// The position of a record in the journal: rising, never reused.
pub(super) type Lsn = u64;

/// A record in memory.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A message to these users, each once.
    Message { tenant: TenantId, users: Vec<UserId>, body: Arc<Body> },
    /// A message to everyone whose inbox exists.
    Everyone { tenant: TenantId, body: Arc<Body> },
    /// A user's mark, decided: every target changes and takes one seq.
    Mark(Arc<MarkRecord>),
    /// An inbox begins to exist.
    Seen { tenant: TenantId, user: UserId },
    /// Proof that the journal can be written.
    Probe,
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

/// A record as bytes. Field names are not written: add fields at the end, kinds at the end.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    Message(TenantId, Vec<UserId>, MessageId, Option<i64>, #[serde(borrow)] &'a str),
    Everyone(TenantId, MessageId, Option<i64>, #[serde(borrow)] &'a str),
    Mark(MarkRecord),
    Seen(TenantId, UserId),
    Probe,
}

/// A record in the journal cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("journal record {lsn} cannot be read")]
pub(super) struct RecordError {
    lsn: Lsn,
    #[source]
    source: rmp_serde::decode::Error,
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("a body is JSON, and JSON is UTF-8")
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let millis = |body: &Body| body.expire_at().map(Time::millis);
        let json;
        let encoded = match self {
            Self::Message { tenant, users, body } => {
                json = body.json();
                Encoded::Message(
                    tenant.clone(),
                    users.clone(),
                    body.id().clone(),
                    millis(body),
                    text(&json),
                )
            }
            Self::Everyone { tenant, body } => {
                json = body.json();
                Encoded::Everyone(tenant.clone(), body.id().clone(), millis(body), text(&json))
            }
            Self::Mark(mark) => Encoded::Mark((**mark).clone()),
            Self::Seen { tenant, user } => Encoded::Seen(tenant.clone(), user.clone()),
            Self::Probe => Encoded::Probe,
        };
        rmp_serde::to_vec(&encoded).expect("records have no failing Serialize")
    }

    pub(super) fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Self, RecordError> {
        let encoded: Encoded<'_> =
            rmp_serde::from_slice(bytes).map_err(|source| RecordError { lsn, source })?;
        let body = |id, expire_at: Option<i64>, json: &str| {
            Arc::new(Body::from_stored(id, expire_at.map(Time::from_millis), json.as_bytes()))
        };
        Ok(match encoded {
            Encoded::Message(tenant, users, id, expire_at, json) => {
                Self::Message { tenant, users, body: body(id, expire_at, json) }
            }
            Encoded::Everyone(tenant, id, expire_at, json) => {
                Self::Everyone { tenant, body: body(id, expire_at, json) }
            }
            Encoded::Mark(mark) => Self::Mark(Arc::new(mark)),
            Encoded::Seen(tenant, user) => Self::Seen { tenant, user },
            Encoded::Probe => Self::Probe,
        })
    }
}
