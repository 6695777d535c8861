//! Keeps what waits and what is remembered in its limits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Inner, WebhookError, Webhooks, deliveries, endpoints};
use crate::{InboxKey, sql::Statements};

/// How often the pending events are counted and the file is tidied.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

/// How long an event may wait in all, disabled endpoints included; then it is a dead letter.
pub const PENDING_AGE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How long the file remembers what was delivered or given up.
pub const HISTORY_AGE_MAX: Duration = Duration::from_secs(14 * 86_400);

/// Most delivered events, and most dead letters, of an endpoint that are remembered. What is
/// forgotten can be recorded again: at the most an endpoint gets, these are five minutes, more than
/// a restarted store looks back.
pub const HISTORY_PER_ENDPOINT_MAX: usize = 100_000;

/// Deliveries that are looked at in one commit while a user is forgotten.
const FORGET_ROWS: usize = 5_000;

/// Most rows that one commit of upkeep touches, so that nobody waits long behind it.
const UPKEEP_ROWS: usize = 2_000;

impl Webhooks {
    /// Forgets what services were told, are to be told, or could not be told of a user. What is being sent at
    /// this moment may still arrive. Answers how many events those were.
    ///
    /// # Errors
    /// [`WebhookError`]; then a part of them is gone.
    pub(crate) async fn forget_user(&self, inbox: &InboxKey) -> Result<u64, WebhookError> {
        let (mut after, mut gone) = (0, 0);
        loop {
            let inbox = inbox.clone();
            let page = move |database: &mut dyn Statements| {
                Ok(deliveries::forget_user(database, &inbox, after, FORGET_ROWS)?)
            };
            let (some, last) = self.0.writer()?.write_async(page).await?;
            gone += some;
            let Some(last) = last else { break };
            after = last;
        }
        self.0.reading(|inner| Ok(inner.reader()?.scrub()?)).await?;
        Ok(gone)
    }

    /// Forgets now what is left of endpoints that were deleted, which upkeep does by and by.
    ///
    /// # Errors
    /// [`WebhookError`]; then a part of it is gone.
    pub(crate) async fn forget_deleted(&self) -> Result<(), WebhookError> {
        loop {
            let piece = |database: &mut dyn Statements| {
                Ok(deliveries::forget_deleted(database, UPKEEP_ROWS)?)
            };
            if self.0.writer()?.write_async(piece).await? < UPKEEP_ROWS {
                break;
            }
        }
        self.0.reading(|inner| Ok(inner.reader()?.scrub()?)).await
    }
}

impl Inner {
    pub(super) async fn upkeep(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            let counted =
                self.reading(|inner| Ok(deliveries::pending(&mut inner.pages.lock())?)).await;
            if let Ok(pending) = counted {
                self.metrics.pending.set(pending as f64);
            }
            // By one of the nodes, whoever has the first share; the writer has said it already.
            if self.tenure.term(0).is_some() {
                let _ = self.tidy().await;
            }
        }
    }

    /// Gives up what is too old, and forgets what nobody needs to know any more.
    pub(super) async fn tidy(self: &Arc<Self>) -> Result<(), WebhookError> {
        let now = self.now();
        let writer = self.writer()?;
        loop {
            let (given_up, touched) = writer
                .write_async(move |database| {
                    let given_up =
                        deliveries::give_up_old(database, PENDING_AGE_MAX, UPKEEP_ROWS, now)?;
                    let touched = [
                        given_up,
                        deliveries::forget_old(database, HISTORY_AGE_MAX, UPKEEP_ROWS, now)?,
                        deliveries::forget_beyond(database, HISTORY_PER_ENDPOINT_MAX, UPKEEP_ROWS)?,
                        deliveries::forget_deleted(database, UPKEEP_ROWS)?,
                    ];
                    // Memory may keep them: they sign nothing any more.
                    endpoints::drop_ended_secrets(database, now)?;
                    Ok((given_up, touched))
                })
                .await?;
            self.metrics.dead_age.increment(given_up as u64);
            if self.stale.load(Ordering::Relaxed) {
                self.reading(|inner| inner.load()).await?;
            }
            if touched.iter().all(|rows| *rows < UPKEEP_ROWS) || self.is_stopping() {
                return Ok(());
            }
        }
    }
}
