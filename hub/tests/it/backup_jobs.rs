//! Backups that are made in the background: what is downloaded in pieces is what was made, and nobody else's.

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, TestServer, disk::Mount, download::fetch, eventually};

const JOBS: &str = "/api/v3/backup/jobs";

async fn asked(api: &Api, body: Value) -> String {
    api.post(JOBS, body).await.ok()["job_id"].as_str().unwrap().to_owned()
}

/// The job once it is over.
async fn over(api: &Api, id: &str) -> Value {
    api.get(&format!("{JOBS}/{id}?wait=30s")).await.ok()
}

/// What hardly compresses.
fn noise(bytes: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state >> 40) as u8 % 90)
        })
        .collect()
}

async fn large_inbox(server: &TestServer, user: &str, messages: usize) {
    let service = server.service().await;
    for _ in 0..messages {
        let message = json!({"title": "t", "content": noise(200_000), "message_type": "text",
            "recipients": [user], "recipient_type": "user"});
        service.send(message).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_goes_on_to_identical_bytes() {
    let server = TestServer::start().await;
    large_inbox(&server, "ann", 20).await;
    let ann = server.as_user("ann");
    let id = asked(&ann, json!({})).await;
    let job = over(&ann, &id).await;
    assert_eq!((&job["state"], &job["head"]), (&json!("done"), &json!(20)), "{job}");
    let bytes = usize::try_from(job["bytes"].as_u64().unwrap()).unwrap();
    let (path, token) = (format!("{JOBS}/{id}/file"), ann.credentials().to_owned());
    let authorization = ("authorization", token.as_str());

    let whole = fetch(server.user, Method::GET, &path, &[authorization], usize::MAX).await;
    assert_eq!((whole.status, whole.bytes.len()), (StatusCode::OK, bytes));
    assert!(bytes > 1 << 20, "{bytes} bytes");
    let etag = whole.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", job["sha256"].as_str().unwrap()));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=backup_ann.db.gz");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.db.gz"), &whole.bytes).unwrap();
    let line =
        "gzip -d b.db.gz && sqlite3 b.db 'PRAGMA integrity_check; SELECT messages FROM backup'";
    let said = std::process::Command::new("sh").args(["-c", line]).current_dir(&folder).output();
    assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), "ok\n20\n");

    // Cut where chance wants it, and gone on with, over and over.
    for round in 0_usize..8 {
        let (mut got, mut cuts) = (Vec::new(), 0);
        while got.len() < bytes {
            let most = 1 + (round * 7_919 + got.len() * 31 + cuts * 104_729) % (bytes / 3);
            let range = format!("bytes={}-", got.len());
            let headers = [authorization, ("range", &*range), ("if-range", &*etag)];
            let part = fetch(server.user, Method::GET, &path, &headers, most).await;
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
            let says = format!("bytes {}-{}/{bytes}", got.len(), bytes - 1);
            assert_eq!(part.header("content-range"), says);
            got.extend_from_slice(&part.bytes);
            cuts += 1;
        }
        assert!(cuts > 2 && got == whole.bytes, "round {round}, {cuts} cuts");
    }

    // Of another file the whole one comes; behind the end is nothing; a HEAD says how much there is.
    let other = [authorization, ("range", "bytes=5-"), ("if-range", "\"another\"")];
    let again = fetch(server.user, Method::GET, &path, &other, usize::MAX).await;
    assert!(again.status == StatusCode::OK && again.bytes == whole.bytes);
    let behind = [authorization, ("range", "bytes=999999999-")];
    let behind = fetch(server.user, Method::GET, &path, &behind, usize::MAX).await;
    assert_eq!(behind.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(behind.header("content-range"), format!("bytes */{bytes}"));
    let last = [authorization, ("range", "bytes=-9")];
    let last = fetch(server.user, Method::GET, &path, &last, usize::MAX).await;
    assert_eq!(last.bytes, whole.bytes[bytes - 9..]);
    let head = fetch(server.user, Method::HEAD, &path, &[authorization], usize::MAX).await;
    assert_eq!((head.status, head.header("etag")), (StatusCode::OK, &*etag));
    assert_eq!((head.header("content-length"), head.bytes.len()), (&*bytes.to_string(), 0));

    // A restart makes no difference to whoever goes on.
    let mut server = server;
    server.crash_and_restart().await;
    let half = format!("bytes={}-", bytes / 2);
    let headers = [authorization, ("range", &*half), ("if-range", &*etag)];
    let rest = fetch(server.user, Method::GET, &path, &headers, usize::MAX).await;
    assert!(rest.status == StatusCode::PARTIAL_CONTENT && rest.bytes == whole.bytes[bytes / 2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_one_file_and_nothing_else_and_only_the_owner_has_it() {
    let server = TestServer::start().await;
    let service = server.service().await;
    service.sent("ann", "a letter").await;
    let ann = server.as_user("ann");
    let id = asked(&ann, json!({"compress": false})).await;
    let link = over(&ann, &id).await["download_url"].as_str().unwrap().to_owned();
    let by_link = fetch(server.user, Method::GET, &link, &[], usize::MAX).await;
    assert!(by_link.status == StatusCode::OK && by_link.bytes.starts_with(b"SQLite format 3\0"));
    let cache =
        by_link.header("cache-control").strip_prefix("public, immutable, max-age=").unwrap();
    assert!((86_000..=86_400).contains(&cache.parse::<u32>().unwrap()), "{cache}");
    let part = fetch(server.user, Method::GET, &link, &[("range", "bytes=0-5")], usize::MAX).await;
    assert_eq!((part.status, &*part.bytes), (StatusCode::PARTIAL_CONTENT, &b"SQLite"[..]));

    // Another name, another time, another signature.
    let eve = server.as_user("eve");
    let other = over(&eve, &asked(&eve, json!({"compress": false})).await).await;
    let other = other["download_url"].as_str().unwrap().to_owned();
    let (path, query) = link.split_once('?').unwrap();
    let (expires, signature) = query.split_once('&').unwrap();
    let later: u64 = expires.strip_prefix("expires=").unwrap().parse().unwrap();
    let mut flipped = signature.to_owned();
    let digit = if flipped.as_bytes()[20] == b'A' { "B" } else { "A" };
    flipped.replace_range(20..21, digit);
    for forged in [
        format!("{}?{query}", other.split_once('?').unwrap().0),
        format!("{path}?expires={}&{signature}", later + 1),
        format!("{path}?{expires}&{flipped}"),
        format!("{path}?{expires}&signature=!"),
    ] {
        let answer = server.api().get(&forged).await;
        answer.refused(403, "forbidden");
    }
    server.api().get(path).await.refused(422, "invalid");

    // Whose it is not.
    for path in [format!("{JOBS}/{id}"), format!("{JOBS}/{id}/file")] {
        eve.get(&path).await.refused(404, "not_found");
        service.get(&path).await.refused(403, "forbidden");
        server.api().get(&path).await.refused(401, "unauthorized");
    }
    eve.call(Method::DELETE, &format!("{JOBS}/{id}"), None).await.refused(404, "not_found");
    assert_eq!(eve.get(JOBS).await.ok()["jobs"].as_array().unwrap().len(), 1);

    // Four are enough for one; who deletes one may have another.
    for _ in 0..3 {
        asked(&ann, json!({"type": "messages"})).await;
    }
    let fifth = ann.post(JOBS, json!({})).await;
    fifth.refused(429, "rate_limited");
    assert!(!fifth.header("retry-after").is_empty());
    ann.call(Method::DELETE, &format!("{JOBS}/{id}"), None).await.ok();
    ann.get(&format!("{JOBS}/{id}/file")).await.refused(404, "not_found");
    server.api().get(&link).await.refused(404, "not_found");
    asked(&ann, json!({})).await;

    // Who is deleted leaves none, and whoever comes by that name has no part in them.
    server.as_admin().call(Method::DELETE, "/api/v3/admin/users/eve", None).await.ok();
    server.api().get(&other).await.refused(404, "not_found");
    assert!(!server.log().contains(signature.strip_prefix("signature=").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_interrupts_is_made_again_and_a_key_is_on_no_disk() {
    let mut server = TestServer::start().await;
    large_inbox(&server, "ann", 40).await;
    let ann = server.as_user("ann");
    let passphrase = "a passphrase of the request only";
    let plain = asked(&ann, json!({})).await;
    let with_key = ann.clone().header("x-backup-key", passphrase);
    let sealed = asked(&with_key, json!({"encrypt": true})).await;
    server.kill_9().await;
    let grep = std::process::Command::new("grep")
        .args(["-rl", passphrase])
        .arg(server.backups())
        .output()
        .unwrap();
    assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
    server.spawn().await;
    let ann = server.as_user("ann");
    let job = over(&ann, &plain).await;
    assert_eq!(job["state"], "done", "{job}");
    // It may have been made before the kill: then it is there.
    let job = over(&ann, &sealed).await;
    if job["state"] != "done" {
        assert_eq!(job["state"], "failed", "{job}");
        assert!(job["error"].as_str().unwrap().contains("kept nowhere"), "{job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_when_it_was_kept_long_enough() {
    let server = TestServer::builder().env("BACKUP_JOB_KEPT", "2s").start().await;
    let ann = server.as_user("ann");
    let id = asked(&ann, json!({})).await;
    let link = over(&ann, &id).await["download_url"].as_str().unwrap().to_owned();
    let files = || files_of_jobs(&server).len();
    assert_eq!(files(), 1);
    let path = format!("{JOBS}/{id}");
    eventually("it has expired", || async {
        let answer = ann.get(&path).await;
        answer.status == 404 || answer.data()["state"] == "expired"
    })
    .await;
    ann.get(&format!("{path}/file")).await.refused(404, "not_found");
    server.api().get(&link).await.refused(403, "forbidden");
    eventually("its file is gone", || async { files() == 0 }).await;
    eventually("it is forgotten", || async { ann.get(&path).await.status == 404 }).await;
}

/// Files of jobs, whole or not.
fn files_of_jobs(server: &TestServer) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for slot in fs::read_dir(server.backups().join(".jobs")).into_iter().flatten().flatten() {
        for job in fs::read_dir(slot.path()).into_iter().flatten().flatten() {
            let files = fs::read_dir(job.path()).into_iter().flatten().flatten();
            found.extend(
                files
                    .map(|file| file.path())
                    .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("file")),
            );
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_a_job_with_a_sentence_and_keeps_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&folder.path().join("disk"), 6 << 20);
    let server =
        TestServer::builder().env("DATABASE_BACKUP_PATH", disk.path().display()).start().await;
    large_inbox(&server, "ann", 25).await;
    let free = disk.free();
    // The draft fits, the file does not fit beside it.
    let ann = server.as_user("ann");
    let id = asked(&ann, json!({"compress": false})).await;
    let job = over(&ann, &id).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().unwrap().contains("DATABASE_BACKUP_PATH is full"), "{job}");
    eventually("the room is there again", || async { disk.free() + (64 << 10) >= free }).await;
    let messages = ann.get("/api/v3/messages?size=1").await;
    assert_eq!(messages.status, 200);

    // So does what is larger than all files may be.
    let server = TestServer::builder().env("BACKUP_JOBS_SIZE_MAX", "64KiB").start().await;
    large_inbox(&server, "ann", 2).await;
    let ann = server.as_user("ann");
    let job = over(&ann, &asked(&ann, json!({"compress": false})).await).await;
    assert!(job["error"].as_str().unwrap().contains("BACKUP_JOBS_SIZE_MAX"), "{job}");
    assert_eq!(files_of_jobs(&server).len(), 0);
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_backup_jobs_total{result=\"failed\"} 1"), "{metrics}");
}
