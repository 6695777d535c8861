//! Admins: what each role may do, how they log in, and that guesses neither get in nor keep others out.

use http::Method;
use serde_json::{Value, json};

use crate::support::{
    Api, TestServer, Token,
    admins::{PASSWORD, begin, code, end},
};

const ADMINS: &str = "/api/v3/admin/admins";
const ME: &str = "/api/v3/admin/auth/me";
const SERVICES: &str = "/api/v3/admin/services";

/// The owner's address, as the proxy that tests stand in for says.
const HOME: &str = "198.51.100.7";

async fn delete(api: &Api, path: &str) -> crate::support::Answer {
    api.call(Method::DELETE, path, None).await
}

#[tokio::test]
async fn each_role_may_what_it_is_for() {
    let server = TestServer::start().await;
    server.as_user("ann").get("/api/v3/messages").await.ok();
    for (role, operates, keeps) in
        [("viewer", false, false), ("operator", true, false), ("admin", true, true)]
    {
        let admin = server.sign_in(role, role, None).await;
        let api = server.admin_port().bearer(&admin.token);
        let me = api.get(ME).await.ok();
        assert_eq!((&me["name"], &me["role"]), (&json!(role), &json!(role)));
        assert_eq!(me["admin"]["second_factor"], json!(true));
        for path in [SERVICES, "/api/v3/admin/users", "/api/v3/admin/nodes", "/api/v3/admin/stats"]
        {
            api.get(path).await.ok();
        }
        let expected = |answer: &crate::support::Answer, may: bool, needed: &str| {
            if may {
                answer.data();
            } else {
                let sentence = answer.refused(403, "forbidden");
                assert!(sentence.contains(&format!("role {needed}")), "{sentence}");
            }
        };
        let operated = [
            api.post("/api/v3/admin/users/ann/disable", json!({})).await,
            api.post("/api/v3/admin/users/ann/enable", json!({})).await,
            api.post("/api/v3/admin/sessions", json!({"user_id": "ann"})).await,
            delete(&api, "/api/v3/admin/connections?user_id=ann").await,
            api.post("/api/v3/admin/channels", json!({"id": format!("c-{role}"), "name": "c"}))
                .await,
        ];
        for answer in &operated {
            expected(answer, operates, "operator");
        }
        let kept = [
            api.post(SERVICES, json!({"id": format!("s-{role}"), "name": "s"})).await,
            api.put("/api/v3/admin/tenants/acme", json!({"quotas": {}})).await,
            api.get(ADMINS).await,
            api.post(
                ADMINS,
                json!({"username": format!("by-{role}"), "role": "admin", "password": PASSWORD}),
            )
            .await,
        ];
        for answer in &kept {
            expected(answer, keeps, "admin");
        }
        // The token of an admin is no user's.
        let users = server.api().bearer(&admin.token).get("/api/v3/messages").await;
        users.refused(401, "unauthorized");
    }
    // The login service's admins keep none of ours.
    let root = Token::of("root").claim("roles", json!(["system_admin"])).sign();
    let root = server.admin_port().bearer(&root);
    root.get(SERVICES).await.ok();
    root.get(ADMINS).await.refused(403, "forbidden");
    for event in ["admins_create", "admin_logged_in"] {
        server.logged(event).await;
    }
}

#[tokio::test]
async fn a_viewer_reads_nobodys_letters() {
    let server = TestServer::start().await;
    server.service().await.sent("ann", "hello").await;
    let (viewer, operator) = (
        server.sign_in("viewer", "viewer", None).await,
        server.sign_in("operator", "operator", None).await,
    );
    for path in [
        "users/ann/messages",
        "users/ann/export",
        "users/ann/backup/database",
        "users/ann/backup/messages",
        "messages/scheduled",
    ] {
        let path = format!("/api/v3/admin/{path}");
        let as_role = |token: &str| server.admin_port().bearer(token);
        as_role(&viewer.token).get(&path).await.refused(403, "forbidden");
        assert_eq!(as_role(&operator.token).head_of(&path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_admin_of_a_tenant_sees_that_one_only() {
    let server = TestServer::start().await;
    let service = |id: &str, tenant: &str| json!({"id": id, "name": id, "tenant_id": tenant});
    server.create_service(service("theirs", "acme")).await.ok();
    server.create_service(service("ours", "default")).await.ok();
    let above = server.sign_in("above", "admin", None).await;
    let admin = server.sign_in("mei", "admin", Some("acme")).await;
    let api = server.admin_port().bearer(&admin.token);
    let listed = api.get(SERVICES).await.ok();
    assert_eq!((&listed["total"], &listed["services"][0]["id"]), (&json!(1), &json!("theirs")));
    api.get(&format!("{SERVICES}/ours")).await.refused(404, "not_found");
    api.post(&format!("{SERVICES}/ours/disable"), json!({})).await.refused(404, "not_found");
    api.get("/api/v3/admin/users?tenant_id=default").await.refused(422, "invalid");
    api.get("/api/v3/admin/nodes").await.refused(403, "forbidden");
    api.put("/api/v3/admin/tenants/acme", json!({"quotas": {}})).await.refused(403, "forbidden");
    api.post("/api/v3/admin/maintenance/prune", json!({})).await.refused(403, "forbidden");
    // Nor admins of others; those that it makes are its tenant's.
    let admins = api.get(ADMINS).await.ok();
    assert_eq!((&admins["total"], &admins["admins"][0]["username"]), (&json!(1), &json!("mei")));
    let other = format!("{ADMINS}/{}", above.id);
    api.get(&other).await.refused(404, "not_found");
    api.put(&other, json!({"password": "another long password"})).await.refused(404, "not_found");
    delete(&api, &format!("{other}/sessions")).await.refused(404, "not_found");
    delete(&api, &other).await.refused(404, "not_found");
    let new = json!({"username": "new", "role": "admin", "password": PASSWORD});
    assert_eq!(api.post(ADMINS, new).await.ok()["tenant_id"], "acme");
    let wider = json!({"username": "w", "role": "admin", "password": PASSWORD, "tenant_id": "t2"});
    assert!(api.post(ADMINS, wider).await.refused(422, "invalid").contains("tenant_id"));
}

#[tokio::test]
async fn a_session_ends_at_once_and_a_code_is_good_once() {
    let server = TestServer::start().await;
    let port = server.admin_port();
    let admin = server.sign_in("mei", "operator", None).await;
    let first = port.clone().bearer(&admin.token);
    first.get(ME).await.ok();
    // The code that enrolled it is used; so is the next one once it is.
    let challenge = begin(&port, "MEI", PASSWORD).await.ok();
    assert_eq!(challenge["enrolment"], Value::Null);
    end(&port, &challenge, &code(&admin.secret, 0)).await.refused(401, "unauthorized");
    let next = code(&admin.secret, 1);
    let second = end(&port, &challenge, &next).await.ok();
    assert_eq!(second["recovery_codes"], json!([]));
    let again = begin(&port, "mei", PASSWORD).await.ok();
    end(&port, &again, &next).await.refused(401, "unauthorized");
    let third = end(&port, &again, &admin.recovery_codes[0]).await.ok();
    assert_eq!(third["admin"]["recovery_codes_left"], json!(9));
    let again = begin(&port, "mei", PASSWORD).await.ok();
    end(&port, &again, &admin.recovery_codes[0]).await.refused(401, "unauthorized");

    let path = format!("{ADMINS}/{}", admin.id);
    let listed = server.as_admin().get(&format!("{path}/sessions")).await.ok();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 3);
    assert_eq!(listed["sessions"][0]["address"], "127.0.0.1");
    // Logged out; ended by another one; all of them.
    let api = |login: &Value| port.clone().bearer(login["token"].as_str().unwrap());
    let out = api(&third).post("/api/v3/admin/auth/logout", json!({})).await.ok();
    assert_eq!(out["ended"], json!(true));
    api(&third).get(ME).await.refused(401, "unauthorized");
    let session = second["session"]["session_id"].as_str().unwrap();
    let ended = delete(&server.as_admin(), &format!("{path}/sessions/{session}")).await.ok();
    assert_eq!(ended["ended"], json!(1));
    api(&second).get(ME).await.refused(401, "unauthorized");
    first.get(ME).await.ok();
    server.as_admin().put(&path, json!({"role": "viewer"})).await.ok();
    let refused = first.post("/api/v3/admin/users/ann/disable", json!({})).await;
    refused.refused(403, "forbidden");
    server.as_admin().put(&path, json!({"disabled": true})).await.ok();
    first.get(ME).await.refused(401, "unauthorized");
    begin(&port, "mei", PASSWORD).await.refused(401, "unauthorized");
    // A lost phone: in again by a new one.
    let lost = json!({"disabled": false, "forget_second_factor": true});
    server.as_admin().put(&path, lost).await.ok();
    let new = server.enrol(&port, &admin.id, "mei").await;
    port.clone().bearer(&new.token).get(ME).await.ok();
    delete(&server.as_admin(), &path).await.ok();
    port.clone().bearer(&new.token).get(ME).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn guesses_make_wait_and_keep_nobody_else_out() {
    let server = TestServer::builder()
        .env("TRUSTED_PROXIES", "127.0.0.1")
        // What is tried here is the guard's: an address may ask as often as it likes.
        .env("RATE_LIMIT_IP", "off")
        .start()
        .await;
    let from = |address: &str| server.admin_port().header("X-Forwarded-For", address);
    let new = json!({"username": "mei", "role": "viewer", "password": PASSWORD});
    let made = server.as_admin().post(ADMINS, new).await.ok();
    let admin = server.enrol(&from(HOME), made["id"].as_str().unwrap(), "mei").await;

    let thief = from("203.0.113.9");
    let mut looked_at = 0;
    let refused = loop {
        let answer = begin(&thief, "mei", &format!("guess {looked_at}")).await;
        if answer.status == 429 {
            break answer;
        }
        let sentence = answer.refused(401, "unauthorized");
        assert!(sentence.contains("username or password"), "{sentence}");
        looked_at += 1;
        assert!(looked_at < 50);
    };
    assert!((5..=6).contains(&looked_at), "{looked_at}");
    let sentence = refused.refused(429, "rate_limited");
    assert!(sentence.contains("too many wrong attempts"), "{sentence}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    // A name that nobody has is answered word for word like one that somebody has.
    begin(&from("203.0.113.10"), "nobody", "a guess").await.refused(401, "unauthorized");

    // Very many addresses, at the account's own count: the owner is in all the same, at home.
    for n in 0..130 {
        begin(&from(&format!("203.0.114.{n}")), "mei", "a guess").await;
    }
    let metrics = server.metrics().await;
    let counted = |result: &str| {
        let name = format!("pushhub_guarded_attempts_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
        line[name.len()..].parse::<u64>().unwrap()
    };
    assert!(counted("pair") >= 1 && counted("account") >= 1 && counted("passed") == 1);
    let challenge = begin(&from(HOME), "mei", PASSWORD).await.ok();
    end(&from(HOME), &challenge, &code(&admin.secret, 1)).await.ok();
}

#[tokio::test]
async fn guesses_at_the_admin_token_make_wait_and_keep_nobody_else_out() {
    let server = TestServer::builder()
        .env("TRUSTED_PROXIES", "127.0.0.1")
        .env("RATE_LIMIT_IP", "off")
        .start()
        .await;
    let from = |address: &str| server.as_admin().header("X-Forwarded-For", address);
    from(HOME).get(ME).await.ok();
    let thief = from("203.0.113.9");
    let mut looked_at = 0;
    while thief.clone().bearer(&format!("guess-{looked_at}")).get(ME).await.status == 401 {
        looked_at += 1;
        assert!(looked_at < 50);
    }
    assert!((5..=6).contains(&looked_at), "{looked_at}");
    // Not looked at either, or the wait would be for nothing.
    thief.get(ME).await.refused(429, "rate_limited");
    // A user's token, a session, a key are none of it; nor is anybody elsewhere, at home or on this machine.
    let root = Token::of("root").claim("roles", json!(["system_admin"])).sign();
    thief.clone().bearer(&root).get(SERVICES).await.ok();
    thief.clone().bearer("pha_none").get(ME).await.refused(401, "unauthorized");
    for n in 0..130 {
        from(&format!("203.0.114.{n}")).bearer("a-guess").get(ME).await;
    }
    from(HOME).get(ME).await.ok();
    server.as_admin().get(ME).await.ok();
}

#[tokio::test]
async fn no_secret_of_a_login_is_in_the_log() {
    let server = TestServer::builder().env("LOG_LEVEL", "trace").start().await;
    let admin = server.sign_in("mei", "admin", None).await;
    let port = server.admin_port();
    let api = port.clone().bearer(&admin.token);
    api.get(ME).await.ok();
    let canary = "a wrong password as a canary";
    begin(&port, "mei", canary).await.refused(401, "unauthorized");
    let challenge = begin(&port, "mei", PASSWORD).await.ok();
    end(&port, &challenge, "canary-code-1").await.refused(401, "unauthorized");
    end(&port, &challenge, &admin.recovery_codes[1]).await.ok();
    api.post("/api/v3/admin/auth/logout", json!({})).await.ok();
    server.logged("admin_login_refused").await;
    let log = server.logged("admin_logged_out").await;
    let mut secrets = vec![PASSWORD, canary, "canary-code-1", &admin.token, &admin.secret];
    secrets.push(challenge["challenge"].as_str().unwrap());
    secrets.extend(admin.recovery_codes.iter().map(String::as_str));
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_admin_who_recalls_a_message_is_not_logged_as_the_bearer_of_the_admin_token() {
    let server = TestServer::start().await;
    let id = server.service().await.sent("ann", "hello").await;
    let admin = server.sign_in("mei", "operator", None).await;
    let api = server.admin_port().bearer(&admin.token);
    api.post(&format!("/api/v3/admin/messages/{id}/recall"), json!({})).await.ok();
    let log = server.logged("admin_sent_recall").await;
    let line = log.lines().find(|line| line.contains("admin_sent_recall")).unwrap();
    assert!(line.contains("by=\"mei\""), "{line}");
}
