//! Finds connections that missed the last change of their inbox.
//!
//! A lost change in the middle shows as a hole when the next one comes. A lost last change shows
//! nowhere: so the store's heads are compared with the connections', in batches, once per ping
//! interval. It should never find anything; its metric says whether the way here loses changes.
//!
//! When the bus says that something may have been missed, it is done at once, and then finding something
//! is no surprise.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use delivery::InboxKey;
use protocol::Seq;

use super::{Live, connection::Connection};

/// Inboxes asked for in one call.
const BATCH: usize = 1_000;

/// A change that is being published just now looks like a lost one. Only a connection that is still
/// behind the same head after this pause is.
const SUSPICION: Duration = Duration::from_secs(1);

/// Shortest pause between two checks, so that a bus that comes and goes costs the store no more than one
/// question per thousand users and second.
const PAUSE_MIN: Duration = Duration::from_secs(1);

pub(super) async fn run(live: &Live) {
    let interval = live.config().ping_interval;
    let suspicion = SUSPICION.min(interval / 4);
    loop {
        tokio::time::sleep(PAUSE_MIN.min(interval / 4)).await;
        let wait = interval.saturating_sub(suspicion + PAUSE_MIN.min(interval / 4));
        let in_doubt = timeout(wait, live.in_doubt.notified()).await.is_ok();
        let suspects = find_suspects(live).await;
        tokio::time::sleep(suspicion).await;
        let behind =
            suspects.into_iter().filter(|(connection, head)| connection.repair(*head)).count();
        if behind == 0 {
            continue;
        }
        live.metrics().repairs.increment(behind as u64);
        if in_doubt {
            tracing::info!(
                connections = behind,
                "reading the store for what the bus may have lost"
            );
        } else {
            tracing::warn!(connections = behind, "published changes were lost; reading the store");
        }
    }
}

async fn find_suspects(live: &Live) -> Vec<(Arc<Connection>, Seq)> {
    let mut suspects = Vec::new();
    for batch in live.registry().keys().chunks(BATCH) {
        let heads = live.store().heads(batch).await;
        for (inbox, head) in batch.iter().zip(heads) {
            if let Some(head) = head {
                suspects.extend(behind(live, inbox, head));
            }
        }
    }
    suspects
}

fn behind(
    live: &Live,
    inbox: &InboxKey,
    head: Seq,
) -> impl Iterator<Item = (Arc<Connection>, Seq)> {
    let connections = live.registry().of(inbox).into_iter();
    connections
        .filter(move |connection| connection.live_at().is_some_and(|at| at < head))
        .map(move |connection| (connection, head))
}
