//! A look at the database before anything is built on it: what will never work is told apart from what
//! may work in a moment.

use std::io;

use tokio_postgres::{Client, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    config::{Address, PostgresConfig},
    pool::PoolError,
    tls,
};

/// The oldest PostgreSQL that is known to do, as `server_version_num` counts.
const VERSION_MIN: u32 = 150_000;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address or the certificates that are named are wrong.
    #[error(transparent)]
    Address(#[from] PoolError),
    /// It cannot be reached, is starting or stopping, or has no connection left: it may be there in a
    /// moment.
    #[error("PostgreSQL at {at} cannot be reached")]
    Away {
        /// Where, without a password.
        at: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It takes connections and says nothing: it stands still, or a proxy before it has lost it.
    #[error("PostgreSQL at {at} does not answer")]
    Silent {
        /// Where, without a password.
        at: String,
    },
    /// It is there and refuses: a password, a database's name, a certificate.
    #[error("PostgreSQL at {at} refuses")]
    Refused {
        /// Where, without a password.
        at: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It is a standby, or set to read only.
    #[error("PostgreSQL at {at} is read-only: DATABASE_URL must name the primary")]
    ReadOnly {
        /// Where, without a password.
        at: String,
    },
    /// It is too old.
    #[error("PostgreSQL at {at} is version {found}; 15 or later is needed")]
    TooOld {
        /// Where, without a password.
        at: String,
        /// Its version.
        found: String,
    },
}

impl ProbeError {
    /// Whether trying again may help, with nothing changed here.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Silent { .. })
    }
}

/// Whether an error is one of the database or the way to it that may be over in a moment.
#[must_use]
pub fn may_pass(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return is_away(error);
        }
        cause = error.source();
    }
    false
}

fn is_away(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        // 53: no connection left; 57: starting, stopping.
        return *code == SqlState::TOO_MANY_CONNECTIONS
            || code.code().starts_with("53")
            || code.code().starts_with("57");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // A certificate that does not fit comes as invalid data.
            return error.kind() != io::ErrorKind::InvalidData;
        }
        cause = error.source();
    }
    error.is_closed()
}

/// What other parts of this node connect with: the driver's settings and the way to TLS.
///
/// # Errors
/// When the address or a file of certificates cannot be used.
pub fn connecting(
    config: &PostgresConfig,
) -> Result<(tokio_postgres::Config, MakeRustlsConnect), PoolError> {
    let address = Address::parse(&config.url, config)?;
    let tls = tls::connector(&address.trust)?;
    Ok((address.driver, tls))
}

/// Connects once, and looks whether this is a database to work with.
///
/// # Errors
/// [`ProbeError`]; one that [`ProbeError::may_pass`] is worth another try.
pub async fn probe(config: &PostgresConfig) -> Result<(), ProbeError> {
    let (driver, tls) = connecting(config)?;
    // The driver's own limit is that of the network: whoever takes the connection may say nothing.
    let most = config.connect_timeout_in_all(&driver) + config.connect_timeout;
    tokio::time::timeout(most, try_out(config, driver, tls))
        .await
        .unwrap_or_else(|_| Err(ProbeError::Silent { at: config.describe() }))
}

async fn try_out(
    config: &PostgresConfig,
    driver: tokio_postgres::Config,
    tls: MakeRustlsConnect,
) -> Result<(), ProbeError> {
    let at = config.describe();
    let failed = |source: tokio_postgres::Error| {
        let at = config.describe();
        if is_away(&source) {
            ProbeError::Away { at, source }
        } else {
            ProbeError::Refused { at, source }
        }
    };
    let (client, connection) = driver.connect(tls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let looked = look(&client, &at).await;
    drop(client);
    // Ends with its client; what it has to tell was told by the questions.
    let _ = connection.await;
    looked.map_err(failed)?
}

async fn look(client: &Client, at: &str) -> Result<Result<(), ProbeError>, tokio_postgres::Error> {
    let sql = "SELECT current_setting('server_version_num'), current_setting('server_version'),
                      pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'";
    let row = client.query_one(sql, &[]).await?;
    let (number, found, read_only): (&str, String, bool) = (row.get(0), row.get(1), row.get(2));
    let at = at.to_owned();
    Ok(if number.parse::<u32>().is_ok_and(|number| number < VERSION_MIN) {
        Err(ProbeError::TooOld { at, found })
    } else if read_only {
        Err(ProbeError::ReadOnly { at })
    } else {
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_where_nobody_listens_may_be_listened_to_later() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = PostgresConfig::new(format!("postgres://u:geheim@127.0.0.1:{port}/hub"));
        let error = probe(&config).await.unwrap_err();
        assert!(error.may_pass(), "{error}");
        assert!(!format!("{error:?}").contains("geheim"));
        let error = probe(&PostgresConfig::new("mysql://db")).await.unwrap_err();
        assert!(!error.may_pass(), "{error}");
    }
}
