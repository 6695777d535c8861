//! A tenant is deleted with everybody and everything in it, and nobody else notices.

use http::Method;
use serde_json::{Value, json};

use crate::{
    deletion::Site,
    support::{
        Api, SOON, TestServer, Token,
        api::message_to,
        eventually, eventually_within,
        hooks::{Answers, HookReceiver},
    },
};

/// In everything that is of the tenant.
const CANARY: &str = "canary-71d2a4c0";

/// Of the tenant's user, as everybody's login service makes them.
fn of_acme(user: &str) -> Token {
    Token::of(user).claim("tenant_id", "acme")
}

async fn service_of(server: &TestServer, id: &str, tenant: &str) -> Api {
    let service = json!({"id": id, "name": id, "type": "internal", "level": "system",
        "tenant_id": tenant});
    let made = server.create_service(service).await.ok();
    server.api().service_key(made["api_key"].as_str().unwrap())
}

async fn delete(server: &TestServer) -> Value {
    eventually_within("the tenant is deleted", SOON * 4, || async {
        let path = "/api/v3/admin/tenants/acme?confirm=acme";
        let answer = server.as_admin().call(Method::DELETE, path, None).await.ok();
        (answer["state"] == "deleted").then_some(answer)
    })
    .await
}

/// Lists of the tenant's things, as an admin of everything sees them.
const LISTS: [(&str, &str); 6] = [
    ("users?tenant_id=acme", "users"),
    ("channels?tenant_id=acme", "channels"),
    ("sessions?tenant_id=acme", "sessions"),
    ("connections?tenant_id=acme", "connections"),
    ("messages/scheduled?tenant_id=acme", "messages"),
    ("stats?tenant_id=acme&group_by=service", "rows"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_tenant_is_left_and_another_keeps_everything() {
    let site = Site::start(|builder| builder.env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")).await;
    let server = &site.server;
    let admin = server.as_admin();
    let (ours, theirs) = (
        service_of(server, "acme-shop", "acme").await,
        service_of(server, "shop", "default").await,
    );
    let receiver = HookReceiver::start().await;
    receiver.answers(Answers::Status(500));
    ours.post("/api/v3/webhooks", json!({"url": receiver.url(), "events": ["*"]})).await.ok();
    let quotas = json!({"quotas": {"messages_per_day": 1_000}});
    admin.put("/api/v3/admin/tenants/acme", quotas).await.ok();
    let boss = server.sign_in("acme-boss", "admin", Some("acme")).await;

    let template = json!({"id": CANARY, "name": CANARY, "category": "business",
        "title": CANARY, "content": CANARY});
    ours.post("/api/v3/messages/templates", template).await.ok();
    let room = json!({"id": "room", "name": CANARY, "open": true, "history": true});
    ours.post("/api/v3/channels", room.clone()).await.ok();
    theirs.post("/api/v3/channels", json!({"id": "room", "name": "Room", "open": true})).await.ok();
    let everyone = |text: &str| {
        json!({"title": text, "content": text, "recipients": [],
        "recipient_type": "all"})
    };
    let mut phones = vec![];
    for user in ["ann", "bob"] {
        let api = server.api().bearer(&of_acme(user).claim("email", CANARY).sign());
        api.post("/api/v3/channels/room/join", Value::Null).await.ok();
        let own = server.as_user(user);
        own.post("/api/v3/channels/room/join", Value::Null).await.ok();
        let id = ours.sent(user, CANARY).await;
        api.post(&format!("/api/v3/messages/{id}/read"), json!({})).await.ok();
        theirs.send(message_to(&[user], "theirs")).await.ok();
        phones.push(server.socket(user).token(of_acme(user)).connect().await);
    }
    let to_room = |text: &str| {
        json!({"title": text, "content": text, "recipients": ["room"],
        "recipient_type": "channel"})
    };
    ours.send(to_room(CANARY)).await.ok();
    theirs.send(to_room("theirs")).await.ok();
    ours.send(everyone(CANARY)).await.ok();
    theirs.send(everyone("theirs")).await.ok();
    let mut later = message_to(&["ann"], CANARY);
    later["scheduled_at"] =
        json!((jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string());
    ours.key("a-key").send(later).await.ok();
    eventually("services are told", || async { !receiver.hooks().is_empty() }).await;
    for (list, _) in &LISTS[..2] {
        let list = admin.get(&format!("/api/v3/admin/{list}")).await.ok().to_string();
        assert!(list.contains("ann") || list.contains(CANARY), "{list}");
    }
    assert!(!site.places(CANARY).is_empty(), "what is looked for can be found");

    // Not by mistake, and not by those who are in it.
    for path in ["acme", "acme?confirm=acne", "default?confirm=default"] {
        let path = format!("/api/v3/admin/tenants/{path}");
        admin.call(Method::DELETE, &path, None).await.refused(422, "invalid");
    }
    let path = "/api/v3/admin/tenants/acme?confirm=acme";
    let inside = server.admin_port().bearer(&boss.token);
    inside.call(Method::DELETE, path, None).await.refused(403, "forbidden");
    assert_eq!(ours.get("/api/v3/channels/room").await.status, 200);

    let deleted = delete(server).await;
    assert_eq!(deleted["tenant_id"], "acme", "{deleted}");
    // Nobody gets in.
    for phone in &mut phones {
        assert_eq!(phone.closed().await.code, Some(4501));
    }
    let ann = server
        .api()
        .bearer(&of_acme("ann").claim("iat", jiff::Timestamp::now().as_second() - 60).sign());
    ann.get("/api/v3/messages").await.refused(401, "unauthorized");
    ours.get("/api/v3/messages/templates").await.refused(401, "unauthorized");
    inside.get("/api/v3/admin/users").await.refused(401, "unauthorized");
    // Nobody knows anything.
    for (path, list) in LISTS {
        let page = admin.get(&format!("/api/v3/admin/{path}")).await.ok();
        assert_eq!(page[list], json!([]), "{path}: {page}");
    }
    for path in ["tenants", "services", "admins", "dead-letters", "templates?tenant_id=acme"] {
        let list = admin.get(&format!("/api/v3/admin/{path}")).await.ok().to_string();
        assert!(!list.contains("acme") && !list.contains(CANARY), "{path}: {list}");
    }
    assert_eq!(site.places_of(CANARY), Vec::<String>::new());
    let audit = admin.get("/api/v3/admin/audit?target=tenants/acme&size=1").await.ok();
    assert_eq!(audit["entries"][0]["action"], "tenants_remove");

    // The same names of another tenant have everything.
    for user in ["ann", "bob"] {
        let titles = server.as_user(user).all_messages().await;
        assert_eq!(titles.len(), 3, "{titles:?}");
        assert!(titles.iter().all(|message| message["title"] == "theirs"), "{titles:?}");
    }
    let members = admin.get("/api/v3/admin/channels/room/members").await.ok();
    assert_eq!(members["members"].as_array().unwrap().len(), 2);
    // And the name may be used again, for something that begins empty.
    let anew = service_of(server, "acme-shop", "acme").await;
    anew.post("/api/v3/channels", room).await.ok();
    anew.send(message_to(&["ann"], "anew")).await.ok();
    let later = of_acme("ann").claim("iat", jiff::Timestamp::now().as_second() + 2).sign();
    let listed = eventually_within("a token that was made later", SOON, || async {
        let answer = server.api().bearer(&later).get("/api/v3/messages?status=all").await;
        (answer.status == 200).then(|| answer.ok())
    })
    .await;
    let listed = listed["messages"].as_array().unwrap().clone();
    assert_eq!((listed.len(), &listed[0]["seq"]), (1, &json!(1)), "{listed:?}");
    assert_eq!(
        admin.get("/api/v3/admin/tenants/acme").await.ok()["quotas"]["messages_per_day"],
        Value::Null
    );
}

/// Enough that a kill comes while it is under way.
const USERS: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_killed_is_taken_up_after_the_start() {
    let mut site = Site::start(|builder| builder).await;
    let ours = service_of(&site.server, "acme-shop", "acme").await;
    let users: Vec<String> = (0..USERS).map(|n| format!("user-{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    ours.send(message_to(&names, CANARY)).await.ok();
    let asked = {
        let admin = site.server.as_admin();
        tokio::spawn(async move {
            let path = "/api/v3/admin/tenants/acme?confirm=acme";
            admin.try_call(Method::DELETE, path, None).await.is_ok()
        })
    };
    // Begun, which is durable, and not done.
    eventually("nobody comes in any more", || async {
        ours.get("/api/v3/channels").await.status == 401
            || ours.get("/api/v3/channels").await.status == 403
    })
    .await;
    site.server.crash_and_restart().await;
    let _ = asked.await;
    eventually_within("nothing of it is left", SOON * 4, || async {
        let services = site.server.as_admin().get("/api/v3/admin/services").await.ok();
        (!services.to_string().contains("acme")).then_some(())
    })
    .await;
    let left = site.server.as_admin().get("/api/v3/admin/users?tenant_id=acme").await.ok();
    assert_eq!(left["users"], json!([]));
    assert_eq!(site.places(CANARY), Vec::<String>::new());
    service_of(&site.server, "acme-shop", "acme").await.send_to("user-0", "anew").await.ok();
}
