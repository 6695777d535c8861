//! Messages, as far as they are kept once.
//!
//! They come with the first inbox that has them, in a transaction of their own before the inbox's: inboxes that
//! come at a time would else wait for each other, and in a circle. One that ends in between leaves bodies that the
//! next try finds.

use std::collections::HashMap;

use protocol::{MessageId, TenantId, Time};

use super::{
    super::{
        append::{BodyColumns, counted_by, encode, json_of},
        columns::{Columns as _, sender_text, state_code},
        errors::Failure,
        ledger::{NOTHING, named},
        pool::{self, Ask, execute, rows},
    },
    Import, ImportError, Part, begin,
};
use crate::store::{SentState, metadata::askable, portable::SentBody};

/// Answers ids of those that are there as well.
const IN_ANY_CASE: &str =
    "ON CONFLICT (tenant, message_id) DO UPDATE SET message_id = excluded.message_id
     RETURNING message_id, id";

/// Bodies by their message's id.
pub(crate) type Ids = HashMap<MessageId, i64>;

impl Import {
    /// The bodies of a tenant's messages that are here.
    pub(crate) async fn find_bodies(
        &self,
        tenant: &TenantId,
        ids: &[&str],
    ) -> Result<Ids, ImportError> {
        let client = self.db.client().await?;
        Ok(find(&client, tenant, ids).await?)
    }

    /// Takes in bodies. Answers all of them, whoever brought them.
    pub(crate) async fn store_bodies(&self, bodies: Vec<SentBody>) -> Result<Ids, ImportError> {
        let mut client = self.db.client().await?;
        let transaction = begin(&mut client).await?;
        let ids = store(&transaction, bodies, IN_ANY_CASE).await?;
        pool::commit(transaction).await?;
        Ok(ids)
    }

    /// Gives bodies whose senders' rows were forgotten another content: that of an inbox that got all edits.
    pub(crate) async fn refresh_bodies(&self, bodies: &[SentBody]) -> Result<(), ImportError> {
        let said: Vec<(&SentBody, String)> = bodies
            .iter()
            .filter(|body| body.sender.is_none())
            .filter_map(|body| Some((body, json_of(body.body.as_ref()?))))
            .collect();
        if said.is_empty() {
            return Ok(());
        }
        let tenants: Vec<&str> = said.iter().map(|(body, _)| body.tenant.as_str()).collect();
        let ids: Vec<&str> = said.iter().map(|(body, _)| body.id.as_str()).collect();
        let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
        let metadata: Vec<Option<String>> = texts.iter().map(|text| askable(text)).collect();
        let client = self.db.client().await?;
        let sql = "UPDATE bodies b SET body = k.body, metadata = k.metadata
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]::jsonb[])
                AS k (tenant, message_id, body, metadata)
            WHERE b.tenant = k.tenant AND b.message_id = k.message_id AND b.sender = ''";
        execute(&client, sql, &[&tenants, &ids, &texts, &metadata]).await?;
        Ok(())
    }
}

impl Part<'_> {
    /// Takes in those that are not here.
    pub(crate) async fn bodies(&self, bodies: Vec<SentBody>) -> Result<(), ImportError> {
        store(&self.transaction, bodies, "ON CONFLICT DO NOTHING RETURNING message_id, id").await?;
        Ok(())
    }
}

async fn find(client: &impl Ask, tenant: &TenantId, ids: &[&str]) -> Result<Ids, Failure> {
    let sql = "SELECT message_id, id FROM bodies WHERE tenant = $1 AND message_id = ANY($2)";
    let found = rows(client, sql, &[&tenant.as_str(), &ids]).await?;
    found.iter().map(|row| Ok((row.id(0)?, row.column(1)?))).collect()
}

/// Inserts bodies in the order of their ids, so that nobody waits for another in a circle; those that wait for
/// their time in the order in which they are given, by which they are sent.
async fn store(client: &impl Ask, mut bodies: Vec<SentBody>, then: &str) -> Result<Ids, Failure> {
    if bodies.iter().all(|body| body.state != SentState::Scheduled) {
        bodies.sort_by(|a, b| (&a.tenant, &a.id).cmp(&(&b.tenant, &b.id)));
        bodies.dedup_by(|a, b| (&a.tenant, &a.id) == (&b.tenant, &b.id));
    }
    let mut columns = BodyColumns::default();
    for body in &bodies {
        push(&mut columns, body);
    }
    let stored = columns.insert(client, then).await?;
    stored.iter().map(|row| Ok((row.id(0)?, row.column(1)?))).collect()
}

fn push(columns: &mut BodyColumns, sent: &SentBody) {
    let facts = sent.body.as_ref().map(|body| body.facts());
    let (service, template) = sent.body.as_ref().map(|body| counted_by(body)).unwrap_or_default();
    columns.tenant.push(sent.tenant.to_string());
    columns.message_id.push(sent.id.to_string());
    columns.sender.push(sent.sender.as_ref().map(sender_text).unwrap_or_default());
    columns.audience.push(encode(&sent.audience));
    columns.recipients.push(i32::try_from(named(&sent.audience)).unwrap_or(i32::MAX));
    columns.state.push(state_code(sent.state));
    columns.priority.push(facts.map_or(0, |facts| facts.priority.into()));
    columns.accepted_at.push(sent.accepted_at.millis());
    columns.scheduled_at.push(sent.scheduled_at.map(Time::millis));
    columns.sent_at.push(sent.sent_at.map(Time::millis));
    let expire_at = sent.body.as_ref().and_then(|body| body.expire_at());
    columns.expire_at.push(expire_at.map(Time::millis));
    columns.service.push(service);
    columns.template.push(template);
    columns.pos.push(sent.place.map(u64::cast_signed));
    columns.say(sent.body.as_ref().map_or_else(|| NOTHING.to_owned(), |body| json_of(body)));
}
