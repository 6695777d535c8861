//! The ledger by itself; what the store promises of it is in the contract's suite.

mod counting;
mod keeping;

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicUsize},
    time::Duration,
};

use ::metrics::NoopRecorder;
use parking_lot::Mutex as SyncMutex;
use protocol::{Body, DeviceId, MessageFields, MessageId, Seq, Time, UserId};

use super::*;
use crate::{
    Fanout, InboxKey, Store,
    clock::WallClock,
    store::{
        Audience, Happened, Keeping, Ledger as _, Outgoing, SentState, StatsBy, StatsQuery,
        StatsRow, Stored, single::SingleStore,
    },
};

const DAY: i64 = 24 * 3_600_000;

/// A ledger without its threads.
struct Bench {
    _folder: tempfile::TempDir,
    ledger: Arc<Ledger>,
    file: LedgerFile,
    now: Arc<AtomicI64>,
    lsn: Lsn,
}

impl Bench {
    fn new(witness: Option<Arc<dyn Witness>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(1_760_000_000_000));
        let shown = Arc::clone(&now);
        let clock = WallClock::new(move || Time::from_millis(shown.load(Ordering::SeqCst)));
        let config = SingleConfig { clock, witness, ..SingleConfig::default() };
        let (ledger, file) = open(folder.path(), &config);
        Self { _folder: folder, ledger, file, now, lsn: 0 }
    }

    fn now(&self) -> Time {
        self.ledger.clock.now()
    }

    /// Everything that was handed over is in the file.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.ledger.queue.lock().take(&mut self.file.pending);
        self.file.flush()
    }

    fn send(&mut self, fields: &MessageFields, scheduled_at: Option<Time>) -> Lsn {
        self.lsn += 1;
        let record = MessageRecord {
            tenant: TenantId::default(),
            sender: SenderKey::Admin,
            audience: Arc::new(Audience::users(vec![UserId::new("ann").unwrap()])),
            body: Arc::new(Body::new(fields)),
            at: self.now(),
            scheduled_at,
        };
        self.ledger.sent(self.lsn, Arc::new(record));
        self.lsn
    }

    fn state(&mut self, id: &MessageId) -> Option<SentState> {
        self.ledger.queue.lock().take(&mut self.file.pending);
        let found = self.file.query(|db| read::sent(db, &TenantId::default(), id)).unwrap();
        found.map(|row| row.message.state)
    }

    fn stats(&mut self) -> Vec<(String, String, i64, i64, i64, i64)> {
        self.flush().unwrap();
        let rows = self.file.query(|db| {
            let mut select = db.prepare(
                "SELECT message_type, channel, sent, delivered, read, read_ms FROM stats
                 ORDER BY message_type",
            )?;
            let rows = select.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })?;
            rows.collect()
        });
        rows.unwrap()
    }
}

fn open(folder: &Path, config: &SingleConfig) -> (Arc<Ledger>, LedgerFile) {
    let metrics = Arc::new(LedgerMetrics::new(&NoopRecorder));
    let store_metrics = Arc::new(StoreMetrics::new(&NoopRecorder));
    let keeping = Arc::new(Keeping::new(config.retention, config.sent_kept, None));
    let path = folder.join("ledger.db");
    let (ledger, start) = Ledger::open(&path, config, &keeping, metrics, store_metrics).unwrap();
    (ledger, start.file)
}

fn id_at(millis: i64) -> MessageId {
    let seconds = u64::try_from(millis / 1_000).unwrap();
    let nanos = u32::try_from(millis % 1_000).unwrap() * 1_000_000;
    let time = uuid::Timestamp::from_unix_time(seconds, nanos, 0, 0);
    MessageId::new(format!("msg-{}", uuid::Uuid::new_v7(time).simple())).unwrap()
}

fn message(now: Time) -> MessageFields {
    MessageFields {
        id: id_at(now.millis()),
        channel_id: None,
        title: "title".to_owned(),
        content: "content".to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: now,
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }
}

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}
