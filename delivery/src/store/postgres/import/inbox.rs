//! One inbox, in one transaction.

use std::collections::BTreeMap;

use super::{
    super::{
        columns::COUNTED,
        pool::{self, Client, Transaction, execute},
    },
    Ids, Import, ImportError, begin, copy,
    targets::{CHANGES, MESSAGES, RECEIPTS},
};
use crate::store::{
    portable::{Cell, Cells},
    single::{InboxLine, MovedMessage},
};

/// An inbox that is being taken in.
pub(crate) struct InboxPart<'a> {
    transaction: Transaction<'a>,
    id: i64,
    /// It is part of a move, which goes on after it.
    moved: bool,
    kept: i64,
    counts: [i64; COUNTED],
    tallies: BTreeMap<String, [i64; COUNTED]>,
    next_expiry: Option<i64>,
}

fn maybe<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell) -> Cell {
    value.map_or(Cell::Null, cell)
}

impl Import {
    pub(crate) async fn inbox<'a>(
        &self,
        client: &'a mut Client,
        id: i64,
    ) -> Result<InboxPart<'a>, ImportError> {
        Ok(InboxPart::new(begin(client).await?, id, true))
    }
}

impl<'a> InboxPart<'a> {
    pub(super) fn new(transaction: Transaction<'a>, id: i64, moved: bool) -> Self {
        let (kept, counts, tallies) = (0, [0; COUNTED], BTreeMap::new());
        Self { transaction, id, moved, kept, counts, tallies, next_expiry: None }
    }

    /// Takes in messages, whose bodies are here.
    pub(crate) async fn messages(
        &mut self,
        page: Vec<MovedMessage>,
        bodies: &Ids,
    ) -> Result<(), ImportError> {
        let mut rows = Vec::with_capacity(page.len());
        for message in page {
            self.count(&message);
            let body = bodies.get(&message.id).copied().map_or(Cell::Null, Cell::Int);
            rows.push(vec![
                Cell::Int(self.id),
                Cell::Int(message.seq),
                Cell::Int(message.version),
                body,
                Cell::Int(message.stored_at),
                Cell::Int(message.created_at),
                maybe(message.expire_at, Cell::Int),
                maybe(message.read_at, Cell::Int),
                maybe(message.gone_at, Cell::Int),
                Cell::Int(message.status),
                Cell::Int(message.priority),
                Cell::Int(message.reread.into()),
                maybe(message.channel, Cell::Text),
                Cell::Text(message.message_type),
                Cell::Text(message.sender),
                maybe(message.collapse_key, Cell::Text),
            ]);
        }
        copy(&self.transaction, &MESSAGES, &rows).await
    }

    fn count(&mut self, message: &MovedMessage) {
        self.kept += 1;
        if message.status < 3 {
            self.next_expiry = [self.next_expiry, message.expire_at].into_iter().flatten().min();
        }
        let at = usize::try_from(message.status).unwrap_or(COUNTED);
        if at >= COUNTED {
            return;
        }
        self.counts[at] += 1;
        if let Some(channel) = &message.channel {
            self.tallies.entry(channel.clone()).or_default()[at] += 1;
        }
    }

    /// Takes in changes that are no arrivals.
    pub(crate) async fn changes(&self, rows: Vec<Cells>) -> Result<(), ImportError> {
        copy(&self.transaction, &CHANGES, &self.with_id(rows)).await
    }

    /// Takes in receipts.
    pub(crate) async fn receipts(&self, rows: Vec<Cells>) -> Result<(), ImportError> {
        copy(&self.transaction, &RECEIPTS, &self.with_id(rows)).await
    }

    fn with_id(&self, mut rows: Vec<Cells>) -> Vec<Cells> {
        rows.iter_mut().for_each(|row| row.insert(0, Cell::Int(self.id)));
        rows
    }

    /// The inbox is here.
    pub(crate) async fn finish(self, line: InboxLine) -> Result<(), ImportError> {
        let Self { transaction, id, moved, kept, counts, tallies, next_expiry } = self;
        let InboxLine { head, min_seq, delivered, acked, cursors, counts: _ } = line;
        let [unread, read, archived, recalled] = counts;
        let sql = "UPDATE inboxes SET head = $2, min_seq = $3, kept = $4, unread = $5, read = $6,
            archived = $7, recalled = $8, next_expiry = $9 WHERE id = $1";
        execute(
            &transaction,
            sql,
            &[&id, &head, &min_seq, &kept, &unread, &read, &archived, &recalled, &next_expiry],
        )
        .await?;
        if !tallies.is_empty() {
            let channels: Vec<&str> = tallies.keys().map(String::as_str).collect();
            let column =
                |at: usize| -> Vec<i64> { tallies.values().map(|counts| counts[at]).collect() };
            let sql = "INSERT INTO tallies (inbox, channel, unread, read, archived, recalled)
                SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                    $6::bigint[])";
            let values: pool::Values<'_> =
                &[&id, &channels, &column(0), &column(1), &column(2), &column(3)];
            execute(&transaction, sql, values).await?;
        }
        if !cursors.is_empty() {
            let devices: Vec<&str> = cursors.iter().map(|(device, ..)| device.as_str()).collect();
            let seqs: Vec<i64> = cursors.iter().map(|(_, seq, _)| seq.0.cast_signed()).collect();
            let times: Vec<i64> = cursors.iter().map(|(_, _, at)| at.millis()).collect();
            let sql = "INSERT INTO cursors (inbox, device, seq, at)
                SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[])";
            execute(&transaction, sql, &[&id, &devices, &seqs, &times]).await?;
        }
        if delivered > 0 || acked > 0 {
            let sql = "INSERT INTO reached (inbox, delivered, acked) VALUES ($1, $2, $3)";
            execute(&transaction, sql, &[&id, &delivered, &acked]).await?;
        }
        if moved {
            execute(&transaction, "INSERT INTO moved_inboxes (inbox) VALUES ($1)", &[&id]).await?;
        }
        Ok(pool::commit(transaction).await?)
    }
}
