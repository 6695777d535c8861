//! What a client sees of several nodes, and which part serves what.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{Cluster, eventually, server::ADMIN_TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_a_users_devices_on_every_node_in_order_and_read_state_follows() {
    let cluster = Cluster::new();
    let [a, b] = cluster.nodes().await;
    let mut phone = a.socket("ann").device("phone").connect().await;
    let mut tablet = b.socket("ann").device("tablet").connect().await;
    let service = a.service().await;
    let elsewhere = service.moved_to(b.user);
    for round in 0..50 {
        let api = if round % 2 == 0 { &service } else { &elsewhere };
        api.send_to("ann", &format!("{round}")).await.ok();
    }
    let mut ids = vec![];
    for round in 0..50 {
        let message = phone.next_message().await;
        assert_eq!(message.fields.content, format!("{round}"));
        assert_eq!(tablet.next_message().await.fields.id, message.fields.id);
        ids.push(message.fields.id);
    }
    let path = format!("/api/v3/messages/{}/read", ids[7]);
    b.as_user("ann").post(&path, json!({})).await.ok();
    for device in [&mut phone, &mut tablet] {
        assert_eq!(device.next_status().await.1.message_id, ids[7]);
    }
    assert_eq!(a.as_user("ann").unread().await, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_serves_what_is_its_and_says_so() {
    let cluster = Cluster::new();
    let part = |role: &str| cluster.node(role).env("PUSHHUB_ROLE", role).start();
    let (hub, delivery, admin) = tokio::join!(part("hub"), part("delivery"), part("admin"));
    // The service is made by the admin part, used on the delivery part, and heard on the hub part.
    let created =
        admin.create_service(json!({"id": "drive", "name": "drive", "level": "system"})).await.ok();
    let service = delivery.api().service_key(created["api_key"].as_str().unwrap());
    let mut phone = hub.connect("ann").await;
    service.send_to("ann", "hello").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "hello");
    delivery.as_user("ann").get("/api/v3/messages").await.ok();

    // Not by the clients of the other tests, which hold answers against the description of everything.
    let status = async |address: SocketAddr, path: &str| {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let request = reqwest::Client::new().get(format!("http://{address}{path}"));
        request.header("Authorization", token).send().await.unwrap().status()
    };
    assert_eq!(status(hub.user, "/api/v3/messages").await, 404);
    assert_eq!(status(hub.admin, "/api/v3/admin/services").await, 404);
    assert_eq!(status(delivery.admin, "/api/v3/admin/services").await, 404);
    assert_eq!(delivery.socket("ann").refused().await.status(), 404);
    assert_eq!(admin.user.port(), 0, "it has no users");

    for (server, role, sockets) in [
        (&hub, "hub", json!("ok")),
        (&delivery, "delivery", json!(null)),
        (&admin, "admin", json!(null)),
    ] {
        eventually("the bus is up", || async {
            let health = server.as_admin().get("/health/ready").await;
            health.status == 200 && health.body["status"] == "ready"
        })
        .await;
        let health = server.as_admin().get("/health/ready").await.body;
        assert_eq!(health["role"], role);
        assert_eq!(health["checks"]["sockets"], sockets);
        assert_eq!(health["checks"]["bus"], "up");
        assert!(server.metrics().await.contains("\npushhub_ready 1\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_full_wants_no_more() {
    let cluster = Cluster::new();
    let full = cluster.node("a").env("PUSHHUB_ROLE", "hub").env("WS_MAX_CONNECTIONS", 1);
    let full = full.start().await;
    let phone = full.connect("ann").await;
    let health = full.as_admin().get("/health/ready").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.body["checks"]["sockets"], "full");
    drop(phone);
    eventually("there is room again", || async { full.ready().await }).await;
}
