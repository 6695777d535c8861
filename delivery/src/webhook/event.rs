//! What is told to services.

use std::fmt::Write as _;

use protocol::{ServiceId, TenantId, Time};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::words::words;

/// Largest body of an event, in bytes. Receipts and actions have a few hundred; one over it is
/// dropped, logged and counted.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// The kind of the event that `POST …/test` sends. Nobody subscribes to it.
pub const TEST_KIND: &str = "webhook.test";

/// Bytes of the hash that makes an event's id on the wire: 128 bits, so that two never meet.
const ID_BYTES: usize = 16;

words! {
    /// What happened to a message. The words are those of `type` on the wire.
    EventKind {
        /// Its frame went to a device of the recipient, the first that got it.
        Delivered = "message.delivered",
        /// A device confirmed it, the first that did.
        Acked = "message.acked",
        /// The recipient has read it.
        Read = "message.read",
        /// The recipient made it unread again.
        Unread = "message.unread",
        /// The recipient archived it.
        Archived = "message.archived",
        /// The recipient pressed one of its buttons.
        Action = "message.action",
    }
}

impl EventKind {
    /// A set of kinds with this one in it.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Something that a service wants to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Any text that is the same whenever this event is recorded and differs from every other
    /// event's of the service: recorded twice, also after a crash, it is one event. What receivers
    /// see is made from it and tells nothing of it.
    pub id: String,
    /// The service's tenant.
    pub tenant: TenantId,
    /// Who is told: the sender of the message.
    pub service: ServiceId,
    /// What happened.
    pub kind: EventKind,
    /// When it happened.
    pub at: Time,
    /// What `data` is on the wire; an object.
    pub data: Value,
}

impl Event {
    /// `webhook-id`: the same in every attempt and for every endpoint.
    pub(super) fn wire_id(&self) -> String {
        wire_id([self.tenant.as_str(), self.service.as_str(), &self.id])
    }

    /// The body as it is signed and sent.
    pub(super) fn body(&self) -> String {
        body(self.kind.as_str(), self.at, &self.data)
    }
}

/// Letters and digits only: the id stands in a header, in a path, and before a full stop in what is
/// signed, where one that a user could choose would let him move the stop (Standard Webhooks 1.0,
/// "Signature scheme").
pub(super) fn wire_id<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut id = "evt_".to_owned();
    for byte in &hash.finalize()[..ID_BYTES] {
        write!(id, "{byte:02x}").expect("writing to a String does not fail");
    }
    id
}

/// The body of an event (Standard Webhooks 1.0, "Payload structure").
pub(super) fn body(kind: &str, timestamp: Time, data: &Value) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        timestamp: Time,
        data: &'a Value,
    }
    serde_json::to_string(&Body { kind, timestamp, data }).expect("a tree has string keys")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(tenant: &str, service: &str, id: &str) -> Event {
        Event {
            id: id.to_owned(),
            tenant: TenantId::new(tenant).unwrap(),
            service: ServiceId::new(service).unwrap(),
            kind: EventKind::Read,
            at: Time::from_millis(1_736_937_000_250),
            data: json!({"message_id": "m"}),
        }
    }

    #[test]
    fn ids_are_fixed_plain_and_apart() {
        let id = event("default", "shop", "张三.1/2").wire_id();
        assert_eq!(id, event("default", "shop", "张三.1/2").wire_id());
        assert!(id.len() == 36 && id[4..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        for other in [
            ("default", "shop", "张三.1/3"),
            ("default", "sho", "p张三.1/2"),
            ("t", "shop", "张三.1/2"),
        ] {
            assert_ne!(id, event(other.0, other.1, other.2).wire_id());
        }
    }

    #[test]
    fn the_body_is_that_of_the_standard() {
        assert_eq!(
            event("t", "s", "e").body(),
            r#"{"type":"message.read","timestamp":"2025-01-15T10:30:00.25Z","data":{"message_id":"m"}}"#
        );
    }

    #[test]
    fn every_kind_has_its_own_bit() {
        let all = EventKind::ALL.iter().fold(0, |set, kind| {
            assert_eq!(set & kind.bit(), 0);
            set | kind.bit()
        });
        assert_eq!(all.count_ones() as usize, EventKind::WORDS.len());
    }
}
