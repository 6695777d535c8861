//! Moves, for tests.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use delivery::{
    move_in::{MoveError, Outcome, Progress, Step, move_in},
    store::{postgres::PostgresConfig, single::SingleConfig},
};

/// Keeps what it was told.
#[derive(Default)]
pub(crate) struct Told {
    steps: std::sync::Mutex<Vec<Step>>,
    advanced: AtomicU64,
}

impl Told {
    #[allow(dead_code, reason = "not every test that shares this looks at it")]
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }
}

impl Progress for Told {
    fn begin(&self, step: Step, _: Option<u64>) {
        self.steps.lock().unwrap().push(step);
    }

    fn advance(&self, by: u64) {
        self.advanced.fetch_add(by, Ordering::Relaxed);
    }
}

/// Moves a folder, on a runtime of its own.
pub(crate) fn run(url: &str, folder: SingleConfig) -> Result<Outcome, MoveError> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let told = Told::default();
    let config = PostgresConfig::new(url.to_owned());
    runtime.block_on(move_in(&config, folder, Arc::new(metrics::NoopRecorder), &told))
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
