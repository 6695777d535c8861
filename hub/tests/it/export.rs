//! Everything that is kept of a user, as lines.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::{
    sessions::log_in,
    support::{
        Answer, TestServer,
        api::message_to,
        download::{begin, files_have_followed},
        eventually,
    },
};

const OWN: &str = "/api/v3/auth/export";

/// The data of the lines of a type.
struct Lines(Vec<Value>);

impl Lines {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        let text = answer.body.as_str().expect("several lines are no JSON");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.last().unwrap();
        assert_eq!(*last, json!({"type": "end", "data": {"lines": lines.len() - 1}}));
        assert_eq!(lines[0]["type"], "export");
        Self(lines)
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["type"] == kind).map(|line| &line["data"]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_all_of_a_user_and_nothing_of_others() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let pair = log_in(&server, "ann", "phone").await;
    log_in(&server, "eve", "eves-phone").await;
    let ann = server.api().bearer(&pair.access);
    let name = json!({"name": "安", "locale": "zh-CN"});
    ann.put("/api/v3/auth/profile", name).await.ok();
    let roles = json!({"roles": ["oncall"]});
    server.as_admin().put("/api/v3/admin/users/ann/roles", roles).await.ok();
    let room = json!({"id": "room", "name": "Room", "open": true});
    service.post("/api/v3/channels", room).await.ok();
    ann.post("/api/v3/channels/room/join", Value::Null).await.ok();

    // More than a page of the inbox, in every state.
    let mut expected = vec![];
    for n in 0..120 {
        let title = format!("to ann {n}");
        let id = service.sent("ann", &title).await;
        let state = match n {
            3 => "read",
            4 => "archive",
            5 => "recall",
            _ => "",
        };
        if !state.is_empty() {
            let by = if n == 5 { &service } else { &ann };
            by.post(&format!("/api/v3/messages/{id}/{state}"), json!({})).await.ok();
        }
        expected.push((id, if n == 5 { String::new() } else { title }));
    }
    service.sent("eve", "for eve only").await;
    let sent = ann.sent("bob", "from ann").await;
    let both = ann.send(message_to(&["bob", "cid"], "to both")).await.ok();
    server.as_user("eve").sent("bob", "from eve").await;
    let mut phone = server.socket("bob").device("bobs").connect().await;
    phone.sync(0).await;
    phone.until_seq(2).await;
    server.as_user("bob").post(&format!("/api/v3/messages/{sent}/read"), json!({})).await.ok();

    let by_admin = server.as_admin().get("/api/v3/admin/users/ann/export").await;
    for answer in [ann.get(OWN).await, by_admin] {
        let lines = Lines::of(&answer);
        let profile = &lines.all("profile")[0];
        assert_eq!((&profile["name"], &profile["locale"]), (&json!("安"), &json!("zh-CN")));
        let directory = &lines.all("directory")[0];
        assert_eq!(directory["added_roles"], json!(["oncall"]));
        let session = &lines.all("session")[0];
        assert_eq!((lines.all("session").len(), &session["device_id"]), (1, &json!("phone")));
        let memberships = lines.all("membership");
        assert!(memberships.contains(&&json!({"channel_id": "room"})), "{memberships:?}");
        assert!(memberships.contains(&&json!({"role": "oncall"})), "{memberships:?}");
        let messages = lines.all("message");
        let found: Vec<(String, String)> = messages
            .iter()
            .map(|message| {
                let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                (text("id"), text("title"))
            })
            .collect();
        assert_eq!(found, expected);
        let status = |n: usize| messages[n]["status"].as_str().unwrap();
        assert_eq!(
            [2, 3, 4, 5].map(status),
            ["unread", "read", "archived", "recalled"],
            "{:?}",
            messages[4]
        );
        let sents = lines.all("sent");
        assert_eq!(sents.len(), 2);
        let one = sents.iter().find(|one| one["message_id"] == json!(sent)).unwrap();
        assert_eq!(
            (&one["message"]["title"], &one["users"]),
            (&json!("from ann"), &json!(["bob"]))
        );
        let receipts = lines.all("receipt");
        let of = |id: &Value| receipts.iter().filter(|one| one["message_id"] == *id).count();
        assert_eq!((of(&json!(sent)), of(&both["message_id"])), (1, 2));
        let read = receipts.iter().find(|one| one["message_id"] == json!(sent)).unwrap();
        assert!(read["user_id"] == "bob" && read["read_at"].is_string(), "{read}");

        let text = answer.body.as_str().unwrap();
        let secrets = [&pair.access, &pair.refresh].map(|token| &token[token.len() - 20..]);
        for other in ["for eve only", "from eve", "eves-phone"].iter().chain(&secrets) {
            assert!(!text.contains(other), "{other}");
        }
    }
    server.as_admin().get("/api/v3/admin/users/nobody/export").await.refused(404, "not_found");
    service.get(OWN).await.refused(403, "forbidden");
    let other = "/api/v3/admin/users/ann/export?tenant_id=t2";
    server.as_admin().get(other).await.refused(404, "not_found");
    // One of whom nobody knows anything but the token.
    let lines = Lines::of(&server.as_user("new").get(OWN).await);
    assert_eq!((lines.all("message").len(), lines.all("profile").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_read_as_it_is_taken_and_one_at_a_time() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let content = "x".repeat(64 << 10);
    for _ in 0..24 {
        let one = json!({"title": "t", "content": content, "message_type": "text",
            "recipients": ["ann"], "recipient_type": "user"});
        let batch = json!({"messages": vec![one; 50]});
        service.post("/api/v3/messages/send-batch", batch).await.ok();
    }
    let ann = server.as_user("ann");
    files_have_followed(&server).await;
    let before = server.rss();
    let mut stream = begin(&server, &ann, OWN).await;
    let refused = ann.get(OWN).await;
    refused.refused(503, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
    assert!(server.metrics().await.contains("pushhub_exports_running 1"));
    // Another user's goes on beside.
    Lines::of(&server.as_user("bob").get(OWN).await);
    let (mut bytes, mut most, mut chunk) = (0, 0, vec![0; 256 << 10]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        bytes += read;
        most = most.max(server.rss().saturating_sub(before));
    }
    println!("an export of {bytes} bytes took {most} bytes of memory at its most");
    assert!(bytes > 1_200 * (64 << 10), "{bytes} bytes");
    // Three pages of 1 MB, and what reading and the allocator take besides (5 to 24 MB, with PostgreSQL); not
    // the 79 MB of it all.
    assert!(most < 40 << 20, "{most} bytes more than before");
    // Who goes away gives the place up.
    drop(begin(&server, &ann, OWN).await);
    eventually("there is room again", || async { ann.head_of(OWN).await.status == 200 }).await;
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_exports_total{result=\"whole\"}"), "{metrics}");
    ann.call(Method::POST, OWN, None).await.refused(405, "method_not_allowed");
}
