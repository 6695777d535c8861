//! `GET /stats` and `GET /admin/stats` (contract §9, §11).

use serde_json::{Value, json};

use crate::support::{Api, SOON, TestServer, api::message_to, eventually_within};

const OWN: &str = "/api/v3/stats";
const ALL: &str = "/api/v3/admin/stats";

fn row<'a>(stats: &'a Value, key: &Value) -> Option<&'a Value> {
    stats["rows"].as_array().unwrap().iter().find(|row| row["key"] == *key)
}

/// The answer in which so many were read.
/// What devices got and users read is noted behind the answer.
async fn with_counts(api: &Api, path: &str, delivered: u64, read: u64) -> Value {
    eventually_within("what was delivered and read is counted", SOON, || async {
        let stats = api.get(path).await.ok();
        let totals = &stats["totals"];
        (totals["delivered"] == delivered && totals["read"] == read).then_some(stats)
    })
    .await
}

#[tokio::test]
async fn what_was_sent_delivered_and_read_is_counted() {
    let server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    let drive = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let of = |changes: Value| {
        let mut message = message_to(&["ann", "bob"], "t");
        message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        message
    };
    let orders = json!({"message_type": "order", "channel_id": "orders"});
    for _ in 0..2 {
        shop.send(of(orders.clone())).await.ok();
    }
    drive
        .send(json!({"template_id": "file_share", "recipients": ["ann"], "variables": {
            "sender_name": "a", "file_name": "b", "file_size": "c",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://x/y"}}))
        .await
        .ok();
    server.as_user("bob").send_to("ann", "hi").await.ok();
    phone.until_seq(4).await;
    phone.read_up_to(2).await;
    phone.until_seq(6).await;
    // Who reads by REST has read what no device was sent.
    server.as_user("bob").post("/api/v3/messages/read-batch", json!({"up_to_seq": 1})).await.ok();

    let admin = server.as_admin();
    let by_type = with_counts(&admin, &format!("{ALL}?group_by=message_type"), 4, 3).await;
    assert_eq!(
        (&by_type["group_by"], &by_type["truncated"]),
        (&json!("message_type"), &json!(false))
    );
    assert_eq!(by_type["totals"]["sent"], 4);
    assert_eq!(by_type["totals"]["delivered"], 4);
    let order = row(&by_type, &json!("order")).unwrap();
    assert_eq!(
        (&order["sent"], &order["delivered"], &order["read"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert_eq!(order["read_rate"], 1.0);
    assert!(order["avg_time_to_read_ms"].as_u64().unwrap() < 60_000);
    let text = row(&by_type, &json!("text")).unwrap();
    assert_eq!((&text["sent"], &text["read"]), (&json!(1), &json!(0)));
    assert_eq!((&text["read_rate"], &text["avg_time_to_read_ms"]), (&json!(0.0), &Value::Null));

    let rows = |stats: &Value| stats["rows"].as_array().unwrap().len();
    let by_template = admin.get(&format!("{ALL}?group_by=template")).await.ok();
    assert_eq!(row(&by_template, &json!("file_share")).unwrap()["sent"], 1);
    assert_eq!(row(&by_template, &Value::Null).unwrap()["sent"], 3);
    let by_channel = admin.get(&format!("{ALL}?group_by=channel")).await.ok();
    assert_eq!(row(&by_channel, &json!("orders")).unwrap()["sent"], 2);
    let by_hour = admin.get(ALL).await.ok();
    assert_eq!((&by_hour["group_by"], rows(&by_hour) <= 2), (&json!("hour"), true));
    let sent: u64 =
        by_hour["rows"].as_array().unwrap().iter().map(|r| r["sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, 4);
    assert!(by_hour["rows"][0]["key"].as_str().unwrap().ends_with(":00:00Z"), "{by_hour}");

    // A service sees its own and nothing else.
    let own = with_counts(&shop, &format!("{OWN}?group_by=service"), 2, 3).await;
    assert_eq!((rows(&own), &own["totals"]["sent"]), (1, &json!(2)));
    let id = own["rows"][0]["key"].as_str().unwrap();
    let filtered = admin.get(&format!("{ALL}?group_by=message_type&service_id={id}")).await.ok();
    assert_eq!((rows(&filtered), &filtered["totals"]["sent"]), (1, &json!(2)));
    assert_eq!(drive.get(&format!("{OWN}?group_by=template")).await.ok()["totals"]["sent"], 1);
    let none = admin.get(&format!("{ALL}?tenant_id=acme")).await.ok();
    assert_eq!((rows(&none), &none["totals"]["sent"]), (0, &json!(0)));
    let before =
        admin.get(&format!("{ALL}?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z")).await.ok();
    assert_eq!(
        before["totals"],
        json!({"sent": 0, "delivered": 0, "read": 0, "read_rate": null, "avg_time_to_read_ms": null})
    );
}

#[tokio::test]
async fn an_orderly_end_keeps_the_counts() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.connect("ann").await;
    service.sent("ann", "t").await;
    phone.expect_seq(1).await;
    phone.read_up_to(1).await;
    phone.expect_seq(2).await;
    let before = with_counts(&service, OWN, 0, 1).await;
    assert!(server.terminate().await.success());
    server.spawn().await;
    let after = service.moved_to(server.user).get(OWN).await.ok();
    assert_eq!(after["totals"], before["totals"]);
}

#[tokio::test]
async fn wrong_questions() {
    let server = TestServer::start().await;
    let (service, admin) = (server.service().await, server.as_admin());
    for (query, named) in [
        ("group_by=user", "group_by"),
        ("from=yesterday", "from"),
        ("from=2025-01-02T00:00:00Z&to=2025-01-01T00:00:00Z", "from"),
        ("from=2020-01-01T00:00:00Z&to=2025-01-01T00:00:00Z", "366 days"),
        ("froom=2025-01-01T00:00:00Z", "from"),
    ] {
        for (api, path) in [(&service, OWN), (&admin, ALL)] {
            let sentence = api.get(&format!("{path}?{query}")).await.refused(422, "invalid");
            assert!(sentence.contains(named), "{query}: {sentence}");
        }
    }
    let sentence = service.get(&format!("{OWN}?service_id=x")).await.refused(422, "invalid");
    assert!(sentence.contains("service_id"), "{sentence}");
    admin.get(&format!("{ALL}?tenant_id=%0a")).await.refused(422, "invalid");
    server.as_user("ann").get(OWN).await.refused(403, "forbidden");
    server.api().get(OWN).await.refused(401, "unauthorized");
    service.get(ALL).await.refused(404, "not_found");
    admin.clone().service_key("phk_a_b").get(ALL).await.refused(401, "unauthorized");
}
