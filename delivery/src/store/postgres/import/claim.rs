//! Who moves what into a database.

use std::time::{Duration, Instant};

use protocol::Time;

use super::{
    super::{
        columns::Columns as _,
        errors::Failure,
        locks,
        pool::{self, Client, execute, row},
    },
    Import, ImportError,
};

/// What a database may have of others, and in which table.
const FOREIGN: [(&str, &str); 10] = [
    ("users", "inboxes"),
    ("messages", "bodies"),
    ("channels", "channels"),
    ("answers to requests", "answers"),
    ("services", "control_service"),
    ("templates", "control_template"),
    ("quotas", "control_tenant"),
    ("logins", "account_user"),
    ("admins", "admin_account"),
    ("webhooks", "webhook_endpoint"),
];

/// Everything that a move fills.
const TABLES: &str =
    "tenants, inboxes, tallies, bodies, broadcasts, broadcast_groups, members, groups,
    channels, users, messages, changes, cursors, receipts, reached, answers, stats, stats_new,
    search_texts, search_states, moved_parts, moved_inboxes, control_service, control_api_key,
    control_tenant, control_template, control_template_version, control_tenant_usage,
    account_user, account_identity, account_session, account_revoked, account_once, admin_account, admin_identity,
    admin_session, webhook_endpoint, webhook_secret, webhook_delivery";

/// How long it is waited for another move, and for nodes, to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a move begins.
pub(crate) enum Claim {
    /// It goes on, or begins, as of a moment. The database is this process's while the connection lasts.
    Open { at: Time, again: bool, lock: Box<Client> },
    /// All of the folder is here since a moment.
    Finished { at: Time },
}

impl Import {
    /// Takes the database for a folder. `marked` says whether the folder knows of a move that began: one that does
    /// not was used since, and is moved from the beginning.
    pub(crate) async fn claim(
        &self,
        folder: &str,
        marked: bool,
        now: Time,
    ) -> Result<Claim, ImportError> {
        let mut lock = self.db.client().await?;
        let began = Instant::now();
        // What was just killed ends when the server has seen that it did.
        let (free, nodes) = loop {
            let found = (is_free(&lock).await?, nodes(&lock).await?);
            if found == (true, 0) || began.elapsed() > PATIENCE {
                break found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        if !free {
            return Err(ImportError::Busy);
        }
        let transaction = pool::begin(&mut lock).await?;
        let sql = "SELECT folder = $1, began_at, finished_at FROM moves ORDER BY folder = $1 DESC";
        let known = row(&transaction, &format!("{sql} LIMIT 1"), &[&folder]).await?;
        let known = match &known {
            Some(row) => Some((row.column::<bool>(0)?, row.time(1)?, row.maybe_time(2)?)),
            None => None,
        };
        let (at, again) = match known {
            Some((true, _, Some(at))) if marked => return Ok(Claim::Finished { at }),
            Some((true, _, Some(_))) => return Err(ImportError::TakenBack),
            _ if nodes > 0 => return Err(ImportError::InUse(nodes)),
            Some((true, at, None)) if marked => (at, true),
            Some((true, _, None)) => {
                pool::batch(&transaction, &format!("TRUNCATE {TABLES}")).await?;
                let sql = "UPDATE moves SET began_at = $2 WHERE folder = $1";
                execute(&transaction, sql, &[&folder, &now.millis()]).await?;
                (now, false)
            }
            Some((false, ..)) => return Err(ImportError::Foreign("data of another folder")),
            None if marked => return Err(ImportError::Elsewhere),
            None => {
                for (what, table) in FOREIGN {
                    let sql = format!("SELECT 1 FROM {table} LIMIT 1");
                    if row(&transaction, &sql, &[]).await?.is_some() {
                        return Err(ImportError::Foreign(what));
                    }
                }
                let sql = "INSERT INTO moves (folder, began_at) VALUES ($1, $2)";
                execute(&transaction, sql, &[&folder, &now.millis()]).await?;
                (now, false)
            }
        };
        pool::commit(transaction).await?;
        Ok(Claim::Open { at, again, lock: Box::new(lock) })
    }

    /// All of a folder is here, and was compared. Everything before this is durable when it returns.
    pub(crate) async fn finish(&self, folder: &str) -> Result<(), ImportError> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let sql = "UPDATE moves SET finished_at = now_ms(0) WHERE folder = $1";
        execute(&transaction, sql, &[&folder]).await?;
        pool::batch(&transaction, "TRUNCATE moved_parts, moved_inboxes").await?;
        Ok(pool::commit(transaction).await?)
    }
}

/// Takes the lock, if nobody else has it.
pub(super) async fn is_free(client: &Client) -> Result<bool, Failure> {
    let sql = "SELECT pg_try_advisory_lock($1)";
    row(client, sql, &[&locks::MOVING]).await?.map_or(Ok(false), |row| row.column(0))
}

/// Sessions of nodes.
pub(super) async fn nodes(client: &Client) -> Result<i64, Failure> {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'pushhub'";
    row(client, sql, &[]).await?.map_or(Ok(0), |row| row.column(0))
}
