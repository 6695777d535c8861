//! Backups by the front door: as the product spec writes them, and opened with the tools of others.

use std::{fs, path::Path, process::Command};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{
    Api, TestServer,
    download::{Raw, begin, fetch, files_have_followed},
    eventually,
};

const DATABASE: &str = "/api/v3/backup/database";
const MESSAGES: &str = "/api/v3/backup/messages";

async fn get(address: std::net::SocketAddr, api: &Api, path: &str, key: Option<&str>) -> Raw {
    let mut headers = vec![("authorization", api.credentials())];
    headers.extend(key.map(|key| ("x-backup-key", key)));
    fetch(address, Method::GET, path, &headers, usize::MAX).await
}

/// Runs a line of a shell in a folder, and gives what it printed.
fn shell(folder: &Path, line: &str) -> String {
    let done = Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {said}");
    String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_what_the_spec_says_and_what_others_open() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "first").await;
    service.sent("ann", "第二").await;
    service.sent("eve", "of eve only").await;
    let ann = server.as_user("ann");
    ann.post(&format!("/api/v3/messages/{id}/read"), json!({})).await.ok();

    // The spec's own call, all left to what it says.
    let backup = get(server.user, &ann, DATABASE, None).await;
    assert_eq!(backup.status, 200, "{}", String::from_utf8_lossy(&backup.bytes));
    assert_eq!(backup.header("content-type"), "application/octet-stream");
    assert_eq!(backup.header("content-disposition"), "attachment; filename=backup_ann.db");
    assert_eq!(backup.header("content-encoding"), "gzip");
    assert_eq!(backup.header("x-backup-head"), "3");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.db.gz"), &backup.bytes).unwrap();
    shell(folder.path(), "gzip -d b.db.gz");
    let sql = |line: &str| shell(folder.path(), &format!("sqlite3 b.db \"{line}\""));
    assert_eq!(sql("PRAGMA integrity_check"), "ok");
    assert_eq!(sql("SELECT title, status FROM messages ORDER BY seq"), "first|read\n第二|unread");
    assert_eq!(sql("SELECT count(*) FROM read_status WHERE is_read"), "1");
    let whole = fs::read(folder.path().join("b.db")).unwrap();
    assert!(!String::from_utf8_lossy(&whole).contains("of eve only"));

    // Only messages, plain: as long as it says it is.
    let path = format!("{MESSAGES}?compress=false");
    let backup = get(server.user, &ann, &path, None).await;
    assert_eq!(backup.header("content-length"), backup.bytes.len().to_string());
    fs::write(folder.path().join("b.db"), &backup.bytes).unwrap();
    assert_eq!(sql("PRAGMA integrity_check; SELECT type FROM backup"), "ok\nmessages");
    assert_eq!(sql("SELECT count(*) FROM message"), "2");
    assert_eq!(
        sql("SELECT (SELECT count(*) FROM changes) + (SELECT sum(status) FROM message)"),
        "0"
    );

    // What changed since a position, and since a moment.
    let path = format!("{DATABASE}?type=incremental&since=2&compress=false");
    fs::write(folder.path().join("b.db"), get(server.user, &ann, &path, None).await.bytes).unwrap();
    assert_eq!(sql("SELECT title FROM messages; SELECT since, head FROM backup"), "first\n2|3");
    let path = format!("{DATABASE}?type=incremental&since=2020-01-01T00:00:00Z&compress=false");
    fs::write(folder.path().join("b.db"), get(server.user, &ann, &path, None).await.bytes).unwrap();
    assert_eq!(sql("SELECT count(*) FROM message"), "2");

    // Encrypted for a key of the stock tool; compressed before that.
    shell(folder.path(), "age-keygen -o key.txt");
    let recipient = shell(folder.path(), "age-keygen -y key.txt");
    let path = format!("{DATABASE}?encrypt=true");
    let backup = get(server.user, &ann, &path, Some(&recipient)).await;
    let disposition = backup.header("content-disposition");
    assert_eq!(disposition, "attachment; filename=backup_ann.db.gz.age");
    assert_eq!(backup.header("content-encoding"), "");
    fs::write(folder.path().join("b.age"), &backup.bytes).unwrap();
    shell(folder.path(), "age -d -i key.txt b.age | gzip -d > b.db");
    assert_eq!(sql("PRAGMA integrity_check; SELECT count(*) FROM message"), "ok\n2");

    // An inbox with nothing in it, of a name that is no file name.
    let odd = server.as_user("../张 三");
    let backup = get(server.user, &odd, &format!("{DATABASE}?compress=false"), None).await;
    let disposition = backup.header("content-disposition");
    assert!(
        disposition.ends_with("filename*=UTF-8''backup_..%2F%E5%BC%A0%20%E4%B8%89.db"),
        "{disposition}"
    );
    fs::write(folder.path().join("b.db"), &backup.bytes).unwrap();
    assert_eq!(sql("PRAGMA integrity_check; SELECT messages, head FROM backup"), "ok\n0|0");

    // Whose it is not.
    service.get(DATABASE).await.refused(403, "forbidden");
    server.api().get(DATABASE).await.refused(401, "unauthorized");
    let of_ann = "/api/v3/admin/users/ann/backup/database?compress=false";
    let by_admin = get(server.admin, &server.as_admin(), of_ann, None).await;
    fs::write(folder.path().join("b.db"), &by_admin.bytes).unwrap();
    assert_eq!(sql("SELECT user FROM backup"), "ann");
    let nobody = "/api/v3/admin/users/nobody/backup/messages";
    server.as_admin().get(nobody).await.refused(404, "not_found");
    let other = "/api/v3/admin/users/ann/backup/database?tenant_id=t2";
    server.as_admin().get(other).await.refused(404, "not_found");
    // A key that is not in the log, nor anything that was in it.
    assert!(!server.log().contains(&recipient) && !server.log().contains("第二"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let server = TestServer::builder().env("BACKUP_SIZE_MAX", "64KiB").start().await;
    let ann = server.as_user("ann");
    let fields = |query: &str| {
        let path = format!("{DATABASE}?{query}");
        let ann = ann.clone();
        async move {
            let answer = ann.get(&path).await;
            answer.refused(422, "invalid");
            answer.body["error"]["fields"][0]["path"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(fields("type=all").await, "type");
    assert_eq!(fields("type=incremental").await, "since");
    assert_eq!(fields("type=incremental&since=yesterday").await, "since");
    assert_eq!(fields("since=5").await, "since");
    assert_eq!(fields("encrypt=true").await, "encrypt");
    assert_eq!(fields("compress=1").await, "compress");
    let with_key = ann.clone().header("x-backup-key", "age1nothing");
    with_key.get(&format!("{DATABASE}?encrypt=true")).await.refused(422, "invalid");
    with_key.get(DATABASE).await.refused(422, "invalid");
    let ahead = format!("{DATABASE}?type=incremental&since=5");
    let answer = ann.get(&ahead).await;
    answer.refused_with_data(410, "resync_required");
    let large = json!({"title": "t", "content": "x".repeat(60_000), "message_type": "text",
        "recipients": ["ann"], "recipient_type": "user"});
    let service = server.service().await;
    service.send(large).await.ok();
    ann.get(DATABASE).await.refused(507, "insufficient_storage");
    assert!(server.metrics().await.contains("pushhub_backups_total{result=\"no_room\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_streamed_and_one_at_a_time() {
    let server = TestServer::start().await;
    let service = server.service().await;
    // What does not compress, so that much of it is on its way.
    let content: String = (0u32..16_000)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    for _ in 0..12 {
        let one = json!({"title": "t", "content": content.repeat(4), "message_type": "text",
            "recipients": ["ann"], "recipient_type": "user"});
        service.post("/api/v3/messages/send-batch", json!({"messages": vec![one; 50]})).await.ok();
    }
    let ann = server.as_user("ann");
    files_have_followed(&server).await;
    let before = server.rss();
    let path = format!("{DATABASE}?compress=false");
    let mut stream = begin(&server, &ann, &path).await;
    let refused = ann.get(DATABASE).await;
    refused.refused(429, "rate_limited");
    assert!(!refused.header("retry-after").is_empty());
    assert!(server.metrics().await.contains("pushhub_backups_running 1"));
    // Sends go on, and are in none that began before.
    service.sent("ann", "later").await;
    let (mut bytes, mut most, mut chunk) = (vec![], 0, vec![0; 256 << 10]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..read]);
        most = most.max(server.rss().saturating_sub(before));
    }
    println!("a backup of {} bytes took {most} bytes of memory at its most", bytes.len());
    assert!(bytes.len() > 600 * 64_000, "{} bytes", bytes.len());
    assert!(most < 32 << 20, "{most} bytes more than before");
    let begins = bytes.windows(16).position(|window| window == b"SQLite format 3\0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.db"), &bytes[begins..]).unwrap();
    let said =
        shell(folder.path(), "sqlite3 b.db 'PRAGMA integrity_check; SELECT head FROM backup'");
    assert_eq!(said, "ok\n600");
    // Who goes away gives the place up, and nothing of it is left.
    drop(begin(&server, &ann, &path).await);
    eventually("there is room again", || async { ann.head_of(MESSAGES).await.status == 200 }).await;
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_backups_total{result=\"whole\"}"), "{metrics}");
    let _: Value = ann.get("/api/v3/messages?size=1").await.ok();
}
