//! What went to devices: when it is written, and what becomes of it.

use std::{path::Path, sync::Arc, time::Duration};

use protocol::{DeviceId, Seq, Status, Time};
use tempfile::TempDir;

use super::{
    super::{SingleConfig, SingleStore, inbox_dir, inboxes::IDLE_MAX},
    contract::fixture::{Published, button, inbox, message, outgoing, to_everyone},
};
use crate::{
    InboxKey, Store, clock,
    store::{Mark, MarkTarget, Receipt},
};

struct Open {
    folder: TempDir,
    store: Arc<SingleStore>,
}

impl Open {
    /// A store that writes files only when it has to.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        Self { folder, store }
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = open(self.folder.path());
    }

    /// Whether the inbox has files.
    fn written(&self, key: &InboxKey) -> bool {
        inbox_dir(&self.folder.path().join("storage"), key).join("messages.db").exists()
    }

    async fn receipt(&self, key: &InboxKey, id: &str) -> Option<Receipt> {
        self.store.receipt_in(key, &id.parse().unwrap()).await.unwrap()
    }
}

fn open(folder: &Path) -> Arc<SingleStore> {
    let config = SingleConfig {
        root: folder.join("storage"),
        flush_interval: Duration::from_hours(1),
        ..SingleConfig::default()
    };
    let nobody = Arc::new(Published::default());
    SingleStore::open(&config, nobody, &metrics::NoopRecorder).unwrap()
}

fn device(id: &str) -> DeviceId {
    id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_what_became_of_a_message() {
    let mut open = Open::new();
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 0..5 {
        let mut fields = message(&n.to_string());
        fields.actions = vec![button("ok")];
        ids.push(fields.id.clone());
        open.store.append(vec![outgoing(&[&ann], &fields)].into()).await.unwrap();
    }
    let before = clock::now();
    let _watch = open.store.watch(&ann).await.unwrap();
    let (phone, desktop) = (device("phone"), device("desktop"));
    open.store.delivered(&ann, &phone, Seq(0), Seq(3));
    // It came when the first two were there already, and confirms what it got.
    open.store.delivered(&ann, &desktop, Seq(2), Seq(3));
    open.store.ack(&ann, &desktop, Seq(3));
    open.store.ack(&ann, &phone, Seq(2));
    open.store.ack(&ann, &phone, Seq(3));
    let pressing = open.store.press(&ann, Some(phone.clone()), &ids[2], 0).await.unwrap().message;
    for _ in 0..2 {
        let receipt = open.receipt(&ann, ids[2].as_str()).await.unwrap();
        assert_eq!(receipt.user_id, ann.user);
        let between = |at: Option<Time>| {
            assert!(at.is_some_and(|at| (before..=clock::now()).contains(&at)), "{at:?}");
        };
        between(receipt.delivered_at);
        between(receipt.acked_at);
        assert!(receipt.stored_at.is_some_and(|at| at <= before));
        assert_eq!(receipt.read_at, pressing.state.read_at);
        assert_eq!(receipt.actions, pressing.pressed);
        let devices: Vec<&str> =
            receipt.devices.iter().map(|device| device.device_id.as_str()).collect();
        assert_eq!(devices, ["desktop", "phone"]);
        for device in &receipt.devices {
            between(device.delivered_at);
            between(device.acked_at);
        }
        // Before the desktop came: the phone alone.
        let first = open.receipt(&ann, ids[0].as_str()).await.unwrap();
        let devices: Vec<_> = first.devices.iter().map(|device| &device.device_id).collect();
        assert_eq!((devices, first.read_at), (vec![&phone], None));
        let nobody = open.receipt(&ann, ids[4].as_str()).await.unwrap();
        assert_eq!((nobody.devices.len(), nobody.delivered_at, nobody.acked_at), (0, None, None));
        assert!(nobody.stored_at.is_some());
        assert_eq!(open.receipt(&ann, "no-such").await, None);
        assert_eq!(open.receipt(&inbox("never"), ids[0].as_str()).await, None);
        open.reopen().await;
    }
}

/// What reaches ten thousand devices must not become ten thousand writes; the end of the store, or of
/// the inbox's time in memory, is early enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_something_went_to_devices_is_no_reason_to_write() {
    let mut open = Open::new();
    let keys: Vec<InboxKey> = (0..20).map(|n| inbox(&format!("u{n}"))).collect();
    let mut watches = vec![];
    for key in &keys {
        watches.push(open.store.watch(key).await.unwrap());
    }
    let fields = message("to all");
    open.store.append(vec![to_everyone("default", &fields)].into()).await.unwrap();
    for key in &keys {
        open.store.delivered(key, &device("phone"), Seq(0), Seq(1));
        assert!(!open.store.inbox(key).state.lock().needs_work());
        assert!(!open.written(key));
    }
    let id = fields.id.as_str();
    assert!(open.receipt(&keys[0], id).await.unwrap().delivered_at.is_some(), "who asks is told");
    assert!(open.written(&keys[0]) && !open.written(&keys[1]));
    // Nobody is there any more: before it is forgotten it is written.
    drop(watches.remove(1));
    open.store.inbox(&keys[1]).state.lock().used = None;
    let first_written = open.store.inboxes.sweep(IDLE_MAX);
    assert_eq!(first_written.len(), 1);
    assert_eq!(first_written[0].key, keys[1]);
    assert!(open.store.inboxes.sweep(IDLE_MAX).is_empty(), "once");
    open.store.workers[first_written[0].worker]
        .mark_dirty(std::time::Instant::now(), &mut { first_written });
    drop(watches);
    open.reopen().await;
    for key in &keys {
        assert!(open.written(key));
        let receipt = open.receipt(key, id).await.unwrap();
        assert_eq!(receipt.devices.len(), 1, "{key:?}");
        assert!(receipt.delivered_at.is_some() && receipt.acked_at.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_nonsense_is_not_noted() {
    let open = Open::new();
    let ann = inbox("ann");
    let phone = device("phone");
    open.store.delivered(&ann, &phone, Seq(0), Seq(9));
    assert!(open.store.inboxes.find(&ann).is_none(), "nobody watches it");
    let _watch = open.store.watch(&ann).await.unwrap();
    for (from, to) in [(0, 0), (0, 5), (5, 3), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        open.store.delivered(&ann, &phone, Seq(from), Seq(to));
        open.store.ack(&ann, &phone, Seq(to));
    }
    assert!(open.store.inbox(&ann).state.lock().notes.is_none(), "there is nothing yet");
    let fields = message("x");
    open.store.append(vec![outgoing(&[&ann], &fields)].into()).await.unwrap();
    open.store.delivered(&ann, &phone, Seq(0), Seq(u64::MAX));
    let marked = open.store.mark(&ann, None, Mark::Read, MarkTarget::UpTo(Seq(9))).await.unwrap();
    assert_eq!(marked.head.seq, Seq(2));
    let receipt = open.receipt(&ann, fields.id.as_str()).await.unwrap();
    assert!(receipt.delivered_at.is_some() && receipt.read_at.is_some());
    assert_eq!(open.store.get(&ann, &fields.id).await.unwrap().state.status, Status::Read);
}
