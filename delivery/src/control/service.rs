//! What a service is (contract §11).

use protocol::{FieldProblem, ServiceId, TenantId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::key;
use crate::{networks::Networks, object, words::words};

/// Longest service name and owner, in bytes: they stand in lists and in every message's
/// `sender_info`.
pub const TEXT_BYTES_MAX: usize = 256;

/// Most entries of one list of a service (permissions, scope lists): each send walks them.
pub const LIST_MAX: usize = 200;

/// The permission to send in a user's name.
pub const ON_BEHALF_OF: &str = "on_behalf_of";

/// Permissions that exist. Another word in a service would be a right that nobody checks.
pub const PERMISSIONS: [&str; 1] = [ON_BEHALF_OF];

words! {
    /// Where a service comes from (seed 003 §4.3). For people; it grants nothing.
    ServiceType {
        /// One of ours.
        Internal = "internal",
        /// A partner's.
        External = "external",
        /// Part of the platform.
        System = "system",
    }
}

words! {
    /// What a service may send (seed 003 §4.8).
    Level {
        /// Anything, alerts and announcements included.
        System = "system",
        /// Business messages only.
        Business = "business",
        /// What its scope lists, once it was approved.
        ThirdParty = "third_party",
    }
}

words! {
    /// Whether a service may be heard.
    ServiceStatus {
        /// Waits for approval.
        Pending = "pending",
        /// It may send.
        Active = "active",
        /// Stopped for a while.
        Suspended = "suspended",
        /// Stopped.
        Disabled = "disabled",
    }
}

/// What a service may send. An empty list means no limit for `system` and `business` services, and
/// nothing at all for `third_party` ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Template ids.
    #[serde(default, deserialize_with = "object::or_default")]
    pub templates: Vec<String>,
    /// Channel ids.
    #[serde(default, deserialize_with = "object::or_default")]
    pub channels: Vec<String>,
    /// Message types.
    #[serde(default, deserialize_with = "object::or_default")]
    pub message_types: Vec<String>,
}

/// How fast a service may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Units a second in the long run: a request costs one, a batch as many as it has messages.
    pub per_second: u32,
    /// Units at once.
    pub burst: u32,
}

/// A registered backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// What people call it.
    pub name: String,
    /// Where it comes from.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// What it may send.
    pub level: Level,
    /// Extra rights, of [`PERMISSIONS`].
    pub permissions: Vec<String>,
    /// What it may send, in detail.
    pub scope: Scope,
    /// How fast, where it differs from the default.
    pub rate_limit: Option<RateLimit>,
    /// From where its keys may be used; empty for everywhere.
    pub allowed_networks: Networks,
    /// Who answers for it.
    pub owner: String,
    /// Whether it may be heard.
    pub status: ServiceStatus,
    /// The wall it lives behind: it reaches no inbox of another tenant.
    pub tenant_id: TenantId,
    /// When it was registered.
    pub created_at: Time,
}

impl Service {
    /// Whether a list of its scope has room for this: an empty one has for everything, or for nothing
    /// in a `third_party` service.
    #[must_use]
    pub fn scope_allows(&self, list: &[String], word: &str) -> bool {
        !self.is_limited_to(list) || list.iter().any(|listed| listed == word)
    }

    /// Whether it has room for no more than what is in it.
    #[must_use]
    pub fn is_limited_to(&self, list: &[String]) -> bool {
        match self.level {
            Level::System | Level::Business => !list.is_empty(),
            Level::ThirdParty => true,
        }
    }

    /// Whether it has an extra right.
    #[must_use]
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.iter().any(|p| p == permission)
    }
}

/// What may be changed of a service; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceChanges {
    /// What people call it.
    pub name: Option<String>,
    /// Extra rights.
    pub permissions: Option<Vec<String>>,
    /// What it may send, in detail.
    #[serde(deserialize_with = "object::maybe")]
    pub scope: Option<Scope>,
    /// From where its keys may be used.
    pub allowed_networks: Option<Vec<String>>,
    /// Who answers for it.
    pub owner: Option<String>,
}

impl ServiceChanges {
    /// The service with these changes, by the rules of new ones.
    pub(super) fn apply(self, service: &Service) -> Result<Service, Vec<FieldProblem>> {
        let networks = || service.allowed_networks.clone().into();
        let new = NewService {
            id: Some(service.id.to_string()),
            name: self.name.unwrap_or_else(|| service.name.clone()),
            kind: Some(service.kind),
            level: Some(service.level),
            permissions: self.permissions.unwrap_or_else(|| service.permissions.clone()),
            scope: self.scope.unwrap_or_else(|| service.scope.clone()),
            rate_limit: service.rate_limit,
            allowed_networks: self.allowed_networks.unwrap_or_else(networks),
            owner: self.owner.unwrap_or_else(|| service.owner.clone()),
            tenant_id: Some(service.tenant_id.to_string()),
        };
        Ok(Service { status: service.status, ..new.check(service.created_at)? })
    }
}

/// A service to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewService {
    /// Its id; made up where none is given.
    #[serde(default)]
    pub id: Option<String>,
    /// What people call it, 1 to [`TEXT_BYTES_MAX`] bytes.
    pub name: String,
    /// Where it comes from; internal unless said.
    #[serde(default, rename = "type")]
    pub kind: Option<ServiceType>,
    /// What it may send; business unless said.
    #[serde(default)]
    pub level: Option<Level>,
    /// Extra rights, of [`PERMISSIONS`].
    #[serde(default, deserialize_with = "object::or_default")]
    pub permissions: Vec<String>,
    /// What it may send, in detail.
    #[serde(default, deserialize_with = "object::maybe_one")]
    pub scope: Scope,
    /// How fast.
    #[serde(default, deserialize_with = "object::maybe")]
    pub rate_limit: Option<RateLimit>,
    /// From where its keys may be used, at most [`crate::networks::NETWORKS_MAX`]; everywhere unless
    /// said.
    #[serde(default, deserialize_with = "object::or_default")]
    pub allowed_networks: Vec<String>,
    /// Who answers for it, at most [`TEXT_BYTES_MAX`] bytes.
    #[serde(default, deserialize_with = "object::or_default")]
    pub owner: String,
    /// The wall; the default tenant unless said.
    #[serde(default)]
    pub tenant_id: Option<String>,
}

impl NewService {
    /// A business service of this name, with nothing else said.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            id: None,
            name: name.into(),
            kind: None,
            level: None,
            permissions: Vec::new(),
            scope: Scope::default(),
            rate_limit: None,
            allowed_networks: Vec::new(),
            owner: String::new(),
            tenant_id: None,
        }
    }

    /// Checks every field. A third-party service waits for approval, others begin at once.
    pub(super) fn check(self, now: Time) -> Result<Service, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: &str, problem: String| {
            problems.push(FieldProblem { path: path.to_owned(), problem });
        };
        let id = match &self.id {
            Some(id) => ServiceId::new(id).map_err(|error| say("id", error.to_string())).ok(),
            None => {
                let made = format!("svc-{}", uuid::Uuid::now_v7().simple());
                Some(ServiceId::new(made).expect("a made-up id is short and plain"))
            }
        };
        let tenant = match &self.tenant_id {
            Some(id) => TenantId::new(id).map_err(|error| say("tenant_id", error.to_string())).ok(),
            None => Some(TenantId::default()),
        };
        if self.name.trim().is_empty() || self.name.len() > TEXT_BYTES_MAX {
            say("name", format!("must have 1 to {TEXT_BYTES_MAX} bytes"));
        }
        if self.name.chars().any(char::is_control) {
            say("name", "must not contain control characters".to_owned());
        }
        if self.owner.len() > TEXT_BYTES_MAX {
            say("owner", format!("must have at most {TEXT_BYTES_MAX} bytes"));
        }
        if self.owner.chars().any(char::is_control) {
            say("owner", "must not contain control characters".to_owned());
        }
        for (index, permission) in self.permissions.iter().enumerate() {
            if !PERMISSIONS.contains(&permission.as_str()) {
                let problem = format!("must be one of {}", PERMISSIONS.join(", "));
                say(&format!("permissions[{index}]"), problem);
            }
        }
        for (path, list) in [
            ("permissions", &self.permissions),
            ("scope.templates", &self.scope.templates),
            ("scope.channels", &self.scope.channels),
            ("scope.message_types", &self.scope.message_types),
        ] {
            if list.len() > LIST_MAX {
                say(path, format!("must have at most {LIST_MAX} entries"));
            }
            for (index, entry) in list.iter().enumerate() {
                if entry.is_empty() || entry.len() > protocol::limits::ID_BYTES_MAX {
                    let problem =
                        format!("must have 1 to {} bytes", protocol::limits::ID_BYTES_MAX);
                    say(&format!("{path}[{index}]"), problem);
                }
            }
        }
        let allowed_networks = key::networks(&self.allowed_networks, &mut say);
        if self.rate_limit.is_some_and(|rate| rate.per_second == 0 || rate.burst == 0) {
            say("rate_limit", "per_second and burst must be at least 1".to_owned());
        }
        let (Some(id), Some(tenant_id), true) = (id, tenant, problems.is_empty()) else {
            return Err(problems);
        };
        let level = self.level.unwrap_or(Level::Business);
        Ok(Service {
            id,
            name: self.name,
            kind: self.kind.unwrap_or(ServiceType::Internal),
            level,
            permissions: self.permissions,
            scope: self.scope,
            rate_limit: self.rate_limit,
            allowed_networks,
            owner: self.owner,
            status: if level == Level::ThirdParty {
                ServiceStatus::Pending
            } else {
                ServiceStatus::Active
            },
            tenant_id,
            created_at: now,
        })
    }
}
