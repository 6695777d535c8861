//! What was sent, for its senders: looked up, edited, taken back.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId};
use tokio_postgres::Row;

use super::{
    append::{counted_by, json_of},
    columns::{Columns as _, most, sender_from, sender_text, state_code, state_from},
    core::Core,
    deliver::{self, Item, Kind},
    errors::Failure,
    pool::{self, Ask, Transaction, execute, row, rows},
    rows::Content,
};
use crate::{
    StoreError,
    store::{
        Accepted, Audience, SenderKey, SentMessage, SentPage, SentState, StoredAnswer,
        WaitingMessage, WaitingPage, WaitingPosition,
        limits::{ANSWER_KEPT, SENT_LOOK_MAX},
        metadata::askable,
        recalled::without_content,
    },
};

/// What [`sent_of`] reads, of `bodies`.
pub(super) const SENT: &str =
    "id, message_id, expire_at, body, sender, audience, state, accepted_at,
    scheduled_at, sent_at, pos";

/// A message that was accepted, with what its sender is not shown.
pub(super) struct Sent {
    pub(super) id: i64,
    pub(super) body: Arc<Body>,
    pub(super) message: SentMessage,
    /// Its place, where it went to groups.
    pub(super) pos: Option<i64>,
}

pub(super) fn sent_of(row: &Row) -> Result<Sent, Failure> {
    let message = SentMessage {
        id: row.id(1)?,
        sender: sender_from(row.column(4)?)?,
        audience: rmp_serde::from_slice(row.column(5)?).map_err(Failure::unreadable)?,
        state: state_from(row.column(6)?),
        accepted_at: row.time(7)?,
        scheduled_at: row.maybe_time(8)?,
        sent_at: row.maybe_time(9)?,
    };
    Ok(Sent { id: row.column(0)?, body: row.body(1)?, message, pos: row.column(10)? })
}

/// Finds a message; `lock` is SQL that keeps it as it is found. One whose sender is forgotten is nobody's.
async fn find(
    client: &impl Ask,
    tenant: &TenantId,
    id: &MessageId,
    lock: &str,
) -> Result<Option<Sent>, Failure> {
    let sql = format!(
        "SELECT {SENT} FROM bodies WHERE tenant = $1 AND message_id = $2 AND sender <> '' {lock}"
    );
    let found = row(client, &sql, &[&tenant.as_str(), &id.as_str()]).await?;
    found.as_ref().map(sent_of).transpose()
}

/// The message, which nobody else changes until the transaction ends.
async fn taken(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: &MessageId,
) -> Result<Sent, Failure> {
    let sent = find(transaction, tenant, id, "FOR NO KEY UPDATE").await?;
    sent.ok_or_else(|| StoreError::NotFound.into())
}

impl Core {
    pub(super) async fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> Result<Option<StoredAnswer>, Failure> {
        let client = self.db.client().await?;
        let sql = "SELECT fingerprint, data, at FROM answers
            WHERE key = $1 AND sender = $2 AND tenant = $3 AND at > now_ms($4) - $5";
        let kept = crate::clock::millis(ANSWER_KEPT);
        let values: pool::Values<'_> =
            &[&key, &sender_text(sender), &tenant.as_str(), &self.shift(), &kept];
        let Some(row) = row(&client, sql, values).await? else { return Ok(None) };
        let fingerprint = row.column::<&[u8]>(0)?.try_into().map_err(Failure::unreadable)?;
        Ok(Some(StoredAnswer {
            tenant: tenant.clone(),
            sender: sender.clone(),
            key: key.to_owned(),
            fingerprint,
            data: row.column(1)?,
            at: row.time(2)?,
        }))
    }

    pub(super) async fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<Option<Sent>, Failure> {
        let client = self.db.client().await?;
        find(&client, tenant, id, "").await
    }

    /// By the index of what is due, which is of all tenants.
    pub(super) async fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> Result<WaitingPage, Failure> {
        let client = self.db.client().await?;
        let sql = format!(
            "SELECT {SENT}, tenant FROM bodies WHERE state = 0 AND (scheduled_at, message_id) > ($1, $2)
             ORDER BY scheduled_at, message_id LIMIT $3"
        );
        let (at, id) = after.as_ref().map_or((i64::MIN, ""), |(at, id)| (at.millis(), id.as_str()));
        let found = rows(&client, &sql, &[&at, &id, &most(SENT_LOOK_MAX)]).await?;
        let mut page = WaitingPage::default();
        let whole = found.len() < SENT_LOOK_MAX;
        let mut last = None;
        for row in &found {
            if page.messages.len() >= limit {
                page.next = last;
                return Ok(page);
            }
            let Sent { body, message, .. } = sent_of(row)?;
            last = message.scheduled_at.map(|at| (at, message.id.clone()));
            if row.column::<&str>(11)? == tenant.as_str() {
                page.messages.push(WaitingMessage { message, body });
            }
        }
        page.next = last.filter(|_| !whole);
        Ok(page)
    }

    pub(super) async fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<SentPage, Failure> {
        let client = self.db.client().await?;
        let (tenant, sender) = (tenant.as_str(), sender_text(sender));
        let (after, limit) = (after.map_or("", MessageId::as_str), limit.max(1));
        let looked = "SELECT message_id FROM bodies WHERE tenant = $1 AND message_id > $2
            ORDER BY message_id OFFSET $3 LIMIT 1";
        let last = row(&client, looked, &[&tenant, &after, &most(SENT_LOOK_MAX - 1)]).await?;
        let last: Option<MessageId> = last.map(|row| row.id(0)).transpose()?;
        let select = |until: &str| {
            format!(
                "SELECT {SENT} FROM bodies WHERE tenant = $1 AND message_id > $2 AND sender = $3 {until}
                ORDER BY message_id LIMIT $4"
            )
        };
        let most = most(limit);
        let found = match &last {
            Some(last) => {
                let values: pool::Values<'_> = &[&tenant, &after, &sender, &most, &last.as_str()];
                rows(&client, &select("AND message_id <= $5"), values).await?
            }
            None => rows(&client, &select(""), &[&tenant, &after, &sender, &most]).await?,
        };
        let messages: Vec<SentMessage> =
            found.iter().map(|row| Ok(sent_of(row)?.message)).collect::<Result<_, Failure>>()?;
        let full = messages.last().filter(|_| messages.len() == limit);
        let next = full.map(|last| last.id.clone()).or(last);
        Ok(SentPage { messages, next })
    }

    pub(super) async fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<&Body>,
        body: &Arc<Body>,
    ) -> Result<(), Failure> {
        debug_assert_eq!(body.id(), id, "an edit keeps the message's id");
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let sent = taken(&transaction, tenant, id).await?;
        let is_open = matches!(sent.message.state, SentState::Scheduled | SentState::Sent);
        if is_open && over.is_some_and(|over| !sent.body.says_as(over)) {
            return Err(StoreError::Raced.into());
        }
        match sent.message.state {
            SentState::Scheduled => {
                write_body(&transaction, sent.id, body, SentState::Scheduled).await?;
                self.commit(transaction).await
            }
            SentState::Sent => {
                write_body(&transaction, sent.id, body, SentState::Sent).await?;
                self.rewrite(transaction, tenant, &sent, Arc::clone(body), false).await
            }
            SentState::Cancelled => Err(StoreError::Conflict("the message was cancelled").into()),
            SentState::Recalled => Err(StoreError::Conflict("the message was recalled").into()),
        }
    }

    pub(super) async fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<SentState, Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let sent = taken(&transaction, tenant, id).await?;
        match sent.message.state {
            SentState::Scheduled => {
                write_state(&transaction, sent.id, SentState::Cancelled).await?;
                self.commit(transaction).await?;
                Ok(SentState::Cancelled)
            }
            SentState::Sent => {
                let body = Arc::new(without_content(&sent.body));
                write_body(&transaction, sent.id, &body, SentState::Recalled).await?;
                self.rewrite(transaction, tenant, &sent, body, true).await?;
                Ok(SentState::Recalled)
            }
            state @ (SentState::Cancelled | SentState::Recalled) => Ok(state),
        }
    }

    pub(super) async fn cancel(&self, tenant: &TenantId, id: &MessageId) -> Result<(), Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let sent = taken(&transaction, tenant, id).await?;
        match sent.message.state {
            SentState::Scheduled => {
                write_state(&transaction, sent.id, SentState::Cancelled).await?;
                self.commit(transaction).await
            }
            SentState::Cancelled => Ok(()),
            SentState::Sent | SentState::Recalled => {
                Err(StoreError::Conflict("the message was sent").into())
            }
        }
    }

    /// Brings another content to whoever received a message.
    async fn rewrite(
        &self,
        transaction: Transaction<'_>,
        tenant: &TenantId,
        sent: &Sent,
        body: Arc<Body>,
        recall: bool,
    ) -> Result<(), Failure> {
        let now = self.now(&transaction).await?;
        let audience = sent.message.audience.clone();
        let shared = Item::is_shared(&audience).then_some(tenant);
        let places = deliver::places(&transaction, shared.into_iter()).await?;
        let item = Item {
            tenant: tenant.clone(),
            audience,
            content: Content::new(sent.id, body, Some(Accepted::now())),
            kind: Kind::Rewrite { recall, place: sent.pos },
            pos: places.get(tenant).copied(),
        };
        let mut names = Vec::new();
        let mut work = deliver::deliver(self, &transaction, &[item], now, &mut names).await?;
        self.finish(transaction, &mut work).await?;
        names.into_iter().for_each(|(key, id)| self.names.put(key, id));
        self.told_of(&places);
        Ok(())
    }

    /// Records for groups were written up to these places.
    pub(super) fn told_of(&self, places: &std::collections::BTreeMap<TenantId, i64>) {
        for (tenant, pos) in places {
            self.caught.wake(tenant, *pos);
            self.publisher.advanced(tenant, *pos);
        }
    }
}

async fn write_body(
    transaction: &Transaction<'_>,
    id: i64,
    body: &Body,
    state: SentState,
) -> Result<(), Failure> {
    let (service, template) = counted_by(body);
    let sql =
        "UPDATE bodies SET body = $2, expire_at = $3, priority = $4, service = $5, template = $6,
        state = $7, metadata = $8::text::jsonb WHERE id = $1";
    let expire_at = body.expire_at().map(protocol::Time::millis);
    let priority = i16::from(body.facts().priority);
    let (json, state) = (json_of(body), state_code(state));
    let metadata = askable(&json);
    let values: pool::Values<'_> =
        &[&id, &json, &expire_at, &priority, &service, &template, &state, &metadata];
    execute(transaction, sql, values).await.map(drop)
}

/// A message that waited does so no more.
pub(super) async fn write_state(
    transaction: &Transaction<'_>,
    id: i64,
    state: SentState,
) -> Result<(), Failure> {
    let sql = "UPDATE bodies SET state = $2 WHERE id = $1";
    execute(transaction, sql, &[&id, &state_code(state)]).await.map(drop)
}

/// What stands for the content of a message that nobody has any more.
pub(super) const NOTHING: &str = "{}";

/// What a message says now; none where it was taken back, or nobody has it any more.
pub(super) fn says(sent: Sent) -> Option<Arc<Body>> {
    let said = matches!(sent.message.state, SentState::Scheduled | SentState::Sent);
    (said && sent.body.json() != NOTHING.as_bytes()).then_some(sent.body)
}

/// How many users an audience names.
pub(super) fn named(audience: &Audience) -> usize {
    match audience {
        Audience::Everyone => 0,
        Audience::Some { users, .. } => users.len(),
    }
}
