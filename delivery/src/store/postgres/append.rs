//! Stores what was sent: a batch of many callers in one transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use protocol::{Body, MessageId, TenantId, Time};

use super::{
    columns::{Columns as _, plain, sender_text, state_code},
    core::Core,
    deliver::{self, Item, Kind},
    errors::Failure,
    pool::{self, Ask, Transaction, rows},
    rows::Content,
    stats::Tally,
};
use crate::{
    InboxKey, StoreError,
    store::{
        Accepted, Audience, Batch, Outgoing, SentState, StoredAnswer, limits::ANSWER_KEPT,
        metadata::askable,
    },
};

/// A message as it goes into `bodies`.
struct Row<'a> {
    outgoing: &'a Outgoing,
    accepted: &'a Accepted,
    audience: Audience,
    /// It waits for its time.
    scheduled: bool,
    pos: Option<i64>,
}

/// What a caller wants stored, and since when.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) batch: &'a Batch,
    pub(super) accepted: &'a Accepted,
}

/// Stores batches in their order; what each is answered, or why none of them was stored.
pub(super) async fn store(
    core: &Core,
    asked: &[Asked<'_>],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let mut client = core.db.client().await?;
    let transaction = pool::begin(&mut client).await?;
    let now = core.now(&transaction).await?;
    let refused = store_answers(&transaction, asked, now).await?;
    let kept = asked.iter().enumerate().filter(|(at, _)| !refused.contains(at));
    let mut messages: Vec<Row<'_>> = kept
        .flat_map(|(_, asked)| asked.batch.items.iter().map(|item| (item, asked.accepted)))
        .filter_map(|(outgoing, accepted)| Row::new(outgoing, accepted, now))
        .collect();
    let shared = messages.iter().filter(|row| !row.scheduled && Item::is_shared(&row.audience));
    let mut places = deliver::places(&transaction, shared.map(|row| &row.outgoing.tenant)).await?;
    for row in messages.iter_mut().filter(|row| !row.scheduled) {
        if Item::is_shared(&row.audience)
            && let Some(next) = places.get_mut(&row.outgoing.tenant)
        {
            row.pos = Some(*next);
            *next += 1;
        }
    }
    let ids = store_bodies(&transaction, &messages, now).await?;
    let (mut items, mut tally) = (Vec::new(), Tally::default());
    for row in messages.iter().filter(|row| !row.scheduled) {
        let Outgoing { tenant, body, .. } = row.outgoing;
        let Some(id) = ids.get(&(tenant, body.id())) else { continue };
        tally.sent(tenant, body, now);
        items.push(Item {
            tenant: tenant.clone(),
            audience: row.audience.clone(),
            content: Content::new(*id, Arc::clone(body), Some(row.accepted.clone())),
            kind: Kind::Message,
            pos: row.pos,
        });
    }
    let mut names = Vec::new();
    let mut work = deliver::deliver(core, &transaction, &items, now, &mut names).await?;
    tally.write(&transaction).await?;
    core.finish(transaction, &mut work).await?;
    core.metrics.rows.increment(work.slots.iter().map(|slot| slot.messages.len() as u64).sum());
    names.into_iter().for_each(|(key, id): (InboxKey, i64)| core.names.put(key, id));
    places.values_mut().for_each(|next| *next -= 1);
    core.told_of(&places);
    if messages.iter().any(|row| row.scheduled) {
        core.caught.alarm.notify_one();
    }
    let answers = (0..asked.len())
        .map(|at| if refused.contains(&at) { Err(StoreError::KeyTaken) } else { Ok(()) });
    Ok(answers.collect())
}

impl<'a> Row<'a> {
    /// None for a message that is for nobody.
    fn new(outgoing: &'a Outgoing, accepted: &'a Accepted, now: i64) -> Option<Self> {
        let audience = match &outgoing.audience {
            Audience::Everyone => Audience::Everyone,
            Audience::Some { users, groups } if users.is_empty() && groups.is_empty() => {
                return None;
            }
            Audience::Some { users, groups } => {
                Audience::Some { users: once_each(users), groups: once_each(groups) }
            }
        };
        let scheduled = outgoing.scheduled_at.is_some_and(|at| at.millis() > now);
        Some(Self { outgoing, accepted, audience, scheduled, pos: None })
    }
}

fn once_each<T: Clone + Eq + std::hash::Hash>(list: &Arc<[T]>) -> Arc<[T]> {
    let mut seen = HashSet::with_capacity(list.len());
    if list.iter().all(|one| seen.insert(one)) {
        return Arc::clone(list);
    }
    seen.clear();
    list.iter().filter(|one| seen.insert(*one)).cloned().collect()
}

/// Stores answers to keys; answers whose key is taken.
async fn store_answers(
    transaction: &Transaction<'_>,
    asked: &[Asked<'_>],
    now: i64,
) -> Result<HashSet<usize>, Failure> {
    let mut open: HashMap<(String, String, String), usize> = HashMap::new();
    let (mut refused, mut chosen) = (HashSet::new(), Vec::new());
    for (at, asked) in asked.iter().enumerate() {
        let Some(answer) = &asked.batch.answer else { continue };
        let key = (answer.key.clone(), sender_text(&answer.sender), answer.tenant.to_string());
        match open.entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => drop(refused.insert(at)),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(at);
                chosen.push(answer);
            }
        }
    }
    if chosen.is_empty() {
        return Ok(refused);
    }
    chosen.sort_unstable_by(|a, b| (&a.key, &a.tenant).cmp(&(&b.key, &b.tenant)));
    let text = |of: fn(&StoredAnswer) -> String| -> Vec<String> {
        chosen.iter().map(|answer| of(answer)).collect()
    };
    let fingerprints: Vec<&[u8]> = chosen.iter().map(|answer| &answer.fingerprint[..]).collect();
    let times: Vec<i64> = chosen.iter().map(|answer| answer.at.millis()).collect();
    let sql = "INSERT INTO answers AS a (tenant, sender, key, at, fingerprint, data)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::text[])
        ON CONFLICT (key, sender, tenant) DO UPDATE SET at = excluded.at,
            fingerprint = excluded.fingerprint, data = excluded.data WHERE a.at <= $7
        RETURNING key, sender, tenant";
    let kept = crate::clock::millis(ANSWER_KEPT);
    let stored = rows(
        transaction,
        sql,
        &[
            &text(|answer| answer.tenant.to_string()),
            &text(|answer| sender_text(&answer.sender)),
            &text(|answer| answer.key.clone()),
            &times,
            &fingerprints,
            &text(|answer| answer.data.clone()),
            &(now - kept),
        ],
    )
    .await?;
    for row in stored {
        open.remove(&(row.column(0)?, row.column(1)?, row.column(2)?));
    }
    refused.extend(open.into_values());
    Ok(refused)
}

/// Stores messages. Answers their ids here.
async fn store_bodies<'a>(
    transaction: &Transaction<'_>,
    messages: &[Row<'a>],
    now: i64,
) -> Result<HashMap<(&'a TenantId, &'a MessageId), i64>, Failure> {
    let mut columns = BodyColumns::default();
    for row in messages {
        columns.push(row, now);
    }
    let ids = columns.store(transaction).await?;
    Ok(messages
        .iter()
        .zip(ids)
        .map(|(row, id)| ((&row.outgoing.tenant, row.outgoing.body.id()), id))
        .collect())
}

/// Rows of `bodies`, by column.
#[derive(Default)]
pub(super) struct BodyColumns {
    pub(super) tenant: Vec<String>,
    pub(super) message_id: Vec<String>,
    pub(super) sender: Vec<String>,
    pub(super) audience: Vec<Vec<u8>>,
    pub(super) recipients: Vec<i32>,
    pub(super) state: Vec<i16>,
    pub(super) priority: Vec<i16>,
    pub(super) accepted_at: Vec<i64>,
    pub(super) scheduled_at: Vec<Option<i64>>,
    pub(super) sent_at: Vec<Option<i64>>,
    pub(super) expire_at: Vec<Option<i64>>,
    pub(super) service: Vec<String>,
    pub(super) template: Vec<String>,
    pub(super) pos: Vec<Option<i64>>,
    body: Vec<String>,
    metadata: Vec<Option<String>>,
}

impl BodyColumns {
    fn push(&mut self, row: &Row<'_>, now: i64) {
        let Outgoing { tenant, sender, body, scheduled_at, .. } = row.outgoing;
        let state = if row.scheduled { SentState::Scheduled } else { SentState::Sent };
        let recipients = match &row.audience {
            Audience::Everyone => 0,
            Audience::Some { users, .. } => users.len(),
        };
        let (service, template) = counted_by(body);
        self.tenant.push(tenant.to_string());
        self.message_id.push(body.id().to_string());
        self.sender.push(sender_text(sender));
        self.audience.push(encode(&row.audience));
        self.recipients.push(i32::try_from(recipients).unwrap_or(i32::MAX));
        self.state.push(state_code(state));
        self.priority.push(body.facts().priority.into());
        self.accepted_at.push(now);
        self.scheduled_at.push(scheduled_at.map(Time::millis));
        self.sent_at.push((!row.scheduled).then_some(now));
        self.expire_at.push(body.expire_at().map(Time::millis));
        self.service.push(service);
        self.template.push(template);
        self.pos.push(row.pos);
        self.say(json_of(body));
    }

    /// The last of a row's columns: what it says, and what of that can be asked for.
    pub(super) fn say(&mut self, json: String) {
        self.metadata.push(askable(&json));
        self.body.push(json);
    }

    async fn store(&self, transaction: &Transaction<'_>) -> Result<Vec<i64>, Failure> {
        let stored = self.insert(transaction, "RETURNING id").await?;
        stored.iter().map(|row| row.column(0)).collect()
    }

    /// Inserts the rows; `then` is SQL that says what becomes of those that are there, and what is answered.
    pub(super) async fn insert(
        &self,
        client: &impl Ask,
        then: &str,
    ) -> Result<Vec<tokio_postgres::Row>, Failure> {
        if self.tenant.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "INSERT INTO bodies (tenant, message_id, sender, audience, recipients, state, priority,
                accepted_at, scheduled_at, sent_at, expire_at, service, template, pos, body, metadata)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::integer[],
                $6::smallint[], $7::smallint[], $8::bigint[], $9::bigint[], $10::bigint[],
                $11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::text[],
                $16::text[]::jsonb[]) {then}"
        );
        rows(
            client,
            &sql,
            &[
                &self.tenant,
                &self.message_id,
                &self.sender,
                &self.audience,
                &self.recipients,
                &self.state,
                &self.priority,
                &self.accepted_at,
                &self.scheduled_at,
                &self.sent_at,
                &self.expire_at,
                &self.service,
                &self.template,
                &self.pos,
                &self.body,
                &self.metadata,
            ],
        )
        .await
    }
}

/// A body as a column.
pub(super) fn json_of(body: &Body) -> String {
    String::from_utf8_lossy(&body.json()).into_owned()
}

/// Service and template that a message is counted by; empty for none.
pub(super) fn counted_by(body: &Body) -> (String, String) {
    let facts = body.facts();
    let service = facts.sender_info.as_ref().and_then(|sender| sender.service_id.as_deref());
    let word = |word: Option<&str>| plain(word.unwrap_or_default()).into_owned();
    (word(service), word(facts.template_id.as_deref()))
}

/// An audience as a column.
pub(super) fn encode(audience: &Audience) -> Vec<u8> {
    rmp_serde::to_vec(audience).expect("ids and lists of them have no failing Serialize")
}
