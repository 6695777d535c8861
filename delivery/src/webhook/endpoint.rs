//! Endpoints: where a service wants to hear of what.

use protocol::{FieldProblem, ServiceId, TenantId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EventKind,
    client::Outcome,
    secret::{Secret, SecretTimes},
};
use crate::{
    object,
    outbound::{Allowed, Target},
    words::words,
};

/// Most endpoints of a service: each event is kept once for each that wants it.
pub const ENDPOINTS_PER_SERVICE_MAX: usize = 10;

/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 256;

/// The word in `events` for every kind there is, now and later.
pub const ALL_EVENTS: &str = "*";

words! {
    /// Whether events are sent to an endpoint.
    WebhookStatus {
        /// They are.
        Active = "active",
        /// They are not, and no new ones are kept for it.
        Disabled = "disabled",
    }
}

words! {
    /// Who or what disabled an endpoint.
    DisabledBy {
        /// The service itself.
        Service = "service",
        /// An admin; only an admin can enable it again.
        Admin = "admin",
        /// Every attempt failed for days.
        Failures = "failures",
        /// The other side answered 410.
        Gone = "gone",
    }
}

impl DisabledBy {
    /// A sentence for people.
    const fn reason(self) -> &'static str {
        match self {
            Self::Service => "the service disabled it",
            Self::Admin => "an admin disabled it",
            Self::Failures => "every attempt failed for five days",
            Self::Gone => "it answered 410 Gone",
        }
    }
}

/// An endpoint as a service wants it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Where to: `https://`, without user name, password and fragment.
    pub url: String,
    /// Words of [`EventKind`], or [`ALL_EVENTS`] alone.
    pub events: Vec<String>,
    /// What it is for, at most [`DESCRIPTION_BYTES_MAX`] bytes.
    #[serde(default, deserialize_with = "object::or_default")]
    pub description: String,
}

/// The same, checked.
pub(super) struct Checked {
    pub(super) target: Target,
    pub(super) events: Vec<&'static str>,
    pub(super) description: String,
}

impl NewWebhook {
    /// Checks every field.
    pub(super) fn check(self, allowed: &Allowed) -> Result<Checked, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: String, problem: String| problems.push(FieldProblem { path, problem });
        let target = Target::parse(&self.url, allowed)
            .map_err(|problem| say("url".to_owned(), problem))
            .ok();
        let most = EventKind::WORDS.len();
        if self.events.is_empty() || self.events.len() > most {
            say("events".to_owned(), format!("must have 1 to {most} entries"));
        }
        let mut events = Vec::new();
        for (index, word) in self.events.iter().enumerate().take(most) {
            let path = format!("events[{index}]");
            match EVENT_WORDS.iter().find(|known| **known == word) {
                Some(&ALL_EVENTS) if self.events.len() > 1 => {
                    say(path, format!("{ALL_EVENTS} must stand alone"));
                }
                Some(known) if events.contains(known) => {
                    say(path, "is there twice".to_owned());
                }
                Some(known) => events.push(*known),
                None => say(path, format!("must be one of {}", EVENT_WORDS.join(", "))),
            }
        }
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            let problem = format!("must have at most {DESCRIPTION_BYTES_MAX} bytes");
            say("description".to_owned(), problem);
        }
        if self.description.chars().any(char::is_control) {
            say("description".to_owned(), "must not contain control characters".to_owned());
        }
        match target {
            Some(target) if problems.is_empty() => {
                Ok(Checked { target, events, description: self.description })
            }
            _ => Err(problems),
        }
    }
}

/// Every word that `events` may have.
pub const EVENT_WORDS: [&str; EventKind::WORDS.len() + 1] = {
    let mut words = [ALL_EVENTS; EventKind::WORDS.len() + 1];
    let mut index = 0;
    while index < EventKind::WORDS.len() {
        words[index + 1] = EventKind::WORDS[index];
        index += 1;
    }
    words
};

/// The kinds that words stand for. A word of a newer version of this program stands for none.
pub(super) fn kinds<'a>(words: impl IntoIterator<Item = &'a str>) -> u16 {
    words.into_iter().fold(0, |set, word| match (word, word.parse::<EventKind>()) {
        (ALL_EVENTS, _) => u16::MAX,
        (_, Ok(kind)) => set | kind.bit(),
        (_, Err(_)) => set,
    })
}

/// An endpoint in memory: what recording and sending need. It is replaced, never changed.
pub(super) struct Endpoint {
    pub(super) key: i64,
    pub(super) id: String,
    pub(super) tenant: TenantId,
    pub(super) service: ServiceId,
    /// Which one its service is in.
    pub(super) share: usize,
    /// None where the settings of today do not allow the URL any more.
    pub(super) target: Option<Target>,
    pub(super) kinds: u16,
    pub(super) active: bool,
    /// When url, events or description were last changed.
    pub(super) updated_at: Time,
    /// Newest first.
    pub(super) secrets: Vec<Secret>,
}

/// An endpoint as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// Whose.
    pub service_id: ServiceId,
    /// Where to, as it was understood: the host in lower case and in punycode, the path escaped.
    pub url: String,
    /// What it hears of: kinds of events, or `*` alone for all of them.
    pub events: Vec<String>,
    /// What it is for.
    pub description: String,
    /// Whether events are sent to it.
    pub status: WebhookStatus,
    /// Why not; null while it is active.
    pub disabled: Option<Disabled>,
    /// When it was made.
    pub created_at: Time,
    /// When url, events or description were last changed.
    pub updated_at: Time,
    /// Its secrets, newest first, without what they are.
    pub secrets: Vec<SecretTimes>,
    /// Events on their way.
    pub pending: u64,
    /// Events that were delivered, as far as the history goes.
    pub delivered: u64,
    /// Dead letters, as far as the history goes.
    pub failed: u64,
    /// Events for which there was no room, ever.
    pub dropped: u64,
    /// When there was last no room for one.
    pub dropped_at: Option<Time>,
    /// Since when every attempt failed; null after a success.
    pub failing_since: Option<Time>,
    /// The latest success.
    pub last_success_at: Option<Time>,
    /// The latest failure.
    pub last_failure_at: Option<Time>,
    /// What the latest failure was.
    pub last_failure: Option<Outcome>,
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "WebhookDisabled")]
pub struct Disabled {
    /// By whom or what.
    pub by: DisabledBy,
    /// The same, for people.
    pub reason: &'static str,
    /// Since when.
    pub at: Time,
}

impl Disabled {
    pub(super) fn new(by: DisabledBy, at: Time) -> Self {
        Self { by, reason: by.reason(), at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Networks;

    fn new(url: &str, events: &[&str], description: &str) -> NewWebhook {
        NewWebhook {
            url: url.to_owned(),
            events: events.iter().map(|&word| word.to_owned()).collect(),
            description: description.to_owned(),
        }
    }

    fn paths(new: NewWebhook) -> Vec<String> {
        let problems = new.check(&Allowed::Named(Networks::default())).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn every_mistake_is_told() {
        let url = "https://example.com/";
        assert_eq!(paths(new(url, &["*"], "")), [""; 0]);
        assert_eq!(paths(new(url, EventKind::WORDS, "收据")), [""; 0]);
        assert_eq!(paths(new("x", &[], &"d".repeat(257))), ["url", "events", "description"]);
        assert_eq!(paths(new(url, &["*", "message.read"], "a\nb")), ["events[0]", "description"]);
        assert_eq!(paths(new(url, &["message.read", "message.read"], "")), ["events[1]"]);
        assert_eq!(
            paths(new(url, &["message.raed", "webhook.test"], "")),
            ["events[0]", "events[1]"]
        );
        assert_eq!(paths(new(url, &["x"; 100], "")).len(), 1 + EventKind::WORDS.len());
    }

    #[test]
    fn words_stand_for_kinds() {
        assert_eq!(kinds(["message.read", "message.of_the_future"]), EventKind::Read.bit());
        for &kind in EventKind::ALL {
            assert_ne!(kinds(["*"]) & kind.bit(), 0);
        }
    }
}
