//! How much is durable in the journal and waits for the users' files.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use parking_lot::Mutex;

use super::{inbox::TailEntry, metrics::StoreMetrics};

/// What waits for the files, over all inboxes.
pub(super) struct Lag {
    records: AtomicI64,
    bytes: AtomicI64,
    /// Held while the gauges are set, so that the last one to set them has read last.
    shown: Mutex<Arc<StoreMetrics>>,
}

impl Lag {
    pub(super) fn new(metrics: Arc<StoreMetrics>) -> Self {
        Self { records: AtomicI64::new(0), bytes: AtomicI64::new(0), shown: Mutex::new(metrics) }
    }

    /// Brings the gauges up to date; after each batch of changes, not after each change.
    pub(super) fn show(&self) {
        let metrics = self.shown.lock();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        {
            metrics.lag_records.set(self.records() as f64);
            metrics.lag_bytes.set(self.bytes() as f64);
        }
    }

    pub(super) fn add(&self, entry: &TailEntry) {
        self.change(entry, 1);
    }

    pub(super) fn remove(&self, entries: &[TailEntry]) {
        for entry in entries {
            self.change(entry, -1);
        }
    }

    fn change(&self, entry: &TailEntry, sign: i64) {
        // What is lazy waits for nobody and has its own limit, `LAZY_MAX` for each inbox.
        if entry.lazy() {
            return;
        }
        self.records.fetch_add(sign, Ordering::Relaxed);
        self.bytes.fetch_add(sign * i64::from(entry.weight), Ordering::Relaxed);
    }

    pub(super) fn records(&self) -> i64 {
        self.records.load(Ordering::Relaxed).max(0)
    }

    pub(super) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed).max(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicU64, time::Duration};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
    use protocol::{Body, MessageFields, TenantId, UserId};

    use super::*;
    use crate::{
        Fanout, InboxKey, Store, StoreError,
        store::{
            Audience, ListQuery, Outgoing, SenderKey, Stored,
            single::{LAG_BYTES_MAX, SingleConfig, SingleStore},
        },
    };

    /// Gauges by name, counters by name and labels.
    #[derive(Default)]
    struct Gauges(Mutex<HashMap<String, Arc<AtomicU64>>>);

    impl Gauges {
        fn cell(&self, name: &str) -> Arc<AtomicU64> {
            Arc::clone(self.0.lock().entry(name.to_owned()).or_default())
        }

        fn lag(&self) -> (f64, f64) {
            let value = |name: &str| f64::from_bits(self.cell(name).load(Ordering::Relaxed));
            (value("pushhub_store_lag_records"), value("pushhub_store_lag_bytes"))
        }
    }

    impl metrics::Recorder for Gauges {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
            Counter::from_arc(self.cell(&format!("{} {}", key.name(), labels.join(" "))))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key.name()))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    struct Nobody;

    impl Fanout for Nobody {
        fn publish(&self, _: &[Stored]) {}
    }

    fn open(folder: &tempfile::TempDir, gauges: &Gauges) -> Arc<SingleStore> {
        let config = SingleConfig {
            root: folder.path().join("storage"),
            flush_interval: Duration::from_hours(1),
            ..SingleConfig::default()
        };
        SingleStore::open(&config, Arc::new(Nobody), gauges).unwrap()
    }

    fn outgoing(n: u32, users: &[UserId]) -> Outgoing {
        let fields = MessageFields {
            id: format!("m{n}").parse().unwrap(),
            channel_id: None,
            title: "title".to_owned(),
            content: "content".to_owned(),
            message_type: "text".to_owned(),
            priority: 5,
            sender: "sender".to_owned(),
            sender_info: None,
            on_behalf_of: None,
            template_id: None,
            created_at: crate::clock::now(),
            edited_at: None,
            expire_at: None,
            collapse_key: None,
            metadata: serde_json::Map::new(),
            attachments: vec![],
            actions: vec![],
        };
        Outgoing {
            tenant: TenantId::default(),
            sender: SenderKey::Admin,
            audience: Audience::users(users.to_vec()),
            body: Arc::new(Body::new(&fields)),
            scheduled_at: None,
        }
    }

    #[tokio::test]
    async fn the_gauges_are_right_whenever_an_answer_comes() {
        let folder = tempfile::tempdir().unwrap();
        let gauges = Gauges::default();
        let store = open(&folder, &gauges);
        let users: Vec<UserId> = (0..3).map(|n| format!("u{n}").parse().unwrap()).collect();
        for n in 1..=20 {
            store.append(vec![outgoing(n, &users)].into()).await.unwrap();
            assert_eq!(gauges.lag().0, 3.0);
            for (left, user) in (0..3).rev().zip(&users) {
                let key = InboxKey::new(TenantId::default(), user.clone());
                store.list(&key, ListQuery::default()).await.unwrap();
                let (records, bytes) = gauges.lag();
                assert_eq!((records, bytes > 0.0), (f64::from(left), left > 0));
            }
        }
        store.close().await;
    }

    #[tokio::test]
    async fn more_than_may_wait_for_the_files_is_busy_until_they_follow() {
        let folder = tempfile::tempdir().unwrap();
        let gauges = Gauges::default();
        let store = open(&folder, &gauges);
        let busy = || gauges.cell("pushhub_store_busy_total lag").load(Ordering::Relaxed);
        let ann: UserId = "ann".parse().unwrap();
        // As if other inboxes held all that may wait.
        store.lag.bytes.fetch_add(LAG_BYTES_MAX, Ordering::Relaxed);
        store.append(vec![outgoing(1, std::slice::from_ref(&ann))].into()).await.unwrap();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        let max = LAG_BYTES_MAX as f64;
        assert!(gauges.lag().1 > max);
        for refused in 1..=3 {
            let sent = store.append(vec![outgoing(2, std::slice::from_ref(&ann))].into()).await;
            assert!(matches!(sent, Err(StoreError::Busy(_))));
            assert_eq!(busy(), refused);
        }
        let key = InboxKey::new(TenantId::default(), ann.clone());
        assert_eq!(store.list(&key, ListQuery::default()).await.unwrap().total, 1);
        assert_eq!(gauges.lag().1, max);
        store.append(vec![outgoing(2, &[ann])].into()).await.unwrap();
        assert_eq!(store.list(&key, ListQuery::default()).await.unwrap().total, 2);
        assert_eq!(busy(), 3);
        store.close().await;
    }
}
