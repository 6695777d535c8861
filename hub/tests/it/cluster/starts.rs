//! What a node says when it cannot start, or not yet.

use std::time::Duration;

use http::Method;
use servers::{Postgres, Redis};

use crate::support::{Cluster, SOON, TestServer, eventually, server::Builder};

async fn refused(builder: Builder) -> String {
    let (status, log) = builder.run(&["serve"]).await;
    assert!(!status.success(), "it started:\n{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_never_work_is_said_at_once() {
    let cluster = Cluster::new();
    let with = |name: &str, value: &str| cluster.node("a").env(name, value);
    let other_name = cluster.database.replace("/t", "/no_such_");
    let log = refused(with("DATABASE_URL", &other_name)).await;
    assert!(log.contains("refuses") && log.contains("does not exist"), "{log}");
    let log = refused(with("DATABASE_URL", "postgres://db:5432/hub?sslmode=maybe")).await;
    assert!(log.contains("DATABASE_URL: given: a text of 36 bytes; allowed: postgres://"), "{log}");
    let log = refused(cluster.node("a").without("JWT_SECRET")).await;
    assert!(log.contains("JWT_SECRET: is not set, but DATABASE_URL is"), "{log}");
    let log = refused(TestServer::plain_builder().env("REDIS_URL", &cluster.redis)).await;
    assert!(log.contains("REDIS_URL: is set, but not DATABASE_URL"), "{log}");
    servers::ask(
        &cluster.database,
        "INSERT INTO schema_migrations (version, name, checksum, compatible_from)
         VALUES (99, 'later', 'x', 99)",
    );
    let log = refused(cluster.node("a")).await;
    assert!(log.contains("the database is of version 99; this build knows up to"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_at_once_and_not_printed() {
    let server = Postgres::start_with(&["password_encryption = 'scram-sha-256'"]);
    let url = server.database();
    servers::ask(&url, "CREATE ROLE ann LOGIN PASSWORD 'right'");
    server.demand_passwords();
    let wrong = url.replace("postgres@", "ann:hunter2@");
    let log = refused(Cluster::new().node("a").env("DATABASE_URL", &wrong)).await;
    assert!(log.contains("password authentication failed for user \"ann\""), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_cannot_hear_each_other_do_not_share_a_database() {
    let cluster = Cluster::new();
    let alone = cluster.node("a").without("REDIS_URL").start().await;
    let log = refused(cluster.node("b").without("REDIS_URL")).await;
    assert!(log.contains("another node uses this database") && log.contains("REDIS_URL"), "{log}");
    let log = refused(cluster.node("b")).await;
    assert!(log.contains("a node without REDIS_URL uses this database"), "{log}");
    let mut phone = alone.connect("ann").await;
    alone.service().await.send_to("ann", "hello").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "hello");
    drop(alone);
    cluster.node("b").start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_its_database_and_comes_back_when_it_was_away() {
    let server = Postgres::start();
    let url = server.database();
    server.stop();
    let ports = [servers::free_port(), servers::free_port()];
    let mut node = Cluster::new()
        .node("a")
        .env("DATABASE_URL", &url)
        .env("USER_SERVER_PORT", ports[0])
        .env("ADMIN_SERVER_PORT", ports[1])
        .launch();
    node.user.set_port(ports[0]);
    node.admin.set_port(ports[1]);
    eventually("it answers, and is not ready", || async {
        let health = node.as_admin().try_call(Method::GET, "/health/ready", None).await;
        health.is_ok_and(|health| health.status == 503 && health.body["status"] == "not_ready")
    })
    .await;
    assert_eq!(node.as_admin().get("/health/live").await.status, 200);
    let refused = node.as_user("ann").get("/api/v3/messages").await;
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    refused.refused(503, "unavailable");
    assert!(node.log().contains("cannot be reached"), "{}", node.log());

    server.start_again();
    node.is_ready().await.unwrap();
    let mut phone = node.connect("ann").await;
    let service = node.service().await;
    service.send_to("ann", "one").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "one");

    server.kill();
    eventually("it is not ready", || async { !node.ready().await }).await;
    assert_eq!(service.send_to("ann", "lost").await.status, 503);
    server.start_again();
    eventually("it is ready again", || async { node.ready().await }).await;
    service.send_to("ann", "two").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "two");
    assert!(node.alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_fit_together_say_so() {
    let cluster = Cluster::new();
    let first = cluster.node("a").start().await;
    let _same_name = cluster.node("a").start().await;
    let secret = "another-secret-of-the-integration-tests-0123456789";
    let _other_secret = cluster.node("b").env("JWT_SECRET", secret).start().await;
    eventually("both are in the log and counted", || async {
        let (log, metrics) = (first.log(), first.metrics().await);
        log.contains("another running node has the same NODE_ID")
            && log.contains("another node has another JWT_SECRET")
            && metrics.contains("pushhub_bus_conflicts_total{what=\"node_id\"} 1")
            && metrics.contains("pushhub_bus_conflicts_total{what=\"secrets\"} 1")
    })
    .await;
    assert!(!first.log().contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_redis_is_said_and_the_node_serves_alone() {
    let redis = Redis::start_with(&["requirepass", "right"]).await;
    let cluster = Cluster::new();
    let url = redis.url().replace("right", "hunter2");
    let node = cluster.node("a").env("REDIS_URL", url).start().await;
    eventually("it is said", || async { node.log().contains("WRONGPASS") }).await;
    assert!(!node.log().contains("hunter2"));
    let health = node.as_admin().get("/health/ready").await;
    assert_eq!((health.status, &health.body["status"]), (200, &"degraded".into()));
    let mut phone = node.connect("ann").await;
    node.service().await.send_to("ann", "hello").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_can_be_ended() {
    let url = format!("postgres://127.0.0.1:{}/hub", servers::free_port());
    let mut node = Cluster::new().node("a").env("DATABASE_URL", url).launch();
    eventually("it waits", || async { node.log().contains("cannot be reached") }).await;
    node.signal(libc::SIGTERM);
    assert!(node.exited(SOON.min(Duration::from_secs(5))).await.success());
}
