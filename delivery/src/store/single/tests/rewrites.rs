//! Edits and recalls, as the journal has them: a random life of inboxes with them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::Body;
use tempfile::TempDir;

use super::{
    super::{
        SingleConfig, SingleStore,
        inbox::What,
        membership::Memberships,
        record::{Lsn, Record, RewriteRecord},
    },
    contract::{self, Backend, Sent},
};
use crate::{Fanout, InboxKey, Store, clock};

struct Single<const FLUSH_MS: u64> {
    folder: TempDir,
    store: Mutex<Option<Arc<SingleStore>>>,
}

impl<const FLUSH_MS: u64> Backend for Single<FLUSH_MS> {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: Mutex::default() }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Store> {
        let config = SingleConfig {
            root: self.folder.path().join("storage"),
            flush_interval: Duration::from_millis(FLUSH_MS),
            ..SingleConfig::default()
        };
        let store = SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap();
        *self.store.lock() = Some(Arc::clone(&store));
        store
    }

    fn killed(&self) -> Option<Self> {
        // Where workers write at any time a copy would be torn.
        (FLUSH_MS > 1_000).then(|| {
            let copy = Self::new();
            copy_folder(self.folder.path(), copy.folder.path());
            copy
        })
    }

    fn refuse_writes(&self, _: &InboxKey, _: bool) -> bool {
        false
    }

    async fn rewrite(&self, message: &Sent, body: Option<Arc<Body>>) -> bool {
        let store = self.store.lock().clone().unwrap();
        let record = RewriteRecord {
            tenant: message.tenant.clone(),
            id: message.id.clone(),
            target: place_of(&store, message),
            audience: Arc::new(message.audience.clone()),
            at: clock::now(),
            body,
        };
        store.committer.submit(vec![Record::Rewrite(Arc::new(record))]).await.unwrap();
        true
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.folder.path())
    }
}

/// Where a message to everyone stands in the journal.
fn place_of(store: &SingleStore, message: &Sent) -> Lsn {
    let shared = store.pruner.shared.entries_after(&message.tenant, &Memberships::default(), 0);
    let found = shared
        .unwrap()
        .into_iter()
        .find(|entry| matches!(&entry.what, What::Message(body) if *body.id() == message.id));
    found.map_or(0, |entry| entry.lsn)
}

fn copy_folder(from: &Path, to: &Path) {
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

#[test]
fn a_random_life_with_edits_and_recalls_is_like_the_model() {
    contract::model::a_random_life_is_like_the_model::<Single<50>>();
}

#[test]
fn the_same_unwritten_and_with_kills() {
    contract::model::a_random_life_is_like_the_model::<Single<3_600_000>>();
}
