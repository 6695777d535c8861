//! Moves connections to other nodes after there came more of them: a load balancer places only new ones.
//!
//! # When
//! A node that holds clearly more than the average of the nodes that hold sockets sends its oldest away,
//! at the pace of `WS_SHED_RATE`, and stops a little above the average. The total does not change by
//! moving, so each node decides by its own surplus alone, and no two nodes throw connections at each
//! other: who is below the average never sheds, and who has begun goes on only while it is above.
//!
//! # When not
//! While another node came or went within [`SETTLED_AFTER`], is silent, drains, or the bus is not up: the
//! counts then say little, and connections are on the move anyway. And not for [`REST`] after a round in
//! which those that were sent away came back here: sending them away again helps nobody.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use delivery::limit::Rate;
use protocol::CloseReason;

use super::{Live, connection::Connection};
use crate::bus::{SILENT_AFTER, State};

/// How often it is looked: a few at a time are less felt by the nodes they go to than all of a second at
/// once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How far above the average it begins, in parts of the average. What a balancer by least connections
/// leaves is below it, and for less it is not worth that anybody reconnects.
const BEGIN_ABOVE: f64 = 0.10;

/// The same in connections: of few, chance alone makes large parts.
const BEGIN_ABOVE_MIN: f64 = 20.0;

/// Where it ends, in parts of the average above it: what others hold is known a second late.
const END_ABOVE: f64 = 0.02;

/// How long the other nodes must have been the same. A new one is in the balancer's list by then, and
/// what another one's end has moved is back.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// How long what was sent away may be on its way: a second until it comes back, and one until its new
/// node's heartbeat counts it. Until then it is counted as if it were still somewhere.
const AWAY_FOR: Duration = Duration::from_secs(3);

/// What is sent away in one round is the surplus at its beginning. Of it, a balancer that draws among n
/// nodes brings all but an n-th to nodes that have a surplus too; where not even this part of an n-th is
/// gone at the end of a round, they come back here, as by a balancer that goes by the client's address.
const PROGRESS: f64 = 0.5;

/// How long they are then left alone.
const REST: Duration = Duration::from_secs(600);

/// What is known of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Connections of this node, without those that were told to go.
    pub(super) here: u64,
    /// Those of each other node that holds sockets, by its epoch, in order.
    pub(super) others: Vec<(u64, u64)>,
    /// The bus is up, everybody is heard, and nobody is leaving.
    pub(super) calm: bool,
}

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It has begun, with this surplus.
    Began(u64),
    /// It is over: this many were sent away since it began.
    Ended(u64),
    /// They come back here: this many were sent away, and the surplus is still there.
    GaveUp(u64),
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Send so many away.
    pub(super) shed: u64,
    /// For the log.
    pub(super) event: Option<Event>,
}

/// Decides, without a clock and without connections.
pub(super) struct Shedder {
    rate: Rate,
    others: Vec<u64>,
    same_since: Option<Instant>,
    /// Of what is going on; none while nothing is.
    going: Option<Going>,
    /// What was sent away lately, and when.
    away: VecDeque<(Instant, u64)>,
    rests_until: Option<Instant>,
}

struct Going {
    /// The surplus when the round began.
    began_with: u64,
    /// How many of it are still to be sent away.
    left: u64,
    /// How many were, in all rounds.
    done: u64,
    /// Up to here the pace is used up.
    paid_until: Instant,
}

impl Shedder {
    pub(super) const fn new(rate: Rate) -> Self {
        Self {
            rate,
            others: Vec::new(),
            same_since: None,
            going: None,
            away: VecDeque::new(),
            rests_until: None,
        }
    }

    /// What is to be done, as things stand.
    pub(super) fn step(&mut self, view: &View, now: Instant) -> Step {
        while self.away.front().is_some_and(|(at, _)| now.duration_since(*at) >= AWAY_FOR) {
            self.away.pop_front();
        }
        let surplus = self.surplus(view, now);
        let surplus = match surplus {
            Some(surplus) if surplus.above(self.going.is_some()) => surplus,
            // Those on their way may be counted twice, here and where they are by now: it is over only
            // when it is without them.
            Some(_) if self.going.is_some() && !self.away.is_empty() => return Step::default(),
            _ => {
                let done = self.going.take().map(|going| Event::Ended(going.done));
                return Step { shed: 0, event: done };
            }
        };
        let excess = surplus.over_end();
        let mut event = None;
        let going = self.going.get_or_insert_with(|| {
            event = Some(Event::Began(excess));
            Going { began_with: excess, left: excess, done: 0, paid_until: now }
        });
        if going.left == 0 {
            // Only when all have arrived somewhere it is known where.
            if !self.away.is_empty() {
                return Step::default();
            }
            let (done, nodes) = (going.done, view.others.len() + 1);
            let gone = going.began_with.saturating_sub(excess) as f64;
            if !surplus.above(false) {
                self.going = None;
                return Step { shed: 0, event: Some(Event::Ended(done)) };
            }
            if gone < going.began_with as f64 / nodes as f64 * PROGRESS {
                self.going = None;
                self.rests_until = Some(now + REST);
                return Step { shed: 0, event: Some(Event::GaveUp(done)) };
            }
            (going.began_with, going.left) = (excess, excess);
        }
        let shed = going.paid(self.rate, now).min(excess).min(going.left);
        going.spend(self.rate, shed);
        if shed > 0 {
            self.away.push_back((now, shed));
        }
        Step { shed, event }
    }

    /// How this node stands against the average; none while nothing can be said of it.
    fn surplus(&mut self, view: &View, now: Instant) -> Option<Surplus> {
        let epochs = view.others.iter().map(|(epoch, _)| *epoch);
        if !epochs.clone().eq(self.others.iter().copied()) || !view.calm {
            self.others = epochs.collect();
            self.same_since = None;
        }
        let same_since = *self.same_since.get_or_insert(now);
        let settled = view.calm && now.duration_since(same_since) >= SETTLED_AFTER;
        let rests = self.rests_until.is_some_and(|until| now < until);
        if !settled || rests || view.others.is_empty() {
            return None;
        }
        let away: u64 = self.away.iter().map(|(_, count)| count).sum();
        let all = view.here + away + view.others.iter().map(|(_, count)| count).sum::<u64>();
        let average = all as f64 / (view.others.len() + 1) as f64;
        Some(Surplus { here: view.here as f64, average })
    }
}

impl Going {
    /// How many the pace allows now.
    fn paid(&mut self, rate: Rate, now: Instant) -> u64 {
        // What was not used is not saved up beyond one burst.
        let earliest = now.checked_sub(rate.time_of(rate.burst())).unwrap_or(self.paid_until);
        self.paid_until = self.paid_until.max(earliest);
        let earned = now.saturating_duration_since(self.paid_until).as_nanos();
        u64::try_from(earned / rate.time_of(1).as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    fn spend(&mut self, rate: Rate, count: u64) {
        self.paid_until += rate.time_of(u32::try_from(count).unwrap_or(u32::MAX));
        self.left -= count;
        self.done += count;
    }
}

/// How a node stands.
struct Surplus {
    here: f64,
    average: f64,
}

impl Surplus {
    /// Whether it is enough to begin, or to go on.
    fn above(&self, going: bool) -> bool {
        let begin = (self.average * BEGIN_ABOVE).max(BEGIN_ABOVE_MIN);
        let margin = if going { self.average * END_ABOVE } else { begin };
        self.here > self.average + margin
    }

    /// How many there are above where it ends, which is above the average.
    fn over_end(&self) -> u64 {
        let end = (self.average * (1.0 + END_ABOVE)).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a count")]
        let over = (self.here - end).max(0.0) as u64;
        over
    }
}

/// Sheds for ever, where it is wanted and there is somebody to shed to. Spawn it once per node and drop
/// it to stop.
pub(super) async fn run(live: &Live, rate: Rate) {
    let mut shedder = Shedder::new(rate);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Step { shed, event } = shedder.step(&view(live), Instant::now());
        match event {
            Some(Event::Began(surplus)) => {
                tracing::info!(surplus, "more connections than the other nodes: moving the oldest");
            }
            Some(Event::Ended(moved)) => tracing::info!(moved, "connections were moved"),
            Some(Event::GaveUp(moved)) => tracing::warn!(
                moved,
                "connections that were sent to other nodes come back to this one: the load balancer \
                 does not place them by load; they are left alone for a while"
            ),
            None => {}
        }
        if shed > 0 {
            oldest(live, shed).iter().for_each(|connection| connection.close(CloseReason::Moved));
        }
    }
}

fn view(live: &Live) -> View {
    let peers = live.bus().peers();
    let leaves = |about: Option<&protocol::envelope::NodeAbout>| about.is_some_and(|a| a.draining);
    let calm = live.bus().state() == State::Up
        && !live.is_draining()
        && peers.iter().all(|peer| peer.silent_for < SILENT_AFTER && !leaves(peer.about.as_ref()));
    let mut others: Vec<(u64, u64)> =
        peers.iter().filter_map(|peer| Some((peer.epoch, peer.connections?))).collect();
    others.sort_unstable();
    View { here: live.staying_connections() as u64, others, calm }
}

/// Those that have been here longest: whoever has just been moved here is moved last.
fn oldest(live: &Live, count: u64) -> Vec<Arc<Connection>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut all = live.registry().all();
    if all.len() > count {
        all.select_nth_unstable_by_key(count, |connection| connection.connected_at());
        all.truncate(count);
    }
    all
}

#[cfg(test)]
#[path = "tests/shed.rs"]
mod tests;
