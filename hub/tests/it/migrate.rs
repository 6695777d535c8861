//! From one node to a database: `pushhub migrate`.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    postgres,
    sessions::{Pair, log_in},
    support::{Api, Cluster, TestServer, admins, eventually},
};

/// The command, with this database.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushhub"));
    let elsewhere = std::env::temp_dir();
    command
        .arg("migrate")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", url)
        .current_dir(elsewhere)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, on a thread that may wait.
async fn run(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(url, arguments);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = done;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// What it refuses, in its one line.
async fn refusal(url: &str, arguments: &[&str], code: i32) -> String {
    let (found, out, said) = run(url, arguments).await;
    assert_eq!(found, Some(code), "{out}{said}");
    assert!(!said.contains("geheim"), "a password: {said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_once_whoever_runs_it() {
    let url = postgres::empty_database();
    let all = (0..3).map(|_| run(&url, &["--output", "json"]));
    for (code, out, said) in futures_util::future::join_all(all).await {
        assert_eq!(code, Some(0), "{said}");
        let line: Value = serde_json::from_str(&out).unwrap();
        assert!(line["store"]["to"].as_i64().unwrap() >= 1, "{line}");
        assert!(line["control"]["to"].as_i64().unwrap() >= 1, "{line}");
    }
    let (code, out, _) = run(&url, &[]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("store: version ") && out.contains("is current"), "{out}");
    let sql = "INSERT INTO schema_migrations (version, name, checksum, compatible_from)
        VALUES (900, 'x', '', 900)";
    postgres::ask(&url, sql);
    let said = refusal(&url, &[], 1).await;
    assert!(said.contains("the database is of version 900; this build knows up to"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_migrated_is_said_in_a_sentence() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("postgres://hub:geheim@127.0.0.1:{port}/hub?sslmode=disable");
    let said = refusal(&away, &[], 1).await;
    assert!(said.contains("error connecting to server"), "{said}");
    let said = refusal("", &[], 78).await;
    assert!(said.contains("DATABASE_URL"), "{said}");
    let (code, _, said) = run("mysql://hub:geheim@db", &[]).await;
    assert!(code != Some(0) && !said.contains("geheim"), "{said}");
    // The folder is looked at before the database is touched.
    let nothing = tempfile::tempdir().unwrap();
    let said = refusal(&away, &["--from", nothing.path().to_str().unwrap()], 1).await;
    assert!(said.contains("is no storage folder"), "{said}");
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}

/// Where nobody listens, so that events for it wait.
const WEBHOOK: &str = "http://127.0.0.1:9/";

/// A folder of a node that was used and ended, and what is in it: users, messages; and the service that did.
async fn used(folder: &Path, users: usize, each: usize) -> ((usize, usize), Api) {
    let server = TestServer::plain_builder().storage(folder);
    let mut server = server.env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8").start().await;
    let service = server.service().await;
    service.post("/api/v3/webhooks", json!({"url": WEBHOOK, "events": ["*"]})).await.ok();
    for user in 0..users {
        for n in 0..each {
            service.sent(&format!("u{user}"), &format!("m{n}")).await;
        }
    }
    let mut phone = server.socket("u0").device("phone").since(0).connect().await;
    phone.until_seq(each as u64).await;
    phone.ack(each as u64).await;
    phone.ping().await;
    drop(phone);
    assert!(server.terminate().await.success());
    ((users, users * each), service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_folder_moves_once_it_is_stopped_and_is_not_served_any_more() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("storage");
    let ((users, messages), service) = used(&folder, 3, 4).await;
    let from = folder.to_str().unwrap();
    let url = postgres::empty_database();
    let mut server = TestServer::plain_builder().storage(&folder).start().await;
    let (kept, ended) = (log_in(&server, "u1", "a").await, log_in(&server, "u1", "b").await);
    let logout = "/api/v3/auth/logout";
    server.api().bearer(&ended.access).post(logout, Value::Null).await.ok();
    server.as_user("u1").put("/api/v3/auth/profile", json!({"name": "王"})).await.ok();
    let said = refusal(&url, &["--from", from], 1).await;
    assert!(said.contains("in use by another process"), "{said}");
    assert!(server.ready().await, "a refused move disturbs no node");
    let admin = server.sign_in("mei", "viewer", None).await;
    assert!(server.terminate().await.success());
    let (code, out, said) = run(&url, &["--from", from, "--output", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("moving inboxes") && said.contains("comparing inboxes"), "{said}");
    let line: Value = serde_json::from_str(&out).unwrap();
    let counts = &line["moved"]["counts"];
    assert_eq!(
        (&counts["users"], &counts["messages"]),
        (&users.into(), &messages.into()),
        "{line}"
    );
    assert_eq!((&counts["devices"], &line["moved"]["resumed"]), (&1.into(), &false.into()));
    assert!(counts["services"].as_u64().unwrap() >= 1, "{line}");
    assert_eq!(counts["webhooks"], 1, "{line}");
    assert_eq!((&counts["sessions"], &counts["profiles"]), (&json!(1), &json!(1)), "{line}");
    // Nodes go on there, with what waited for the webhook.
    let node = Cluster::on(url.clone()).node("a").start().await;
    let service = service.moved_to(node.user);
    let hooks = service.get("/api/v3/webhooks").await.ok();
    assert_eq!(hooks["webhooks"][0]["url"], WEBHOOK);
    assert_eq!(hooks["webhooks"][0]["pending"], counts["deliveries"]);
    assert!(counts["deliveries"].as_u64().unwrap() > 0, "{line}");
    let mut phone = node.socket("u0").device("phone").connect().await;
    // Whoever was logged in is, with the refresh token they have; whoever was not, is not.
    let body = json!({"refresh_token": kept.refresh});
    let next = Pair::of(&node.api().post("/api/v3/auth/refresh", body).await.ok());
    let profile = node.api().bearer(&next.access).get("/api/v3/auth/profile").await.ok();
    assert_eq!(profile["name"], "王");
    let out = node.api().bearer(&ended.access).get("/api/v3/messages").await;
    out.refused(401, "unauthorized");
    service.sent("u0", "one more").await;
    assert_eq!(phone.next_message().await.fields.content, "one more");
    assert_eq!(phone.last_seq, Some(5));
    // Admins have their passwords and authenticators.
    assert_eq!(counts["admins"], 1, "{line}");
    let challenge = admins::begin(&node.admin_port(), "mei", admins::PASSWORD).await.ok();
    assert_eq!(challenge["enrolment"], Value::Null);
    let code = admins::code(&admin.secret, 1);
    admins::end(&node.admin_port(), &challenge, &code).await.ok();
    // What admins did is one chain with what they do now.
    let audit = node.as_admin().get("/api/v3/admin/audit/verify").await.ok();
    let entries = counts["audit"].as_u64().unwrap() + 1;
    assert!(entries > 2, "{line}");
    assert_eq!((&audit["verdict"], &audit["entries"]), (&json!("whole"), &json!(entries)));
    drop(node);
    // Neither a server nor the command line goes on with what nobody would see.
    let started = TestServer::plain_builder().storage(&folder).try_start().await;
    assert!(started.is_err());
    let (status, said) = TestServer::plain_builder()
        .storage(&folder)
        .run(&["service", "create", "--name", "x"])
        .await;
    assert!(!status.success() && said.contains("was moved into the database"), "{said}");
    let (code, out, _) = run(&url, &["--from", from]).await;
    assert!(code == Some(0) && out.contains("nothing was changed"), "{out}");
    // And the way back.
    std::fs::remove_file(folder.join(".hub/moved.json")).unwrap();
    let server = TestServer::plain_builder().storage(&folder).start().await;
    let listed = server.as_user("u1").get("/api/v3/messages").await.ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(4), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_goes_on_when_it_is_run_again() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("storage");
    let ((users, messages), _) = used(&folder, 40, 3).await;
    let url = postgres::database();
    let from = folder.to_str().unwrap().to_owned();
    let mut kills = 0;
    let line = loop {
        let mut child = command(&url, &["--from", &from, "--output", "json"]).spawn().unwrap();
        // Later each time, until it is done before.
        let began = std::time::Instant::now();
        let mut ended = false;
        eventually("it is killed or done", || {
            ended = child.try_wait().unwrap().is_some();
            let over = began.elapsed() > Duration::from_millis(40) * (kills + 1);
            let done = ended || over;
            async move { done }
        })
        .await;
        if !ended {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        break serde_json::from_slice::<Value>(&stdout).unwrap();
    };
    assert!(kills > 0);
    let counts = &line["moved"]["counts"];
    // The last one may have been killed between its end and its word.
    if line["moved"]["before"].is_null() {
        assert_eq!(
            (&counts["users"], &counts["messages"]),
            (&users.into(), &messages.into()),
            "{line}"
        );
    }
    postgres::ask(
        &url,
        &format!("DO $$ BEGIN ASSERT (SELECT count(*) FROM messages) = {messages}; END $$"),
    );
}
