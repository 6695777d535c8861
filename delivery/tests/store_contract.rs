//! Every sentence of the store's contract (`delivery::store`), held against every backend. A backend
//! adds a constructor here and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;

use std::sync::Arc;

use delivery::{
    Fanout, Store,
    store::single::{SingleConfig, SingleStore},
};
use tempfile::TempDir;

use contract::Backend;

/// SQLite, one folder.
struct Single {
    folder: TempDir,
}

impl Backend for Single {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Store> {
        let config =
            SingleConfig { root: self.folder.path().join("storage"), ..SingleConfig::default() };
        SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap()
    }

    fn folder(&self) -> Option<&std::path::Path> {
        Some(self.folder.path())
    }
}

contract::suite!(single, Single);
