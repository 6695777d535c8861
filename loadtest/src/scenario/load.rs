//! Issues sends: on a schedule that does not wait for answers (open loop), or whenever a connection
//! is free (closed loop).

use anyhow::Result;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::Run;
use crate::{
    cli::Rate,
    clock::{self, MS, SECOND},
    engine::Engine,
    http_client::Shape,
};

/// Shortest sleep between two due sends: waking for each at 50,000/s would cost more than sending.
const TICK_NS: u64 = 50_000;

/// Who receives the next send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// Any user, and so many neighbours.
    Any { recipients: u32 },
    /// One of the first users with this probability, else one of the others.
    Split { first: u32, share: f64 },
}

/// A stream of sends.
pub(crate) struct Load {
    shape: Shape,
    messages: u32,
    choice: Choice,
    /// Between two requests on the schedule, in nanoseconds; `None` in a closed loop.
    interval: Option<f64>,
    begun: u64,
    issued: u64,
    rng: SmallRng,
}

impl Load {
    /// Begins now. `messages` in each request.
    pub(crate) fn new(rate: Rate, messages: u32, choice: Choice) -> Self {
        let interval = match rate {
            Rate::PerSecond(rate) => Some(SECOND as f64 / rate),
            Rate::Max => None,
        };
        let shape = if messages > 1 { Shape::Batch } else { Shape::Send };
        let rng = SmallRng::from_rng(&mut rand::rng());
        Self { shape, messages, choice, interval, begun: clock::now(), issued: 0, rng }
    }

    /// Begins the schedule again: for after a pause that was ours, not the server's.
    pub(crate) fn catch_up(&mut self) {
        self.begun = clock::now();
        self.issued = 0;
    }

    /// Turns the run with this load until a moment; false when the ledger is full.
    pub(crate) fn run_until(&mut self, run: &mut Run, end: u64) -> Result<bool> {
        self.run_while(run, |_, now| now < end, end)
    }

    /// Turns the run with this load while the condition holds.
    pub(crate) fn run_while(
        &mut self,
        run: &mut Run,
        mut goes_on: impl FnMut(&Run, u64) -> bool,
        end: u64,
    ) -> Result<bool> {
        loop {
            let now = clock::now();
            if !goes_on(run, now) || run.engine.stopped() {
                return Ok(true);
            }
            let Some(next) = self.issue(&mut run.engine, now)? else { return Ok(false) };
            run.turn(next.max(now + TICK_NS).min(end))?;
        }
    }

    /// Issues what is due; when the next is, or `None` when the ledger is full.
    fn issue(&mut self, engine: &mut Engine, now: u64) -> Result<Option<u64>> {
        loop {
            let scheduled = match self.interval {
                Some(interval) => {
                    let due = self.begun + (self.issued as f64 * interval) as u64;
                    if due > now {
                        return Ok(Some(due));
                    }
                    if !engine.http.has_room() {
                        return Ok(Some(now + MS));
                    }
                    due
                }
                None if engine.http.idle() == 0 => return Ok(Some(now + 100 * MS)),
                None => clock::now(),
            };
            let users = engine.users.count;
            let (choice, rng) = (self.choice, &mut self.rng);
            let recipients = (0..self.messages as usize).map(|_| choice.next(users, rng));
            if !engine.submit(self.shape, recipients, scheduled, true)? {
                return Ok(None);
            }
            self.issued += 1;
        }
    }
}

impl Choice {
    /// First recipient and how many neighbours.
    fn next(self, users: u32, rng: &mut SmallRng) -> (u32, u32) {
        match self {
            Self::Any { recipients } => (rng.random_range(0..users), recipients.min(users)),
            Self::Split { first, share } => {
                let user = if first >= users || rng.random::<f64>() < share {
                    rng.random_range(0..first.min(users))
                } else {
                    rng.random_range(first..users)
                };
                (user, 1)
            }
        }
    }
}
