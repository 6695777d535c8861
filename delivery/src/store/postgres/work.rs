//! The inboxes of a transaction: locked in the order of their ids, so that no two transactions wait for
//! each other; read and written with one statement for all of them.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio_postgres::Row;

use super::{
    columns::{Columns as _, status_from},
    errors::Failure,
    pool::{Transaction, rows},
    rows::{Facts, Inbox, Message, Written},
    slot::Slot,
};
use crate::InboxKey;

const LOCK: &str = "
    SELECT i.id, i.tenant, i.usr, i.head, i.min_seq, i.kept, i.unread, i.read, i.archived, i.recalled,
        i.born_pos, i.group_pos, i.next_expiry, coalesce(t.pos, 0)
    FROM inboxes i LEFT JOIN tenants t ON t.tenant = i.tenant
    WHERE i.id = ANY($1) ORDER BY i.id FOR NO KEY UPDATE OF i";

/// Reads a row of [`LOCK`], and of whatever selects the same.
pub(super) fn inbox_of(row: &Row) -> Result<Inbox, Failure> {
    Ok(Inbox {
        id: row.column(0)?,
        key: InboxKey::new(row.id(1)?, row.id(2)?),
        head: row.column(3)?,
        min_seq: row.column(4)?,
        kept: row.column(5)?,
        counts: [row.column(6)?, row.column(7)?, row.column(8)?, row.column(9)?],
        born_pos: row.column(10)?,
        group_pos: row.column(11)?,
        next_expiry: row.column(12)?,
        tenant_pos: row.column(13)?,
    })
}

/// Locked inboxes, and what becomes of them.
pub(super) struct Work {
    /// The database's time, in milliseconds.
    pub(super) now: i64,
    /// By id.
    pub(super) slots: Vec<Slot>,
    places: FxHashMap<i64, usize>,
}

impl Work {
    /// Locks inboxes; those that are not there are passed over.
    pub(super) async fn lock(
        transaction: &Transaction<'_>,
        ids: &[i64],
        now: i64,
    ) -> Result<Self, Failure> {
        let mut slots = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            for row in rows(transaction, LOCK, &[&ids]).await? {
                slots.push(Slot::new(inbox_of(&row)?));
            }
        }
        let places = slots.iter().enumerate().map(|(at, slot)| (slot.inbox.id, at)).collect();
        Ok(Self { now, slots, places })
    }

    pub(super) fn slot(&mut self, id: i64) -> Option<&mut Slot> {
        self.places.get(&id).map(|at| &mut self.slots[*at])
    }

    /// Whether a locked inbox is the one of this name. A database that was taken over by a standby without the
    /// last commits may have given an id to another one since it was remembered.
    pub(super) fn is_of(&self, id: i64, key: &InboxKey) -> bool {
        self.places.get(&id).is_some_and(|at| self.slots[*at].inbox.key == *key)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.slots.iter().map(|slot| slot.inbox.id)
    }

    /// Reads the rows of messages, by inbox and body.
    pub(super) async fn read_bodies(
        &mut self,
        transaction: &Transaction<'_>,
        (inboxes, bodies): (Vec<i64>, Vec<i64>),
    ) -> Result<(), Failure> {
        if inboxes.is_empty() {
            return Ok(());
        }
        let sql = select(
            "JOIN unnest($1::bigint[], $2::bigint[]) AS k (inbox, body)
             ON m.inbox = k.inbox AND m.body = k.body",
        );
        self.take(rows(transaction, &sql, &[&inboxes, &bodies]).await?)
    }

    /// Reads the rows of what newer messages of these inboxes, senders and keys take the place of.
    pub(super) async fn read_collapsing(
        &mut self,
        transaction: &Transaction<'_>,
        (inboxes, senders, keys): (Vec<i64>, Vec<&str>, Vec<&str>),
    ) -> Result<(), Failure> {
        if inboxes.is_empty() {
            return Ok(());
        }
        let sql = select(
            "JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS k (inbox, sender, key)
             ON m.inbox = k.inbox AND m.collapse_key = k.key AND m.sender = k.sender
             WHERE m.status = 0 ORDER BY m.inbox, m.seq",
        );
        self.take(rows(transaction, &sql, &[&inboxes, &senders, &keys]).await?)
    }

    /// Reads what of some inboxes has expired and does not say so yet.
    pub(super) async fn read_expired(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> Result<(), Failure> {
        let now = self.now;
        let due = |slot: &&mut Slot| slot.inbox.next_expiry.is_some_and(|at| at <= now);
        let mut ids = Vec::new();
        for slot in self.slots.iter_mut().filter(due) {
            (slot.settled, slot.touched) = (true, true);
            ids.push(slot.inbox.id);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let sql = select(
            "WHERE m.inbox = ANY($1) AND m.expire_at <= $2 AND m.status < 3 ORDER BY m.inbox, m.seq",
        );
        self.take(rows(transaction, &sql, &[&ids, &now]).await?)
    }

    /// Reads messages of one inbox, by a condition on `m`.
    pub(super) async fn read_some(
        &mut self,
        transaction: &Transaction<'_>,
        condition: &str,
        values: super::pool::Values<'_>,
    ) -> Result<Vec<i64>, Failure> {
        let sql = select(&format!("WHERE {condition} ORDER BY m.seq"));
        let found = rows(transaction, &sql, values).await?;
        let seqs = found.iter().map(|row| row.column(1)).collect::<Result<_, _>>()?;
        self.take(found)?;
        Ok(seqs)
    }

    fn take(&mut self, found: Vec<Row>) -> Result<(), Failure> {
        for row in found {
            let id = row.column(0)?;
            let message = message_of(&row)?;
            if let Some(slot) = self.slot(id) {
                slot.take(message);
            }
        }
        Ok(())
    }
}

fn select(rest: &str) -> String {
    format!("SELECT {MESSAGE} FROM messages m JOIN bodies b ON b.id = m.body {rest}")
}

/// What [`message_of`] reads.
const MESSAGE: &str =
    "m.inbox, m.seq, m.version, m.body, m.status, m.stored_at, m.read_at, m.gone_at,
    m.reread, m.channel, m.message_type, m.sender, m.priority, m.created_at, m.expire_at,
    m.collapse_key, b.message_id";

fn message_of(row: &Row) -> Result<Message, Failure> {
    let facts = Facts {
        message_id: row.id(16)?,
        channel: row.column(9)?,
        message_type: row.column(10)?,
        sender: row.column(11)?,
        priority: row.column(12)?,
        created_at: Some(row.column(13)?),
        expire_at: row.column(14)?,
        collapse_key: row.column(15)?,
    };
    Ok(Message {
        seq: row.column(1)?,
        version: row.column(2)?,
        body: row.column(3)?,
        status: status_from(row.column(4)?),
        stored_at: row.column(5)?,
        read_at: row.column(6)?,
        gone_at: row.column(7)?,
        reread: row.column(8)?,
        collapse_over: false,
        facts: Arc::new(facts),
        written: Written::AsRead,
    })
}
