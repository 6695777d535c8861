//! Sends messages when their time has come: on whichever node looks first, by the database's clock.
//!
//! One transaction takes those that are due, puts them into inboxes and says that they were sent, under a
//! lock that one node holds at a time. Nodes that each took a page of their own would be faster, and
//! would send what is due later before what is due first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::{Body, TenantId, Time};
use tokio_util::sync::CancellationToken;

use super::{
    append::json_of,
    columns::Columns as _,
    core::Core,
    deliver::{self, Item, Kind},
    errors::Failure,
    ledger::{self, SENT, Sent},
    locks,
    pool::{self, execute, row, rows},
    rows::Content,
    stats::Tally,
};
use crate::store::{Accepted, SentState};

/// How often a node looks whether something is due. What is scheduled here for sooner wakes it.
const TICK: Duration = Duration::from_millis(250);

/// Messages that are sent in one transaction. A cancellation of one of them waits for it.
const PAGE_MAX: i64 = 500;

/// Inboxes that are written in one transaction, about: at least one message's.
const PAGE_ROWS_MAX: usize = 10_000;

/// How long to wait after a page that could not be sent.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Sends what is due, again and again, until it is told to stop: between two pages.
pub(super) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match core.retry(|| send_page(&core)).await {
            Ok(Next::More) => continue,
            Ok(Next::In(millis)) => TICK.min(Duration::from_millis(millis)),
            Ok(Next::Nothing) => TICK,
            Err(failure) => {
                tracing::debug!(
                    error = &failure as &dyn std::error::Error,
                    "scheduled messages cannot be sent now"
                );
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.caught.alarm.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// When to look again.
enum Next {
    /// At once.
    More,
    /// In so many milliseconds.
    In(u64),
    /// Nothing waits.
    Nothing,
}

/// Sends the first of those that are due.
async fn send_page(core: &Core) -> Result<Next, Failure> {
    let mut client = core.db.client().await?;
    let sql = "SELECT min(scheduled_at) - now_ms($1) FROM bodies WHERE state = 0";
    let due = row(&client, sql, &[&core.shift()]).await?;
    let due = due.map_or(Ok(None), |row| row.column::<Option<i64>>(0))?;
    match due.map(u64::try_from) {
        None => return Ok(Next::Nothing),
        Some(Ok(millis @ 1..)) => return Ok(Next::In(millis)),
        Some(_) => {}
    }
    let transaction = pool::begin(&mut client).await?;
    let free =
        row(&transaction, "SELECT pg_try_advisory_xact_lock($1)", &[&locks::SCHEDULE]).await?;
    if !free.map_or(Ok(false), |row| row.column(0))? {
        return Ok(Next::Nothing);
    }
    let now = core.now(&transaction).await?;
    let sql = format!(
        "SELECT {SENT}, tenant FROM bodies WHERE state = 0 AND scheduled_at <= $1
         ORDER BY scheduled_at, priority DESC, id LIMIT $2 FOR NO KEY UPDATE"
    );
    let mut page = Vec::new();
    let mut size = 0;
    for row in rows(&transaction, &sql, &[&now, &PAGE_MAX]).await? {
        let (sent, tenant): (Sent, TenantId) = (ledger::sent_of(&row)?, row.id(11)?);
        size += ledger::named(&sent.message.audience) + 1;
        if size > PAGE_ROWS_MAX && !page.is_empty() {
            break;
        }
        page.push((tenant, sent));
    }
    let (expired, due): (Vec<_>, Vec<_>) =
        page.into_iter().partition(|(_, sent)| sent.body.expired(Time::from_millis(now)));
    for (_, sent) in &expired {
        ledger::write_state(&transaction, sent.id, SentState::Cancelled).await?;
    }
    let (items, places) = items(&transaction, &due, now).await?;
    let mut tally = Tally::default();
    items.iter().for_each(|item| tally.sent(&item.tenant, &item.content.body, now));
    tally.write(&transaction).await?;
    let mut names = Vec::new();
    let mut work = deliver::deliver(core, &transaction, &items, now, &mut names).await?;
    core.finish(transaction, &mut work).await?;
    names.into_iter().for_each(|(key, id)| core.names.put(key, id));
    core.told_of(&places);
    core.metrics.fired_expired.increment(expired.len() as u64);
    for (_, sent) in &due {
        core.metrics.fired(now - sent.message.scheduled_at.map_or(now, Time::millis));
    }
    Ok(Next::More)
}

/// Says that messages are sent, and makes of them what is put into inboxes. Answers how far their
/// tenants' records reach then.
async fn items(
    transaction: &pool::Transaction<'_>,
    due: &[(TenantId, Sent)],
    now: i64,
) -> Result<(Vec<Item>, BTreeMap<TenantId, i64>), Failure> {
    let shared = due.iter().filter(|(_, sent)| Item::is_shared(&sent.message.audience));
    let mut places = deliver::places(transaction, shared.map(|(tenant, _)| tenant)).await?;
    let accepted = Accepted::now();
    let (mut items, mut columns) = (Vec::new(), (vec![], vec![], vec![]));
    for (tenant, sent) in due {
        let mut pos = None;
        if Item::is_shared(&sent.message.audience)
            && let Some(next) = places.get_mut(tenant)
        {
            pos = Some(*next);
            *next += 1;
        }
        let body = as_of(&sent.body, now);
        columns.0.push(sent.id);
        columns.1.push(pos);
        columns.2.push(json_of(&body));
        items.push(Item {
            tenant: tenant.clone(),
            audience: sent.message.audience.clone(),
            content: Content::new(sent.id, body, Some(accepted.clone())),
            kind: Kind::Message,
            pos,
        });
    }
    let sql = "UPDATE bodies b SET state = 1, sent_at = $4, pos = k.pos, body = k.body
        FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (id, pos, body) WHERE b.id = k.id";
    let (a, b, c) = &columns;
    execute(transaction, sql, &[a, b, c, &now]).await?;
    places.values_mut().for_each(|next| *next -= 1);
    Ok((items, places))
}

/// A message that is sent now: it is as old as its sending.
fn as_of(body: &Arc<Body>, now: i64) -> Arc<Body> {
    match body.sent_at(Time::from_millis(now)) {
        Ok(body) => Arc::new(body),
        // Not what we wrote: it is shown as it was stored, like any other such body.
        Err(_) => Arc::clone(body),
    }
}
