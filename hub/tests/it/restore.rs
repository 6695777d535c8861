//! `pushhub backup`, `restore` and `verify`.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    postgres,
    support::{Cluster, TestServer},
};

const KEY: &str = "correct horse battery staple";

/// Runs a command on a folder: whether it went well, and all it said.
async fn run(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let run = TestServer::plain_builder().storage(folder).env("BACKUP_ENCRYPTION_KEY", KEY);
    let (status, said) = run.run(arguments).await;
    (status.success(), said)
}

/// What went well.
#[track_caller]
fn well((done, said): (bool, String)) -> String {
    assert!(done, "{said}");
    said
}

#[track_caller]
fn refused((done, said): (bool, String), words: &str) {
    assert!(!done && said.contains(words), "{said}");
}

async fn download(server: &TestServer, user: &str, query: &str, path: &Path) -> u64 {
    let address = format!("http://{}/api/v3/backup/database?{query}", server.user);
    let request = reqwest::Client::new().get(address);
    let credentials = server.as_user(user).credentials().to_owned();
    let answer = request.header("authorization", credentials).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let head = answer.headers()["x-backup-head"].to_str().unwrap().parse().unwrap();
    fs::write(path, answer.bytes().await.unwrap()).unwrap();
    head
}

/// All that a user sees of an inbox.
async fn seen(server: &TestServer, user: &str) -> (Vec<Value>, String, u64) {
    let ann = server.as_user(user);
    let changes = format!("{:?}", ann.changes_after(0).await);
    (ann.all_messages().await, changes, ann.unread().await)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A node with an inbox that has lived, its full backup, and an incremental one of what came after.
async fn lived(place: &Path) -> (TestServer, PathBuf, PathBuf) {
    let folder = place.join("storage");
    let server = TestServer::plain_builder()
        .storage(&folder)
        .env("BACKUP_ENCRYPTION_KEY", KEY)
        .start()
        .await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut ids = vec![];
    for n in 0..30 {
        ids.push(service.sent("ann", &format!("m{n}")).await);
    }
    service.sent("eve", "of eve").await;
    let mut phone = server.socket("ann").device("phone").since(0).connect().await;
    phone.until_seq(30).await;
    phone.ack(30).await;
    phone.ping().await;
    drop(phone);
    let mark = async |n: usize, how: &str| {
        ann.post(&format!("/api/v3/messages/{}/{how}", ids[n]), json!({})).await.ok();
    };
    mark(0, "read").await;
    mark(1, "archive").await;
    mark(2, "read").await;
    let full = place.join("full.db.gz.age");
    let head = download(&server, "ann", "encrypt=true", &full).await;
    assert_eq!(head, 33);
    mark(2, "unread").await;
    mark(3, "read").await;
    let edit = json!({"title": "edited"});
    service.put(&format!("/api/v3/messages/{}", ids[4]), edit).await.ok();
    service.post(&format!("/api/v3/messages/{}/recall", ids[5]), json!({})).await.ok();
    service.sent("ann", "the last").await;
    let later = place.join("later.db");
    let query = format!("type=incremental&since={head}&compress=false");
    assert_eq!(download(&server, "ann", &query, &later).await, 38);
    (server, full, later)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_comes_back_as_it_was_and_lives_on() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, full, later) = lived(place.path()).await;
    let before = seen(&server, "ann").await;
    assert!(server.terminate().await.success());

    let fresh = place.path().join("fresh");
    let said = well(run(&fresh, &["restore", text(&later), text(&full)]).await);
    assert!(said.contains("ann: 31 messages, as of change 38"), "{said}");
    let mut again = TestServer::plain_builder().storage(&fresh).start().await;
    assert_eq!(seen(&again, "ann").await, before);
    // The device goes on where it was, and what comes has the next place.
    let mut phone = again.socket("ann").device("phone").connect().await;
    phone.until_seq(38).await;
    again.service().await.sent("ann", "after").await;
    phone.until_seq(39).await;
    drop(phone);
    assert!(seen(&again, "eve").await.0.is_empty());
    refused(run(&fresh, &["restore", text(&full)]).await, "is in use");
    let said = well(run(&fresh, &["verify"]).await);
    assert!(said.contains(" 0 of them wrong"), "{said}");
    assert!(again.terminate().await.success());

    // What is there is not replaced unless that is said; then the inbox is as of the full one.
    refused(run(&fresh, &["restore", text(&full)]).await, "--replace");
    well(run(&fresh, &["restore", text(&full), "--replace"]).await);
    let again = TestServer::plain_builder().storage(&fresh).start().await;
    let (messages, _, _) = seen(&again, "ann").await;
    assert_eq!(messages.len(), 30);
    assert_eq!(again.as_user("ann").changes_after(0).await.len(), 33);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_brought_back_is_said() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, full, later) = lived(place.path()).await;
    let path = |name: &str| place.path().join(name);
    let folder = path("storage");
    // Against a folder that is served: what is in its files.
    let out = path("served.db");
    let backup = ["backup", "--user", "ann", "--out", text(&out)];
    well(run(&folder, &backup).await);
    refused(run(&folder, &backup).await, "exists");
    assert!(server.terminate().await.success());
    // And of one that is at rest: everything.
    let out = path("rest.db.gz.age");
    let all = ["backup", "--user", "ann", "--compress", "--encrypt", "--out", text(&out)];
    let said = well(run(&folder, &all).await);
    assert!(said.contains("full backup of ann up to change 38"), "{said}");
    let said = well(run(&folder, &["verify", text(&out), text(&later), text(&full)]).await);
    assert_eq!(said.matches(": whole; ").count(), 3, "{said}");

    let fresh = path("fresh");
    refused(run(&fresh, &["restore", text(&later)]).await, "no full one");
    refused(run(&fresh, &["restore", text(&full), "--user", "eve"]).await, "no backup of user eve");
    let gap = path("gap.db");
    let since = ["backup", "--user", "ann", "--type", "incremental", "--since", "35"];
    well(run(&folder, &[&since[..], &["--out", text(&gap)]].concat()).await);
    refused(run(&fresh, &["restore", text(&full), text(&gap)]).await, "one is missing");
    // A wrong key, a cut, a bit, something else.
    let wrong = TestServer::plain_builder()
        .storage(&fresh)
        .env("BACKUP_ENCRYPTION_KEY", "another passphrase");
    let (status, said) = wrong.run(&["restore", text(&full)]).await;
    refused((status.success(), said), "another key");
    let bytes = fs::read(&later).unwrap();
    let harmed = path("harmed.db");
    fs::write(&harmed, &bytes[..bytes.len() / 2]).unwrap();
    refused(run(&fresh, &["verify", text(&harmed)]).await, "cut off");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    fs::write(&harmed, &flipped).unwrap();
    refused(run(&fresh, &["restore", text(&full), text(&harmed)]).await, "damaged");
    fs::write(&harmed, "nothing").unwrap();
    refused(run(&fresh, &["restore", text(&harmed)]).await, "no backup of pushhub");
    assert!(!fresh.join("ann").exists());
    // Nothing was left where backups are unpacked: each run had a folder of its own for that.

    // Only messages: as if they had just come.
    let out = path("messages.db");
    let messages = ["backup", "--user", "ann", "--type", "messages", "--out", text(&out)];
    well(run(&folder, &messages).await);
    well(run(&fresh, &["restore", text(&out)]).await);
    let again = TestServer::plain_builder().storage(&fresh).start().await;
    let (messages, _, unread) = seen(&again, "ann").await;
    assert_eq!((messages.len(), unread), (30, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_inbox_is_found_put_aside_and_brought_back() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, full, later) = lived(place.path()).await;
    let before = seen(&server, "ann").await;
    assert!(server.terminate().await.success());
    let folder = place.path().join("storage");
    // All of it in the file itself, and then a page of that overwritten.
    let file = folder.join("ann/messages.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    let length = fs::metadata(&file).unwrap().len();
    let bytes = fs::File::options().write(true).open(&file).unwrap();
    for page in 1..length / 4_096 {
        bytes.write_all_at(&[0xa5; 512], page * 4_096).unwrap();
    }
    refused(run(&folder, &["verify"]).await, "ann/messages.db: ");
    // The rest is served.
    let mut server = TestServer::plain_builder().storage(&folder).start().await;
    assert_eq!(seen(&server, "eve").await.0.len(), 1);
    assert!(server.terminate().await.success());
    well(run(&folder, &["restore", "--replace", text(&full), text(&later)]).await);
    well(run(&folder, &["verify"]).await);
    let server = TestServer::plain_builder().storage(&folder).start().await;
    assert_eq!(seen(&server, "ann").await, before);
    assert_eq!(fs::read_dir(folder.join(".hub/quarantine")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_goes_from_a_folder_into_a_database_and_back() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, full, later) = lived(place.path()).await;
    let before = seen(&server, "ann").await;
    assert!(server.terminate().await.success());
    let cluster = Cluster::on(postgres::database());
    let into = |arguments: &'static [&'static str]| {
        let run = TestServer::plain_builder()
            .env("DATABASE_URL", &cluster.database)
            .env("BACKUP_ENCRYPTION_KEY", KEY);
        let all: Vec<String> = arguments
            .iter()
            .map(|&one| one.to_owned())
            .chain([&full, &later].map(|path| text(path).to_owned()))
            .collect();
        async move {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let (status, said) = run.run(&all).await;
            (status.success(), said)
        }
    };
    well(into(&["restore"]).await);
    refused(into(&["restore"]).await, "--replace");
    well(into(&["restore", "--replace"]).await);
    let mut node = cluster.node("a").start().await;
    assert_eq!(seen(&node, "ann").await, before);
    refused(into(&["restore", "--replace"]).await, "nodes work on this database");
    let mut phone = node.socket("ann").device("phone").connect().await;
    phone.until_seq(38).await;
    drop(phone);
    // And back: the same file from the other store.
    let back = place.path().join("back.db");
    download(&node, "ann", "compress=false", &back).await;
    assert!(node.terminate().await.success());
    let fresh = place.path().join("fresh");
    well(run(&fresh, &["restore", text(&back)]).await);
    let again = TestServer::plain_builder().storage(&fresh).start().await;
    assert_eq!(seen(&again, "ann").await, before);
}
