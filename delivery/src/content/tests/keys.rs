use serde_json::json;

use super::*;

const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_A: &str = "a:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "b:AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn keys(parts: &[&str]) -> ContentKeys {
    ContentKeys::parse(&parts.join(",")).unwrap()
}

fn message(id: &str) -> Arc<Body> {
    let fields: MessageFields = serde_json::from_value(json!({
        "id": id, "channel_id": "room", "title": "canary", "content": "canary", "message_type": "text",
        "priority": 5, "sender": "u1", "created_at": "2025-01-15T10:30:00Z", "expire_at": null,
        "collapse_key": "k", "metadata": {"order": "canary"},
        "attachments": [{"type": "file", "name": "canary", "url": "canary"}],
        "actions": [{"type": "button", "text": "canary", "url": "canary", "action": "ok"}],
    }))
    .unwrap();
    Arc::new(Body::new(&fields))
}

fn tenant() -> TenantId {
    "t".parse().unwrap()
}

/// As it comes back from a store.
fn stored(body: &Body) -> Arc<Body> {
    Arc::new(Body::from_stored(body.id().clone(), body.expire_at(), &body.json()))
}

#[test]
fn what_is_sealed_says_nothing_and_comes_back_as_it_was() {
    let keys = keys(&[A]);
    let body = message("m1");
    let sealed = keys.seal(&tenant(), &body).unwrap();
    let text = String::from_utf8(sealed.json()).unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(ContentKeys::id_of(&sealed), "a");
    assert_ne!(text, String::from_utf8(keys.seal(&tenant(), &body).unwrap().json()).unwrap());
    let back = stored(&sealed);
    assert!(back.readable().is_none());
    assert_eq!(back.facts(), body.facts(), "what a store looks at is there");
    assert_eq!(back.fields().unwrap().actions[0].action, "ok");
    assert!(keys.open(&tenant(), &back).unwrap().says_as(&body));
    assert!(Arc::ptr_eq(&keys.open(&tenant(), &sealed).unwrap(), &body), "it need not be opened");
}

#[test]
fn only_the_right_key_message_and_tenant_open_it() {
    let sealed = stored(&keys(&[A]).seal(&tenant(), &message("m1")).unwrap());
    let refused = |keys: &ContentKeys, tenant: &TenantId, body: &Arc<Body>| {
        keys.open(tenant, body).unwrap_err()
    };
    let (key, id) = ("a".to_owned(), sealed.id().clone());
    assert_eq!(
        refused(&keys(&[B]), &tenant(), &sealed),
        ContentError::Missing { key: key.clone(), message: id.clone() }
    );
    assert_eq!(
        refused(&ContentKeys::default(), &tenant(), &sealed),
        ContentError::Missing { key: key.clone(), message: id.clone() }
    );
    let not_opened = ContentError::Refused { key, message: id };
    assert_eq!(refused(&keys(&[OTHER_A]), &tenant(), &sealed), not_opened);
    assert_eq!(refused(&keys(&[A]), &"other".parse().unwrap(), &sealed), not_opened);
    let moved = Arc::new(Body::from_stored("m2".parse().unwrap(), None, &sealed.json()));
    assert!(matches!(refused(&keys(&[A]), &tenant(), &moved), ContentError::Refused { .. }));
    // Each character of the sealed text matters; the rest is not what is read.
    let json = sealed.json();
    let begin = br#"{"sealed":"a."#.len();
    for at in (begin..begin + sealed.sealed().unwrap().len() - 2).step_by(7) {
        let mut bent = json.clone();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        let bent = Arc::new(Body::from_stored(sealed.id().clone(), None, &bent));
        assert_eq!(refused(&keys(&[A]), &tenant(), &bent), not_opened, "{at}");
    }
}

#[test]
fn the_first_writes_and_all_read() {
    let old = stored(&keys(&[A]).seal(&tenant(), &message("m1")).unwrap());
    let both = keys(&[B, A]);
    assert_eq!(ContentKeys::id_of(&both.seal(&tenant(), &message("m2")).unwrap()), "b");
    assert!(both.open(&tenant(), &old).unwrap().says_as(&message("m1")));
    let off = keys(&[PLAIN, A]);
    assert!(!off.seal_anything());
    assert_eq!((off.writing_id(), both.writing_id()), (PLAIN, "b"));
    let plain = off.seal(&tenant(), &message("m3")).unwrap();
    assert_eq!((plain.sealed(), ContentKeys::id_of(&plain)), (None, PLAIN));
    assert!(off.open(&tenant(), &old).unwrap().says_as(&message("m1")));
}

#[test]
fn keys_are_told_from_anything_else() {
    for text in [
        "",
        "plain",
        "a",
        "a:",
        "a:AAAA",
        ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "a.b:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "plain:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        &format!("{A},{A}"),
        &format!("{A},plain"),
    ] {
        assert!(ContentKeys::parse(text).is_err(), "{text}");
    }
    let lines = format!("{A}\n{B}\n");
    let parsed = ContentKeys::parse(&lines).unwrap();
    assert_eq!(parsed.ids().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!format!("{parsed:?}").contains("AAAA"), "keys are not shown");
}

#[test]
fn one_that_waited_says_when_it_was_sent() {
    let (keys, body) = (keys(&[A]), message("m1"));
    let sealed = stored(&keys.seal(&tenant(), &body).unwrap());
    let (first, second) =
        (Time::from_millis(1_800_000_000_000), Time::from_millis(1_900_000_000_000));
    let sent = stored(&sealed.sent_at(first).unwrap().sent_at(second).unwrap());
    assert_eq!(sent.facts().created_at, Some(second));
    let opened = keys.open(&tenant(), &sent).unwrap();
    assert!(opened.says_as(&body.sent_at(second).unwrap()), "and all else as it was");
    assert!(!body.says_as(&opened));
}
