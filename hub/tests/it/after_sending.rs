//! What becomes of a message once it was sent: edits, recalls, receipts, buttons (contract §5, §11).

use protocol::{ServerFrame, Status};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Api, SOON, TestServer, Token, api::message_to, eventually, eventually_within,
};

fn path(id: &str, what: &str) -> String {
    format!("/api/v3/messages/{id}{what}")
}

async fn receipts(api: &Api, id: &str) -> Value {
    api.get(&path(id, "/receipts")).await.ok()
}

async fn recall(api: &Api, id: &str) -> Value {
    api.call(Method::POST, &path(id, "/recall"), None).await.ok()
}

fn with_buttons(user: &str) -> Value {
    let mut message = message_to(&[user], "approve?");
    message["actions"] = json!([
        {"type": "confirm", "text": "Yes", "action": "approve", "style": "primary"},
        {"type": "button", "text": "No", "action": "decline"},
        {"type": "link", "text": "Open", "url": "https://x/y"},
    ]);
    message
}

async fn send(api: &Api, message: Value) -> String {
    api.send(message).await.ok()["message_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_edit_reaches_devices_that_are_here_and_those_that_are_not() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let id = service.sent("ann", "tpyo").await;
    service.sent("ann", "other").await;
    phone.until_seq(2).await;
    let ann = server.as_user("ann");
    ann.post(&path(&id, "/read"), json!({})).await.ok();
    phone.expect_seq(3).await;

    let change = json!({"title": "typo", "content": "fixed", "priority": 9,
        "metadata": {"v": 2}, "attachments": [{"type": "file", "url": "https://x/y"}]});
    let answer = service.put(&path(&id, ""), change.clone()).await.ok();
    assert_eq!((&answer["message_id"], &answer["changed"]), (&json!(id), &json!(true)));
    assert_eq!((&answer["state"], &answer["message"]["title"]), (&json!("sent"), &json!("typo")));
    let message = phone.next_message().await;
    assert_eq!((message.state.seq.0, message.state.version.0), (1, 4));
    assert_eq!((message.state.status, message.state.is_read), (Status::Read, true));
    assert_eq!((message.fields.title.as_str(), message.fields.priority), ("typo", 9));
    assert!(message.fields.edited_at.is_some());
    assert_eq!(
        message.fields.created_at,
        message.fields.created_at.min(message.fields.edited_at.unwrap())
    );

    // Repeated, it changes nothing.
    let again = service.put(&path(&id, ""), change).await.ok();
    assert_eq!(again["changed"], false);
    phone.ping().await;

    // A device that was away sees the new content in both places and the old one in none.
    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let mut late = server.socket("ann").device("late").since(0).connect().await;
        let backlog = late.backlog().await;
        assert_eq!(backlog.len(), 4);
        for frame in [&backlog[0], &backlog[3]] {
            let ServerFrame::Message { data, .. } = frame else { panic!("{frame:?}") };
            assert_eq!((data.fields.title.as_str(), data.state.seq.0), ("typo", 1));
            assert_eq!(data.state.version.0, 4);
        }
        let ann = server.as_user("ann");
        let listed = ann.all_messages().await;
        assert_eq!(listed.len(), 2);
        assert_eq!((&listed[0]["title"], &listed[0]["is_read"]), (&json!("typo"), &json!(true)));
        assert_eq!(listed[0]["metadata"], json!({"v": 2}));
        assert_eq!(ann.unread().await, 1);
    }
}

#[tokio::test]
async fn who_may_change_and_take_back() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "secret").await;
    let chief =
        server.api().bearer(&Token::of("chief").claim("roles", json!(["system_admin"])).sign());
    let elsewhere = Token::of("chief").claim("roles", json!(["system_admin"]));
    let elsewhere = server.api().bearer(&elsewhere.claim("tenant_id", "acme").sign());
    for stranger in
        [server.as_user("ann"), server.as_user("eve"), server.service().await, elsewhere]
    {
        let unknown = "msg-unknown";
        for id in [&*id, unknown] {
            stranger.put(&path(id, ""), json!({"title": "x"})).await.refused(404, "not_found");
            stranger.post(&path(id, "/recall"), json!({})).await.refused(404, "not_found");
            stranger.post(&path(id, "/cancel"), json!({})).await.refused(404, "not_found");
            stranger.get(&path(id, "/receipts")).await.refused(404, "not_found");
        }
    }
    let reader = Token::of("ann").claim("scope", json!(["read"]));
    let reader = server.api().bearer(&reader.sign());
    reader.put(&path(&id, ""), json!({"title": "x"})).await.refused(403, "forbidden");
    reader.post(&path(&id, "/recall"), json!({})).await.refused(403, "forbidden");

    let title = |title: &str| json!({"title": title});
    chief.put(&path(&id, ""), title("by the chief")).await.ok();
    let admin = server.as_admin();
    let at_admins = format!("/api/v3/admin/messages/{id}");
    let edited = admin.put(&at_admins, title("by the admin")).await.ok();
    assert_eq!(edited["message"]["title"], "by the admin");
    let foreign = format!("{at_admins}?tenant_id=acme");
    admin.put(&foreign, title("x")).await.refused(404, "not_found");
    let seen = admin.get(&format!("{at_admins}/receipts")).await.ok();
    assert_eq!(seen["receipts"][0]["user_id"], "ann");
    let answer = admin.post(&format!("{at_admins}/recall"), json!({})).await.ok();
    assert_eq!(answer, json!({"message_id": id, "state": "recalled"}));
    assert_eq!(server.as_user("ann").all_messages().await.len(), 0);

    // A user is the sender of what they sent, and a service of what it sent for one.
    let bob = server.as_user("bob");
    let own = bob.sent("ann", "hi").await;
    bob.put(&path(&own, ""), title("hello")).await.ok();
    assert_eq!(receipts(&bob, &own).await["receipts"][0]["user_id"], "ann");
    let mut behalf = message_to(&["ann"], "for bob");
    behalf["on_behalf_of"] = json!("bob");
    let behalf = send(&service, behalf).await;
    bob.put(&path(&behalf, ""), title("x")).await.refused(404, "not_found");
    service.put(&path(&behalf, ""), title("of bob")).await.ok();
}

/// Every route of this file and of statistics and maintenance, on both ports, against whoever is
/// nobody or known and not meant.
#[tokio::test]
async fn every_route_asks_who_is_there() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = send(&service, with_buttons("ann")).await;
    let expired = Token::of("ann").expires_in(-60).sign();
    let audience = Token::of("ann").claim("aud", "another-app").sign();
    let key = service.credentials().strip_prefix("Service ").unwrap().to_owned();
    let change = || Some(json!({"title": "x"}));
    let of = |prefix: &str| {
        let one = format!("/api/v3/{prefix}messages/{id}");
        vec![
            (Method::PUT, one.clone(), change()),
            (Method::POST, format!("{one}/recall"), None),
            (Method::POST, format!("{one}/cancel"), None),
            (Method::GET, format!("{one}/receipts"), None),
        ]
    };
    let mut of_users = of("");
    of_users.push((Method::POST, path(&id, "/actions/0"), None));
    of_users.push((Method::GET, "/api/v3/stats".to_owned(), None));
    let mut of_admins = of("admin/");
    of_admins.push((Method::GET, "/api/v3/admin/stats".to_owned(), None));
    of_admins.push((Method::POST, "/api/v3/admin/maintenance/prune".to_owned(), None));
    let admin = server.as_admin();
    for (api, routes) in [(server.api(), of_users), (admin.clone().authorization(""), of_admins)] {
        let strangers = [
            api.clone().authorization(""),
            api.clone().bearer(&expired),
            api.clone().bearer(&audience),
            api.clone().bearer(&key),
            api.clone().service_key(&key[..key.len() - 1]),
        ];
        for (method, path, body) in &routes {
            for stranger in &strangers {
                let answer = stranger.call(method.clone(), path, body.clone()).await;
                answer.refused(401, "unauthorized");
            }
            if path.contains("/admin/") {
                for known in
                    [api.clone().bearer(&Token::of("ann").sign()), api.clone().service_key(&key)]
                {
                    let answer = known.call(method.clone(), path, body.clone()).await;
                    answer.refused(403, "forbidden");
                }
            }
        }
    }
    let suspend = format!("/api/v3/admin/services/{}/suspend", service_id(&admin).await);
    admin.call(Method::POST, &suspend, None).await.ok();
    service.post(&path(&id, "/recall"), json!({})).await.refused(403, "forbidden");
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!((&message["title"], &message["version"]), (&json!("approve?"), &json!(1)));
}

/// The only service that a test made; the first start makes one too.
async fn service_id(admin: &Api) -> String {
    let services = admin.get("/api/v3/admin/services").await.ok();
    let mut ids =
        services["services"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap());
    ids.find(|id| id.starts_with("svc-")).unwrap().to_owned()
}

#[tokio::test]
async fn edits_that_are_none() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "t").await;
    for (change, named) in [
        (json!({"titel": "x"}), &["titel", "title"][..]),
        (json!({"recipients": ["bob"]}), &["recipients", "cannot be changed"]),
        (json!({"message_type": "alert"}), &["message_type", "cannot be changed"]),
        (json!({"channel_id": "c"}), &["channel_id", "cannot be changed"]),
        (json!({"scheduled_at": "2099-01-01T00:00:00Z"}), &["scheduled_at"]),
        (json!({"title": "t".repeat(1_025)}), &["title", "1024"]),
        (json!({"title": 7}), &["title", "text"]),
        (json!({"priority": 11}), &["priority", "10"]),
        (json!({"expire_at": "2001-01-01T00:00:00Z"}), &["expire_at", "future"]),
        (json!({"metadata": []}), &["metadata", "object"]),
        (json!({"attachments": [{"type": "file"}]}), &["attachments[0].url"]),
        (
            json!({"actions": [{"type": "link", "text": "x", "url": "javascript:x"}]}),
            &["actions[0].url"],
        ),
        (json!([]), &["body", "object"]),
    ] {
        let sentence = service.put(&path(&id, ""), change.clone()).await.refused(422, "invalid");
        for word in named {
            assert!(sentence.contains(word), "{change}: {word:?} is not in {sentence}");
        }
    }
    let large = json!({"content": "x".repeat(1 << 20)});
    service.put(&path(&id, ""), large).await.refused(413, "payload_too_large");
    let empty = service.put(&path(&id, ""), json!({"title": "", "content": null})).await.ok();
    assert_eq!(empty["changed"], false);
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!((&message["title"], &message["version"]), (&json!("t"), &json!(1)));
    assert!(message.get("edited_at").is_none());
    let sentence =
        service.post(&path(&id, "/recall"), json!({"reason": "x"})).await.refused(422, "invalid");
    assert!(sentence.contains("reason"), "{sentence}");
    let sentence = service.get(&path(&id, "/receipts?page=1")).await.refused(422, "invalid");
    assert!(sentence.contains("page"), "{sentence}");
}

#[tokio::test]
async fn a_message_of_a_template_is_edited_as_what_it_says() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = send(
        &service,
        json!({"template_id": "file_share", "recipients": ["ann"], "variables": {
            "sender_name": "张三", "file_name": "a", "file_size": "1MB",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://x/y"}}),
    )
    .await;
    let sentence =
        service.put(&path(&id, ""), json!({"variables": {}})).await.refused(422, "invalid");
    assert!(sentence.contains("variables"), "{sentence}");
    service.put(&path(&id, ""), json!({"content": "链接已失效", "actions": []})).await.ok();
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!(message["title"], "张三 分享了文件给你");
    assert_eq!((&message["content"], &message["actions"]), (&json!("链接已失效"), &json!([])));
    assert_eq!(message["template_id"], "file_share");
}

/// Two edits at once of different fields: neither takes the other's away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_at_once_keep_each_other() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "t").await;
    for round in 1..=10 {
        let (path, text) = (path(&id, ""), format!("r{round}"));
        let (title, content) = (json!({"title": text}), json!({"content": text}));
        let (a, b) = tokio::join!(service.put(&path, title), service.put(&path, content));
        a.ok();
        b.ok();
        let message = server.as_user("ann").get(&path).await.ok();
        assert_eq!((&message["title"], &message["content"]), (&json!(text), &json!(text)));
        assert_eq!(message["version"], 1 + 2 * round);
    }
}

#[tokio::test]
async fn a_recalled_message_is_gone_everywhere() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut message = message_to(&["ann", "bob"], "wrong");
    message["metadata"] = json!({"secret": "content"});
    let id = send(&service, message).await;
    service.sent("ann", "right").await;
    phone.until_seq(2).await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 2);
    for _ in 0..2 {
        assert_eq!(recall(&service, &id).await, json!({"message_id": id, "state": "recalled"}));
    }
    let (seq, update) = phone.next_status().await;
    assert_eq!((seq, update.message_id.as_str(), update.status), (3, &*id, Status::Recalled));
    assert_eq!(update.device_id, None);
    phone.ping().await;
    service.put(&path(&id, ""), json!({"title": "x"})).await.refused(409, "conflict");

    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let ann = server.as_user("ann");
        assert_eq!(ann.unread().await, 1);
        ann.get(&path(&id, "")).await.refused(404, "not_found");
        ann.post(&path(&id, "/read"), json!({})).await.refused(404, "not_found");
        assert_eq!(ann.all_messages().await.len(), 1);
        // Who was away never sees it.
        for user in ["ann", "bob"] {
            let mut late = server.socket(user).device("late").since(0).connect().await;
            let backlog = late.backlog().await;
            let ServerFrame::StatusUpdate { data, .. } = &backlog[0] else { panic!("{backlog:?}") };
            assert_eq!((data.message_id.as_str(), data.status), (&*id, Status::Recalled));
            assert!(!format!("{backlog:?}").contains("wrong"), "{backlog:?}");
        }
        let answer = ann.get("/api/v3/messages?include=recalled").await;
        let with = answer.data()["messages"].as_array().unwrap().clone();
        assert_eq!(with.len(), 2);
        let gone = &with[1];
        assert_eq!((&gone["id"], &gone["status"]), (&json!(id), &json!("recalled")));
        assert_eq!((&gone["title"], &gone["content"]), (&json!(""), &json!("")));
        assert_eq!((&gone["metadata"], &gone["is_read"]), (&json!({}), &json!(true)));
    }
    let sentence =
        server.as_user("ann").get("/api/v3/messages?include=all").await.refused(422, "invalid");
    assert!(sentence.contains("include") && sentence.contains("recalled"), "{sentence}");
}

#[tokio::test]
async fn a_newer_message_takes_the_place_of_an_unread_older_one() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let build = |title: &str| {
        let mut message = message_to(&["ann"], title);
        message["collapse_key"] = json!("build");
        message
    };
    let one = send(&service, build("10 %")).await;
    phone.expect_seq(1).await;
    let two = send(&service, build("20 %")).await;
    server.service().await.send(build("another sender's")).await.ok();
    let ann = server.as_user("ann");
    let titles = async || -> Vec<Value> {
        ann.all_messages().await.iter().map(|m| m["title"].clone()).collect()
    };
    assert_eq!(titles().await, ["20 %", "another sender's"]);
    assert_eq!(ann.unread().await, 2);
    ann.get(&path(&one, "")).await.refused(404, "not_found");
    // What was read stays.
    ann.post(&path(&two, "/read"), json!({})).await.ok();
    send(&service, build("30 %")).await;
    assert_eq!(titles().await, ["20 %", "another sender's", "30 %"]);
    assert_eq!(ann.unread().await, 2);
    let mut late = server.socket("ann").device("late").since(0).connect().await;
    let backlog = late.backlog().await;
    let ServerFrame::StatusUpdate { data, .. } = &backlog[0] else { panic!("{backlog:?}") };
    assert_eq!((data.message_id.as_str(), data.status), (&*one, Status::Collapsed));
    assert!(!format!("{backlog:?}").contains("10 %"));
}

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

#[tokio::test]
async fn what_has_expired_cannot_be_pressed_or_edited() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(1_200);
    let mut message = with_buttons("ann");
    message["expire_at"] = json!(soon.to_string());
    let id = send(&service, message).await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 1);
    eventually("it expires", || async { ann.unread().await == 0 }).await;
    ann.post(&path(&id, "/actions/0"), json!({})).await.refused(404, "not_found");
    let later = json!({"expire_at": "2099-01-01T00:00:00Z"});
    let sentence = service.put(&path(&id, ""), later).await.refused(409, "conflict");
    assert!(sentence.contains("expired"), "{sentence}");
    assert_eq!(receipts(&service, &id).await["state"], "sent");
    assert_eq!(recall(&service, &id).await["state"], "recalled");

    // An edit can end a message's life early.
    let id = service.sent("ann", "short").await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(1_200);
    service.put(&path(&id, ""), json!({"expire_at": soon.to_string()})).await.ok();
    assert_eq!(ann.unread().await, 1);
    eventually("it expires too", || async { ann.unread().await == 0 }).await;
    assert_eq!(ann.all_messages().await.len(), 0);
}

#[tokio::test]
async fn unread_messages_are_counted_by_channel() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut ids = vec![];
    for channel in ["news", "ops", "news", "", "news"] {
        let mut message = message_to(&["ann"], "t");
        message["channel_id"] = json!(channel);
        ids.push(send(&service, message).await);
    }
    let counts = async || ann.get("/api/v3/messages/unread-count").await.ok();
    assert_eq!(
        counts().await,
        json!({"unread_count": 5, "channels": {"news": 3, "ops": 1}, "direct": 1})
    );
    ann.post("/api/v3/messages/read-batch", json!({"channel_id": "ops"})).await.ok();
    ann.post(&path(&ids[0], "/archive"), json!({})).await.ok();
    recall(&service, &ids[2]).await;
    assert_eq!(counts().await, json!({"unread_count": 2, "channels": {"news": 1}, "direct": 1}));
    ann.post(&path(&ids[0], "/unread"), json!({})).await.ok();
    assert_eq!(counts().await["unread_count"], 2, "archived ones stay");
    let of = async |channel: &str| {
        ann.get(&format!("/api/v3/messages/unread-count?channel_id={channel}")).await
    };
    assert_eq!(of("news").await.ok(), json!({"channel_id": "news", "unread_count": 1}));
    assert_eq!(of("none").await.ok()["unread_count"], 0);
    of(&"x".repeat(129)).await.refused(422, "invalid");
    ann.get("/api/v3/messages/unread-count?channel=x").await.refused(422, "invalid");
}
