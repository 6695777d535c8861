//! What is here, for who compares it with what it was taken from. What the store's own traits answer is
//! asked by them; this is the rest, and what they would answer one by one.

use std::{collections::HashMap, sync::Arc};

use protocol::{Body, MessageId, TenantId};

use super::{
    super::{
        columns::Columns as _,
        errors::Failure,
        ledger::{SENT, sent_of},
        pool::{self, row, rows},
    },
    Import, ImportError,
};
use crate::store::{
    SentMessage,
    portable::{Cell, Cells},
};

impl Import {
    /// Messages as their senders see them, and what they say.
    pub(crate) async fn sent(
        &self,
        tenant: &TenantId,
        ids: &[&str],
    ) -> Result<HashMap<MessageId, (SentMessage, Arc<Body>)>, ImportError> {
        let client = self.db.client().await?;
        let sql = format!(
            "SELECT {SENT} FROM bodies WHERE tenant = $1 AND message_id = ANY($2) AND sender <> ''"
        );
        let found = rows(&client, &sql, &[&tenant.as_str(), &ids]).await?;
        let sent = |row: &tokio_postgres::Row| {
            let sent = sent_of(row)?;
            Ok((sent.message.id.clone(), (sent.message, sent.body)))
        };
        Ok(found.iter().map(sent).collect::<Result<_, Failure>>()?)
    }

    /// Receipts of an inbox after one of them: first seq, kind, device, last seq, time.
    pub(crate) async fn receipts(
        &self,
        inbox: i64,
        after: &(i64, i64, String),
        limit: usize,
    ) -> Result<Vec<Cells>, ImportError> {
        let client = self.db.client().await?;
        let sql = "SELECT from_seq, kind, device, to_seq, at FROM receipts
            WHERE inbox = $1 AND (from_seq, kind, device) > ($2, $3::bigint, $4)
            ORDER BY from_seq, kind, device LIMIT $5";
        let limit = super::super::columns::most(limit);
        let found = rows(&client, sql, &[&inbox, &after.0, &after.1, &after.2, &limit]).await?;
        let receipt = |row: &tokio_postgres::Row| {
            Ok(vec![
                Cell::Int(row.column(0)?),
                Cell::Int(row.column::<i16>(1)?.into()),
                Cell::Text(row.column(2)?),
                Cell::Int(row.column(3)?),
                Cell::Int(row.column(4)?),
            ])
        };
        Ok(found.iter().map(receipt).collect::<Result<_, Failure>>()?)
    }

    /// Answers to keys: tenant, sender, key, when, fingerprint, data; in the order of their keys.
    pub(crate) async fn answers(&self, like: &[Cells]) -> Result<Vec<Cells>, ImportError> {
        let column = |at: usize| -> Vec<&str> {
            like.iter()
                .filter_map(|row| match row.get(at) {
                    Some(Cell::Text(text)) => Some(text.as_str()),
                    _ => None,
                })
                .collect()
        };
        let client = self.db.client().await?;
        let sql = "SELECT a.tenant, a.sender, a.key, a.at, a.fingerprint, a.data
            FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, sender, key)
            JOIN answers a ON a.tenant = k.tenant AND a.sender = k.sender AND a.key = k.key";
        let found = rows(&client, sql, &[&column(0), &column(1), &column(2)]).await?;
        let answer = |row: &tokio_postgres::Row| {
            Ok(vec![
                Cell::Text(row.column(0)?),
                Cell::Text(row.column(1)?),
                Cell::Text(row.column(2)?),
                Cell::Int(row.column(3)?),
                Cell::Bytes(row.column(4)?),
                Cell::Text(row.column(5)?),
            ])
        };
        Ok(found.iter().map(answer).collect::<Result<_, Failure>>()?)
    }

    /// How much there is: users, members, channels, records, messages that were sent, those that wait, answers;
    /// messages in inboxes, their changes, receipts, devices.
    pub(crate) async fn count(&self) -> Result<[u64; 11], ImportError> {
        let client = self.db.client().await?;
        let sql = "SELECT (SELECT count(*) FROM inboxes),
            (SELECT count(*) FROM members WHERE until_pos IS NULL), (SELECT count(*) FROM channels),
            (SELECT count(*) FROM broadcasts), (SELECT count(*) FROM bodies WHERE sender <> ''),
            (SELECT count(*) FROM bodies WHERE state = 0), (SELECT count(*) FROM answers),
            (SELECT count(*) FROM messages), (SELECT count(*) FROM changes),
            (SELECT count(*) FROM receipts), (SELECT count(*) FROM cursors)";
        let mut counts = [0; 11];
        pool::batch(&client, "SET statement_timeout = 0").await?;
        if let Some(row) = row(&client, sql, &[]).await? {
            for (at, count) in counts.iter_mut().enumerate() {
                *count = row.count(at)?;
            }
        }
        Ok(counts)
    }
}
