//! What admins change of their own login: the password, the second factor, recovery codes.

use http::Method;
use serde_json::{Value, json};

use crate::support::{
    Api, TestServer,
    admins::{PASSWORD, begin, code, end},
};

const ME: &str = "/api/v3/admin/auth/me";
const OWN_PASSWORD: &str = "/api/v3/admin/me/password";
const TOTP: &str = "/api/v3/admin/me/totp";
const NEW: &str = "another long password";

async fn change(api: &Api, old: &str, new: &str) -> crate::support::Answer {
    let body = json!({"old_password": old, "new_password": new});
    api.call(Method::PUT, OWN_PASSWORD, Some(body)).await
}

fn again(password: &str) -> Value {
    json!({"password": password})
}

#[tokio::test]
async fn an_admin_changes_the_own_password() {
    let server = TestServer::start().await;
    let port = server.admin_port();
    let admin = server.sign_in("mei", "viewer", None).await;
    let first = port.clone().bearer(&admin.token);
    let challenge = begin(&port, "mei", PASSWORD).await.ok();
    let second = end(&port, &challenge, &admin.recovery_codes[0]).await.ok();
    let second = port.clone().bearer(second["token"].as_str().unwrap());
    second.get(ME).await.ok();
    let sentence = change(&first, "a guess", NEW).await.refused(422, "invalid");
    assert!(sentence.contains("password"), "{sentence}");
    change(&first, PASSWORD, "short").await.refused(422, "invalid");
    second.get(ME).await.ok();
    assert_eq!(change(&first, PASSWORD, NEW).await.ok()["ended"], json!(1));
    // The others are out, this one is not.
    first.get(ME).await.ok();
    second.get(ME).await.refused(401, "unauthorized");
    begin(&port, "mei", PASSWORD).await.refused(401, "unauthorized");
    begin(&port, "mei", NEW).await.ok();
    // Nobody else's: whoever shows the admin token, or a user's, has none.
    change(&server.as_admin(), PASSWORD, NEW).await.refused(403, "forbidden");
    let log = server.log();
    assert!(log.contains("admin_password_changed") && log.contains("admin_password_refused"));
    assert!(!log.contains(NEW) && !log.contains(PASSWORD));
}

#[tokio::test]
async fn guesses_at_the_old_password_make_wait() {
    let server = TestServer::builder()
        .env("TRUSTED_PROXIES", "127.0.0.1")
        .env("RATE_LIMIT_IP", "off")
        .start()
        .await;
    let admin = server.sign_in("mei", "viewer", None).await;
    // Somebody has got hold of a session.
    let thief = server.admin_port().header("X-Forwarded-For", "203.0.113.9").bearer(&admin.token);
    let mut looked_at = 0;
    while change(&thief, &format!("guess {looked_at}"), NEW).await.status == 422 {
        looked_at += 1;
        assert!(looked_at < 50);
    }
    assert!((5..=6).contains(&looked_at), "{looked_at}");
    change(&thief, PASSWORD, NEW).await.refused(429, "rate_limited");
    for path in [TOTP.to_owned(), format!("{TOTP}/remove"), format!("{TOTP}/recovery-codes")] {
        thief.post(&path, again(PASSWORD)).await.refused(429, "rate_limited");
    }
    // The owner is elsewhere.
    let home = server.admin_port().header("X-Forwarded-For", "198.51.100.7").bearer(&admin.token);
    change(&home, PASSWORD, NEW).await.ok();
}

#[tokio::test]
async fn an_admin_takes_another_second_factor() {
    let server = TestServer::start().await;
    let port = server.admin_port();
    let admin = server.sign_in("mei", "operator", None).await;
    let api = port.clone().bearer(&admin.token);
    let confirm = format!("{TOTP}/confirm");
    let begun = api.post(TOTP, again(PASSWORD)).await.ok();
    let secret = begun["enrolment"]["secret"].as_str().unwrap().to_owned();
    assert_ne!(secret, admin.secret);
    // Until it is confirmed the one before is in force.
    let challenge = begin(&port, "mei", PASSWORD).await.ok();
    let other = end(&port, &challenge, &code(&admin.secret, 1)).await.ok();
    let other = port.clone().bearer(other["token"].as_str().unwrap());
    let body = |challenge: &Value, code: &str| json!({"challenge": challenge, "code": code});
    let wrong = api.post(&confirm, body(&begun["challenge"], "000000")).await;
    wrong.refused(422, "invalid");
    // It is this admin's and nobody else's, and of no login.
    let stranger = server.sign_in("lin", "admin", None).await;
    let stranger = port.clone().bearer(&stranger.token);
    let theirs = stranger.post(TOTP, again(PASSWORD)).await.ok();
    let right = code(theirs["enrolment"]["secret"].as_str().unwrap(), 0);
    api.post(&confirm, body(&theirs["challenge"], &right)).await.refused(422, "invalid");
    end(&port, &begun, &code(&secret, 0)).await.refused(401, "unauthorized");
    let done = api.post(&confirm, body(&begun["challenge"], &code(&secret, 0))).await.ok();
    let codes = done["recovery_codes"].as_array().unwrap();
    assert_eq!((codes.len(), &done["ended"]), (10, &json!(1)));
    api.get(ME).await.ok();
    other.get(ME).await.refused(401, "unauthorized");
    // The old ones are nothing any more, codes of paper among them; the code that confirmed is used.
    let challenge = begin(&port, "mei", PASSWORD).await.ok();
    for old in [&admin.recovery_codes[1], &code(&secret, 0)] {
        end(&port, &challenge, old).await.refused(401, "unauthorized");
    }
    end(&port, &challenge, &code(&secret, 1)).await.ok();
    // New codes of paper.
    let new = api.post(&format!("{TOTP}/recovery-codes"), again(PASSWORD)).await.ok();
    let challenge = begin(&port, "mei", PASSWORD).await.ok();
    end(&port, &challenge, codes[0].as_str().unwrap()).await.refused(401, "unauthorized");
    end(&port, &challenge, new["recovery_codes"][0].as_str().unwrap()).await.ok();
    // Given up: the next login enrols another one, and there is nothing to make codes of paper for.
    let gone = api.post(&format!("{TOTP}/remove"), again(PASSWORD)).await.ok();
    assert_eq!(gone["ended"], json!(2));
    api.post(&format!("{TOTP}/recovery-codes"), again(PASSWORD)).await.refused(422, "invalid");
    assert!(begin(&port, "mei", PASSWORD).await.ok()["enrolment"]["secret"].is_string());
    let log = server.log();
    for event in
        ["admin_second_factor_changed", "admin_second_factor_removed", "admin_recovery_codes_made"]
    {
        assert!(log.contains(event), "{event}");
    }
    assert!(!log.contains(&secret) && !log.contains(codes[0].as_str().unwrap()));
}
