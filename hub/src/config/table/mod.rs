//! The one table of settings: names, defaults, what is allowed, and what they mean.
//!
//! `--help`, `check-config`, the README's table and the parser all read it, so none of them can say
//! something else than the others. A default stands here and nowhere else.

mod all;
mod kind;

pub use self::{
    all::ALL,
    kind::{Kind, Topic},
};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the environment and in `pushhub.toml`.
    pub name: &'static str,
    /// Its text where none is given; empty means "none".
    pub default: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Where it belongs.
    pub topic: Topic,
    /// What it does, in a sentence or two.
    pub meaning: &'static str,
    /// Whether an admin may change it while the process runs.
    pub live: bool,
}

impl Setting {
    /// Whether its value must never be printed.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(
            self.kind,
            Kind::Secret { .. }
                | Kind::RedisAddress
                | Kind::DatabaseAddress
                | Kind::BackupKey
                | Kind::ContentKeys
                | Kind::Headers
        )
    }
}

/// The file of settings.
pub const CONFIG_FILE_VARIABLE: &str = "PUSHHUB_CONFIG";

/// Beginnings of names that are ours: an unknown one is likely a slip of the pen.
pub const OWN_PREFIXES: &[&str] = &[
    "WS_",
    "HTTP_",
    "PUSHHUB_",
    "STORE_",
    "BACKUP_",
    "RATE_LIMIT_",
    "RETENTION_",
    "WEBHOOK_",
    "DATABASE_",
    "OAUTH_",
    "OIDC_",
    "ADMIN_OIDC_",
    "WECHAT_",
    "WECOM_",
    "DINGTALK_",
];

/// Names that begin like ours and are no settings: everybody's proxy, and what the build and the
/// command line read.
pub const OTHER_NAMES: &[&str] =
    &["HTTP_PROXY", "PUSHHUB_COMMIT", "PUSHHUB_KEY", "PUSHHUB_TOKEN", CONFIG_FILE_VARIABLE];

/// Beginnings of names that Kubernetes puts into every container beside a service `pushhub` or
/// `database`.
pub const KUBERNETES_PREFIXES: &[&str] =
    &["PUSHHUB_SERVICE_", "PUSHHUB_PORT", "DATABASE_SERVICE_", "DATABASE_PORT"];

/// The setting of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.name == name)
}
