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

/// How fast they may come back, of one node that goes: a quarter of what a node on two cores was measured
/// to take (8,000 a second, with a backlog to read). Slower would keep people waiting for nothing.
const BACK_EVERY: Duration = Duration::from_micros(500);

/// The least that they are spread over, however few they are: a client that is told alike by several
/// nodes of a rollout should not fall on the same moment.
const SPREAD_MIN: Duration = Duration::from_secs(2);

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

fn count(connections: usize) -> u32 {
    u32::try_from(connections).unwrap_or(u32::MAX)
}

/// The pause between two goodbyes.
fn pace(told: usize, deadline: Duration) -> Duration {
    // Half of the time is for telling them, the other for what they still have to read.
    let budget = (deadline / 2).min(deadline.saturating_sub(Duration::from_secs(2)));
    PACE_MIN.min(budget / count(told.max(1)))
}

/// What their times to come back are drawn from: up to so long after each is told. As much as they are,
/// but the last one is told to be back within the drain time.
fn spread(told: usize, deadline: Duration) -> Duration {
    let telling = pace(told, deadline).saturating_mul(count(told));
    let wanted = BACK_EVERY.saturating_mul(count(told)).max(SPREAD_MIN);
    wanted.min(deadline.saturating_sub(telling))
}

pub(super) async fn drain(live: &Live, deadline: Duration) -> Drained {
    let began = Instant::now();
    live.draining.store(true, Ordering::Release);
    live.metrics().draining.set(1.0);
    let connections = live.registry().all();
    let told = connections.len();
    let pace = pace(told, deadline);
    let spread = spread(told, deadline);
    live.restart_spread_ms
        .store(u64::try_from(spread.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_as_spread_as_they_are_many_and_within_the_drain_time() {
        let seconds = Duration::from_secs_f64;
        for (told, deadline, expected) in [
            (0, 24.0, 2.0),
            (60, 12.0, 2.0),
            (5_000, 24.0, 2.5),
            (20_000, 24.0, 10.0),
            // More than the drain time has room for.
            (40_000, 24.0, 16.0),
            (1_000_000, 24.0, 12.0),
            (5_000, 1.0, 1.0),
            (5_000, 0.0, 0.0),
        ] {
            let (deadline, spread) = (seconds(deadline), spread(told, seconds(deadline)));
            let telling = pace(told, deadline) * count(told);
            assert!(telling + spread <= deadline, "{told}: {telling:?} {spread:?}");
            let difference = spread.abs_diff(seconds(expected));
            assert!(difference < seconds(1.0), "{told} in {deadline:?}: {spread:?}");
        }
    }
}
