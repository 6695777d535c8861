//! What may happen to the files.

use std::fs;

use super::{super::index::WAL_BYTES_MAX, *};

#[test]
fn messages_that_were_replaced_are_indexed_anew() {
    let place = Place::new();
    place.put(&[(1, "周报", ""), (2, "月报", ""), (3, "年报", "")]);
    assert_eq!(place.seqs("月报"), [2]);
    for (messages, found) in [
        (&[(1, "周报", ""), (2, "日报", "")][..], &[][..]),
        (&[(1, "月报", ""), (2, "晚报", ""), (3, "日报", ""), (4, "月报", "")], &[1, 4]),
    ] {
        Templates::new().unwrap().messages.place(&place.dir()).unwrap();
        place.put(messages);
        assert_eq!(place.seqs("月报"), found);
    }
}

#[test]
fn an_index_that_cannot_be_used_is_made_anew() {
    let place = Place::new();
    place.many(300);
    let whole = (1..=300).collect::<Vec<u64>>();
    assert_eq!(place.seqs("企微"), whole);
    let spoil: [(&str, &dyn Fn()); 6] = [
        ("deleted", &|| fs::remove_file(place.file()).unwrap()),
        ("emptied", &|| fs::write(place.file(), "").unwrap()),
        ("overwritten", &|| fs::write(place.file(), [7; 100_000]).unwrap()),
        ("of another version", &|| {
            let db = rusqlite::Connection::open(place.file()).unwrap();
            db.execute_batch("PRAGMA user_version = 99").unwrap();
        }),
        ("torn inside", &|| {
            let db = rusqlite::Connection::open(place.file()).unwrap();
            db.execute_batch("UPDATE text_data SET block = zeroblob(9) WHERE id > 10").unwrap();
        }),
        ("without its tables", &|| {
            let db = rusqlite::Connection::open(place.file()).unwrap();
            db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            drop(db);
            let mut bytes = fs::read(place.file()).unwrap();
            bytes[4096..].fill(0);
            fs::write(place.file(), bytes).unwrap();
        }),
    ];
    for (how, spoil) in spoil {
        spoil();
        assert_eq!(place.seqs("企微"), whole, "{how}");
        assert_eq!(place.find("企微", ListQuery::default()).1, 1, "{how}: it stays");
    }
}

#[test]
fn damaged_messages_are_no_reason_to_go_on_for_ever() {
    let place = Place::new();
    place.many(300);
    let path = place.dir().join("messages.db");
    place.messages().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..].fill(0x55);
    fs::write(&path, bytes).unwrap();
    let (answer, turns) = place.find("企微", ListQuery::default());
    assert!(matches!(answer, Err(StoreError::Damaged(_))), "{:?}", answer.err());
    assert!(turns <= 3, "{turns}");
}

#[test]
fn the_write_ahead_log_does_not_grow_from_turn_to_turn() {
    let place = Place::new();
    let text = |n: u32| -> String {
        (0..60).filter_map(|at| char::from_u32(0x4e00 + (n * 61 + at * 97) % 20_000)).collect()
    };
    let texts: Vec<String> = (0..3_000).map(text).collect();
    let messages: Vec<_> = (1..).zip(&texts).map(|(seq, text)| (seq, &**text, "")).collect();
    place.put(&messages);
    let wal = || fs::metadata(place.file().with_extension("db-wal")).unwrap().len();
    assert_eq!(place.seqs("没有"), [0_u64; 0]);
    assert!(fs::metadata(place.file()).unwrap().len() > 2 * WAL_BYTES_MAX);
    assert!(wal() <= WAL_BYTES_MAX, "{}", wal());
    for seq in 3_001..3_100 {
        place.put(&[(seq, &texts[0], "")]);
        place.seqs("没有");
        assert!(wal() <= WAL_BYTES_MAX, "{}", wal());
    }
}

#[test]
fn an_index_that_cannot_be_written_refuses_and_comes_back() {
    let place = Place::new();
    place.many(3);
    fs::write(place.dir().join(".sync"), "in the way").unwrap();
    let (answer, _) = place.find("企微", ListQuery::default());
    assert!(matches!(answer, Err(StoreError::NotWritable(_))), "{:?}", answer.err());
    fs::remove_file(place.dir().join(".sync")).unwrap();
    assert_eq!(place.seqs("企微"), [1, 2, 3]);
}

#[test]
fn an_index_that_another_process_reads_is_used_all_the_same() {
    let place = Place::new();
    place.many(3);
    assert_eq!(place.seqs("企微"), [1, 2, 3]);
    let shell = rusqlite::Connection::open(place.file()).unwrap();
    let count = || -> i64 {
        shell
            .query_row("SELECT count(*) FROM text WHERE text MATCH '企微'", [], |r| r.get(0))
            .unwrap()
    };
    assert_eq!(count(), 3);
    place.put(&[(4, "企微", "")]);
    assert_eq!(place.seqs("企微"), [1, 2, 3, 4]);
    assert_eq!(count(), 4);
}
