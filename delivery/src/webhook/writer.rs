//! All changes of this node, by one thread: what waits is committed together, with one sync.
//!
//! Events and outcomes of attempts, of which there are many, are put together over all who brought them, so
//! that a commit costs a database that is behind a network a few round trips and not a few for each.

use std::{path::PathBuf, sync::Arc, thread};

use metrics::Counter;
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{
    WebhookError,
    deliveries::{self, Kept, NewDelivery, Settled, Tried},
};
use crate::sql::{Database, SqlError, Statements, apart, sqlite};

/// Most that wait. Whoever comes next waits for room: a commit makes it in milliseconds.
const QUEUE_MAX: usize = 1_024;

/// Most of them in one commit.
const COMMIT_MAX: usize = 256;

/// No more are added to a commit that has so many events: other nodes wait for its end, at most as long as
/// the database lets them wait for a lock (5 s). Measured: 17,000 a second on a machine with fifteen in line.
const COMMIT_EVENTS: usize = 4_096;

type Answer<T> = oneshot::Sender<Result<T, WebhookError>>;

/// What is asked of the writer, and who waits for it.
enum Asked {
    Record(Vec<NewDelivery>, Answer<()>),
    Settle(Tried, Answer<Settled>),
    Other(Box<dyn Change>),
}

/// Any other change.
trait Change: Send {
    /// Makes it. What it did is kept only where this is true.
    fn make(&mut self, database: &mut dyn Statements) -> bool;
    /// Tells whether it is durable.
    fn answer(self: Box<Self>, committed: Result<(), WebhookError>);
}

struct Work<F, T> {
    work: Option<F>,
    done: Option<Result<T, WebhookError>>,
    answer: Answer<T>,
}

impl<F, T> Change for Work<F, T>
where
    F: FnOnce(&mut dyn Statements) -> Result<T, WebhookError> + Send,
    T: Send,
{
    fn make(&mut self, database: &mut dyn Statements) -> bool {
        let work = self.work.take().expect("a change is made once");
        self.done.insert(work(database)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), WebhookError>) {
        let result = match (committed, self.done) {
            (Ok(()), Some(done)) => done,
            (Ok(()), None) => unreachable!("what was committed was made"),
            (Err(error), _) => Err(error),
        };
        // Nobody waits for it any more.
        let _ = self.answer.send(result);
    }
}

/// Takes changes.
pub(super) struct Writer {
    asked: mpsc::Sender<Asked>,
}

/// What the writer counts.
pub(super) struct Counters {
    pub(super) errors: Counter,
    pub(super) events: Counter,
    pub(super) dropped: Counter,
}

impl Writer {
    /// Begins; the thread ends when the writer is dropped and everything it took is committed. `file` is
    /// where the database is one.
    pub(super) fn begin(
        database: Database,
        file: Option<PathBuf>,
        counters: Counters,
    ) -> Result<(Self, thread::JoinHandle<()>), WebhookError> {
        let (asked, waiting) = mpsc::channel(QUEUE_MAX);
        let mut committer = Committer { database: Some(database), file, counters, failing: false };
        let thread = thread::Builder::new()
            .name("webhooks-commit".to_owned())
            .spawn(move || committer.run(waiting))?;
        Ok((Self { asked }, thread))
    }

    /// Keeps events and waits until they are durable, or were not kept. For threads that may wait.
    pub(super) fn record(&self, rows: Vec<NewDelivery>) -> Result<(), WebhookError> {
        let (answer, answered) = oneshot::channel();
        self.wait(Asked::Record(rows, answer), answered)
    }

    /// Writes down what came of an attempt.
    pub(super) async fn settle(&self, tried: Tried) -> Result<Settled, WebhookError> {
        let (answer, answered) = oneshot::channel();
        self.wait_async(Asked::Settle(tried, answer), answered).await
    }

    /// Makes a change and waits until it is durable, or was not made. For threads that may wait.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let (change, answered) = other(work);
        self.wait(change, answered)
    }

    /// As [`Writer::write`], for tasks.
    pub(super) async fn write_async<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let (change, answered) = other(work);
        self.wait_async(change, answered).await
    }

    fn wait<T>(&self, asked: Asked, answered: Answered<T>) -> Result<T, WebhookError> {
        self.asked.blocking_send(asked).map_err(|_| WebhookError::Closed)?;
        answered.blocking_recv().unwrap_or(Err(WebhookError::Closed))
    }

    async fn wait_async<T>(&self, asked: Asked, answered: Answered<T>) -> Result<T, WebhookError> {
        self.asked.send(asked).await.map_err(|_| WebhookError::Closed)?;
        answered.await.unwrap_or(Err(WebhookError::Closed))
    }
}

type Answered<T> = oneshot::Receiver<Result<T, WebhookError>>;

fn other<T: Send + 'static>(
    work: impl FnOnce(&mut dyn Statements) -> Result<T, WebhookError> + Send + 'static,
) -> (Asked, Answered<T>) {
    let (answer, answered) = oneshot::channel();
    (Asked::Other(Box::new(Work { work: Some(work), done: None, answer })), answered)
}

/// What is committed together.
#[derive(Default)]
struct Batch {
    asked: usize,
    rows: Vec<NewDelivery>,
    recorded: Vec<Answer<()>>,
    tried: Vec<Tried>,
    settled: Vec<Answer<Settled>>,
    others: Vec<Box<dyn Change>>,
}

impl Batch {
    fn add(&mut self, asked: Asked) {
        self.asked += 1;
        match asked {
            Asked::Record(mut rows, answer) => {
                self.rows.append(&mut rows);
                self.recorded.push(answer);
            }
            Asked::Settle(tried, answer) => {
                self.tried.push(tried);
                self.settled.push(answer);
            }
            Asked::Other(change) => self.others.push(change),
        }
    }

    fn has_room(&self) -> bool {
        self.asked < COMMIT_MAX && self.rows.len() < COMMIT_EVENTS
    }

    /// Only others are apart: what they decide may refuse them. Events and outcomes fail with the
    /// database only, and everything with them.
    fn make(&mut self, database: &mut dyn Statements) -> Result<(Kept, Vec<Settled>), SqlError> {
        let kept = deliveries::insert(database, &self.rows)?;
        let settled = deliveries::settle(database, &self.tried)?;
        for change in &mut self.others {
            apart(database, |database| change.make(database))?;
        }
        Ok((kept, settled))
    }

    /// Nobody may wait any more for any of the answers.
    fn answer(self, committed: Result<Vec<Settled>, Arc<SqlError>>) {
        let result = || committed.as_ref().map(drop).map_err(WebhookError::not_committed);
        for answer in self.recorded {
            let _ = answer.send(result());
        }
        for change in self.others {
            change.answer(result());
        }
        let mut settled = committed.as_deref().unwrap_or_default().iter();
        for answer in self.settled {
            let _ =
                answer
                    .send(result().map(|()| {
                        *settled.next().expect("as many were settled as were asked for")
                    }));
        }
    }
}

struct Committer {
    /// None after a failed commit to a file: what a handle says after one cannot be trusted any more.
    database: Option<Database>,
    file: Option<PathBuf>,
    counters: Counters,
    failing: bool,
}

impl Committer {
    fn run(&mut self, mut waiting: mpsc::Receiver<Asked>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = Batch::default();
            batch.add(first);
            while batch.has_room() {
                match waiting.try_recv() {
                    Ok(asked) => batch.add(asked),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            let result = self.commit(&mut batch).map_err(Arc::new);
            self.note(result.as_ref().err());
            batch.answer(result);
        }
    }

    fn commit(&mut self, batch: &mut Batch) -> Result<Vec<Settled>, SqlError> {
        let mut database = match (self.database.take(), &self.file) {
            (None, Some(file)) => Database::Sqlite(sqlite::Connection::reopen(file)?),
            (database, _) => database.expect("only a file is closed"),
        };
        let done = database.change(|database| batch.make(database));
        self.database = match database {
            Database::Sqlite(_) if done.is_err() => None,
            database => Some(database),
        };
        let (kept, settled) = done?;
        self.counters.events.increment(kept.new);
        self.counters.dropped.increment(kept.dropped);
        Ok(settled)
    }

    /// Says it once, not once for each event that cannot be kept.
    fn note(&mut self, error: Option<&Arc<SqlError>>) {
        match error {
            Some(error) => {
                self.counters.errors.increment(1);
                if !self.failing {
                    tracing::error!(
                        error = &**error as &dyn std::error::Error,
                        "webhooks cannot be written; events wait with their senders"
                    );
                }
            }
            None if self.failing => tracing::info!("webhooks can be written again"),
            None => {}
        }
        self.failing = error.is_some();
    }
}
