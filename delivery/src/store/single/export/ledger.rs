//! What was sent, for those who sent it.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId, Time};
use rusqlite::{Connection, params};

use super::{
    super::{
        ledger::{self as books, SentRow},
        shared::most,
    },
    Export, ExportError, PAGE, all,
};
use crate::store::{
    Audience, SentState,
    limits::{ANSWER_KEPT, STATS_KEPT},
    portable::{Cells, SentBody},
    recalled::without_content,
};

/// A message whose row is looked for, and what is known of it from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) tenant: TenantId,
    pub(crate) id: MessageId,
    /// What it says, as far as who asks knows.
    pub(crate) body: Option<Arc<Body>>,
    /// That was taken back.
    pub(crate) recalled: bool,
    /// When it came.
    pub(crate) at: Time,
    /// Its place, where it was sent to groups.
    pub(crate) place: Option<u64>,
}

impl Export {
    /// Rows of messages, in the order in which they are asked for.
    pub(crate) async fn sent_bodies(
        &self,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<SentBody>, ExportError> {
        let found = self.ledger.ask(move |db| {
            let found = wanted.into_iter().map(|wanted| {
                let row = books::sent(db, &wanted.tenant, &wanted.id)?;
                Ok((wanted, row))
            });
            found.collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut bodies: Vec<SentBody> =
            found.await?.into_iter().map(|(wanted, row)| body_of(wanted, row)).collect();
        self.fill_from_records(&mut bodies).await?;
        Ok(bodies)
    }

    /// Messages that were accepted, after one of them.
    pub(crate) async fn sent(
        &self,
        after: Option<(TenantId, MessageId)>,
    ) -> Result<Vec<SentBody>, ExportError> {
        let found = self.ledger.ask(move |db| {
            let named = books::sent_after(db, after.as_ref(), PAGE)?;
            named.into_iter().map(|(tenant, id)| sent_body(db, tenant, id)).collect()
        });
        let mut bodies: Vec<SentBody> = found.await?;
        self.fill_from_records(&mut bodies).await?;
        Ok(bodies)
    }

    /// Messages that wait for their time, after a record, in the order in which those of one time and priority
    /// are sent; and the record of the last of them.
    pub(crate) async fn waiting(&self, after: i64) -> Result<(Vec<SentBody>, i64), ExportError> {
        self.ledger
            .ask(move |db| {
                let waiting = books::waiting_after(db, after, PAGE)?;
                let last = waiting.last().map_or(after, |(lsn, ..)| *lsn);
                let bodies = waiting.into_iter().map(|(_, tenant, id)| sent_body(db, tenant, id));
                Ok((bodies.collect::<rusqlite::Result<Vec<_>>>()?, last))
            })
            .await
    }

    /// Answers that are still valid, after one of them: its place; tenant, sender, key, time, fingerprint,
    /// data.
    pub(crate) async fn answers(&self, after: i64) -> Result<Vec<Cells>, ExportError> {
        let oldest = self.before(ANSWER_KEPT);
        self.ledger
            .ask(move |db| {
                let sql = "SELECT lsn, tenant, sender, key, at, fingerprint, data FROM answers
                    WHERE lsn > ?1 AND at > ?2 ORDER BY lsn LIMIT ?3";
                all(db, sql, params![after, oldest, most(PAGE)])
            })
            .await
    }

    /// Statistics, after a row: its place; hour, tenant, service, template, type, channel, and the counts.
    pub(crate) async fn stats(&self, after: Option<Cells>) -> Result<Vec<Cells>, ExportError> {
        let oldest = self.oldest_hour();
        self.ledger.ask(move |db| books::stats_after(db, after, oldest, PAGE)).await
    }

    fn before(&self, kept: std::time::Duration) -> i64 {
        let kept = crate::clock::millis(kept);
        self.at.millis().saturating_sub(kept)
    }

    /// What was sent to groups stands in their records.
    async fn fill_from_records(&self, bodies: &mut [SentBody]) -> Result<(), ExportError> {
        let open: Vec<(usize, u64)> = bodies
            .iter()
            .enumerate()
            .filter(|(_, body)| body.body.is_none())
            .filter_map(|(at, body)| Some((at, body.place?)))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let said = self.said_at(open.iter().map(|(_, place)| *place).collect()).await?;
        for ((at, _), said) in open.into_iter().zip(said) {
            let recalled = bodies[at].state == SentState::Recalled;
            bodies[at].body =
                said.map(|body| if recalled { Arc::new(without_content(&body)) } else { body });
        }
        Ok(())
    }

    /// How much there is: messages sent, scheduled, answers that are valid.
    pub(crate) async fn count_ledger(&self) -> Result<[u64; 3], ExportError> {
        let oldest = self.before(ANSWER_KEPT);
        let sql = "SELECT (SELECT count(*) FROM sent), (SELECT count(*) FROM waiting),
            (SELECT count(*) FROM answers WHERE at > ?1)";
        self.ledger
            .ask(move |db| {
                db.query_row(sql, [oldest], |row| {
                    let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
                    Ok([count(0)?, count(1)?, count(2)?])
                })
            })
            .await
    }

    /// From when to when there are statistics; none where there are none.
    pub(crate) async fn stats_span(&self) -> Result<Option<(Time, Time)>, ExportError> {
        let oldest = self.oldest_hour();
        self.ledger.ask(move |db| books::stats_span(db, oldest)).await
    }

    /// The first hour of which statistics are still kept.
    fn oldest_hour(&self) -> i64 {
        self.before(STATS_KEPT).div_euclid(3_600_000)
    }
}

fn sent_body(db: &Connection, tenant: TenantId, id: MessageId) -> rusqlite::Result<SentBody> {
    let row = books::sent(db, &tenant, &id)?;
    let waiting = books::waiting(db, &tenant, &id)?.map(|record| Arc::clone(&record.body));
    let wanted =
        Wanted { tenant, id, body: waiting, recalled: false, at: Time::default(), place: None };
    Ok(body_of(wanted, row))
}

fn body_of(wanted: Wanted, row: Option<SentRow>) -> SentBody {
    let Wanted { tenant, id, body, recalled, at, place } = wanted;
    let Some(SentRow { lsn, message, edited }) = row else {
        // Its sender's row was forgotten; those who received it still have it.
        return SentBody {
            tenant,
            id,
            body,
            sender: None,
            audience: Audience::users(Vec::new()),
            state: if recalled { SentState::Recalled } else { SentState::Sent },
            accepted_at: at,
            scheduled_at: None,
            sent_at: Some(at),
            place,
        };
    };
    let shared = match &message.audience {
        Audience::Everyone => true,
        Audience::Some { groups, .. } => !groups.is_empty(),
    };
    let reached = matches!(message.state, SentState::Sent | SentState::Recalled);
    let taken_back = message.state == SentState::Recalled;
    let body = match edited.or(body) {
        Some(body) if taken_back && !recalled => Some(Arc::new(without_content(&body))),
        body => body,
    };
    SentBody {
        tenant,
        id,
        body,
        sender: Some(message.sender),
        audience: message.audience,
        state: message.state,
        accepted_at: message.accepted_at,
        scheduled_at: message.scheduled_at,
        sent_at: message.sent_at,
        place: (shared && reached).then_some(lsn),
    }
}
