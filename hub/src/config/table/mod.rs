//! The one table of settings: names, defaults, what is allowed, and what they mean.
//!
//! `--help`, `check-config`, the README's table and the parser all read it, so none of them can say
//! something else than the others. A default stands here and nowhere else.

use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

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
    /// A rate as `N/s[:burst]`, or `off`.
    Rate,
    /// A short word of letters, digits, `-`, `_`, `.` and `:`.
    Word,
    /// Where a Redis is; never printed, for it holds a password.
    RedisAddress,
    /// A level, or a filter by target as `tracing` has it.
    LogFilter,
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
    /// Other nodes.
    Cluster,
    /// Who is asking.
    Auth,
    /// Logs.
    Log,
}

impl Topic {
    /// All, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::Process,
        Self::Http,
        Self::Socket,
        Self::Limit,
        Self::Webhook,
        Self::Store,
        Self::Cluster,
        Self::Auth,
        Self::Log,
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
            Self::Cluster => "Cluster",
            Self::Auth => "Identity",
            Self::Log => "Logs",
        }
    }
}

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
}

impl Setting {
    /// Whether its value must never be printed.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret { .. } | Kind::RedisAddress)
    }
}

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    topic: Topic,
    meaning: &'static str,
) -> Setting {
    Setting { name, default, kind, topic, meaning }
}

use Topic::{Auth, Cluster, Http, Limit, Log, Process, Socket, Store, Webhook};

const MIN_MS: Duration = Duration::from_millis(10);

/// Every setting.
pub const ALL: &[Setting] = &[
    setting(
        "USER_SERVER_PORT",
        "8080",
        Kind::Port,
        Process,
        "Port of the REST API and the sockets. 0 picks a free one; the start line says which.",
    ),
    setting(
        "ADMIN_SERVER_PORT",
        "8081",
        Kind::Port,
        Process,
        "Port of health, metrics and administration. 0 picks a free one.",
    ),
    setting(
        "BIND_ADDRESS",
        "127.0.0.1",
        Kind::Address,
        Process,
        "Address both ports listen on. `0.0.0.0` (or `::`) in a container or behind a proxy on another host.",
    ),
    setting(
        "PUSHHUB_ROLE",
        "all",
        Kind::Choice(&["all"]),
        Process,
        "Which parts this process runs.",
    ),
    setting(
        "NODE_ID",
        "",
        Kind::Text,
        Process,
        "Name of this node in `welcome` frames and logs. Without one, a random name at each start.",
    ),
    setting(
        "DRAIN_TIMEOUT",
        "30s",
        Kind::Duration { min: Duration::ZERO, max: seconds(600) },
        Process,
        "On SIGTERM: longest time for sockets to leave and accepted work to finish. Keep the orchestrator's grace period above it.",
    ),
    setting(
        "HTTP_HEADER_TIMEOUT",
        "10s",
        Kind::Duration { min: MIN_MS, max: seconds(300) },
        Http,
        "Longest time for a request's head to arrive, and for a connection to stay open without a request.",
    ),
    setting(
        "HTTP_BODY_TIMEOUT",
        "30s",
        Kind::Duration { min: MIN_MS, max: seconds(3_600) },
        Http,
        "Longest time for a request's body to arrive; then 408.",
    ),
    setting(
        "HTTP_MAX_CONNECTIONS",
        "4096",
        Kind::Count { min: 1, max: 1_000_000 },
        Http,
        "Most open HTTP connections of each port, sockets not counted. One more gets 503 with `Retry-After`.",
    ),
    setting(
        "CORS_ALLOWED_ORIGINS",
        "",
        Kind::Origins,
        Http,
        "Origins from which browsers may open sockets and event streams, such as `https://app.example.com`; `*` for any. Without one: only pages of this very host. Clients that send no `Origin` are not browsers and pass.",
    ),
    setting(
        "WS_MAX_CONNECTIONS",
        "10000",
        Kind::Count { min: 1, max: 10_000_000 },
        Socket,
        "Most sockets and event streams of this node, together. One more is refused with 503 and `Retry-After`.",
    ),
    setting(
        "WS_MAX_CONNECTIONS_PER_USER",
        "100",
        Kind::Count { min: 1, max: 100_000 },
        Socket,
        "Most sockets and event streams of one user on this node, together: every change goes to each of them. One socket more is closed with 4029, one stream more refused with 429.",
    ),
    setting(
        "WS_PING_INTERVAL",
        "30s",
        Kind::Duration { min: MIN_MS, max: seconds(3_600) },
        Socket,
        "How often a silent client is pinged, and an event stream gets a comment; the first at a random time within it. One that stays silent is closed (4008) within this plus 8 s.",
    ),
    setting(
        "WS_READ_BUFFER_SIZE",
        "4096",
        Kind::Bytes { min: 512, max: 1 << 20 },
        Socket,
        "Bytes one read takes from a socket. An idle connection does not keep a buffer of this size.",
    ),
    setting(
        "WS_WRITE_BUFFER_SIZE",
        "4096",
        Kind::Bytes { min: 512, max: 1 << 20 },
        Socket,
        "Bytes of waiting frames that are gathered into one write. A larger frame is written alone.",
    ),
    setting(
        "WS_OUTBOX_LIMIT",
        "256KiB",
        Kind::Bytes { min: 4 << 10, max: 64 << 20 },
        Socket,
        "Most bytes that wait for one socket. Above it the queue is dropped and the client is fed from the store as it reads.",
    ),
    setting(
        "WS_STALL_TIMEOUT",
        "30s",
        Kind::Duration { min: MIN_MS, max: seconds(3_600) },
        Socket,
        "A client that reads nothing for this long while frames wait is closed (4008).",
    ),
    setting(
        "WS_HANDSHAKE_TIMEOUT",
        "10s",
        Kind::Duration { min: MIN_MS, max: seconds(300) },
        Socket,
        "Longest time from a handshake's request to an open socket.",
    ),
    setting(
        "RATE_LIMIT_IP",
        "10000/s:50000",
        Kind::Rate,
        Limit,
        "Requests of one address (of IPv6, one /64) that show no valid service key, on both ports together. A token or key that is not ours costs 11. Not for requests from this very machine.",
    ),
    setting(
        "RATE_LIMIT_USER",
        "2000/s:20000",
        Kind::Rate,
        Limit,
        "Requests of one user; a batch costs as many as it has messages.",
    ),
    setting(
        "RATE_LIMIT_SERVICE",
        "off",
        Kind::Rate,
        Limit,
        "Requests of one service that has no `rate_limit` of its own; a batch costs as many as it has messages.",
    ),
    setting(
        "RATE_LIMIT_CONNECT",
        "5000/s:20000",
        Kind::Rate,
        Limit,
        "WebSocket handshakes of one address, refused ones too; one with a token that is not ours costs 11. Not for those from this very machine.",
    ),
    setting(
        "TRUSTED_PROXIES",
        "",
        Kind::Networks,
        Limit,
        "Proxies whose `X-Forwarded-For` or `Forwarded` says who asks. Both are read from the right, up to the first address that is none of these; where both are there and disagree, neither is believed. Set it behind a proxy: without it all clients are the proxy.",
    ),
    setting(
        "WEBHOOK_ALLOWED_NETWORKS",
        "",
        Kind::Networks,
        Webhook,
        "Addresses that webhooks may go to although they are not public, and without TLS. Without one: public addresses by https only.",
    ),
    setting(
        "WEBHOOK_TIMEOUT",
        "15s",
        Kind::Duration { min: MIN_MS, max: seconds(60) },
        Webhook,
        "Longest time of one attempt to deliver to a webhook, from the name's resolution to the answer.",
    ),
    setting(
        "USER_STORAGE_PATH",
        "./data/user_storage",
        Kind::Path,
        Store,
        "Folder of everything that is kept: inboxes, services, generated secrets. One process per folder.",
    ),
    setting(
        "STORE_FLUSH_INTERVAL",
        "1s",
        Kind::Duration { min: MIN_MS, max: seconds(60) },
        Store,
        "How long accepted messages wait before they are copied from the journal to the users' files; five times that under load. They are durable before that.",
    ),
    setting(
        "STORE_OPEN_FILES",
        "auto",
        Kind::AutoCount { min: 4, max: 1_000_000 },
        Store,
        "Most users whose files are open at a time. `auto` takes the descriptors that connections leave, six for each user, at most 2,000 users.",
    ),
    setting(
        "STORE_JOURNAL_SYNC",
        "full",
        Kind::Choice(&["full", "off"]),
        Store,
        "`full`: what is answered 2xx survives a power cut. `off` loses it and exists only so that the power-cut test can prove it would see a loss.",
    ),
    setting(
        "RETENTION_MAX_AGE",
        "off",
        Kind::OffDuration { min: seconds(1), max: seconds(100 * 366 * 24 * 3_600) },
        Store,
        "Messages older than this are forgotten, read or not; `off` keeps them for ever. A device that comes back from before what is kept is told `resync_required`.",
    ),
    setting(
        "RETENTION_MAX_MESSAGES",
        "off",
        Kind::OffCount { min: 1, max: 1_000_000_000 },
        Store,
        "Each inbox keeps its latest so many messages; `off` keeps all.",
    ),
    setting(
        "REDIS_URL",
        "",
        Kind::RedisAddress,
        Cluster,
        "Refused at start in this version: nodes do not share a store yet. Redis 7 or later, by which nodes tell each other what they stored. `redis://` or, with TLS, `rediss://[user:password@]host[:port]`; `redis+sentinel://host,host/master`; `redis+cluster://host,host` for Redis Cluster (sharded channels). While it is away sends go on, and other nodes' users get theirs within seconds from the store.",
    ),
    setting(
        "REDIS_CA_FILE",
        "",
        Kind::Path,
        Cluster,
        "PEM file of the certificates that a `rediss://` server is checked by. Without one, the system's.",
    ),
    setting(
        "REDIS_PREFIX",
        "pushhub",
        Kind::Word,
        Cluster,
        "What the names on Redis begin with. Its databases do not part channels: two clusters on one Redis need two prefixes, all nodes of one cluster the same.",
    ),
    setting(
        "JWT_SECRET",
        "",
        Kind::Secret { bytes_min: 32 },
        Auth,
        "Key of user tokens (HS256). Without one, made at the first start and kept in the storage folder.",
    ),
    setting(
        "JWT_EXPIRE_TIME",
        "2h",
        Kind::Duration { min: seconds(1), max: seconds(8_760 * 3_600) },
        Auth,
        "How long a user token made here is valid.",
    ),
    setting("JWT_ISSUER", "message-service", Kind::Text, Auth, "`iss` of user tokens."),
    setting("JWT_AUDIENCE", "client-app", Kind::Text, Auth, "`aud` of user tokens."),
    setting(
        "ADMIN_TOKEN",
        "",
        Kind::Secret { bytes_min: 1 },
        Auth,
        "Bearer token of the admin API. Without one, made at the first start and kept in the storage folder.",
    ),
    setting(
        "LOG_FORMAT",
        "text",
        Kind::Choice(&["text", "json"]),
        Log,
        "Form of the log on stderr.",
    ),
    setting(
        "LOG_LEVEL",
        "info",
        Kind::LogFilter,
        Log,
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter by stream such as `info,access=warn`. Streams: access, business, security, error.",
    ),
];

/// Variables of the seed that mean something only to parts which this build does not have. Setting
/// one is no mistake (the seed's own example does), but it must not look as if it worked.
pub const WITHOUT_EFFECT: &[&str] = &[
    "DATABASE_BACKUP_PATH",
    "REFRESH_TOKEN_EXPIRE_TIME",
    "GITHUB_CLIENT_ID",
    "GITHUB_CLIENT_SECRET",
    "GOOGLE_CLIENT_ID",
    "GOOGLE_CLIENT_SECRET",
    "BACKUP_ENCRYPTION_KEY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Variables that ask for several nodes, which this build refuses.
pub const CLUSTER_ONLY: &[&str] = &["DATABASE_URL"];

/// The file of settings.
pub const CONFIG_FILE_VARIABLE: &str = "PUSHHUB_CONFIG";

/// Beginnings of names that are ours: an unknown one is likely a slip of the pen.
pub const OWN_PREFIXES: &[&str] =
    &["WS_", "HTTP_", "PUSHHUB_", "STORE_", "RATE_LIMIT_", "RETENTION_", "WEBHOOK_"];

/// Names that begin like ours and are no settings: everybody's proxy, and what the build and the
/// command line read.
pub const OTHER_NAMES: &[&str] =
    &["HTTP_PROXY", "PUSHHUB_COMMIT", "PUSHHUB_KEY", "PUSHHUB_TOKEN", CONFIG_FILE_VARIABLE];

/// Beginnings of names that Kubernetes puts into every container beside a service `pushhub`.
pub const KUBERNETES_PREFIXES: &[&str] = &["PUSHHUB_SERVICE_", "PUSHHUB_PORT"];

/// The setting of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.name == name)
}
