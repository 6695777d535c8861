use std::{error::Error, fs, path::Path, sync::Arc};

use parking_lot::Mutex;
use protocol::{Body, DeviceId, MessageFields, MessageId, PressedAction, Seq, Status, Time};
use tempfile::TempDir;

use super::{
    super::{
        inbox::{TailEntry, What},
        receipts::{Kind, Note},
        record::{MarkRecord, PressRecord, RewriteRecord},
        schema::Templates,
    },
    Counted, FileError, UserFiles, Writing,
};
use crate::{
    InboxKey,
    store::{Audience, Happened, Happening, ListQuery, Mark, StatusFilter},
};

/// One inbox's files, and what they tell.
struct Bench {
    folder: TempDir,
    templates: Templates,
    key: InboxKey,
    files: UserFiles,
    head: u64,
    lsn: u64,
    told: Mutex<Vec<Happening>>,
    refuse: bool,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::new().unwrap();
        let key = InboxKey::new("default".parse().unwrap(), "ann".parse().unwrap());
        let files = UserFiles::open(folder.path(), &key, &templates, true).unwrap().unwrap();
        let told = Mutex::default();
        Self { folder, templates, key, files, head: 0, lsn: 0, told, refuse: false }
    }

    fn entry(&mut self, what: What) -> TailEntry {
        self.lsn += 1;
        let entry = TailEntry {
            lsn: self.lsn,
            at: at(self.lsn.cast_signed()),
            seq: Seq(self.head + 1),
            accepted: None,
            what,
            to: None,
            weight: 1,
        };
        self.head += entry.seqs();
        entry
    }

    fn message(&mut self, id: &str) -> TailEntry {
        let body = Arc::new(Body::new(&fields(id)));
        self.entry(What::Message(body))
    }

    fn mark(&mut self, mark: Mark, targets: &[(u64, &str)]) -> TailEntry {
        let targets = targets.iter().map(|(seq, id)| (*seq, id.parse().unwrap())).collect();
        self.entry(What::Mark(Arc::new(MarkRecord {
            tenant: self.key.tenant.clone(),
            user: self.key.user.clone(),
            device: Some(device("phone")),
            at: at(100),
            mark,
            targets,
            unread_delta: 0,
        })))
    }

    fn rewrite(&mut self, id: &str, body: Option<&MessageFields>) -> TailEntry {
        self.entry(What::Rewrite(Arc::new(RewriteRecord {
            tenant: self.key.tenant.clone(),
            id: id.parse().unwrap(),
            target: 0,
            audience: Arc::new(Audience::Everyone),
            at: at(200),
            body: body.map(|fields| Arc::new(Body::new(fields))),
        })))
    }

    fn write(&mut self, entries: &[TailEntry], notes: &[Note]) -> Result<Counted, FileError> {
        let witness = |happenings: &[Happening]| -> Result<(), Arc<dyn Error + Send + Sync>> {
            self.told.lock().extend_from_slice(happenings);
            if self.refuse { Err(Arc::new(std::fmt::Error)) } else { Ok(()) }
        };
        let (key, witness) = (&self.key, Some(&witness as _));
        self.files.apply(&Writing { key, entries, since: 7, notes, witness })
    }

    /// What was told since it was last asked: message, kind, device.
    fn told(&self) -> Vec<(u64, Happened)> {
        let told = std::mem::take(&mut *self.told.lock());
        told.into_iter()
            .map(|happening| {
                assert_eq!(happening.inbox, self.key);
                assert_eq!(*happening.body.id(), id(happening.message_seq.0));
                (happening.message_seq.0, happening.what)
            })
            .collect()
    }
}

fn at(millis: i64) -> Time {
    Time::from_millis(1_760_000_000_000 + millis)
}

fn device(id: &str) -> DeviceId {
    id.parse().unwrap()
}

/// The id of the message at a place.
fn id(seq: u64) -> MessageId {
    format!("m{seq}").parse().unwrap()
}

fn fields(id: &str) -> MessageFields {
    MessageFields {
        id: id.parse().unwrap(),
        channel_id: None,
        title: format!("title of {id}"),
        content: "content".to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: at(0),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }
}

fn delivered(by: &str, from: u64, to: u64, millis: i64) -> Note {
    let (device, from, to) = (device(by), Some(Seq(from)), Seq(to));
    Note { kind: Kind::Delivered, device, from, to, at: at(millis) }
}

fn acked(by: &str, from: Option<u64>, to: u64, millis: i64) -> Note {
    let (device, from, to) = (device(by), from.map(Seq), Seq(to));
    Note { kind: Kind::Acked, device, from, to, at: at(millis) }
}

const fn first_delivered(first: bool) -> Happened {
    Happened::Delivered { first }
}

const fn first_acked(first: bool) -> Happened {
    Happened::Acked { first }
}

#[test]
fn marks_and_presses_are_told_with_their_messages() {
    let mut bench = Bench::new();
    let messages: Vec<_> = (1..=3).map(|n| bench.message(&format!("m{n}"))).collect();
    bench.write(&messages, &[]).unwrap();
    assert_eq!(bench.told(), []);
    let press = PressRecord {
        tenant: bench.key.tenant.clone(),
        user: bench.key.user.clone(),
        device: Some(device("phone")),
        at: at(100),
        target: (3, id(3)),
        index: 1,
        action: "go".to_owned(),
        archived: false,
        unread_delta: -1,
    };
    let entries = [
        bench.mark(Mark::Read, &[(1, "m1"), (2, "m2")]), // 4, 5
        bench.entry(What::Press(Arc::new(press))),       // 6
        bench.message("m7"),                             // 7
        bench.mark(Mark::Archive, &[(7, "m7")]),         // 8
        bench.mark(Mark::Unread, &[(1, "m1")]),          // 9
    ];
    let counted = bench.write(&entries, &[]).unwrap();
    assert_eq!((counted.head, counted.unread), (Seq(9), 1));
    let told = bench.told.lock().clone();
    let pressed = PressedAction { index: 1, action: "go".to_owned() };
    let expected = [
        (1, 4, Happened::Read),
        (2, 5, Happened::Read),
        (3, 6, Happened::Read),
        (3, 6, Happened::Pressed(pressed)),
        (7, 8, Happened::Archived),
        (1, 9, Happened::Unread),
    ];
    assert_eq!(told.len(), expected.len());
    for (happening, (message, seq, what)) in told.iter().zip(expected) {
        assert_eq!((happening.message_seq, happening.seq), (Seq(message), Seq(seq)));
        assert_eq!(happening.what, what);
        assert_eq!(happening.body.fields().unwrap(), fields(&format!("m{message}")));
        assert_eq!((happening.device.clone(), happening.at), (Some(device("phone")), at(100)));
    }
    // The file has it: nothing is told again.
    bench.told();
    bench.write(&entries, &[]).unwrap();
    assert_eq!(bench.told(), []);
}

#[test]
fn what_goes_to_devices_is_told_once_for_each() {
    let mut bench = Bench::new();
    let mut past = fields("m2");
    past.expire_at = Some(at(1));
    let entries = [
        bench.message("m1"),
        bench.entry(What::Message(Arc::new(Body::new(&past)))),
        bench.message("m3"),
        bench.mark(Mark::Read, &[(1, "m1")]),
    ];
    // Along with the messages themselves; an expired one did not go out.
    bench.write(&entries, &[delivered("phone", 1, 4, 10)]).unwrap();
    assert_eq!(
        bench.told(),
        [(1, Happened::Read), (1, first_delivered(true)), (3, first_delivered(true))]
    );
    bench.files.settle(at(300)).unwrap();
    let notes = [
        delivered("phone", 1, 4, 20),   // again
        delivered("desktop", 3, 4, 20), // another
        acked("new", None, 4, 20),      // it got nothing
        acked("phone", None, 3, 20),    // what it got
        acked("desktop", Some(2), 4, 20),
    ];
    bench.write(&[], &notes).unwrap();
    assert_eq!(
        bench.told(),
        [
            (3, first_delivered(false)),
            (1, first_acked(true)),
            (3, first_acked(true)),
            (3, first_acked(false)),
        ]
    );
    let more = [bench.message("m5"), bench.message("m6")];
    bench.write(&more, &[delivered("desktop", 2, 5, 30)]).unwrap();
    assert_eq!(bench.told(), [(5, first_delivered(true))], "the hole before it was an expired one");
    bench.write(&[], &[delivered("phone", 5, 6, 40)]).unwrap();
    assert_eq!(bench.told(), [(5, first_delivered(false)), (6, first_delivered(true))]);
}

#[test]
fn long_ranges_are_cut_and_what_follows_soon_is_one_row() {
    let mut bench = Bench::new();
    let messages: Vec<_> = (1..=700).map(|n| bench.message(&format!("m{n}"))).collect();
    bench.write(&messages, &[]).unwrap();
    bench.write(&[], &[delivered("phone", 10, 300, 0)]).unwrap();
    bench.write(&[], &[delivered("phone", 301, 310, 900)]).unwrap();
    bench.write(&[], &[delivered("phone", 311, 311, 2_000)]).unwrap();
    bench.write(&[], &[delivered("phone", 1, 700, 3_000)]).unwrap();
    let told = bench.told();
    assert_eq!(told.len(), 700, "each once");
    // A high-water mark decides: those that came later, below it, had gone to nobody, and count as
    // if they had.
    assert!(told.iter().all(|(seq, what)| *what == first_delivered(*seq >= 10)));
    let mut select =
        bench.files.messages.prepare("SELECT from_seq, to_seq, at FROM receipt").unwrap();
    let rows: Vec<(u64, u64, i64)> = select
        .query_map([], |row| {
            let seq = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            Ok((seq(0)?, seq(1)?, row.get::<_, i64>(2)? - at(0).millis()))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        rows,
        [
            (1, 9, 3_000),
            (10, 255, 0),
            (256, 310, 0),
            (311, 311, 2_000),
            (312, 511, 2_000 + 1_000),
            (512, 700, 3_000),
        ]
    );
    drop(select);
    for (seq, expected) in [(5, 3_000), (10, 0), (255, 0), (256, 0), (311, 2_000), (700, 3_000)] {
        let receipt = bench.files.receipt_of(&bench.templates, &bench.key, &id(seq)).unwrap();
        let receipt = receipt.unwrap();
        assert_eq!(receipt.delivered_at, Some(at(expected)), "{seq}");
        assert_eq!(receipt.devices.len(), 1);
    }
    let pruned = bench.files.prune(256).unwrap();
    assert_eq!((pruned.messages, pruned.counted.min_seq), (256, Seq(256)));
    let left: i64 = bench
        .files
        .messages
        .query_row("SELECT min(from_seq) FROM receipt", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 256);
}

#[test]
fn nothing_is_written_that_cannot_be_told() {
    let mut bench = Bench::new();
    let first = [bench.message("m1")];
    bench.write(&first, &[]).unwrap();
    let entries = [bench.mark(Mark::Read, &[(1, "m1")]), bench.message("m3")];
    let notes = [delivered("phone", 1, 3, 0)];
    bench.refuse = true;
    for _ in 0..2 {
        let refused = bench.write(&entries, &notes);
        assert!(matches!(refused, Err(FileError::Witness(_))), "{refused:?}");
        assert!(!refused.unwrap_err().is_damage());
        let counted = bench.files.counted().unwrap();
        assert_eq!((counted.head, counted.unread), (Seq(1), 1));
    }
    bench.told();
    bench.refuse = false;
    assert_eq!(bench.write(&entries, &notes).unwrap().unread, 1);
    let expected = [(1, Happened::Read), (1, first_delivered(true)), (3, first_delivered(true))];
    assert_eq!(bench.told(), expected);
}

#[test]
fn what_is_taken_back_is_not_in_the_file_any_more() {
    let mut bench = Bench::new();
    let secret = "a very particular secret ".repeat(400);
    let mut told = fields("m1");
    told.content = secret.clone();
    told.metadata.insert("key".to_owned(), secret.clone().into());
    told.channel_id = Some("c1".parse().unwrap());
    let entries = [
        bench.entry(What::Message(Arc::new(Body::new(&told)))),
        bench.message("m2"),
        bench.mark(Mark::Read, &[(1, "m1")]),
    ];
    bench.write(&entries, &[]).unwrap();
    let holds_it = |bench: &Bench| {
        let db = &bench.files.messages;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let bytes = fs::read(bench.folder.path().join("messages.db")).unwrap();
        bytes.windows(10).any(|bytes| bytes == b"particular")
    };
    assert!(holds_it(&bench));
    told.content = "another secret".to_owned();
    let recall = [
        bench.rewrite("m1", None),
        bench.rewrite("m1", Some(&told)),
        // Decided before the recall.
        bench.mark(Mark::Unread, &[(1, "m1")]),
    ];
    let counted = bench.write(&recall, &[]).unwrap();
    assert_eq!((counted.head, counted.unread), (Seq(6), 1));
    assert!(!holds_it(&bench));
    let query = ListQuery {
        status: StatusFilter::Archived,
        recalled: true,
        size: 9,
        ..ListQuery::default()
    };
    let listed = bench.files.list(&bench.templates, &query).unwrap();
    assert_eq!((listed.total, listed.more), (1, false));
    let message = &listed.messages[0];
    assert_eq!((message.state.status, message.state.version), (Status::Recalled, Seq(4)));
    assert!(message.state.read_at.is_some(), "it had been read");
    let left = message.body.fields().unwrap();
    assert_eq!((left.title.as_str(), left.content.as_str(), left.metadata.len()), ("", "", 0));
    let kept = MessageFields {
        title: String::new(),
        content: String::new(),
        metadata: serde_json::Map::new(),
        ..told
    };
    assert_eq!(left, kept);
}

#[test]
fn a_file_of_another_version_is_refused_and_stays() {
    let bench = Bench::new();
    let Bench { folder, templates, key, files, .. } = bench;
    files.messages.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(files);
    let path = folder.path().join("messages.db");
    let refused = |path: &Path| {
        let before = fs::read(path).unwrap();
        for create in [false, true] {
            let opened = UserFiles::open(folder.path(), &key, &templates, create).map(|_| ());
            assert!(matches!(opened, Err(FileError::Version { found: 1, .. })), "{opened:?}");
            assert!(opened.unwrap_err().is_damage());
        }
        assert!(fs::read(path).unwrap() == before);
    };
    refused(&path);
    // Also where fresh files of that version were smaller than ours.
    for name in ["messages.db", "messages.db-wal", "messages.db-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap_or_default();
    }
    let small = rusqlite::Connection::open(&path).unwrap();
    small.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    small.execute_batch("PRAGMA user_version = 1").unwrap();
    small.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    refused(&path);
    // A file that was cut off before its first sync is as good as none.
    drop(small);
    fs::write(&path, vec![0; 5_000]).unwrap();
    assert!(UserFiles::open(folder.path(), &key, &templates, false).unwrap().is_none());
}
