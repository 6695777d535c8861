//! Writes what becomes of locked inboxes, with one statement for all of them.

use futures_util::try_join;
use protocol::DeviceId;

use super::{
    columns::{COUNTED, plain, status_code},
    errors::Failure,
    pool::{Transaction, execute},
    rows::{Inbox, Message, Written},
    work::Work,
};

impl Work {
    /// Writes everything that is another.
    pub(super) async fn write(&mut self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let now = self.now;
        self.slots.iter_mut().for_each(|slot| slot.settle(now));
        try_join!(
            self.write_new(transaction),
            self.write_states(transaction),
            self.write_facts(transaction),
            self.write_log(transaction),
            self.write_tallies(transaction),
            self.write_inboxes(transaction),
        )?;
        let settled: Vec<i64> =
            self.slots.iter().filter(|slot| slot.settled).map(|slot| slot.inbox.id).collect();
        if !settled.is_empty() {
            let sql = "UPDATE inboxes SET next_expiry = (SELECT min(expire_at) FROM messages
                 WHERE inbox = id AND expire_at > $2 AND status < 3) WHERE id = ANY($1)";
            execute(transaction, sql, &[&settled, &now]).await?;
        }
        Ok(())
    }

    fn messages(&self, written: Written) -> impl Iterator<Item = (i64, &Message)> {
        self.slots.iter().flat_map(move |slot| {
            let rows = slot.messages.iter().filter(move |message| message.written == written);
            rows.map(|message| (slot.inbox.id, message))
        })
    }

    async fn write_new(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let new: Vec<(i64, &Message)> = self.messages(Written::New).collect();
        if new.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Message) -> i64| -> Vec<i64> {
            new.iter().map(|(_, message)| of(message)).collect()
        };
        let maybe = |of: fn(&Message) -> Option<i64>| -> Vec<Option<i64>> {
            new.iter().map(|(_, message)| of(message)).collect()
        };
        let inboxes: Vec<i64> = new.iter().map(|(inbox, _)| *inbox).collect();
        let statuses: Vec<i16> = new.iter().map(|(_, one)| status_code(one.status)).collect();
        let facts = Columned::new(new.iter().map(|(_, message)| *message));
        let sql = "INSERT INTO messages (inbox, seq, version, body, stored_at, read_at, gone_at, status,
                 created_at, expire_at, priority, channel, message_type, sender, collapse_key)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                 $6::bigint[], $7::bigint[], $8::smallint[], $9::bigint[], $10::bigint[],
                 $11::smallint[], $12::text[], $13::text[], $14::text[], $15::text[])";
        execute(
            transaction,
            sql,
            &[
                &inboxes,
                &column(|message| message.seq),
                &column(|message| message.version),
                &column(|message| message.body),
                &column(|message| message.stored_at),
                &maybe(|message| message.read_at),
                &maybe(|message| message.gone_at),
                &statuses,
                &facts.created_at,
                &facts.expire_at,
                &facts.priority,
                &facts.channel,
                &facts.message_type,
                &facts.sender,
                &facts.collapse_key,
            ],
        )
        .await?;
        Ok(())
    }

    async fn write_states(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let changed = self.messages(Written::State).chain(self.messages(Written::Facts));
        let mut columns = (vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for (inbox, message) in changed {
            columns.0.push(inbox);
            columns.1.push(message.seq);
            columns.2.push(message.version);
            columns.3.push(status_code(message.status));
            columns.4.push(message.read_at);
            columns.5.push(message.gone_at);
            columns.6.push(message.reread);
            columns.7.push(message.collapse_over);
        }
        if columns.0.is_empty() {
            return Ok(());
        }
        let sql =
            "UPDATE messages m SET version = k.version, status = k.status, read_at = k.read_at,
                 gone_at = k.gone_at, reread = k.reread,
                 collapse_key = CASE WHEN k.over THEN NULL ELSE m.collapse_key END
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[],
                 $6::bigint[], $7::boolean[], $8::boolean[])
                 AS k (inbox, seq, version, status, read_at, gone_at, reread, over)
             WHERE m.inbox = k.inbox AND m.seq = k.seq";
        let (a, b, c, d, e, f, g, h) = &columns;
        execute(transaction, sql, &[a, b, c, d, e, f, g, h]).await?;
        Ok(())
    }

    async fn write_facts(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let changed: Vec<(i64, &Message)> = self.messages(Written::Facts).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let inboxes: Vec<i64> = changed.iter().map(|(inbox, _)| *inbox).collect();
        let seqs: Vec<i64> = changed.iter().map(|(_, message)| message.seq).collect();
        let facts = Columned::new(changed.iter().map(|(_, message)| *message));
        let sql = "UPDATE messages m SET created_at = k.created_at, expire_at = k.expire_at,
                 priority = k.priority, channel = k.channel, message_type = k.message_type,
                 sender = k.sender, collapse_key = k.collapse_key
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[],
                 $6::text[], $7::text[], $8::text[], $9::text[])
                 AS k (inbox, seq, created_at, expire_at, priority, channel, message_type, sender,
                     collapse_key)
             WHERE m.inbox = k.inbox AND m.seq = k.seq";
        execute(
            transaction,
            sql,
            &[
                &inboxes,
                &seqs,
                &facts.created_at,
                &facts.expire_at,
                &facts.priority,
                &facts.channel,
                &facts.message_type,
                &facts.sender,
                &facts.collapse_key,
            ],
        )
        .await?;
        Ok(())
    }

    async fn write_log(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut columns =
            (vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for slot in &self.slots {
            for logged in &slot.log {
                let action = logged.action.as_ref();
                columns.0.push(slot.inbox.id);
                columns.1.push(logged.seq);
                columns.2.push(logged.message_seq);
                columns.3.push(logged.at);
                columns.4.push(logged.kind);
                columns.5.push(status_code(logged.status));
                columns.6.push(action.map(|action| i16::from(action.index)));
                columns.7.push(logged.message_id.as_str());
                columns.8.push(logged.device.as_ref().map(DeviceId::as_str));
                columns.9.push(action.map(|action| plain(&action.action).into_owned()));
            }
        }
        if columns.0.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO changes (inbox, seq, message_seq, at, kind, status, action_index,
                 message_id, device, action)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                 $5::smallint[], $6::smallint[], $7::smallint[], $8::text[], $9::text[], $10::text[])";
        let (a, b, c, d, e, f, g, h, i, j) = &columns;
        execute(transaction, sql, &[a, b, c, d, e, f, g, h, i, j]).await?;
        Ok(())
    }

    async fn write_tallies(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let (mut inboxes, mut channels) = (Vec::new(), Vec::new());
        let mut counts: [Vec<i64>; COUNTED] = Default::default();
        for slot in &self.slots {
            for (channel, by) in slot.tallies.iter().filter(|(_, by)| *by != [0; COUNTED]) {
                inboxes.push(slot.inbox.id);
                channels.push(channel.as_str());
                for (column, by) in counts.iter_mut().zip(by) {
                    column.push(*by);
                }
            }
        }
        if inboxes.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO tallies AS t (inbox, channel, unread, read, archived, recalled)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                 $6::bigint[])
             ON CONFLICT (inbox, channel) DO UPDATE SET unread = t.unread + excluded.unread,
                 read = t.read + excluded.read, archived = t.archived + excluded.archived,
                 recalled = t.recalled + excluded.recalled";
        let [unread, read, archived, recalled] = &counts;
        execute(transaction, sql, &[&inboxes, &channels, unread, read, archived, recalled]).await?;
        Ok(())
    }

    async fn write_inboxes(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let touched: Vec<&Inbox> =
            self.slots.iter().filter(|slot| slot.touched).map(|slot| &slot.inbox).collect();
        if touched.is_empty() {
            return Ok(());
        }
        let column =
            |of: fn(&Inbox) -> i64| -> Vec<i64> { touched.iter().map(|inbox| of(inbox)).collect() };
        let next: Vec<Option<i64>> = touched.iter().map(|inbox| inbox.next_expiry).collect();
        let sql = "UPDATE inboxes i SET head = k.head, min_seq = k.min_seq, kept = k.kept,
                 unread = k.unread, read = k.read, archived = k.archived, recalled = k.recalled,
                 group_pos = k.group_pos, next_expiry = k.next_expiry
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                 $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
                 AS k (id, head, min_seq, kept, unread, read, archived, recalled, group_pos,
                     next_expiry)
             WHERE i.id = k.id";
        execute(
            transaction,
            sql,
            &[
                &column(|inbox| inbox.id),
                &column(|inbox| inbox.head),
                &column(|inbox| inbox.min_seq),
                &column(|inbox| inbox.kept),
                &column(|inbox| inbox.counts[0]),
                &column(|inbox| inbox.counts[1]),
                &column(|inbox| inbox.counts[2]),
                &column(|inbox| inbox.counts[3]),
                &column(|inbox| inbox.group_pos),
                &next,
            ],
        )
        .await?;
        Ok(())
    }
}

/// Facts of messages, by column.
struct Columned<'a> {
    created_at: Vec<i64>,
    expire_at: Vec<Option<i64>>,
    priority: Vec<i16>,
    channel: Vec<Option<&'a str>>,
    message_type: Vec<&'a str>,
    sender: Vec<&'a str>,
    collapse_key: Vec<Option<&'a str>>,
}

impl<'a> Columned<'a> {
    fn new(messages: impl Iterator<Item = &'a Message> + Clone) -> Self {
        let facts = || messages.clone().map(|message| &*message.facts);
        Self {
            created_at: messages
                .clone()
                .map(|message| message.facts.created_at.unwrap_or(message.stored_at))
                .collect(),
            expire_at: facts().map(|facts| facts.expire_at).collect(),
            priority: facts().map(|facts| facts.priority).collect(),
            channel: facts().map(|facts| facts.channel.as_deref()).collect(),
            message_type: facts().map(|facts| &*facts.message_type).collect(),
            sender: facts().map(|facts| &*facts.sender).collect(),
            collapse_key: messages.clone().map(Message::collapse_key).collect(),
        }
    }
}
