//! The thread that does what is left to do when the record is stored.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Forgets, Forgotten, Targets};
use crate::store::{
    StoreError,
    single::{
        ahead::Ahead, committer::Committer, inboxes::Inboxes, ledger::Ledger,
        metrics::StoreMetrics, shared::Shared, trim::Trimmer, worker::Worker,
    },
};

/// Inboxes that are written at a time: their workers have others to serve too.
const INBOXES_AT_ONCE: usize = 64;

/// How often older segments are looked at before a pass is given up: what is needed of them may come to a file
/// in between.
const TRIES: usize = 3;

/// Longest rest between two steps.
const REST_MAX: Duration = Duration::from_millis(50);

/// The segment that was begun for the users who are being forgotten: a pass that is repeated begins no other, or a file
/// that cannot be written for days would leave one for each try.
#[derive(Default)]
pub(super) struct Segment(Option<u64>);

/// Why the journal keeps what is to go.
#[derive(Debug, thiserror::Error)]
#[error("a file whose changes only the journal has cannot be written, so the journal cannot go")]
struct StillNeeded;

pub(in super::super) struct Forgetter {
    pub(in super::super) hub: PathBuf,
    pub(in super::super) forgets: Arc<Forgets>,
    pub(in super::super) inboxes: Arc<Inboxes>,
    pub(in super::super) workers: Arc<[Worker]>,
    pub(in super::super) shared: Arc<Shared>,
    pub(in super::super) ledger: Arc<Ledger>,
    pub(in super::super) committer: Arc<Committer>,
    pub(in super::super) ahead: Arc<Ahead>,
    pub(in super::super) trimmer: Arc<Trimmer>,
    pub(in super::super) metrics: Arc<StoreMetrics>,
}

impl Forgetter {
    /// Works until stopped.
    pub(in super::super) fn run(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime with a clock needs nothing of the system");
        let mut segment = Segment::default();
        let mut failing = false;
        while let Some(pass) = self.forgets.next() {
            let done = runtime.block_on(self.pass(&pass.users, pass.to_walk, &mut segment));
            match &done {
                Ok(()) => {
                    self.forgets.done(&pass.users);
                    failing = false;
                }
                Err(StoreError::Closing) => {}
                Err(error) => {
                    self.metrics.forget_errors.increment(1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "a user cannot be forgotten now; it is tried again");
                    }
                }
            }
            for waiting in pass.waiting {
                let _ = waiting.send(done.clone());
            }
        }
    }

    async fn pass(
        &self,
        users: &[Forgotten],
        to_walk: Vec<Forgotten>,
        segment: &mut Segment,
    ) -> Result<(), StoreError> {
        if users.is_empty() {
            return Ok(());
        }
        if !to_walk.is_empty() {
            *segment = Segment::default();
        }
        self.remove_folders(users).await?;
        self.walk_ledger(to_walk).await?;
        self.leave_journal(segment).await?;
        self.overwrite().await?;
        self.shared.forgotten(users).map_err(refused)
    }

    pub(super) async fn remove_folders(&self, users: &[Forgotten]) -> Result<(), StoreError> {
        for Forgotten { key, .. } in users {
            self.check()?;
            let inbox = self.inboxes.get(key.clone());
            self.workers[inbox.worker].ask(move |files| files.end(&inbox)).await?;
        }
        Ok(())
    }

    pub(super) async fn walk_ledger(&self, users: Vec<Forgotten>) -> Result<(), StoreError> {
        if !users.is_empty() {
            let targets = Arc::new(Targets::new(users.clone()));
            self.ledger.forget(&targets, || self.forgets.stopped()).await?;
            self.forgets.walked(&users);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.forgets.stopped() { Err(StoreError::Closing) } else { Ok(()) }
    }

    /// Has the journal go on in a new segment, and all others go.
    pub(super) async fn leave_journal(&self, segment: &mut Segment) -> Result<(), StoreError> {
        let begun = match segment.0 {
            Some(begun) => begun,
            None => {
                self.ahead.renew().map_err(refused)?;
                *segment.0.insert(self.committer.renew().await?)
            }
        };
        for _ in 0..TRIES {
            if let Some(last) = self.trimmer.older(begun) {
                let behind: Vec<_> = self
                    .inboxes
                    .all()
                    .into_iter()
                    .filter(|inbox| {
                        let state = inbox.state.lock();
                        let needed = state.needed().is_some_and(|needed| needed <= last);
                        needed && state.damaged.is_none()
                    })
                    .collect();
                for some in behind.chunks(INBOXES_AT_ONCE) {
                    self.check()?;
                    let written = some.iter().map(|inbox| {
                        let asked = Arc::clone(inbox);
                        self.workers[inbox.worker].ask(move |files| files.flush(&asked, false))
                    });
                    // What could not be written is seen below.
                    futures_util::future::join_all(written).await;
                }
                self.ledger.settle().await?;
            }
            if self.trimmer.clear(&self.hub, begun).map_err(refused)? {
                return Ok(());
            }
        }
        Err(refused(StillNeeded))
    }

    /// Overwrites what the files do not use any more.
    pub(super) async fn overwrite(&self) -> Result<(), StoreError> {
        let (mut shared, mut ledger) = (Some(0), Some(0));
        while let Some(from) = shared {
            self.check()?;
            let began = Instant::now();
            shared = self.shared.overwrite(from).map_err(refused)?;
            rest(began).await;
        }
        while let Some(from) = ledger {
            self.check()?;
            let began = Instant::now();
            ledger = self.ledger.overwrite(from).await?;
            rest(began).await;
        }
        Ok(())
    }
}

/// After a step, as long as it took: half of the time is for others.
pub(in super::super) async fn rest(began: Instant) {
    tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::NotWritable(Arc::new(error))
}
