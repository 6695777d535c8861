//! The store's threads.

use std::{fs::File, sync::Arc, thread::JoinHandle};

use super::{ahead::Ahead, trim::Trimmer};

/// How much store workers give way; 19 is the most. At 10 a worker still gets a tenth of a core that
/// everybody wants.
#[cfg(target_os = "linux")]
const WORKER_NICENESS: i32 = 10;

/// The threads of an open store, and what ends with them.
pub(super) struct Threads {
    pub(super) ahead: Arc<Ahead>,
    pub(super) maker: JoinHandle<()>,
    pub(super) committer: JoinHandle<u64>,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) publishers: Vec<JoinHandle<()>>,
    pub(super) searches: Vec<JoinHandle<()>>,
    pub(super) keeper: JoinHandle<()>,
    pub(super) scheduler: JoinHandle<()>,
    pub(super) ledger: JoinHandle<()>,
    pub(super) ledger_reader: JoinHandle<()>,
    pub(super) housekeeper: JoinHandle<()>,
    pub(super) pruner: JoinHandle<()>,
    pub(super) forgetter: JoinHandle<()>,
    pub(super) trimmer: Arc<Trimmer>,
    /// Held as long as the store is open.
    pub(super) _lock: File,
}

pub(super) fn thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .expect("the system can start a thread")
}

/// Lets threads that make a caller wait go first. Filling files can wait: what waits longer is
/// written in larger, cheaper batches. Measured at 5,000 sends a second on 2 cores: push p99 19 ms
/// without, 2 ms with.
pub(super) fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(WORKER_NICENESS) {
        // Linux has a niceness for each thread; where it is refused all is well, only slower.
        tracing::debug!(%error, "store workers keep the normal priority");
    }
}
