//! Lists of messages.

use tokio_postgres::types::ToSql;

use super::{
    columns::{Columns as _, most, plain, position},
    core::Core,
    errors::Failure,
    pool::{self, Ask, row},
    reads::{MESSAGE, fill_pressed, head_of, message_of},
    rows::Inbox,
    search,
    standby::Standby,
};
use crate::{
    InboxKey,
    store::{ListPage, ListPosition, ListQuery, Sort, StatusFilter},
};

type Value = Box<dyn ToSql + Sync + Send>;

/// What messages of a list must fulfil, in SQL on `messages m`, with the values.
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
    /// They ask for nothing but status and channel, of which there are counts.
    counted: bool,
}

/// Which statuses a list shows, as in `messages.status`.
fn statuses(query: &ListQuery) -> Vec<i16> {
    let mut shown = match query.status {
        StatusFilter::Inbox => vec![0, 1],
        StatusFilter::Unread => vec![0],
        StatusFilter::Read => vec![1],
        StatusFilter::Archived => vec![2],
        StatusFilter::All => vec![0, 1, 2],
    };
    if query.recalled {
        shown.push(3);
    }
    shown
}

impl Conditions {
    pub(super) fn new(inbox: i64, query: &ListQuery) -> Self {
        let mut conditions = Self {
            sql: "m.inbox = $1".to_owned(),
            values: vec![Box::new(inbox)],
            counted: query.text.is_none() && query.metadata.is_empty(),
        };
        conditions.add("m.status = ANY", Box::new(statuses(query)));
        if let Some(channel) = &query.channel_id {
            conditions.add("m.channel = ", Box::new(plain(channel).into_owned()));
        }
        let facts: [(&str, Option<Value>); 5] = [
            ("m.message_type = ", query.message_type.as_deref().map(boxed)),
            ("m.priority >= ", query.priority_min.map(|least| Box::new(i16::from(least)) as Value)),
            ("m.sender = ", query.sender.as_deref().map(boxed)),
            ("m.created_at >= ", query.since.map(|at| Box::new(at.millis()) as Value)),
            ("m.created_at < ", query.until.map(|at| Box::new(at.millis()) as Value)),
        ];
        for (sql, value) in facts {
            if let Some(value) = value {
                conditions.add(sql, value);
                conditions.counted = false;
            }
        }
        for asked in &query.metadata {
            conditions.values.extend([boxed(asked.key()), boxed(asked.value())]);
            let at = conditions.values.len();
            conditions.sql.push_str(&format!(
                " AND b.metadata @> jsonb_build_object(${}::text, ${at}::text)",
                at - 1
            ));
        }
        conditions
    }

    /// One more: SQL that ends where its value is put.
    pub(super) fn add(&mut self, sql: &str, value: Value) {
        self.values.push(value);
        let at = self.values.len();
        self.sql.push_str(&format!(" AND {sql}(${at})"));
    }

    /// One of two.
    pub(super) fn either(&mut self, (one, first): (&str, Value), (other, second): (&str, Value)) {
        self.values.extend([first, second]);
        let at = self.values.len();
        self.sql.push_str(&format!(" AND ({one}(${}) OR {other}(${at}))", at - 1));
    }

    fn references(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

fn boxed(text: &str) -> Value {
    Box::new(plain(text).into_owned())
}

/// The order of a list.
const fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "m.seq DESC",
        Sort::Oldest => "m.seq",
        Sort::Priority => "m.priority DESC, m.seq DESC",
    }
}

impl Core {
    pub(super) async fn list(
        &self,
        key: &InboxKey,
        query: &ListQuery,
    ) -> Result<ListPage, Failure> {
        if let Some(standby) = &self.replica
            && let Some(page) = self.list_of_replica(standby, key, query).await?
        {
            return Ok(page);
        }
        self.reading(|strict| async move {
            let mut client = self.db.client().await?;
            if query.text.is_some() {
                search::catch_up(self, &mut client, key, strict).await?;
            }
            let look = pool::look(&mut client).await?;
            match self.see(&look, key, strict).await? {
                Some(inbox) => page(&look, &inbox, query).await,
                None => Ok(nothing()),
            }
        })
        .await
    }

    /// Asks the standby, if it stands where the primary does with this inbox.
    async fn list_of_replica(
        &self,
        standby: &Standby,
        key: &InboxKey,
        query: &ListQuery,
    ) -> Result<Option<ListPage>, Failure> {
        let seen = self.reading(|strict| async move {
            let mut client = self.db.client().await?;
            if query.text.is_some() {
                search::catch_up(self, &mut client, key, strict).await?;
            }
            self.see(&client, key, strict).await
        });
        let Some(primary) = seen.await? else { return Ok(Some(nothing())) };
        let ask = || async {
            let mut client = standby.db.client().await?;
            let look = pool::look(&mut client).await?;
            match self.see(&look, key, false).await? {
                Some(there)
                    if there.stands_like(&primary)
                        && (query.text.is_none() || search::is_whole(&look, &there).await?) =>
                {
                    page(&look, &there, query).await.map(Some)
                }
                Some(_) | None => Ok(None),
            }
        };
        Ok(self.ask_standby(standby, ask).await)
    }
}

impl Inbox {
    /// Whether another look found the same: every change of what is listed changes one of these.
    fn stands_like(&self, other: &Self) -> bool {
        let of = |inbox: &Self| {
            (
                inbox.head,
                inbox.min_seq,
                inbox.kept,
                inbox.counts,
                inbox.group_pos,
                inbox.next_expiry,
            )
        };
        of(self) == of(other)
    }
}

/// Of an inbox that was never seen.
const fn nothing() -> ListPage {
    ListPage { messages: Vec::new(), highlights: Vec::new(), total: 0, unread: 0, more: false }
}

async fn page(client: &impl Ask, inbox: &Inbox, query: &ListQuery) -> Result<ListPage, Failure> {
    let mut page = ListPage { unread: head_of(inbox).unread, ..nothing() };
    let mut conditions = Conditions::new(inbox.id, query);
    let mut joins = "messages m".to_owned();
    if let Some(terms) = &query.text {
        search::add(&mut conditions, client, inbox.id, terms).await?;
        joins.push_str(" JOIN search_texts s ON s.inbox = m.inbox AND s.seq = m.seq");
    }
    if !query.metadata.is_empty() {
        joins.push_str(" JOIN bodies b ON b.id = m.body");
        plan_for_the_value(client, inbox).await?;
    }
    page.total = total(client, inbox, &conditions, query, &joins).await?;
    let skip = match query.at {
        ListPosition::Offset(skip) if skip >= page.total => return Ok(page),
        ListPosition::Offset(skip) => skip,
        ListPosition::After(seq) => {
            let side = if query.sort == Sort::Oldest { "m.seq > " } else { "m.seq < " };
            conditions.add(side, Box::new(position(seq)));
            0
        }
    };
    // One more than asked tells whether there is more.
    let (sql, order) = (&conditions.sql, order(query.sort));
    let (take, skip) =
        (most(query.size.saturating_add(1)), i64::try_from(skip).unwrap_or(i64::MAX));
    // The rows of the page first, so that what is skipped or sorted carries no bodies.
    let outer = order.replace("m.", "p.");
    let sql = format!(
        "SELECT {MESSAGE} FROM (SELECT m.inbox, m.seq, m.priority FROM {joins} WHERE {sql}
             ORDER BY {order} LIMIT {take} OFFSET {skip}) AS p
         JOIN messages m ON m.inbox = p.inbox AND m.seq = p.seq JOIN bodies b ON b.id = m.body
         ORDER BY {outer}"
    );
    // Not prepared: limits and conditions make too many different ones to keep.
    for row in pool::rows_once(client, &sql, &conditions.references()).await? {
        page.messages.push(message_of(&row, 0)?.0);
    }
    page.more = page.messages.len() > query.size;
    page.messages.truncate(query.size);
    fill_pressed(client, inbox.id, &mut page.messages).await?;
    if let Some(terms) = &query.text {
        page.highlights =
            page.messages.iter().map(|message| search::highlight(terms, &message.body)).collect();
    }
    Ok(page)
}

/// Up to this many messages of an inbox, what is asked of metadata is looked up in each one's body: 3 ms, whatever
/// the database believes of the value.
const BY_INBOX_MAX: i64 = 1_000;

/// Has the rest of the transaction planned for the value that is asked for: one that few messages of the tenant
/// have is found by the index, one that many have by going through the inbox. A plan for any value always goes
/// through the inbox: 300 ms for 100,000 messages, where the index takes 0.2. Joins that read all bodies to save
/// looking up many are left out: what a list costs may grow with its inbox, not with everybody's messages.
async fn plan_for_the_value(client: &impl Ask, inbox: &Inbox) -> Result<(), Failure> {
    // The index can be read by a bitmap only.
    let by_index = if inbox.kept > BY_INBOX_MAX { "on" } else { "off" };
    let sql = format!(
        "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_hashjoin = off;
         SET LOCAL enable_mergejoin = off; SET LOCAL max_parallel_workers_per_gather = 0;
         SET LOCAL enable_bitmapscan = {by_index}"
    );
    pool::batch(client, &sql).await
}

/// How many messages fulfil the conditions.
async fn total(
    client: &impl Ask,
    inbox: &Inbox,
    conditions: &Conditions,
    query: &ListQuery,
    joins: &str,
) -> Result<u64, Failure> {
    if !conditions.counted {
        let sql = format!("SELECT count(*) FROM {joins} WHERE {}", conditions.sql);
        let counted = pool::rows_once(client, &sql, &conditions.references()).await?;
        return counted.first().map_or(Ok(0), |row| row.count(0));
    }
    let counts = match &query.channel_id {
        None => inbox.counts,
        Some(channel) => {
            let sql = "SELECT unread, read, archived, recalled FROM tallies
                WHERE inbox = $1 AND channel = $2";
            match row(client, sql, &[&inbox.id, &&*plain(channel)]).await? {
                Some(row) => [row.column(0)?, row.column(1)?, row.column(2)?, row.column(3)?],
                None => [0; 4],
            }
        }
    };
    let shown = statuses(query);
    let of = |status: &i16| counts.get(usize::try_from(*status).ok()?).copied();
    Ok(u64::try_from(shown.iter().filter_map(of).sum::<i64>()).unwrap_or(0))
}
