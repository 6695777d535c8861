//! Reading, marking and catching up.

use axum::body::Body;
use protocol::Seq;
use serde_json::{Value, json};

use super::harness::{Api, request};

/// Five messages for bob with types and priorities; their ids.
async fn filled(api: &Api) -> Vec<String> {
    let chief = api.user("chief", &["system_admin"]);
    let mut ids = Vec::new();
    for n in 1..=5 {
        let message = json!({
            "title": format!("message {n}"), "content": "c", "recipients": ["bob"], "priority": n,
            "message_type": if n % 2 == 0 { "even" } else { "odd" }, "channel_id": format!("c{}", n % 2),
        });
        let sent = api.post(&chief, "/messages/send", message).await;
        ids.push(sent.data()["message_id"].as_str().unwrap().to_owned());
    }
    ids
}

fn titles(list: &Value) -> Vec<&str> {
    list["messages"].as_array().unwrap().iter().map(|m| m["title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_has_the_fields_of_the_seed() {
    let api = Api::new();
    filled(&api).await;
    let bob = api.user("bob", &[]);
    let list = api.get(&bob, "/messages").await;
    assert_eq!((&list.data()["unread_count"], &list.data()["total"]), (&json!(5), &json!(5)));
    assert_eq!(
        list.body["meta"],
        json!({"page": 1, "size": 20, "total_pages": 1, "next_cursor": null})
    );
    let message = &list.data()["messages"][0];
    for name in [
        "id",
        "channel_id",
        "title",
        "content",
        "message_type",
        "priority",
        "sender",
        "created_at",
        "is_read",
        "metadata",
        "seq",
        "version",
        "attachments",
        "actions",
        "expire_at",
        "status",
        "read_at",
    ] {
        assert!(message.get(name).is_some(), "{name}");
    }
    assert_eq!(message["is_read"], false);
    assert_eq!(message["status"], "unread");
    let empty = api.get(&api.user("nobody", &[]), "/messages").await;
    assert_eq!(empty.data(), &json!({"messages": [], "unread_count": 0, "total": 0}));
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let api = Api::new();
    filled(&api).await;
    let bob = api.user("bob", &[]);
    let list = async |query: &str| api.get(&bob, &format!("/messages?{query}")).await;
    assert_eq!(titles(list("message_type=even").await.data()), ["message 4", "message 2"]);
    assert_eq!(titles(list("channel_id=c0&sort=oldest").await.data()), ["message 2", "message 4"]);
    assert_eq!(titles(list("priority_min=5&status=unread").await.data()), ["message 5"]);
    assert_eq!(titles(list("sort=priority&size=1").await.data()), ["message 5"]);
    assert_eq!(titles(list("is_read=true").await.data()), [""; 0]);
    assert_eq!(titles(list("since=2999-01-01T00:00:00%2B08:00").await.data()), [""; 0]);
    assert_eq!(titles(list("until=2999-01-01T00:00:00+08:00&size=1").await.data()), ["message 5"]);
    assert_eq!(titles(list("sender=alice&channel_id=").await.data()), [""; 0]);

    let second = list("page=2&size=2").await;
    assert_eq!(titles(second.data()), ["message 3", "message 2"]);
    assert_eq!(second.body["meta"]["total_pages"], 3);
    let mut seen = Vec::new();
    let mut query = "size=2".to_owned();
    loop {
        let page = list(&query).await;
        seen.extend(titles(page.data()).into_iter().map(str::to_owned));
        // What arrives in between moves nothing.
        filled(&api).await;
        match page.body["meta"]["next_cursor"].as_str() {
            Some(cursor) => query = format!("size=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["message 5", "message 4", "message 3", "message 2", "message 1"]);
}

#[tokio::test]
async fn a_searched_list_shows_what_matched_in_both_codecs() {
    let api = Api::new();
    filled(&api).await;
    let bob = api.user("bob", &[]);
    let answer = api.get(&bob, "/messages?q=%EF%BC%94").await;
    assert_eq!(titles(answer.data()), ["message 4"]);
    let shown = &answer.data()["messages"][0]["highlight"];
    assert_eq!(shown["title"], "message <em>4</em>");
    assert!(shown["content"].is_string());
    let packed = request("GET", &bob, "/messages?q=4").header("accept", "application/msgpack");
    let packed = api.call(packed.body(Body::empty()).unwrap()).await;
    assert_eq!(packed.data()["messages"][0]["highlight"], *shown);
    let plain = api.get(&bob, "/messages").await;
    assert!(plain.data()["messages"][0].get("highlight").is_none());
    let none = api.get(&bob, "/messages?q=nothing").await;
    assert_eq!(none.data()["messages"], json!([]));
    let long = api.get(&bob, &format!("/messages?q={}", "a".repeat(257))).await;
    assert_eq!(long.fields(), ["q"]);
    assert!(long.body["message"].as_str().unwrap().contains("256"), "{}", long.body);
    let many: String = (0..17).map(|n| format!("w{n}+")).collect();
    let answer = api.get(&bob, &format!("/messages?q={many}")).await;
    assert_eq!(answer.fields(), ["q"]);
    assert!(answer.body["message"].as_str().unwrap().contains("16"), "{}", answer.body);
}

#[tokio::test]
async fn lists_ask_for_metadata() {
    let api = Api::new();
    let chief = api.user("chief", &["system_admin"]);
    for (title, metadata) in [
        ("one", json!({"order": 1042, "carrier": "顺丰"})),
        ("two", json!({"order": "1042", "note": "a:b c"})),
        ("three", json!({})),
    ] {
        let message =
            json!({"title": title, "content": "c", "recipients": ["bob"], "metadata": metadata});
        api.post(&chief, "/messages/send", message).await.data();
    }
    let bob = api.user("bob", &[]);
    let list = async |query: &str| api.get(&bob, &format!("/messages?{query}")).await;
    assert_eq!(titles(list("metadata=order:1042").await.data()), ["two", "one"]);
    let both = list("metadata=order%3A1042&metadata=carrier:%E9%A1%BA%E4%B8%B0&size=1").await;
    assert_eq!(titles(both.data()), ["one"]);
    assert_eq!((&both.data()["total"], &both.data()["unread_count"]), (&json!(1), &json!(3)));
    assert_eq!(titles(list("metadata=note:a:b+c&q=one").await.data()), [""; 0]);
    assert_eq!(titles(list("metadata=note:a:b+c&q=two").await.data()), ["two"]);
    assert_eq!(titles(list("metadata=&metadata=order:1042&size=1").await.data()), ["two"]);
    let long = format!("metadata=k:{}", "v".repeat(129));
    let many = "metadata=a:b&".repeat(5);
    for (query, limit) in [
        ("metadata=order", "key:value"),
        ("metadata=:1042", "key:value"),
        ("metadata=a%00:b", "U+0000"),
        (&long, "128"),
        (&format!("metadata={}:v", "k".repeat(129)), "128"),
        (&many, "at most 4"),
    ] {
        let answer = list(query).await;
        answer.error(422, "invalid");
        assert_eq!(answer.fields(), ["metadata"], "{query}");
        assert!(answer.body["message"].as_str().unwrap().contains(limit), "{}", answer.body);
    }
    assert_eq!(list("metadata=a&metadata=b").await.fields(), ["metadata", "metadata"]);
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let api = Api::new();
    let bob = api.user("bob", &[]);
    let query = "size=201&page=x&sort=best&status=gone&is_read=maybe&priority_min=11&since=yesterday\
        &q=%20%3F&statuss=read&cursor=z9&channel_id=a&channel_id=b";
    let answer = api.get(&bob, &format!("/messages?{query}")).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "channel_id",
            "cursor",
            "is_read",
            "page",
            "priority_min",
            "q",
            "since",
            "size",
            "sort",
            "status",
            "statuss",
        ]
    );
    for (query, path) in [
        ("size=0", "size"),
        ("page=-1", "page"),
        ("page=2&cursor=n5", "page"),
        ("sort=oldest&cursor=n5", "cursor"),
        ("sort=priority&cursor=n5", "cursor"),
        ("status=read&is_read=false", "is_read"),
        ("q=", "q"),
        ("q=a&q=b", "q"),
    ] {
        assert_eq!(api.get(&bob, &format!("/messages?{query}")).await.fields(), [path], "{query}");
    }
    assert_eq!(api.get(&bob, "/sync?limit=1001").await.fields(), ["limit"]);
    assert_eq!(api.get(&bob, "/sync?from=3").await.fields(), ["from"]);
    assert_eq!(api.get(&bob, "/sync?since=-1").await.fields(), ["since"]);
}

#[tokio::test]
async fn other_peoples_messages_are_not_there() {
    let api = Api::new();
    let ids = filled(&api).await;
    let (bob, eve) = (api.user("bob", &[]), api.user("eve", &["system_admin"]));
    api.get(&bob, &format!("/messages/{}", ids[0])).await.data();
    let foreign = api.get(&eve, &format!("/messages/{}", ids[0])).await;
    let unknown = api.get(&eve, "/messages/msg-unknown").await;
    foreign.error(404, "not_found");
    unknown.error(404, "not_found");
    assert_eq!(foreign.body["message"], unknown.body["message"], "it does not tell which");
    for id in [&ids[0], "msg-unknown", &"a".repeat(129), "a%00b", "%ff", "%2e%2e%2f"] {
        for what in ["read", "unread", "archive"] {
            let path = format!("/messages/{id}/{what}");
            api.post(&eve, &path, json!({})).await.error(404, "not_found");
        }
        api.get(&eve, &format!("/messages/{id}")).await.error(404, "not_found");
    }
    let none = api.post(&eve, "/messages/read-batch", json!({"message_ids": ids})).await;
    assert_eq!(none.data()["changed"], 0);
    assert_eq!(api.get(&bob, "/messages/unread-count").await.data()["unread_count"], 5);
}

#[tokio::test]
async fn reading_counts_once() {
    let api = Api::new();
    let ids = filled(&api).await;
    let bob = api.user("bob", &[]);
    let path = format!("/messages/{}/read", ids[0]);
    let first = api.call(request("POST", &bob, &path).body(Body::empty()).unwrap()).await;
    let data = first.data();
    assert_eq!((&data["changed"], &data["unread_count"]), (&json!(1), &json!(4)));
    assert_eq!((&data["status"], &data["is_read"]), (&json!("read"), &json!(true)));
    assert_eq!((&data["seq"], &data["version"]), (&json!(1), &json!(6)));
    assert!(data["read_at"].is_string());
    let again = api.post(&bob, &path, json!({"device_id": "phone"})).await;
    assert_eq!((&again.data()["changed"], &again.data()["version"]), (&json!(0), &json!(6)));

    let stale = api.post(&bob, &path, json!({"expected_version": 1})).await;
    stale.error(409, "version_conflict");
    assert_eq!(stale.body["data"]["id"], ids[0].as_str());
    assert_eq!(stale.body["data"]["version"], 6);
    api.post(&bob, &path, json!({"expected_version": 6})).await.data();

    assert_eq!(api.post(&bob, &path, json!({"device": "x"})).await.fields(), ["device"]);
    assert_eq!(api.post(&bob, &path, json!({"device_id": "a\n"})).await.fields(), ["device_id"]);
    let typed = api.post(&bob, &path, json!({"expected_version": "6"})).await;
    assert_eq!(typed.fields(), ["expected_version"]);

    let unread = api.post(&bob, &path.replace("/read", "/unread"), json!({})).await;
    assert_eq!(
        (&unread.data()["status"], &unread.data()["unread_count"]),
        (&json!("unread"), &json!(5))
    );
    let archived = api.post(&bob, &path.replace("/read", "/archive"), json!({})).await;
    assert_eq!(archived.data()["status"], "archived");
    let list = api.get(&bob, "/messages?status=archived").await;
    assert_eq!(titles(list.data()), ["message 1"]);
}

#[tokio::test]
async fn many_are_read_at_once() {
    let api = Api::new();
    let ids = filled(&api).await;
    let bob = api.user("bob", &[]);
    let batch = async |body: Value| api.post(&bob, "/messages/read-batch", body).await;
    let some = batch(json!({"message_ids": [ids[0], "msg-unknown"], "device_id": "phone"})).await;
    assert_eq!(some.data(), &json!({"changed": 1, "unread_count": 4}));
    assert_eq!(batch(json!({"up_to_seq": 2})).await.data()["changed"], 1);
    assert_eq!(
        batch(json!({"channel_id": "c1"})).await.data(),
        &json!({"changed": 2, "unread_count": 1})
    );
    for wrong in [
        json!({}),
        json!({"message_ids": [], "up_to_seq": 1}),
        json!({"up_to_seq": 1, "channel_id": "c"}),
    ] {
        assert_eq!(batch(wrong).await.fields(), ["message_ids"]);
    }
    let bad = batch(json!({"message_ids": ["a", "", "\n"]})).await;
    assert_eq!(bad.fields(), ["message_ids[1]", "message_ids[2]"]);
    let many = batch(json!({"message_ids": vec!["a"; 1_001]})).await;
    assert_eq!(many.fields(), ["message_ids"]);
    assert_eq!(batch(json!({"channel_id": ""})).await.fields(), ["channel_id"]);
    assert_eq!(batch(json!({"ids": ["a"]})).await.fields(), ["ids"]);
}

#[tokio::test]
async fn polling_gets_the_frames_of_the_socket() {
    let api = Api::new();
    let ids = filled(&api).await;
    let bob = api.user("bob", &[]);
    api.post(&bob, &format!("/messages/{}/read", ids[1]), json!({})).await.data();
    let all = api.get(&bob, "/sync").await;
    assert_eq!((&all.data()["head"], &all.data()["more"]), (&json!(6), &json!(false)));
    let changes = all.data()["changes"].as_array().unwrap();
    let seqs: Vec<_> = changes.iter().map(|change| change["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        (&changes[0]["type"], &changes[0]["data"]["id"]),
        (&json!("message"), &json!(ids[0]))
    );
    assert_eq!(changes[5]["type"], "status_update");
    assert_eq!(changes[5]["data"]["message_id"], ids[1].as_str());
    assert_eq!(changes[5]["data"]["device_id"], "token-device");
    let some = api.get(&bob, "/sync?since=2&limit=2").await;
    assert_eq!(some.data()["changes"][0]["seq"], 3);
    assert_eq!(
        (some.data()["changes"].as_array().unwrap().len(), &some.data()["more"]),
        (2, &json!(true))
    );
    let none = api.get(&bob, "/sync?since=6").await;
    assert_eq!(none.data(), &json!({"changes": [], "head": 6, "more": false}));
    let ahead = api.get(&bob, "/sync?since=7").await;
    ahead.error(410, "resync_required");
    *api.store.min_seq.lock() = Seq(3);
    let pruned = api.get(&bob, "/sync?since=2").await;
    pruned.error(410, "resync_required");
    assert_eq!(pruned.body["data"], json!({"min_seq": 3, "head": 6}));
    api.get(&bob, "/sync?since=3").await.data();
}
