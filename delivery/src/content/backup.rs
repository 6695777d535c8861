//! Backups: opened when they are made, sealed when they are brought back.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId};
use rusqlite::{Connection, params};

use super::{ContentError, ContentKeys};

/// Messages that are rewritten at a time: some hundred KiB in memory.
const PAGE: i64 = 256;

/// Bodies of a SQLite file cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RewriteError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl ContentKeys {
    /// Opens every body of a backup's messages.
    pub(crate) fn open_backup(
        &self,
        db: &Connection,
        tenant: &TenantId,
    ) -> Result<(), RewriteError> {
        // By its first bytes: a body that is not sealed is not looked at any further.
        // What was sealed is overwritten: it is longer, and cannot be compressed.
        db.execute_batch("PRAGMA main.secure_delete = ON")?;
        let which = "substr(body, 1, 11) = '{\"sealed\":\"'";
        rewrite_messages(db, which, |body| self.open(tenant, body)).map(drop)
    }

    /// Seals every body of a backup's messages, where there is a key that writes.
    pub(crate) fn seal_backup(
        &self,
        db: &Connection,
        tenant: &TenantId,
    ) -> Result<(), RewriteError> {
        if !self.seal_anything() {
            return Ok(());
        }
        rewrite_messages(db, "true", |body| self.seal(tenant, body)).map(drop)
    }
}

/// Gives the messages of a table `message` other bodies. Answers how many that were.
pub(crate) fn rewrite_messages(
    db: &Connection,
    which: &str,
    change: impl Fn(&Arc<Body>) -> Result<Arc<Body>, ContentError>,
) -> Result<u64, RewriteError> {
    let (mut after, mut changed) = (0, 0);
    let mut select = db.prepare(&format!(
        "SELECT seq, id, body FROM message WHERE seq > ?1 AND {which} ORDER BY seq LIMIT ?2"
    ))?;
    let mut update = db.prepare("UPDATE message SET body = ?2 WHERE seq = ?1")?;
    loop {
        let page: Vec<(i64, String, Vec<u8>)> = select
            .query_map(params![after, PAGE], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?.to_vec()))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let Some((last, ..)) = page.last() else { return Ok(changed) };
        after = *last;
        for (seq, id, json) in page {
            let body = body_of(&id, &json)?;
            let other = change(&body)?;
            if !Arc::ptr_eq(&other, &body) {
                update.execute(params![seq, text_of(&other)])?;
                changed += 1;
            }
        }
    }
}

/// A body of a row. When it expires says its own column.
pub(crate) fn body_of(id: &str, json: &[u8]) -> rusqlite::Result<Arc<Body>> {
    let id = MessageId::new(id).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Arc::new(Body::from_stored(id, None, json)))
}

/// A body as it stands in a column.
pub(crate) fn text_of(body: &Body) -> String {
    String::from_utf8_lossy(&body.json()).into_owned()
}
