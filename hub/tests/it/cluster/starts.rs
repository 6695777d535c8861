//! What a node says when it cannot start, or not yet.

use std::time::Duration;

use http::Method;
use servers::{Postgres, Redis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cluster, SOON, TestServer, eventually, eventually_within, server::Builder};

/// How soon it is said that a node of the same database is not heard: 10 s after it could have been.
const UNHEARD_WITHIN: Duration = Duration::from_secs(25);

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

/// Only one version is installed where this runs: its answer is bent.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_postgresql_is_refused_by_its_version() {
    let server = Postgres::start();
    let url = server.database();
    let bend = "CREATE SCHEMA bent;
        CREATE FUNCTION bent.current_setting(name text) RETURNS text LANGUAGE sql AS $$
            SELECT CASE name WHEN 'server_version_num' THEN '140011'
                WHEN 'server_version' THEN '14.11' ELSE pg_catalog.current_setting(name) END $$;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = bent, pg_catalog, public',
            current_database()); END $$";
    servers::ask(&url, bend);
    let log = refused(Cluster::new().node("a").env("DATABASE_URL", &url)).await;
    assert!(log.contains("is version 14.11; 15 or later is needed"), "{log}");
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
    let _other_token = cluster.node("c").env("ADMIN_TOKEN", secret).start().await;
    eventually("both are in the log and counted", || async {
        let (log, metrics) = (first.log(), first.metrics().await);
        log.contains("another running node has the same NODE_ID")
            && log.contains("another node has another JWT_SECRET")
            && log.contains("another node has another ADMIN_TOKEN")
            && metrics.contains("pushhub_bus_conflicts_total{what=\"node_id\"} 1")
            && metrics.contains("pushhub_bus_conflicts_total{what=\"secrets\"} 1")
            && metrics.contains("pushhub_bus_conflicts_total{what=\"admin_token\"} 1")
    })
    .await;
    assert!(!first.log().contains(secret));
}

/// By the same database, but another Redis or another name in it, they would reach each other by nothing
/// but the periodic check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_database_that_do_not_hear_each_other_say_so() {
    let cluster = Cluster::new();
    let redis = Redis::start().await;
    let first = cluster.node("a").start().await;
    let beside = cluster.node("b").start().await;
    let mut phone = first.connect("ann").await;
    for apart in [
        cluster.node("c").env("REDIS_PREFIX", "another"),
        cluster.node("c").env("REDIS_URL", redis.url()),
    ] {
        let apart = apart.start().await;
        for node in [&first, &beside, &apart] {
            eventually_within("it is said", UNHEARD_WITHIN, || async {
                let health = node.as_admin().get("/health/ready").await;
                let said = node.log().contains("use this database") && health.status == 200;
                let counted = !node
                    .metrics()
                    .await
                    .contains("pushhub_bus_conflicts_total{what=\"unheard\"} 0");
                let degraded = health.body["status"] == "degraded";
                (said && counted && degraded && health.body["checks"]["bus"] == "unheard")
                    .then_some(())
            })
            .await;
        }
        // What the others store is looked for often meanwhile, not at the next heartbeat.
        apart.service().await.send_to("ann", "hello").await.ok();
        assert_eq!(phone.next_message().await.fields.content, "hello");
        drop(apart);
        for node in [&first, &beside] {
            eventually("it is over", || async {
                node.as_admin().get("/health/ready").await.body["status"] == "ready"
            })
            .await;
        }
    }
    let counted = first.metrics().await;
    assert!(counted.contains("pushhub_bus_conflicts_total{what=\"unheard\"} 2"), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_of_redis_is_said_and_the_node_serves_alone() {
    let port = servers::free_port();
    let url = format!("redis://:hunter2@127.0.0.1:{port}");
    let mut node = Cluster::new().node("a").env("REDIS_URL", url).start().await;
    let said = format!("127.0.0.1:{port}: cannot be reached: Connection refused");
    eventually("it is said", || async { node.log().contains(&said) }).await;
    assert!(node.log().contains("bus down: other nodes are not heard"), "{}", node.log());
    assert!(!node.log().contains("hunter2"));
    let health = node.as_admin().get("/health/ready").await;
    assert_eq!((health.status, &health.body["status"]), (200, &"degraded".into()));
    assert!(node.alive());
}

/// Answers each connection as a Redis of that version does.
async fn pretend(version: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                while let Ok(1..) = socket.read(&mut asked).await {
                    // `version` only, of what HELLO tells; before Redis 6 there is no such command.
                    let hello = if version.starts_with('5') {
                        "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"
                            .to_owned()
                    } else {
                        format!("%1\r\n$7\r\nversion\r\n${}\r\n{version}\r\n", version.len())
                    };
                    let text = String::from_utf8_lossy(&asked).into_owned();
                    let others = text.matches("SETINFO").count();
                    let answer = hello + &"+OK\r\n".repeat(others);
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    asked.fill(0);
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_redis_is_refused_by_name() {
    for (version, said) in [("5.0.14", "older than Redis 6"), ("6.2.14", "Redis 6.2.14")] {
        let port = pretend(version).await;
        for scheme in ["redis", "redis+cluster"] {
            let url = format!("{scheme}://127.0.0.1:{port}");
            let node = Cluster::new().node("a").env("REDIS_URL", url).start().await;
            eventually("it is said", || async {
                let log = node.log();
                log.contains(said) && log.contains("version 7 or later is needed")
            })
            .await;
            let health = node.as_admin().get("/health/ready").await;
            assert_eq!((health.status, &health.body["status"]), (200, &"degraded".into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_managed_by_whoever_has_the_database() {
    let cluster = Cluster::new();
    let only = || {
        let none = ["REDIS_URL", "JWT_SECRET", "ADMIN_TOKEN", "REDIS_PREFIX"];
        none.into_iter().fold(cluster.node("cli"), Builder::without)
    };
    let create = ["service", "create", "--name", "shop", "--id", "shop", "--level", "business"];
    let (status, said) = only().run(&create).await;
    assert!(status.success(), "{said}");
    let key = said.lines().find_map(|line| line.strip_prefix("KEY=")).expect("a key");
    let (status, list) = only().run(&["service", "list"]).await;
    assert!(status.success() && list.contains("shop"), "{list}");
    let node = cluster.node("a").start().await;
    node.api().service_key(key).send_to("ann", "hello").await.ok();
    let (status, said) = only().run(&["service", "disable", "shop"]).await;
    assert!(status.success(), "{said}");
    // A token is signed with the nodes' secret: that one is needed.
    let (status, said) = only().run(&["token", "mint", "--user", "ann"]).await;
    assert!(!status.success() && said.contains("JWT_SECRET"), "{said}");
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
