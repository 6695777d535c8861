//! Promise 5: no user, device, service or tenant reads or changes what is another's.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Api, TestClient, TestServer, Token, api::message_to};

struct Person {
    tenant: &'static str,
    user: &'static str,
    api: Api,
    socket: TestClient,
}

#[tokio::test]
async fn promise_5_walls() {
    let server = TestServer::start().await;
    let mut people = vec![];
    for (tenant, user) in
        [("default", "ann"), ("default", "bob"), ("t2", "ann"), ("t2", "Ann"), ("T2", "ann")]
    {
        let token = Token::of(user).claim("tenant_id", tenant).device("phone");
        let socket = server.socket(user).token(token.clone()).connect().await;
        people.push(Person { tenant, user, api: server.api().bearer(&token.sign()), socket });
    }
    // Everybody sends to "ann": each reaches the one of the own tenant.
    let mut ids = BTreeMap::new();
    for person in &people {
        let text = format!("from {} of {}", person.user, person.tenant);
        let data = person.api.send(message_to(&["ann"], &text)).await.ok();
        ids.insert(text, data["message_id"].as_str().unwrap().to_owned());
    }
    for person in &mut people {
        let expected: Vec<String> = match (person.tenant, person.user) {
            ("default", "ann") => vec!["from ann of default".into(), "from bob of default".into()],
            ("t2", "ann") => vec!["from ann of t2".into(), "from Ann of t2".into()],
            ("T2", "ann") => vec!["from ann of T2".into()],
            _ => vec![],
        };
        let who = format!("{} of {}", person.user, person.tenant);
        let mut seen = vec![];
        for _ in &expected {
            seen.push(person.socket.next_message().await.fields.title);
        }
        person.socket.ping().await;
        assert_eq!(seen, expected, "the socket of {who}");
        let listed = person.api.all_messages().await;
        let listed: Vec<_> = listed.iter().map(|m| m["title"].as_str().unwrap()).collect();
        assert_eq!(listed, expected, "the list of {who}");
        // Another's message is not there, whatever is tried.
        for (text, id) in ids.iter().filter(|(text, _)| !expected.contains(text)) {
            let path = format!("/api/v3/messages/{id}");
            person.api.get(&path).await.refused(404, "not_found");
            for what in ["read", "unread", "archive"] {
                let answer = person.api.post(&format!("{path}/{what}"), json!({})).await;
                assert_eq!(answer.status, 404, "{who}: {what} of {text}");
            }
            let batch = json!({"message_ids": [id]});
            person.api.post("/api/v3/messages/read-batch", batch).await.ok();
            person.socket.read(&[id]).await;
        }
        person.socket.ping().await;
    }
    for person in &people {
        let unread = person.api.unread().await;
        assert_eq!(unread, person.api.all_messages().await.len() as u64, "{}", person.tenant);
    }
    // The plain tenant's folders and the others' lie apart.
    if server.keeps_files() {
        assert!(server.storage().join("ann").is_dir());
        assert!(server.storage().join(".tenants/t2/ann").is_dir());
    }
}
