//! What is read from an inbox's files. Every function expects the tail to be in them already, see
//! `Files::query`.

use std::sync::Arc;

use protocol::{IdError, MessageId, MessageState, Seq, Status, Time};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{
    schema::{Templates, status_code, status_from},
    shared::body_of,
    user_files::{FileError, UserFiles},
};
use crate::{
    InboxKey,
    store::{
        Change, InboxMessage, ListPosition, ListQuery, Mark, MarkTarget, Sort, StatusChange,
        StatusFilter, Stored,
    },
};

/// What [`message`] reads.
pub(super) const COLUMNS: &str = "seq, version, status, id, expire_at, body";

/// Why a mark cannot be decided.
pub(super) enum Refusal {
    NotFound,
    Conflict(Box<InboxMessage>),
}

/// What a mark will change.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) targets: Vec<(u64, MessageId)>,
    /// How many of the first `n` targets are unread now: a running sum, so that a long decision can
    /// be cut into several records.
    pub(super) unread: Vec<bool>,
}

fn state(row: &rusqlite::Row<'_>) -> rusqlite::Result<MessageState> {
    let status = status_from(row.get(2)?);
    Ok(MessageState {
        seq: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
        version: Seq(row.get::<_, i64>(1)?.cast_unsigned()),
        is_read: status.is_read(),
        status,
        read_at: None,
    })
}

pub(super) fn message(row: &rusqlite::Row<'_>) -> rusqlite::Result<InboxMessage> {
    Ok(InboxMessage { state: state(row)?, body: body_of(row, 3)?, pressed: Vec::new() })
}

impl UserFiles {
    pub(super) fn fill_read_at(
        &mut self,
        templates: &Templates,
        messages: &mut [InboxMessage],
    ) -> Result<(), FileError> {
        if messages.iter().all(|message| !message.state.is_read) {
            return Ok(());
        }
        let (sqlite, draft) = (self.sqlite_status(), self.is_draft());
        let status = match self.status(templates) {
            // Nobody is refused a message because nobody can say when it was read.
            Err(error) if draft && !error.is_damage() => return Ok(()),
            status => status?,
        };
        let Some(status) = status else { return Ok(()) };
        for message in messages.iter_mut().filter(|message| message.state.is_read) {
            message.state.read_at = read_at(status, message.state.seq).map_err(&sqlite)?;
        }
        Ok(())
    }

    /// The changes after `since` in order: at most `limit`, and bodies of about `bytes_max` bytes.
    pub(super) fn changes(
        &mut self,
        templates: &Templates,
        key: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
        now: Time,
    ) -> Result<Vec<Stored>, FileError> {
        let mut messages = Vec::new();
        let mut statuses = Vec::new();
        let mut bytes = 0;
        let read = |messages: &mut Vec<InboxMessage>,
                    statuses: &mut Vec<(Seq, StatusChange)>,
                    bytes: &mut usize,
                    db: &Connection|
         -> rusqlite::Result<()> {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let since = since.0.cast_signed();
            let mut select = db.prepare_cached(
                "SELECT seq, version, status, id, expire_at, body FROM message
                 WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = select.query(params![since, limit])?;
            while let Some(row) = rows.next()? {
                let message = message(row)?;
                *bytes += message.body.weight();
                messages.push(message);
                if *bytes >= bytes_max {
                    break;
                }
            }
            let mut select = db.prepare_cached(
                "SELECT seq, message_id, status, device_id, at FROM changes
                 WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = select.query(params![since, limit])?;
            while let Some(row) = rows.next()? {
                statuses.push((
                    Seq(row.get::<_, i64>(0)?.cast_unsigned()),
                    StatusChange {
                        message_id: parse(row, 1)?,
                        status: status_from(row.get(2)?),
                        device: match row.get_ref(3)?.as_str_or_null()? {
                            Some(_) => Some(parse(row, 3)?),
                            None => None,
                        },
                        at: Time::from_millis(row.get(4)?),
                        action: None,
                    },
                ));
            }
            Ok(())
        };
        read(&mut messages, &mut statuses, &mut bytes, &self.messages)
            .map_err(self.sqlite_messages())?;
        self.fill_read_at(templates, &mut messages)?;

        let mut out = Vec::with_capacity(messages.len() + statuses.len());
        let (mut messages, mut statuses) =
            (messages.into_iter().peekable(), statuses.into_iter().peekable());
        // Both halves are sorted and together dense, so merging stops where one of them was cut off.
        for next in since.0 + 1.. {
            if out.len() >= limit {
                break;
            }
            let change = if let Some(m) = messages.next_if(|m| m.state.seq.0 == next) {
                shown(m, now)
            } else if let Some((_, status)) = statuses.next_if(|(seq, _)| seq.0 == next) {
                Change::Status(status)
            } else {
                break;
            };
            out.push(Stored { inbox: key.clone(), seq: Seq(next), change, accepted: None });
        }
        Ok(out)
    }

    /// Unread messages that have expired.
    pub(super) fn expired_unread(&self, now: Time) -> Result<u64, FileError> {
        self.messages
            .prepare_cached(
                "SELECT count(*) FROM message
                 WHERE expire_at IS NOT NULL AND expire_at <= ?1 AND status = 0",
            )
            .and_then(|mut select| select.query_row([now.millis()], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
            .map_err(self.sqlite_messages())
    }

    /// One message that may be shown.
    pub(super) fn get(
        &mut self,
        templates: &Templates,
        id: &MessageId,
        now: Time,
    ) -> Result<Option<InboxMessage>, FileError> {
        let found = self
            .messages
            .prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE id = ?1"))
            .and_then(|mut select| select.query_row([id.as_str()], message).optional())
            .map_err(self.sqlite_messages())?;
        let Some(found) = found else { return Ok(None) };
        if found.state.status == Status::Recalled || found.body.expired(now) {
            return Ok(None);
        }
        let mut one = [found];
        self.fill_read_at(templates, &mut one)?;
        let [found] = one;
        Ok(Some(found))
    }

    /// A page of a list: the messages, how many match, whether more follow.
    pub(super) fn list(
        &mut self,
        templates: &Templates,
        query: &ListQuery,
        now: Time,
    ) -> Result<(Vec<InboxMessage>, u64, bool), FileError> {
        let (mut conditions, mut values) = conditions(query, now);
        let count_conditions = conditions.join(" AND ");
        let count_values = values.len();

        let mut offset = 0;
        match query.at {
            ListPosition::Offset(skip) => offset = i64::try_from(skip).unwrap_or(i64::MAX),
            ListPosition::After(seq) => {
                conditions.push(
                    match query.sort {
                        Sort::Newest | Sort::Priority => "seq < ?",
                        Sort::Oldest => "seq > ?",
                    }
                    .to_owned(),
                );
                values.push(Box::new(at_most_i64(seq)));
            }
        }
        let order = order(query.sort);
        // One more than asked tells whether there is more.
        values.push(Box::new(i64::try_from(query.size).unwrap_or(i64::MAX).saturating_add(1)));
        values.push(Box::new(offset));
        let read = |db: &Connection| -> rusqlite::Result<(Vec<InboxMessage>, u64)> {
            let total: i64 = db
                .prepare_cached(&format!("SELECT count(*) FROM message WHERE {count_conditions}"))?
                .query_row(
                    rusqlite::params_from_iter(values[..count_values].iter().map(AsRef::as_ref)),
                    |row| row.get(0),
                )?;
            let mut select = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM message WHERE {} ORDER BY {order} LIMIT ? OFFSET ?",
                conditions.join(" AND ")
            ))?;
            let rows = select
                .query_map(rusqlite::params_from_iter(values.iter().map(AsRef::as_ref)), message)?;
            Ok((rows.collect::<Result<_, _>>()?, total.cast_unsigned()))
        };
        let (mut messages, total) = read(&self.messages).map_err(self.sqlite_messages())?;
        let more = messages.len() > query.size;
        messages.truncate(query.size);
        self.fill_read_at(templates, &mut messages)?;
        Ok((messages, total, more))
    }

    /// Decides which messages a mark changes.
    pub(super) fn decide(
        &mut self,
        templates: &Templates,
        mark: Mark,
        target: &MarkTarget,
        now: Time,
    ) -> Result<Result<Decision, Refusal>, FileError> {
        // What is expired or recalled is not there for the user, so it cannot be marked either.
        let from = match mark {
            Mark::Read => "status = 0",
            Mark::Unread => "status = 1",
            Mark::Archive => "status IN (0, 1)",
        };
        let wanted = format!("{from} AND (expire_at IS NULL OR expire_at > ?1)");
        let mut decision = Decision::default();
        let mut take = |row: &rusqlite::Row<'_>| -> rusqlite::Result<()> {
            decision.targets.push((row.get::<_, i64>(0)?.cast_unsigned(), parse(row, 1)?));
            decision.unread.push(row.get::<_, i64>(2)? == status_code(Status::Unread));
            Ok(())
        };
        let mut query = |condition: &str, value: &dyn ToSql| -> rusqlite::Result<()> {
            let mut select = self.messages.prepare_cached(&format!(
                "SELECT seq, id, status FROM message WHERE {wanted} AND {condition} ORDER BY seq"
            ))?;
            let mut rows = select.query(params![now.millis(), value])?;
            while let Some(row) = rows.next()? {
                take(row)?;
            }
            Ok(())
        };
        let sqlite = self.sqlite_messages();
        match target {
            MarkTarget::One { id, expected } => {
                query("id = ?2", &id.as_str()).map_err(sqlite)?;
                let Some(current) = self.get(templates, id, now)? else {
                    return Ok(Err(Refusal::NotFound));
                };
                if expected.is_some_and(|expected| expected != current.state.version) {
                    return Ok(Err(Refusal::Conflict(Box::new(current))));
                }
            }
            MarkTarget::Many(ids) => {
                for id in ids {
                    query("id = ?2", &id.as_str()).map_err(&sqlite)?;
                }
                let mut seen = std::collections::HashSet::new();
                let keep: Vec<bool> =
                    decision.targets.iter().map(|(seq, _)| seen.insert(*seq)).collect();
                let mut keep_targets = keep.iter();
                decision.targets.retain(|_| *keep_targets.next().expect("same length"));
                let mut keep_unread = keep.iter();
                decision.unread.retain(|_| *keep_unread.next().expect("same length"));
            }
            MarkTarget::UpTo(seq) => query("seq <= ?2", &at_most_i64(*seq)).map_err(sqlite)?,
            MarkTarget::Channel(channel) => {
                query("body ->> '$.channel_id' = ?2", channel).map_err(sqlite)?
            }
        }
        Ok(Ok(decision))
    }
}

/// What a message of a list must fulfil, whatever words it has: SQL on `message`, joined by AND, and
/// its values.
pub(super) fn conditions(query: &ListQuery, now: Time) -> (Vec<String>, Vec<Box<dyn ToSql>>) {
    let mut conditions = vec!["(expire_at IS NULL OR expire_at > ?)".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(now.millis())];
    conditions.push(
        match query.status {
            StatusFilter::Inbox => "status IN (0, 1)",
            StatusFilter::Unread => "status = 0",
            StatusFilter::Read => "status = 1",
            StatusFilter::Archived => "status = 2",
            StatusFilter::All => "status <> 3",
        }
        .to_owned(),
    );
    let mut filter = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            conditions.push(condition.to_owned());
            values.push(value);
        }
    };
    fn boxed<T: ToSql + 'static>(value: T) -> Box<dyn ToSql> {
        Box::new(value)
    }
    filter("body ->> '$.channel_id' = ?", query.channel_id.clone().map(boxed));
    filter("body ->> '$.message_type' = ?", query.message_type.clone().map(boxed));
    filter("body ->> '$.priority' >= ?", query.priority_min.map(boxed));
    filter("body ->> '$.sender' = ?", query.sender.clone().map(boxed));
    filter(
        "julianday(body ->> '$.created_at') >= julianday(?)",
        query.since.map(|t| boxed(t.to_string())),
    );
    filter(
        "julianday(body ->> '$.created_at') < julianday(?)",
        query.until.map(|t| boxed(t.to_string())),
    );
    (conditions, values)
}

/// The order of a list, in SQL on `message`.
pub(super) const fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "seq DESC",
        Sort::Oldest => "seq ASC",
        Sort::Priority => "body ->> '$.priority' DESC, seq DESC",
    }
}

/// A position that a client named, for SQL: it may be beyond any that exists, and must not turn
/// negative.
fn at_most_i64(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn read_at(status: &Connection, seq: Seq) -> rusqlite::Result<Option<Time>> {
    status
        .prepare_cached("SELECT read_at FROM read_status WHERE message_seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get::<_, Option<i64>>(0))
        .optional()
        .map(|at| at.flatten().map(Time::from_millis))
}

/// A message, or what stands in its place once it must not be shown.
fn shown(message: InboxMessage, now: Time) -> Change {
    let status =
        |status, at| Change::Status(StatusChange::new(message.body.id().clone(), status, at));
    match message.body.expire_at() {
        _ if message.state.status == Status::Recalled => status(Status::Recalled, now),
        Some(at) if at <= now => status(Status::Expired, at),
        _ => Change::Message { state: message.state, body: Arc::clone(&message.body) },
    }
}

fn parse<T: std::str::FromStr<Err = IdError>>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    row.get_ref(at)?.as_str()?.parse().map_err(|error: IdError| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })
}
