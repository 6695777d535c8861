//! Nodes and shares in the database. PostgreSQL only: a file has one node.

use std::time::Duration;

use super::shares::{SHARES, ShareSet};
use crate::{
    clock::millis,
    sql::{Database, Row, SqlError, Statements, values},
};

/// The clock that all go by.
macro_rules! now {
    () => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
    };
}

/// Begins a lease. Those that have ended are forgotten, with their owners.
pub(super) fn join(database: &mut Database, node: &str, lease: Duration) -> Result<(), SqlError> {
    database.change(|database| {
        forget_dead(database)?;
        database.execute(
            concat!("INSERT INTO webhook_node VALUES ($1, $2 + ", now!(), ", false)"),
            &values![node, millis(lease)],
        )?;
        Ok(())
    })
}

fn forget_dead(database: &mut dyn Statements) -> Result<(), SqlError> {
    let sql = concat!("DELETE FROM webhook_node WHERE lease_until <= ", now!());
    database.execute(sql, &[])?;
    Ok(())
}

/// The lease goes on, unless it has ended; whether it does. Waits for no other node, and as one statement
/// leaves no lock behind where the node vanishes in the middle of it.
pub(super) fn renew(
    database: &mut Database,
    node: &str,
    lease: Duration,
) -> Result<bool, SqlError> {
    let sql = concat!(
        "UPDATE webhook_node SET lease_until = $2 + ",
        now!(),
        " WHERE id = $1 AND lease_until > ",
        now!(),
        " RETURNING id"
    );
    Ok(!database.glance(sql, &values![node, millis(lease)])?.is_empty())
}

/// It takes nothing more; others need not wait until it has gone.
pub(super) fn leave(database: &mut Database, node: &str) -> Result<(), SqlError> {
    let sql = "UPDATE webhook_node SET leaving = true WHERE id = $1 RETURNING id";
    database.glance(sql, &values![node]).map(drop)
}

/// The nodes that send.
pub(super) fn live(database: &mut Database) -> Result<Vec<String>, SqlError> {
    let sql = concat!(
        "SELECT id FROM webhook_node WHERE lease_until > ",
        now!(),
        " AND NOT leaving ORDER BY id"
    );
    database.glance(sql, &[])?.into_iter().map(|mut row| row.text()).collect()
}

fn share(mut row: Row) -> Result<usize, SqlError> {
    let n = row.int()?;
    let share = usize::try_from(n).ok().filter(|share| *share < SHARES);
    share.ok_or_else(|| SqlError::Damaged(format!("there is no share {n}").into()))
}

/// What belongs to a node.
pub(super) fn held(database: &mut Database, node: &str) -> Result<ShareSet, SqlError> {
    let sql = "SELECT n FROM webhook_share WHERE owner = $1";
    database.glance(sql, &values![node])?.into_iter().map(share).collect()
}

/// What belongs to no live node.
pub(super) fn free(database: &mut Database) -> Result<ShareSet, SqlError> {
    let sql = concat!(
        "SELECT n FROM webhook_share WHERE owner IS NULL OR owner NOT IN \
         (SELECT id FROM webhook_node WHERE lease_until > ",
        now!(),
        ")"
    );
    database.glance(sql, &[])?.into_iter().map(share).collect()
}

/// Takes what is still free; none if the node's own lease has ended. Under the lock, because a statement
/// that waits for a row sees other rows as they were before.
pub(super) fn take(
    database: &mut Database,
    node: &str,
    wanted: &ShareSet,
) -> Result<Option<ShareSet>, SqlError> {
    database.change(|database| {
        forget_dead(database)?;
        let sql = "SELECT count(*) FROM webhook_node WHERE id = $1";
        if database.number(sql, &values![node])? == 0 {
            return Ok(None);
        }
        let each: Vec<_> = wanted.iter().map(|share| values![share, node].to_vec()).collect();
        let taken = database.rows_each(
            "UPDATE webhook_share SET owner = $2 WHERE n = $1 AND (owner IS NULL \
             OR owner NOT IN (SELECT id FROM webhook_node)) RETURNING n",
            &each,
        )?;
        taken.into_iter().flatten().map(share).collect::<Result<_, _>>().map(Some)
    })
}

/// Lets go of shares.
pub(super) fn release(
    database: &mut Database,
    node: &str,
    shares: &ShareSet,
) -> Result<(), SqlError> {
    database.change(|database| {
        let each: Vec<_> = shares.iter().map(|share| values![share, node].to_vec()).collect();
        let sql = "UPDATE webhook_share SET owner = NULL WHERE n = $1 AND owner = $2";
        database.execute_each(sql, &each)
    })
}

/// Ends a lease before its time, with all that it has.
pub(super) fn part(database: &mut Database, node: &str) -> Result<(), SqlError> {
    database.change(|database| {
        database.execute("DELETE FROM webhook_node WHERE id = $1", &values![node])?;
        let sql = "UPDATE webhook_share SET owner = NULL WHERE owner = $1";
        database.execute(sql, &values![node])?;
        Ok(())
    })
}

/// What other nodes may have done.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Revision {
    /// Of endpoints.
    pub(super) n: i64,
    /// Who has not seen this one reads all endpoints.
    pub(super) forgotten: i64,
    /// Of what was recorded.
    pub(super) news: i64,
}

pub(super) fn revision(database: &mut Database) -> Result<Revision, SqlError> {
    let sql = "SELECT n, forgotten, news FROM webhook_revision";
    let mut row = database.glance(sql, &[])?.pop().unwrap_or_default();
    Ok(Revision { n: row.int()?, forgotten: row.int()?, news: row.int()? })
}

/// The endpoints for which something was recorded after a revision.
pub(super) fn news(database: &mut Database, since: i64) -> Result<Vec<i64>, SqlError> {
    let sql = "SELECT key FROM webhook_endpoint WHERE news > $1";
    database.glance(sql, &values![since])?.into_iter().map(|mut row| row.int()).collect()
}
