//! Channels by the front door (seed 003 §2.1, §3.1; contract §5).

use protocol::{ClientFrame, ServerFrame};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestClient, TestServer, Token};

const PATH: &str = "/api/v3/channels";

async fn make(api: &Api, channel: Value) -> Value {
    api.post(PATH, channel).await.ok()
}

async fn members(api: &Api, id: &str, change: Value) -> Value {
    api.post(&format!("{PATH}/{id}/members"), change).await.ok()
}

async fn send(api: &Api, channel: &str, title: &str) -> String {
    let message = json!({"title": title, "content": "c", "recipients": [channel],
        "recipient_type": "channel", "metadata": {"of": title}});
    let sent = api.send(message).await.ok();
    sent["message_id"].as_str().unwrap().to_owned()
}

fn titles(data: &Value) -> Vec<&str> {
    let messages = data["messages"].as_array().unwrap();
    messages.iter().map(|message| message["title"].as_str().unwrap()).collect()
}

/// A user's channels: id, unread.
async fn unread_of(api: &Api) -> Vec<(String, u64)> {
    let list = api.get(PATH).await.ok();
    let channels = list["channels"].as_array().unwrap();
    channels
        .iter()
        .map(|c| (c["id"].as_str().unwrap().to_owned(), c["unread_count"].as_u64().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_channel_lives_survives_a_crash_and_ends() {
    let mut server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    let made =
        make(&shop, json!({"id": "ops", "name": "运维", "metadata": {"color": "red"}})).await;
    members(&shop, "ops", json!({"join": ["ann", "bob"]})).await;
    let renamed = json!({"name": "运维团队", "expected_version": 1});
    shop.put(&format!("{PATH}/ops"), renamed).await.ok();
    server.crash_and_restart().await;
    let shop = shop.moved_to(server.user);
    let kept = shop.get(&format!("{PATH}/ops")).await.ok();
    assert_eq!((&kept["name"], &kept["version"]), (&json!("运维团队"), &json!(2)));
    assert_eq!((&kept["members"], &kept["metadata"]), (&json!(2), &made["metadata"]));
    assert_eq!(kept["created_at"], made["created_at"]);

    send(&shop, "ops", "before").await;
    let mut ann = server.connect("ann").await;
    shop.call(Method::DELETE, &format!("{PATH}/ops"), None).await.ok();
    shop.get(&format!("{PATH}/ops")).await.refused(404, "not_found");
    let sent =
        json!({"title": "t", "content": "c", "recipients": ["ops"], "recipient_type": "channel"});
    shop.send(sent).await.refused(422, "invalid");
    // What was received stays, and a new one of the id begins without members.
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);
    assert_eq!(unread_of(&server.as_user("ann")).await, []);
    make(&shop, json!({"id": "ops", "name": "another"})).await;
    send(&shop, "ops", "after").await;
    ann.ping().await;
}

#[tokio::test]
async fn unread_counts_by_channel_never_drift() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for id in ["a", "b", "empty"] {
        make(&service, json!({"id": id, "name": id})).await;
        members(&service, id, json!({"join": ["ann"]})).await;
    }
    let ann = server.as_user("ann");
    let count =
        |a: u64, b: u64| vec![("a".to_owned(), a), ("b".to_owned(), b), ("empty".to_owned(), 0)];
    assert_eq!(unread_of(&ann).await, count(0, 0));
    let mut ids = vec![];
    for n in 0..5 {
        ids.push(send(&service, "a", &format!("a{n}")).await);
        send(&service, "b", &format!("b{n}")).await;
        service.send_to("ann", "direct").await.ok();
    }
    assert_eq!((unread_of(&ann).await, ann.unread().await), (count(5, 5), 15));
    let mark = async |id: &str, what: &str| {
        ann.post(&format!("/api/v3/messages/{id}/{what}"), json!({})).await.ok();
    };
    for what in ["read", "read", "unread", "unread", "read", "archive", "archive"] {
        mark(&ids[0], what).await;
    }
    assert_eq!((unread_of(&ann).await, ann.unread().await), (count(4, 5), 14));
    mark(&ids[1], "archive").await;
    assert_eq!(unread_of(&ann).await, count(3, 5));
    let read = json!({"channel_id": "b"});
    ann.post("/api/v3/messages/read-batch", read).await.ok();
    assert_eq!((unread_of(&ann).await, ann.unread().await), (count(3, 0), 8));
    // Many hands at once: what is left is what was not read.
    let reads: Vec<_> = ids[2..4]
        .iter()
        .flat_map(|id| (0..8).map(move |_| id.clone()))
        .map(|id| {
            let ann = ann.clone();
            tokio::spawn(async move {
                ann.post(&format!("/api/v3/messages/{id}/read"), json!({})).await.ok();
            })
        })
        .collect();
    send(&service, "b", "late").await;
    for read in reads {
        read.await.unwrap();
    }
    assert_eq!((unread_of(&ann).await, ann.unread().await), (count(1, 1), 7));
    let listed = ann.get(&format!("{PATH}/a/messages?status=unread")).await.ok();
    assert_eq!((titles(&listed), &listed["unread_count"]), (vec!["a4"], &json!(1)));
    // Without the channel its messages still count where they were sent.
    members(&service, "a", json!({"leave": ["ann"]})).await;
    assert_eq!(ann.unread().await, 7);
}

#[tokio::test]
async fn open_channels_are_joined_and_left_by_users() {
    let server = TestServer::start().await;
    let service = server.service().await;
    make(&service, json!({"id": "news", "name": "News", "open": true})).await;
    make(&service, json!({"id": "board", "name": "Board"})).await;
    let ann = server.as_user("ann");
    let mut phone = server.connect("ann").await;
    let open = ann.get(&format!("{PATH}?show=open")).await.ok();
    assert_eq!(open["channels"].as_array().unwrap().len(), 1);
    assert_eq!(open["channels"][0]["is_member"], false);
    send(&service, "news", "one").await;
    ann.post(&format!("{PATH}/news/join"), json!({})).await.ok();
    send(&service, "news", "two").await;
    assert_eq!(phone.next_message().await.fields.title, "two");
    assert_eq!(unread_of(&ann).await, [("news".to_owned(), 1)]);
    // A member may send to it; somebody else may not, and is told nothing.
    let message = |to: &str| json!({"title": "hi", "content": "c", "recipients": [to], "recipient_type": "channel"});
    ann.send(message("news")).await.ok();
    assert_eq!(phone.next_message().await.fields.sender, "ann");
    let eve = server.as_user("eve");
    let told = eve.send(message("board")).await.refused(422, "invalid");
    assert_eq!(told, eve.send(message("none")).await.refused(422, "invalid"));
    for what in ["join", "leave"] {
        let closed = eve.post(&format!("{PATH}/board/{what}"), json!({})).await;
        let absent = eve.post(&format!("{PATH}/none/{what}"), json!({})).await;
        let closed = closed.refused(404, "not_found");
        assert_eq!(closed, absent.refused(404, "not_found"));
    }
    for path in ["", "/members", "/messages"] {
        eve.get(&format!("{PATH}/board{path}")).await.refused(404, "not_found");
    }
    ann.post(&format!("{PATH}/news/leave"), json!({})).await.ok();
    send(&service, "news", "three").await;
    phone.ping().await;
    assert_eq!(unread_of(&ann).await, []);
    let kept = ann.get(&format!("{PATH}/news/messages")).await.ok();
    assert_eq!(titles(&kept), ["hi", "two"]);
}

#[tokio::test]
async fn a_channel_with_history_shows_what_came_before() {
    let server = TestServer::start().await;
    let service = server.service().await;
    make(&service, json!({"id": "log", "name": "Log", "history": true})).await;
    make(&service, json!({"id": "plain", "name": "Plain"})).await;
    members(&service, "log", json!({"join": ["bob"]})).await;
    for n in 0..5 {
        send(&service, "log", &format!("before {n}")).await;
        send(&service, "plain", &format!("before {n}")).await;
    }
    for channel in ["log", "plain"] {
        members(&service, channel, json!({"join": ["ann"]})).await;
    }
    for n in 0..3 {
        send(&service, "log", &format!("after {n}")).await;
        send(&service, "plain", &format!("after {n}")).await;
    }
    let ann = server.as_user("ann");
    let walk = async |channel: &str, query: &str| {
        let (mut seen, mut cursor) = (vec![], String::new());
        loop {
            let path = format!("{PATH}/{channel}/messages?size=2{query}{cursor}");
            let page = ann.get(&path).await;
            for message in page.data()["messages"].as_array().unwrap() {
                let title = message["title"].as_str().unwrap().to_owned();
                // What was never in the inbox has no place in it, and counts as read.
                let before = title.starts_with("before");
                assert_eq!(message["seq"] == 0, before, "{message}");
                assert_eq!(message["is_read"], before, "{message}");
                seen.push(title);
            }
            match page.body["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    };
    let after = ["after 2", "after 1", "after 0"];
    let before = ["before 4", "before 3", "before 2", "before 1", "before 0"];
    assert_eq!(walk("log", "").await, [&after[..], &before].concat());
    assert_eq!(walk("plain", "").await, after);
    assert_eq!(walk("log", "&status=unread").await, after);
    assert_eq!(walk("log", "&sender=nobody").await, [""; 0]);
    assert_eq!(walk("log", "&metadata=of:after%201").await, ["after 1"]);
    assert_eq!(walk("log", "&metadata=of:before%202").await, ["before 2"]);
    assert_eq!(ann.unread().await, 6, "history counts nowhere");
    // Who missed some in between finds them behind what they have.
    members(&service, "log", json!({"leave": ["ann"]})).await;
    send(&service, "log", "before you came back").await;
    let left = ann.get(&format!("{PATH}/log/messages?cursor=h")).await.ok();
    assert_eq!(titles(&left), [""; 0], "history is for members");
    members(&service, "log", json!({"join": ["ann"]})).await;
    let all = walk("log", "").await;
    assert_eq!(all[..4], [&after[..], &["before you came back"]].concat());
    assert_eq!(all[4..], before);
}

#[tokio::test]
async fn walls_between_tenants() {
    let server = TestServer::start().await;
    let of_tenant = async |tenant: &str| {
        let name = format!("svc-{tenant}");
        let service = json!({"id": name, "name": name, "level": "system", "tenant_id": tenant});
        let made = server.create_service(service).await.ok();
        server.api().service_key(made["api_key"].as_str().unwrap())
    };
    let (ours, theirs) = (of_tenant("t1").await, of_tenant("t2").await);
    let token = |tenant: &str| Token::of("ann").claim("tenant_id", tenant);
    let mut here = server.socket("ann").token(token("t1")).connect().await;
    let mut there = server.socket("ann").token(token("t2")).connect().await;
    make(&ours, json!({"id": "ops", "name": "ours", "open": true})).await;
    members(&ours, "ops", json!({"join": ["ann"]})).await;
    for answer in [
        theirs.get(&format!("{PATH}/ops")).await,
        theirs.get(&format!("{PATH}/ops/members")).await,
        theirs.put(&format!("{PATH}/ops"), json!({"name": "x"})).await,
        theirs.call(Method::DELETE, &format!("{PATH}/ops"), None).await,
        theirs.post(&format!("{PATH}/ops/members"), json!({"join": ["eve"]})).await,
    ] {
        answer.refused(404, "not_found");
    }
    let message =
        json!({"title": "t", "content": "c", "recipients": ["ops"], "recipient_type": "channel"});
    theirs.send(message.clone()).await.refused(422, "invalid");
    // The same id there is another channel.
    make(&theirs, json!({"id": "ops", "name": "theirs"})).await;
    assert_eq!(theirs.send(message.clone()).await.ok()["recipients"], 0);
    assert_eq!(ours.send(message).await.ok()["recipients"], 1);
    assert_eq!(here.next_message().await.fields.title, "t");
    there.ping().await;
    let list = theirs.get(PATH).await.ok();
    assert_eq!(list["channels"].as_array().unwrap().len(), 1);
    assert_eq!(list["channels"][0]["name"], "theirs");
    let foreign = server.api().bearer(&token("t2").sign());
    foreign.post(&format!("{PATH}/ops/join"), json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn quotas_hold_over_a_restart() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let quotas = json!({"quotas": {"messages_per_day": 2, "channels": 1}});
    server.as_admin().put("/api/v3/admin/tenants/default", quotas).await.ok();
    make(&service, json!({"id": "one", "name": "one"})).await;
    service.post(PATH, json!({"id": "two", "name": "two"})).await.refused(422, "invalid");
    service.send_to("ann", "1").await.ok();
    service.send_to("ann", "2").await.ok();
    assert!(server.terminate().await.success());
    server.spawn().await;
    let service = service.moved_to(server.user);
    let refused = service.send_to("ann", "3").await;
    // Unless the day has just begun.
    if refused.status != 200 {
        let told = refused.refused(429, "quota_exceeded");
        assert!(told.contains("messages_per_day"), "{told}");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    service.post(PATH, json!({"id": "two", "name": "two"})).await.refused(422, "invalid");
    let shown = server.as_admin().get("/api/v3/admin/tenants/default").await.ok();
    assert_eq!(shown["quotas"]["messages_per_day"], 2);
}

async fn join(client: &mut TestClient, id: &str) {
    client.send(ClientFrame::Join { channel_id: id.parse().unwrap() }).await;
}

/// The next `presence`: channel, user, whether here.
async fn presence(client: &mut TestClient) -> (String, String, bool) {
    match client.next().await {
        ServerFrame::Presence { channel_id, user_id, online } => {
            (channel_id.to_string(), user_id.to_string(), online)
        }
        other => panic!("not presence: {other:?}"),
    }
}

/// Seed 003 §2.1: who is here now, for those who may know.
#[tokio::test]
async fn members_see_who_is_there_and_strangers_do_not() {
    let server = TestServer::start().await;
    let service = server.service().await;
    make(&service, json!({"id": "ops", "name": "ops", "presence": true})).await;
    make(&service, json!({"id": "lobby", "name": "lobby", "open": true, "presence": true})).await;
    members(&service, "ops", json!({"join": ["ann", "bob"]})).await;
    let is = |channel: &str, user: &str, online| (channel.to_owned(), user.to_owned(), online);
    let mut ann = server.connect("ann").await;
    join(&mut ann, "ops").await;
    assert_eq!(presence(&mut ann).await, is("ops", "ann", true));
    let mut bob = server.connect("bob").await;
    join(&mut bob, "ops").await;
    assert_eq!(presence(&mut bob).await, is("ops", "bob", true));
    assert_eq!(presence(&mut bob).await, is("ops", "ann", true));
    assert_eq!(presence(&mut ann).await, is("ops", "bob", true));

    let mut eve = server.connect("eve").await;
    for id in ["ops", "nowhere"] {
        join(&mut eve, id).await;
        assert_eq!(eve.next_error().await.0, "not_found");
    }
    // An open one makes her a member, who receives.
    join(&mut eve, "lobby").await;
    assert_eq!(presence(&mut eve).await, is("lobby", "eve", true));
    send(&service, "lobby", "hello").await;
    assert_eq!(eve.next_message().await.fields.title, "hello");

    bob.close().await;
    assert_eq!(presence(&mut ann).await, is("ops", "bob", false));
    // Who is put out of the channel is not there, and hears of nobody.
    members(&service, "ops", json!({"leave": ["ann"]})).await;
    let mut bob = server.connect("bob").await;
    join(&mut bob, "ops").await;
    assert_eq!(presence(&mut bob).await, is("ops", "bob", true));
    ann.ping().await;
}
