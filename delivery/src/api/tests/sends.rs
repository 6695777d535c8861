//! Sending through the front door.

use protocol::Seq;
use serde_json::{Value, json};

use super::harness::Api;
use crate::control::{Level, NewService};

fn hello() -> Value {
    json!({"title": "t", "content": "c", "recipients": ["bob"]})
}

fn file_share() -> Value {
    json!({
        "template_id": "file_share", "recipients": ["user123"],
        "variables": {
            "sender_name": "张三", "file_name": "项目计划.pdf", "file_size": "2.5MB",
            "share_time": "2025-01-15 14:30:00",
            "file_url": "https://drive.company.com/files/abc123",
        },
    })
}

#[tokio::test]
async fn the_example_of_the_seed() {
    let api = Api::new();
    let netdrive = api.service(NewService {
        permissions: vec!["on_behalf_of".to_owned()],
        ..NewService::named("netdrive")
    });
    let mut message = file_share();
    message["on_behalf_of"] = json!("user456");
    for path in ["/messages/send", "/messages/send-template"] {
        let sent = api.post(&netdrive, path, message.clone()).await;
        assert_eq!(sent.data()["status"], "accepted");
        assert_eq!(sent.data()["recipients"], 1);
    }
    let user = api.user("user123", &[]);
    let list = api.get(&user, "/messages").await;
    let got = &list.data()["messages"][0];
    assert_eq!(got["title"], "张三 分享了文件给你");
    assert_eq!(got["sender"], "user456");
    assert_eq!(got["on_behalf_of"], "user456");
    assert_eq!(got["actions"][0]["url"], "https://drive.company.com/files/abc123");
    assert_eq!(
        (&got["message_type"], &got["template_id"]),
        (&json!("file_share"), &json!("file_share"))
    );
    assert_eq!(api.counts.of("pushhub_messages_accepted_total{kind=send,source=service}"), 1);
    assert_eq!(api.counts.of("pushhub_messages_accepted_total{kind=template,source=service}"), 1);
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let mut message = hello();
    message["recipiants"] = json!([]);
    message["priority"] = json!("high");
    message["metadata"] = json!([]);
    message["expire_at"] = json!("tomorrow");
    message["recipients"] = json!(["a", 5]);
    message["attachments"] = json!([{"type": "file", "urll": "x"}]);
    message["sender"] = json!(["boss", "system"]);
    let answer = api.post(&alice, "/messages/send", message).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "attachments[0].url",
            "attachments[0].urll",
            "expire_at",
            "metadata",
            "priority",
            "recipiants",
            "recipients[1]",
            "sender",
        ]
    );
    let said = answer.body["error"]["fields"].as_array().unwrap();
    let of =
        |path: &str| said.iter().find(|field| field["path"] == path).unwrap()["problem"].clone();
    assert_eq!(of("recipiants"), "is not known; the nearest known name is recipients");
    assert_eq!(of("attachments[0].urll"), "is not known; the nearest known name is url");
    let twice = r#"{"title":"a","title":"b","recipients":["x"]}"#;
    let request = super::harness::request("POST", &alice, "/messages/send");
    let answer = api.call(request.body(axum::body::Body::from(twice)).unwrap()).await;
    assert_eq!(answer.fields(), ["body"]);
}

#[tokio::test]
async fn missing_values_of_a_template_are_named() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let mut message = file_share();
    message["variables"] = json!({"share_time": "soon"});
    let answer = api.post(&alice, "/messages/send-template", message).await;
    assert_eq!(
        answer.fields(),
        [
            "variables.share_time",
            "variables.file_name",
            "variables.file_size",
            "variables.file_url",
            "variables.sender_name",
        ]
    );
    assert_eq!(
        api.post(&alice, "/messages/send-template", hello()).await.fields(),
        ["template_id"]
    );
}

#[tokio::test]
async fn known_callers_that_may_not() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let mut alert = hello();
    alert["message_type"] = json!("alert");
    api.post(&alice, "/messages/send", alert.clone()).await.error(403, "forbidden");
    let chief = api.user("chief", &["system_admin"]);
    api.post(&chief, "/messages/send", alert).await.data();
    let partner = NewService { level: Some(Level::ThirdParty), ..NewService::named("p") };
    let waiting = api.service(partner);
    api.post(&waiting, "/messages/send", hello()).await.error(403, "forbidden");
    assert_eq!(api.counts.of("pushhub_auth_failures_total{reason=service_inactive}"), 1);
    assert_eq!(api.counts.of("pushhub_messages_rejected_total{reason=forbidden}"), 1);
}

#[tokio::test]
async fn each_message_of_a_batch_is_judged_by_itself() {
    let api = Api::new();
    let service = api.service(NewService::named("a"));
    let mut alert = hello();
    alert["message_type"] = json!("alert");
    let batch = json!({"messages": [
        hello(), {"titel": "x"}, alert, {"recipients": ["a"]}, file_share(), [], {"recipients": 1},
    ]});
    let answer = api.post(&service, "/messages/send-batch", batch).await;
    let results = answer.data()["results"].as_array().unwrap();
    let codes: Vec<_> = results.iter().map(|result| result["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 422, 403, 422, 200, 422, 422]);
    assert!(results[0]["message_id"].is_string());
    assert_eq!(results[1]["error"]["type"], "invalid");
    assert_eq!(results[1]["error"]["fields"][0]["path"], "titel");
    assert_eq!(results[6]["error"]["fields"][0]["path"], "recipients");
    assert_eq!((&answer.data()["accepted"], &answer.data()["rejected"]), (&json!(2), &json!(5)));
    assert_eq!(*api.store.appends.lock(), [2], "one append for the whole batch");
    assert_eq!(api.counts.of("pushhub_messages_accepted_total{kind=batch,source=service}"), 2);
    assert_eq!(api.counts.of("pushhub_messages_rejected_total{reason=invalid}"), 4);

    for (batch, path) in [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"message": [hello()]}), "message"),
        (json!({"messages": vec![hello(); 1_001]}), "messages"),
    ] {
        assert_eq!(api.post(&service, "/messages/send-batch", batch).await.fields()[0], path);
    }
    let thousand = json!({"messages": vec![hello(); 1_000]});
    let answer = api.post(&service, "/messages/send-batch", thousand).await;
    assert_eq!(answer.data()["accepted"], 1_000);
    assert_eq!(api.store.messages(&Api::inbox("bob")).await.len(), 1_001);
    let last = api.store.messages(&Api::inbox("bob")).await.last().unwrap().state.seq;
    assert_eq!(last, Seq(1_001));
}

#[tokio::test]
async fn to_all_has_no_count() {
    let api = Api::new();
    let chief = api.user("chief", &["system_admin"]);
    let message = json!({"title": "t", "content": "c", "recipient_type": "all"});
    let sent = api.post(&chief, "/messages/send", message).await;
    assert!(sent.data()["recipients"].is_null());
    assert_eq!(sent.data()["status"], "accepted");
}

#[tokio::test]
async fn templates_are_listed() {
    let api = Api::new();
    for caller in [api.user("alice", &[]), api.service(NewService::named("a"))] {
        let list = api.get(&caller, "/messages/templates").await;
        let ids: Vec<_> = list.data()["templates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|template| template["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["doc_collaboration", "file_share", "system_alert"]);
        let one = api.get(&caller, "/messages/templates/file_share").await;
        assert_eq!(one.data()["variables"][3]["type"], "date");
        api.get(&caller, "/messages/templates/none").await.error(404, "not_found");
    }
}
