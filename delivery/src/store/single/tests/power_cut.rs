//! What a power cut leaves where the journal was not synced (`STORE_JOURNAL_SYNC=off`): files that
//! are ahead of it, for each reaches the disk by itself.

use std::{fs, path::Path, sync::Arc};

use protocol::TenantId;

use super::{
    super::{SingleConfig, SingleStore, hub_dir},
    contract::fixture::{Published, inbox, message, outgoing},
};
use crate::{
    Store,
    store::{Ledger as _, SentState},
};

fn open(folder: &Path) -> Arc<SingleStore> {
    let root = folder.to_owned();
    let config = SingleConfig { root, journal_sync: false, ..SingleConfig::default() };
    let nobody = Arc::new(Published::default());
    SingleStore::open(&config, nobody, &metrics::NoopRecorder).unwrap()
}

#[tokio::test]
async fn a_ledger_that_is_ahead_of_a_lost_journal_takes_what_is_sent_next() {
    let before = tempfile::tempdir().unwrap();
    let store = open(before.path());
    for title in ["1", "2", "3"] {
        store.append(vec![outgoing(&[&inbox("ann")], &message(title))].into()).await.unwrap();
    }
    store.close().await;
    let after = tempfile::tempdir().unwrap();
    let (from, to) = (hub_dir(before.path()), hub_dir(after.path()));
    fs::create_dir_all(&to).unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let store = open(after.path());
    let next = message("next");
    store.append(vec![outgoing(&[&inbox("ann")], &next)].into()).await.unwrap();
    let sent = store.sent(&TenantId::default(), &next.id).await.unwrap();
    assert_eq!(sent.map(|sent| sent.state), Some(SentState::Sent));
    store.close().await;
}
