//! Sends every connection away without a storm: told when to come back, spread over time, with what
//! waits for it written first.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use protocol::CloseReason;

use super::Live;

/// Shortest pause between two goodbyes: a node with few connections is empty at once, one with ten
/// thousand takes two seconds at least.
const PACE_MIN: Duration = Duration::from_micros(200);

/// How often a batch of goodbyes is said: timers are no finer than a millisecond.
const TICK: Duration = Duration::from_millis(10);

/// What a drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were told to go.
    pub told: usize,
    /// Connections that were still there at the deadline.
    pub left: usize,
}

impl Live {
    /// Whether new connections are refused because the node is going down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

pub(super) async fn drain(live: &Live, deadline: Duration) -> Drained {
    let began = Instant::now();
    let spread = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    live.restart_spread_ms.store(spread, Ordering::Relaxed);
    live.draining.store(true, Ordering::Release);
    live.metrics().draining.set(1.0);
    let connections = live.registry().all();
    let told = connections.len();
    // Half of the time is for telling them, the other for what they still have to read.
    let budget = (deadline / 2).min(deadline.saturating_sub(Duration::from_secs(2)));
    let pace = PACE_MIN.min(budget / u32::try_from(told.max(1)).unwrap_or(u32::MAX));
    let per_tick = (TICK.as_nanos() / pace.as_nanos().max(1)).max(1);
    let per_tick = usize::try_from(per_tick).unwrap_or(usize::MAX);
    for (at, batch) in connections.chunks(per_tick).enumerate() {
        if at > 0 {
            tokio::time::sleep(TICK).await;
        }
        batch.iter().for_each(|connection| connection.close(CloseReason::Restarting));
    }
    drop(connections);
    live.tasks.close();
    let left = deadline.saturating_sub(began.elapsed());
    let all_gone = tokio::time::timeout(left, live.tasks.wait()).await.is_ok();
    let left = if all_gone { 0 } else { live.open_connections() };
    tracing::info!(told, left, "connections drained");
    Drained { told, left }
}
