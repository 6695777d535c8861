//! Sessions: tokens are rotated, and what is ended is over at once, everywhere.

use std::time::{Duration, Instant};

use http::Method;
use protocol::ServerFrame;
use serde_json::{Value, json};

use crate::support::{Api, TestServer, Token, eventually};

const SESSIONS: &str = "/api/v3/auth/sessions";

/// How soon a revocation bites (contract §2.7).
const BITES_WITHIN: Duration = Duration::from_secs(2);

/// A pair of tokens.
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) session: String,
}

impl Pair {
    pub(crate) fn of(data: &Value) -> Self {
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
            session: text("session_id"),
        }
    }
}

/// Logs a user in on a device, as a company's own login service does.
pub(crate) async fn log_in(server: &TestServer, user: &str, device: &str) -> Pair {
    let body =
        json!({"user_id": user, "device_id": device, "device_name": format!("{device}'s name")});
    Pair::of(&server.as_admin().post("/api/v3/admin/sessions", body).await.ok())
}

fn with(server: &TestServer, pair: &Pair) -> Api {
    server.api().bearer(&pair.access)
}

async fn refresh(server: &TestServer, token: &str) -> crate::support::Answer {
    server.api().post("/api/v3/auth/refresh", json!({"refresh_token": token})).await
}

async fn delete(api: &Api, path: &str) -> crate::support::Answer {
    api.call(Method::DELETE, path, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_a_copy_ends_the_session() {
    let server = TestServer::start().await;
    let first = log_in(&server, "ann", "phone").await;
    with(&server, &first).get("/api/v3/messages").await.ok();
    let second = Pair::of(&refresh(&server, &first.refresh).await.ok());
    assert_eq!(second.session, first.session);
    assert_ne!((&second.access, &second.refresh), (&first.access, &first.refresh));
    // Two tabs: the same pair, not a third one.
    let again = Pair::of(&refresh(&server, &first.refresh).await.ok());
    assert_eq!((&again.access, &again.refresh), (&second.access, &second.refresh));
    // Another device's, and none at all.
    let body = json!({"refresh_token": second.refresh, "device_id": "stolen"});
    server.api().post("/api/v3/auth/refresh", body).await.refused(401, "unauthorized");
    for bad in ["phr_", "none", &second.refresh[..second.refresh.len() - 2], &second.access] {
        refresh(&server, bad).await.refused(401, "unauthorized");
    }
    let third = Pair::of(&refresh(&server, &second.refresh).await.ok());
    let mut phone = server.socket("ann").raw_token(&third.access).connect().await;
    // Both pairs behind it are known, and the first one is not the latest but one.
    refresh(&server, &first.refresh).await.refused(401, "unauthorized");
    assert_eq!(phone.closed().await.code, Some(4501));
    refresh(&server, &third.refresh).await.refused(401, "unauthorized");
    with(&server, &third).get("/api/v3/messages").await.refused(401, "unauthorized");
    assert!(server.log().contains("refresh_token_reused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_one_refresh_token_get_one_pair() {
    let server = TestServer::start().await;
    let first = log_in(&server, "ann", "phone").await;
    let all = (0..20).map(|_| refresh(&server, &first.refresh));
    let all = futures_util::future::join_all(all).await;
    let pairs: Vec<Pair> = all.into_iter().map(|answer| Pair::of(&answer.ok())).collect();
    assert!(pairs.iter().all(|pair| pair.refresh == pairs[0].refresh));
    assert!(pairs.iter().all(|pair| pair.access == pairs[0].access));
    refresh(&server, &pairs[0].refresh).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_crash_and_what_was_ended_stays_ended() {
    let mut server = TestServer::start().await;
    let (kept, ended) = (log_in(&server, "ann", "a").await, log_in(&server, "ann", "b").await);
    with(&server, &ended).post("/api/v3/auth/logout", Value::Null).await.ok();
    server.crash_and_restart().await;
    with(&server, &ended).get("/api/v3/messages").await.refused(401, "unauthorized");
    refresh(&server, &ended.refresh).await.refused(401, "unauthorized");
    let kept = Pair::of(&refresh(&server, &kept.refresh).await.ok());
    with(&server, &kept).get("/api/v3/messages").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_and_ends_the_own_sessions_and_nobody_elses() {
    let server = TestServer::start().await;
    let phone = log_in(&server, "ann", "phone").await;
    let tablet = log_in(&server, "ann", "tablet").await;
    let bob = log_in(&server, "bob", "phone").await;
    let listed = with(&server, &phone).get(SESSIONS).await.ok();
    let listed = listed["sessions"].as_array().unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|one| (one["device_id"].as_str().unwrap(), one["current"] == json!(true)))
        .collect();
    assert_eq!(shown, [("tablet", false), ("phone", true)]);
    assert_eq!(listed[0]["device_name"], "tablet's name");
    assert_eq!(
        (&listed[0]["provider"], &listed[0]["address"]),
        (&json!("pushhub"), &json!("127.0.0.1"))
    );

    let theirs = format!("{SESSIONS}/{}", bob.session);
    delete(&with(&server, &phone), &theirs).await.refused(404, "not_found");
    with(&server, &bob).get(SESSIONS).await.ok();
    let mut socket = server.socket("ann").raw_token(&tablet.access).connect().await;
    let mut other = server.socket("ann").raw_token(&phone.access).connect().await;
    let start = Instant::now();
    delete(&with(&server, &phone), &format!("{SESSIONS}/{}", tablet.session)).await.ok();
    assert_eq!(socket.closed().await.code, Some(4501));
    assert!(start.elapsed() < BITES_WITHIN, "{:?}", start.elapsed());
    with(&server, &tablet).get(SESSIONS).await.refused(401, "unauthorized");
    other.ping().await;
    let gone = format!("{SESSIONS}/{}", tablet.session);
    delete(&with(&server, &phone), &gone).await.refused(404, "not_found");
    // Opening a socket with it is refused as well.
    server.socket("ann").raw_token(&tablet.access).refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_everywhere_else_spares_who_asks_and_bites_every_other_token() {
    let server = TestServer::start().await;
    let mine = log_in(&server, "ann", "phone").await;
    let other = log_in(&server, "ann", "tablet").await;
    // Of another login service, which knows no sessions.
    let foreign = Token::of("ann").device("watch");
    let mut watch = server.socket("ann").token(foreign.clone()).connect().await;
    let mut phone = server.socket("ann").raw_token(&mine.access).connect().await;
    assert_eq!(delete(&with(&server, &mine), SESSIONS).await.ok()["ended"], 1);
    assert_eq!(watch.closed().await.code, Some(4501));
    server.api().bearer(&foreign.sign()).get("/api/v3/messages").await.refused(401, "unauthorized");
    with(&server, &other).get("/api/v3/messages").await.refused(401, "unauthorized");
    with(&server, &mine).get("/api/v3/messages").await.ok();
    phone.ping().await;
    // Whoever logs in at once is in.
    let back = log_in(&server, "ann", "tablet").await;
    with(&server, &back).get("/api/v3/messages").await.ok();
    // An admin spares nobody.
    let path = "/api/v3/admin/sessions?user_id=ann";
    assert_eq!(delete(&server.as_admin(), path).await.ok()["ended"], 2);
    assert_eq!(phone.closed().await.code, Some(4501));
    with(&server, &mine).get("/api/v3/messages").await.refused(401, "unauthorized");
    let back = log_in(&server, "ann", "phone").await;
    with(&server, &back).get("/api/v3/messages").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_user_is_out_at_once_and_comes_back() {
    let server = TestServer::start().await;
    let pair = log_in(&server, "ann", "phone").await;
    let mut socket = server.socket("ann").raw_token(&pair.access).connect().await;
    let foreign = Token::of("ann").sign();
    let admin = server.as_admin();
    let shown = admin.post("/api/v3/admin/users/ann/disable", Value::Null).await.ok();
    assert_eq!(shown["disabled"], true);
    assert_eq!(socket.closed().await.code, Some(4501));
    for token in [&pair.access, &foreign] {
        let api = server.api().bearer(token);
        api.get("/api/v3/messages").await.refused(403, "forbidden");
    }
    refresh(&server, &pair.refresh).await.refused(401, "unauthorized");
    let body = json!({"user_id": "ann", "device_id": "phone"});
    admin.post("/api/v3/admin/sessions", body).await.refused(403, "forbidden");
    assert_eq!(server.socket("ann").raw_token(&foreign).refused().await.status(), 403);
    // Messages go on to be stored.
    server.service().await.send_to("ann", "while away").await.ok();
    admin.post("/api/v3/admin/users/ann/enable", Value::Null).await.ok();
    let api = server.api().bearer(&foreign);
    assert_eq!(api.all_messages().await.len(), 1);
    let pair = log_in(&server, "ann", "phone").await;
    with(&server, &pair).get("/api/v3/messages").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_ends_the_session_and_a_token_without_one() {
    let server = TestServer::start().await;
    let pair = log_in(&server, "ann", "phone").await;
    let mut socket = server.socket("ann").raw_token(&pair.access).connect().await;
    let out = with(&server, &pair).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(out["session_id"], pair.session);
    assert_eq!(socket.closed().await.code, Some(4501));
    with(&server, &pair).get("/api/v3/messages").await.refused(401, "unauthorized");
    refresh(&server, &pair.refresh).await.refused(401, "unauthorized");
    // Tokens of another login service: by session, by token, by nothing.
    let of = |name: &str, value: Value| Token::of("bob").claim(name, value);
    let session = of("session_id", json!("theirs")).claim("jti", "t-1").sign();
    let same = of("session_id", json!("theirs")).claim("jti", "t-2").sign();
    server.api().bearer(&session).post("/api/v3/auth/logout", Value::Null).await.ok();
    server.api().bearer(&same).get("/api/v3/messages").await.refused(401, "unauthorized");
    let token = of("session_id", Value::Null).claim("jti", "t-3").sign();
    let mut socket = server.socket("bob").raw_token(&token).connect().await;
    let out = server.api().bearer(&token).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(out["session_id"], Value::Null);
    assert_eq!(socket.closed().await.code, Some(4501));
    server.api().bearer(&token).get("/api/v3/messages").await.refused(401, "unauthorized");
    let nothing = of("session_id", Value::Null).claim("jti", Value::Null).sign();
    let nothing = server.api().bearer(&nothing);
    nothing.post("/api/v3/auth/logout", Value::Null).await.refused(422, "invalid");
    nothing.get("/api/v3/messages").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_socket_which_dies_with_its_session() {
    let server = TestServer::start().await;
    let pair = log_in(&server, "ann", "phone").await;
    let made = with(&server, &pair).post("/api/v3/auth/ws-ticket", Value::Null).await.ok();
    assert_eq!(made["expires_in"], 30);
    let ticket = made["ticket"].as_str().unwrap();
    let by = |ticket: &str| server.socket("ann").raw_token("").query("ticket", ticket);
    let mut socket = by(ticket).connect().await;
    assert_eq!(
        (socket.welcome.user_id.as_str(), socket.welcome.device_id.as_str()),
        ("ann", "phone")
    );
    assert_eq!(by(ticket).refused().await.status(), 401);
    for bad in ["pht_", "none", &pair.access, &ticket.to_uppercase()] {
        assert_eq!(by(bad).refused().await.status(), 401, "{bad}");
    }
    server.service().await.send_to("ann", "hello").await.ok();
    socket.next_message().await;
    with(&server, &pair).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(socket.closed().await.code, Some(4501));
    // One that was made before the logout opens nothing after it.
    let pair = log_in(&server, "ann", "phone").await;
    let made = with(&server, &pair).post("/api/v3/auth/ws-ticket", Value::Null).await.ok();
    with(&server, &pair).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(by(made["ticket"].as_str().unwrap()).refused().await.status(), 401);
    assert!(!server.log().contains(ticket));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_told_before_its_token_ends_and_a_new_one_counts() {
    let server = TestServer::start().await;
    let token = Token::of("ann").device("phone").expires_in(4).sign();
    let mut socket = server.socket("ann").raw_token(&token).connect().await;
    let start = Instant::now();
    let ServerFrame::TokenExpiring { expires_in_ms } = socket.next().await else { panic!() };
    assert!(expires_in_ms <= 400 && start.elapsed() < Duration::from_secs(5));
    let new = Token::of("ann").device("phone").claim("session_id", "s-9");
    socket.refresh(&new).await;
    socket.ping().await;
    // From here on it is the new token's login that counts.
    server.api().bearer(&new.sign()).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(socket.closed().await.code, Some(4501));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_login_of_a_device_ends_the_one_before() {
    let server = TestServer::start().await;
    let first = log_in(&server, "ann", "phone").await;
    let second = log_in(&server, "ann", "phone").await;
    with(&server, &first).get("/api/v3/messages").await.refused(401, "unauthorized");
    let listed = with(&server, &second).get(SESSIONS).await.ok();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_what_the_user_says_beside_the_token() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    let path = "/api/v3/auth/profile";
    let before = ann.get(path).await.ok();
    assert_eq!((&before["user_id"], &before["name"]), (&json!("ann"), &json!("")));
    assert_eq!((&before["created_at"], &before["identities"]), (&Value::Null, &json!([])));
    let change = json!({"name": "安", "locale": "zh-CN", "time_zone": "Asia/Shanghai", "avatar": "https://x.example/a.png"});
    let after = ann.put(path, change).await.ok();
    assert_eq!((&after["name"], &after["locale"]), (&json!("安"), &json!("zh-CN")));
    let after = ann.put(path, json!({"name": ""})).await.ok();
    assert_eq!((&after["name"], &after["time_zone"]), (&json!(""), &json!("Asia/Shanghai")));
    let roles = json!({"roles": ["oncall"]});
    server.as_admin().put("/api/v3/admin/users/ann/roles", roles).await.ok();
    assert_eq!(ann.get(path).await.ok()["roles"], json!(["oncall"]));
    for bad in [
        json!({"locale": "zh_CN"}),
        json!({"time_zone": "Mars/Base"}),
        json!({"avatar": "javascript:alert(1)"}),
        json!({"name": "a\u{7}"}),
        json!({"nick": "x"}),
    ] {
        ann.put(path, bad).await.refused(422, "invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_lists_sessions_of_the_own_tenant_only() {
    let server = TestServer::start().await;
    let (a, _b) = (log_in(&server, "ann", "phone").await, log_in(&server, "bob", "phone").await);
    let body = json!({"user_id": "ann", "device_id": "phone"});
    let path = "/api/v3/admin/sessions?tenant_id=t2";
    let other = Pair::of(&server.as_admin().post(path, body).await.ok());
    let list = |api: Api, query: &'static str| async move {
        let answer = api.get(&format!("/api/v3/admin/sessions?{query}")).await.ok();
        answer["sessions"].as_array().unwrap().len()
    };
    assert_eq!(list(server.as_admin(), "").await, 3);
    assert_eq!(list(server.as_admin(), "user_id=ann").await, 1);
    assert_eq!(list(server.as_admin(), "user_id=ann&tenant_id=t2").await, 1);
    let theirs = Token::of("root").claim("roles", json!(["system_admin"])).claim("tenant_id", "t2");
    let theirs = server.as_admin().without_credentials().bearer(&theirs.sign());
    assert_eq!(list(theirs.clone(), "").await, 1);
    let path = format!("/api/v3/admin/sessions/{}", a.session);
    delete(&theirs, &path).await.refused(404, "not_found");
    with(&server, &a).get("/api/v3/messages").await.ok();
    delete(&theirs, &format!("/api/v3/admin/sessions/{}", other.session)).await.ok();
    with(&server, &other).get("/api/v3/messages").await.refused(401, "unauthorized");
    delete(&server.as_admin(), &path).await.ok();
    with(&server, &a).get("/api/v3/messages").await.refused(401, "unauthorized");
    eventually("they are gone from the list", || async { list(server.as_admin(), "").await == 1 })
        .await;
}
