//! What is kept once, part by part.

use protocol::{MessageId, TenantId, Time};
use rustc_hash::FxHashMap;

use super::{Move, MoveError};
use crate::store::{
    portable::{Cell, Cells, SentBody},
    postgres::{Target, targets},
    single::{MovedRecord, Wanted},
};

fn text(row: &Cells, at: usize) -> String {
    match row.get(at) {
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::Null | Cell::Int(_) | Cell::Bytes(_)) | None => String::new(),
    }
}

pub(super) fn number(row: &Cells, at: usize) -> i64 {
    match row.get(at) {
        Some(Cell::Int(number)) => *number,
        Some(Cell::Null | Cell::Text(_) | Cell::Bytes(_)) | None => 0,
    }
}

impl Move<'_> {
    /// Fills a table with pages until one is empty, unless that is done.
    async fn fill(
        &self,
        name: &'static str,
        target: &Target,
        mut next: impl AsyncFnMut() -> Result<Vec<Cells>, MoveError>,
    ) -> Result<(), MoveError> {
        let mut client = self.import.client().await?;
        let Some(part) = self.import.part(&mut client, name).await? else { return Ok(()) };
        part.stage(target).await?;
        loop {
            let rows = next().await?;
            if rows.is_empty() {
                break;
            }
            part.rows(target, &rows).await?;
        }
        part.settle(target, self.export.place().await?.cast_signed()).await?;
        Ok(part.finish().await?)
    }

    /// Users, channels, members, and what was sent to groups.
    pub(super) async fn fill_groups(&self) -> Result<(), MoveError> {
        let export = &self.export;
        let mut tenants = Some(());
        self.fill("tenants", &targets::TENANTS, async || match tenants.take() {
            Some(()) => Ok(export.tenants().await?),
            None => Ok(Vec::new()),
        })
        .await?;
        let mut after = (String::new(), String::new());
        self.fill("users", &targets::USERS, async || {
            let rows = export.users(after.clone()).await?;
            if let Some(last) = rows.last() {
                after = (text(last, 0), text(last, 1));
            }
            Ok(rows)
        })
        .await?;
        let mut after = (String::new(), String::new(), String::new(), 0);
        self.fill("members", &targets::MEMBERS, async || {
            let rows = export.members(after.clone()).await?;
            if let Some(last) = rows.last() {
                after = (text(last, 0), text(last, 1), text(last, 2), number(last, 3));
            }
            Ok(rows)
        })
        .await?;
        let mut after = (String::new(), String::new());
        self.fill("channels", &targets::CHANNELS, async || {
            let rows = export.channels(after.clone()).await?;
            if let Some(last) = rows.last() {
                after = (text(last, 0), text(last, 1));
            }
            Ok(rows)
        })
        .await?;
        self.fill_records().await?;
        let mut after = (String::new(), String::new(), 0);
        self.fill("record groups", &targets::RECORD_GROUPS, async || {
            let rows = export.record_groups(after.clone()).await?;
            if let Some(last) = rows.last() {
                after = (text(last, 0), text(last, 1), number(last, 2));
            }
            Ok(rows)
        })
        .await
    }

    /// What was sent to groups and everyone, with the messages of it.
    async fn fill_records(&self) -> Result<(), MoveError> {
        let mut client = self.import.client().await?;
        let Some(part) = self.import.part(&mut client, "records").await? else { return Ok(()) };
        let target = &targets::RECORDS;
        part.stage(target).await?;
        let mut after = 0;
        loop {
            let records = self.export.records(after).await?;
            let Some(last) = records.last() else { break };
            after = last.place;
            let wanted = records.iter().map(|record| Wanted {
                tenant: record.tenant.clone(),
                id: record.id.clone(),
                body: record.latest.clone(),
                recalled: record.recalled,
                at: Time::from_millis(record.at),
                place: Some(record.target.unwrap_or(record.place).cast_unsigned()),
            });
            part.bodies(self.export.sent_bodies(wanted.collect()).await?).await?;
            let rows: Vec<Cells> = records.into_iter().map(row_of).collect();
            part.rows(target, &rows).await?;
        }
        part.settle(target, 0).await?;
        Ok(part.finish().await?)
    }

    /// What was sent, for who sent it; answers; statistics.
    pub(super) async fn fill_sent(&self) -> Result<(), MoveError> {
        self.fill_waiting().await?;
        let mut client = self.import.client().await?;
        if let Some(part) = self.import.part(&mut client, "sent").await? {
            let mut after = None;
            loop {
                let page = self.export.sent(after.clone()).await?;
                let Some(last) = page.last() else { break };
                after = Some((last.tenant.clone(), last.id.clone()));
                let count = page.len() as u64;
                part.bodies(self.missing(page).await?).await?;
                self.progress.advance(count);
            }
            part.finish().await?;
        }
        drop(client);
        let export = &self.export;
        let mut after = 0;
        self.fill("answers", &targets::ANSWERS, async || {
            let mut rows = export.answers(after).await?;
            after = rows.last().map_or(after, |last| number(last, 0));
            rows.iter_mut().for_each(|row| drop(row.remove(0)));
            Ok(rows)
        })
        .await?;
        let mut after = None;
        self.fill("statistics", &targets::STATS, async || {
            let rows = export.stats(after.clone()).await?;
            after = rows.last().cloned();
            Ok(rows)
        })
        .await
    }

    /// Those that wait for their time, before all others: of one time and priority the first goes first.
    async fn fill_waiting(&self) -> Result<(), MoveError> {
        let mut client = self.import.client().await?;
        let Some(part) = self.import.part(&mut client, "scheduled").await? else { return Ok(()) };
        let mut after = 0;
        loop {
            let (page, last) = self.export.waiting(after).await?;
            if page.is_empty() {
                break;
            }
            after = last;
            part.bodies(page).await?;
        }
        Ok(part.finish().await?)
    }

    /// Those of a page that came with no inbox.
    async fn missing(&self, page: Vec<SentBody>) -> Result<Vec<SentBody>, MoveError> {
        let mut missing = Vec::new();
        for (tenant, bodies) in by_tenant(page) {
            let ids: Vec<&str> = bodies.iter().map(|body| body.id.as_str()).collect();
            let known = self.import.find_bodies(&tenant, &ids).await?;
            missing.extend(bodies.into_iter().filter(|body| !known.contains_key(&body.id)));
        }
        Ok(missing)
    }
}

pub(super) fn by_tenant(page: Vec<SentBody>) -> FxHashMap<TenantId, Vec<SentBody>> {
    let mut of: FxHashMap<TenantId, Vec<SentBody>> = FxHashMap::default();
    for body in page {
        of.entry(body.tenant.clone()).or_default().push(body);
    }
    of
}

fn row_of(record: MovedRecord) -> Cells {
    let MovedRecord { tenant, place, target, everyone, id, at, body, .. } = record;
    let facts = body.as_ref().map(|body| body.facts());
    let maybe = |number: Option<i64>| number.map_or(Cell::Null, Cell::Int);
    let key = facts.and_then(|facts| facts.collapse_key.clone());
    let id: MessageId = id;
    vec![
        Cell::Text(tenant.to_string()),
        Cell::Int(place),
        Cell::Text(id.to_string()),
        maybe(target),
        Cell::Int((target.is_some() && body.is_none()).into()),
        Cell::Int(everyone.into()),
        Cell::Int(at),
        maybe(body.as_ref().and_then(|body| body.expire_at()).map(Time::millis)),
        Cell::Text(facts.map(|facts| facts.sender.clone()).unwrap_or_default()),
        key.map_or(Cell::Null, Cell::Text),
    ]
}
