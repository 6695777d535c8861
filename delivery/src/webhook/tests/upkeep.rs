//! What the file forgets, and what it does when it cannot be written.

use std::{sync::Arc, time::Duration};

use metrics::Counter;

use super::{
    fixture::{At, Fixture, blocking, eventually, everywhere},
    receiver::{Receiver, Reply},
};
use crate::sql::{Database, sqlite, values};
use crate::webhook::{
    DeliveryStatus, EventSink, FILE_NAME, GivenUp, HISTORY_AGE_MAX, PENDING_AGE_MAX, WebhookError,
    database::AREA,
    deliveries,
    writer::{Counters, Writer},
};
everywhere!(
    what_waited_too_long_is_given_up_and_later_forgotten,
    the_oldest_beyond_the_history_is_forgotten,
    a_deleted_endpoint_leaves_nothing_behind,
);

async fn what_waited_too_long_is_given_up_and_later_forgotten(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(410, ""));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("m1");
    eventually("it is disabled", || fixture.get(&webhook).disabled.is_some()).await;
    fixture.wait(PENDING_AGE_MAX);
    fixture.webhooks.0.tidy().await.unwrap();
    assert_eq!(fixture.get(&webhook).pending, 1);
    fixture.wait(Duration::from_millis(1));
    fixture.webhooks.0.tidy().await.unwrap();
    let [dead] = &fixture.deliveries(&webhook)[..] else { panic!("one delivery") };
    assert_eq!((dead.status, dead.given_up), (DeliveryStatus::Failed, Some(GivenUp::Age)));
    assert_eq!((fixture.get(&webhook).pending, fixture.get(&webhook).failed), (0, 1));
    fixture.wait(HISTORY_AGE_MAX + Duration::from_millis(1));
    fixture.webhooks.0.tidy().await.unwrap();
    assert_eq!((fixture.deliveries(&webhook), fixture.get(&webhook).failed), (vec![], 0));
}

async fn the_oldest_beyond_the_history_is_forgotten(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let events = (0..50).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("all are delivered", || fixture.get(&webhook).delivered == 50).await;
    fixture.stop().await;
    let newest = fixture.deliveries(&webhook);
    let writer = fixture.webhooks.0.writer().unwrap();
    let forget = |most| {
        writer.write_async(move |database| Ok(deliveries::forget_beyond(database, 20, most)?))
    };
    assert_eq!(forget(25).await.unwrap(), 25);
    assert_eq!(forget(25).await.unwrap(), 5);
    assert_eq!(forget(25).await.unwrap(), 0);
    assert_eq!(fixture.get(&webhook).delivered, 20);
    assert_eq!(fixture.deliveries(&webhook), newest[..20]);
}

async fn a_deleted_endpoint_leaves_nothing_behind(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(500, ""));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let events = (0..5_000).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    blocking(|| fixture.webhooks.delete(&fixture.shop, &webhook.id)).unwrap();
    assert_eq!(fixture.webhooks.dead_letters(None, None, 10).unwrap().total, 0);
    fixture.webhooks.0.tidy().await.unwrap();
    let mut reader = fixture.webhooks.0.reader.lock();
    for all in [
        "SELECT count(*) FROM webhook_endpoint",
        "SELECT count(*) FROM webhook_secret",
        "SELECT count(*) FROM webhook_delivery",
    ] {
        let left = reader.glance(all, &[]).unwrap().pop().unwrap().int().unwrap();
        assert_eq!(left, 0, "{all}");
    }
}

#[tokio::test]
async fn what_a_file_of_the_first_version_has_is_sent() {
    let mut fixture = Fixture::start(At::File);
    let receiver = Receiver::start().await;
    fixture.stop().await;
    blocking(|| fixture.webhooks.close());
    let path = fixture.dir.path().join(FILE_NAME);
    for name in [FILE_NAME, "webhooks.db-wal", "webhooks.db-shm"] {
        let _ = std::fs::remove_file(fixture.dir.path().join(name));
    }
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(include_str!("../schema.sql")).unwrap();
    file.execute_batch(&format!(
        "PRAGMA user_version = 1; \
         INSERT INTO endpoint (key, id, tenant_id, service_id, url, events, description, status, \
         created_at, updated_at) VALUES (7, 'wh_1', 'default', 'shop', '{}', '[\"*\"]', '', 'active', \
         1, 1); \
         INSERT INTO secret VALUES (7, x'00', 1, 2), (7, x'01', 3, NULL); \
         INSERT INTO delivery VALUES (5, 7, 'evt_1', 'message.read', 1, '{{}}', 0, 1, 0, 1, NULL, \
         NULL, NULL, NULL, NULL, NULL); \
         UPDATE delivery SET state = 1 WHERE id = 5; UPDATE delivery SET state = 0 WHERE id = 5",
        receiver.url()
    ))
    .unwrap();
    drop(file);
    for _ in 0..2 {
        fixture.restart();
        let sent = || fixture.webhooks.get(&fixture.shop, "wh_1").unwrap().delivered == 1;
        eventually("it is sent", sent).await;
        fixture.stop().await;
        blocking(|| fixture.webhooks.close());
    }
    let shown = fixture.webhooks.get(&fixture.shop, "wh_1").unwrap();
    assert_eq!((shown.pending, shown.secrets.len(), receiver.count()), (0, 1, 1));
    assert_eq!(receiver.received()[0].header("webhook-id"), "evt_1");
}

#[test]
fn a_commit_that_fails_keeps_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let writing = Database::Sqlite(sqlite::Connection::open(&path, &AREA).unwrap());
    let file = rusqlite::Connection::open(&path).unwrap();
    // A row whose parent is looked for at the commit: the only way to make one fail on a good disk.
    file.execute_batch(
        "CREATE TABLE child (parent REFERENCES webhook_endpoint (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .unwrap();
    drop(file);
    let [errors, events, dropped] = [(); 3].map(|()| Counter::noop());
    let counters = Counters { errors, events, dropped };
    let (writer, thread) = Writer::begin(writing, Some(path.clone()), counters).unwrap();
    let insert = |value: Option<&'static str>| {
        let sql = "INSERT INTO child VALUES ($1)";
        writer.write(move |database| Ok(database.execute(sql, &values![value])?))
    };
    assert_eq!(insert(None).unwrap(), 1);
    for _ in 0..2 {
        assert!(matches!(insert(Some("orphan")), Err(WebhookError::NotWritable(_))));
        assert_eq!(insert(None).unwrap(), 1);
    }
    // A change that fails by itself does not take along what is committed with it.
    let writer = Arc::new(writer);
    let changes: Vec<_> = (0..64)
        .map(|n| {
            let writer = Arc::clone(&writer);
            std::thread::spawn(move || {
                writer.write(move |database| {
                    database.execute("INSERT INTO child VALUES (NULL)", &[])?;
                    if n % 2 == 0 { Err(WebhookError::NotFound) } else { Ok(()) }
                })
            })
        })
        .collect();
    let good = changes.into_iter().filter_map(|change| change.join().unwrap().ok()).count();
    assert_eq!(good, 32);
    drop(writer);
    thread.join().unwrap();
    let file = rusqlite::Connection::open(path).unwrap();
    let count: usize = file
        .query_row("SELECT count(*) FROM child", [], |row| row.get::<_, i64>(0))
        .unwrap() as usize;
    assert_eq!(count, 3 + good);
}

/// Another process holds the file for longer than we wait for it: nothing is kept and nothing that
/// was sent is sent again, until it lets go.
#[tokio::test]
async fn what_cannot_be_written_down_is_not_sent_again_and_again() {
    let fixture = Fixture::start(At::File);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let path = fixture.dir.path().join(FILE_NAME);
    let mut held = None;
    receiver.replies(move |_| {
        let other = held.get_or_insert_with(|| rusqlite::Connection::open(&path).unwrap());
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        super::receiver::OK
    });
    fixture.record("m1");
    eventually("it arrived", || receiver.count() == 1).await;
    let refused = || fixture.webhooks.record(vec![fixture.event(&fixture.shop, "m2")]);
    assert!(matches!(blocking(refused), Err(WebhookError::NotWritable(_))));
    assert_eq!((receiver.count(), fixture.get(&webhook).pending), (1, 1));
    // Its connection ends with the closure that has it.
    receiver.always(super::receiver::OK);
    eventually("it is written down", || fixture.get(&webhook).delivered == 1).await;
    fixture.record("m2");
    eventually("it goes on", || fixture.get(&webhook).delivered == 2).await;
    assert_eq!(receiver.count(), 2);
}
