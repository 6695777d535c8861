//! Gathers sends into transactions.
//!
//! While [`super::PostgresConfig::writers`] transactions are under way, what comes next waits and goes
//! into the next one together: alone a send is stored at once, and under load a commit is shared by
//! hundreds. Waiting a while for company, as one does where commits are free, would only delay.
//!
//! Answers are given in the order of the transactions: when a send is answered, whatever was put in before
//! it is stored or will not be. So a caller that gave up and comes back finds out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    append::{self, Asked},
    core::Core,
};
use crate::{
    StoreError,
    store::{Accepted, Audience, Batch},
};

/// Rows of inboxes that one transaction writes, about: from here on more of them are not cheaper by the
/// row, and whoever shares an inbox waits.
const BATCH_ROWS_MAX: usize = 1_000;

/// Bodies that wait, in bytes; beyond, sends are `Busy`.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Sends that wait; beyond, they are `Busy`.
const WAITING_MAX: usize = 65_536;

struct Member {
    batch: Batch,
    accepted: Accepted,
    rows: usize,
    bytes: usize,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The way in.
pub(super) struct Batcher {
    queue: mpsc::Sender<Member>,
    waiting: Arc<AtomicUsize>,
    core: Arc<Core>,
}

impl Batcher {
    /// Begins to store what is put in. Ends when it is dropped and everything is stored.
    pub(super) fn start(core: &Arc<Core>, tasks: &TaskTracker, closed: Arc<Notify>) -> Self {
        let (queue, members) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let run = run(Arc::clone(core), members, Arc::clone(&waiting), closed);
        tasks.spawn(run);
        Self { queue, waiting, core: Arc::clone(core) }
    }

    /// Puts a batch in. It is stored whether or not the answer is waited for.
    pub(super) fn put(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.core.check_open()?;
        let named = |audience: &Audience| match audience {
            Audience::Everyone => 1,
            Audience::Some { users, .. } => users.len() + 1,
        };
        let rows = batch.items.iter().map(|item| named(&item.audience)).sum();
        let bytes =
            batch.items.iter().map(|item| item.body.weight() + 64 * named(&item.audience)).sum();
        let refused = |limit: &'static str| {
            self.core.metrics.busy.increment(1);
            StoreError::Busy(limit)
        };
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) > WAITING_BYTES_MAX {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused("too much waits for the database"));
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Member { batch, accepted: Accepted::now(), rows, bytes, reply }) {
            Ok(()) => Ok(answer),
            Err(error) => {
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                Err(match error {
                    mpsc::error::TrySendError::Full(_) => {
                        refused("too many sends wait for the database")
                    }
                    mpsc::error::TrySendError::Closed(_) => StoreError::Closing,
                })
            }
        }
    }
}

async fn run(
    core: Arc<Core>,
    mut members: mpsc::Receiver<Member>,
    waiting: Arc<AtomicUsize>,
    closed: Arc<Notify>,
) {
    let writers = Arc::new(Semaphore::new(core.config.writers.max(1)));
    let stores = TaskTracker::new();
    let mut before: Option<oneshot::Receiver<()>> = None;
    loop {
        let Ok(writer) = Arc::clone(&writers).acquire_owned().await else { break };
        let first = tokio::select! {
            biased;
            first = members.recv() => first,
            () = closed.notified() => {
                // Nothing is put in any more; what is there is stored.
                members.close();
                members.recv().await
            }
        };
        let Some(first) = first else { break };
        let mut rows = first.rows;
        let mut gathered = vec![first];
        while rows < BATCH_ROWS_MAX
            && let Ok(next) = members.try_recv()
        {
            rows += next.rows;
            gathered.push(next);
        }
        let bytes: usize = gathered.iter().map(|member| member.bytes).sum();
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        core.metrics.batch_rows.record(rows as f64);
        let core = Arc::clone(&core);
        let (over, next) = oneshot::channel();
        let before = before.replace(next);
        stores.spawn(async move {
            let answers = store(&core, &gathered).await;
            drop(writer);
            if let Some(before) = before {
                // One that was dropped is over, too.
                let _ = before.await;
            }
            for (member, answer) in gathered.into_iter().zip(answers) {
                // Whoever does not wait any more does not need it.
                let _ = member.reply.send(answer);
            }
            let _ = over.send(());
        });
    }
    stores.close();
    stores.wait().await;
}

async fn store(core: &Core, members: &[Member]) -> Vec<Result<(), StoreError>> {
    let batches: Vec<Asked<'_>> =
        members.iter().map(|Member { batch, accepted, .. }| Asked { batch, accepted }).collect();
    match core.retry(|| append::store(core, &batches)).await {
        Ok(answers) => answers,
        Err(failure) if members.len() > 1 && failure.is_of_one_member() => {
            // One of them cannot be stored; the others can.
            let mut answers = Vec::with_capacity(batches.len());
            for batch in &batches {
                let alone = core.retry(|| append::store(core, std::slice::from_ref(batch))).await;
                answers.push(match alone {
                    Ok(mut one) => one.pop().unwrap_or(Ok(())),
                    Err(failure) => Err(failure.into()),
                });
            }
            answers
        }
        Err(failure) => {
            let error = StoreError::from(failure);
            (0..members.len()).map(|_| Err(error.clone())).collect()
        }
    }
}
