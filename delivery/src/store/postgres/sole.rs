//! The right to back up everybody, of which there is one for all nodes of a database.
//!
//! A lock of the database's on a connection of its own: whatever becomes of the process, PostgreSQL lets go of it
//! when that connection ends.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::{
    company::{CompanyError, VANISHED_SOON},
    config::PostgresConfig,
    locks,
    probe::connecting,
};

/// Longest wait for the database beyond what connecting may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Held by one process; let go of when dropped.
pub(crate) struct Sole {
    client: Client,
    #[expect(dead_code, reason = "held")]
    connection: AbortOnDropHandle<()>,
}

impl Sole {
    /// Takes it; none where another has it.
    pub(crate) async fn take(config: &PostgresConfig) -> Result<Option<Self>, CompanyError> {
        let (driver, tls) = connecting(config)?;
        let most = config.connect_timeout_in_all(&driver) + ANSWER_WITHIN;
        let taken = timeout(most, async {
            let (client, connection) = driver.connect(tls).await?;
            // That it ended is all there is to know.
            let connection =
                AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
            client.batch_execute(VANISHED_SOON).await?;
            let sql = "SELECT pg_try_advisory_lock($1)";
            let is_free: bool = client.query_one(sql, &[&locks::BACKUPS]).await?.get(0);
            Ok(is_free.then_some(Self { client, connection }))
        });
        taken.await.unwrap_or(Err(CompanyError::Silent))
    }

    /// Whether the connection is still there, as far as is known here.
    pub(crate) fn lasts(&self) -> bool {
        !self.client.is_closed()
    }
}
