//! Spans, as a collector gets them: one send is one trace, to the socket's write, whichever node has the socket.

use std::time::Instant;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    sockets::metric,
    support::{
        Api, Cluster, SOON, TestServer,
        api::message_to,
        collector::{Collector, Seen, hex},
        eventually, eventually_within,
        hooks::Answers,
    },
};

const SEND: &str = "POST /api/v3/messages/send";

/// A parent of a caller's own, with this last digit of its flags.
fn parent(trace: u8, flags: &str) -> (String, String) {
    let id = format!("{trace:02x}f7651916cd43dd8448eb211c80319c");
    (format!("00-{id}-b7ad6b7169203331-{flags}"), id)
}

fn traced(service: &Api, parent: &str) -> Api {
    service.clone().header("traceparent", parent)
}

fn only<'a>(found: &'a std::collections::BTreeMap<String, Vec<Seen>>, name: &str) -> &'a Seen {
    let [one] = &found[name][..] else { panic!("{name}: {found:#?}") };
    one
}

/// Whether one was caused by the other, and does not begin before it.
fn caused(parent: &Seen, child: &Seen) {
    let (child, parent) = (&child.span, &parent.span);
    assert_eq!(hex(&child.parent_span_id), hex(&parent.span_id), "{child:?} {parent:?}");
    assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{child:?} {parent:?}");
    assert!(child.end_time_unix_nano >= child.start_time_unix_nano, "{child:?}");
}

#[tokio::test]
async fn a_send_is_one_trace_to_the_sockets_write() {
    let collector = Collector::start().await;
    let server = collector
        .told_by(TestServer::builder())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=otlp-key%20of%20tests")
        .env("LOG_FORMAT", "json")
        .start()
        .await;
    let service = server.service().await;
    let mut phone = server.connect("ann").await;
    phone.backlog().await;
    let (header, id) = parent(1, "01");
    let message = message_to(&["ann"], "title-of-a-trace");
    traced(&service, &header).send(message).await.ok();
    phone.next_message().await;
    let names = [(SEND, 1), ("store append", 1), ("socket write", 1)];
    let found = collector.trace(&id, &names).await;
    let send = only(&found, SEND);
    assert_eq!(hex(&send.span.parent_span_id), "b7ad6b7169203331", "the caller's span");
    assert_eq!(send.span.kind(), SpanKind::Server);
    assert_eq!(send.attribute("http.request.method"), "POST");
    assert_eq!(send.attribute("http.route"), "/api/v3/messages/send");
    assert_eq!(send.attribute("http.response.status_code"), "200");
    assert_eq!(send.attribute("pushhub.tenant"), "default");
    let store = only(&found, "store append");
    caused(send, store);
    assert_eq!(store.attribute("messaging.batch.message_count"), "1");
    let write = only(&found, "socket write");
    caused(store, write);
    assert_eq!(write.attribute("pushhub.path"), "live");
    assert_eq!(write.attribute("pushhub.transport"), "ws");
    assert!(collector.header("api-key").iter().all(|key| key == "otlp-key of tests"));
    // The line of the request says so, and that of a request without a parent says its own.
    let line = server.logged(&id).await;
    assert!(line.contains(r#""target":"access""#), "{line}");
    assert!(line.contains(&format!(r#""trace_id":"{id}""#)), "{line}");
    // A key's request goes on in a task of its own; it is still the same trace.
    let (header, id) = parent(2, "01");
    traced(&service, &header).key("once").send(message_to(&["ann"], "two")).await.ok();
    phone.next_message().await;
    let found = collector.trace(&id, &names).await;
    caused(only(&found, SEND), only(&found, "store append"));
    // What the caller does not record is not recorded, and in the log all the same.
    let (header, unrecorded) = parent(3, "00");
    traced(&service, &header).send(message_to(&["ann"], "three")).await.ok();
    phone.next_message().await;
    server.logged(&unrecorded).await;
    // A refusal is no failure of the server's; a trace of its own where the caller has none.
    service.send(json!({"recipient_id": []})).await;
    eventually("the refusal is told", || async {
        let refused = |seen: &Seen| seen.attribute("http.response.status_code").starts_with('4');
        let spans = collector.spans();
        let one = spans.iter().find(|seen| refused(seen));
        one.is_some_and(|seen| seen.span.status.as_ref().is_none_or(|status| status.code == 0))
    })
    .await;
    assert!(collector.spans().iter().all(|seen| hex(&seen.span.trace_id) != unrecorded));
    assert!(!collector.raw().contains("title-of-a-trace") && !collector.raw().contains("ann"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_over_to_the_node_that_has_the_socket() {
    let collector = Collector::start().await;
    let cluster = Cluster::new();
    let a = collector.told_by(cluster.node("a")).start().await;
    let b = collector.told_by(cluster.node("b")).start().await;
    let service = a.service().await;
    let mut phone = b.connect("ann").await;
    phone.backlog().await;
    let (header, id) = parent(4, "01");
    traced(&service, &header).send(message_to(&["ann"], "one")).await.ok();
    phone.next_message().await;
    let names = [SEND, "store append", "bus publish", "bus receive", "socket write"];
    let found = collector.trace(&id, &names.map(|name| (name, 1))).await;
    for (name, node) in names.into_iter().zip(["a", "a", "a", "b", "b"]) {
        assert_eq!(only(&found, name).node, node, "{name}");
    }
    let chain = names.map(|name| only(&found, name));
    for pair in chain.windows(2) {
        caused(pair[0], pair[1]);
    }
    assert_eq!(chain[2].span.kind(), SpanKind::Producer);
    assert_eq!(chain[3].span.kind(), SpanKind::Consumer);
    // To many it is still a trace that somebody can look at.
    let users: Vec<String> = (0..100).map(|at| format!("user-{at}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let (header, id) = parent(5, "01");
    traced(&service, &header).send(message_to(&users, "many")).await.ok();
    collector.trace(&id, &[(SEND, 1), ("bus publish", 32)]).await;
    let published = collector.spans().into_iter().filter(|seen| hex(&seen.span.trace_id) == id);
    assert_eq!(published.filter(|seen| seen.span.name == "bus publish").count(), 32);
}

/// How many spans came to an end so.
async fn spans(server: &TestServer, result: &str) -> f64 {
    let name = format!("pushhub_spans_total{{result=\"{result}\"}}");
    metric(&server.metrics().await, &name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_slow_or_away_harms_nothing() {
    let collector = Collector::start().await;
    collector.answers(Answers::Nothing);
    let server = collector.told_by(TestServer::builder()).start().await;
    let service = server.service().await;
    eventually("the collector is asked", || async { collector.calls() > 0 }).await;
    let asked = Instant::now();
    // Two spans each, and more than wait in the end: a call takes 512 with it, and ten seconds.
    for _ in 0..20 {
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            let service = service.clone();
            senders.spawn(async move {
                for _ in 0..50 {
                    service.sent("ann", "one of many").await;
                }
            });
        }
        senders.join_all().await;
        if spans(&server, "dropped").await > 0.0 {
            break;
        }
    }
    assert!(spans(&server, "dropped").await > 0.0, "the queue is full");
    // Each call is given up after ten seconds, and they come one after the other.
    let most = 1 + asked.elapsed().as_secs() / 10;
    assert!(collector.calls() as u64 <= most, "{} calls", collector.calls());
    let dead = servers::free_port();
    let server = TestServer::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{dead}"))
        .start()
        .await;
    let service = server.service().await;
    service.sent("ann", "one").await;
    eventually("it is counted", || async { spans(&server, "lost").await > 0.0 }).await;
    server.logged("spans cannot be exported").await;
    let failed = "pushhub_spans_exports_total{result=\"failed\"}";
    assert!(metric(&server.metrics().await, failed).unwrap() > 0.0);
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);
}

#[tokio::test]
async fn the_last_spans_are_told_before_the_end() {
    let collector = Collector::start().await;
    let mut server = collector.told_by(TestServer::builder()).start().await;
    let service = server.service().await;
    let (header, id) = parent(6, "01");
    traced(&service, &header).send(message_to(&["ann"], "last")).await.ok();
    assert!(server.terminate().await.success());
    let found = eventually_within("the last spans", SOON, || async {
        let spans = collector.spans();
        spans.into_iter().find(|seen| hex(&seen.span.trace_id) == id && seen.span.name == SEND)
    });
    found.await;
}
