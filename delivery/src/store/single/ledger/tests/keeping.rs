//! What is kept, and for how long.

use super::*;

#[test]
fn what_was_kept_long_enough_goes_in_small_steps() {
    let mut bench = Bench::new(None);
    let begin = bench.now();
    let mut old: Vec<MessageId> = Vec::new();
    for _ in 0..2_500 {
        let fields = message(begin);
        bench.send(&fields, None);
        old.push(fields.id);
    }
    let text = MessageFields { id: "an id of its own".parse().unwrap(), ..message(begin) };
    bench.send(&text, None);
    old.push(text.id.clone());
    // Accepted long ago, sent much later.
    let late = message(begin);
    let record = MessageRecord {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience: Arc::new(Audience::Everyone),
        body: Arc::new(Body::new(&late)),
        at: begin,
        scheduled_at: Some(Time::from_millis(begin.millis() + 100 * DAY)),
    };
    bench.lsn += 1;
    bench.ledger.scheduled(bench.lsn, Arc::new(record));
    for n in 0..1_500 {
        bench.lsn += 1;
        let answer = StoredAnswer {
            tenant: TenantId::default(),
            sender: SenderKey::Admin,
            key: n.to_string(),
            fingerprint: [0; 32],
            data: "{}".to_owned(),
            at: begin,
        };
        bench.ledger.answered(bench.lsn, Arc::new(answer));
    }
    bench.flush().unwrap();
    let prune = |bench: &mut Bench| {
        let mut steps = 1;
        while bench.file.prune().unwrap() {
            steps += 1;
        }
        steps
    };
    let count = |bench: &mut Bench, table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        bench.file.query(|db| db.query_row(&sql, [], |row| row.get(0))).unwrap()
    };
    assert_eq!(prune(&mut bench), 1);
    assert_eq!(count(&mut bench, "answers"), 1_500);
    bench.now.fetch_add(2 * DAY, Ordering::SeqCst);
    assert_eq!(prune(&mut bench), 2);
    assert_eq!((count(&mut bench, "answers"), count(&mut bench, "sent")), (0, 2_502));
    bench.now.fetch_add(89 * DAY, Ordering::SeqCst);
    let young = message(bench.now());
    bench.send(&young, None);
    bench.flush().unwrap();
    assert_eq!(prune(&mut bench), 3);
    assert!(old.iter().all(|id| bench.state(id).is_none()));
    assert_eq!(bench.state(&young.id), Some(SentState::Sent));
    assert_eq!(bench.state(&late.id), Some(SentState::Scheduled));
    bench.now.fetch_add(9 * DAY, Ordering::SeqCst);
    bench.send(&late, Some(bench.now()));
    bench.flush().unwrap();
    bench.now.fetch_add(89 * DAY, Ordering::SeqCst);
    prune(&mut bench);
    assert_eq!(bench.state(&young.id), None);
    assert_eq!(bench.state(&late.id), Some(SentState::Sent), "it was sent 89 days ago");
    assert_eq!(count(&mut bench, "stats"), 2);
    bench.now.fetch_add(400 * DAY, Ordering::SeqCst);
    prune(&mut bench);
    assert_eq!((count(&mut bench, "stats"), count(&mut bench, "sent")), (0, 0));
}

/// A trigger that lets a draft pass, and nobody who would keep what he writes.
const REFUSE: &str = "CREATE TRIGGER refuse BEFORE UPDATE ON ledger
     WHEN (SELECT cache_spill FROM pragma_cache_spill) <> 0
     BEGIN SELECT RAISE(ABORT, 'no room'); END;";

#[test]
fn reads_stay_while_the_file_cannot_be_written() {
    let mut bench = Bench::new(None);
    let one = message(bench.now());
    bench.send(&one, None);
    bench.flush().unwrap();
    assert_eq!(bench.ledger.needed(), None);
    let admin = schema::open(&bench.ledger.path).unwrap();
    admin.execute_batch(REFUSE).unwrap();
    let two = message(bench.now());
    let second = bench.send(&two, None);
    bench.ledger.cancelled(second + 1, TenantId::default(), two.id.clone());
    for _ in 0..2 {
        assert!(matches!(bench.flush(), Err(StoreError::NotWritable(_))));
        assert_eq!(bench.state(&one.id), Some(SentState::Sent));
        assert_eq!(bench.state(&two.id), Some(SentState::Sent));
        assert_eq!(bench.ledger.needed(), Some(second), "the journal must keep it");
    }
    assert_eq!(bench.ledger.queue.lock().count(), 2);
    admin.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(bench.state(&two.id), Some(SentState::Sent));
    assert_eq!(bench.ledger.needed(), None);
    assert_eq!(bench.ledger.queue.lock().count(), 0);
    assert_eq!(bench.ledger.queue.lock().bytes(), 0);
    assert_eq!(bench.stats()[0].2, 2, "each is counted once");
}

#[test]
fn a_replay_changes_nothing() {
    let mut bench = Bench::new(None);
    let fields = message(bench.now());
    bench.send(&fields, None);
    bench.flush().unwrap();
    let before = bench.stats();
    // In the same process, as after a transaction of which nobody knows whether it was written.
    bench.lsn = 0;
    bench.send(&fields, None);
    assert_eq!(bench.stats(), before);
    let folder = bench._folder;
    drop((bench.file, bench.ledger));
    let (ledger, file) = open(folder.path(), &SingleConfig::default());
    let mut bench = Bench { _folder: folder, ledger, file, now: Arc::default(), lsn: 0 };
    bench.send(&fields, None);
    assert_eq!(bench.ledger.queue.lock().count(), 0, "known at once");
    assert_eq!(bench.stats(), before);
}

/// Names of counters and what they stand at.
#[derive(Default)]
struct Counters(SyncMutex<Vec<(String, Arc<std::sync::atomic::AtomicU64>)>>);

impl ::metrics::Recorder for Counters {
    fn describe_counter(
        &self,
        _: ::metrics::KeyName,
        _: Option<::metrics::Unit>,
        _: ::metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: ::metrics::KeyName,
        _: Option<::metrics::Unit>,
        _: ::metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: ::metrics::KeyName,
        _: Option<::metrics::Unit>,
        _: ::metrics::SharedString,
    ) {
    }
    fn register_counter(
        &self,
        key: &::metrics::Key,
        _: &::metrics::Metadata<'_>,
    ) -> ::metrics::Counter {
        let cell = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let labels: Vec<&str> = key.labels().map(::metrics::Label::value).collect();
        self.0.lock().push((format!("{} {}", key.name(), labels.join(" ")), Arc::clone(&cell)));
        ::metrics::Counter::from_arc(cell)
    }
    fn register_gauge(&self, _: &::metrics::Key, _: &::metrics::Metadata<'_>) -> ::metrics::Gauge {
        ::metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        _: &::metrics::Key,
        _: &::metrics::Metadata<'_>,
    ) -> ::metrics::Histogram {
        ::metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn too_much_waiting_is_busy_and_the_journal_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let counters = Counters::default();
    let config = SingleConfig { root: folder.path().join("storage"), ..SingleConfig::default() };
    let store = SingleStore::open(&config, Arc::new(Nobody), &counters).unwrap();
    let send = async || {
        let item = Outgoing {
            tenant: TenantId::default(),
            sender: SenderKey::Admin,
            audience: Audience::users(vec![UserId::new("ann").unwrap()]),
            body: Arc::new(Body::new(&message(crate::clock::now()))),
            scheduled_at: None,
        };
        let id = item.body.id().clone();
        store.append(vec![item].into()).await.map(|()| id)
    };
    // The thread is at a question that takes its time.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let asked = store.ledger.put(move |_| Ok(wait.recv())).unwrap();
    let id = send().await.unwrap();
    assert!(store.ledger.needed().is_some());
    store.ledger.bytes.store(QUEUE_BYTES_MAX + 1, Ordering::SeqCst);
    assert!(matches!(send().await, Err(StoreError::Busy(_))));
    let busy = {
        let counters = counters.0.lock();
        let of = counters.iter().find(|(key, _)| key == "pushhub_store_busy_total ledger");
        of.unwrap().1.load(Ordering::SeqCst)
    };
    assert_eq!(busy, 1);
    release.send(()).unwrap();
    let _ = asked.await.unwrap();
    let sent = store.sent(&TenantId::default(), &id).await.unwrap().unwrap();
    assert_eq!(sent.state, SentState::Sent);
    assert_eq!(store.ledger.needed(), None);
    send().await.unwrap();
    store.close().await;
}
