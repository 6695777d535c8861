//! `pushhub doctor`: what it says of good places, and of those with one thing wrong.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use servers::{Postgres, Redis, RedisCluster, free_port};

use crate::support::{Cluster, TestServer, server::ADMIN_TOKEN, server::Builder, token::SECRET};

/// What one run found.
struct Found {
    code: Option<i32>,
    checks: Vec<(String, String, String)>,
    said: String,
}

impl Found {
    async fn of(builder: Builder) -> Self {
        let (status, said) = builder.run(&["doctor", "--json"]).await;
        let line = said.lines().find(|line| line.starts_with('{'));
        let report: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("{said}"))).unwrap();
        let checks = report["checks"].as_array().unwrap().iter().map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            // A line without words helps nobody, and one that is not ok says what to do.
            assert!(!text("found").is_empty(), "{one}");
            (text("check"), text("status"), format!("{}; {}", text("found"), text("advice")))
        });
        let found = Self { code: status.code(), checks: checks.collect(), said };
        let worst = report["status"] == "fail";
        assert_eq!(worst, found.failed().next().is_some(), "{}", found.said);
        assert_eq!(found.code, Some(i32::from(worst)), "{}", found.said);
        for secret in [SECRET, ADMIN_TOKEN, "canary"] {
            assert!(!found.said.contains(secret), "{}", found.said);
        }
        found
    }

    fn failed(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|(_, status, _)| status == "fail").map(|(name, ..)| &**name)
    }

    /// What a check says with this word in it.
    #[track_caller]
    fn check(&self, name: &str, status: &str, word: &str) {
        let is = |(check, how, text): &&(String, String, String)| {
            check == name && how == status && text.contains(word)
        };
        assert!(self.checks.iter().any(|one| is(&one)), "{name} {status} {word:?}: {}", self.said);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The same settings as a running server.
fn beside(server: &TestServer) -> Builder {
    TestServer::plain_builder()
        .storage(server.storage())
        .env("USER_SERVER_PORT", server.user.port())
        .env("ADMIN_SERVER_PORT", server.admin.port())
}

#[tokio::test]
async fn beside_a_running_node_all_is_well_and_nothing_is_touched() {
    let server = TestServer::plain_builder().start().await;
    let before = names(server.storage());
    let found = Found::of(beside(&server)).await;
    assert_eq!(found.failed().count(), 0, "{}", found.said);
    found.check("folder.use", "ok", "a node serves it now");
    found.check("folder.mode", "ok", "0700");
    found.check("folder.write", "ok", "a sync of 4096 bytes takes");
    found.check("folder.room", "ok", "free");
    found.check("limits.memory", "ok", "idle connections");
    found.check("clock.steady", "ok", "monotonic");
    found.check("ports.user", "ok", "a node has it and answers");
    found.check("ports.admin", "ok", "a node has it and answers");
    found.check("node", "ok", "is ready");
    assert_eq!(names(server.storage()), before);
    assert!(server.ready().await);
}

#[tokio::test]
async fn people_get_a_line_for_each_check() {
    let (status, said) = TestServer::plain_builder().run(&["doctor"]).await;
    assert!(status.success(), "{said}");
    let is_line = |line: &str| ["ok  ", "warn", "fail"].iter().any(|word| line.starts_with(word));
    let lines = said.lines().filter(|line| is_line(line)).count();
    assert!(said.contains(&format!("{lines} checks: 0 failed")), "{said}");
    assert!(said.contains("is made at the first start"), "{said}");
}

#[tokio::test]
async fn every_mistake_of_the_settings_is_told_with_the_nearest_name() {
    let found = Found::of(
        TestServer::plain_builder()
            .env("USER_SERVER_PORT", "eighty")
            .env("WS_PING_INTERVAL", "soon")
            .env("JWT_SECRET", "canary-short")
            .env("WS_MAX_CONECTIONS", "5"),
    )
    .await;
    for (name, word) in [("USER_SERVER_PORT", "eighty"), ("WS_PING_INTERVAL", "soon")] {
        found.check("settings", "fail", &format!("{name}: given: \"{word}\""));
    }
    found.check("settings", "fail", "JWT_SECRET: given: a text of 12 bytes");
    found.check("settings", "warn", "did you mean WS_MAX_CONNECTIONS?");
}

#[tokio::test]
async fn what_is_wrong_with_folder_ports_and_secrets_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let others = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [user, admin] = others.each_ref().map(|other| other.local_addr().unwrap().port());
    let secret = folder.path().join("secret");
    fs::write(&secret, "canary-canary-canary-canary-canary-").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    // Whoever has these ports takes connections, and never answers.
    let found = Found::of(
        TestServer::plain_builder()
            .storage(folder.path())
            .without("JWT_SECRET")
            .env("JWT_SECRET_FILE", secret.display())
            .env("ADMIN_TOKEN", "Canary-CHANGEME-canary-0123")
            .env("WS_MAX_CONNECTIONS", "9000000")
            .env("STORE_JOURNAL_SYNC", "off")
            .env("USER_SERVER_PORT", user)
            .env("ADMIN_SERVER_PORT", admin),
    )
    .await;
    found.check("folder.mode", "warn", "chmod 700");
    found.check("folder.sync", "warn", "STORE_JOURNAL_SYNC");
    found.check("ports.user", "fail", "another program's");
    found.check("ports.admin", "fail", "change ADMIN_SERVER_PORT");
    found.check("secrets", "fail", "JWT_SECRET is one text, repeated");
    found.check("secrets", "fail", "ADMIN_TOKEN looks like the placeholder");
    found.check("secrets", "warn", "chmod o-rwx");
    found.check("settings", "warn", "LimitNOFILE");
    found.check("limits.tcp", "warn", "net.ipv4.tcp_mem");
    // Where no folder can be.
    let found = Found::of(TestServer::plain_builder().storage(&secret)).await;
    found.check("folder", "fail", "is a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_looked_at_as_its_nodes_do() {
    let empty = Cluster::on(servers::empty_database());
    let found = Found::of(empty.node("a")).await;
    assert_eq!(found.failed().count(), 0, "{}", found.said);
    found.check("database", "ok", "a primary");
    found.check("database.tables", "warn", "there are none yet");
    found.check("database.durability", "ok", "fsync is on");
    found.check("database.rights", "ok", "make tables");
    found.check("database.connections", "ok", "1 node(s) with 23 each");
    found.check("clock.database", "ok", "ms");
    found.check("redis", "ok", "Redis ");
    found.check("redis.pubsub", "ok", "arrives after");
    found.check("redis.memory", "ok", "no limit");
    found.check("redis.buffers", "ok", "pubsub");
    found.check("clock.redis", "ok", "ms");
    assert!(!found.said.contains("folder"), "nodes keep nothing: {}", found.said);

    let cluster = Cluster::new();
    let [_one, _two] = cluster.nodes().await;
    let found = Found::of(cluster.node("c")).await;
    for part in ["store", "control data", "webhooks"] {
        found.check("database.tables", "ok", &format!("{part}: version"));
    }
    found.check("database.connections", "ok", "2 node(s)");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_primary_of_a_redis_cluster_and_the_one_that_sentinels_know_are_looked_at() {
    let cluster = Cluster::new();
    let redis = RedisCluster::start().await;
    let found = Found::of(cluster.node("a").env("REDIS_URL", redis.url())).await;
    assert_eq!(found.failed().count(), 0, "{}", found.said);
    for server in &redis.servers {
        let port = format!(":{}: ", server.port);
        found.check("redis", "ok", &port);
        found.check("redis.pubsub", "ok", &port);
    }
    let primary = Redis::start_with(&["requirepass", "canary-of-redis"]).await;
    let sentinel = Redis::start_sentinel_with("main", &primary, "canary-sentinel").await;
    let at = format!("127.0.0.1:{}/main?sentinel_password=canary-sentinel", sentinel.port);
    let url = |password: &str| format!("redis+sentinel://:{password}@{at}");
    let found = Found::of(cluster.node("a").env("REDIS_URL", url("canary-of-redis"))).await;
    found.check("redis.pubsub", "ok", &format!(":{}: ", primary.port));
    let found = Found::of(cluster.node("a").env("REDIS_URL", url("canary-wrong"))).await;
    found.check("redis", "fail", "invalid username-password pair");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_cluster_is_told_without_its_passwords() {
    let (nobody, server) =
        (free_port(), Postgres::start_with(&["fsync = off", "max_connections = 20"]));
    let wrong = server.database();
    let found = Found::of(
        Cluster::on(wrong.clone())
            .node("a")
            .env("REDIS_URL", format!("redis://:canary-redis@127.0.0.1:{nobody}"))
            .env("DATABASE_REPLICA_URL", &wrong),
    )
    .await;
    found.check("redis", "fail", "cannot be reached");
    found.check("database.durability", "fail", "fsync is off");
    found.check("database.connections", "fail", "raise max_connections");
    found.check("database.standby", "warn", "it is a primary");

    let away = format!("postgres://u:canary-database@127.0.0.1:{nobody}/hub");
    let found = Found::of(Cluster::on(away).node("a")).await;
    found.check("database", "fail", "cannot be reached");

    let standby = server.standby();
    let found = Found::of(Cluster::on(standby.url("postgres")).node("a")).await;
    found.check("database", "fail", "read-only");

    // A user who may look and nothing else.
    servers::ask(&wrong, "CREATE ROLE canary LOGIN; REVOKE ALL ON SCHEMA public FROM public");
    let poor = wrong.replace("postgres@", "canary@");
    let (status, said) = Cluster::on(poor).node("a").run(&["doctor"]).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the user may not make tables, and some are missing"), "{said}");
}
