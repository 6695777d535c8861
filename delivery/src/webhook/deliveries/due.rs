//! What is to be sent now, and when there is something next.

use protocol::Time;
use rustc_hash::FxHashSet;

use crate::sql::{Row, SqlError, Statements, values};

/// An event whose time has come.
#[derive(Debug)]
pub(in crate::webhook) struct Due {
    pub(in crate::webhook) id: i64,
    pub(in crate::webhook) event: String,
    pub(in crate::webhook) body: String,
}

/// Which are due, and the bytes of their bodies.
pub(in crate::webhook) const DUE: &str = "SELECT id, CAST(octet_length(body) AS bigint) \
     FROM webhook_delivery WHERE endpoint = $1 AND state = 0 AND due_at <= $2 \
     ORDER BY due_at LIMIT $3";

pub(in crate::webhook) const NEXT_DUE: &str = "SELECT min(due_at) FROM webhook_delivery \
     WHERE endpoint = $1 AND state = 0 AND due_at > $2";

/// Events of an endpoint that are due, oldest due time first, without those in `skip`; and when the
/// next one is that is not due yet. No more than so many, and none after so many bytes.
pub(in crate::webhook) fn due(
    database: &mut dyn Statements,
    key: i64,
    now: Time,
    skip: &FxHashSet<i64>,
    (rows_max, bytes_max): (usize, usize),
) -> Result<(Vec<Due>, Option<Time>), SqlError> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    for mut row in database.rows(DUE, &values![key, now, rows_max + skip.len()])? {
        let (id, size) = (row.int()?, row.count()?);
        if skip.contains(&id) {
            continue;
        }
        chosen.push(values![id].to_vec());
        bytes += size;
        if chosen.len() >= rows_max || bytes >= bytes_max as u64 {
            break;
        }
    }
    let found = database.rows_each(
        "SELECT id, event, body FROM webhook_delivery WHERE id = $1 AND state = 0",
        &chosen,
    )?;
    let found = found
        .into_iter()
        .flatten()
        .map(|mut row| Ok(Due { id: row.int()?, event: row.text()?, body: row.text()? }));
    let found = found.collect::<Result<_, SqlError>>()?;
    let next = database.row(NEXT_DUE, &values![key, now])?.unwrap_or_default().maybe_time()?;
    Ok((found, next))
}

/// The active endpoints for which something waits, and since when or until when.
pub(in crate::webhook) fn waiting(
    database: &mut dyn Statements,
) -> Result<Vec<(i64, Time)>, SqlError> {
    let rows = database.rows(
        "SELECT key, (SELECT min(due_at) FROM webhook_delivery WHERE endpoint = key AND state = 0) \
         FROM webhook_endpoint WHERE pending > 0 AND status = 'active'",
        &[],
    )?;
    let read = |mut row: Row| Ok((row.int()?, row.maybe_time()?.unwrap_or_default()));
    rows.into_iter().map(read).collect()
}
