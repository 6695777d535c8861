//! Searching one's inbox: words, marks, filters, and what may happen to the index.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    Api, TestServer, api::message_to, disk::Mount, eventually, eventually_within, raw,
};

fn titles(data: &Value) -> Vec<&str> {
    data["messages"].as_array().unwrap().iter().map(|m| m["title"].as_str().unwrap()).collect()
}

async fn found(user: &Api, query: &str) -> Value {
    user.get(&format!("/api/v3/messages?sort=oldest&{query}")).await.ok()
}

async fn total(user: &Api, words: &str) -> u64 {
    found(user, &format!("q={words}")).await["total"].as_u64().unwrap()
}

/// So many messages for one user, each with the same word.
async fn sends(service: &Api, user: &str, word: &str, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(1_000) {
        let messages: Vec<Value> =
            numbers.iter().map(|n| message_to(&[user], &format!("{word} {n}"))).collect();
        let sent = service.post("/api/v3/messages/send-batch", json!({"messages": messages})).await;
        for result in sent.ok()["results"].as_array().unwrap() {
            assert_eq!(result["code"], 200, "{result}");
        }
    }
}

fn index(server: &TestServer, user: &str) -> PathBuf {
    server.storage().join(user).join(".sync/search.db")
}

#[tokio::test]
async fn chinese_words_are_found_and_marked() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    for (title, content) in [
        ("周报", "请在企微群里确认本周的周报"),
        ("系统升级", "企业微信 API 网关升级到 v2.5，预计 10 分钟 <完成>"),
        ("Deployment", "Rollout of ＡＰＩ gateway finished 🎉"),
    ] {
        let mut message = message_to(&["ann"], title);
        message["content"] = content.into();
        service.send(message).await.ok();
    }
    let shared = json!({
        "template_id": "file_share", "recipients": ["ann"], "on_behalf_of": "user456",
        "variables": {
            "sender_name": "张三", "file_name": "项目计划.pdf", "file_size": "2.5MB",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://drive.company.com/files/abc123",
        },
    });
    let shared = service.post("/api/v3/messages/send", shared).await.ok();
    for (words, expected) in [
        ("企微", &["周报"][..]),
        ("微", &["周报", "系统升级"]),
        ("企业微信", &["系统升级"]),
        ("api 网关", &["系统升级"]),
        ("API网关", &["系统升级"]),
        ("api", &["系统升级", "Deployment"]),
        ("v2.5", &["系统升级"]),
        ("deploy", &["Deployment"]),
        ("🎉", &["Deployment"]),
        ("%22周报%22", &["周报"]),
        ("没有这个词", &[]),
    ] {
        let data = found(&ann, &format!("q={words}")).await;
        assert_eq!(titles(&data), expected, "{words}");
        assert_eq!((&data["total"], &data["unread_count"]), (&json!(expected.len()), &json!(4)));
    }
    let data = found(&ann, "q=升级 api").await;
    assert_eq!(
        data["messages"][0]["highlight"],
        json!({
            "title": "系统<em>升级</em>",
            "content": "企业微信 <em>API</em> 网关<em>升级</em>到 v2.5，预计 10 分钟 &lt;完成&gt;",
        })
    );
    let data = found(&ann, "q=项目计划").await;
    assert_eq!(data["messages"][0]["id"], shared["message_id"]);
    let content = data["messages"][0]["highlight"]["content"].as_str().unwrap();
    assert!(content.contains("<em>项目计划</em>.pdf"), "{content}");
    let plain = ann.get("/api/v3/messages").await.ok();
    assert!(plain["messages"][0].get("highlight").is_none(), "{plain}");

    // As it is typed behind curl, without escapes.
    let request = format!(
        "GET /api/v3/messages?q=企微 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        ann.credentials()
    );
    let answer = raw::exchange(server.user, request.as_bytes(), Duration::from_secs(10)).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    assert!(answer.text().contains("<em>企微</em>"), "{}", answer.text());
}

#[tokio::test]
async fn a_search_has_the_filters_and_pages_of_a_list() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    for n in 1..=6 {
        for word in ["周报", "月报"] {
            let mut message = message_to(&["ann"], &format!("{word}{n}"));
            message["message_type"] = ["text", "alert"][n % 2].into();
            message["priority"] = n.into();
            service.send(message).await.ok();
        }
    }
    for (query, expected) in [
        ("", &["周报1", "周报2", "周报3", "周报4", "周报5", "周报6"][..]),
        ("message_type=alert", &["周报1", "周报3", "周报5"]),
        ("priority_min=5", &["周报5", "周报6"]),
        ("priority_min=2&message_type=text&is_read=false", &["周报2", "周报4", "周报6"]),
        ("status=read", &[]),
        ("sender=nobody", &[]),
        ("since=2099-01-01T00:00:00Z", &[]),
        ("page=2&size=4", &["周报5", "周报6"]),
    ] {
        let data = found(&ann, &format!("q=周报&{query}")).await;
        assert_eq!(titles(&data), expected, "{query}");
    }
    let highest = ann.get("/api/v3/messages?q=周报&sort=priority&size=2").await;
    assert_eq!(titles(highest.data()), ["周报6", "周报5"]);
    assert_eq!(highest.body["meta"]["total_pages"], 3);

    let mut seen = vec![];
    let mut cursor = String::new();
    loop {
        let page = ann.get(&format!("/api/v3/messages?q=周报&size=4{cursor}")).await;
        seen.extend(titles(page.data()).into_iter().map(str::to_owned));
        // What arrives in between moves nothing.
        service.sent("ann", "周报 new").await;
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["周报6", "周报5", "周报4", "周报3", "周报2", "周报1"]);
}

#[tokio::test]
async fn a_message_is_found_as_it_is_now() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    assert_eq!(total(&ann, "企微").await, 0, "an inbox that was never seen");
    let mut short = message_to(&["ann"], "企微 short");
    let soon = delivery::clock::now().millis() + 1_500;
    short["expire_at"] = protocol::Time::from_millis(soon).to_string().into();
    service.send(short).await.ok();
    for text in ["企微 stays", "企微 goes", "企微 edited"] {
        service.sent("ann", text).await;
    }
    let data = found(&ann, "q=企微").await;
    assert_eq!(titles(&data), ["企微 short", "企微 stays", "企微 goes", "企微 edited"]);
    let id = data["messages"][2]["id"].as_str().unwrap();
    ann.post(&format!("/api/v3/messages/{id}/archive"), json!({})).await.ok();
    eventually("it expires", || async {
        titles(&found(&ann, "q=企微").await) == ["企微 stays", "企微 edited"]
    })
    .await;
    assert_eq!(titles(&found(&ann, "q=企微&status=archived").await), ["企微 goes"]);
    let archived = &found(&ann, "q=企微&status=all").await["messages"][1];
    assert_eq!(archived["status"], "archived");
    assert!(archived["read_at"].is_string(), "{archived}");
    assert_eq!(total(&server.as_user("bob"), "企微").await, 0, "another one's");

    // An edit, as it stands in the file.
    assert!(server.terminate().await.success());
    let file = rusqlite::Connection::open(server.storage().join("ann/messages.db")).unwrap();
    let edited = file
        .execute(
            "UPDATE message SET body = replace(body, '企微 edited', '钉钉 edited'), version = 6,
             body_version = 6 WHERE seq = 4",
            [],
        )
        .unwrap();
    assert_eq!(edited, 1);
    drop(file);
    server.spawn().await;
    let ann = server.as_user("ann");
    assert_eq!(titles(&found(&ann, "q=企微").await), ["企微 stays"]);
    assert_eq!(titles(&found(&ann, "q=钉钉").await), ["钉钉 edited"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_indexing_loses_nothing() {
    const COUNT: usize = 4_000;
    let mut server = TestServer::start().await;
    let service = server.service().await;
    sends(&service, "ann", "企微", COUNT).await;
    let file = index(&server, "ann");
    let wal = file.with_extension("db-wal");
    let mut cut = 0;
    for bytes in [1, 300_000, 600_000, 900_000] {
        let ann = server.as_user("ann");
        let search = tokio::spawn(async move {
            // It is cut, or ends before.
            let path = "/api/v3/messages?q=企微";
            let _ = ann.try_call(reqwest::Method::GET, path, None).await;
        });
        eventually_within("the index grows", Duration::from_secs(30), || {
            let grown = search.is_finished()
                || [&file, &wal]
                    .iter()
                    .any(|path| fs::metadata(path).is_ok_and(|metadata| metadata.len() >= bytes));
            async move { grown.then_some(()) }
        })
        .await;
        cut += usize::from(!search.is_finished());
        server.crash_and_restart().await;
        search.await.unwrap();
    }
    assert!(cut > 0, "each search was faster than the kill");
    let ann = server.as_user("ann");
    assert_eq!(total(&ann, "企微").await, COUNT as u64);
    // As a phrase: the name of the service has digits too, and is searched.
    for n in [0, 1, COUNT / 2, COUNT - 1] {
        assert_eq!(titles(&found(&ann, &format!("q=\"企微 {n}\"")).await), [format!("企微 {n}")]);
    }
}

#[tokio::test]
async fn an_index_may_be_deleted_and_damaged() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    sends(&service, "ann", "企微", 300).await;
    let ann = server.as_user("ann");
    let file = index(&server, "ann");
    assert!(!file.exists(), "who never searches pays nothing");
    assert_eq!(total(&ann, "企微").await, 300);
    fs::remove_file(&file).unwrap();
    assert_eq!(total(&ann, "企微").await, 300);
    fs::write(&file, vec![0x55; 200_000]).unwrap();
    assert_eq!(total(&ann, "企微").await, 300);
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_store_search_renewed_total 1"), "{metrics}");
    assert!(metrics.contains("pushhub_store_searches_waiting 0"), "{metrics}");
    server.crash_and_restart().await;
    assert_eq!(total(&server.as_user("ann"), "企微").await, 300);
}

#[tokio::test]
async fn on_a_full_disk_searches_are_right_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&folder.path().join("disk"), 64 << 20);
    let server = TestServer::builder()
        .storage(&disk.path().join("storage"))
        .env("STORE_FLUSH_INTERVAL", "60s")
        .start()
        .await;
    let service = server.service().await;
    let (ann, bob) = (server.as_user("ann"), server.as_user("bob"));
    for n in 0..10 {
        service.sent("ann", &format!("企微 {n}")).await;
    }
    assert_eq!(total(&ann, "企微").await, 10);
    service.sent("ann", "企微 in the file, not in the index").await;
    assert_eq!(ann.all_messages().await.len(), 11, "a list puts it into the file");
    service.sent("bob", "企微 in no file").await;

    let ballast = disk.path().join("ballast");
    let filler = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut &filler, &[1; 4096]).is_ok() {}
    drop(filler);
    assert_eq!(disk.free(), 0);
    assert_eq!(total(&ann, "企微").await, 11, "the index is ahead in memory only");
    assert_eq!(total(&ann, "index").await, 1);
    let refused = bob.get("/api/v3/messages?q=企微").await;
    refused.refused(503, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(bob.all_messages().await.len(), 1, "lists stay");

    fs::remove_file(&ballast).unwrap();
    assert_eq!(total(&ann, "企微").await, 11);
    assert_eq!(total(&bob, "企微").await, 1);
}

#[tokio::test]
async fn wrong_queries_are_refused_with_the_limit() {
    let server = TestServer::start().await;
    server.service().await.sent("ann", "企微").await;
    let ann = server.as_user("ann");
    let words: String = (0..17).map(|n| format!("{n}+")).collect();
    for (query, named) in [
        ("q=", &["q", "letter"][..]),
        ("q=%20%20", &["q", "letter"]),
        ("q=，。！?*", &["q", "letter"]),
        ("q=%22%22", &["q", "letter"]),
        (&format!("q={}", "企".repeat(86)), &["q", "256", "258"]),
        (&format!("q={words}"), &["q", "16"]),
        ("q=a&q=b", &["q", "once"]),
    ] {
        let said = ann.get(&format!("/api/v3/messages?{query}")).await.refused(422, "invalid");
        assert!(named.iter().all(|word| said.contains(word)), "{query}: {said}");
    }
    // What means something to SQLite means nothing here.
    for query in [
        "%22",
        "a%22b",
        "企微 AND",
        "NOT 企微",
        "NEAR(企微)",
        "^企微",
        "words:企微",
        "企微*",
        "(",
        "-企",
        "%00企",
    ] {
        let answer = ann.get(&format!("/api/v3/messages?q={query}")).await;
        assert!([200, 422].contains(&answer.status), "{query}: {}", answer.body);
    }
    assert_eq!(total(&ann, "企微*").await, 1);
}
