//! Settings of the store.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};
use url::form_urlencoded;

use crate::{
    clock::WallClock,
    store::{Retention, TenantRetention, Witness, limits},
};

/// Settings of the store. `Debug` shows no password.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database` (`DATABASE_URL`), or several `host:port` with commas
    /// between. Of its query `sslmode`
    /// (`disable`, `prefer`, `require`, `verify-full`) and `sslrootcert` (a PEM file) are looked at
    /// here, the rest by the driver.
    pub url: SecretString,
    /// A standby that answers lists, where it has all that the primary has of the inbox: within a second, or
    /// it is left alone for ten.
    pub replica_url: Option<SecretString>,
    /// Connections of this node, at most, the standby's apart. PostgreSQL's `max_connections` must
    /// hold those of all nodes.
    pub connections: usize,
    /// Transactions of sends at a time. While they are all under way what comes next gathers into
    /// one, so more of them make smaller ones.
    pub writers: usize,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long an operation waits for a connection while all are in use, before it is `Busy`.
    pub acquire_timeout: Duration,
    /// How long a statement may take, in the database.
    pub statement_timeout: Duration,
    /// How long a statement waits for another transaction, before it is `Busy`.
    pub lock_timeout: Duration,
    /// How long a transaction of a node that has vanished keeps its locks.
    pub idle_in_transaction_timeout: Duration,
    /// How long it is kept what was sent, for those who sent it: at least as long as inboxes keep
    /// messages (`RETENTION_MAX_AGE`).
    pub sent_kept: Duration,
    /// What inboxes keep. One node at a time goes over all of them, once an hour.
    pub retention: Retention,
    /// What tenants keep that keep less.
    pub tenants: Option<Arc<dyn TenantRetention>>,
    /// Times are those of the database's clock, so that nodes whose clocks differ agree. A clock
    /// given here moves them by as much as it differs from the system's, for tests.
    pub clock: Option<WallClock>,
    /// Is told what becomes of messages.
    pub witness: Option<Arc<dyn Witness>>,
}

impl PostgresConfig {
    /// The defaults for a database.
    #[must_use]
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            replica_url: None,
            connections: 16,
            writers: 2,
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(15),
            sent_kept: limits::SENT_KEPT,
            retention: Retention::default(),
            tenants: None,
            clock: None,
            witness: None,
        }
    }
}

impl PostgresConfig {
    /// How long it may take until one of the hosts has let a node in: each is tried for as long as making a
    /// connection may take.
    pub(super) fn connect_timeout_in_all(&self, driver: &tokio_postgres::Config) -> Duration {
        let hosts = u32::try_from(driver.get_hosts().len()).unwrap_or(u32::MAX);
        self.connect_timeout.saturating_mul(hosts.max(1))
    }

    /// Where the database is, in words without a password.
    #[must_use]
    pub fn describe(&self) -> String {
        Address::parse(&self.url, self)
            .map_or_else(|error| format!("(its address {error})"), |address| address.describe())
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("connections", &self.connections)
            .field("writers", &self.writers)
            .finish_non_exhaustive()
    }
}

/// The database's address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is no URL.
    #[error("must look like postgres://user:password@host:5432/database")]
    Shape,
    /// The word behind `sslmode` is another.
    #[error("sslmode must be disable, prefer, require or verify-full")]
    SslMode,
    /// The driver does not take it.
    #[error("cannot be used: {0}")]
    Driver(#[from] tokio_postgres::Error),
}

/// Whether an address can be used, as far as can be said without connecting.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(url: &str) -> Result<(), UrlError> {
    let config = PostgresConfig::new(url);
    Address::parse(&config.url, &config).map(drop)
}

/// How much of the server's certificate is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: who listens in sees nothing, who stands in between does (`prefer`, `require`).
    Any,
    /// It must be valid for the host's name, by the system's roots or those of a file.
    Verified(Option<PathBuf>),
}

/// A database's address.
pub(super) struct Address {
    pub(super) driver: tokio_postgres::Config,
    pub(super) trust: Trust,
}

impl Address {
    /// Where it is, in words without a password.
    pub(super) fn describe(&self) -> String {
        let driver = &self.driver;
        let hosts = driver.get_hosts().iter().enumerate().map(|(n, host)| {
            let ports = driver.get_ports();
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(path) => path.display().to_string(),
            }
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("{hosts}/{}", driver.get_dbname().or(driver.get_user()).unwrap_or_default())
    }

    pub(super) fn parse(url: &SecretString, config: &PostgresConfig) -> Result<Self, UrlError> {
        let url = url.expose_secret().trim();
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        if !["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(UrlError::Shape);
        }
        let (mut mode, mut roots, mut rest) = (SslMode::Prefer, None, Vec::new());
        let mut verified = false;
        for written in query.split('&').filter(|written| !written.is_empty()) {
            let mut read = form_urlencoded::parse(written.as_bytes());
            let Some((name, value)) = read.next() else { continue };
            match &*name {
                "sslmode" => {
                    (mode, verified) = match &*value {
                        "disable" => (SslMode::Disable, false),
                        "prefer" => (SslMode::Prefer, false),
                        "require" => (SslMode::Require, false),
                        "verify-full" => (SslMode::Require, true),
                        _ => return Err(UrlError::SslMode),
                    };
                }
                "sslrootcert" => roots = Some(PathBuf::from(&*value)),
                _ => rest.push(written),
            }
        }
        // By the driver, and not as a URL, which has one host.
        let mut driver: tokio_postgres::Config = match &*rest {
            [] => address.parse()?,
            rest => format!("{address}?{}", rest.join("&")).parse()?,
        };
        if driver.get_hosts().is_empty() {
            return Err(UrlError::Shape);
        }
        let millis = |time: Duration| time.as_millis();
        driver
            .ssl_mode(mode)
            .application_name("pushhub")
            .connect_timeout(config.connect_timeout)
            // A host that vanished without a word is noticed in this time.
            .tcp_user_timeout(config.statement_timeout)
            .keepalives_idle(Duration::from_secs(10))
            // A plan made for any value is right for all of ours, and planning 16 partitions anew
            // each time takes longer than the statement; compiling it even more so.
            .options(format!(
                "-c statement_timeout={} -c lock_timeout={} \
                 -c idle_in_transaction_session_timeout={} -c plan_cache_mode=force_generic_plan \
                 -c jit=off -c synchronous_commit=on -c client_min_messages=warning",
                millis(config.statement_timeout),
                millis(config.lock_timeout),
                millis(config.idle_in_transaction_timeout),
            ));
        let trust = if verified { Trust::Verified(roots) } else { Trust::Any };
        Ok(Self { driver, trust })
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::TargetSessionAttrs;

    use super::*;

    fn parse(url: &str) -> Result<Address, UrlError> {
        let config = PostgresConfig::new(url);
        Address::parse(&config.url, &config)
    }

    #[test]
    fn an_address_says_how_much_is_trusted() {
        for (query, mode, trust) in [
            ("", SslMode::Prefer, Trust::Any),
            ("?sslmode=disable", SslMode::Disable, Trust::Any),
            ("?sslmode=require&target_session_attrs=read-write", SslMode::Require, Trust::Any),
            ("?sslmode=verify-full", SslMode::Require, Trust::Verified(None)),
            (
                "?sslrootcert=%2Fca.pem&sslmode=verify-full",
                SslMode::Require,
                Trust::Verified(Some("/ca.pem".into())),
            ),
        ] {
            let address = parse(&format!("postgres://u:p@db:5433/hub{query}")).unwrap();
            assert_eq!(address.driver.get_ssl_mode(), mode, "{query}");
            assert_eq!(address.trust, trust, "{query}");
            assert_eq!(address.driver.get_dbname(), Some("hub"));
            assert_eq!(address.driver.get_password(), Some(&b"p"[..]));
        }
    }

    #[test]
    fn several_hosts_may_be_named_with_their_ports() {
        let query = "target_session_attrs=read-write&sslmode=disable";
        let url = format!("postgres://u:p%40ss@db1:5433,db2,[::1]:5434/hub?{query}");
        let config = PostgresConfig::new(url.clone());
        let address = Address::parse(&config.url, &config).unwrap();
        assert_eq!(address.driver.get_ports(), [5433, 5432, 5434]);
        assert_eq!(address.driver.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(address.driver.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.describe(), "db1:5433,db2:5432,::1:5434/hub");
        assert_eq!(config.connect_timeout_in_all(&address.driver), Duration::from_secs(15));
        assert!(check_address(&url).is_ok());
        assert!(matches!(parse("postgres://db1:54x,db2/hub"), Err(UrlError::Driver(_))));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(matches!(parse("host=db"), Err(UrlError::Shape)));
        assert!(matches!(parse("mysql://db"), Err(UrlError::Shape)));
        assert!(matches!(parse("postgres:///hub"), Err(UrlError::Shape)));
        assert!(matches!(parse("postgres://db?sslmode=maybe"), Err(UrlError::SslMode)));
        assert!(matches!(parse("postgres://db?unknown=1"), Err(UrlError::Driver(_))));
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = PostgresConfig::new("postgres://u:geheim@db/hub");
        assert!(!format!("{config:?}").contains("geheim"));
        assert_eq!(config.describe(), "db:5432/hub");
    }
}
