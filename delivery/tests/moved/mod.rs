//! Moves, for tests.

use std::{fs, path::Path, sync::Arc};

use delivery::{
    move_in::{MoveError, Outcome, Progress, Step, move_in},
    store::{postgres::PostgresConfig, single::SingleConfig},
};

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Step, _: Option<u64>) {}

    fn advance(&self, _: u64) {}
}

/// Moves a folder, on a runtime of its own.
pub(crate) fn run(url: &str, folder: SingleConfig) -> Result<Outcome, MoveError> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = PostgresConfig::new(url.to_owned());
    runtime.block_on(move_in(&config, folder, Arc::new(metrics::NoopRecorder), &Silent))
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
