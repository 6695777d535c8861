//! Lists of messages.

use rusqlite::{Connection, Row, ToSql, params_from_iter};

use super::{
    super::{
        schema::Templates,
        user_files::{FileError, UserFiles},
    },
    COLUMNS, Page, Said, at_most_i64, message,
};
use crate::store::{InboxMessage, ListPosition, ListQuery, Sort, StatusFilter};

/// Changes of an inbox from which on it gets the index that a list would be quick with, when somebody
/// first asks for that list. Up to here reading all of `message_facts` takes half a millisecond. Every
/// inbox having both from the start would make filling its file cost twice as much; making one takes
/// some 50 ms for 100,000 messages, once.
const INDEX_FROM: i64 = 10_000;

/// An index that only inboxes have that were asked for it.
#[derive(Clone, Copy)]
struct Wanted {
    name: &'static str,
    create: &'static str,
}

const BY_PRIORITY: Wanted = Wanted {
    name: "message_priority",
    create: "CREATE INDEX IF NOT EXISTS message_priority ON message (priority, seq, status)
             WHERE status < 4 -- made when a list first asked for it",
};

const BY_SENDER: Wanted = Wanted {
    name: "message_sender",
    create: "CREATE INDEX IF NOT EXISTS message_sender ON message (sender, seq, status)
             WHERE status < 4 -- made when a list first asked for it",
};

/// A page of a list.
#[derive(Default)]
pub(in super::super) struct Listed {
    pub(in super::super) messages: Vec<InboxMessage>,
    /// How many match in all.
    pub(in super::super) total: u64,
    /// Whether there are more after this page.
    pub(in super::super) more: bool,
}

/// What messages of a list must fulfil, in SQL, with the values.
struct Conditions {
    /// Joined by AND.
    sql: String,
    values: Vec<Box<dyn ToSql>>,
    /// They ask for nothing but status and channel, of which `tally` has the counts.
    plain: bool,
    /// The index that has all they ask for.
    index: &'static str,
    /// The one that would be quicker.
    wanted: Option<Wanted>,
}

/// What a message of a list must fulfil, whatever words it has: SQL on `message`, and its values.
pub(in super::super) fn conditions(query: &ListQuery) -> (String, Vec<Box<dyn ToSql>>) {
    let Conditions { sql, values, .. } = Conditions::new(query);
    (sql, values)
}

/// The order of a list, in SQL on `message`.
pub(in super::super) const fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "seq DESC",
        Sort::Oldest => "seq ASC",
        Sort::Priority => "priority DESC, seq DESC",
    }
}

impl UserFiles {
    /// A page of a list.
    pub(in super::super) fn list(
        &mut self,
        templates: &Templates,
        query: &ListQuery,
    ) -> Result<Listed, FileError> {
        let mut listed =
            list(&self.messages, query, self.is_draft()).map_err(self.sqlite_messages())?;
        self.fill(templates, &mut listed.messages)?;
        Ok(listed)
    }
}

/// The codes of `message.status` that a list shows.
const fn statuses(query: &ListQuery) -> &'static [i64] {
    match (query.status, query.recalled) {
        (StatusFilter::Inbox, false) => &[0, 1],
        (StatusFilter::Inbox, true) => &[0, 1, 3],
        (StatusFilter::Unread, false) => &[0],
        (StatusFilter::Unread, true) => &[0, 3],
        (StatusFilter::Read, false) => &[1],
        (StatusFilter::Read, true) => &[1, 3],
        (StatusFilter::Archived, false) => &[2],
        (StatusFilter::Archived, true) => &[2, 3],
        (StatusFilter::All, false) => &[0, 1, 2],
        (StatusFilter::All, true) => &[0, 1, 2, 3],
    }
}

fn boxed<T: ToSql + 'static>(value: T) -> Box<dyn ToSql> {
    Box::new(value)
}

impl Conditions {
    fn new(query: &ListQuery) -> Self {
        let mut conditions = Self {
            sql: "status < 4".to_owned(),
            values: Vec::new(),
            plain: true,
            index: "message_facts",
            wanted: None,
        };
        let shown: Vec<String> =
            statuses(query).iter().map(|status| format!("status = {status}")).collect();
        // Not IN: SQLite would walk the index once for each.
        conditions.add(&format!("({})", shown.join(" OR ")), None);
        conditions.filter("message_type = ?", query.message_type.clone().map(boxed));
        conditions.filter("priority >= ?", query.priority_min.map(boxed));
        conditions.filter("sender = ?", query.sender.clone().map(boxed));
        conditions.filter("created_at >= ?", query.since.map(|at| boxed(at.millis())));
        conditions.filter("created_at < ?", query.until.map(|at| boxed(at.millis())));
        if let Some(channel) = &query.channel_id {
            conditions.add("channel_id = ?", Some(boxed(channel.clone())));
            // It has no priority to sort by.
            if conditions.plain && query.sort != Sort::Priority {
                conditions.index = "message_channel";
            }
        }
        let ListQuery { channel_id, message_type, priority_min, sender, since, until, .. } = query;
        let other = channel_id.is_some()
            || message_type.is_some()
            || priority_min.is_some()
            || since.is_some()
            || until.is_some();
        conditions.wanted = match (query.sort, sender) {
            (Sort::Priority, None) if !other => Some(BY_PRIORITY),
            (Sort::Newest | Sort::Oldest, Some(_)) if !other => Some(BY_SENDER),
            _ => None,
        };
        conditions
    }

    /// Takes the quicker index, made where it pays; a draft makes none.
    fn choose(&mut self, db: &Connection, draft: bool) -> rusqlite::Result<()> {
        let Some(Wanted { name, create }) = self.wanted else { return Ok(()) };
        let there: bool = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)")?
            .query_row([name], |row| row.get(0))?;
        if !there {
            let changes: i64 = db
                .prepare_cached("SELECT head - min_seq FROM inbox")?
                .query_row([], |row| row.get(0))?;
            if draft || changes < INDEX_FROM {
                return Ok(());
            }
            db.execute_batch(create)?;
        }
        self.index = name;
        Ok(())
    }

    fn add(&mut self, sql: &str, value: Option<Box<dyn ToSql>>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(value);
    }

    fn filter(&mut self, sql: &str, value: Option<Box<dyn ToSql>>) {
        if value.is_some() {
            self.add(sql, value);
            self.plain = false;
        }
    }

    /// How many messages fulfil them.
    fn count(&self, db: &Connection, query: &ListQuery) -> rusqlite::Result<u64> {
        let count = |row: &Row<'_>| row.get::<_, i64>(0);
        let total = if self.plain {
            let shown: Vec<String> = statuses(query).iter().map(ToString::to_string).collect();
            // No channel has an empty id: there, `tally` has what is in none.
            let channel = match query.channel_id {
                Some(_) => " AND channel_id = ?1 AND channel_id <> ''",
                None => "",
            };
            db.prepare_cached(&format!(
                "SELECT ifnull(sum(count), 0) FROM tally WHERE status IN ({}){channel}",
                shown.join(", ")
            ))?
            .query_row(params_from_iter(&query.channel_id), count)?
        } else {
            let (index, sql) = (self.index, &self.sql);
            db.prepare_cached(&format!(
                "SELECT count(*) FROM message INDEXED BY {index} WHERE {sql}"
            ))?
            .query_row(params_from_iter(self.values.iter().map(AsRef::as_ref)), count)?
        };
        Ok(total.cast_unsigned())
    }

    /// The seqs of a page, in the order of the list.
    fn page(
        &self,
        db: &Connection,
        sort: Sort,
        skip: u64,
        take: u64,
    ) -> rusqlite::Result<Vec<i64>> {
        let order = order(sort);
        let at_most = |number: u64| boxed(i64::try_from(number).unwrap_or(i64::MAX));
        let limits = [at_most(take), at_most(skip)];
        let (index, sql) = (self.index, &self.sql);
        db.prepare_cached(&format!(
            "SELECT seq FROM message INDEXED BY {index} WHERE {sql}
             ORDER BY {order} LIMIT ? OFFSET ?"
        ))?
        .query_map(params_from_iter(self.values.iter().chain(&limits).map(AsRef::as_ref)), |row| {
            row.get(0)
        })?
        .collect()
    }
}

/// Where bodies decide: the messages that fulfil the rest are walked once, for the page and the total.
fn by_body(
    db: &Connection,
    query: &ListQuery,
    conditions: &Conditions,
) -> rusqlite::Result<(Vec<i64>, u64, bool)> {
    let (order, index, sql) = (order(query.sort), conditions.index, &conditions.sql);
    let (mut page, mut said) = (Page::of(query), Said::new(db, query)?);
    let mut select = db.prepare_cached(&format!(
        "SELECT seq FROM message INDEXED BY {index} WHERE {sql} ORDER BY {order}"
    ))?;
    let mut rows = select.query(params_from_iter(conditions.values.iter().map(AsRef::as_ref)))?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        if said.fits(seq)? {
            page.offer(seq);
        }
    }
    Ok((page.seqs, page.total, page.more))
}

/// Where columns decide.
fn by_columns(
    db: &Connection,
    query: &ListQuery,
    mut conditions: Conditions,
) -> rusqlite::Result<(Vec<i64>, u64, bool)> {
    let total = conditions.count(db, query)?;
    let size = query.size as u64;
    let (seqs, more) = match query.at {
        ListPosition::Offset(skip) => {
            let left = total.saturating_sub(skip);
            let take = size.min(left);
            let seqs = match query.sort {
                _ if take == 0 => Vec::new(),
                // From whichever end is nearer: what is skipped is read all the same.
                sort @ (Sort::Newest | Sort::Oldest) if left - take < skip => {
                    let from_the_end =
                        if sort == Sort::Newest { Sort::Oldest } else { Sort::Newest };
                    let mut seqs = conditions.page(db, from_the_end, left - take, take)?;
                    seqs.reverse();
                    seqs
                }
                sort => conditions.page(db, sort, skip, take)?,
            };
            (seqs, left > take)
        }
        ListPosition::After(seq) => {
            let side = match query.sort {
                Sort::Newest | Sort::Priority => "seq < ?",
                Sort::Oldest => "seq > ?",
            };
            conditions.add(side, Some(boxed(at_most_i64(seq))));
            // One more than asked tells whether there is more.
            let mut seqs = conditions.page(db, query.sort, 0, size.saturating_add(1))?;
            let more = seqs.len() as u64 > size;
            seqs.truncate(query.size);
            (seqs, more)
        }
    };
    Ok((seqs, total, more))
}

fn list(db: &Connection, query: &ListQuery, draft: bool) -> rusqlite::Result<Listed> {
    let mut conditions = Conditions::new(query);
    conditions.choose(db, draft)?;
    let (seqs, total, more) = if query.metadata.is_empty() {
        by_columns(db, query, conditions)?
    } else {
        by_body(db, query, &conditions)?
    };
    let mut select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE seq = ?1"))?;
    let messages = seqs
        .into_iter()
        .map(|seq| select.query_row([seq], message))
        .collect::<rusqlite::Result<_>>()?;
    Ok(Listed { messages, total, more })
}
