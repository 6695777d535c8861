//! Questions for statistics.

use rusqlite::{Connection, OpenFlags, params};

use super::{
    Ledger,
    file::store_error,
    stats::{hour_begin, hour_of},
};
use crate::store::{StatsBy, StatsQuery, StatsRow, StoreError, limits::STATS_ROWS_MAX};

impl Ledger {
    /// Looks with a connection of its own: adding up a year may take a second, and neither writing
    /// nor answers wait for that.
    pub(super) async fn run_stats(&self, query: StatsQuery) -> Result<Vec<StatsRow>, StoreError> {
        let _one = self.asking_stats.lock().await;
        // What is only in memory is brought along; where it cannot be written, it is missing.
        match self.query(|_| Ok(())).await {
            Ok(()) | Err(StoreError::NotWritable(_)) => {}
            Err(error) => return Err(error),
        }
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            let look = || {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                rows(&Connection::open_with_flags(&path, flags)?, &query)
            };
            look().map_err(|error| store_error(path.clone(), error))
        })
        .await
        .unwrap_or(Err(StoreError::Closing))
    }
}

fn rows(db: &Connection, query: &StatsQuery) -> rusqlite::Result<Vec<StatsRow>> {
    let column = match query.by {
        StatsBy::Service => "service",
        StatsBy::Template => "template",
        StatsBy::MessageType => "message_type",
        StatsBy::Channel => "channel",
        StatsBy::Hour => "hour",
    };
    let mut select = db.prepare(&format!(
        "SELECT {column}, sum(sent), sum(delivered), sum(read), sum(read_ms) FROM stats
         WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR tenant = ?3)
           AND (?4 IS NULL OR service = ?4)
         GROUP BY {column} ORDER BY {column} LIMIT ?5"
    ))?;
    let values = params![
        hour_of(query.from),
        hour_of(query.to),
        query.tenant.as_ref().map(protocol::TenantId::as_str),
        query.service,
        STATS_ROWS_MAX.cast_signed() as i64,
    ];
    let found = select.query_map(values, |row| {
        let key = match query.by {
            StatsBy::Hour => Some(hour_begin(row.get(0)?).to_string()),
            _ => Some(row.get::<_, String>(0)?).filter(|key| !key.is_empty()),
        };
        let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        Ok(StatsRow {
            key,
            sent: count(1)?,
            delivered: count(2)?,
            read: count(3)?,
            read_ms: count(4)?,
        })
    })?;
    found.collect()
}
