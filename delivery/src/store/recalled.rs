//! What is left of a message that was taken back.

use protocol::{Body, MessageFields};

/// A message without what its sender took back: who sent it, in which channel, of which type and
/// when stays, so that a list can show that there was something.
pub(in crate::store) fn without_content(body: &Body) -> Body {
    let facts = body.facts();
    // A body that cannot be parsed came from a damaged file; its content goes all the same.
    let fields = body.fields().unwrap_or_else(|_| MessageFields {
        id: body.id().clone(),
        channel_id: facts.channel_id.clone(),
        title: String::new(),
        content: String::new(),
        message_type: facts.message_type.clone(),
        priority: facts.priority,
        sender: facts.sender.clone(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: facts.created_at.unwrap_or_default(),
        edited_at: None,
        expire_at: body.expire_at(),
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: Vec::new(),
        actions: Vec::new(),
    });
    Body::new(&MessageFields {
        title: String::new(),
        content: String::new(),
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: Vec::new(),
        actions: Vec::new(),
        ..fields
    })
}
