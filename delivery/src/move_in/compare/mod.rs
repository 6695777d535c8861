//! Both sides, read as clients and senders read them.

mod directory;
mod inbox;

use std::{collections::HashMap, sync::Arc};

use protocol::MessageId;

use super::{
    Counts, Move, MoveError,
    counts::of_both,
    fill::{by_tenant, number},
};
use crate::{
    control::ControlCounts,
    store::{
        Ledger as _, SentMessage, SentState, StatsBy, StatsQuery, portable::SentBody,
        postgres::PostgresStore,
    },
};

/// Something is not the same.
fn differs<T>(what: impl Into<String>) -> Result<T, MoveError> {
    Err(MoveError::Differs(what.into()))
}

impl Move<'_> {
    /// Compares everything, and says how much it is.
    pub(super) async fn compare(&self, of_control: ControlCounts) -> Result<Counts, MoveError> {
        let store = self.import.store()?;
        let compared = self.compare_with(&store, of_control).await;
        crate::Store::close(&*store).await;
        compared
    }

    async fn compare_with(
        &self,
        store: &Arc<PostgresStore>,
        of_control: ControlCounts,
    ) -> Result<Counts, MoveError> {
        let inboxes = self.compare_inboxes(store).await?;
        self.compare_directory(store).await?;
        self.compare_sent().await?;
        self.compare_answers().await?;
        self.compare_stats(store).await?;
        let [users, members, channels, records] = self.export.count_shared().await?;
        let [sent, scheduled, answers] = self.export.count_ledger().await?;
        let ours = Counts {
            users,
            members,
            channels,
            records,
            sent,
            scheduled,
            answers,
            ..inboxes.with_control(of_control)
        };
        of_both(ours, self.import.count().await?)
    }

    async fn compare_sent(&self) -> Result<(), MoveError> {
        let mut after = None;
        loop {
            let page = self.export.sent(after.clone()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.tenant.clone(), last.id.clone()));
            for (tenant, bodies) in by_tenant(page) {
                let ids: Vec<&str> = bodies.iter().map(|body| body.id.as_str()).collect();
                let theirs = self.import.sent(&tenant, &ids).await?;
                for ours in &bodies {
                    if !is_same(ours, &theirs) {
                        return differs(format!(
                            "message {} of tenant {tenant} as it was sent",
                            ours.id
                        ));
                    }
                }
            }
        }
    }

    async fn compare_answers(&self) -> Result<(), MoveError> {
        let mut after = 0;
        loop {
            let mut ours = self.export.answers(after).await?;
            let Some(last) = ours.last() else { return Ok(()) };
            after = number(last, 0);
            ours.iter_mut().for_each(|row| drop(row.remove(0)));
            let mut theirs = self.import.answers(&ours).await?;
            ours.sort();
            theirs.sort();
            if ours != theirs {
                return differs("answers to requests with an Idempotency-Key");
            }
        }
    }

    async fn compare_stats(&self, store: &Arc<PostgresStore>) -> Result<(), MoveError> {
        let Some((from, to)) = self.export.stats_span().await? else { return Ok(()) };
        let all = [
            StatsBy::Service,
            StatsBy::Template,
            StatsBy::MessageType,
            StatsBy::Channel,
            StatsBy::Hour,
        ];
        for by in all {
            let query = StatsQuery { tenant: None, from, to, by, service: None };
            let ours = self.export.store.stats(query.clone()).await.map_err(super::unreadable)?;
            let theirs = store.stats(query).await.map_err(super::unanswered)?;
            if ours != theirs {
                return differs(format!("statistics by {by:?}"));
            }
        }
        Ok(())
    }
}

/// Whether a message is there as it was sent. What it says is compared where that is only here; else the inboxes
/// that have it were compared.
fn is_same(
    ours: &SentBody,
    theirs: &HashMap<MessageId, (SentMessage, Arc<protocol::Body>)>,
) -> bool {
    let Some((message, body)) = theirs.get(&ours.id) else { return false };
    let says = match &ours.body {
        Some(says) => says.json() == body.json(),
        None => true,
    };
    Some(&message.sender) == ours.sender.as_ref()
        && message.audience == ours.audience
        && message.state == ours.state
        && message.accepted_at == ours.accepted_at
        && message.scheduled_at == ours.scheduled_at
        && message.sent_at == ours.sent_at
        && (says || ours.state == SentState::Cancelled)
}
