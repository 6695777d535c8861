//! Settings: read once, checked all at once, handed down by topic as plain data.
//!
//! The environment wins over the file (`--config`, else `PUSHHUB_CONFIG`, else `./pushhub.toml`
//! where there is one), which wins over the defaults of [`table::ALL`]. An empty variable counts as
//! not given, as compose files make them. A secret may also stand in a file named by `NAME_FILE`.

mod check;
mod providers;
mod role;
mod show;
mod source;
pub mod table;
mod value;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use delivery::{
    backup::{AreaConfig, BucketConfig, Home, Keep, Key, RunsConfig, Schedule},
    content::ContentKeys,
    control::LiveTexts,
    identity::{TrustedIssuers, jwks::SigningAlgorithm},
    limit::{LimitConfig, Rate},
    outbound::OutboundUrl,
    provider::ProvidersConfig,
    spans::{Headers, Sampling},
    store::{Retention, limits::SENT_KEPT, postgres::PostgresConfig},
    webhook::WebhookConfig,
};
use secrecy::SecretString;

pub use check::{
    DESCRIPTORS_PER_STORE_ENTRY, DESCRIPTORS_RESERVED, descriptors_needed, store_open_files,
};
pub use role::Role;
pub(crate) use show::help_table;
pub use show::{Format, markdown_table, show};
pub use source::{Effective, Origin, Texts};
pub use value::{parse_duration, show_duration};

use source::Given;
use value::parse_schedule;

use crate::bus::RedisAddress;

/// Exit code of a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// The process and its addresses.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Which parts run.
    pub role: Role,
    /// Where REST and sockets listen.
    pub user_address: SocketAddr,
    /// Where health, metrics and administration listen.
    pub admin_address: SocketAddr,
    /// Name of this node; none means one made up at start.
    pub node_id: Option<String>,
    /// Longest drain.
    pub drain_timeout: Duration,
}

/// HTTP on both ports.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Longest wait for a request's head.
    pub header_timeout: Duration,
    /// Longest rest of a connection between two requests.
    pub idle_timeout: Duration,
    /// Longest wait for a request's body.
    pub body_timeout: Duration,
    /// Most connections of a port, sockets not counted.
    pub connections_max: usize,
}

/// Sockets.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Most sockets.
    pub connections_max: usize,
    /// Most sockets of one user.
    pub connections_per_user_max: usize,
    /// Pause between pings of a silent client.
    pub ping_interval: Duration,
    /// Bytes one read takes.
    pub read_buffer_bytes: usize,
    /// Bytes of waiting frames gathered into one write.
    pub write_buffer_bytes: usize,
    /// Most bytes that wait for one socket.
    pub outbox_bytes_max: usize,
    /// Longest time without progress of a full outbox.
    pub stall_timeout: Duration,
    /// Longest handshake.
    pub handshake_timeout: Duration,
    /// Origins whose pages may ask, in lower case; `*` for any; empty for the same host only.
    pub allowed_origins: Vec<String>,
    /// Largest age of a socket; none for any.
    pub connection_age_max: Option<Duration>,
    /// How fast sockets above the cluster's average are sent to other nodes; none for never.
    pub shed_rate: Option<Rate>,
}

/// What is kept on disk.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The folder.
    pub path: PathBuf,
    /// What the content of messages is encrypted with, in the folder or the database.
    pub content: Arc<ContentKeys>,
    /// Pause between copies from the journal to the users' files.
    pub flush_interval: Duration,
    /// Whether commits of the journal are synced.
    pub journal_sync: bool,
    /// Most users whose files are open; none means [`store_open_files`] of the descriptors' limit.
    pub open_files_max: Option<usize>,
    /// Which messages an inbox keeps.
    pub retention: Retention,
}

impl StoreConfig {
    /// How long it is kept what was sent, for those who sent it: an inbox must not outlive what its
    /// senders can change of it.
    #[must_use]
    pub fn sent_kept(&self) -> Duration {
        self.retention.max_age.map_or(SENT_KEPT, |age| age.max(SENT_KEPT))
    }
}

/// Copies of what is kept.
#[derive(Clone, Debug)]
pub struct BackupConfig {
    /// Where they are made, and how large one may be.
    pub area: AreaConfig,
    /// Whom they are encrypted for unless somebody is named.
    pub key: Option<Key>,
    /// How long the file of a job is kept.
    pub job_kept: Duration,
    /// Most bytes of all files of jobs together.
    pub jobs_bytes_max: u64,
    /// When everybody is backed up; none for never.
    pub schedule: Option<Schedule>,
    /// How old the latest full one may be for the next to be incremental.
    pub full_every: Duration,
    /// Which are kept.
    pub keep: Keep,
    /// Where, unless in the folder.
    pub bucket: Option<BucketConfig>,
}

/// Other nodes.
#[derive(Clone)]
pub struct ClusterConfig {
    /// The database that nodes share instead of the folder; none in the single shape.
    pub database: Option<PostgresConfig>,
    /// By which Redis they are reached; none where there are none.
    pub redis: Option<RedisAddress>,
    /// Certificates its server is checked by; none for the system's.
    pub redis_ca: Option<PathBuf>,
    /// What the names there begin with.
    pub redis_prefix: String,
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, redis, redis_ca, redis_prefix } = self;
        f.debug_struct("ClusterConfig")
            .field("database", database)
            .field("redis", &redis.as_ref().map(RedisAddress::describe))
            .field("redis_ca", redis_ca)
            .field("redis_prefix", redis_prefix)
            .finish()
    }
}

/// Who is asking.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Key of user tokens; none means the generated one.
    pub jwt_secret: Option<SecretString>,
    /// `iss`.
    pub issuer: String,
    /// `aud`: one of these; the first in tokens made here.
    pub audience: Vec<String>,
    /// What signs tokens made here; none for HS256.
    pub signing: Option<SigningAlgorithm>,
    /// After how long a key pair is replaced by itself; none for never.
    pub rotation: Option<Duration>,
    /// Others whose tokens are believed.
    pub issuers: TrustedIssuers,
    /// Life of a token made here.
    pub access_ttl: Duration,
    /// How long a refresh token lives unless it is used (`REFRESH_TOKEN_EXPIRE_TIME`).
    pub refresh_ttl: Duration,
    /// Bearer token of the admin API; none means the generated one.
    pub admin_token: Option<SecretString>,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Form.
    pub format: LogFormat,
    /// Filter, valid for `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// Whether pseudonyms stand in place of ids, names and addresses.
    pub masked: bool,
}

/// Tracing.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// Where spans go.
    pub url: OutboundUrl,
    /// What goes beside them.
    pub headers: Headers,
    /// What they are of.
    pub service_name: String,
    /// Which there are.
    pub sampling: Sampling,
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Process.
    pub process: ProcessConfig,
    /// HTTP.
    pub http: HttpConfig,
    /// Sockets.
    pub socket: SocketConfig,
    /// Rate limits.
    pub limit: LimitConfig,
    /// Webhooks.
    pub webhook: WebhookConfig,
    /// Storage.
    pub store: StoreConfig,
    /// Backups.
    pub backup: BackupConfig,
    /// Other nodes.
    pub cluster: ClusterConfig,
    /// Identity.
    pub auth: AuthConfig,
    /// Login providers.
    pub providers: ProvidersConfig,
    /// Logs.
    pub log: LogConfig,
    /// Tracing; none where no collector is named.
    pub trace: Option<TraceConfig>,
}

/// What settings are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve, or to ask what would be served.
    Serve,
    /// To make the tables of a database and to fill them: secrets of nodes and their bus do not matter.
    Migrate,
    /// To change services where they are kept, or to ask a server for something: neither secrets of nodes nor
    /// their bus matter.
    Manage,
}

/// A configuration and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is legal but likely not meant; a sentence each.
    pub warnings: Vec<String>,
    /// Every setting with its text and where that came from.
    pub effective: Vec<Effective>,
    /// What was given at the start.
    start: Texts,
}

impl Loaded {
    /// What the settings are with these live values, and no others, in the place of what was given at the start. Judged
    /// as at a start, also what they are together; files that the settings name are read again for it.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake at once.
    pub fn with_live(&self, live: &LiveTexts) -> Result<Self, ConfigError> {
        Config::judge(
            Purpose::Serve,
            Given::with_live(self.start.clone(), live),
            self.start.clone(),
        )
    }
}

/// One mistake. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable, or the file.
    pub name: String,
    /// What was given and what is allowed.
    pub text: String,
}

/// Every mistake of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// What keeps it from being used.
    pub problems: Vec<Problem>,
    /// What was found besides, such as names that are no settings; as [`Loaded::warnings`].
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the configuration has {count} mistake{}:", if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            write!(f, "\n  {}: {}", problem.name, problem.text)?;
        }
        Ok(())
    }
}

/// The environment as a parameter, so that tests need not change the process's own.
pub type Environment = BTreeMap<String, String>;

/// The process's environment. Values that are no UTF-8 are kept with replacement characters, which
/// the checks then refuse or which concern nobody here.
#[must_use]
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect()
}

impl Config {
    /// Reads the file (where there is one) and the environment, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake at once.
    pub fn load(environment: &Environment, file: Option<&Path>) -> Result<Loaded, ConfigError> {
        Self::load_for(Purpose::Serve, environment, file)
    }

    /// As [`Config::load`], for something else than serving.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake at once, as far as it matters to the purpose.
    pub fn load_for(
        purpose: Purpose,
        environment: &Environment,
        file: Option<&Path>,
    ) -> Result<Loaded, ConfigError> {
        let given = Given::collect(environment, file);
        let start = given.texts();
        Self::judge(purpose, given, start)
    }

    fn judge(purpose: Purpose, mut given: Given, start: Texts) -> Result<Loaded, ConfigError> {
        let config = Self::build(&mut given);
        check::refuse(&config, purpose, &mut given.problems);
        if given.problems.is_empty() {
            let mut warnings = std::mem::take(&mut given.warnings);
            check::warn(&config, &mut warnings);
            Ok(Loaded { config, warnings, effective: given.into_effective(), start })
        } else {
            Err(ConfigError { problems: given.problems, warnings: given.warnings })
        }
    }

    /// How backups of everybody are made and kept.
    #[must_use]
    pub fn runs(&self) -> RunsConfig {
        let BackupConfig { area, schedule, full_every, keep, bucket, .. } = self.backup.clone();
        RunsConfig { path: area.path, bucket, schedule, full_every, keep }
    }

    /// Where all that is backed up is kept.
    #[must_use]
    pub fn home(&self) -> Home {
        match &self.cluster.database {
            Some(database) => Home::Database(Box::new(database.clone())),
            None => Home::Folder(self.store.path.clone()),
        }
    }

    fn build(given: &mut Given) -> Self {
        let address = given.address("BIND_ADDRESS");
        let store = StoreConfig {
            path: given.path("USER_STORAGE_PATH"),
            content: given
                .text("DATA_ENCRYPTION_KEYS")
                .and_then(|text| ContentKeys::parse(&text).ok())
                .map(Arc::new)
                .unwrap_or_default(),
            flush_interval: given.duration("STORE_FLUSH_INTERVAL"),
            journal_sync: given.text("STORE_JOURNAL_SYNC").as_deref() != Some("off"),
            open_files_max: given.optional_number("STORE_OPEN_FILES"),
            retention: Retention {
                max_age: given.optional_duration("RETENTION_MAX_AGE"),
                max_messages: given
                    .optional_number("RETENTION_MAX_MESSAGES")
                    .map(|count| count as u64),
            },
        };
        let format = match given.text("LOG_FORMAT").as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Self {
            process: ProcessConfig {
                role: given.text("PUSHHUB_ROLE").as_deref().and_then(Role::of).unwrap_or_default(),
                user_address: SocketAddr::new(address, given.port("USER_SERVER_PORT")),
                admin_address: SocketAddr::new(address, given.port("ADMIN_SERVER_PORT")),
                node_id: given.text("NODE_ID"),
                drain_timeout: given.duration("DRAIN_TIMEOUT"),
            },
            http: HttpConfig {
                header_timeout: given.duration("HTTP_HEADER_TIMEOUT"),
                idle_timeout: given.duration("HTTP_IDLE_TIMEOUT"),
                body_timeout: given.duration("HTTP_BODY_TIMEOUT"),
                connections_max: given.number("HTTP_MAX_CONNECTIONS"),
            },
            socket: SocketConfig {
                connections_max: given.number("WS_MAX_CONNECTIONS"),
                connections_per_user_max: given.number("WS_MAX_CONNECTIONS_PER_USER"),
                ping_interval: given.duration("WS_PING_INTERVAL"),
                read_buffer_bytes: given.number("WS_READ_BUFFER_SIZE"),
                write_buffer_bytes: given.number("WS_WRITE_BUFFER_SIZE"),
                outbox_bytes_max: given.number("WS_OUTBOX_LIMIT"),
                stall_timeout: given.duration("WS_STALL_TIMEOUT"),
                handshake_timeout: given.duration("WS_HANDSHAKE_TIMEOUT"),
                allowed_origins: given.list("CORS_ALLOWED_ORIGINS"),
                connection_age_max: given.optional_duration("WS_MAX_CONNECTION_AGE"),
                shed_rate: given.rate("WS_SHED_RATE"),
            },
            limit: LimitConfig {
                ip: given.rate("RATE_LIMIT_IP"),
                user: given.rate("RATE_LIMIT_USER"),
                service: given.rate("RATE_LIMIT_SERVICE"),
                connect: given.rate("RATE_LIMIT_CONNECT"),
                trusted_proxies: given.networks("TRUSTED_PROXIES"),
            },
            webhook: WebhookConfig {
                allowed_networks: given.networks("WEBHOOK_ALLOWED_NETWORKS"),
                timeout: given.duration("WEBHOOK_TIMEOUT"),
            },
            cluster: ClusterConfig {
                database: database(given, &store),
                redis: given.redis("REDIS_URL"),
                redis_ca: Some(given.path("REDIS_CA_FILE"))
                    .filter(|path| !path.as_os_str().is_empty()),
                redis_prefix: given.text("REDIS_PREFIX").unwrap_or_default(),
            },
            backup: BackupConfig {
                area: AreaConfig {
                    path: given.path("DATABASE_BACKUP_PATH"),
                    bytes_max: given.number("BACKUP_SIZE_MAX") as u64,
                    content: Arc::clone(&store.content),
                },
                key: given.secret("BACKUP_ENCRYPTION_KEY").and_then(|text| Key::parse(&text).ok()),
                job_kept: given.duration("BACKUP_JOB_KEPT"),
                jobs_bytes_max: given.number("BACKUP_JOBS_SIZE_MAX") as u64,
                schedule: given.text("BACKUP_SCHEDULE").and_then(|text| parse_schedule(&text)),
                full_every: given.duration("BACKUP_FULL_EVERY"),
                keep: Keep {
                    age: given.optional_duration("BACKUP_KEEP_AGE"),
                    count: given.optional_number("BACKUP_KEEP_COUNT"),
                },
                bucket: bucket(given),
            },
            store,
            auth: AuthConfig {
                jwt_secret: given.secret("JWT_SECRET"),
                issuer: given.text("JWT_ISSUER").unwrap_or_default(),
                audience: given.list("JWT_AUDIENCE"),
                // Its other word is HS256.
                signing: given.text("JWT_SIGNING_ALGORITHM").and_then(|text| text.parse().ok()),
                rotation: given.optional_duration("JWT_KEY_ROTATION"),
                issuers: given.issuers("JWT_ISSUERS"),
                access_ttl: given.duration("JWT_EXPIRE_TIME"),
                refresh_ttl: given.duration("REFRESH_TOKEN_EXPIRE_TIME"),
                admin_token: given.secret("ADMIN_TOKEN"),
            },
            providers: providers::providers(given),
            log: LogConfig {
                format,
                filter: given.text("LOG_LEVEL").unwrap_or_default(),
                masked: given.text("LOG_PERSONAL_DATA").as_deref() == Some("masked"),
            },
            trace: trace(given),
        }
    }
}

/// The bucket of backups, where one is named. What else is said of it is checked all the same.
fn bucket(given: &mut Given) -> Option<BucketConfig> {
    let named = given.text("BACKUP_BUCKET");
    let (endpoint, region) = (given.text("AWS_ENDPOINT_URL"), given.text("AWS_REGION"));
    let (id, secret) = (given.text("AWS_ACCESS_KEY_ID"), given.secret("AWS_SECRET_ACCESS_KEY"));
    let session_token = given.secret("AWS_SESSION_TOKEN");
    let (bucket, prefix) = BucketConfig::parse(&named?)?;
    if id.is_some() != secret.is_some() {
        given.problems.push(Problem {
            name: if id.is_some() { "AWS_SECRET_ACCESS_KEY" } else { "AWS_ACCESS_KEY_ID" }
                .to_owned(),
            text: "is not set, but its other half is: BACKUP_BUCKET needs both, or neither"
                .to_owned(),
        });
    }
    let region = region.unwrap_or_default();
    Some(BucketConfig { bucket, prefix, endpoint, region, keys: id.zip(secret), session_token })
}

/// Where spans go, where that is said. What else is said of them is checked all the same.
fn trace(given: &mut Given) -> Option<TraceConfig> {
    let endpoint = given.text("OTEL_EXPORTER_OTLP_ENDPOINT");
    let headers = given.secret("OTEL_EXPORTER_OTLP_HEADERS");
    let service_name = given.text("OTEL_SERVICE_NAME").unwrap_or_default();
    let sampler = given.text("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let sampling = Sampling::new(&sampler, given.ratio("OTEL_TRACES_SAMPLER_ARG"));
    let url = OutboundUrl::configured(&endpoint?).and_then(|url| url.at("/v1/traces")).ok()?;
    let headers = headers.and_then(|text| Headers::parse(&text).ok()).unwrap_or_default();
    Some(TraceConfig { url, headers, service_name, sampling: sampling? })
}

/// The database, where one is named. What else is said of it is checked all the same.
fn database(given: &mut Given, store: &StoreConfig) -> Option<PostgresConfig> {
    let url = given.secret("DATABASE_URL");
    let replica_url = given.secret("DATABASE_REPLICA_URL");
    let connections = given.number("DATABASE_CONNECTIONS");
    let connect_timeout = given.duration("DATABASE_CONNECT_TIMEOUT");
    let acquire_timeout = given.duration("DATABASE_ACQUIRE_TIMEOUT");
    let statement_timeout = given.duration("DATABASE_STATEMENT_TIMEOUT");
    let lock_timeout = given.duration("DATABASE_LOCK_TIMEOUT");
    if url.is_none() && replica_url.is_some() {
        given.problems.push(Problem {
            name: "DATABASE_REPLICA_URL".to_owned(),
            text: "is set, but not DATABASE_URL, whose standby it names".to_owned(),
        });
    }
    Some(PostgresConfig {
        replica_url,
        connections,
        connect_timeout,
        acquire_timeout,
        statement_timeout,
        lock_timeout,
        sent_kept: store.sent_kept(),
        retention: store.retention,
        ..PostgresConfig::new(url?)
    })
}

/// What stands in for an address that could not be read, while the other mistakes are collected.
const ADDRESS_STAND_IN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests;
