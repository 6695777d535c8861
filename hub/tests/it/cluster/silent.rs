//! A PostgreSQL that takes what it is sent and answers nothing: its processes stand still, or what is before
//! it has lost the connections. TCP sees nothing wrong, so only the nodes' own limits help.

use std::time::{Duration, Instant};

use http::Method;
use servers::{Postgres, Proxy};

use crate::support::{Api, Cluster, SOON, eventually, eventually_within};

/// What a statement may take, in these tests; its answer is waited for 5 s longer.
const STATEMENT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(6);

async fn is_ready(admin: &Api) -> bool {
    let health = admin.try_call(Method::GET, "/health/ready", None).await;
    health.is_ok_and(|health| health.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_answers_nothing_is_503_in_time_and_what_comes_after_it_is_stored() {
    let server = Postgres::start();
    let url = server.database();
    let way = Proxy::start(server.port()).await;
    let node = Cluster::new()
        .node("a")
        .env("DATABASE_URL", way.postgres_url(&url))
        .env("DATABASE_STATEMENT_TIMEOUT", "1s")
        .start()
        .await;
    let service = node.service().await;
    let mut phone = node.connect("ann").await;
    service.send_to("ann", "one").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "one");

    way.silence(true);
    let began = Instant::now();
    // As many as there are connections: each of those that are lost is given up.
    let sends = (0..20).map(|_| service.send_to("ann", "lost"));
    for answer in futures_util::future::join_all(sends).await {
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
        assert_eq!(answer.status, 503, "{:?}", answer.body);
    }
    // One is answered when its statement is given up, one that came in behind it when it gets no connection.
    let most = ANSWER + Duration::from_secs(5) + SOON;
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
    let admin = node.as_admin();
    eventually("it is not ready", || async { !is_ready(&admin).await }).await;
    let counted = "pushhub_postgres_errors_total{kind=\"silent\"} 0";
    eventually("it is counted", || async { !node.metrics().await.contains(counted) }).await;

    way.silence(false);
    let began = Instant::now();
    eventually_within("a send is stored", SOON * 2, || async {
        (service.send_to("ann", "two").await.status == 200).then_some(())
    })
    .await;
    eventually("it is ready", || async { is_ready(&admin).await }).await;
    assert!(began.elapsed() < ANSWER + STATEMENT + SOON, "{:?}", began.elapsed());
    assert_eq!(phone.next_message().await.fields.content, "two");
    // Nothing stands still behind it.
    for _ in 0..40 {
        node.as_user("ann").unread().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_database_stands_still_ends_in_its_drain_time() {
    let server = Postgres::start();
    let url = server.database();
    let node = Cluster::new().node("a").env("DATABASE_URL", url);
    let mut node = node.env("DRAIN_TIMEOUT", "5s").start().await;
    let service = node.service().await;
    let mut phone = node.connect("ann").await;
    service.send_to("ann", "hello").await.ok();
    phone.next_message().await;

    server.freeze();
    let accepted = service.clone();
    let sending = tokio::spawn(async move { accepted.send_to("ann", "lost").await });
    // Which takes seconds: the send is under way by then.
    let admin = node.as_admin();
    eventually("it is not ready", || async { !is_ready(&admin).await }).await;
    let began = Instant::now();
    node.signal(libc::SIGTERM);
    assert!(node.exited(SOON).await.success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(sending.await.unwrap().status, 503);
    server.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_a_database_that_answers_nothing() {
    let server = Postgres::start();
    let url = server.database();
    let way = Proxy::start(server.port()).await;
    way.silence(true);
    let ports = [servers::free_port(), servers::free_port()];
    let mut node = Cluster::new()
        .node("a")
        .env("DATABASE_URL", way.postgres_url(&url))
        .env("DATABASE_CONNECT_TIMEOUT", "1s")
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
    assert!(node.log().contains("does not answer"), "{}", node.log());
    way.silence(false);
    node.is_ready().await.unwrap();
    node.service().await.send_to("ann", "hello").await.ok();
}
