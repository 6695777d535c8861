//! A message as clients see it, and how it is put into frames without encoding it per recipient.
//!
//! A message has two halves. [`MessageFields`] is the same for every recipient; [`MessageState`] is
//! of one inbox: its `seq`, `version` and read state. A node encodes the first half once per codec
//! ([`Body`]) and writes the second half, some 90 bytes, in front of it for each recipient. The
//! bytes are the same as if [`Message`] had been encoded whole; a test holds them together.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ChannelId, MessageId, Seq, Time, UserId};

/// What has become of a message in one inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not read.
    #[default]
    Unread,
    /// The user has read it, on any device.
    Read,
    /// Put away; counts as read.
    Archived,
    /// Taken back by its sender; the content is gone.
    Recalled,
    /// Its `expire_at` has passed; it is not shown any more.
    Expired,
    /// A newer message with the same `collapse_key` took its place while it was unread.
    Collapsed,
}

impl Status {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Read => "read",
            Self::Archived => "archived",
            Self::Recalled => "recalled",
            Self::Expired => "expired",
            Self::Collapsed => "collapsed",
        }
    }

    /// Whether it counts as unread.
    #[must_use]
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Unread)
    }
}

/// Who sent it (seed 003 §4.2 `SenderInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SenderInfo {
    /// The sender's id.
    pub id: String,
    /// `user`, `service` or `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What to show.
    #[serde(default)]
    pub name: String,
    /// URL of a picture.
    #[serde(default)]
    pub avatar: String,
    /// The service that sent it, where a service did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
}

/// A file, image, link or document that goes with the message (seed 003 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentInfo {
    /// `file`, `image`, `link` or `document`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Where to get it.
    pub url: String,
    /// Size in bytes.
    #[serde(default)]
    pub size: u64,
    /// MIME type.
    #[serde(default)]
    pub mime_type: String,
    /// URL of a small picture.
    #[serde(default)]
    pub thumbnail: String,
}

/// A button of the message (seed 003 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionInfo {
    /// `button`, `link` or `confirm`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the button says.
    pub text: String,
    /// Where a link leads.
    #[serde(default)]
    pub url: String,
    /// What the sender is told when it is pressed.
    #[serde(default)]
    pub action: String,
    /// `primary`, `secondary` or `danger`.
    #[serde(default)]
    pub style: String,
}

/// The half of a message that all its recipients share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageFields {
    /// Its id.
    pub id: MessageId,
    /// The channel it was sent in.
    pub channel_id: Option<ChannelId>,
    /// Title.
    pub title: String,
    /// Content.
    pub content: String,
    /// A word of the sender's choice, such as `text` or `file_share`.
    pub message_type: String,
    /// 1 (lowest) to 10.
    pub priority: u8,
    /// The sender's id (seed 003 §3.3).
    pub sender: String,
    /// The sender in detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_info: Option<SenderInfo>,
    /// The user in whose name a service sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<UserId>,
    /// The template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// When it was sent: accepted, or, where it was scheduled, stored in the inboxes.
    pub created_at: Time,
    /// When its sender last edited it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Time>,
    /// After this moment it is not shown any more.
    pub expire_at: Option<Time>,
    /// In an inbox a newer message of the same sender and key takes the place of an unread older
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// Free data of the sender.
    pub metadata: Map<String, Value>,
    /// Files and links.
    pub attachments: Vec<AttachmentInfo>,
    /// Buttons.
    pub actions: Vec<ActionInfo>,
}

/// The half of a message that belongs to one inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageState {
    /// Where it was created in this inbox.
    pub seq: Seq,
    /// The seq of its latest change in this inbox.
    pub version: Seq,
    /// Whether it was read.
    pub is_read: bool,
    /// What has become of it.
    pub status: Status,
    /// When it was read, where it was.
    pub read_at: Option<Time>,
}

impl MessageState {
    /// A message as it arrives: unread, at `seq`.
    #[must_use]
    pub const fn new(seq: Seq) -> Self {
        Self { seq, version: seq, is_read: false, status: Status::Unread, read_at: None }
    }
}

/// A whole message, as REST answers and `message` frames carry it (contract §5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// The inbox's half.
    #[serde(flatten)]
    pub state: MessageState,
    /// The shared half.
    #[serde(flatten)]
    pub fields: MessageFields,
}

/// The shared half, encoded: JSON always (it is also what stores keep), MessagePack when first asked.
#[derive(Debug)]
pub struct Body {
    id: MessageId,
    expire_at: Option<Time>,
    /// The object without its opening brace and with one more closing brace, `"id":…}}`: what stands
    /// behind the recipient's half in a `message` frame.
    json_tail: Bytes,
    msgpack: OnceLock<MsgPackEntries>,
    facts: OnceLock<Box<BodyFacts>>,
    /// The message itself, where this is its sealed form and was made here.
    readable: OnceLock<Arc<Body>>,
}

/// What the tail of a sealed body begins with; that of any other begins with `"id":`.
const SEALED: &[u8] = b"\"sealed\":\"";

/// What stores and statistics look at of a message, without its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BodyFacts {
    /// The channel it was sent in.
    pub channel_id: Option<ChannelId>,
    /// Its type.
    pub message_type: String,
    /// 1 to 10.
    pub priority: u8,
    /// The sender's id.
    pub sender: String,
    /// The sender in detail.
    pub sender_info: Option<SenderInfo>,
    /// The template it was made from.
    pub template_id: Option<String>,
    /// When it was accepted.
    pub created_at: Option<Time>,
    /// What a newer one replaces.
    pub collapse_key: Option<String>,
}

#[derive(Debug)]
struct MsgPackEntries {
    count: usize,
    entries: Bytes,
}

/// A stored body is not what [`Body`] wrote.
#[derive(Debug, thiserror::Error)]
#[error("stored message body is not valid")]
pub struct BodyError(#[from] serde_json::Error);

impl Body {
    /// Encodes the fields.
    ///
    /// # Panics
    /// Never: the fields have string keys only and no failing `Serialize`.
    #[must_use]
    pub fn new(fields: &MessageFields) -> Self {
        let json = serde_json::to_vec(fields).expect("message fields have string keys");
        let body = Self::from_stored(fields.id.clone(), fields.expire_at, &json);
        let facts = BodyFacts {
            channel_id: fields.channel_id.clone(),
            message_type: fields.message_type.clone(),
            priority: fields.priority,
            sender: fields.sender.clone(),
            sender_info: fields.sender_info.clone(),
            template_id: fields.template_id.clone(),
            created_at: Some(fields.created_at),
            collapse_key: fields.collapse_key.clone(),
        };
        body.facts.get_or_init(|| Box::new(facts));
        body
    }

    /// Takes a body back from a store: `json` is what [`Body::json`] gave, and id and expiry are
    /// what stands in it (stores keep both beside it, so it need not be parsed).
    #[must_use]
    pub fn from_stored(id: MessageId, expire_at: Option<Time>, json: &[u8]) -> Self {
        debug_assert_eq!(json.first(), Some(&b'{'));
        let mut tail = Vec::with_capacity(json.len());
        tail.extend_from_slice(json.get(1..).unwrap_or(b"}"));
        tail.push(b'}');
        Self::from_tail(id, expire_at, tail.into())
    }

    /// Whether it is the same message with the same content, byte by byte.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        self.id == other.id && self.json_tail == other.json_tail
    }

    /// From another node: `tail` is what [`Body::json_tail`] gave.
    pub(crate) fn from_tail(id: MessageId, expire_at: Option<Time>, tail: Bytes) -> Self {
        Self {
            id,
            expire_at,
            json_tail: tail,
            msgpack: OnceLock::new(),
            facts: OnceLock::new(),
            readable: OnceLock::new(),
        }
    }

    /// The form in which a store keeps a message whose content is encrypted: `sealed`, a text that needs no
    /// escapes in JSON, has all of it; `outer` is what may be read without a key. Whoever has `readable`, which
    /// it was made from, can be spared opening it, see [`Body::readable`].
    #[must_use]
    pub fn new_sealed(sealed: &str, outer: &MessageFields, readable: Arc<Self>) -> Self {
        let body = Self::around(sealed, outer);
        Self { readable: OnceLock::from(readable), ..body }
    }

    fn around(sealed: &str, outer: &MessageFields) -> Self {
        debug_assert!(
            sealed.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
        );
        let body = Self::new(outer);
        let mut tail = Vec::with_capacity(SEALED.len() + sealed.len() + 2 + body.json_tail.len());
        tail.extend_from_slice(SEALED);
        tail.extend_from_slice(sealed.as_bytes());
        tail.extend_from_slice(b"\",");
        tail.extend_from_slice(&body.json_tail);
        Self { json_tail: tail.into(), ..body }
    }

    /// The same message, sent at another moment: one that waited for its time. What is sealed cannot say so; the
    /// moment, in milliseconds, stands behind it and a full stop.
    ///
    /// # Errors
    /// As [`Body::fields`].
    pub fn sent_at(&self, created_at: Time) -> Result<Self, BodyError> {
        let fields = MessageFields { created_at, ..self.fields()? };
        let Some(sealed) = self.sealed() else { return Ok(Self::new(&fields)) };
        let mut parts = sealed.splitn(3, '.');
        let (key, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Ok(Self::around(&format!("{key}.{text}.{}", created_at.millis()), &fields))
    }

    /// What [`Body::new_sealed`] was given as `sealed`; none for a body that can be read as it is.
    #[must_use]
    pub fn sealed(&self) -> Option<&str> {
        let rest = self.json_tail.strip_prefix(SEALED)?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// The message that a sealed body was made from, where that was in this process.
    #[must_use]
    pub fn readable(&self) -> Option<&Arc<Self>> {
        self.readable.get()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// The moment after which it is not shown any more.
    #[must_use]
    pub fn expire_at(&self) -> Option<Time> {
        self.expire_at
    }

    /// Whether it must not be shown at `now`.
    #[must_use]
    pub fn expired(&self, now: Time) -> bool {
        self.expire_at.is_some_and(|at| at <= now)
    }

    /// The fields as one JSON object, for a store.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(self.json_tail.len());
        json.push(b'{');
        json.extend_from_slice(&self.json_tail[..self.json_tail.len() - 1]);
        json
    }

    /// Bytes held in memory, roughly: for queue limits.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.json_tail.len() + 128 + self.readable().map_or(0, |readable| readable.weight())
    }

    /// What stores look at. Kept from [`Body::new`], else parsed when first asked; empty for a body
    /// that cannot be parsed, which came from a damaged file.
    #[must_use]
    pub fn facts(&self) -> &BodyFacts {
        self.facts.get_or_init(|| serde_json::from_slice(&self.json()).unwrap_or_default())
    }

    /// The fields, parsed.
    ///
    /// # Errors
    /// [`BodyError`] when the store gave back something else than it was given.
    pub fn fields(&self) -> Result<MessageFields, BodyError> {
        Ok(serde_json::from_slice(&self.json())?)
    }

    pub(crate) fn json_tail(&self) -> &Bytes {
        &self.json_tail
    }

    /// The entries of the MessagePack map, and how many they are. A body that cannot be parsed has
    /// none: it came from a damaged file, which the store reports when it reads it.
    pub(crate) fn msgpack_entries(&self) -> (usize, &Bytes) {
        let encoded = self.msgpack.get_or_init(|| {
            let Ok(fields) = self.fields() else {
                return MsgPackEntries { count: 0, entries: Bytes::new() };
            };
            let map = rmp_serde::to_vec_named(&fields).expect("message fields have string keys");
            let (count, header) = match map[0] {
                short @ 0x80..=0x8f => (usize::from(short & 0x0f), 1),
                _ => (usize::from(u16::from_be_bytes([map[1], map[2]])), 3),
            };
            MsgPackEntries { count, entries: Bytes::from(map).slice(header..) }
        });
        (encoded.count, &encoded.entries)
    }
}
