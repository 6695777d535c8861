//! What a sender may change of a message: what it says and how it looks. Who receives it, from whom
//! it is and of which type are promises to its readers, and to the permissions it was sent with.

use protocol::{ActionInfo, AttachmentInfo, FieldProblem, MessageFields, Time};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    request::given,
    validate::{check_expiry, check_extras, check_lengths, check_priority},
};
use crate::{object, problems::Problems};

/// An edit. What is left out, null or an empty text stays as it is; lists and metadata are replaced
/// whole. A message made from a template is edited as what it says, not by its variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EditRequest {
    /// Title.
    pub title: Option<String>,
    /// Content.
    pub content: Option<String>,
    /// 1 to 10.
    pub priority: Option<i64>,
    /// After this moment it is not shown any more.
    pub expire_at: Option<Time>,
    /// Free data.
    pub metadata: Option<Map<String, Value>>,
    /// Files and links.
    #[serde(deserialize_with = "object::maybe_list")]
    pub attachments: Option<Vec<AttachmentInfo>>,
    /// Buttons. What was pressed stays pressed, at its index.
    #[serde(deserialize_with = "object::maybe_list")]
    pub actions: Option<Vec<ActionInfo>>,
}

impl EditRequest {
    /// The message with the changes, or none if they change nothing: a repeated edit is one edit.
    /// `scheduled_at` is for a message that still waits. Its readers have not seen what it said, so
    /// that it does not count as edited.
    ///
    /// # Errors
    /// Every problem that was found, at most [`super::limits::PROBLEMS_MAX`].
    pub fn apply(
        self,
        before: &MessageFields,
        scheduled_at: Option<Time>,
        now: Time,
    ) -> Result<Option<MessageFields>, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        check_lengths(self.title.as_deref(), self.content.as_deref(), &mut problems);
        let priority = check_priority(self.priority, &mut problems);
        check_expiry(self.expire_at, scheduled_at, now, &mut problems);
        let (attachments, actions) = (self.attachments.as_deref(), self.actions.as_deref());
        check_extras(self.metadata.as_ref(), attachments, actions, &mut problems);
        if !problems.0.is_empty() {
            return Err(problems.0);
        }
        let text = |new: Option<String>, old: &String| {
            given(new.as_ref()).map_or_else(|| old.clone(), str::to_owned)
        };
        let mut after = MessageFields {
            title: text(self.title, &before.title),
            content: text(self.content, &before.content),
            priority: priority.unwrap_or(before.priority),
            expire_at: self.expire_at.or(before.expire_at),
            metadata: self.metadata.unwrap_or_else(|| before.metadata.clone()),
            attachments: self.attachments.unwrap_or_else(|| before.attachments.clone()),
            actions: self.actions.unwrap_or_else(|| before.actions.clone()),
            ..before.clone()
        };
        if after == *before {
            return Ok(None);
        }
        if scheduled_at.is_none() {
            after.edited_at = Some(now);
        }
        Ok(Some(after))
    }
}
