//! A single node's folder, moved into the PostgreSQL of several nodes: `pushhub migrate --from`.
//!
//! ```text
//! hold the folder ─▶ claim the database ─▶ bring the folder to rest ─▶ parts, inboxes ─▶ compare ─▶ mark both
//! ```
//! Positions in the journal become positions of tenants as they are, and seqs, versions and ids of messages stay,
//! so a device resumes there with the cursor it had here.
//!
//! **It may end anywhere.** Each part and each inbox is a transaction that also says that it is there; begun again,
//! a move goes on with what is missing. While it is under way neither the folder nor the database is served, so
//! that both stay what they are.
//!
//! **It is compared.** When all is there both sides are read through the traits of the stores, as clients and senders
//! read them, and every difference ends the move with an error. Only then the folder says that it was moved.
//!
//! Time stands still meanwhile, at the moment the move began: nothing expires or falls due in between on
//! one side and not on the other.

mod compare;
mod counts;
mod fill;
mod inboxes;

use std::{path::PathBuf, sync::Arc};

use protocol::Time;
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::counts::Counts;
use crate::{
    StoreError, clock, control,
    sql::copy::CopyError,
    store::{
        postgres::{Claim, Import, ImportError, PostgresConfig, connecting},
        single::{Export, ExportError, Held, MovedMark, OpenError, SingleConfig, hub_dir},
    },
    webhook,
};

/// Inboxes that are moved, or compared, at a time. Each has some megabytes of bodies in memory, and two
/// connections.
const PARALLEL: usize = 6;

/// What a move is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The folder's journal is replayed, and every inbox takes over what is for it.
    Rest,
    /// Services, keys, templates and quotas.
    Control,
    /// Webhooks, and what waits for them.
    Webhooks,
    /// Users, channels, members, and what was sent to groups.
    Groups,
    /// Inboxes.
    Inboxes,
    /// What was sent, for who sent it; statistics.
    Sent,
    /// Both sides are read and compared.
    Compare,
}

impl Step {
    /// In the order in which they come.
    pub const ALL: [Self; 7] = [
        Self::Rest,
        Self::Control,
        Self::Groups,
        Self::Inboxes,
        Self::Sent,
        Self::Webhooks,
        Self::Compare,
    ];

    /// What is done, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Rest => "bringing the folder to rest",
            Self::Control => "moving services and templates",
            Self::Webhooks => "moving webhooks",
            Self::Groups => "moving users and channels",
            Self::Inboxes => "moving inboxes",
            Self::Sent => "moving what was sent",
            Self::Compare => "comparing inboxes",
        }
    }
}

/// Is told how a move goes on. Called often: must be cheap.
pub trait Progress: Send + Sync {
    /// A step begins, of so many things as far as that is known.
    fn begin(&self, step: Step, total: Option<u64>);

    /// So many more of them are done.
    fn advance(&self, by: u64);
}

/// What a move came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is in the database, compared.
    Moved {
        /// Where that is, without a password.
        database: String,
        /// How much it is.
        counts: Counts,
        /// An earlier try had begun.
        resumed: bool,
    },
    /// It was there before.
    Before {
        /// Where that is, without a password.
        database: String,
        /// Since when.
        at: Time,
    },
}

/// A folder was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The folder, for a reason that one sentence says.
    #[error(transparent)]
    Folder(Box<dyn std::error::Error + Send + Sync>),
    /// The database, for a reason that one sentence says.
    #[error(transparent)]
    Database(Box<dyn std::error::Error + Send + Sync>),
    /// Something is not the same on both sides; what, without its content.
    #[error("the database does not have what the folder has: {0}")]
    Differs(String),
}

impl From<OpenError> for MoveError {
    fn from(error: OpenError) -> Self {
        Self::Folder(Box::new(error))
    }
}

impl From<ExportError> for MoveError {
    fn from(error: ExportError) -> Self {
        Self::Folder(Box::new(error))
    }
}

impl From<ImportError> for MoveError {
    fn from(error: ImportError) -> Self {
        Self::Database(Box::new(error))
    }
}

impl From<CopyError> for MoveError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::From(..) => Self::Folder(Box::new(error)),
            CopyError::To(..) | CopyError::Used(_) => Self::Database(Box::new(error)),
            CopyError::Differs(table) => Self::Differs(format!("rows of {table}")),
        }
    }
}

/// Of the folder's store.
fn unreadable(error: StoreError) -> MoveError {
    MoveError::Folder(Box::new(error))
}

/// Of the database's.
fn unanswered(error: StoreError) -> MoveError {
    MoveError::Database(Box::new(error))
}

/// A move that is under way.
struct Move<'a> {
    export: Export,
    import: Import,
    progress: &'a dyn Progress,
}

/// Moves a folder into a database, whose tables are there, or goes on with that.
///
/// `folder` is how the folder's node is set up; its witness is told what the journal still brings, and its
/// retention is left to the database's nodes.
///
/// # Errors
/// [`MoveError`] where the folder or the database cannot be used, or is not the one it should be, and where they
/// differ afterwards. What was moved stays, and another call goes on with the rest.
pub async fn move_in(
    database: &PostgresConfig,
    folder: SingleConfig,
    recorder: Arc<dyn metrics::Recorder + Send + Sync>,
    progress: &dyn Progress,
) -> Result<Outcome, MoveError> {
    let root: PathBuf = folder.root.clone();
    let held = Held::hold(&root)?;
    let id = held.id()?;
    let mark = MovedMark::read(&root)?;
    let import = Import::new(database)?;
    let place = import.describe();
    let claim = import.claim(&id, mark.is_some(), clock::now()).await;
    let (at, resumed, _lock) = match (claim?, &mark) {
        (Claim::Finished { at }, _) => {
            MovedMark { database: place.clone(), at, done: true }.write(&root)?;
            return Ok(Outcome::Before { database: place, at });
        }
        (Claim::Open { at, again, lock }, _) => (at, again, lock),
    };
    MovedMark { database: place.clone(), at, done: false }.write(&root)?;
    progress.begin(Step::Rest, None);
    let export = Export::open(held, folder, at, recorder, |found| progress.advance(found)).await?;
    let moving = Move { export, import, progress };
    let moved = moving.run(database, &root).await;
    if moved.is_ok() {
        moving.import.finish(&id).await?;
        MovedMark { database: place.clone(), at: clock::now(), done: true }.write(&root)?;
    }
    moving.export.close().await;
    Ok(Outcome::Moved { database: place, counts: moved?, resumed })
}

impl Move<'_> {
    /// Every step, in order.
    async fn run(
        &self,
        database: &PostgresConfig,
        root: &std::path::Path,
    ) -> Result<Counts, MoveError> {
        self.progress.begin(Step::Control, None);
        let of_control = aside(database, root, control::copy).await?;
        self.progress.begin(Step::Groups, None);
        self.fill_groups().await?;
        self.progress.begin(Step::Inboxes, Some(self.export.count_shared().await?[0]));
        self.fill_inboxes().await?;
        self.progress.begin(Step::Sent, Some(self.export.count_ledger().await?[0]));
        self.fill_sent().await?;
        // Last: what the journal still brought was told to them.
        self.progress.begin(Step::Webhooks, None);
        let of_webhooks = aside(database, root, webhook::copy).await?;
        self.import.analyze().await?;
        self.progress.begin(Step::Compare, Some(self.export.count_shared().await?[0]));
        Ok(self.compare(of_control).await?.with_webhooks(of_webhooks))
    }
}

/// What keeps its rows by [`crate::sql`], copied on a thread that may wait.
async fn aside<T: Send + 'static>(
    database: &PostgresConfig,
    root: &std::path::Path,
    copy: fn(&std::path::Path, tokio_postgres::Config, MakeRustlsConnect) -> Result<T, CopyError>,
) -> Result<T, MoveError> {
    let (driver, tls) = connecting(database).map_err(ImportError::from)?;
    let hub = hub_dir(root);
    match tokio::task::spawn_blocking(move || copy(&hub, driver, tls)).await {
        Ok(copied) => Ok(copied?),
        Err(error) => Err(MoveError::Database(Box::new(error))),
    }
}
