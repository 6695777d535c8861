//! What an entry is.

use protocol::{TenantId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::chain::Hash;
use crate::words::words;

/// Most bytes of what was before and after. A longer one is not kept, and the entry says how long it was.
pub const DETAIL_BYTES_MAX: usize = 16 << 10;

words! {
    /// What kind of caller it was.
    ActorKind {
        /// Whoever has `ADMIN_TOKEN`.
        AdminToken = "admin_token",
        /// An admin with an account.
        Admin = "admin",
        /// A user whose roles say so.
        User = "user",
        /// Somebody at the command line of the machine.
        Cli = "cli",
    }
}

/// Who it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditActor")]
pub struct Actor {
    /// What kind of caller.
    pub kind: ActorKind,
    /// The admin's or the user's id; empty where there is none.
    pub id: String,
    /// What they are called.
    pub name: String,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEntry {
    /// Made up, so that it is written once however often it is tried.
    pub(crate) id: String,
    pub(crate) at: Time,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) actor: Actor,
    /// From where, as far as proxies are believed; empty at the command line.
    pub(crate) address: String,
    pub(crate) request_id: String,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) status: u16,
    /// JSON.
    pub(crate) detail: Option<String>,
}

impl NewEntry {
    /// Something that was done at the command line, at this moment.
    #[must_use]
    pub fn by_cli(at: Time, who: String, action: &str, target: String) -> Self {
        Self {
            id: made_up(),
            at,
            tenant: None,
            actor: Actor { kind: ActorKind::Cli, id: String::new(), name: who },
            address: String::new(),
            request_id: String::new(),
            action: action.to_owned(),
            target,
            status: 0,
            detail: None,
        }
    }

    /// With what it was before, and is after.
    #[must_use]
    pub fn changing(mut self, before: Value, after: Value) -> Self {
        self.detail = detail(before, after);
        self
    }
}

pub(crate) fn made_up() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// What has changed, as an entry keeps it: of two objects only the fields that differ.
pub(crate) fn detail(before: Value, after: Value) -> Option<String> {
    let (before, after) = match (before, after) {
        (Value::Object(mut before), Value::Object(mut after)) => {
            let same = |name: &str, value: &Value, other: &Map<String, Value>| {
                other.get(name).is_some_and(|there| there == value)
            };
            let there = before.clone();
            before.retain(|name, value| !same(name, value, &after));
            after.retain(|name, value| !same(name, value, &there));
            (Value::Object(before), Value::Object(after))
        }
        other => other,
    };
    if before.is_null() && after.is_null() {
        return None;
    }
    let text = json!({"before": before, "after": after}).to_string();
    if text.len() <= DETAIL_BYTES_MAX {
        return Some(text);
    }
    Some(json!({"before": null, "after": null, "bytes": text.len()}).to_string())
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Entry {
    /// Its place: 1, 2, 3 … without holes.
    pub seq: u64,
    /// Made up.
    pub id: String,
    /// When it was done.
    pub at: Time,
    /// Whose; null for what is of the whole installation.
    pub tenant_id: Option<TenantId>,
    /// Who did it.
    pub actor: Actor,
    /// From where; empty at the command line.
    pub address: String,
    /// The request's id, as its answer and its line in the log have it; empty at the command line.
    pub request_id: String,
    /// What was done: the operation's id in the description of this API, or what was said at the command line.
    pub action: String,
    /// To what: the request's path below `/api/v3/admin/`.
    pub target: String,
    /// The answer's status: 2xx for what was done, 403 for what was refused, 5xx for what may have been done; 0
    /// at the command line.
    pub status: u16,
    /// What it was before, as far as it has changed: an object with `before` and `after`; null where nothing
    /// can be said. With `bytes`, where it was too long to keep.
    pub detail: Option<Value>,
    /// Holds this entry and all before it together: SHA-256 of the hash before it, a line feed, and the entry.
    pub hash: Hash,
}

/// An entry as it is hashed, and in its columns.
#[derive(Serialize)]
pub(super) struct Row<'a>(
    pub(super) u64,
    pub(super) &'a str,
    pub(super) i64,
    pub(super) Option<&'a str>,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) u16,
    pub(super) Option<&'a str>,
);

impl NewEntry {
    pub(super) fn row(&self, seq: u64) -> Row<'_> {
        Row(
            seq,
            &self.id,
            self.at.millis(),
            self.tenant.as_ref().map(TenantId::as_str),
            self.actor.kind.as_str(),
            &self.actor.id,
            &self.actor.name,
            &self.address,
            &self.request_id,
            &self.action,
            &self.target,
            self.status,
            self.detail.as_deref(),
        )
    }

    pub(super) fn entry(&self, seq: u64, hash: Hash) -> Entry {
        let this = self.clone();
        Entry {
            seq,
            id: this.id,
            at: this.at,
            tenant_id: this.tenant,
            actor: this.actor,
            address: this.address,
            request_id: this.request_id,
            action: this.action,
            target: this.target,
            status: this.status,
            detail: this.detail.and_then(|text| serde_json::from_str(&text).ok()),
            hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let kept =
            |before, after| detail(before, after).map(|text| serde_json::from_str(&text).unwrap());
        let before = json!({"name": "a", "level": "business", "gone": 1});
        let after = json!({"name": "b", "level": "business", "new": [1]});
        let expected: Value =
            json!({"before": {"name": "a", "gone": 1}, "after": {"name": "b", "new": [1]}});
        assert_eq!(kept(before.clone(), after), Some(expected));
        let expected: Value = json!({"before": null, "after": before});
        assert_eq!(kept(Value::Null, before.clone()), Some(expected));
        let expected: Value = json!({"before": {}, "after": {}});
        assert_eq!(kept(before.clone(), before), Some(expected));
        assert_eq!(detail(Value::Null, Value::Null), None);
    }

    #[test]
    fn what_is_too_long_says_how_long_it_was() {
        let text = detail(Value::Null, json!("x".repeat(DETAIL_BYTES_MAX))).unwrap();
        assert!(text.len() < 100 && text.contains("\"bytes\":16"), "{text}");
    }
}
