//! What goes wrong with what nodes share.

use std::time::Duration;

use servers::{Postgres, Redis};
use tokio::{task::JoinSet, time::sleep};

use super::recording::Recording;
use crate::{
    postgres,
    support::{Api, Cluster, SOON, api::message_to},
};

/// A minute of the rules, where it need not be longer.
const MINUTE: Duration = Duration::from_millis(200);

pub(super) async fn redis_is_away() -> Recording {
    let mut redis = Redis::start().await;
    let cluster = Cluster::at(postgres::database(), redis.url());
    let server = cluster.node("a").start().await;
    let service = server.service().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    redis.kill();
    // More than waits for it: 16 MiB.
    let content = "x".repeat(30 << 10);
    let all = async {
        for _ in 0..60 {
            let mut sends = JoinSet::new();
            for _ in 0..4 {
                let (service, content) = (service.clone(), content.clone());
                sends.spawn(async move {
                    let users: Vec<String> = (0..8).map(|at| format!("user-{at}")).collect();
                    let users: Vec<&str> = users.iter().map(String::as_str).collect();
                    let mut message = message_to(&users, "large");
                    message["content"] = content.into();
                    service.send(message).await.ok();
                });
            }
            sends.join_all().await;
        }
    };
    seen.during(server.admin, all).await;
    seen.minutes(server.admin, 14).await;
    seen
}

pub(super) async fn two_nodes_have_one_name() -> Recording {
    let cluster = Cluster::new();
    let server = cluster.node("a").start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let other = seen.during(server.admin, cluster.node("a").start()).await;
    seen.minutes(server.admin, 15).await;
    drop(other);
    seen
}

/// Sends one after the other, whatever comes of them.
async fn sends(service: &Api) {
    loop {
        service.send(message_to(&["ann"], "x")).await;
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn the_database_is_away() -> Recording {
    let postgres = Postgres::start();
    let cluster = Cluster::on(postgres.database());
    let server = cluster.node("a").env("DATABASE_ACQUIRE_TIMEOUT", "100ms").start().await;
    let service = server.service().await;
    let mut seen = Recording::new(Duration::from_secs(1));
    seen.quiet(server.admin).await;
    postgres.kill();
    tokio::select! {
        () = seen.minutes(server.admin, 16) => {}
        () = sends(&service) => {}
    }
    seen
}

pub(super) async fn a_synchronous_standby_is_slow() -> Recording {
    let primary = Postgres::start();
    let standby = primary.standby();
    let url = primary.url("postgres");
    servers::ask(&url, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    servers::ask(&url, "SELECT pg_reload_conf()");
    let waits = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    servers::eventually("commits wait for it", SOON, || servers::value(&url, waits) == "1").await;
    let cluster = Cluster::on(primary.database());
    let server = cluster.node("a").start().await;
    let service = server.service().await;
    let mut seen = Recording::new(Duration::from_millis(500));
    seen.quiet(server.admin).await;
    let moments = async {
        loop {
            standby.freeze();
            sleep(Duration::from_millis(700)).await;
            standby.thaw();
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = seen.minutes(server.admin, 24) => {}
        () = sends(&service) => {}
        () = moments => {}
    }
    standby.thaw();
    seen
}

pub(super) async fn the_database_answers_nothing() -> Recording {
    let postgres = Postgres::start();
    let cluster = Cluster::on(postgres.database());
    let server = cluster.node("a").env("DATABASE_CONNECTIONS", 4).start().await;
    let service = server.service().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let mut readers = JoinSet::new();
    postgres.freeze();
    for at in 0..20 {
        let api = server.as_user(&format!("user-{at}"));
        readers.spawn(async move {
            loop {
                api.get("/api/v3/messages").await;
            }
        });
    }
    tokio::select! {
        () = seen.minutes(server.admin, 40) => {}
        () = sends(&service) => {}
    }
    postgres.thaw();
    seen
}

pub(super) async fn the_standby_is_away() -> Recording {
    let primary = Postgres::start();
    let standby = primary.standby();
    let url = primary.database();
    let replica = url.replace(&primary.port().to_string(), &standby.port().to_string());
    let cluster = Cluster::on(url);
    let server = cluster.node("a").env("DATABASE_REPLICA_URL", &replica).start().await;
    let service = server.service().await;
    service.sent("ann", "one").await;
    let ann = server.as_user("ann");
    ann.get("/api/v3/messages").await.ok();
    // One that failed is left alone for ten seconds: ten minutes have to be more.
    let mut seen = Recording::new(Duration::from_millis(1_500));
    seen.quiet(server.admin).await;
    standby.kill();
    let reads = async {
        loop {
            ann.get("/api/v3/messages").await.ok();
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = seen.minutes(server.admin, 24) => {}
        () = reads => {}
    }
    seen
}

pub(super) async fn other_nodes_are_not_heard() -> Recording {
    let mut redis = Redis::start().await;
    let cluster = Cluster::at(postgres::database(), redis.url());
    let (elsewhere, server) = tokio::join!(cluster.node("a").start(), cluster.node("b").start());
    let service = elsewhere.service().await;
    let users: Vec<String> = (0..10).map(|at| format!("user-{at}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut devices = Vec::new();
    for user in &users {
        devices.push(server.connect(user).await);
    }
    // Connections are compared every five seconds while nobody is heard.
    let mut seen = Recording::new(Duration::from_secs(1));
    seen.quiet(server.admin).await;
    redis.kill();
    let sends = async {
        loop {
            service.send(message_to(&users, "x")).await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = seen.minutes(server.admin, 30) => {}
        () = sends => {}
    }
    seen
}

pub(super) async fn more_waits_for_the_database_than_may() -> Recording {
    let postgres = Postgres::start();
    let cluster = Cluster::on(postgres.database());
    let server = cluster.node("a").start().await;
    let service = server.service().await;
    let mut seen = Recording::new(Duration::from_millis(500));
    seen.quiet(server.admin).await;
    postgres.freeze();
    // 64 MiB wait; a batch has 8 at most.
    let one = |at: usize| {
        let mut message = message_to(&["ann"], &format!("{at}"));
        message["recipient_type"] = "user".into();
        message["content"] = "x".repeat(60_000).into();
        message
    };
    let batch = serde_json::json!({"messages": (0..120).map(one).collect::<Vec<_>>()});
    let mut senders = JoinSet::new();
    for _ in 0..14 {
        let (service, batch) = (service.clone(), batch.clone());
        senders.spawn(async move {
            loop {
                service.post("/api/v3/messages/send-batch", batch.clone()).await;
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
    seen.minutes(server.admin, 24).await;
    senders.shutdown().await;
    postgres.thaw();
    seen
}

pub(super) async fn the_database_answers_nothing_for_longer_than_a_lease() -> Recording {
    let postgres = Postgres::start();
    let cluster = Cluster::on(postgres.database());
    let server = cluster.node("a").start().await;
    let service = server.service().await;
    // There is somebody to send for.
    let hook = serde_json::json!({"url": "https://example.com/", "events": ["message.read"]});
    service.post("/api/v3/webhooks", hook).await.ok();
    let mut seen = Recording::new(Duration::from_secs(1));
    seen.quiet(server.admin).await;
    postgres.freeze();
    seen.minutes(server.admin, 22).await;
    postgres.thaw();
    seen.minutes(server.admin, 5).await;
    seen
}
