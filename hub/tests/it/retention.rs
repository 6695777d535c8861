//! `RETENTION_MAX_AGE`, `RETENTION_MAX_MESSAGES` and `POST /admin/maintenance/prune` (contract §11).

use std::time::Duration;

use protocol::{Seq, ServerFrame};
use serde_json::{Value, json};

use crate::support::{Answer, Api, TestServer, eventually, eventually_within, socket::Event};

async fn prune(server: &TestServer, body: Value) -> Answer {
    server.as_admin().post("/api/v3/admin/maintenance/prune", body).await
}

async fn titles(api: &Api) -> Vec<String> {
    let all = api.all_messages().await;
    all.iter().map(|message| message["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_inbox_keeps_its_latest_messages() {
    let mut server = TestServer::builder().env("RETENTION_MAX_MESSAGES", 3).start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    for n in 1..=6 {
        service.sent("ann", &format!("m{n}")).await;
    }
    phone.until_seq(6).await;
    // What is not in the user's file yet is not looked at: a second later it is.
    eventually("what is too much is forgotten", || async {
        let pruned = prune(&server, json!({"user_id": "ann"})).await.ok()["pruned"].clone();
        assert!(pruned == 0 || pruned == 3, "{pruned}");
        server.as_user("ann").all_messages().await.len() == 3
    })
    .await;
    assert_eq!(prune(&server, json!({"user_id": "ann"})).await.ok()["pruned"], 0);
    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let ann = server.as_user("ann");
        assert_eq!(titles(&ann).await, ["m4", "m5", "m6"]);
        assert_eq!(ann.unread().await, 3);
        let answer = ann.get("/api/v3/sync?since=0").await;
        answer.refused_with_data(410, "resync_required");
        let min = answer.body["data"]["min_seq"].as_u64().unwrap();
        assert_eq!(answer.body["data"]["head"], 6);
        assert!((3..=6).contains(&min), "{min}");
        let changes = ann.changes_after(min).await;
        assert_eq!(changes.len() as u64, 6 - min);
        let mut old = server.socket("ann").device("old").since(0).connect().await;
        match old.event().await {
            Event::Frame(ServerFrame::ResyncRequired { min_seq }) => assert_eq!(min_seq, Seq(min)),
            other => panic!("{other:?}"),
        }
    }
    // It goes on from there.
    let service = service.moved_to(server.user);
    let id = service.sent("ann", "m7").await;
    let message = server.as_user("ann").get(&format!("/api/v3/messages/{id}")).await.ok();
    assert_eq!(message["seq"], 7);
}

#[tokio::test]
async fn what_is_old_is_forgotten_read_or_not() {
    let server = TestServer::builder().env("RETENTION_MAX_AGE", "2s").start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let read = service.sent("ann", "read").await;
    ann.post(&format!("/api/v3/messages/{read}/read"), json!({})).await.ok();
    service.sent("ann", "unread").await;
    service.sent("bob", "other").await;
    assert_eq!(prune(&server, json!({"user_id": "ann"})).await.ok()["pruned"], 0, "not old yet");
    eventually("they are old", || async {
        prune(&server, json!({})).await.ok();
        service.sent("cid", "young").await;
        ann.unread().await == 0 && server.as_user("bob").unread().await == 0
    })
    .await;
    assert_eq!(titles(&ann).await, [""; 0]);
    assert!(server.as_user("cid").unread().await > 0, "not all are old");
}

#[tokio::test]
async fn without_a_limit_nothing_is_forgotten() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for n in 0..5 {
        service.sent("ann", &format!("m{n}")).await;
    }
    assert_eq!(prune(&server, json!({})).await.ok()["pruned"], 0);
    assert_eq!(prune(&server, json!({"user_id": "ann"})).await.ok()["pruned"], 0);
    assert_eq!(server.as_user("ann").unread().await, 5);
    assert_eq!(server.as_user("ann").changes_after(0).await.len(), 5);
}

#[tokio::test]
async fn who_prunes_and_what() {
    let server = TestServer::builder().env("RETENTION_MAX_MESSAGES", 1).start().await;
    let path = "/api/v3/admin/maintenance/prune";
    let admins = server.as_admin();
    for (body, named) in [
        (json!({"user": "ann"}), "user_id"),
        (json!({"user_id": 7}), "user_id"),
        (json!({"user_id": "a\n"}), "user_id"),
        (json!({"tenant_id": "x".repeat(129), "user_id": "ann"}), "tenant_id"),
        (json!({"tenant_id": "acme"}), "user_id"),
    ] {
        let sentence = admins.post(path, body.clone()).await.refused(422, "invalid");
        assert!(sentence.contains(named), "{body}: {sentence}");
    }
    assert_eq!(admins.post(path, json!({"user_id": "never-seen"})).await.ok()["pruned"], 0);
    let plain = crate::support::Token::of("ann").sign();
    admins.clone().bearer(&plain).post(path, json!({})).await.refused(403, "forbidden");
    admins.authorization("Bearer x").post(path, json!({})).await.refused(401, "unauthorized");
    server.as_user("ann").post(path, json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_tenant_keeps_less_than_the_others() {
    let server = TestServer::builder().start().await;
    let (admin, ours) = (server.as_admin(), server.service().await);
    let made = server
        .create_service(
            json!({"id": "acme-svc", "name": "acme", "type": "internal", "level": "system",
            "permissions": ["on_behalf_of"], "tenant_id": "acme"}),
        )
        .await
        .ok();
    let theirs = server.api().service_key(made["api_key"].as_str().unwrap());
    let of_acme = |user: &str| {
        let token = crate::support::Token::of(user).claim("tenant_id", json!("acme")).sign();
        server.api().bearer(&token)
    };
    let (ann, bob) = (of_acme("ann"), of_acme("bob"));
    bob.unread().await;
    for (service, word) in [(&ours, "ours"), (&theirs, "theirs")] {
        for n in 0..4 {
            service.sent("ann", &format!("{word} {n}")).await;
        }
    }
    let everyone = json!({"title": "to all", "content": "to all", "recipients": [], "recipient_type": "all",
        "message_type": "text"});
    ours.send(everyone.clone()).await.ok();
    theirs.send(everyone).await.ok();
    let keep = async |quotas: Value| {
        admin.put("/api/v3/admin/tenants/acme", json!({"quotas": quotas})).await
    };
    keep(json!({"kept_messages": 0})).await.refused(422, "invalid");
    let kept = keep(json!({"kept_messages": 2, "channels": 5})).await.ok();
    assert_eq!(kept["quotas"]["kept_messages"], 2, "{kept}");
    assert_eq!(admin.get("/api/v3/admin/tenants/acme").await.ok()["quotas"], kept["quotas"]);
    eventually("what is too much is forgotten", || async {
        prune(&server, json!({})).await.ok();
        ann.all_messages().await.len() == 2
    })
    .await;
    assert_eq!(titles(&ann).await, ["theirs 3", "to all"]);
    assert_eq!(titles(&server.as_user("ann")).await.len(), 5, "others keep all");
    // By age, for one who was not looked at since as well; then nothing of it is kept for groups either.
    keep(json!({"kept_seconds": 1})).await.ok();
    eventually("what is too old is forgotten", || async {
        let one = prune(&server, json!({"tenant_id": "acme", "user_id": "ann"})).await.ok();
        prune(&server, json!({})).await.ok();
        println!("{one}");
        ann.unread().await == 0 && bob.unread().await == 0
    })
    .await;
    if server.keeps_files() {
        let shared = rusqlite::Connection::open(server.storage().join(".hub/shared.db")).unwrap();
        let left = |tenant: &str| -> i64 {
            let sql = "SELECT count(*) FROM broadcasts WHERE tenant = ?1";
            shared.query_row(sql, [tenant], |row| row.get(0)).unwrap()
        };
        assert_eq!((left("acme"), left("default")), (0, 1));
    }
    assert_eq!(titles(&server.as_user("ann")).await.len(), 5, "others keep all");
    keep(json!({})).await.ok();
    theirs.sent("ann", "kept again").await;
    assert_eq!(prune(&server, json!({})).await.ok()["pruned"], 0);
    assert_eq!(titles(&ann).await, ["kept again"]);
}

/// By itself, without anybody asking.
#[tokio::test]
async fn it_happens_by_itself() {
    let server = TestServer::builder().env("RETENTION_MAX_MESSAGES", 2).start().await;
    let service = server.service().await;
    for n in 0..5 {
        service.sent("ann", &format!("m{n}")).await;
    }
    let ann = server.as_user("ann");
    eventually_within("it is pruned", Duration::from_secs(60), || async {
        (ann.all_messages().await.len() == 2).then_some(())
    })
    .await;
}
