//! Messages that wait for their time, and what of a message may be changed later.

use super::*;

#[tokio::test]
async fn a_time_ahead_makes_a_message_wait() {
    let (_, sender) = sender();
    let business = business();
    let prepared = async |changes: Value| ready(&sender, &business, plain(changes)).await.unwrap();
    let soon = from_now(60);
    let (outgoing, receipt) =
        prepared(json!({"scheduled_at": soon, "collapse_key": "build"})).await;
    assert_eq!(receipt.status, "scheduled");
    assert_eq!(outgoing.scheduled_at.unwrap().to_string(), soon);
    let fields = outgoing.body.fields().unwrap();
    assert_eq!(fields.collapse_key.as_deref(), Some("build"));
    let past = json!({"scheduled_at": from_now(-60), "collapse_key": ""});
    let (outgoing, receipt) = prepared(past).await;
    assert_eq!((receipt.status, outgoing.scheduled_at), ("accepted", None));
    assert_eq!(outgoing.body.fields().unwrap().collapse_key, None);
}

#[test]
fn times_must_be_possible() {
    let ahead = SCHEDULE_AHEAD_MAX.as_secs() as i64;
    let bad = |changes: Value| problem_paths(plain(changes));
    let at = |scheduled: i64, expire: i64| json!({"scheduled_at": from_now(scheduled), "expire_at": from_now(expire)});
    assert!(prepared(&system(), plain(json!({"scheduled_at": from_now(ahead)}))).is_ok());
    assert_eq!(bad(json!({"scheduled_at": from_now(ahead + 2)})), ["scheduled_at"]);
    assert!(prepared(&system(), plain(at(60, 61))).is_ok());
    assert_eq!(bad(at(60, 60)), ["expire_at"]);
    assert_eq!(bad(at(60, 59)), ["expire_at"]);
    assert_eq!(bad(at(60, -1)), ["expire_at"]);
    assert!(prepared(&system(), plain(at(-60, 1))).is_ok(), "a past time means now");
    for key in ["x".repeat(129), "a\u{7f}".to_owned()] {
        assert_eq!(bad(json!({"collapse_key": key})), ["collapse_key"]);
    }
}

fn edit(changes: Value) -> EditRequest {
    serde_json::from_value(changes).unwrap()
}

#[test]
fn an_edit_changes_what_it_names() {
    let before = prepared(
        &business(),
        plain(json!({"metadata": {"a": 1}, "priority": 3, "collapse_key": "k", "channel_id": "c",
            "attachments": [{"type": "file", "url": "https://a/b"}],
            "actions": [{"type": "button", "text": "x"}]})),
    )
    .unwrap();
    let now = crate::clock::now();
    let after = |changes: Value| edit(changes).apply(&before, None, now).unwrap();
    let said = after(json!({"title": "new", "metadata": {"b": 2}, "actions": []})).unwrap();
    let expected = MessageFields {
        title: "new".to_owned(),
        metadata: serde_json::from_value(json!({"b": 2})).unwrap(),
        actions: Vec::new(),
        edited_at: Some(now),
        ..before.clone()
    };
    assert_eq!(said, expected);
    let soon = Time::from_millis(now.millis() + 1_000);
    let said = after(json!({"priority": 9, "expire_at": soon.to_string()})).unwrap();
    assert_eq!((said.priority, said.expire_at, said.title.as_str()), (9, Some(soon), "t"));
    for nothing in [
        json!({}),
        json!({"title": "", "content": null, "priority": null, "attachments": null}),
        json!({"title": "t", "content": "c", "priority": 3, "metadata": {"a": 1}}),
    ] {
        assert_eq!(after(nothing), None);
    }
}

#[test]
fn an_edit_is_held_to_the_limits_of_a_send() {
    let before = prepared(&business(), plain(json!({}))).unwrap();
    let now = crate::clock::now();
    let later = |ms: i64| Time::from_millis(now.millis() + ms);
    let paths = |changes: Value, scheduled_at: Option<Time>| -> Vec<String> {
        let problems = edit(changes).apply(&before, scheduled_at, now).unwrap_err();
        problems.into_iter().map(|problem| problem.path).collect()
    };
    let all = json!({
        "title": "t".repeat(TITLE_BYTES_MAX + 1), "content": "c".repeat(CONTENT_BYTES_MAX + 1),
        "priority": 0, "expire_at": later(-1), "metadata": {"a": "m".repeat(METADATA_BYTES_MAX)},
        "attachments": [{"type": "file", "url": "javascript:x"}],
        "actions": [{"type": "link", "text": "x"}],
    });
    let wrong = [
        "title",
        "content",
        "priority",
        "expire_at",
        "metadata",
        "attachments[0].url",
        "actions[0].url",
    ];
    assert_eq!(paths(all, None), wrong);
    let waits = Some(later(1_000));
    assert_eq!(paths(json!({"expire_at": later(1_000)}), waits), ["expire_at"]);
    let unseen = edit(json!({"title": "new"})).apply(&before, waits, now).unwrap().unwrap();
    assert_eq!(unseen.edited_at, None, "its readers have not seen the old one");
}
