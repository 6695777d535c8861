//! A standby that answers lists in the primary's place.
//!
//! It is nobody's duty: whatever it does not answer, the primary does. So a list waits for it for a moment
//! only, and after a failure it is left alone for a while, or each list would wait for that moment. That it
//! is one of this database, and not another one of the same form, is looked at before it is believed, and
//! again after each failure: its address may lead elsewhere by then.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    columns::Columns as _,
    core::Core,
    errors::Failure,
    pool::{Ask, Db, row},
};

/// How long a list waits for the standby, before it asks the primary. Answers take milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How long nobody asks it after it failed.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// Why it cannot be used now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it did not answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    #[error("it is of another database than DATABASE_URL names")]
    Foreign,
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A standby.
pub(super) struct Standby {
    pub(super) db: Db,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    /// Not asked yet.
    New,
    /// It is one of this database, and answers.
    Well,
    /// It failed, and is not asked before this.
    Failing(Instant),
}

impl Standby {
    pub(super) const fn new(db: Db) -> Self {
        Self { db, state: Mutex::new(State::New) }
    }

    /// Whether it is to be asked, and whether it has to be looked at first. After a failure one list at a
    /// time tries.
    fn turn(&self) -> Option<bool> {
        let mut state = self.state.lock();
        match *state {
            State::Well => Some(false),
            State::New => Some(true),
            State::Failing(until) if Instant::now() < until => None,
            State::Failing(_) => {
                *state = State::Failing(Instant::now() + LEFT_ALONE);
                Some(true)
            }
        }
    }

    /// What came of asking. A change is said, once.
    fn note(&self, trouble: Option<&Trouble>) {
        let next = match trouble {
            None => State::Well,
            Some(_) => State::Failing(Instant::now() + LEFT_ALONE),
        };
        let before = std::mem::replace(&mut *self.state.lock(), next);
        match (before, trouble) {
            (State::New | State::Well, Some(trouble)) => tracing::warn!(
                error = trouble as &dyn std::error::Error,
                "the standby of DATABASE_REPLICA_URL cannot be used: the primary answers lists"
            ),
            (State::Failing(_), None) => tracing::info!("the standby answers lists again"),
            _ => {}
        }
    }
}

impl Core {
    /// Asks the standby; none where it is left alone, fails, or has no answer.
    pub(super) async fn ask_standby<T, F>(
        &self,
        standby: &Standby,
        question: impl FnOnce() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<Option<T>, Failure>>,
    {
        let Some(look) = standby.turn() else {
            self.metrics.replica_skipped.increment(1);
            return None;
        };
        let asked = async {
            if look {
                self.look_at(standby).await?;
            }
            Ok(question().await?)
        };
        let answer = match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silent),
        };
        standby.note(answer.as_ref().err());
        match answer {
            Ok(answer) => {
                let result = if answer.is_some() {
                    &self.metrics.replica_answered
                } else {
                    &self.metrics.replica_behind
                };
                result.increment(1);
                answer
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::Silent) {
                    // An answer may still come to what was broken off.
                    standby.db.forget();
                }
                self.metrics.replica_failed.increment(1);
                None
            }
        }
    }

    /// Looks at a standby before anybody asks it, so that a wrong address is said when the node starts.
    pub(super) async fn try_standby(&self) {
        if let Some(standby) = &self.replica {
            let looked = tokio::time::timeout(ANSWER_MAX, self.look_at(standby)).await;
            let trouble = looked.unwrap_or(Err(Trouble::Silent)).err();
            standby.note(trouble.as_ref());
            if trouble.is_some() {
                standby.db.forget();
                self.metrics.replica_failed.increment(1);
            }
        }
    }

    async fn look_at(&self, standby: &Standby) -> Result<(), Trouble> {
        let own = identity(&self.db.client().await?).await?;
        if identity(&standby.db.client().await?).await? == own {
            Ok(())
        } else {
            Err(Trouble::Foreign)
        }
    }
}

/// What a primary and its standbys have in common, and nobody else: the number that was made with the files,
/// and that of the database in them.
pub(super) async fn identity(client: &impl Ask) -> Result<(i64, i64), Failure> {
    let sql = "SELECT (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid::bigint FROM pg_database WHERE datname = current_database())";
    row(client, sql, &[]).await?.map_or(Ok((0, 0)), |row| Ok((row.column(0)?, row.column(1)?)))
}
