//! What is read of an inbox.
//!
//! Reads look first whether something waits to be taken over or has expired; if so that is written, and
//! the read begins again. So whoever reads sees all that was sent before, and each read is of one
//! moment.

use std::future::Future;

use protocol::{ChannelId, DeviceId, MessageId, MessageState, PressedAction, Seq, Status, Time};
use tokio_postgres::Row;

use super::{
    columns::{Columns as _, kind, position, seq, status_from},
    core::Core,
    errors::Failure,
    groups,
    pool::{self, Ask, Transaction, row, rows},
    rows::Inbox,
    work::{Work, inbox_of},
};
use crate::{
    InboxKey, StoreError,
    store::{
        Change, ChangePage, Head, InboxMessage, Pressed, StatusChange, Stored, UnreadCounts,
        is_live,
    },
};

/// How often a read begins again because something came in between; then it is of what is there.
const TRIES_MAX: usize = 5;

/// Changes that are read at a time: a page that is full of bodies ends after one of these.
const CHUNK: u64 = 256;

const SEE: &str = "
    SELECT i.id, i.tenant, i.usr, i.head, i.min_seq, i.kept, i.unread, i.read, i.archived, i.recalled,
        i.born_pos, i.group_pos, i.next_expiry, coalesce(t.pos, 0), now_ms($3)
    FROM inboxes i LEFT JOIN tenants t ON t.tenant = i.tenant WHERE i.tenant = $1 AND i.usr = $2";

/// What [`message_of`] reads, of `messages m` and `bodies b`. The content of what is not shown is left out.
pub(super) const MESSAGE: &str = "m.seq, m.version, m.status, m.read_at, m.gone_at, b.message_id,
    m.expire_at, CASE WHEN m.status < 4 THEN b.body ELSE '{}' END";

/// Reads [`MESSAGE`] from a column on: a message, and when it went if it did.
pub(super) fn message_of(row: &Row, at: usize) -> Result<(InboxMessage, Option<i64>), Failure> {
    let status = status_from(row.column(at + 2)?);
    let state = MessageState {
        seq: row.seq(at)?,
        version: row.seq(at + 1)?,
        is_read: status.is_read(),
        status,
        read_at: row.maybe_time(at + 3)?,
    };
    let message = InboxMessage { state, body: row.body(at + 5)?, pressed: Vec::new() };
    Ok((message, row.column(at + 4)?))
}

impl Core {
    /// Reads, each time with what came in between taken over.
    pub(super) async fn reading<T, F>(
        &self,
        mut operation: impl FnMut(bool) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        for tries in 1.. {
            match self.retry(|| operation(tries < TRIES_MAX)).await {
                Err(Failure::Behind(id)) => self.retry(|| self.settle(id)).await?,
                done => return done,
            }
        }
        Err(Failure::Gone)
    }

    /// Where an inbox stands; none for one that was never seen. An error if it is behind and that
    /// matters to the caller.
    pub(super) async fn see(
        &self,
        client: &impl Ask,
        key: &InboxKey,
        strict: bool,
    ) -> Result<Option<Inbox>, Failure> {
        let (tenant, user) = (key.tenant.as_str(), key.user.as_str());
        let Some(row) = row(client, SEE, &[&tenant, &user, &self.shift()]).await? else {
            return Ok(None);
        };
        let (inbox, now): (Inbox, i64) = (inbox_of(&row)?, row.column(14)?);
        let expired = inbox.next_expiry.is_some_and(|at| at <= now);
        if strict && (expired || groups::is_pending(client, &inbox).await?) {
            return Err(Failure::Behind(inbox.id));
        }
        Ok(Some(inbox))
    }

    /// Takes over what waits for an inbox, and what has expired.
    async fn settle(&self, id: i64) -> Result<(), Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let mut work = self.lock_one(&transaction, id).await?;
        self.finish(transaction, &mut work).await
    }

    /// Locks an inbox and brings it to now.
    pub(super) async fn lock_one(
        &self,
        transaction: &Transaction<'_>,
        id: i64,
    ) -> Result<Work, Failure> {
        let now = self.now(transaction).await?;
        let mut work = Work::lock(transaction, &[id], now).await?;
        groups::take_over(transaction, &mut work).await?;
        work.read_expired(transaction).await?;
        work.slots.iter_mut().for_each(|slot| slot.settle(now));
        Ok(work)
    }

    /// The id of an inbox that is there.
    pub(super) async fn id_of(
        &self,
        client: &impl Ask,
        key: &InboxKey,
    ) -> Result<Option<i64>, Failure> {
        if let Some(id) = self.names.get(key) {
            return Ok(Some(id));
        }
        let found = super::names::find(client, &[key]).await?.pop();
        Ok(found.map(|(key, id)| {
            self.names.put(key, id);
            id
        }))
    }

    pub(super) async fn head(&self, key: &InboxKey) -> Result<Head, Failure> {
        let seen = self.reading(|strict| async move {
            let client = self.db.client().await?;
            self.see(&client, key, strict).await
        });
        Ok(seen.await?.map(|inbox| head_of(&inbox)).unwrap_or_default())
    }

    pub(super) async fn unread(&self, key: &InboxKey) -> Result<UnreadCounts, Failure> {
        self.reading(|strict| async move {
            let mut client = self.db.client().await?;
            let look = pool::look(&mut client).await?;
            let Some(inbox) = self.see(&look, key, strict).await? else {
                return Ok(UnreadCounts::default());
            };
            let sql = "SELECT channel, unread FROM tallies WHERE inbox = $1 AND unread > 0
                ORDER BY channel";
            let mut channels = Vec::new();
            for row in rows(&look, sql, &[&inbox.id]).await? {
                channels.push((row.id::<ChannelId>(0)?, row.count(1)?));
            }
            let total = head_of(&inbox).unread;
            let of_channels: u64 = channels.iter().map(|(_, count)| count).sum();
            Ok(UnreadCounts { total, direct: total.saturating_sub(of_channels), channels })
        })
        .await
    }

    pub(super) async fn get(
        &self,
        key: &InboxKey,
        id: &MessageId,
    ) -> Result<InboxMessage, Failure> {
        self.reading(|strict| async move {
            let mut client = self.db.client().await?;
            let look = pool::look(&mut client).await?;
            let found = match self.see(&look, key, strict).await? {
                Some(inbox) => find(&look, &inbox, id).await?,
                None => None,
            };
            Ok(found.ok_or(StoreError::NotFound)?)
        })
        .await
    }

    pub(super) async fn changes(
        &self,
        key: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<ChangePage, Failure> {
        self.reading(|strict| async move {
            let mut client = self.db.client().await?;
            let look = pool::look(&mut client).await?;
            let Some(inbox) = self.see(&look, key, strict).await? else {
                return Ok(ChangePage { changes: Vec::new(), head: Seq(0), min_seq: Seq(0) });
            };
            let (head, min_seq) = (seq(inbox.head), seq(inbox.min_seq));
            let mut page = ChangePage { changes: Vec::new(), head, min_seq };
            if since < min_seq {
                return Ok(page);
            }
            let (mut from, mut bytes) = (since, 0);
            while from < head && page.changes.len() < limit && (bytes < bytes_max || bytes == 0) {
                let to = Seq(from.0.saturating_add(CHUNK.min(limit as u64)).min(head.0));
                for stored in chunk(&look, &inbox, from, to).await? {
                    if page.changes.len() >= limit
                        || (bytes >= bytes_max && !page.changes.is_empty())
                    {
                        return Ok(page);
                    }
                    if let Change::Message { body, .. } = &stored.change {
                        bytes += body.weight();
                    }
                    page.changes.push(stored);
                }
                from = to;
            }
            Ok(page)
        })
        .await
    }

    pub(super) async fn cursor(
        &self,
        key: &InboxKey,
        device: &DeviceId,
    ) -> Result<Option<Seq>, Failure> {
        super::notes::flush(self).await?;
        let client = self.db.client().await?;
        let sql = "SELECT c.seq FROM inboxes i JOIN cursors c ON c.inbox = i.id AND c.device = $3
            WHERE i.tenant = $1 AND i.usr = $2";
        let values: pool::Values<'_> =
            &[&key.tenant.as_str(), &key.user.as_str(), &device.as_str()];
        row(&client, sql, values).await?.map(|row| row.seq(0)).transpose()
    }
}

pub(super) fn head_of(inbox: &Inbox) -> Head {
    Head { seq: seq(inbox.head), unread: u64::try_from(inbox.counts[0]).unwrap_or(0) }
}

/// A message that may be shown.
pub(super) async fn find(
    client: &impl Ask,
    inbox: &Inbox,
    id: &MessageId,
) -> Result<Option<InboxMessage>, Failure> {
    let sql = format!(
        "SELECT {MESSAGE} FROM bodies b JOIN messages m ON m.body = b.id AND m.inbox = $1
         WHERE b.tenant = $2 AND b.message_id = $3 AND m.status < 3"
    );
    let tenant = inbox.key.tenant.as_str();
    let Some(row) = row(client, &sql, &[&inbox.id, &tenant, &id.as_str()]).await? else {
        return Ok(None);
    };
    let mut found = [message_of(&row, 0)?.0];
    fill_pressed(client, inbox.id, &mut found).await?;
    let [found] = found;
    Ok(Some(found))
}

/// Fills in which buttons of messages were pressed.
pub(super) async fn fill_pressed(
    client: &impl Ask,
    inbox: i64,
    messages: &mut [InboxMessage],
) -> Result<(), Failure> {
    let seqs: Vec<i64> = messages.iter().map(|message| position(message.state.seq)).collect();
    for (message_seq, pressed) in pressed(client, inbox, &seqs).await? {
        let of = messages.iter_mut().filter(|message| message.state.seq == message_seq);
        of.for_each(|message| message.pressed.push(pressed.clone()));
    }
    Ok(())
}

async fn pressed(
    client: &impl Ask,
    inbox: i64,
    seqs: &[i64],
) -> Result<Vec<(Seq, Pressed)>, Failure> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT message_seq, action_index, action, at, device FROM changes
        WHERE inbox = $1 AND message_seq = ANY($2) AND action_index IS NOT NULL
        ORDER BY message_seq, action_index";
    let found = rows(client, sql, &[&inbox, &seqs]).await?;
    let pressed = found.iter().map(|row| {
        let Some(action) = action_of(row, 1)? else { return Ok(None) };
        let pressed = Pressed { action, at: row.time(3)?, device_id: row.maybe_device(4)? };
        Ok(Some((row.seq(0)?, pressed)))
    });
    pressed.filter_map(Result::transpose).collect()
}

fn action_of(row: &Row, at: usize) -> Result<Option<PressedAction>, Failure> {
    let Some(index) = row.column::<Option<i16>>(at)? else { return Ok(None) };
    let index = u8::try_from(index).map_err(Failure::unreadable)?;
    Ok(Some(PressedAction { index, action: row.column(at + 1)? }))
}

/// The changes between two positions, which are all there.
async fn chunk(
    client: &impl Ask,
    inbox: &Inbox,
    from: Seq,
    to: Seq,
) -> Result<Vec<Stored>, Failure> {
    let sql = format!(
        "SELECT {MESSAGE} FROM messages m JOIN bodies b ON b.id = m.body
         WHERE m.inbox = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq"
    );
    let values: pool::Values<'_> = &[&inbox.id, &position(from), &position(to)];
    let mut arrived = Vec::new();
    for row in rows(client, &sql, values).await? {
        let (message, gone_at) = message_of(&row, 0)?;
        arrived.push((message.state.seq, shown(message, gone_at)));
    }
    let sql = format!(
        "SELECT c.seq, c.kind, c.message_id, c.status, c.device, c.at, c.action_index, c.action,
             e.seq IS NOT NULL, e.* FROM changes c
         LEFT JOIN LATERAL (SELECT {MESSAGE} FROM messages m JOIN bodies b ON b.id = m.body
             WHERE c.kind = 2 AND m.inbox = c.inbox AND m.seq = c.message_seq) AS e ON true
         WHERE c.inbox = $1 AND c.seq > $2 AND c.seq <= $3 ORDER BY c.seq"
    );
    let mut changes = Vec::new();
    let mut arrived = arrived.into_iter().peekable();
    let stored =
        |seq: Seq, change: Change| Stored { inbox: inbox.key.clone(), seq, change, accepted: None };
    for row in rows(client, &sql, values).await? {
        let at = row.seq(0)?;
        while let Some((seq, change)) = arrived.next_if(|(seq, _)| *seq < at) {
            changes.push(stored(seq, change));
        }
        changes.push(stored(at, logged(&row)?));
    }
    changes.extend(arrived.map(|(seq, change)| stored(seq, change)));
    Ok(changes)
}

fn logged(row: &Row) -> Result<Change, Failure> {
    let change = StatusChange {
        device: row.maybe_device(4)?,
        action: action_of(row, 6)?,
        ..StatusChange::new(row.id(2)?, status_from(row.column(3)?), row.time(5)?)
    };
    Ok(match row.column(1)? {
        kind::EDIT if row.column(8)? => {
            let (message, gone_at) = message_of(row, 9)?;
            shown(message, gone_at)
        }
        kind::EDIT => Change::Status(StatusChange { status: Status::Expired, ..change }),
        kind::RECALL => Change::Status(StatusChange { status: Status::Recalled, ..change }),
        _ => Change::Status(change),
    })
}

/// A message, or what stands in its place once it must not be shown.
fn shown(message: InboxMessage, gone_at: Option<i64>) -> Change {
    let InboxMessage { state, body, .. } = message;
    if is_live(state.status) {
        return Change::Message { state, body };
    }
    let at = match (state.status, body.expire_at()) {
        (Status::Expired, Some(at)) => at,
        _ => Time::from_millis(gone_at.unwrap_or_default()),
    };
    Change::Status(StatusChange::new(body.id().clone(), state.status, at))
}
