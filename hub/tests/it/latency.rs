//! How long a message takes from its acceptance to the kernel, and to the device's `ack`.

use serde_json::json;

use crate::{
    sockets::metric,
    support::{Api, Cluster, SOON, TestClient, TestServer, eventually_within},
};

const WRITTEN: &str = "pushhub_delivery_seconds";
const WRITTEN_LIVE: &str = "pushhub_delivery_seconds{path=\"live\"}";
const ACKED: &str = "pushhub_delivery_ack_seconds";

/// How often a time was measured, and all of them together.
async fn measured(server: &TestServer, name: &str) -> (f64, f64) {
    let text = server.metrics().await;
    let (name, labels) = name
        .split_once('{')
        .map_or((name, String::new()), |(name, labels)| (name, format!("{{{labels}")));
    let of = |part: &str| metric(&text, &format!("{name}_{part}{labels}")).unwrap_or_default();
    (of("count"), of("sum"))
}

/// Waits for so many, and holds them to what can be.
async fn counted(server: &TestServer, name: &str, count: f64) -> f64 {
    let what = format!("{name} has {count} samples");
    let sum = eventually_within(&what, SOON, || async {
        let (found, sum) = measured(server, name).await;
        assert!(found <= count, "{name} has {found} samples, {count} changes");
        (found >= count).then_some(sum)
    })
    .await;
    assert!((0.0..SOON.as_secs_f64() * count).contains(&sum), "{name}: {sum} s in all");
    sum
}

async fn goes_live(server: &TestServer, service: &Api, user: &str) -> TestClient {
    let mut phone = server.connect(user).await;
    // A connection that still catches up gets its first message from the store.
    phone.backlog().await;
    let before = measured(server, WRITTEN_LIVE).await.0;
    service.send_to(user, "first").await.ok();
    let first = phone.next_message().await;
    assert_eq!(first.fields.title, "first");
    counted(server, WRITTEN_LIVE, before + 1.0).await;
    phone
}

#[tokio::test]
async fn it_is_measured_to_the_kernel_and_to_the_ack() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = goes_live(&server, &service, "ann").await;
    assert_eq!(measured(&server, ACKED).await.0, 0.0, "nothing is confirmed yet");
    service.send_to("ann", "second").await.ok();
    phone.next_message().await;
    phone.ack(2).await;
    let acked = counted(&server, ACKED, 2.0).await;
    let written = counted(&server, WRITTEN_LIVE, 2.0).await;
    assert!(acked > written, "{acked} s until the ack, {written} s until it was written");
    // Again, and beyond what was sent: neither is another time.
    phone.ack(2).await;
    phone.ack(9).await;
    // A change of state is a change, too; its device need not confirm it for the next one to count.
    let list = server.as_user("ann").all_messages().await;
    phone.read(&[list[0]["id"].as_str().unwrap()]).await;
    phone.next_status().await;
    counted(&server, WRITTEN_LIVE, 3.0).await;
    phone.ack(3).await;
    counted(&server, ACKED, 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_measured_where_the_device_is() {
    let [a, b]: [TestServer; 2] = Cluster::new().nodes().await;
    let service = a.service().await;
    let mut phone = goes_live(&b, &service, "ann").await;
    assert_eq!(measured(&a, WRITTEN).await.0, 0.0, "nobody is connected there");
    phone.ack(1).await;
    counted(&b, ACKED, 1.0).await;
    // By the database's clock.
    let everyone = json!({"recipient_type": "all", "title": "all", "content": "c"});
    a.as_admin().post("/api/v3/admin/messages/send", everyone).await.ok();
    assert_eq!(phone.next_message().await.fields.title, "all");
    counted(&b, WRITTEN_LIVE, 2.0).await;
    phone.ack(2).await;
    counted(&b, ACKED, 2.0).await;
    assert_eq!(measured(&a, ACKED).await.0, 0.0);
}
