//! The index against a model, and what it follows.

mod trouble;
mod turns;

use metrics::NoopRecorder;
use proptest::prelude::*;
use protocol::{Body, MessageFields, MessageId, Seq, TenantId, Time, UserId};
use rusqlite::params;
use tempfile::TempDir;

use super::{
    super::{schema::Templates, sql},
    *,
};
use crate::{
    search::model,
    store::{ListPosition, Sort, StatusFilter},
};

/// An inbox's folder, written by hand.
struct Place {
    folder: TempDir,
    searches: Searches,
    key: InboxKey,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(StoreMetrics::new(&NoopRecorder));
        let searches = Searches::new(folder.path().to_owned(), metrics).unwrap();
        let place = Self { folder, searches, key: key("张三 ?#%") };
        Templates::new().unwrap().messages.place(&place.dir()).unwrap();
        place
    }

    fn dir(&self) -> PathBuf {
        layout::inbox_dir(self.folder.path(), &self.key)
    }

    fn file(&self) -> PathBuf {
        self.dir().join(".sync/search.db")
    }

    fn messages(&self) -> rusqlite::Connection {
        sql::open(&self.dir().join("messages.db"), sql::Sync::Off).unwrap()
    }

    fn put(&self, messages: &[(i64, &str, &str)]) {
        let db = self.messages();
        db.execute_batch("BEGIN").unwrap();
        for (seq, title, content) in messages {
            db.execute(
                "INSERT INTO message (seq, version, body_version, status, priority, stored_at,
                                      created_at, message_type, sender, id, body)
                 VALUES (?1, ?1, ?1, 0, 5, 0, 0, 'text', 's', ?2, ?3)",
                params![seq, format!("m{seq}-{title}"), body(title, content)],
            )
            .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }

    fn many(&self, count: i64) {
        let messages: Vec<_> = (1..=count).map(|seq| (seq, "企微", "通知")).collect();
        self.put(&messages);
    }

    fn edit(&self, seq: i64, at: i64, title: &str) {
        self.messages()
            .execute(
                "UPDATE message SET body = ?3, version = ?2, body_version = ?2 WHERE seq = ?1",
                params![seq, at, body(title, "")],
            )
            .unwrap();
    }

    /// Takes turns until there is an answer.
    fn find(&self, words: &str, query: ListQuery) -> (Result<Found, StoreError>, usize) {
        let (answer, mut receive) = oneshot::channel();
        let asked =
            Asked { terms: Terms::parse(words).unwrap(), query, since: Instant::now(), answer };
        let mut search = Search { asked: vec![asked], ..Search::default() };
        let mut turns = 0;
        loop {
            turns += 1;
            self.searches.turn(&self.key, &mut search);
            if let Ok(answer) = receive.try_recv() {
                assert!(!search.behind && search.asked.is_empty());
                return (answer, turns);
            }
            assert!(search.behind);
        }
    }

    fn seqs(&self, words: &str) -> Vec<u64> {
        let query = ListQuery { size: 10_000, sort: Sort::Oldest, ..ListQuery::default() };
        let found = self.find(words, query).0.unwrap();
        assert_eq!(found.total, found.messages.len() as u64);
        assert_eq!(found.highlights.len(), found.messages.len());
        found.messages.iter().map(|message| message.state.seq.0).collect()
    }
}

fn key(user: &str) -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new(user).unwrap())
}

fn body(title: &str, content: &str) -> String {
    let fields = MessageFields {
        id: MessageId::new("m").unwrap(),
        channel_id: None,
        title: title.to_owned(),
        content: content.to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "s".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::from_millis(0),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    };
    String::from_utf8(Body::new(&fields).json()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn it_finds_what_the_model_finds(
        texts in prop::collection::vec((model::text(12), model::text(12)), 1..20),
        queries in prop::collection::vec((model::text(4), any::<bool>()), 20),
    ) {
        let place = Place::new();
        let messages: Vec<_> =
            (1..).zip(&texts).map(|(seq, (title, content))| (seq, &**title, &**content)).collect();
        place.put(&messages);
        for (query, quoted) in queries {
            let typed = if quoted { format!("\"{query}\"") } else { query.clone() };
            if Terms::parse(&typed).is_err() {
                continue;
            }
            let words: Vec<&str> =
                if quoted { vec![&query] } else { query.split(' ').collect() };
            let has = |text: &str, word: &str| model::model(text, word, quoted);
            let expected: Vec<u64> = messages
                .iter()
                .filter(|(_, title, content)| {
                    words.iter().all(|word| has(title, word) || has(content, word))
                })
                .map(|(seq, ..)| seq.cast_unsigned())
                .collect();
            prop_assert_eq!(place.seqs(&typed), expected, "{}", typed);
        }
    }
}

#[test]
fn by_state_and_by_row_find_the_same() {
    let place = Place::new();
    place.many(60);
    let db = place.messages();
    db.execute_batch(
        "UPDATE message SET status = seq % 4;
         UPDATE message SET status = 4 WHERE seq % 5 = 0;
         UPDATE message SET status = 5 WHERE seq % 7 = 0;",
    )
    .unwrap();
    let everything = || ListQuery { priority_min: Some(1), ..ListQuery::default() };
    for status in [
        StatusFilter::Inbox,
        StatusFilter::Unread,
        StatusFilter::Read,
        StatusFilter::Archived,
        StatusFilter::All,
    ] {
        for sort in [Sort::Newest, Sort::Oldest] {
            for at in [
                ListPosition::Offset(0),
                ListPosition::Offset(7),
                ListPosition::Offset(1 << 40),
                ListPosition::After(Seq(30)),
                ListPosition::After(Seq(u64::MAX)),
            ] {
                for size in [1, 5, 100] {
                    let ask = |query| {
                        let found = place.find("企微", query).0.unwrap();
                        let seqs: Vec<_> = found.messages.iter().map(|m| m.state.seq).collect();
                        (seqs, found.total, found.more)
                    };
                    let by_state = ListQuery { status, sort, at, size, ..ListQuery::default() };
                    let by_row = ListQuery { status, sort, at, size, ..everything() };
                    assert_eq!(ask(by_state.clone()), ask(by_row), "{by_state:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_edited_is_found_by_its_new_words_only() {
    let place = Place::new();
    place.put(&[(1, "周报", ""), (2, "月报", ""), (4, "年报", "")]);
    assert_eq!(place.seqs("月报"), [2]);
    place.edit(2, 5, "季报");
    place.put(&[(6, "月报", "")]);
    place.edit(6, 7, "日报");
    assert_eq!(place.seqs("月报"), [0_u64; 0]);
    assert_eq!(
        (place.seqs("季报"), place.seqs("日报"), place.seqs("报")),
        (vec![2], vec![6], vec![1, 2, 4, 6])
    );
    place.edit(2, 8, "月报");
    assert_eq!((place.seqs("季报"), place.seqs("月报")), (vec![], vec![2]));
}

#[test]
fn following_edits_does_not_read_the_inbox() {
    let place = Place::new();
    place.many(1);
    let index = Index::open(&place.dir(), &place.searches.template).unwrap().unwrap();
    let plan = |sql: &str| -> String {
        let mut explain = index.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = explain.query_map([], |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    };
    let edited = plan(
        "SELECT body_version, seq, body FROM inbox.message
         WHERE body_version > seq AND body_version > 5 ORDER BY body_version",
    );
    assert!(
        edited.contains("USING INDEX message_edited") && !edited.contains("B-TREE"),
        "{edited}"
    );
    for (condition, by) in [
        ("status < 4 AND status = 0", "COVERING INDEX message_facts"),
        ("status > 1", "COVERING INDEX message_away"),
        ("status > 1 AND status = 2", "COVERING INDEX message_away"),
    ] {
        let plan = plan(&format!(
            "SELECT rowid FROM text WHERE text MATCH 'x'
             EXCEPT SELECT seq FROM message WHERE {condition} ORDER BY 1 DESC"
        ));
        assert!(plan.contains(by) && !plan.contains("B-TREE"), "{condition}: {plan}");
    }
}

#[test]
fn what_retention_took_is_dropped() {
    let place = Place::new();
    place.many(600);
    assert_eq!(place.seqs("企微").len(), 600);
    place.messages().execute("DELETE FROM message WHERE seq <= 590", []).unwrap();
    assert_eq!(place.seqs("企微"), (591..=600).collect::<Vec<_>>());
    let index = rusqlite::Connection::open(place.file()).unwrap();
    let count: i64 =
        index.query_row("SELECT count(*) FROM text_docsize", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 10);
    place.messages().execute("DELETE FROM message", []).unwrap();
    assert_eq!(place.seqs("企微"), [0_u64; 0]);
    place.put(&[(601, "企微", "")]);
    assert_eq!(place.seqs("企微"), [601]);
}

#[test]
fn a_message_that_is_only_in_the_index_is_not_found() {
    let place = Place::new();
    place.many(10);
    assert_eq!(place.seqs("企微").len(), 10);
    place.messages().execute("DELETE FROM message WHERE seq = 5", []).unwrap();
    assert_eq!(place.seqs("企微"), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
}
