//! What a send asks for (seed 003 §4.2, §4.6).

use protocol::{ActionInfo, AttachmentInfo, IdError, SenderInfo, Time, UserId};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::object;

/// A recipient as it was written: checked at once, complained about later, together with all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(pub Result<UserId, IdError>);

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Recipient;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Recipient, E> {
                Ok(Recipient(UserId::new(text)))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl From<&str> for Recipient {
    fn from(text: &str) -> Self {
        Self(UserId::new(text))
    }
}

/// A message to be sent: written out, or made from a template. An empty text where an id or a word
/// is expected means the same as leaving it out: a Go program that fills in the seed's struct sends
/// those.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SendRequest {
    /// The channel it belongs to, for lists and marks: that of its recipients where they are one
    /// channel and nothing is said.
    pub channel_id: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Content.
    pub content: Option<String>,
    /// A word such as `file_share`; `text` where nothing says otherwise.
    pub message_type: Option<String>,
    /// Who receives it. May be left out where `recipient_type` is `channel` and `channel_id` names it.
    pub recipients: Option<Vec<Recipient>>,
    /// What the recipients are: `user`, `channel`, `role`, or `all` for everybody in the tenant. Left
    /// out, each is a user if one of that id is known, else a channel, else a role, else a user not
    /// seen before.
    pub recipient_type: Option<String>,
    /// Who it is shown to come from, where a service says.
    #[serde(deserialize_with = "object::maybe")]
    pub sender: Option<SenderInfo>,
    /// The user in whose name a service sends.
    pub on_behalf_of: Option<String>,
    /// 1 to 10; the template's, else 5, where nothing is said.
    pub priority: Option<i64>,
    /// When it is to be sent. Past means now.
    pub scheduled_at: Option<Time>,
    /// After this moment it is not shown any more.
    pub expire_at: Option<Time>,
    /// In an inbox it takes the place of an unread older one of the same sender and key.
    pub collapse_key: Option<String>,
    /// Free data.
    pub metadata: Option<Map<String, Value>>,
    /// Files and links.
    #[serde(deserialize_with = "object::maybe_list")]
    pub attachments: Option<Vec<AttachmentInfo>>,
    /// Buttons.
    #[serde(deserialize_with = "object::maybe_list")]
    pub actions: Option<Vec<ActionInfo>>,
    /// The template it is made from.
    pub template_id: Option<String>,
    /// What the template is filled with.
    pub variables: Option<Map<String, Value>>,
    /// The language to take of the template: the variant of that name, else of the language without
    /// its region, else the template's own text.
    pub locale: Option<String>,
}

impl SendRequest {
    /// A written-out message to users.
    #[must_use]
    pub fn to_users(recipients: &[&str], title: &str, content: &str) -> Self {
        Self {
            title: Some(title.to_owned()),
            content: Some(content.to_owned()),
            recipients: Some(recipients.iter().map(|&id| Recipient::from(id)).collect()),
            ..Self::default()
        }
    }
}

/// Nothing and an empty text are the same.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}
