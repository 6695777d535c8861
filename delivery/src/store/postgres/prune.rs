//! Forgets what need not be kept.

use std::{sync::Arc, time::Duration};

use protocol::TenantId;

use super::{
    columns::{Columns as _, status_from},
    core::Core,
    errors::Failure,
    groups, locks,
    pool::{self, execute, row, rows},
    work::Work,
};
use crate::{
    InboxKey,
    clock::millis,
    store::{
        Retention,
        limits::{ANSWER_KEPT, STATS_KEPT},
    },
};

/// Messages that go in one transaction, at most: bounds how long others wait for the inbox.
const PRUNE_MAX: i64 = 256;

/// Inboxes that are looked at in one go.
const PAGE: i64 = 256;

/// Rows of what is kept once that go in one transaction.
const PIECE: i64 = 1_000;

/// How often one node goes over everything, at least.
const EVERY: Duration = Duration::from_secs(3_600);

/// How often at most, where messages are kept for so short a time that [`EVERY`] would be long after it.
const EVERY_MIN: Duration = Duration::from_secs(60);

/// How often statistics are added up.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Adds up statistics, and goes over everything once in a while.
pub(super) async fn run(core: Arc<Core>) {
    let every = || {
        let age = core.keeping.retention().max_age;
        age.map_or(EVERY, |age| (age / 4).clamp(EVERY_MIN, EVERY))
    };
    let mut left = every();
    loop {
        tokio::time::sleep(FOLD_EVERY).await;
        core.metrics.pool(core.db.status());
        loop {
            match super::stats::fold(&core).await {
                Ok(true) => {}
                Ok(false) => break,
                // What was counted waits; readiness and other metrics say when the database is away.
                Err(failure) => {
                    tracing::warn!(
                        error = &failure as &dyn std::error::Error,
                        "statistics could not be added up"
                    );
                    break;
                }
            }
        }
        // What fails is noted again with the inbox's next message.
        if let Err(failure) = core.prune_over().await {
            tracing::debug!(error = &failure as &dyn std::error::Error, "inboxes stay too long");
        }
        left = left.saturating_sub(FOLD_EVERY).min(every());
        if left.is_zero() {
            left = every();
            if let Err(failure) = prune_if_free(&core).await {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    "not all could be pruned"
                );
            }
        }
    }
}

/// Goes over everything if no other node does.
async fn prune_if_free(core: &Core) -> Result<(), Failure> {
    let client = core.db.client().await?;
    let free = row(&client, "SELECT pg_try_advisory_lock($1)", &[&locks::PRUNING]).await?;
    if !free.map_or(Ok(false), |row| row.column(0))? {
        return Ok(());
    }
    let pruned = core.prune_all().await;
    let let_go = row(&client, "SELECT pg_advisory_unlock($1)", &[&locks::PRUNING]).await;
    pruned?;
    let_go.map(drop)
}

impl Core {
    /// Forgets what of an inbox need not be kept. Answers how many messages that were.
    pub(super) async fn prune(&self, key: &InboxKey, retention: Retention) -> Result<u64, Failure> {
        let mut gone = 0;
        loop {
            let some = self.reading(|strict| self.prune_some(key, retention, strict)).await?;
            self.metrics.pruned_messages.increment(some);
            gone += some;
            if some < PRUNE_MAX.cast_unsigned() {
                return Ok(gone);
            }
        }
    }

    async fn prune_some(
        &self,
        key: &InboxKey,
        retention: Retention,
        strict: bool,
    ) -> Result<u64, Failure> {
        let mut client = self.db.client().await?;
        let Some(id) = self.id_of(&client, key).await? else { return Ok(0) };
        let transaction = pool::begin(&mut client).await?;
        let mut work = self.lock_current(&transaction, key, id, strict).await?;
        let now = work.now;
        let slot = &mut work.slots[0];
        let too_many = retention.max_messages.map_or(0, |most| {
            slot.inbox.kept.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)).max(0)
        });
        let oldest = retention.max_age.map_or(i64::MIN, |age| now.saturating_sub(millis(age)));
        let sql = "SELECT seq, status, channel, stored_at FROM messages WHERE inbox = $1
            ORDER BY seq LIMIT $2";
        let found = rows(&transaction, sql, &[&id, &(PRUNE_MAX + 1)]).await?;
        let mut last = None;
        let (mut gone, mut stays) = (0, None);
        for row in &found {
            let (seq, stored_at): (i64, i64) = (row.column(0)?, row.column(3)?);
            if gone >= PRUNE_MAX || (gone >= too_many && stored_at >= oldest) {
                stays = Some(seq);
                break;
            }
            slot.forget(row.column(2)?, status_from(row.column(1)?));
            last = Some(seq);
            gone += 1;
        }
        let Some(last) = last else { return Ok(0) };
        // What stands between the last that goes and the first that stays are changes of those that go.
        let min_seq = stays.map_or(slot.inbox.head, |stays| stays - 1);
        slot.inbox.min_seq = min_seq;
        for (sql, up_to) in [
            ("DELETE FROM messages WHERE inbox = $1 AND seq <= $2", last),
            ("DELETE FROM changes WHERE inbox = $1 AND seq <= $2", min_seq),
            ("DELETE FROM receipts WHERE inbox = $1 AND from_seq <= $2 AND to_seq <= $2", min_seq),
            ("DELETE FROM search_texts WHERE inbox = $1 AND seq <= $2", min_seq),
        ] {
            execute(&transaction, sql, &[&id, &up_to]).await?;
        }
        self.finish_pruned(transaction, &mut work, id).await?;
        Ok(gone.cast_unsigned())
    }

    async fn finish_pruned(
        &self,
        transaction: pool::Transaction<'_>,
        work: &mut Work,
        id: i64,
    ) -> Result<(), Failure> {
        work.write(&transaction).await?;
        let sql =
            "DELETE FROM tallies WHERE inbox = $1 AND unread = 0 AND read = 0 AND archived = 0
            AND recalled = 0";
        execute(&transaction, sql, &[&id]).await?;
        self.seal(transaction, work).await
    }

    /// Prunes inboxes to which so much was sent here that they have more than they keep.
    async fn prune_over(&self) -> Result<(), Failure> {
        for page in self.over.take().chunks(PAGE as usize) {
            let sql = "SELECT tenant, usr FROM inboxes WHERE id = ANY($1)";
            let found = rows(&self.db.client().await?, sql, &[&page]).await?;
            for row in &found {
                let key = InboxKey::new(row.id(0)?, row.id(1)?);
                self.prune(&key, self.keeping.of(&key.tenant)).await?;
            }
        }
        Ok(())
    }

    /// Forgets what the store is set up not to keep, in every inbox and besides.
    pub(super) async fn prune_all(&self) -> Result<u64, Failure> {
        let client = self.db.client().await?;
        let sql = "SELECT tenant, pos FROM tenants";
        let found = rows(&client, sql, &[]).await?;
        let places: Vec<(TenantId, i64)> = found
            .iter()
            .map(|row| Ok((row.id(0)?, row.column(1)?)))
            .collect::<Result<_, Failure>>()?;
        drop(client);
        let (mut after, mut gone) = (0, 0);
        loop {
            let page = self.retry(|| self.bring_page(after)).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (_, key) in &page {
                let retention = self.keeping.of(&key.tenant);
                if retention != Retention::default() {
                    gone += self.prune(key, retention).await?;
                }
            }
        }
        let now = self.now(&self.db.client().await?).await?;
        for (tenant, pos) in &places {
            if let Some(age) = self.keeping.of(tenant).max_age {
                self.forget_records(tenant, *pos, now.saturating_sub(millis(age))).await?;
            }
        }
        self.forget_old(now).await?;
        Ok(gone)
    }

    /// Brings the next inboxes to where their tenants' records are, so that these need not be kept for
    /// those that nobody touches. Answers who they are.
    async fn bring_page(&self, after: i64) -> Result<Vec<(i64, InboxKey)>, Failure> {
        let mut client = self.db.client().await?;
        let sql = "SELECT id, tenant, usr FROM inboxes WHERE id > $1 ORDER BY id LIMIT $2";
        let found = rows(&client, sql, &[&after, &PAGE]).await?;
        let page: Vec<(i64, InboxKey)> = found
            .iter()
            .map(|row| Ok((row.column(0)?, InboxKey::new(row.id(1)?, row.id(2)?))))
            .collect::<Result<_, Failure>>()?;
        let ids: Vec<i64> = page.iter().map(|(id, _)| *id).collect();
        let transaction = pool::begin(&mut client).await?;
        let now = self.now(&transaction).await?;
        let mut work = Work::lock(&transaction, &ids, now).await?;
        groups::take_over(&transaction, &mut work).await?;
        if work.slots.iter().any(|slot| slot.touched) {
            self.finish(transaction, &mut work).await?;
        }
        Ok(page)
    }

    /// Forgets records for groups that every inbox has taken over and that are too old for a channel's log.
    async fn forget_records(
        &self,
        tenant: &TenantId,
        pos: i64,
        oldest: i64,
    ) -> Result<(), Failure> {
        let client = self.db.client().await?;
        let sql = "WITH gone AS (
                DELETE FROM broadcasts WHERE tenant = $1 AND pos IN (SELECT pos FROM broadcasts
                    WHERE tenant = $1 AND pos <= $2 AND at < $3 ORDER BY pos LIMIT $4) RETURNING pos)
            DELETE FROM broadcast_groups g USING gone WHERE g.tenant = $1 AND g.pos = gone.pos";
        let values: pool::Values<'_> = &[&tenant.as_str(), &pos, &oldest, &PIECE];
        loop {
            let gone = execute(&client, sql, values).await?;
            self.metrics.pruned_shared.increment(gone);
            if gone == 0 {
                return Ok(());
            }
        }
    }

    /// Forgets what is kept for a time: answers, statistics, what was sent and nobody has any more, and
    /// stays in groups in which nothing was sent.
    async fn forget_old(&self, now: i64) -> Result<(), Failure> {
        let client = self.db.client().await?;
        let before = |age: Duration| now.saturating_sub(millis(age));
        let hour = before(STATS_KEPT).div_euclid(3_600_000);
        for (sql, before) in [
            (
                "DELETE FROM answers WHERE (key, sender, tenant) IN (
                     SELECT key, sender, tenant FROM answers WHERE at < $1 ORDER BY at LIMIT $2)",
                before(ANSWER_KEPT),
            ),
            (
                "DELETE FROM stats WHERE ctid = ANY(ARRAY(
                     SELECT ctid FROM stats WHERE hour < $1 ORDER BY hour LIMIT $2))",
                hour,
            ),
            (
                "DELETE FROM bodies WHERE id = ANY(ARRAY(
                     SELECT b.id FROM bodies b WHERE b.accepted_at < $1 AND b.state > 0
                         AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.body = b.id)
                         AND NOT EXISTS (SELECT 1 FROM broadcasts r WHERE r.tenant = b.tenant
                             AND r.body = b.id)
                     ORDER BY b.id LIMIT $2))",
                before(self.keeping.sent_kept()),
            ),
            (
                "DELETE FROM members WHERE (inbox, grp, since_pos) IN (
                     SELECT inbox, grp, since_pos FROM members m WHERE m.until_pos IS NOT NULL
                         AND m.joined_at < $1
                         AND NOT EXISTS (SELECT 1 FROM broadcast_groups g WHERE g.tenant = m.tenant
                             AND g.grp = m.grp AND g.pos > m.since_pos AND g.pos < m.until_pos)
                     LIMIT $2)",
                now,
            ),
        ] {
            loop {
                let gone = execute(&client, sql, &[&before, &PIECE]).await?;
                self.metrics.pruned_shared.increment(gone);
                if gone < PIECE.cast_unsigned() {
                    break;
                }
            }
        }
        Ok(())
    }
}
