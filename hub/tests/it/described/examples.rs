//! Every example of the description is executed, and its answer is the one that is shown.
//!
//! `UPDATE_EXAMPLES=1 cargo test -p hub --test it every_example` records the answers; the next build
//! shows them.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Map, Value, json};

use super::{
    each,
    normal::normal,
    stage::{Example, Stage, is_stream},
};
use crate::support::{
    api::Port,
    document::{Described, Documents},
};

/// What was answered, by example; none where it is no JSON.
type Answered = Map<String, Value>;

async fn execute(port: Port, operation: Described<'_>) -> (String, Answered) {
    let id = operation.id();
    let mut answered = Map::new();
    for example in operation.value["x-examples"].as_array().unwrap() {
        let name = example["name"].as_str().unwrap().to_owned();
        let mut stage = Stage::start().await;
        let example = Example(example);
        stage.prepare(&example).await;
        let by = stage.credentials(example.0["by"].as_str().unwrap()).await;
        let answer = stage.call(&operation, port, &example, &by).await;
        let status = u64::from(answer.status);
        assert_eq!(Some(status), example.0["status"].as_u64(), "{id}: {name}: {}", answer.body);
        // A login at the issuer whose second step is still to come: nobody is in.
        let half_way =
            id == "single_sign_on_exchange" && answer.body["data"]["challenge"].is_string();
        if leaves_a_trace(port, &operation) && answer.status < 300 && !half_way {
            let log = stage.server.as_admin().get("/api/v3/admin/audit?size=1").await.ok();
            let latest = &log["entries"][0];
            assert_eq!((&latest["action"], &latest["status"]), (&json!(id), &json!(status)));
        }
        let document = !answer.header("etag").is_empty();
        if !document && answer.header("content-type").starts_with("application/json") {
            answered.insert(name, normal(&answer.body, &stage.kept));
        } else {
            assert!(document || is_stream(&operation) || !answer.body.is_null(), "{id}: {name}");
        }
    }
    (id, answered)
}

/// Whether what it does must stand in the audit log: whatever changes something on the port of admins, but for the
/// first step of a login, after which nobody is in.
fn leaves_a_trace(port: Port, operation: &Described<'_>) -> bool {
    matches!(port, Port::Admin)
        && operation.method != "get"
        && !["logins_log_in", "admin_templates_preview"].contains(&operation.id().as_str())
}

#[tokio::test]
async fn every_example_is_executed() {
    let documents = Documents::learn().await;
    let user = documents.user.operations().into_iter().map(|operation| (Port::User, operation));
    let admin = documents.admin.operations().into_iter().map(|operation| (Port::Admin, operation));
    let work =
        user.chain(admin).map(|(port, operation)| (operation.id(), execute(port, operation)));
    let all: BTreeMap<String, Answered> = each(work.collect()).await.into_iter().collect();
    let executed: usize = all.values().map(Map::len).sum();
    assert!(executed > 40, "only {executed} examples");

    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        let all: BTreeMap<_, _> = all.iter().filter(|(_, answers)| !answers.is_empty()).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../delivery/src/api/doc/openapi/answers.json");
        return fs::write(path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
    for document in [&documents.user, &documents.admin] {
        for operation in document.operations() {
            let id = &operation.id();
            for example in operation.value["x-examples"].as_array().unwrap() {
                let name = example["name"].as_str().unwrap();
                let (shown, real) = (example.get("answer"), all[id].get(name));
                assert_eq!(
                    shown, real,
                    "{id}: {name}: the description shows another answer; record it with \
                     UPDATE_EXAMPLES=1"
                );
            }
        }
    }
}
