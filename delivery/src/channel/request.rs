//! What may be said of a channel and of its members.

use std::collections::HashSet;

use protocol::{ChannelId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ChannelError;
use crate::{
    object,
    problems::Problems,
    send::Recipient,
    store::{Channel, limits::MEMBERS_CHANGE_MAX},
};

/// Longest name, in bytes: it stands in lists.
pub const NAME_BYTES_MAX: usize = 256;

/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4 << 10;

/// Largest metadata, in bytes of JSON: it travels with every list of channels.
pub const METADATA_BYTES_MAX: usize = 16 << 10;

/// A channel to be made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewChannel {
    /// Its id; made up where none is given.
    #[serde(deserialize_with = "object::or_default")]
    pub id: String,
    /// What people call it, 1 to [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// What it is for, at most [`DESCRIPTION_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "object::or_default")]
    pub description: String,
    /// Users may join and leave by themselves.
    #[serde(deserialize_with = "object::or_default")]
    pub open: bool,
    /// Members see what was sent to it before they joined.
    #[serde(deserialize_with = "object::or_default")]
    pub history: bool,
    /// Members that joined it on a socket are shown who else did.
    #[serde(deserialize_with = "object::or_default")]
    pub presence: bool,
    /// Free data, at most [`METADATA_BYTES_MAX`] bytes of JSON.
    #[serde(deserialize_with = "object::or_default")]
    pub metadata: Map<String, Value>,
}

impl NewChannel {
    /// The id it is to have.
    pub(super) fn check_id(&self) -> Result<ChannelId, ChannelError> {
        if self.id.is_empty() {
            let made = format!("ch-{}", uuid::Uuid::now_v7().simple());
            return Ok(ChannelId::new(made).expect("a made-up id is short and plain"));
        }
        let mut problems = Problems::default();
        problems.id("id", ChannelId::new(&self.id)).ok_or(ChannelError::Invalid(problems.0))
    }

    pub(super) fn check(&self) -> Result<(), ChannelError> {
        check(Some(&self.name), Some(&self.description), Some(&self.metadata))
    }
}

/// What is to become of a channel; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelChange {
    /// See [`NewChannel::name`].
    pub name: Option<String>,
    /// See [`NewChannel::description`].
    pub description: Option<String>,
    /// See [`NewChannel::open`].
    pub open: Option<bool>,
    /// See [`NewChannel::history`].
    pub history: Option<bool>,
    /// See [`NewChannel::presence`].
    pub presence: Option<bool>,
    /// See [`NewChannel::metadata`]; replaced as a whole.
    pub metadata: Option<Map<String, Value>>,
    /// The version that the change was made for.
    pub expected_version: Option<u64>,
}

impl ChannelChange {
    pub(super) fn check(&self) -> Result<(), ChannelError> {
        check(self.name.as_deref(), self.description.as_deref(), self.metadata.as_ref())
    }

    pub(super) fn apply(&self, present: Channel) -> Channel {
        Channel {
            name: self.name.clone().unwrap_or(present.name),
            description: self.description.clone().unwrap_or(present.description),
            open: self.open.unwrap_or(present.open),
            history: self.history.unwrap_or(present.history),
            presence: self.presence.unwrap_or(present.presence),
            metadata: self.metadata.clone().unwrap_or(present.metadata),
            ..present
        }
    }
}

fn check(
    name: Option<&str>,
    description: Option<&str>,
    metadata: Option<&Map<String, Value>>,
) -> Result<(), ChannelError> {
    let mut problems = Problems::default();
    if let Some(name) = name {
        if name.trim().is_empty() {
            problems.say("name", "must not be empty");
        }
        if name.chars().any(char::is_control) {
            problems.say("name", "must not contain control characters");
        }
        problems.bytes("name", name, NAME_BYTES_MAX);
    }
    if let Some(description) = description {
        problems.bytes("description", description, DESCRIPTION_BYTES_MAX);
    }
    if let Some(metadata) = metadata {
        problems.metadata(metadata, METADATA_BYTES_MAX);
    }
    if problems.0.is_empty() { Ok(()) } else { Err(ChannelError::Invalid(problems.0)) }
}

/// Who is to be in a channel and who is not.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MembersChange {
    /// Users who are to be in it.
    #[serde(deserialize_with = "object::or_default")]
    pub join: Vec<Recipient>,
    /// Users who are not.
    #[serde(deserialize_with = "object::or_default")]
    pub leave: Vec<Recipient>,
}

impl MembersChange {
    /// Who joins and who leaves.
    pub(super) fn check(self) -> Result<(Vec<UserId>, Vec<UserId>), ChannelError> {
        let mut problems = Problems::default();
        let count = self.join.len() + self.leave.len();
        if !(1..=MEMBERS_CHANGE_MAX).contains(&count) {
            let problem = format!(
                "join and leave must have 1 to {MEMBERS_CHANGE_MAX} entries together, have {count}"
            );
            problems.say("join", problem);
            return Err(ChannelError::Invalid(problems.0));
        }
        let mut users = |path: &str, list: Vec<Recipient>| -> Vec<UserId> {
            let checked = list.into_iter().enumerate();
            checked.filter_map(|(at, user)| problems.id(&format!("{path}[{at}]"), user.0)).collect()
        };
        let (join, leave) = (users("join", self.join), users("leave", self.leave));
        let joining: HashSet<&UserId> = join.iter().collect();
        for (at, _) in leave.iter().enumerate().filter(|(_, user)| joining.contains(user)) {
            problems.say(format!("leave[{at}]"), "stands in join as well");
        }
        if problems.0.is_empty() {
            Ok((join, leave))
        } else {
            Err(ChannelError::Invalid(problems.0))
        }
    }
}
