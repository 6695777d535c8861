//! What became of a message at its recipients, and the buttons they press.

use protocol::Status;
use reqwest::Method;
use serde_json::{Value, json};

use super::{path, recall, receipts, send, with_buttons};
use crate::support::{Api, SOON, TestServer, api::message_to, eventually, eventually_within};

#[tokio::test]
async fn receipts_say_what_became_of_it_on_every_device() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut laptop = server.socket("ann").device("laptop").connect().await;
    let id = send(&service, message_to(&["cid", "ann", "bob"], "hello")).await;
    phone.expect_seq(1).await;
    laptop.expect_seq(1).await;
    phone.ack(1).await;
    phone.ping().await;
    let of = async |service: &Api, user: &str| -> Value {
        let receipts = receipts(service, &id).await;
        assert_eq!((&receipts["state"], &receipts["recipients"]), (&json!("sent"), &json!(3)));
        assert!(receipts["sent_at"].is_string() && receipts["accepted_at"].is_string());
        let list = receipts["receipts"].as_array().unwrap();
        let users: Vec<_> = list.iter().map(|receipt| receipt["user_id"].clone()).collect();
        assert_eq!(users, ["ann", "bob", "cid"]);
        list.iter().find(|receipt| receipt["user_id"] == user).unwrap().clone()
    };
    let device = |receipt: &Value, device: &str| -> Value {
        let devices = receipt["devices"].as_array().unwrap();
        devices.iter().find(|d| d["device_id"] == device).cloned().unwrap_or_default()
    };
    let ann = eventually_within("both devices and the ack are seen", SOON, || async {
        let ann = of(&service, "ann").await;
        let complete = device(&ann, "phone")["acked_at"].is_string()
            && device(&ann, "laptop")["delivered_at"].is_string();
        complete.then_some(ann)
    })
    .await;
    assert!(ann["stored_at"].is_string() && ann["delivered_at"].is_string());
    assert!(ann["acked_at"].is_string() && ann["read_at"].is_null());
    assert!(device(&ann, "laptop")["acked_at"].is_null());
    let bob = of(&service, "bob").await;
    assert!(bob["stored_at"].is_string() && bob["delivered_at"].is_null());
    assert_eq!((&bob["devices"], &bob["actions"]), (&json!([]), &json!([])));
    server.as_user("bob").post(&path(&id, "/read"), json!({})).await.ok();
    eventually("bob has read", || async { of(&service, "bob").await["read_at"].is_string() }).await;

    // In pages, each once.
    let mut seen = vec![];
    let mut query = "?size=2".to_owned();
    loop {
        let page = service.get(&path(&id, &format!("/receipts{query}"))).await;
        let list = page.data()["receipts"].as_array().unwrap().clone();
        seen.extend(list.iter().map(|receipt| receipt["user_id"].clone()));
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => query = format!("?size=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["ann", "bob", "cid"]);
    for query in ["?cursor=%21", "?size=0", "?size=201", "?cursor=_w"] {
        service.get(&path(&id, &format!("/receipts{query}"))).await.refused(422, "invalid");
    }
    assert!(server.terminate().await.success());
    server.spawn().await;
    let service = service.moved_to(server.user);
    let ann = of(&service, "ann").await;
    assert!(device(&ann, "phone")["acked_at"].is_string(), "an orderly end keeps all: {ann}");
    assert!(of(&service, "bob").await["read_at"].is_string());
}

#[tokio::test]
async fn a_button_is_pressed_once_and_every_device_sees_it() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut laptop = server.socket("ann").device("laptop").connect().await;
    let id = send(&service, with_buttons("ann")).await;
    phone.expect_seq(1).await;
    laptop.expect_seq(1).await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 1);
    let press = |index: &str| path(&id, &format!("/actions/{index}"));
    let first = ann.post(&press("0"), json!({"device_id": "phone"})).await.ok();
    assert_eq!((&first["first"], &first["unread_count"]), (&json!(true), &json!(0)));
    assert_eq!((&first["status"], &first["is_read"]), (&json!("read"), &json!(true)));
    let pressed = first["pressed"].clone();
    assert_eq!((&pressed["index"], &pressed["action"]), (&json!(0), &json!("approve")));
    assert_eq!(pressed["device_id"], "phone");
    assert!(pressed["at"].is_string());
    for device in [&mut phone, &mut laptop] {
        let (seq, update) = device.next_status().await;
        assert_eq!((seq, update.status), (2, Status::Read));
        let action = update.action.unwrap();
        assert_eq!((action.index, action.action.as_str()), (0, "approve"));
        assert_eq!(update.device_id.unwrap().as_str(), "phone");
    }
    // The second press changes nothing and is told of the first.
    let second = ann.post(&press("0"), json!({"device_id": "laptop"})).await.ok();
    assert_eq!((&second["first"], &second["pressed"]), (&json!(false), &pressed));
    assert_eq!(second["version"], first["version"]);
    phone.ping().await;
    laptop.ping().await;
    // Another button is another press.
    let other = ann.call(Method::POST, &press("1"), None).await.ok();
    assert_eq!((&other["first"], &other["pressed"]["action"]), (&json!(true), &json!("decline")));

    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let ann = server.as_user("ann");
        let message = ann.get(&path(&id, "")).await.ok();
        let indexes: Vec<_> =
            message["pressed"].as_array().unwrap().iter().map(|p| p["index"].clone()).collect();
        assert_eq!(indexes, [json!(0), json!(1)]);
        assert_eq!(message["pressed"][0], pressed);
        assert_eq!(ann.all_messages().await[0]["pressed"], message["pressed"]);
        let service = service.moved_to(server.user);
        let receipt = eventually_within("the sender sees it", SOON, || async {
            let receipt = receipts(&service, &id).await["receipts"][0].clone();
            (receipt["actions"].as_array().unwrap().len() == 2).then_some(receipt)
        })
        .await;
        assert_eq!(receipt["actions"][0], pressed);
        assert!(receipt["read_at"].is_string());
    }
}

/// The same button from two devices at once: one of them counts, and both are told which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_presses_at_once_one_counts() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    for round in 1..=10 {
        let id = send(&service, with_buttons("ann")).await;
        let press = path(&id, "/actions/0");
        let by = |device: &str| json!({"device_id": device});
        let (a, b) = tokio::join!(ann.post(&press, by("phone")), ann.post(&press, by("laptop")));
        let (a, b) = (a.ok(), b.ok());
        assert_ne!(a["first"], b["first"], "round {round}");
        assert_eq!(a["pressed"], b["pressed"]);
        let winner = if a["first"] == true { "phone" } else { "laptop" };
        assert_eq!(a["pressed"]["device_id"], winner);
    }
    assert_eq!(ann.unread().await, 0);
}

#[tokio::test]
async fn buttons_that_are_not_there() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = send(&service, with_buttons("ann")).await;
    let plain = service.sent("ann", "no buttons").await;
    let ann = server.as_user("ann");
    for (id, index) in [
        (&*id, "3"),
        (&id, "255"),
        (&id, "256"),
        (&id, "-1"),
        (&id, "x"),
        (&plain, "0"),
        ("no-such", "0"),
    ] {
        let path = path(id, &format!("/actions/{index}"));
        ann.post(&path, json!({})).await.refused(404, "not_found");
    }
    let press = path(&id, "/actions/0");
    server.as_user("eve").post(&press, json!({})).await.refused(404, "not_found");
    service.post(&press, json!({})).await.refused(403, "forbidden");
    for (body, named) in
        [(json!({"device": "x"}), "device_id"), (json!({"device_id": "a\n"}), "control")]
    {
        let sentence = ann.post(&press, body).await.refused(422, "invalid");
        assert!(sentence.contains(named), "{sentence}");
    }
    recall(&service, &id).await;
    ann.post(&press, json!({})).await.refused(404, "not_found");
    assert_eq!(ann.unread().await, 1);
}
