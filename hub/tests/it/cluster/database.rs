//! The ways to PostgreSQL: encrypted, and a standby that answers lists.

use std::time::{Duration, Instant};

use serde_json::Value;
use servers::{Certificates, Postgres};

use crate::support::{Cluster, SOON, TestServer, eventually, eventually_within};

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_encrypted_and_is_who_it_says() {
    let server = Postgres::start();
    let url = server.database();
    let Certificates { ca, certificate, key } = Certificates::make();
    server.encrypt(&certificate, &key);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, stranger) = (file("ca.pem", &ca), file("other.pem", &Certificates::make().ca));
    let cluster = Cluster::new();
    let by = |host: &str, query: &str| {
        let plain = url.split('?').next().unwrap().replace("127.0.0.1", host);
        cluster.node("a").env("DATABASE_URL", format!("{plain}?{query}"))
    };
    let verified = format!("sslmode=verify-full&sslrootcert={right}");
    let node = by("localhost", &verified).start().await;
    let mut phone = node.connect("ann").await;
    node.service().await.send_to("ann", "hello").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "hello");
    let encrypted = "DO $$ BEGIN IF (SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
        WHERE a.application_name = 'pushhub' AND NOT s.ssl) > 0 THEN RAISE 'in the open'; END IF; END $$";
    servers::ask(&url, encrypted);
    drop(node);
    by("127.0.0.1", "sslmode=require").start().await;

    let by_stranger = format!("sslmode=verify-full&sslrootcert={stranger}");
    for (host, query) in [("localhost", by_stranger), ("127.0.0.1", verified)] {
        let (status, log) = by(host, &query).run(&["serve"]).await;
        assert!(!status.success() && log.contains("certificate"), "{log}");
    }
    let nowhere = "sslmode=verify-full&sslrootcert=/no/such.pem";
    let (status, log) = by("localhost", nowhere).run(&["serve"]).await;
    assert!(!status.success() && log.contains("/no/such.pem"), "{log}");
}

async fn counted(node: &TestServer, metric: &str) -> u64 {
    let metrics = node.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(metric)).expect("a metric");
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_answers_lists_and_searches_and_never_with_something_old() {
    let primary = Postgres::start();
    let url = primary.database();
    let standby = primary.standby();
    let replica = url.replace(&primary.port().to_string(), &standby.port().to_string());
    let cluster = Cluster::new();
    let node = cluster.node("a").env("DATABASE_URL", &url).env("DATABASE_REPLICA_URL", &replica);
    let node = node.start().await;
    let (service, ann) = (node.service().await, node.as_user("ann"));
    let texts = async |path: &str| -> Vec<String> {
        let page = ann.get(path).await.ok();
        let messages = page["messages"].as_array().unwrap().clone();
        messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    };
    let paths = ["/api/v3/messages", "/api/v3/messages?q=报告"];
    service.send_to("ann", "报告 1").await.ok();
    for path in paths {
        eventually_within("the standby has it and answers", SOON, || async {
            let before =
                counted(&node, "pushhub_postgres_replica_total{result=\"answered\"}").await;
            assert_eq!(texts(path).await, ["报告 1"]);
            let after = counted(&node, "pushhub_postgres_replica_total{result=\"answered\"}").await;
            (after > before).then_some(())
        })
        .await;
    }
    // A standby that does not follow is asked and not believed.
    servers::ask(&standby.url("postgres"), "SELECT pg_wal_replay_pause()");
    service.send_to("ann", "报告 2").await.ok();
    for path in paths {
        assert_eq!(texts(path).await, ["报告 2", "报告 1"]);
    }
    let list: Value = ann.get("/api/v3/messages").await.ok();
    let path = format!("/api/v3/messages/{}/read", list["messages"][0]["id"].as_str().unwrap());
    ann.post(&path, serde_json::json!({})).await.ok();
    assert_eq!(texts("/api/v3/messages?status=unread").await, ["报告 1"]);
    assert!(counted(&node, "pushhub_postgres_replica_total{result=\"behind\"}").await >= 3);
    // One that is away is missed by nobody.
    standby.kill();
    for path in paths {
        assert_eq!(texts(path).await, ["报告 2", "报告 1"]);
    }
    eventually("it is counted", || async {
        counted(&node, "pushhub_postgres_replica_total{result=\"failed\"}").await > 0
    })
    .await;
}

/// Whether a list of ann's one message is answered by the standby.
async fn answered_by_standby(node: &TestServer) -> Option<()> {
    let metric = "pushhub_postgres_replica_total{result=\"answered\"}";
    let before = counted(node, metric).await;
    assert_eq!(node.as_user("ann").all_messages().await.len(), 1);
    (counted(node, metric).await > before).then_some(())
}

const UNUSABLE: &str = "the standby of DATABASE_REPLICA_URL cannot be used";

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_stands_still_is_waited_for_once_and_asked_again_later() {
    let primary = Postgres::start();
    let url = primary.database();
    let standby = primary.standby();
    let replica = url.replace(&primary.port().to_string(), &standby.port().to_string());
    let cluster = Cluster::new();
    let node = cluster.node("a").env("DATABASE_URL", &url).env("DATABASE_REPLICA_URL", &replica);
    let node = node.start().await;
    let (service, ann) = (node.service().await, node.as_user("ann"));
    service.send_to("ann", "hello").await.ok();
    eventually_within("the standby answers", SOON, || answered_by_standby(&node)).await;

    standby.freeze();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(ann.all_messages().await.len(), 1);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(counted(&node, "pushhub_postgres_replica_total{result=\"skipped\"}").await >= 10);
    assert!(counted(&node, "pushhub_postgres_replica_total{result=\"failed\"}").await >= 1);
    assert_eq!(node.log().matches(UNUSABLE).count(), 1, "{}", node.log());

    standby.thaw();
    eventually_within("the standby answers again", SOON * 2, || answered_by_standby(&node)).await;
    assert!(node.log().contains("the standby answers lists again"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_a_wrong_password_is_said_when_the_node_starts() {
    let server = Postgres::start_with(&["password_encryption = 'scram-sha-256'"]);
    let url = server.database();
    servers::ask(&url, "CREATE ROLE ann LOGIN PASSWORD 'right'");
    server.demand_passwords();
    let wrong = url.replace("postgres@", "ann:hunter2@");
    let cluster = Cluster::new();
    let node = cluster.node("a").env("DATABASE_URL", &url).env("DATABASE_REPLICA_URL", wrong);
    let node = node.start().await;
    eventually("it is said, with the reason", || async {
        let log = node.log();
        log.contains(UNUSABLE) && log.contains("password authentication failed for user \"ann\"")
    })
    .await;
    node.service().await.send_to("ann", "hello").await.ok();
    assert_eq!(node.as_user("ann").all_messages().await.len(), 1);
    assert!(!node.log().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_of_another_database_is_never_believed() {
    let (own, other) = (Cluster::new(), Cluster::new());
    let stranger = other.node("a").start().await;
    stranger.service().await.send_to("ann", "of another cluster").await.ok();
    let node = own.node("a").env("DATABASE_REPLICA_URL", &other.database).start().await;
    // The inboxes stand at the same place.
    node.service().await.send_to("ann", "of this one").await.ok();
    for _ in 0..3 {
        let list: Value = node.as_user("ann").get("/api/v3/messages").await.ok();
        assert_eq!(list["messages"][0]["content"], "of this one");
    }
    eventually("it is said", || async {
        node.log().contains("it is of another database than DATABASE_URL names")
    })
    .await;
    assert_eq!(counted(&node, "pushhub_postgres_replica_total{result=\"answered\"}").await, 0);
}
