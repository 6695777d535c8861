//! What benches send.

#![allow(dead_code, reason = "each bench uses its part")]

use protocol::{MessageFields, MessageId, Time};

/// An id as a send makes it: how ids are ordered decides what the ledger's index costs.
pub(crate) fn new_id() -> MessageId {
    MessageId::new(format!("msg-{}", uuid::Uuid::now_v7().simple())).expect("a valid id")
}

/// A plain message: what a bench wants otherwise it says.
pub(crate) fn message(id: MessageId, title: &str, content: String) -> MessageFields {
    MessageFields {
        id,
        channel_id: None,
        title: title.to_owned(),
        content,
        message_type: "text".to_owned(),
        priority: 5,
        sender: "bench".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::from_millis(1_760_000_000_000),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }
}
