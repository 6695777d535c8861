//! `/api/v3/admin/config`: settings that change while the hub runs (contract §9).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use servers::Redis;

use crate::support::{Api, Cluster, TestServer, api::message_to, eventually, eventually_within};

const CONFIG: &str = "/api/v3/admin/config";
const VERSIONS: &str = "/api/v3/admin/config/versions";
const COUNT: &str = "/api/v3/messages/unread-count";

/// Most requests until a limit of a few must have been reached, on however slow a machine.
const ENOUGH: usize = 200;

async fn set(server: &TestServer, name: &str, value: &str) {
    let changed = server.as_admin().put(CONFIG, json!({"set": {name: value}})).await.ok();
    assert_eq!(changed["live"][name], value, "{changed}");
}

async fn unset(server: &TestServer, name: &str) {
    let changed = server.as_admin().put(CONFIG, json!({"unset": [name]})).await.ok();
    assert!(changed["live"].get(name).is_none(), "{changed}");
}

/// One setting as `GET /admin/config` has it.
async fn shown(server: &TestServer, name: &str) -> Value {
    let all = server.as_admin().get(CONFIG).await.ok();
    let all = all["settings"].as_array().unwrap();
    all.iter().find(|setting| setting["name"] == name).expect(name).clone()
}

/// Which rate a user is told of, as `q` of `RateLimit-Policy`; none where there is no limit.
async fn users_burst(server: &TestServer) -> Option<u64> {
    let answer = server.as_user("ann").get(COUNT).await;
    let policy = answer.header("ratelimit-policy");
    policy.split(';').find_map(|part| part.strip_prefix("q=")).map(|burst| burst.parse().unwrap())
}

/// Asks until it is refused as too much.
async fn is_limited(api: &Api, method: Method, path: &str, body: Option<Value>) -> bool {
    for _ in 0..ENOUGH {
        let answer = api.call(method.clone(), path, body.clone()).await;
        if answer.status == 429 {
            return true;
        }
        answer.data();
    }
    false
}

/// A message that takes some room in an inbox.
async fn send_large(service: &Api, user: &str) {
    let mut message = message_to(&[user], "large");
    message["content"] = json!("0123456789".repeat(20_000));
    service.send(message).await.ok();
}

/// That a live value is what the hub goes by, and not any more when it is taken away.
async fn bites(server: &TestServer, name: &str) {
    let service = server.service().await;
    let behind = |api: Api| api.header("x-forwarded-for", "203.0.113.9");
    match name {
        "RATE_LIMIT_USER" => {
            set(server, name, "1/s:3").await;
            let ann = server.as_user("ann");
            assert!(is_limited(&ann, Method::GET, COUNT, None).await);
            assert_eq!(users_burst(server).await, Some(3));
            unset(server, name).await;
            assert_eq!(users_burst(server).await, Some(900), "the environment's");
        }
        "RATE_LIMIT_IP" => {
            set(server, name, "1/s:3").await;
            assert!(is_limited(&behind(server.as_user("bob")), Method::GET, COUNT, None).await);
            unset(server, name).await;
            behind(server.as_user("bob")).get(COUNT).await.ok();
        }
        "RATE_LIMIT_SERVICE" => {
            set(server, name, "1/s:2").await;
            let (path, body) = ("/api/v3/messages/send", message_to(&["ann"], "t"));
            assert!(is_limited(&service, Method::POST, path, Some(body)).await);
            unset(server, name).await;
            service.send_to("ann", "t").await.ok();
        }
        "RATE_LIMIT_CONNECT" => {
            set(server, name, "1/s:2").await;
            let from = || server.socket("carl").header("x-forwarded-for", "203.0.113.7");
            let mut open = vec![];
            while let Ok(client) = from().try_connect().await {
                open.push(client);
                assert!(open.len() < ENOUGH, "{name} is no limit");
            }
            unset(server, name).await;
            from().connect().await;
        }
        "WS_MAX_CONNECTIONS" => {
            eventually("all sockets of before are gone", || async {
                let metrics = server.metrics().await;
                let mut open =
                    metrics.lines().filter(|line| line.starts_with("pushhub_connections{"));
                open.all(|line| line.ends_with(" 0"))
            })
            .await;
            set(server, name, "1").await;
            let _one = server.connect("dora").await;
            assert_eq!(server.socket("emil").refused().await.status(), 503);
            unset(server, name).await;
            server.connect("emil").await;
        }
        "WS_MAX_CONNECTIONS_PER_USER" => {
            set(server, name, "1").await;
            let _one = server.stream("fred").open().await;
            assert_eq!(server.stream("fred").refused().await.status, 429);
            unset(server, name).await;
            server.stream("fred").open().await;
        }
        "RETENTION_MAX_MESSAGES" | "RETENTION_MAX_AGE" => {
            let (user, value, left) =
                if name == "RETENTION_MAX_AGE" { ("gina", "1s", 0) } else { ("hans", "2", 2) };
            for n in 0..4 {
                service.send_to(user, &n.to_string()).await.ok();
            }
            let prune = async || {
                let path = "/api/v3/admin/maintenance/prune";
                server.as_admin().post(path, json!({"user_id": user})).await.ok();
                server.as_user(user).all_messages().await.len()
            };
            assert_eq!(prune().await, 4);
            set(server, name, value).await;
            eventually("what need not be kept is forgotten", || async { prune().await == left })
                .await;
            unset(server, name).await;
            service.send_to(user, "kept").await.ok();
            service.send_to(user, "kept").await.ok();
            service.send_to(user, "kept").await.ok();
            assert_eq!(prune().await, left + 3);
        }
        "BACKUP_SIZE_MAX" => {
            send_large(&service, "ines").await;
            let ines = server.as_user("ines");
            set(server, name, "64KiB").await;
            let path = "/api/v3/backup/database?compress=false";
            let sentence = ines.get(path).await.refused(507, "insufficient_storage");
            assert!(sentence.contains("65536"), "{sentence}");
            unset(server, name).await;
            assert_eq!(ines.get(path).await.status, 200);
        }
        "BACKUP_JOBS_SIZE_MAX" => {
            send_large(&service, "jack").await;
            let (jack, path) = (server.as_user("jack"), "/api/v3/backup/jobs");
            let job = jack.post(path, json!({"compress": false})).await.ok();
            let id = job["job_id"].as_str().unwrap();
            assert_eq!(jack.get(&format!("{path}/{id}?wait=30s")).await.ok()["state"], "done");
            set(server, name, "64KiB").await;
            jack.post(path, json!({})).await.refused(507, "insufficient_storage");
            unset(server, name).await;
            jack.post(path, json!({})).await.ok();
        }
        "LOG_LEVEL" => {
            set(server, name, "info,access=off").await;
            let ann = server.as_user("ann");
            ann.get(COUNT).await.ok();
            let quiet = ann.clone().header("x-request-id", "asked-while-it-was-quiet");
            quiet.get(COUNT).await.ok();
            unset(server, name).await;
            ann.header("x-request-id", "asked-while-it-was-loud").get(COUNT).await.ok();
            let log = server.logged("asked-while-it-was-loud").await;
            assert!(!log.contains("asked-while-it-was-quiet"), "{log}");
        }
        other => panic!("{other} is said to change while the hub runs: prove it here"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_live_setting_bites_at_once_and_not_any_more_when_it_is_taken_away() {
    let server = TestServer::builder()
        .env("TRUSTED_PROXIES", "127.0.0.0/8")
        .env("RATE_LIMIT_USER", "900/s")
        .start()
        .await;
    let all = server.as_admin().get(CONFIG).await.ok();
    assert_eq!(all["version"], 0);
    let mut versions = 0;
    for setting in all["settings"].as_array().unwrap() {
        let name = setting["name"].as_str().unwrap();
        if setting["live"] == true {
            bites(&server, name).await;
            versions += 2;
        } else {
            let value = setting["value"].as_str().or(setting["default"].as_str()).unwrap_or("1");
            let refused = server.as_admin().put(CONFIG, json!({"set": {name: value}})).await;
            let sentence = refused.refused(422, "invalid");
            assert!(sentence.contains("while the hub runs"), "{name}: {sentence}");
        }
    }
    assert!(versions >= 20, "{versions}");
    assert_eq!(server.as_admin().get(CONFIG).await.ok()["version"], versions);
    let secrets = [crate::support::server::ADMIN_TOKEN, crate::support::token::SECRET];
    let text = server.as_admin().get(CONFIG).await.body.to_string();
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
}

#[tokio::test]
async fn a_version_says_who_changed_what_and_can_be_brought_back() {
    let mut server = TestServer::builder().env("RATE_LIMIT_USER", "900/s").start().await;
    let mei = server.sign_in("mei", "admin", None).await;
    let api = server.admin_port().bearer(&mei.token);
    let burst =
        json!({"set": {"RATE_LIMIT_USER": "5/s:50"}, "reason": "a loop", "expected_version": 0});
    assert_eq!(api.put(CONFIG, burst.clone()).await.ok()["version"], 1);
    assert_eq!(users_burst(&server).await, Some(50));
    // The same, and only asked for: nothing is made of either.
    let again = json!({"set": {"RATE_LIMIT_USER": "5/s:50"}});
    assert_eq!(api.put(CONFIG, again).await.ok()["changes"], json!([]));
    let dry = json!({"set": {"RATE_LIMIT_USER": "6/s:60"}, "dry_run": true});
    let dry = api.put(CONFIG, dry).await.ok();
    assert_eq!((&dry["version"], dry["changes"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(users_burst(&server).await, Some(50));
    // Made over another one than is there.
    let sentence = api.put(CONFIG, burst).await.refused(409, "version_conflict");
    assert!(sentence.contains("version 1"), "{sentence}");
    // One that is wrong takes the others with it, and all are told.
    let bad = json!({"set": {"RATE_LIMIT_USER": "7/s:70", "RATE_LIMIT_IP": "fast", "RATE_LIMIT_ID": "1/s"}});
    let sentence = api.put(CONFIG, bad).await.refused(422, "invalid");
    for word in ["RATE_LIMIT_IP", "fast", "did you mean", "RATE_LIMIT_ID"] {
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
    api.put(CONFIG, json!({"unset": ["JWT_SECRET"]})).await.refused(422, "invalid");
    assert_eq!(users_burst(&server).await, Some(50));

    let second = json!({"set": {"WS_MAX_CONNECTIONS": "77"}, "unset": ["RATE_LIMIT_USER"]});
    assert_eq!(api.put(CONFIG, second).await.ok()["version"], 2);
    let back = json!({"reason": "the loop is back"});
    let restored = api.post(&format!("{VERSIONS}/1/restore"), back).await.ok();
    assert_eq!(restored["version"], 3);
    assert_eq!(restored["live"], json!({"RATE_LIMIT_USER": "5/s:50"}));
    assert_eq!(users_burst(&server).await, Some(50));
    let page = api.get(VERSIONS).await.ok();
    assert_eq!(page["total"], 3);
    let versions = page["versions"].as_array().unwrap();
    assert_eq!(
        (&versions[0]["restores"], &versions[0]["reason"]),
        (&json!(1), &json!("the loop is back"))
    );
    assert_eq!(versions[2]["by"], json!({"kind": "admin", "id": mei.id, "name": "mei"}));
    assert_eq!(
        versions[1]["changes"],
        json!([
            {"name": "RATE_LIMIT_USER", "before": "5/s:50", "after": null},
            {"name": "WS_MAX_CONNECTIONS", "before": null, "after": "77"},
        ])
    );
    for none in ["4", "x", "-1", "+1", "01", "000000000000000000000"] {
        let path = format!("{VERSIONS}/{none}/restore");
        api.post(&path, json!({})).await.refused(404, "not_found");
    }
    let audit = api.get("/api/v3/admin/audit?target=config&size=1").await.ok();
    let entry = &audit["entries"][0];
    assert_eq!(entry["action"], "settings_restore");
    assert_eq!(entry["detail"]["before"]["live"], json!({"WS_MAX_CONNECTIONS": "77"}));
    assert_eq!(entry["detail"]["after"]["live"], json!({"RATE_LIMIT_USER": "5/s:50"}));

    // It wins over the environment also after a restart; and version 0 is what that says.
    server.crash_and_restart().await;
    assert_eq!(users_burst(&server).await, Some(50));
    let shown = shown(&server, "RATE_LIMIT_USER").await;
    assert_eq!((&shown["source"], &shown["without_live"]), (&json!("live"), &json!("900/s")));
    let admin = server.as_admin();
    admin.post(&format!("{VERSIONS}/0/restore"), json!({})).await.ok();
    assert_eq!(users_burst(&server).await, Some(900));
}

#[tokio::test]
async fn a_value_that_the_build_cannot_use_does_not_keep_it_from_starting() {
    let mut server = TestServer::plain_builder().env("RATE_LIMIT_USER", "900/s").start().await;
    let live = json!({"set": {"RATE_LIMIT_USER": "5/s:50", "WS_MAX_CONNECTIONS": "77"}});
    server.as_admin().put(CONFIG, live).await.ok();
    server.kill_9().await;
    let file = server.storage().join(".hub/control.db");
    let sql = "UPDATE control_settings SET live = json_set(live, '$.RATE_LIMIT_USER', 'fast', '$.OF_LATER', '1')";
    let done = std::process::Command::new("sqlite3").arg(file).arg(sql).status().unwrap();
    assert!(done.success());
    server.spawn().await;
    let log = server.logged("OF_LATER").await;
    assert!(log.contains("the live value of RATE_LIMIT_USER"), "{log}");
    assert_eq!(users_burst(&server).await, Some(900), "what was given at the start");
    assert_eq!(shown(&server, "WS_MAX_CONNECTIONS").await["value"], "77", "the rest holds");
    let all = server.as_admin().get(CONFIG).await.ok();
    assert_eq!(all["warnings"].as_array().unwrap().len(), 2, "{}", all["warnings"]);
    assert!(server.metrics().await.contains("\npushhub_settings_ignored 2\n"));
    // And is gotten rid of.
    server.as_admin().put(CONFIG, json!({"unset": ["OF_LATER", "RATE_LIMIT_USER"]})).await.ok();
    assert!(server.metrics().await.contains("\npushhub_settings_ignored 0\n"));
}

#[tokio::test]
async fn settings_are_for_admins_of_everything() {
    let server = TestServer::start().await;
    for (role, tenant) in [("viewer", None), ("operator", None), ("admin", Some("acme"))] {
        let name = format!("{role}-of");
        let one = server.sign_in(&name, role, tenant).await;
        let api = server.admin_port().bearer(&one.token);
        api.get(CONFIG).await.refused(403, "forbidden");
        api.get(VERSIONS).await.refused(403, "forbidden");
        let body = json!({"set": {"LOG_LEVEL": "off"}});
        api.put(CONFIG, body).await.refused(403, "forbidden");
        api.post(&format!("{VERSIONS}/0/restore"), json!({})).await.refused(403, "forbidden");
    }
    assert_eq!(server.as_admin().get(CONFIG).await.ok()["version"], 0);
}

/// A node without its bus looks once a second; much longer than that is a busy machine.
const SECONDS: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_on_every_node_also_where_the_bus_was_away() {
    let mut redis = Redis::start().await;
    let cluster = Cluster::at(Cluster::new().database, redis.url());
    let [a, b] = cluster.nodes().await;
    let on_both = async |burst: Option<u64>| {
        for node in [&a, &b] {
            eventually_within("the rate is in force", SECONDS, || async {
                (users_burst(node).await == burst).then_some(())
            })
            .await;
        }
    };
    set(&a, "RATE_LIMIT_USER", "5000/s:41").await;
    on_both(Some(41)).await;
    assert_eq!(users_burst(&a).await, Some(41));
    // One that comes later begins with it.
    let late = cluster.node("late").start().await;
    assert_eq!(users_burst(&late).await, Some(41));
    redis.kill();
    set(&b, "RATE_LIMIT_USER", "5000/s:42").await;
    on_both(Some(42)).await;
    // Retention is asked anew by each.
    set(&b, "RETENTION_MAX_MESSAGES", "1").await;
    let service = a.service().await;
    for _ in 0..3 {
        service.send_to("kim", "t").await.ok();
    }
    eventually("the other node forgets by it", || async {
        let path = "/api/v3/admin/maintenance/prune";
        a.as_admin().post(path, json!({"user_id": "kim"})).await.ok();
        a.as_user("kim").all_messages().await.len() == 1
    })
    .await;
    for node in [&a, &b] {
        assert!(node.metrics().await.contains("\npushhub_settings_version 3\n"));
    }
}
