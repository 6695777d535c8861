//! Finds connections that missed the last change of their inbox.
//!
//! A lost change in the middle shows as a hole when the next one comes. A lost last change shows
//! nowhere: so the store's heads are compared with the connections', in batches, once per ping
//! interval. It should never find anything; its metric says whether the way here loses changes.
//!
//! Those that are ahead of their inbox are found, too: a database that a standby took over without the last
//! commits has never heard of what they have, and gives its seqs to other changes, which they would take for
//! repeats. They read the store, which tells them `resync_required`.
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
        let Suspects { behind, ahead } = find_suspects(live).await;
        tokio::time::sleep(suspicion).await;
        rewind(live, &ahead).await;
        let behind =
            behind.into_iter().filter(|(connection, head)| connection.repair(*head)).count();
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

/// What may be wrong.
#[derive(Default)]
struct Suspects {
    /// Connections, and the heads that they have not reached.
    behind: Vec<(Arc<Connection>, Seq)>,
    /// Inboxes with a connection beyond their head.
    ahead: Vec<InboxKey>,
}

async fn find_suspects(live: &Live) -> Suspects {
    let mut suspects = Suspects::default();
    for batch in live.registry().keys().chunks(BATCH) {
        let heads = live.store().heads(batch).await;
        for (inbox, head) in batch.iter().zip(heads) {
            let Some(head) = head else { continue };
            for (connection, at) in positions(live, inbox) {
                if at < head {
                    suspects.behind.push((connection, head));
                } else if at > head && suspects.ahead.last() != Some(inbox) {
                    suspects.ahead.push(inbox.clone());
                }
            }
        }
    }
    suspects
}

/// Looks again at inboxes with connections beyond their head: what is published after the store was asked for
/// heads looks the same. A connection that was there before it was asked is ahead in earnest.
async fn rewind(live: &Live, inboxes: &[InboxKey]) {
    let mut ahead = 0_usize;
    for batch in inboxes.chunks(BATCH) {
        let before: Vec<Vec<_>> =
            batch.iter().map(|inbox| positions(live, inbox).collect()).collect();
        let heads = live.store().heads(batch).await;
        for (connections, head) in before.into_iter().zip(heads) {
            let Some(head) = head else { continue };
            let beyond = connections.into_iter().filter(|(_, at)| *at > head);
            ahead += beyond.filter(|(connection, _)| connection.rewind(head)).count();
        }
    }
    if ahead > 0 {
        live.metrics().rewound.increment(ahead as u64);
        tracing::warn!(
            connections = ahead,
            "the store does not have what was sent; it may be a standby that took over without it"
        );
    }
}

/// The live connections of an inbox, and where they stand.
fn positions(live: &Live, inbox: &InboxKey) -> impl Iterator<Item = (Arc<Connection>, Seq)> {
    let connections = live.registry().of(inbox).into_iter();
    connections.filter_map(|connection| {
        let at = connection.live_at()?;
        Some((connection, at))
    })
}
