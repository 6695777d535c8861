//! What settings may be, and what they belong to.

use std::time::Duration;

/// What a setting's text may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A TCP port; 0 picks a free one.
    Port,
    /// An IP address.
    Address,
    /// A path in the file system.
    Path,
    /// A text without control characters of at most 128 bytes.
    Text,
    /// A text that is never printed, with at least this many bytes.
    Secret {
        /// Fewest bytes.
        bytes_min: usize,
    },
    /// A duration with its unit, from and to.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A size in bytes, with or without a unit.
    Bytes {
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// A whole number.
    Count {
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// A whole number, or `auto`.
    AutoCount {
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// A duration with its unit, from and to, or `off`.
    OffDuration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A whole number, or `off`.
    OffCount {
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Web origins, separated by commas, or `*`.
    Origins,
    /// IP addresses and networks, separated by commas.
    Networks,
    /// Texts, separated by commas.
    Texts,
    /// Issuers of tokens and where their keys are, separated by commas.
    Issuers,
    /// A rate as `N/s[:burst]`, or `off`.
    Rate,
    /// A short word of letters, digits, `-`, `_`, `.` and `:`.
    Word,
    /// Where a Redis is; never printed, for it holds a password.
    RedisAddress,
    /// Where a PostgreSQL is; never printed, for it holds a password.
    DatabaseAddress,
    /// A key of age, or a passphrase; never printed.
    BackupKey,
    /// Keys of content at rest; never printed.
    ContentKeys,
    /// A duration, a cron expression, or `off`.
    Schedule,
    /// A bucket as `s3://bucket/prefix`.
    Bucket,
    /// A URL that this process calls.
    Url,
    /// Where browsers find this process.
    PublicUrl,
    /// Addresses of apps, separated by commas.
    RedirectUris,
    /// Which field of a provider's answer is which, as `id=data.id,name=data.nick`.
    Fields,
    /// Which provider's users are in which tenant, as `github=acme,oidc=umbrella`.
    Tenants,
    /// Which words of an issuer are which role of admins, as `ops=operator,root=admin`.
    AdminRoles,
    /// Where in an answer something stands, as `data.groups`.
    FieldPath,
    /// A level, or a filter by target as `tracing` has it.
    LogFilter,
    /// A part of a whole, from 0 to 1.
    Ratio,
    /// Headers of calls, as `api-key=secret,x-tenant=acme`; never printed, for keys are among them.
    Headers,
}

/// What a setting belongs to; the table's order and headings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The process and its addresses.
    Process,
    /// HTTP on both ports.
    Http,
    /// Sockets.
    Socket,
    /// How much may be asked.
    Limit,
    /// Services being told.
    Webhook,
    /// What is kept on disk.
    Store,
    /// Copies of that.
    Backup,
    /// Other nodes.
    Cluster,
    /// Who is asking.
    Auth,
    /// Where people log in.
    Login,
    /// Logs.
    Log,
    /// What requests cause, told to a collector.
    Trace,
}

impl Topic {
    /// All, in the order they are shown.
    pub const ALL: [Self; 12] = [
        Self::Process,
        Self::Http,
        Self::Socket,
        Self::Limit,
        Self::Webhook,
        Self::Store,
        Self::Backup,
        Self::Cluster,
        Self::Auth,
        Self::Login,
        Self::Log,
        Self::Trace,
    ];

    /// A heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Process => "Process",
            Self::Http => "HTTP",
            Self::Socket => "WebSocket",
            Self::Limit => "Rate limits",
            Self::Webhook => "Webhooks",
            Self::Store => "Storage",
            Self::Backup => "Backups",
            Self::Cluster => "Cluster",
            Self::Auth => "Identity",
            Self::Login => "Login providers",
            Self::Log => "Logs",
            Self::Trace => "Tracing",
        }
    }
}
