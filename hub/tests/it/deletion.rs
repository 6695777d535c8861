//! A user is deleted with all data, and nothing is left: of what was said, of who they are, anywhere.

use std::path::Path;

use http::Method;
use protocol::Time;
use serde_json::{Value, json};

use crate::{
    sessions::{Pair, log_in},
    support::{
        Answer, Api, Cluster, SOON, TestServer, Token,
        api::message_to,
        browser::Browser,
        eventually, eventually_within,
        hooks::{Answers, HookReceiver},
        providers::Fakes,
        rounds,
        server::Builder,
    },
};

/// In everything that is said to the user, and of them.
const CANARY: &str = "canary-5b0c7d1e";

/// Whom the login provider knows.
const PERSON: &str = "77001234567";

/// In what the user says to others.
const OWN_CANARY: &str = "canary-9f24e6aa";

/// A process or node that was killed is not missed before.
const TAKEN_UP_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

async fn delete(api: &Api, path: &str) -> Answer {
    api.call(Method::DELETE, path, None).await
}

async fn delete_user(server: &TestServer, user: &str) -> Value {
    // One that takes longer answers that it goes on.
    eventually_within("the user is deleted", TAKEN_UP_WITHIN, || async {
        let answer = delete(&server.as_admin(), &format!("/api/v3/admin/users/{user}")).await.ok();
        (answer["state"] == "deleted").then_some(answer)
    })
    .await
}

/// Every file below a folder. One that goes meanwhile is passed over.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// Where something stands: files, by their content and their names, or tables, by all of their columns.
pub(crate) fn places(storage: Result<&Path, &str>, needle: &str) -> Vec<String> {
    match storage {
        Ok(folder) => {
            let has = |path: &Path| {
                let bytes = match std::fs::read(path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
                    read => read.unwrap(),
                };
                path.to_string_lossy().contains(needle)
                    || bytes.windows(needle.len()).any(|part| part == needle.as_bytes())
            };
            let found = files(folder).into_iter().filter(|path| has(path));
            found.map(|path| path.display().to_string()).collect()
        }
        Err(database) => {
            let hex: String = needle.bytes().map(|byte| format!("{byte:02x}")).collect();
            let tables = servers::value(
                database,
                "SELECT coalesce(string_agg(quote_ident(table_name), ' '), '')
                 FROM information_schema.tables WHERE table_schema = 'public'",
            );
            assert!(tables.contains("messages") && tables.contains("account_user"), "{tables}");
            let has = |table: &&str| {
                // Whatever its columns are; `bytea` is shown as hexadecimal digits.
                let sql = format!(
                    "SELECT count(*) FROM {table} AS r
                     WHERE strpos(r::text, '{needle}') > 0 OR strpos(r::text, '{hex}') > 0"
                );
                servers::value(database, &sql) != "0"
            };
            tables.split(' ').filter(has).map(ToOwned::to_owned).collect()
        }
    }
}

/// Copies the control data and takes the audit log out of it, byte by byte: all that was deleted before stays as
/// it is.
fn without_audit(hub: &Path, to: &Path) {
    for name in ["control.db", "control.db-wal"] {
        let _ = std::fs::copy(hub.join(name), to.join(name));
    }
    let copy = rusqlite::Connection::open(to.join("control.db")).unwrap();
    copy.execute_batch(
        "PRAGMA secure_delete = ON; DROP TRIGGER audit_entry_stays; DELETE FROM audit_entry;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .unwrap();
}

/// A server, and where it keeps what it keeps.
pub(crate) struct Site {
    pub(crate) server: TestServer,
    database: Option<String>,
}

impl Site {
    pub(crate) async fn start(change: impl FnOnce(Builder) -> Builder) -> Self {
        if std::env::var("TEST_SHAPE").as_deref() == Ok("cluster") {
            let cluster = Cluster::new();
            let server = change(cluster.node("a")).start().await;
            return Self { server, database: Some(cluster.database) };
        }
        Self { server: change(TestServer::builder()).start().await, database: None }
    }

    /// As [`Site::places`], of a user's id: the audit log names whom admins did something to, and keeps that.
    pub(crate) fn places_of(&self, user: &str) -> Vec<String> {
        let mut found = self.places(user);
        if self.database.is_some() {
            found.retain(|table| table != "audit_entry");
        } else if found
            .iter()
            .any(|file| file.ends_with("control.db") || file.ends_with("control.db-wal"))
        {
            found.retain(|file| !file.contains("/control.db"));
            let folder = tempfile::tempdir().unwrap();
            without_audit(&self.server.storage().join(".hub"), folder.path());
            found.extend(places(Ok(folder.path()), user));
        }
        found
    }

    pub(crate) fn places(&self, needle: &str) -> Vec<String> {
        let storage = match &self.database {
            Some(database) => Err(database.as_str()),
            None => Ok(self.server.storage()),
        };
        places(storage, needle)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_user_is_left() {
    let fakes = Fakes::start().await;
    let env = fakes.env();
    let site =
        Site::start(|builder| builder.envs(env).env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8"))
            .await;
    let server = &site.server;
    let (admin, service) = (server.as_admin(), server.service().await);
    // Told of what becomes of messages, and for ever unable to take it.
    let receiver = HookReceiver::start().await;
    receiver.answers(Answers::Status(500));
    let hook = json!({"url": receiver.url(), "events": ["*"]});
    service.post("/api/v3/webhooks", hook).await.ok();

    // Comes by a provider, with a profile, on two devices.
    fakes.person("github", PERSON);
    let pair = Pair::of(&Browser::new(server).log_in("github", "").await.ok());
    let ann = server.api().bearer(&pair.access);
    let profile = ann.get("/api/v3/auth/profile").await.ok();
    let user = profile["user_id"].as_str().unwrap().to_owned();
    assert!(profile.to_string().contains(PERSON), "{profile}");
    ann.put("/api/v3/auth/profile", json!({"name": CANARY})).await.ok();
    let laptop = log_in(server, &user, CANARY).await;
    let roles = json!({"roles": ["oncall"]});
    admin.put(&format!("/api/v3/admin/users/{user}/roles"), roles).await.ok();
    service
        .post("/api/v3/channels", json!({"id": "room", "name": "Room", "open": true}))
        .await
        .ok();
    ann.post("/api/v3/channels/room/join", Value::Null).await.ok();
    server.as_user("bob").post("/api/v3/channels/room/join", Value::Null).await.ok();
    let mut phone = server.socket(&user).device(CANARY).raw_token(&pair.access).connect().await;
    let mut stream = server.stream(&user).raw_token(&laptop.access).open().await;

    // What she gets, does with it, and sends.
    let mut ids = vec![];
    for n in 0..5 {
        let mut message = message_to(&[&user], &format!("{CANARY} {n}"));
        message["actions"] = json!([{"type": "button", "text": "OK", "action": CANARY}]);
        let sent = service.send(message).await.ok();
        ids.push(sent["message_id"].as_str().unwrap().to_owned());
    }
    let shared = service.send(message_to(&[&user, "bob"], "to both")).await.ok();
    let tomorrow = Time::from_millis((seconds_now() + 86_400) * 1_000).to_string();
    let later = json!({"title": CANARY, "content": CANARY, "recipients": [user],
        "recipient_type": "user", "scheduled_at": tomorrow});
    service.send(later).await.ok();
    let later = json!({"title": OWN_CANARY, "content": OWN_CANARY, "recipients": ["bob"],
        "recipient_type": "user", "scheduled_at": tomorrow});
    ann.send(later).await.ok();
    let from = ann.key("own-key").send(message_to(&["bob"], OWN_CANARY)).await.ok();
    phone.until_seq(6).await;
    phone.ack(6).await;
    phone.read(&[&ids[0]]).await;
    ann.post(&format!("/api/v3/messages/{}/archive", ids[1]), json!({})).await.ok();
    ann.post(&format!("/api/v3/messages/{}/actions/0", ids[2]), json!({})).await.ok();
    service.post(&format!("/api/v3/messages/{}/recall", ids[3]), json!({})).await.ok();
    assert_eq!(ann.get(&format!("/api/v3/messages?q={CANARY}")).await.ok()["total"], 3);
    eventually("services are told", || async {
        receiver.hooks().iter().any(|hook| hook.json()["data"]["user_id"] == user.as_str())
    })
    .await;
    ann.post("/api/v3/auth/ws-ticket", Value::Null).await.ok();
    assert!(!site.places(&user).is_empty(), "what is looked for can be found");
    assert!(!site.places(CANARY).is_empty(), "what is looked for can be found");

    let deleted = delete_user(server, &user).await;
    assert_eq!(deleted["user_id"], user.as_str(), "{deleted}");
    assert_eq!(phone.closed().await.code, Some(4501));
    stream.closed().await;

    // Nobody gets in.
    for token in [&pair.access, &laptop.access] {
        let old = server.api().bearer(token);
        old.get("/api/v3/messages").await.refused(401, "unauthorized");
        old.post("/api/v3/auth/ws-ticket", Value::Null).await.refused(401, "unauthorized");
    }
    let body = json!({"refresh_token": pair.refresh});
    server.api().post("/api/v3/auth/refresh", body).await.refused(401, "unauthorized");
    // Nobody knows anything.
    for path in ["", "/export"] {
        let path = format!("/api/v3/admin/users/{user}{path}");
        admin.get(&path).await.refused(404, "not_found");
    }
    for list in [
        "users?size=200",
        "sessions?size=200",
        "connections",
        "channels/room/members",
        "dead-letters",
    ] {
        let list = admin.get(&format!("/api/v3/admin/{list}")).await.ok().to_string();
        assert!(!list.contains(&user) && !list.contains(CANARY), "{list}");
    }
    for id in &ids {
        service.get(&format!("/api/v3/messages/{id}/receipts")).await.refused(404, "not_found");
    }
    let receipts = format!("/api/v3/messages/{}/receipts", shared["message_id"].as_str().unwrap());
    let receipts = service.get(&receipts).await.ok();
    assert!(!receipts.to_string().contains(&user), "{receipts}");
    // What was said to her stands nowhere; what she said, and by whom, with who got it, and nowhere else.
    assert_eq!(site.places(CANARY), Vec::<String>::new());
    let bob = server.as_user("bob");
    let got = bob.get(&format!("/api/v3/messages/{}", from["message_id"].as_str().unwrap())).await;
    assert_eq!(got.ok()["sender"], user.as_str());
    let left = site.places_of(&user);
    assert!(!left.is_empty() && !site.places(OWN_CANARY).is_empty(), "bob has it");
    match &site.database {
        Some(_) => assert!(
            left.iter().all(|table| table == "bodies" || table.starts_with("messages")),
            "{left:?}"
        ),
        None => assert!(left.iter().all(|file| file.contains("/bob/")), "{left:?}"),
    }
    delete_user(server, "bob").await;
    for user in [&user, "bob"] {
        assert_eq!(site.places_of(user), Vec::<String>::new(), "{user}");
    }
    for needle in [OWN_CANARY, PERSON] {
        assert_eq!(site.places(needle), Vec::<String>::new(), "{needle}");
    }
    let audit = admin.get(&format!("/api/v3/admin/audit?target=users/{user}")).await.ok();
    assert_eq!(audit["entries"][0]["action"], "deletions_of_user");
    // Others go on, and she may come again: as somebody else.
    let again = Browser::new(server).log_in("github", "").await.ok();
    assert_ne!(again["user_id"], user.as_str());
    service.send_to(&user, "anew").await.ok();
    // By a token that was made in a later second.
    eventually("a token that was made later", || async {
        server.as_user(&user).get("/api/v3/messages").await.status == 200
    })
    .await;
    let listed = server.as_user(&user).all_messages().await;
    assert_eq!((listed.len(), &listed[0]["seq"]), (1, &json!(1)));
    let again = delete_user(server, "never-heard-of").await;
    assert_eq!((&again["known"], &again["messages"]), (&json!(false), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_delete_themselves_only_on_purpose() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let pair = log_in(&server, "ann", "phone").await;
    let ann = server.api().bearer(&pair.access);
    service.send_to("ann", "hello").await.ok();
    let own = async |api: &Api, body: Value| {
        api.call(Method::DELETE, "/api/v3/auth/profile", Some(body)).await
    };
    let yes = json!({"confirm": "ann"});
    own(&ann, json!({})).await.refused(422, "invalid");
    own(&ann, json!({"confirm": "bob"})).await.refused(422, "invalid");
    own(&service, yes.clone()).await.refused(403, "forbidden");
    let reader = Token::of("ann").claim("scope", json!(["read"])).sign();
    own(&server.api().bearer(&reader), yes.clone()).await.refused(403, "forbidden");
    // A token that lies around since yesterday.
    let old = Token::of("ann").claim("iat", json!(seconds_now() - 3_600)).sign();
    let said = own(&server.api().bearer(&old), yes.clone()).await.refused(403, "forbidden");
    assert!(said.contains("log in again"), "{said}");
    assert_eq!(ann.all_messages().await.len(), 1);
    let deleted = own(&ann, yes.clone()).await.ok();
    assert_eq!(
        deleted,
        json!({"user_id": "ann", "state": "deleted", "known": true, "sessions": 1, "messages": 1})
    );
    own(&ann, yes).await.refused(401, "unauthorized");
    server.as_admin().get("/api/v3/admin/users/ann").await.refused(404, "not_found");
    assert!(server.metrics().await.contains("pushhub_user_deletions_total{result=\"finished\"} 1"));
}

fn seconds_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Thousands of messages in a long inbox: `DELETION_THOUSANDS=100` is the form for figures.
fn thousands() -> usize {
    rounds("DELETION_THOUSANDS", 10)
}

/// An inbox that takes a while to be emptied.
async fn long_inbox(service: &Api, user: &str) {
    for _ in 0..thousands() {
        let one = json!({"title": CANARY, "content": CANARY, "message_type": "text",
            "recipients": [user, "bob"], "recipient_type": "user"});
        let batch = json!({"messages": vec![one; 1_000]});
        service.post("/api/v3/messages/send-batch", batch).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_broke_off_is_finished_after_the_start() {
    let mut site = Site::start(|builder| builder).await;
    let service = site.server.service().await;
    long_inbox(&service, "ann-to-go").await;
    let pair = log_in(&site.server, "ann-to-go", "phone").await;
    let asking = tokio::spawn({
        let admin = site.server.as_admin();
        async move {
            admin.try_call(Method::DELETE, "/api/v3/admin/users/ann-to-go", None).await.is_ok()
        }
    });
    eventually("access has ended", || async {
        site.server.api().bearer(&pair.access).get("/api/v3/messages").await.status == 401
    })
    .await;
    site.server.crash_and_restart().await;
    let answered = asking.await.unwrap();
    println!("the deletion was answered before the kill: {answered}");
    eventually_within("nothing names the user", TAKEN_UP_WITHIN, || async {
        site.places_of("ann-to-go").is_empty().then_some(())
    })
    .await;
    site.server
        .api()
        .bearer(&pair.access)
        .get("/api/v3/messages")
        .await
        .refused(401, "unauthorized");
    site.server.as_admin().get("/api/v3/admin/users/ann-to-go").await.refused(404, "not_found");
    assert_eq!(
        site.server.as_user("bob").unread().await,
        thousands() as u64 * 1_000,
        "others have what they had"
    );
    // The name is free again.
    eventually("somebody of that name can come", || async {
        let body = json!({"user_id": "ann-to-go", "device_id": "phone"});
        site.server.as_admin().post("/api/v3/admin/sessions", body).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_node_and_by_another_where_one_dies() {
    let cluster = Cluster::new();
    let [mut a, b] = cluster.nodes().await;
    let service = a.service().await;
    let on_b = service.moved_to(b.user);
    let pair = log_in(&a, "ann-to-go", "phone").await;
    // Both nodes know the inbox by its id.
    service.send_to("ann-to-go", CANARY).await.ok();
    on_b.send_to("ann-to-go", CANARY).await.ok();
    let mut phone = b.socket("ann-to-go").raw_token(&pair.access).connect().await;
    let deleted = delete_user(&a, "ann-to-go").await;
    assert_eq!(deleted["messages"], 2);
    let closed = phone.closed_within(std::time::Duration::from_secs(2)).await;
    assert_eq!(closed.code, Some(4501));
    eventually("the other node refuses its tokens", || async {
        b.api().bearer(&pair.access).get("/api/v3/messages").await.status == 401
    })
    .await;
    // Another user has been made since; nobody gets what is for another.
    a.service().await.send_to("eve", "for eve").await.ok();
    on_b.send_to("ann-to-go", "anew").await.ok();
    let listed = eventually_within("a token that was made later", SOON, || async {
        let listed = b.as_user("ann-to-go").get("/api/v3/messages").await;
        (listed.status == 200).then(|| listed.ok())
    })
    .await;
    let messages = listed["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["seq"]), (1, &json!(1)), "{listed}");
    assert_eq!(b.as_user("eve").all_messages().await.len(), 1);

    long_inbox(&service, "ann-to-go").await;
    let pair = log_in(&a, "ann-to-go", "phone").await;
    let asking = tokio::spawn({
        let admin = a.as_admin();
        async move {
            let _ = admin.try_call(Method::DELETE, "/api/v3/admin/users/ann-to-go", None).await;
        }
    });
    eventually("access has ended", || async {
        b.api().bearer(&pair.access).get("/api/v3/messages").await.status == 401
    })
    .await;
    a.kill_9().await;
    asking.await.unwrap();
    eventually_within("the other node has finished it", TAKEN_UP_WITHIN, || async {
        let left = places(Err(&cluster.database), "ann-to-go");
        left.iter().all(|table| table == "audit_entry").then_some(())
    })
    .await;
    assert_eq!(b.as_user("bob").unread().await, thousands() as u64 * 1_000);
    // All messages are now to bob alone, and go with him.
    let started = std::time::Instant::now();
    delete_user(&b, "bob").await;
    println!("{} messages were deleted in {:?}", thousands() * 1_000, started.elapsed());
    assert_eq!(places(Err(&cluster.database), CANARY), Vec::<String>::new());
}
