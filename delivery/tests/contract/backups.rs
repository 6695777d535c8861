//! Backups: the same of every store, of one moment, and of nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use delivery::{
    InboxKey,
    backup::{Area, AreaConfig, BackupError, Key, Kind, Opened, Outer, Since, Wanted},
    store::{Mark, MarkTarget},
};
use protocol::{DeviceId, Seq, Time};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    Backend,
    fixture::{Fixture, inbox, message},
};

struct Folder {
    folder: TempDir,
    area: Arc<Area>,
}

impl Folder {
    fn new(bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("area");
        let area = Area::new(
            AreaConfig { path, bytes_max, content: Arc::default() },
            &metrics::NoopRecorder,
        );
        Self { folder, area }
    }

    async fn bytes<B: Backend>(
        &self,
        fixture: &Fixture<B>,
        key: &InboxKey,
        wanted: Wanted,
        outer: &Outer,
    ) -> Result<Vec<u8>, BackupError> {
        let place = self.area.begin(key)?;
        let made = place.make(&*fixture.store, wanted).await?;
        let mut bytes = Vec::new();
        made.write(outer, &mut bytes)?;
        Ok(bytes)
    }

    /// A backup as whoever downloaded it has it.
    async fn take<B: Backend>(
        &self,
        fixture: &Fixture<B>,
        key: &InboxKey,
        wanted: Wanted,
    ) -> Taken {
        let bytes = self.bytes(fixture, key, wanted, &Outer::default()).await.unwrap();
        let path = self.folder.path().join(format!("{}.db", uuid::Uuid::now_v7()));
        std::fs::write(&path, bytes).unwrap();
        let opened = Opened::open(&path, None, self.folder.path()).unwrap();
        Taken { db: Connection::open(&path).unwrap(), opened }
    }
}

struct Taken {
    db: Connection,
    opened: Opened,
}

impl Taken {
    fn column<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        let mut select = self.db.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

pub(crate) async fn a_backup_has_all_of_an_inbox_and_nothing_of_others<B: Backend>(backend: B) {
    let mut fixture = Fixture::new(backend).await;
    let (ann, eve) = (inbox("ann"), inbox("eve"));
    let first = fixture.send(&[&ann], "first").await;
    fixture.send(&[&ann, &eve], "second").await;
    fixture.send(&[&eve], "of eve only").await;
    fixture.mark_one(&ann, Mark::Read, &first).await.unwrap();
    let device = DeviceId::new("phone").unwrap();
    fixture.store.delivered(&ann, &device, Seq(1), Seq(3));
    fixture.store.ack(&ann, &device, Seq(3));
    fixture.reopen().await;
    let folder = Folder::new(1 << 30);
    let taken = folder.take(&fixture, &ann, Wanted::Full).await;
    let line = taken.opened.line();
    assert_eq!((line.kind, &line.inbox, line.head), (Kind::Full, &ann, Seq(3)));
    assert_eq!((line.since, line.min_seq, line.acked), (Seq(0), Seq(0), Seq(3)));
    assert_eq!(taken.opened.counts()[..2], [2, 1]);
    let titles: Vec<String> = taken.column("SELECT title FROM messages ORDER BY seq");
    assert_eq!(titles, ["first", "second"]);
    let statuses: Vec<String> = taken.column("SELECT status FROM messages ORDER BY seq");
    assert_eq!(statuses, ["read", "unread"]);
    let read_at: Vec<Option<i64>> = taken.column("SELECT read_at FROM read_status");
    assert!(matches!(read_at[..], [Some(_)]), "{read_at:?}");
    let devices: Vec<String> = taken.column("SELECT device_id FROM device WHERE seq = 3");
    assert_eq!(devices, ["phone"]);

    // Only what they say.
    let taken = folder.take(&fixture, &ann, Wanted::Messages).await;
    assert_eq!(taken.opened.counts(), [2, 0, 0, 0]);
    assert_eq!(taken.column::<i64>("SELECT sum(status) FROM message"), [0]);

    // One that nobody has heard of.
    let taken = folder.take(&fixture, &inbox("nobody"), Wanted::Full).await;
    assert_eq!((taken.opened.line().head, taken.opened.counts()), (Seq(0), [0; 4]));
}

pub(crate) async fn an_incremental_backup_has_what_changed<B: Backend>(backend: B) {
    let fixture = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 0..6 {
        let fields = protocol::MessageFields {
            collapse_key: (n == 1).then(|| "k".to_owned()),
            ..message(&format!("m{n}"))
        };
        ids.push(fixture.send_as(&[&ann], &fields).await);
    }
    // 7: the first is read; 8: takes the place of the second; 9: one in all.
    fixture.mark_one(&ann, Mark::Read, &ids[0]).await.unwrap();
    let newer = protocol::MessageFields { collapse_key: Some("k".to_owned()), ..message("newer") };
    fixture.send_as(&[&ann], &newer).await;
    fixture.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(3))).await;
    let folder = Folder::new(1 << 30);
    let seqs = |taken: &Taken| taken.column::<i64>("SELECT seq FROM message ORDER BY seq");
    let since = async |seq: u64| {
        folder.take(&fixture, &ann, Wanted::Incremental(Since::Seq(Seq(seq)))).await
    };
    let head = fixture.store.head(&ann).await.unwrap().seq;
    let taken = since(6).await;
    assert_eq!(taken.opened.line().since, Seq(6));
    assert_eq!((taken.opened.line().head, seqs(&taken)), (head, vec![1, 2, 3, 8]));
    let taken = since(7).await;
    assert_eq!(seqs(&taken), [2, 3, 8]);
    assert_eq!(taken.column::<i64>("SELECT min(seq) FROM changes"), [9]);
    assert_eq!(seqs(&since(8).await), [3]);
    assert_eq!(seqs(&since(head.0).await), Vec::<i64>::new());
    assert_eq!(seqs(&since(0).await), [1, 2, 3, 4, 5, 6, 8]);
    let ahead = Wanted::Incremental(Since::Seq(head.next()));
    let refused = folder.bytes(&fixture, &ann, ahead, &Outer::default()).await;
    assert!(matches!(refused, Err(BackupError::Since { .. })), "{refused:?}");
    // By time: everything since before the first, nothing of the future.
    let by_time = async |millis: i64| {
        let wanted = Wanted::Incremental(Since::Time(Time::from_millis(millis)));
        folder.take(&fixture, &ann, wanted).await.opened.line().since
    };
    assert_eq!(by_time(0).await, Seq(0));
    assert_eq!(by_time(Time::MAX.millis()).await, head);
    let at: i64 = since(0).await.column("SELECT stored_at FROM message WHERE seq = 8")[0];
    let found = by_time(at).await;
    assert!(found < Seq(8), "{found:?}");
}

pub(crate) async fn a_backup_under_load_is_a_prefix<B: Backend>(backend: B) {
    let fixture = Arc::new(Fixture::new(backend).await);
    let ann = inbox("ann");
    let done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (fixture, ann, done) = (Arc::clone(&fixture), ann.clone(), Arc::clone(&done));
            async move {
                let mut n = 0;
                while !done.load(Ordering::Relaxed) && n < 5_000 {
                    let id = fixture.send(&[&ann], &format!("{sender}-{n}")).await;
                    if n % 3 == 0 {
                        fixture.mark_one(&ann, Mark::Read, &id).await.unwrap();
                    }
                    n += 1;
                }
            }
        })
        .collect();
    let backups = async {
        let folder = Folder::new(1 << 30);
        let mut last = 0;
        for _ in 0..5 {
            let before = fixture.store.head(&ann).await.unwrap().seq.0;
            let taken = folder.take(&fixture, &ann, Wanted::Full).await;
            let head = taken.opened.line().head.0;
            assert!(head >= before && head >= last, "{head} after {before} and {last}");
            last = head;
            // Every seq up to the head has one row, and none is beyond.
            let places = "SELECT seq FROM message UNION ALL SELECT seq FROM changes ORDER BY 1";
            let seqs: Vec<i64> = taken.column(places);
            assert!(seqs.iter().copied().eq(1..=head.cast_signed()), "{} of {head}", seqs.len());
            // And each message is what its changes made of it.
            let wrong: Vec<i64> = taken.column(
                "SELECT m.seq FROM message AS m WHERE m.status <> EXISTS
                    (SELECT 1 FROM changes AS c WHERE c.message_seq = m.seq)",
            );
            assert_eq!(wrong, Vec::<i64>::new());
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(senders), backups);
}

pub(crate) async fn what_has_no_room_is_refused<B: Backend>(backend: B) {
    let fixture = Fixture::new(backend).await;
    let ann = inbox("ann");
    let large = protocol::MessageFields { content: "x".repeat(60_000), ..message("large") };
    for _ in 0..4 {
        let fields = protocol::MessageFields { id: message("x").id.clone(), ..large.clone() };
        fixture.send_as(&[&ann], &fields).await;
    }
    let folder = Folder::new(100_000);
    let refused = folder.bytes(&fixture, &ann, Wanted::Full, &Outer::default()).await;
    assert!(matches!(refused, Err(BackupError::TooLarge(100_000))), "{refused:?}");
    // Nothing of it is left, and its place is free again.
    let left = std::fs::read_dir(folder.folder.path().join("area/.making")).unwrap().count();
    assert_eq!(left, 0);
    let held = folder.area.begin(&ann).unwrap();
    assert!(matches!(folder.area.begin(&ann), Err(BackupError::Running)));
    drop(held);
    folder.bytes(&fixture, &inbox("bob"), Wanted::Full, &Outer::default()).await.unwrap();
}

pub(crate) async fn a_harmed_backup_is_refused<B: Backend>(backend: B) {
    let fixture = Fixture::new(backend).await;
    let ann = inbox("ann");
    fixture.send(&[&ann], "one").await;
    let folder = Folder::new(1 << 30);
    let phrase = "correct horse battery staple".to_owned();
    let key = Key::parse(&phrase.into()).unwrap();
    for (compress, key) in [(false, None), (true, None), (true, Some(key))] {
        let outer = Outer { compress, key: key.clone() };
        let bytes = folder.bytes(&fixture, &ann, Wanted::Full, &outer).await.unwrap();
        let path = folder.folder.path().join("backup");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Opened::open(&path, key.as_ref(), folder.folder.path()).map(drop)
        };
        open(&bytes).unwrap();
        // Passphrases take a while each.
        let step = if key.is_some() { bytes.len() / 12 } else { bytes.len() / 150 };
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut harmed = bytes.clone();
            harmed[at] ^= 1 << (at % 8);
            // Of gzip some bits say nothing: what is opened then has the SHA-256 of what was written.
            let idle = compress && key.is_none();
            assert!(open(&harmed).is_err() || idle, "a bit at {at} of {}", bytes.len());
            assert!(open(&bytes[..at]).is_err(), "cut at {at} of {}", bytes.len());
        }
        if key.is_some() {
            let other = Key::parse(&"another passphrase".to_owned().into()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            for wrong in [None, Some(&other)] {
                assert!(Opened::open(&path, wrong, folder.folder.path()).is_err());
            }
        }
        // Whatever was refused left nothing unpacked.
        let left = std::fs::read_dir(folder.folder.path()).unwrap();
        let left = left.filter(|one| {
            one.as_ref().unwrap().file_name().to_string_lossy().starts_with(".restoring")
        });
        assert_eq!(left.count(), 0);
    }
}
