//! All changes of `webhooks.db`, by one thread: what waits is committed together, with one sync.

use std::{path::PathBuf, sync::Arc, thread};

use metrics::Counter;
use rusqlite::Connection;
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{WebhookError, database};

/// Most changes that wait. Whoever comes next waits for room: a commit makes it in milliseconds.
const QUEUE_MAX: usize = 1_024;

/// Most changes in one commit.
const COMMIT_MAX: usize = 256;

/// A change of the file, and who waits for it.
trait Change: Send {
    /// Makes it. What it did is kept only where this is true.
    fn make(&mut self, connection: &Connection) -> bool;
    /// Tells whether it is durable.
    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

struct Work<F, T> {
    work: Option<F>,
    done: Option<Result<T, WebhookError>>,
    answer: oneshot::Sender<Result<T, WebhookError>>,
}

impl<F, T> Change for Work<F, T>
where
    F: FnOnce(&Connection) -> Result<T, WebhookError> + Send,
    T: Send,
{
    fn make(&mut self, connection: &Connection) -> bool {
        let work = self.work.take().expect("a change is made once");
        self.done.insert(work(connection)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let result = match (committed, self.done) {
            (Ok(()), Some(done)) => done,
            (Ok(()), None) => unreachable!("what was committed was made"),
            (Err(error), _) => Err(WebhookError::NotWritable(error)),
        };
        // Nobody waits for it any more.
        let _ = self.answer.send(result);
    }
}

/// Takes changes.
pub(super) struct Writer {
    changes: mpsc::Sender<Box<dyn Change>>,
}

impl Writer {
    /// Begins; the thread ends when the writer is dropped and everything it took is committed.
    pub(super) fn begin(
        path: PathBuf,
        connection: Connection,
        errors: Counter,
    ) -> Result<(Self, thread::JoinHandle<()>), WebhookError> {
        let (changes, waiting) = mpsc::channel(QUEUE_MAX);
        let mut committer =
            Committer { path, connection: Some(connection), errors, failing: false };
        let thread = thread::Builder::new()
            .name("webhooks-commit".to_owned())
            .spawn(move || committer.run(waiting))?;
        Ok((Self { changes }, thread))
    }

    /// Makes a change and waits until it is durable, or was not made. For threads that may wait.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let (change, answer) = change(work);
        self.changes.blocking_send(change).map_err(|_| WebhookError::Closed)?;
        answer.blocking_recv().unwrap_or(Err(WebhookError::Closed))
    }

    /// As [`Writer::write`], for tasks.
    pub(super) async fn write_async<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let (change, answer) = change(work);
        self.changes.send(change).await.map_err(|_| WebhookError::Closed)?;
        answer.await.unwrap_or(Err(WebhookError::Closed))
    }
}

type Answer<T> = oneshot::Receiver<Result<T, WebhookError>>;

fn change<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> Result<T, WebhookError> + Send + 'static,
) -> (Box<dyn Change>, Answer<T>) {
    let (answer, answered) = oneshot::channel();
    (Box::new(Work { work: Some(work), done: None, answer }), answered)
}

struct Committer {
    path: PathBuf,
    /// None after a failed commit: what a handle says after one cannot be trusted any more.
    connection: Option<Connection>,
    errors: Counter,
    failing: bool,
}

impl Committer {
    fn run(&mut self, mut waiting: mpsc::Receiver<Box<dyn Change>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < COMMIT_MAX {
                match waiting.try_recv() {
                    Ok(change) => batch.push(change),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            let result = self.commit(&mut batch).map_err(Arc::new);
            self.note(result.as_ref().err());
            for change in batch {
                change.answer(result.clone());
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => database::reopen(&self.path)?,
        };
        // Taken out, so that every way out of here but the last one closes it.
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for change in batch {
            connection.execute_batch("SAVEPOINT change")?;
            let end = if change.make(&connection) {
                "RELEASE change"
            } else {
                "ROLLBACK TO change; RELEASE change"
            };
            // Fails where SQLite gave the whole transaction up, as it does on a full disk.
            connection.execute_batch(end)?;
        }
        connection.execute_batch("COMMIT")?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Says it once, not once for each event that cannot be kept.
    fn note(&mut self, error: Option<&Arc<rusqlite::Error>>) {
        match error {
            Some(error) => {
                self.errors.increment(1);
                if !self.failing {
                    tracing::error!(
                        error = &**error as &dyn std::error::Error,
                        "webhooks.db cannot be written; events wait with their senders"
                    );
                }
            }
            None if self.failing => tracing::info!("webhooks.db can be written again"),
            None => {}
        }
        self.failing = error.is_some();
    }
}
