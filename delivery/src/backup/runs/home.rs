//! Where all that is backed up is: the folder of one node, or a database that nodes share. Of these one at a time
//! makes a run.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::OwnedMutexGuard;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::RunError;
use crate::{
    sql::copy,
    store::{
        postgres::{PostgresConfig, Sole, connecting},
        single::hub_dir,
    },
};

/// Where what is backed up is kept.
#[derive(Clone, Debug)]
pub enum Home {
    /// In a storage folder (`USER_STORAGE_PATH`), of which one process has hold.
    Folder(PathBuf),
    /// In a database (`DATABASE_URL`).
    Database(Box<PostgresConfig>),
}

/// Control data, or its place, cannot be used.
fn control(error: impl std::error::Error + Send + Sync + 'static) -> RunError {
    RunError::Control(error.into())
}

/// The right to make a run: nobody else has it meanwhile, on no node.
pub(super) struct Turn {
    _here: OwnedMutexGuard<()>,
    everywhere: Option<Sole>,
}

impl Turn {
    /// Whether it is still this node's.
    pub(super) fn check(&self) -> Result<(), RunError> {
        match &self.everywhere {
            Some(sole) if !sole.lasts() => Err(RunError::TurnLost),
            Some(_) | None => Ok(()),
        }
    }
}

impl Home {
    /// Takes the right; none where another has it.
    pub(super) async fn turn(
        &self,
        here: &Arc<tokio::sync::Mutex<()>>,
    ) -> Result<Option<Turn>, RunError> {
        let Ok(here) = Arc::clone(here).try_lock_owned() else { return Ok(None) };
        let everywhere = match self {
            Self::Folder(_) => None,
            Self::Database(config) => {
                let taken = Sole::take(config).await;
                match taken.map_err(control)? {
                    Some(sole) => Some(sole),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Turn { _here: here, everywhere }))
    }

    /// Hands the database's address to who fills it, on this thread, which may wait.
    pub(super) fn with_database<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        fill: impl FnOnce(tokio_postgres::Config, MakeRustlsConnect) -> Result<T, E>,
    ) -> Result<T, RunError> {
        let Self::Database(config) = self else {
            return Err(RunError::Control("it is a folder".into()));
        };
        let (driver, tls) = connecting(config).map_err(control)?;
        fill(driver, tls).map_err(control)
    }

    /// Hands the place where control data is to who copies it, on this thread, which may wait.
    pub(super) fn with_rows<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        copy: impl FnOnce(copy::Home<'_>) -> Result<T, E>,
    ) -> Result<T, RunError> {
        let copied = match self {
            Self::Folder(root) => copy(copy::Home::Folder(&hub_dir(root))),
            Self::Database(config) => {
                let (driver, tls) = connecting(config).map_err(control)?;
                copy(copy::Home::Database(Box::new(driver), tls))
            }
        };
        copied.map_err(control)
    }
}
