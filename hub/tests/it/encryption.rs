//! Content at rest: nothing that was said can be read where it lies, and everything is there for whoever has the key.

use std::path::{Path, PathBuf};

use protocol::{ServerFrame, Time};
use serde_json::{Value, json};

use crate::{
    deletion::{Site, places},
    support::{
        Api, Cluster, TestServer,
        api::message_to,
        eventually,
        hooks::{Answers, HookReceiver},
    },
};

/// In everything that is said.
const CANARY: &str = "canary-71f0c2d9";

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_OLD: &str = "old:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

const KEYS: &str = "DATA_ENCRYPTION_KEYS";

/// Says the canary wherever a message can say something.
fn message(recipients: &Value, kind: &str) -> Value {
    json!({
        "title": CANARY, "content": format!("{CANARY} in the middle 项目计划"), "message_type": "text",
        "recipients": recipients, "recipient_type": kind,
        "metadata": {"order": CANARY},
        "attachments": [{"type": "file", "name": CANARY, "url": format!("https://example.com/{CANARY}")}],
        "actions": [{"type": "button", "text": CANARY, "url": format!("https://example.com/{CANARY}"),
            "action": "approve"}],
    })
}

fn in_seconds(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis((i64::try_from(now.as_secs()).unwrap() + seconds) * 1_000).to_string()
}

async fn total(user: &Api, query: &str) -> u64 {
    user.get(&format!("/api/v3/messages?{query}")).await.ok()["total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_said_can_be_read_where_it_lies() {
    let mut site = Site::start(|builder| {
        builder.env(KEYS, OLD).env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
    })
    .await;
    let service = site.server.service().await;
    let receiver = HookReceiver::start().await;
    receiver.answers(Answers::Status(500));
    let hook = json!({"url": receiver.url(), "events": ["*"]});
    service.post("/api/v3/webhooks", hook).await.ok();
    let ann = site.server.as_user("ann");
    let room = json!({"id": "room", "name": "Room", "open": true, "history": true});
    service.post("/api/v3/channels", room).await.ok();
    ann.post("/api/v3/channels/room/join", Value::Null).await.ok();
    let mut phone = site.server.socket("ann").device("phone").connect().await;

    // To one, to several at once, to a channel, to everyone, later and soon.
    let to_ann = message(&json!(["ann"]), "user");
    let sent = service.key("once").send(to_ann.clone()).await.ok();
    let first = sent["message_id"].as_str().unwrap().to_owned();
    let batch = json!({"messages": [to_ann.clone(), message(&json!(["ann", "bob"]), "user")]});
    service.post("/api/v3/messages/send-batch", batch).await.ok();
    service.send(message(&json!(["room"]), "channel")).await.ok();
    service.send(message(&json!([]), "all")).await.ok();
    let mut later = to_ann.clone();
    later["scheduled_at"] = json!(in_seconds(86_400));
    service.send(later.clone()).await.ok();
    later["scheduled_at"] = json!(in_seconds(2));
    let soon = service.send(later).await.ok()["message_id"].as_str().unwrap().to_owned();
    phone.until_seq(6).await;
    for frame in ann.changes_after(0).await {
        if let ServerFrame::Message { data: message, .. } = frame {
            assert_eq!(message.fields.title, CANARY);
            assert_eq!(message.fields.metadata["order"], CANARY);
        }
    }
    // One that waited says when it was sent.
    let waited = ann.get(&format!("/api/v3/messages/{soon}")).await.ok();
    let listed = ann.all_messages().await;
    assert!(waited["created_at"].as_str() > listed[4]["created_at"].as_str(), "{waited}");
    // Edited, over what it said; read, pressed, recalled.
    let edit = json!({"content": format!("{CANARY} edited")});
    service.put(&format!("/api/v3/messages/{first}"), edit).await.ok();
    let got = ann.get(&format!("/api/v3/messages/{first}")).await.ok();
    assert_eq!(got["title"], CANARY);
    assert_eq!(got["content"], format!("{CANARY} edited"));
    let pressed = ann.post(&format!("/api/v3/messages/{first}/actions/0"), json!({})).await.ok();
    assert!(pressed.to_string().contains("approve"), "{pressed}");
    service.post(&format!("/api/v3/messages/{soon}/recall"), json!({})).await.ok();
    // Found by words and by metadata, with what filters say.
    assert_eq!(total(&ann, &format!("q={CANARY}")).await, 5);
    assert_eq!(total(&ann, "q=项目").await, 4);
    assert_eq!(total(&ann, "q=edited&status=read").await, 1);
    assert_eq!(total(&ann, "q=edited&status=unread").await, 0);
    assert_eq!(total(&ann, &format!("metadata=order:{CANARY}&channel_id=room")).await, 1);
    assert_eq!(total(&ann, "metadata=order:other").await, 0);
    let page =
        ann.get(&format!("/api/v3/messages?q={CANARY}&sort=priority&size=2&page=3")).await.ok();
    assert_eq!(page["messages"].as_array().unwrap().len(), 1, "{page}");
    assert!(page["messages"][0]["highlight"]["title"].as_str().unwrap().contains("<em>"), "{page}");
    let log = ann.get("/api/v3/channels/room/messages").await.ok();
    assert!(log.to_string().contains(CANARY), "{log}");
    eventually("services are told", || async { !receiver.hooks().is_empty() }).await;

    let at_once = site.places(CANARY);
    assert_eq!(at_once, Vec::<String>::new());
    // Nor in base64 or with the JSON around it.
    for begin in [r#""title":"canary"#, "Y2FuYXJ5LTcxZjBjMmQ5", "项目计划"] {
        assert_eq!(site.places(begin), Vec::<String>::new(), "{begin}");
    }
    assert!(!site.places("approve").is_empty(), "what is looked for can be found");
    let before = ann.all_messages().await;
    site.server.crash_and_restart().await;
    let ann = site.server.as_user("ann");
    assert_eq!(ann.all_messages().await, before);
    assert_eq!(site.server.as_user("bob").unread().await, 2);
    assert_eq!(total(&ann, &format!("q={CANARY}")).await, 5);
    // A repeat is known as one; another text by the same key is not taken for it.
    let service_again = service.moved_to(site.server.user).key("once");
    assert_eq!(service_again.send(to_ann).await.ok()["message_id"], first.as_str());
    assert_eq!(site.places(CANARY), Vec::<String>::new());
    assert!(!site.server.log().contains(CANARY));
    assert!(site.server.terminate().await.success());
    assert_eq!(site.places(CANARY), Vec::<String>::new());
}

/// What `pushhub content` says on a server that is down.
async fn content(server: &TestServer, arguments: &[&str]) -> String {
    let (status, said) = server.command(&[&["content"], arguments].concat()).await;
    assert!(status.success(), "{said}");
    said
}

async fn restart(server: &mut TestServer, keys: &str) {
    assert!(server.terminate().await.success());
    server.set_env(KEYS, keys);
    server.spawn().await;
}

/// From no key over one to another and back to none, and everything can be read all the while.
async fn keys_come_and_go(mut server: TestServer, everything: impl Fn(&str) -> Vec<String>) {
    let service = server.service().await;
    // So that there is an index of what was plain.
    service.send_to("ann", "plain one").await.ok();
    assert_eq!(total(&server.as_user("ann"), "q=plain").await, 1);
    let mut waits = message_to(&["ann"], "plain waits");
    waits["scheduled_at"] = json!(in_seconds(86_400));
    service.send(waits).await.ok();
    let titles = async |server: &TestServer| -> Vec<String> {
        let listed = server.as_user("ann").all_messages().await;
        listed.iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect()
    };
    restart(&mut server, OLD).await;
    let on = |server: &TestServer| service.moved_to(server.user);
    on(&server).send_to("ann", "old one").await.ok();
    on(&server).send_to("bob", "old for bob").await.ok();
    assert_eq!(titles(&server).await, ["plain one", "old one"]);
    assert_eq!(total(&server.as_user("ann"), "q=one").await, 2);
    restart(&mut server, &format!("{NEW},{OLD}")).await;
    on(&server).send_to("ann", "new one").await.ok();
    on(&server).send_to("eve", "new for eve").await.ok();
    let all = ["plain one", "old one", "new one"];
    assert_eq!(titles(&server).await, all);
    assert!(!everything("plain one").is_empty(), "what was there before is as it was");
    assert!(server.terminate().await.success());
    let said = content(&server, &[]).await;
    assert!(said.contains("not encrypted: 2\n"), "{said}");
    assert!(said.contains("key old: 2\n") && said.contains("key new: 2\n"), "{said}");

    // A key that is missing, or another of its name: who has nothing by it is served, the others are told.
    for (keys, words) in [
        (NEW.to_owned(), "the key \"old\", which DATA_ENCRYPTION_KEYS does not have"),
        (String::new(), "which DATA_ENCRYPTION_KEYS does not have"),
        (format!("{NEW},{OTHER_OLD}"), "with the key \"old\": it is another key of that name"),
    ] {
        server.set_env(KEYS, &keys);
        server.spawn().await;
        for path in ["", "?q=one"] {
            let path = format!("/api/v3/messages{path}");
            if keys.is_empty() && path.contains('q') {
                continue;
            }
            server.as_user("bob").get(&path).await.refused(500, "internal");
        }
        assert_eq!(server.as_user("bob").unread().await, 1);
        if !keys.is_empty() {
            let eve = server.as_user("eve").all_messages().await;
            assert_eq!(eve[0]["title"], "new for eve");
        }
        server.logged(words).await;
        assert!(!server.log().contains("sealed"), "{}", server.log());
        let metrics = server.metrics().await;
        assert!(metrics.contains("pushhub_content_errors_total{reason=\""), "{metrics}");
        assert!(server.terminate().await.success());
    }
    // Nor is anything lost by the attempt to rewrite it.
    server.set_env(KEYS, NEW);
    let (status, said) = server.command(&["content", "--rewrite"]).await;
    assert!(!status.success() && said.contains("the key \"old\""), "{said}");

    server.set_env(KEYS, &format!("{NEW},{OLD}"));
    let said = content(&server, &["--rewrite"]).await;
    assert!(said.contains("key new: 6\n"), "{said}");
    assert!(said.contains("key old: 0; it is not needed any more"), "{said}");
    for needle in ["plain one", "plain waits", "old.", "old one"] {
        assert_eq!(everything(needle), Vec::<String>::new(), "{needle}");
    }
    server.set_env(KEYS, NEW);
    server.spawn().await;
    assert_eq!(titles(&server).await, all);
    assert_eq!(server.as_user("bob").all_messages().await[0]["title"], "old for bob");
    assert_eq!(total(&server.as_user("ann"), "q=one").await, 3);
    on(&server).send_to("ann", "after").await.ok();
    let mut phone = server.socket("ann").device("phone").since(0).connect().await;
    phone.until_seq(4).await;
    drop(phone);

    // Off again.
    restart(&mut server, &format!("plain,{NEW}")).await;
    on(&server).send_to("ann", "in the open").await.ok();
    assert_eq!(titles(&server).await.len(), 5);
    assert!(server.terminate().await.success());
    let said = content(&server, &["--rewrite"]).await;
    assert!(said.contains("not encrypted: 8\n") && said.contains("key new: 0;"), "{said}");
    server.set_env(KEYS, "");
    server.spawn().await;
    assert_eq!(titles(&server).await, ["plain one", "old one", "new one", "after", "in the open"]);
    assert_eq!(total(&server.as_user("ann"), "q=one").await, 3);
    let waiting = server.as_admin().get("/api/v3/admin/messages/scheduled").await.ok();
    assert!(waiting.to_string().contains("plain waits"), "{waiting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_in_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("storage");
    let server = TestServer::plain_builder().storage(&folder).start().await;
    keys_come_and_go(server, |needle| places(Ok(&folder), needle)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_in_a_database() {
    let cluster = Cluster::new();
    let server = cluster.node("a").start().await;
    keys_come_and_go(server, |needle| places(Err(&cluster.database), needle)).await;
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_one_set_of_keys_to_another() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { place.path().join(name) };
    let mut server =
        TestServer::plain_builder().storage(&path("storage")).env(KEYS, OLD).start().await;
    let service = server.service().await;
    for n in 0..300 {
        service.sent("ann", &format!("{CANARY} {n}")).await;
    }
    let before = server.as_user("ann").all_messages().await;
    assert!(server.terminate().await.success());
    let (status, said) =
        server.command(&["backup", "--user", "ann", "--out", text(&path("ann.db"))]).await;
    assert!(status.success(), "{said}");
    let file = rusqlite::Connection::open(path("ann.db")).unwrap();
    let sql =
        "SELECT count(*) FROM messages WHERE title LIKE 'canary%' AND body NOT LIKE '%sealed%'";
    let readable: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(readable, 300, "it needs no key");
    drop(file);
    server.set_env(KEYS, "");
    let (status, said) =
        server.command(&["backup", "--user", "ann", "--out", text(&path("b.db"))]).await;
    assert!(!status.success() && said.contains("the key \"old\""), "{said}");

    let fresh = path("fresh");
    let run = || TestServer::plain_builder().storage(&fresh).env(KEYS, NEW);
    let (status, said) = run().run(&["restore", text(&path("ann.db"))]).await;
    assert!(status.success(), "{said}");
    let server = run().start().await;
    assert_eq!(server.as_user("ann").all_messages().await, before);
    assert_eq!(places(Ok(&fresh), CANARY), Vec::<String>::new());

    let cluster = Cluster::new();
    let node = || cluster.node("a").env(KEYS, NEW);
    let (status, said) = node().run(&["restore", text(&path("ann.db"))]).await;
    assert!(status.success(), "{said}");
    let server = node().start().await;
    assert_eq!(server.as_user("ann").all_messages().await, before);
    assert_eq!(places(Err(&cluster.database), CANARY), Vec::<String>::new());
}
