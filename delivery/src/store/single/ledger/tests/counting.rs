//! Statistics.

use super::*;

fn happening(user: &str, body: &Arc<Body>, at: Time, what: Happened) -> Happening {
    Happening {
        inbox: InboxKey::new(TenantId::default(), user.parse().unwrap()),
        message_seq: Seq(1),
        seq: Seq(2),
        body: Arc::clone(body),
        what,
        at,
        device: Some(DeviceId::new("phone").unwrap()),
    }
}

#[test]
fn what_happens_is_counted_once_for_each_recipient() {
    let mut bench = Bench::new(None);
    let body = Arc::new(Body::new(&message(bench.now())));
    let at = |millis: i64| Time::from_millis(bench.now().millis() + millis);
    let read = |user, millis| happening(user, &body, at(millis), Happened::Read);
    let delivered = |user, first| happening(user, &body, at(1), Happened::Delivered { first });
    let other = |what| happening("ann", &body, at(9), what);
    bench
        .ledger
        .happened(&[
            delivered("ann", true),
            delivered("ann", false),
            delivered("bob", true),
            other(Happened::Acked { first: true }),
            other(Happened::Archived),
            read("ann", 1_000),
            // Read a moment before it was sent, by a clock that was set back.
            read("bob", -5),
        ])
        .unwrap();
    bench.ledger.happened(&[other(Happened::Unread), read("ann", 9_000)]).unwrap();
    let row = |delivered, read, read_ms| {
        [("text".to_owned(), String::new(), 0, delivered, read, read_ms)]
    };
    assert_eq!(bench.stats(), row(2, 2, 1_000));
    // Also after a restart, and not forgotten by reading it again.
    let folder = bench._folder;
    drop((bench.file, bench.ledger));
    let (ledger, file) = open(folder.path(), &SingleConfig::default());
    let read = happening("ann", &body, body.facts().created_at.unwrap(), Happened::Read);
    ledger.happened(&[read.clone(), read]).unwrap();
    let mut bench = Bench { _folder: folder, ledger, file, now: Arc::default(), lsn: 0 };
    assert_eq!(bench.stats(), row(2, 2, 1_000));
    let read = happening("eve", &body, body.facts().created_at.unwrap(), Happened::Read);
    bench.ledger.happened(&[read]).unwrap();
    assert_eq!(bench.stats(), row(2, 3, 1_000));
}

#[derive(Default)]
struct Watching {
    idle: AtomicBool,
    failing: AtomicBool,
    told: AtomicUsize,
}

impl Witness for Watching {
    fn wants(&self) -> bool {
        !self.idle.load(Ordering::SeqCst)
    }

    fn happened(
        &self,
        happenings: &[Happening],
    ) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        self.told.fetch_add(happenings.len(), Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return Err(Arc::new(std::io::Error::other("no room")));
        }
        Ok(())
    }
}

#[test]
fn a_witness_is_told_first_and_may_refuse() {
    let witness = Arc::new(Watching::default());
    let mut bench = Bench::new(Some(witness.clone()));
    let body = Arc::new(Body::new(&message(bench.now())));
    let read = [happening("ann", &body, bench.now(), Happened::Read)];
    witness.failing.store(true, Ordering::SeqCst);
    assert!(bench.ledger.happened(&read).is_err());
    assert_eq!(bench.stats().len(), 0, "it will be told again");
    witness.failing.store(false, Ordering::SeqCst);
    bench.ledger.happened(&read).unwrap();
    witness.idle.store(true, Ordering::SeqCst);
    bench.ledger.happened(&[happening("bob", &body, bench.now(), Happened::Read)]).unwrap();
    assert_eq!(witness.told.load(Ordering::SeqCst), 2);
    assert_eq!(bench.stats()[0].4, 2);
}

#[test]
fn words_of_the_senders_choice_fill_no_disk() {
    let mut bench = Bench::new(None);
    let count = 3 * 4_096;
    for n in 0..count {
        let mut fields = message(bench.now());
        fields.message_type = format!("type-{n:05}");
        bench.send(&fields, None);
    }
    let rows = bench.stats();
    assert_eq!(rows.iter().map(|row| row.2).sum::<i64>(), count);
    assert_eq!(rows.len(), 4_096 + 1);
    assert_eq!((rows[0].0.as_str(), rows[0].2), ("(other)", count - 4_096));
    // Those that are there are still counted apart, and after a look at the file as well.
    for _ in 0..2 {
        let mut known = message(bench.now());
        known.message_type = rows[1].0.clone();
        bench.send(&known, None);
        known.message_type = "one more".to_owned();
        bench.send(&known, None);
        bench.flush().unwrap();
        bench.file.forget_rows();
    }
    let rows = bench.stats();
    assert_eq!((rows[0].2, rows[1].2, rows.len()), (count - 4_096 + 2, 3, 4_096 + 1));
}

#[tokio::test]
async fn statistics_have_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let config = SingleConfig {
        root: folder.path().join("storage"),
        flush_interval: Duration::from_hours(1),
        ..SingleConfig::default()
    };
    let store = SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).unwrap();
    let mut fields = message(crate::clock::now());
    fields.channel_id = Some("news".parse().unwrap());
    let body = Arc::new(Body::new(&fields));
    let read_at = Time::from_millis(fields.created_at.millis() + 1_500);
    store
        .ledger
        .happened(&[
            happening("ann", &body, read_at, Happened::Delivered { first: true }),
            happening("ann", &body, read_at, Happened::Read),
        ])
        .unwrap();
    let query = |tenant: Option<&str>| StatsQuery {
        tenant: tenant.map(|tenant| tenant.parse().unwrap()),
        from: Time::from_millis(fields.created_at.millis() - DAY),
        to: Time::from_millis(fields.created_at.millis() + DAY),
        by: StatsBy::Channel,
        service: None,
    };
    let expected =
        [StatsRow { key: Some("news".to_owned()), sent: 0, delivered: 1, read: 1, read_ms: 1_500 }];
    assert_eq!(store.stats(query(None)).await.unwrap(), expected);
    assert_eq!(store.stats(query(Some("default"))).await.unwrap(), expected);
    assert_eq!(store.stats(query(Some("other"))).await.unwrap(), []);
    store.close().await;
}
