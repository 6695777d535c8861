//! Brings inboxes back into a database that no node works on.

use std::sync::Arc;

use protocol::{Body, MessageId, Time};
use rusqlite::{Row, params};

use super::{
    super::{
        columns::Columns as _,
        names,
        pool::{self, Client, execute, row},
    },
    Import, ImportError, begin,
    claim::{is_free, nodes},
    inbox::InboxPart,
};
use crate::{
    backup::{Opened, ReadError, RestoreError},
    store::{
        Audience, SentState,
        portable::{Cell, Cells, SentBody},
        postgres::PostgresConfig,
        single::{InboxLine, MovedMessage, cells},
    },
};

/// Messages, and rows of anything else, that are taken in at a time.
const MESSAGES: i64 = 512;
const ROWS: i64 = 4_096;

/// The code of `recalled`, from which on a message is not shown.
const RECALLED: i64 = 3;

/// What belongs to an inbox.
const TABLES: [&str; 9] = [
    "messages",
    "changes",
    "tallies",
    "cursors",
    "receipts",
    "reached",
    "search_texts",
    "search_states",
    "moved_inboxes",
];

fn database(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RestoreError {
    RestoreError::Database(error.into())
}

/// Brings inboxes back, each in one transaction. `done` is told of each.
///
/// # Errors
/// [`RestoreError::Used`] where an inbox is there and is not to be replaced, [`RestoreError::Database`].
pub async fn restore(
    config: &PostgresConfig,
    backups: &[Opened],
    replace: bool,
    done: impl Fn(),
) -> Result<(), RestoreError> {
    let import = Import::new(config).map_err(database)?;
    // While it is held no node begins to work here.
    let _lock = import.alone().await.map_err(database)?;
    if !replace {
        for backup in backups {
            if import.is_used(backup).await.map_err(database)? {
                return Err(RestoreError::Used(backup.line().inbox.user.to_string()));
            }
        }
    }
    for backup in backups {
        import.restore(backup).await?;
        done();
    }
    import.analyze().await.map_err(database)
}

impl Import {
    async fn alone(&self) -> Result<Client, ImportError> {
        let lock = self.db.client().await?;
        if !is_free(&lock).await? {
            return Err(ImportError::Busy);
        }
        match nodes(&lock).await? {
            0 => Ok(lock),
            found => Err(ImportError::InUse(found)),
        }
    }

    async fn is_used(&self, backup: &Opened) -> Result<bool, ImportError> {
        let key = &backup.line().inbox;
        let client = self.db.client().await?;
        let sql = "SELECT head FROM inboxes WHERE tenant = $1 AND usr = $2";
        let found = row(&client, sql, &[&key.tenant.as_str(), &key.user.as_str()]).await?;
        Ok(found.map(|row| row.column::<i64>(0)).transpose()?.is_some_and(|head| head > 0))
    }

    async fn restore(&self, backup: &Opened) -> Result<(), RestoreError> {
        let key = &backup.line().inbox;
        let read = |source: ReadError| database(source);
        let mut client = self.client().await.map_err(database)?;
        let transaction = begin(&mut client).await.map_err(database)?;
        let begun = async {
            let now = row(&transaction, "SELECT now_ms(0)", &[]).await?;
            let now = now.map_or(Ok(0), |row| row.column(0))?;
            names::make(&transaction, &[(key, None)], now).await?;
            let found = names::find(&transaction, &[key]).await?.pop();
            let id = found.map(|(_, id)| id).ok_or(super::Failure::Gone)?;
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE inbox = $1");
                execute(&transaction, &sql, &[&id]).await?;
            }
            // What was brought back must not be lost by a crash after the last line of this command.
            pool::batch(&transaction, "SET LOCAL synchronous_commit = on").await?;
            Ok::<_, super::Failure>(id)
        };
        let id = begun.await.map_err(|error| database(ImportError::from(error)))?;
        let mut part = InboxPart::new(transaction, id, false);
        let mut after = 0;
        loop {
            let page = messages(backup, after).map_err(read)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            let bodies = self.bodies_of(backup, &page).await.map_err(database)?;
            part.messages(page, &bodies).await.map_err(database)?;
        }
        let sql =
            "SELECT seq, message_seq, at, kind, status, action_index, message_id, device_id, action
            FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut after = 0;
        loop {
            let page = rows(backup, sql, params![after, ROWS]).map_err(read)?;
            let Some(last) = page.last() else { break };
            let Some(Cell::Int(seq)) = last.first() else { break };
            after = *seq;
            part.changes(page).await.map_err(database)?;
        }
        let sql = "SELECT from_seq, kind, device_id, to_seq, at FROM receipt
            ORDER BY from_seq, kind, device_id LIMIT ?1 OFFSET ?2";
        let mut skipped = 0;
        loop {
            let page = rows(backup, sql, params![ROWS, skipped]).map_err(read)?;
            if page.is_empty() {
                break;
            }
            skipped += ROWS;
            part.receipts(page).await.map_err(database)?;
        }
        let line = backup.line();
        let [messages, changes, receipts, _] = backup.counts();
        let line = InboxLine {
            head: line.head.0.cast_signed(),
            min_seq: line.min_seq.0.cast_signed(),
            delivered: line.delivered.0.cast_signed(),
            acked: line.acked.0.cast_signed(),
            counts: [messages, changes, receipts],
            cursors: backup.cursors().map_err(read)?,
        };
        part.finish(line).await.map_err(database)
    }

    /// The bodies of messages, brought there if they are not there.
    async fn bodies_of(
        &self,
        backup: &Opened,
        page: &[MovedMessage],
    ) -> Result<super::Ids, ImportError> {
        let key = &backup.line().inbox;
        let names: Vec<&str> = page.iter().map(|message| message.id.as_str()).collect();
        let mut known = self.find_bodies(&key.tenant, &names).await?;
        let body = |message: &MovedMessage| {
            let at = Time::from_millis(message.stored_at);
            SentBody {
                tenant: key.tenant.clone(),
                id: message.id.clone(),
                body: Some(Arc::clone(&message.body)),
                // Nobody may change it any more: who sent it is not in a backup.
                sender: None,
                audience: Audience::users(vec![key.user.clone()]),
                state: if message.status == RECALLED {
                    SentState::Recalled
                } else {
                    SentState::Sent
                },
                accepted_at: at,
                scheduled_at: None,
                sent_at: Some(at),
                place: None,
            }
        };
        // An inbox in which a message had expired did not get its later edits.
        let edited: Vec<SentBody> = page
            .iter()
            .filter(|message| message.edited && message.status < RECALLED)
            .filter(|message| known.contains_key(&message.id))
            .map(body)
            .collect();
        let missing: Vec<SentBody> =
            page.iter().filter(|message| !known.contains_key(&message.id)).map(body).collect();
        if !missing.is_empty() {
            known.extend(self.store_bodies(missing).await?);
        }
        if !edited.is_empty() {
            self.refresh_bodies(&edited).await?;
        }
        Ok(known)
    }
}

fn damaged(error: rusqlite::Error) -> ReadError {
    ReadError::Damaged(error.to_string())
}

fn rows(
    backup: &Opened,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Cells>, ReadError> {
    let read = || -> rusqlite::Result<Vec<Cells>> {
        backup.db().prepare_cached(sql)?.query_map(values, cells)?.collect()
    };
    read().map_err(damaged)
}

fn messages(backup: &Opened, after: i64) -> Result<Vec<MovedMessage>, ReadError> {
    // What a backup does not say twice is worked out from its log.
    let sql = "SELECT id, expire_at, body,
            EXISTS (SELECT 1 FROM changes AS c WHERE c.message_seq = m.seq AND c.kind = 2),
            seq, version, status, priority, stored_at, created_at,
            (SELECT read_at FROM read_status AS r WHERE r.message_seq = m.seq),
            CASE WHEN status >= 3 THEN coalesce(
                (SELECT c.at FROM changes AS c WHERE c.seq = m.version),
                (SELECT n.stored_at FROM message AS n WHERE n.seq = m.version), 0) END,
            EXISTS (SELECT 1 FROM changes AS c
                WHERE c.message_seq = m.seq AND c.kind = 0 AND c.status = 0),
            channel_id, message_type, sender, collapse_key
        FROM message AS m WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let read = || -> rusqlite::Result<Vec<MovedMessage>> {
        let mut select = backup.db().prepare_cached(sql)?;
        select.query_map(params![after, MESSAGES], message)?.collect()
    };
    read().map_err(damaged)
}

fn message(row: &Row<'_>) -> rusqlite::Result<MovedMessage> {
    let id = MessageId::new(row.get::<_, String>(0)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let expire_at: Option<i64> = row.get(1)?;
    let json = row.get_ref(2)?.as_bytes()?;
    let body = Body::from_stored(id.clone(), expire_at.map(Time::from_millis), json);
    Ok(MovedMessage {
        id,
        body: Arc::new(body),
        edited: row.get(3)?,
        seq: row.get(4)?,
        version: row.get(5)?,
        status: row.get(6)?,
        priority: row.get(7)?,
        stored_at: row.get(8)?,
        created_at: row.get(9)?,
        expire_at,
        read_at: row.get(10)?,
        gone_at: row.get(11)?,
        reread: row.get(12)?,
        channel: row.get(13)?,
        message_type: row.get(14)?,
        sender: row.get(15)?,
        collapse_key: row.get(16)?,
    })
}
