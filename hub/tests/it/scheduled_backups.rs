//! Backups of everybody: made by a schedule or because an admin asks, kept for a while, and brought back.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    postgres,
    support::{
        Api, Cluster, SOON, TestServer, Token, api::message_to, bucket::FakeBucket, disk::Mount,
        download::files_have_followed, eventually, eventually_within,
    },
};

const RUNS: &str = "/api/v3/admin/backups";
const KEY: &str = "correct horse battery staple";

/// A server that makes backups below a folder that outlives it.
fn builder(place: &Path, name: &str) -> crate::support::server::Builder {
    TestServer::plain_builder()
        .storage(&place.join(name))
        .env("DATABASE_BACKUP_PATH", place.join("backups").display())
}

/// Those that are kept, the latest first.
async fn kept(server: &TestServer) -> Vec<Value> {
    server.as_admin().get(RUNS).await.ok()["runs"].as_array().unwrap().clone()
}

/// Has one made, and waits until it is whole.
async fn made(server: &TestServer, body: Value) -> Value {
    let id = eventually_within("no other is under way", SOON, async || {
        let answer = server.as_admin().post(RUNS, body.clone()).await;
        (answer.status == 200).then(|| answer.ok()["id"].as_str().unwrap().to_owned())
    })
    .await;
    eventually_within("the backup is whole", SOON * 3, async || {
        kept(server).await.into_iter().find(|run| run["id"] == *id)
    })
    .await
}

/// Runs a command on a folder beside these backups: whether it went well, and all it said.
async fn run(place: &Path, folder: &str, arguments: &[&str]) -> (bool, String) {
    let (status, said) = builder(place, folder).run(arguments).await;
    (status.success(), said)
}

#[track_caller]
fn well((done, said): (bool, String)) -> String {
    assert!(done, "{said}");
    said
}

#[track_caller]
fn refused((done, said): (bool, String), words: &str) {
    assert!(!done && said.contains(words), "{said}");
}

fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

/// What a user's messages say, the oldest first, and whether the changes have no holes.
async fn contents(api: &Api) -> Vec<String> {
    let mut all = api.all_messages().await;
    all.sort_by_key(|message| message["seq"].as_u64());
    all.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_a_schedule_restores_to_a_consistent_prefix() {
    let place = tempfile::tempdir().unwrap();
    let mut server = builder(place.path(), "storage")
        .env("BACKUP_SCHEDULE", "1s")
        .env("BACKUP_FULL_EVERY", "4s")
        .start()
        .await;
    let service = server.service().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, ended) = (service.clone(), Arc::clone(&stop));
    let load = tokio::spawn(async move {
        let mut sent = 0_usize;
        while !ended.load(Ordering::Relaxed) {
            sender.send(message_to(&["ann", "ben"], &format!("m{sent}"))).await.ok();
            sent += 1;
        }
        sent
    });
    let runs = eventually_within("two full ones and what is put on them", SOON * 4, async || {
        let runs = kept(&server).await;
        let of = |kind: &str| runs.iter().filter(|run| run["type"] == *kind).count();
        (of("full") >= 2 && of("incremental") >= 3).then_some(runs)
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let sent = load.await.unwrap();
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_backup_runs_total{result=\"failed\"} 0"), "{metrics}");
    assert!(server.terminate().await.success());
    let mut lengths = vec![];
    // The first may have begun before the first message was in a file.
    for run_ in runs.iter().rev().filter(|run| run["inboxes"] == 2) {
        let name = id(run_);
        well(run(place.path(), name, &["restore", "--run", name, "--inboxes-only"]).await);
        let said = well(run(place.path(), name, &["verify"]).await);
        assert!(said.contains(" 0 of them wrong"), "{said}");
        let mut again = builder(place.path(), name).start().await;
        for user in ["ann", "ben"] {
            let got = contents(&again.as_user(user)).await;
            let expected: Vec<String> = (0..got.len()).map(|n| format!("m{n}")).collect();
            assert_eq!(got, expected, "{user} of {name}");
            if user == "ann" {
                lengths.push(got.len());
            }
        }
        assert!(again.terminate().await.success());
    }
    assert!(lengths.is_sorted() && lengths.last().unwrap() <= &sent, "{lengths:?} of {sent}");
    assert!(lengths.windows(2).any(|pair| pair[0] < pair[1]), "{lengths:?}");
    // By a time: the last one that was begun by then.
    let second = &runs[1];
    let by = second["started_at"].as_str().unwrap();
    let said = well(run(place.path(), "x", &["backups", by, "--output", "json"]).await);
    assert!(said.contains(id(second)) && said.contains("\"user_id\":\"ann\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_no_longer_goes_and_what_it_is_put_on_stays() {
    let place = tempfile::tempdir().unwrap();
    let server = builder(place.path(), "storage").env("BACKUP_KEEP_COUNT", "2").start().await;
    let service = server.service().await;
    let mut all = vec![];
    for (n, kind) in
        ["full", "incremental", "incremental", "full", "incremental"].into_iter().enumerate()
    {
        service.sent("ann", &format!("m{n}")).await;
        files_have_followed(&server).await;
        let run = made(&server, json!({"type": kind})).await;
        assert_eq!(run["type"], *kind);
        all.push(run);
        // Of the first chain nothing can go before both that are kept are of the second.
        eventually("what is kept no longer is removed", async || {
            let folders = fs::read_dir(place.path().join("backups/runs")).unwrap().count();
            folders == [1, 2, 3, 4, 2][n]
        })
        .await;
    }
    assert_eq!(all[4]["removed"], json!([id(&all[0]), id(&all[1]), id(&all[2])]));
    let said = well(run(place.path(), "x", &["backups"]).await);
    assert!(said.contains("3 older removed") && said.lines().count() == 2, "{said}");
    well(run(place.path(), "x", &["verify", "--run", "latest"]).await);
    // In one in which nothing changed there is nothing, and all can be brought back.
    let run_ = made(&server, json!({})).await;
    assert_eq!((&run_["written"], &run_["inboxes"]), (&json!(0), &json!(1)));
    let said = well(run(place.path(), "fresh", &["restore", "--run", "latest"]).await);
    assert!(said.contains("1 inboxes with 5 messages"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_kill_broke_off_is_removed_and_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let mut server = builder(place.path(), "storage").start().await;
    let service = server.service().await;
    let users: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    service.send(message_to(&users, "to all of you")).await.ok();
    files_have_followed(&server).await;
    let begun = server.as_admin().post(RUNS, json!({})).await.ok();
    let broken = id(&begun).to_owned();
    server.as_admin().post(RUNS, json!({})).await.refused(409, "conflict");
    eventually("some inboxes are in it", async || {
        let now = server.as_admin().get(RUNS).await.ok();
        now["under_way"]["looked_at"].as_u64().is_some_and(|count| count > 20)
    })
    .await;
    server.kill_9().await;
    let folder = place.path().join("backups/runs").join(&broken);
    assert!(folder.join("inboxes").is_dir() && !folder.join("run.json").exists());
    let left = place.path().join("backups/.restoring-0194691a2f40704180bd2a7b0f3c9d11.db");
    fs::write(&left, "of a restore that was killed").unwrap();
    server.spawn().await;
    assert!(!left.exists());
    assert!(kept(&server).await.is_empty());
    let run_ = made(&server, json!({})).await;
    assert_eq!((&run_["inboxes"], &run_["failed"]), (&json!(200), &json!(0)));
    assert!(!folder.exists() && id(&run_) != broken);
    let said = well(run(place.path(), "x", &["verify", "--run", "latest"]).await);
    assert!(said.contains("200 inboxes whole, 0 files wrong"), "{said}");
    assert!(!place.path().join("backups/.run").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_sends_go_on() {
    let place = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&place.path().join("backups"), 4 << 20);
    let server = builder(place.path(), "storage").env("BACKUP_SCHEDULE", "1s").start().await;
    let service = server.service().await;
    service.sent("ann", "before").await;
    eventually("there is one", async || !kept(&server).await.is_empty()).await;
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![7; usize::try_from(disk.free()).unwrap()]).unwrap();
    service.sent("ann", "while it is full").await;
    let log = server.logged("there is no room for the backup").await;
    assert!(log.contains("a backup of everybody could not be made"), "{log}");
    let state = server.as_admin().get(RUNS).await.ok();
    assert!(state["failure"]["error"].as_str().unwrap().contains("no room"), "{state}");
    let metrics = server.metrics().await;
    assert!(!metrics.contains("pushhub_backup_runs_total{result=\"failed\"} 0"), "{metrics}");
    assert!(server.ready().await);
    let before = kept(&server).await.len();
    fs::remove_file(&filler).unwrap();
    eventually_within("it goes on by itself", SOON * 3, async || {
        let now = server.as_admin().get(RUNS).await.ok();
        let more = now["runs"].as_array().unwrap().len() > before;
        (more && now["failure"].is_null()).then_some(())
    })
    .await;
    let said = well(run(place.path(), "x", &["backups", "latest"]).await);
    assert!(said.contains("default/ann: up to change 2"), "{said}");
}

/// Services, templates, channels, roles, profiles, webhooks and an inbox.
async fn lived(server: &TestServer) -> Api {
    let service = server.service().await;
    let admin = server.as_admin();
    let template = json!({"id": "greeting", "name": "Greeting", "category": "business",
        "title": "Hello", "content": "Hello {{name}}", "message_type": "text",
        "variables": [{"name": "name", "type": "string", "required": true}]});
    service.post("/api/v3/messages/templates", template).await.ok();
    let channel = json!({"id": "crew", "name": "Crew"});
    admin.post("/api/v3/admin/channels", channel).await.ok();
    let members = json!({"join": ["ann", "ben"]});
    admin.post("/api/v3/admin/channels/crew/members", members).await.ok();
    let roles = json!({"roles": ["on_call"]});
    admin.put("/api/v3/admin/users/ann/roles", roles).await.ok();
    service.sent("ann", "a letter").await;
    service.sent("ben", "another").await;
    files_have_followed(server).await;
    service
}

/// That all of [`lived`] is there.
async fn lives_on(server: &TestServer, service: &Api) {
    let service = service.moved_to(server.user);
    let sent = json!({"template_id": "greeting", "variables": {"name": "Ann"},
        "recipients": ["crew"], "recipient_type": "channel"});
    assert_eq!(service.post("/api/v3/messages/send-template", sent).await.ok()["recipients"], 2);
    let to_role = json!({"title": "t", "content": "to a role", "message_type": "text",
        "recipients": ["on_call"], "recipient_type": "role"});
    assert_eq!(service.send(to_role).await.ok()["recipients"], 1);
    let expected = ["a letter", "Hello Ann", "to a role"];
    assert_eq!(contents(&server.as_user("ann")).await, expected);
    assert_eq!(contents(&server.as_user("ben")).await, ["another", "Hello Ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_data_comes_back_with_the_inboxes_and_only_with_the_key() {
    let place = tempfile::tempdir().unwrap();
    let server = builder(place.path(), "storage").env("BACKUP_ENCRYPTION_KEY", KEY).start().await;
    let service = lived(&server).await;
    let run_ = made(&server, json!({})).await;
    assert_eq!((&run_["encrypted"], &run_["inboxes"]), (&json!(true), &json!(2)));
    let files = place.path().join("backups/runs").join(id(&run_)).join("inboxes");
    let name = fs::read_dir(files).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read(name).unwrap().starts_with(b"age-encryption.org/v1"));

    refused(
        run(place.path(), "fresh", &["restore", "--run", "latest"]).await,
        "BACKUP_ENCRYPTION_KEY",
    );
    let keyed = async |folder: &str, arguments: &[&str]| {
        let builder = builder(place.path(), folder).env("BACKUP_ENCRYPTION_KEY", KEY);
        let (status, said) = builder.run(arguments).await;
        (status.success(), said)
    };
    let said = well(keyed("fresh", &["restore", "--run", "latest"]).await);
    assert!(said.contains("control data") && said.contains("1 channels"), "{said}");
    let mut again = builder(place.path(), "fresh").start().await;
    lives_on(&again, &service).await;
    assert!(again.terminate().await.success());
    // What is there is not replaced unless that is said.
    refused(keyed("fresh", &["restore", "--run", "latest"]).await, "--replace");
    well(keyed("fresh", &["restore", "--run", "latest", "--replace"]).await);
    let again = builder(place.path(), "fresh").start().await;
    lives_on(&again, &service).await;
    refused(keyed("storage", &["restore", "--run", "latest", "--replace"]).await, "in use");
    refused(
        keyed("x", &["restore", "--run", "20200101T000000000Z-00000000"]).await,
        "there is no run",
    );

    // A database takes the same, once.
    let database = postgres::database();
    let into_database = async || {
        let builder = builder(place.path(), "none")
            .env("BACKUP_ENCRYPTION_KEY", KEY)
            .env("DATABASE_URL", &database);
        let (status, said) = builder.run(&["restore", "--run", "latest"]).await;
        (status.success(), said)
    };
    well(into_database().await);
    refused(into_database().await, "restore it into an empty one");
    let node = Cluster::on(database.clone()).node("a").start().await;
    lives_on(&node, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_with_another_past_is_backed_up_from_its_beginning() {
    let place = tempfile::tempdir().unwrap();
    let mut server = builder(place.path(), "storage").start().await;
    let service = server.service().await;
    for n in 0..3 {
        service.sent("ann", &format!("m{n}")).await;
    }
    files_have_followed(&server).await;
    let first = made(&server, json!({})).await;
    service.sent("ann", "of a past that is taken back").await;
    files_have_followed(&server).await;
    made(&server, json!({})).await;
    assert!(server.terminate().await.success());
    let back = ["restore", "--run", id(&first), "--user", "ann", "--replace"];
    well(run(place.path(), "storage", &back).await);
    server.spawn().await;
    // As many changes as before, and more.
    for n in 3..6 {
        service.moved_to(server.user).sent("ann", &format!("m{n}")).await;
    }
    files_have_followed(&server).await;
    let run_ = made(&server, json!({})).await;
    assert_eq!((&run_["type"], &run_["written"]), (&json!("incremental"), &json!(1)));
    assert!(server.terminate().await.success());
    well(run(place.path(), "fresh", &["restore", "--run", "latest"]).await);
    let again = builder(place.path(), "fresh").start().await;
    let expected: Vec<String> = (0..6).map(|n| format!("m{n}")).collect();
    assert_eq!(contents(&again.as_user("ann")).await, expected);
}

/// What hardly compresses.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = 88_172_645_463_325_252_u64 ^ seed;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state >> 40) as u8 % 90)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_has_what_a_folder_would() {
    let place = tempfile::tempdir().unwrap();
    let bucket = FakeBucket::start().await;
    let server = builder(place.path(), "storage")
        .envs(bucket.env())
        .env("BACKUP_KEEP_COUNT", "1")
        .start()
        .await;
    let service = lived(&server).await;
    for n in 0..70 {
        let message = json!({"title": "t", "content": noise(200_000, n), "message_type": "text",
            "recipients": ["large"], "recipient_type": "user"});
        service.send(message).await.ok();
    }
    files_have_followed(&server).await;
    let first = made(&server, json!({})).await;
    // One inbox is larger than a part.
    assert_eq!((bucket.refused(), bucket.uploads()), (0, 1));
    let names = bucket.names();
    assert!(
        names.iter().all(|name| name.starts_with(&format!("hub/eu/{}/", id(&first)))),
        "{names:?}"
    );
    assert!(!place.path().join("backups/runs").exists());
    service.sent("ann", "more").await;
    files_have_followed(&server).await;
    let second = made(&server, json!({})).await;
    assert_eq!((&second["type"], &second["written"]), (&json!("incremental"), &json!(1)));

    // A bucket that is away is said; sends go on, and so does the next run.
    bucket.set_down(true);
    server.as_admin().get(RUNS).await.refused(503, "unavailable");
    service.sent("ben", "while it was away").await;
    files_have_followed(&server).await;
    bucket.set_down(false);
    let third = made(&server, json!({"type": "full"})).await;
    assert_eq!(third["removed"].as_array().unwrap().len(), 2);
    eventually("the others are removed", async || {
        bucket.names().iter().all(|name| name.contains(id(&third)))
    })
    .await;
    let names = bucket.names();

    let command = async |folder: &str, arguments: &[&str]| {
        let (status, said) = builder(place.path(), folder).envs(bucket.env()).run(arguments).await;
        (status.success(), said)
    };
    well(command("x", &["verify", "--run", "latest"]).await);
    let said = well(command("fresh", &["restore", "--run", "latest"]).await);
    assert!(said.contains("3 inboxes with 74 messages"), "{said}");
    let again = builder(place.path(), "fresh").start().await;
    assert_eq!(contents(&again.as_user("ben")).await, ["another", "while it was away"]);
    assert_eq!(contents(&again.as_user("large")).await[69], noise(200_000, 69));
    let harmed = names.iter().find(|name| name.contains("inboxes/")).unwrap();
    bucket.harm(harmed);
    refused(command("x", &["verify", "--run", "latest"]).await, "its SHA-256 is another");
    // Who may not is told.
    let wrong = builder(place.path(), "x").envs(bucket.env()).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let (status, said) = wrong.run(&["backups"]).await;
    refused((status.success(), said), "SignatureDoesNotMatch");
    let half = builder(place.path(), "x").envs(bucket.env()).without("AWS_SECRET_ACCESS_KEY");
    let (status, said) = half.run(&["backups"]).await;
    refused((status.success(), said), "AWS_SECRET_ACCESS_KEY");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_nodes_that_share_a_database_one_makes_it() {
    let place = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    let start = |name: &str| {
        cluster
            .node(name)
            .env("DATABASE_BACKUP_PATH", place.path().join("backups").display())
            .env("BACKUP_SCHEDULE", "1s")
            .start()
    };
    let (a, mut b) = (start("a").await, start("b").await);
    let service = a.service().await;
    service.sent("ann", "m0").await;
    let runs = eventually_within("some are made", SOON * 3, async || {
        service.sent("ann", "m").await;
        let runs = kept(&a).await;
        (runs.len() >= 5).then_some(runs)
    })
    .await;
    // None began before the one before it was whole, and a second later at the earliest.
    for pair in runs.windows(2) {
        let at = |value: &Value| protocol::Time::parse(value.as_str().unwrap()).unwrap();
        assert!(at(&pair[0]["started_at"]) >= at(&pair[1]["finished_at"]), "{pair:?}");
        assert_eq!(pair[0]["previous"], pair[1]["id"]);
    }
    let counted = |metrics: &str, result: &str| -> f64 {
        let series = format!("pushhub_backup_runs_total{{result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    };
    let (of_a, of_b) = (a.metrics().await, b.metrics().await);
    // One may have become whole, and not be counted yet.
    assert!(counted(&of_a, "done") + counted(&of_b, "done") >= runs.len() as f64 - 1.0);
    assert_eq!(counted(&of_a, "failed") + counted(&of_b, "failed"), 0.0);
    // The other one goes on alone.
    b.kill_9().await;
    let before = kept(&a).await.len();
    eventually_within("a makes more", SOON * 2, async || {
        (kept(&a).await.len() > before + 1).then_some(())
    })
    .await;
    let latest = kept(&a).await.remove(0);
    let said = well(run(place.path(), "fresh", &["restore", "--run", id(&latest)]).await);
    assert!(said.contains("1 inboxes"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_ask_for_one_and_everybody_else_may_not() {
    let server = TestServer::start().await;
    let jobs = format!("{RUNS}/jobs");
    let user = server.admin_port().bearer(&Token::of("ann").sign());
    for (method, path) in [(Method::GET, RUNS), (Method::POST, RUNS), (Method::GET, &*jobs)] {
        let body = (method == Method::POST).then(|| json!({}));
        let nobody = server.admin_port();
        nobody.call(method.clone(), path, body.clone()).await.refused(401, "unauthorized");
        user.call(method, path, body).await.refused(403, "forbidden");
    }
    let viewer = server.sign_in("vera", "viewer", None).await;
    let viewer = server.admin_port().bearer(&viewer.token);
    viewer.get(RUNS).await.ok();
    viewer.post(RUNS, json!({})).await.refused(403, "forbidden");
    let of_tenant = server.sign_in("mei", "admin", Some("acme")).await;
    let of_tenant = server.admin_port().bearer(&of_tenant.token);
    of_tenant.get(RUNS).await.refused(403, "forbidden");
    of_tenant.post(RUNS, json!({})).await.refused(403, "forbidden");
    server.service().await.sent("ann", "a letter").await;
    server.as_user("ann").post("/api/v3/backup/jobs", json!({})).await.ok();
    assert_eq!(of_tenant.get(&jobs).await.ok()["jobs"], json!([]));
    let all = viewer.get(&jobs).await.ok();
    assert_eq!(all["jobs"][0]["user_id"], "ann");
    assert!(all["jobs"][0].get("download_url").is_none());
    let operator = server.sign_in("olga", "operator", None).await;
    let operator = server.admin_port().bearer(&operator.token);
    let begun = operator.post(RUNS, json!({"type": "full"})).await.ok();
    let entry = eventually_within("it is in the audit log", Duration::from_secs(5), async || {
        let log = server.as_admin().get("/api/v3/admin/audit").await.ok();
        let entries = log["entries"].as_array().unwrap().clone();
        entries.into_iter().find(|entry| entry["target"] == "backups" && entry["status"] == 200)
    })
    .await;
    assert!(entry.to_string().contains(id(&begun)), "{entry}");
}
