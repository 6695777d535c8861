//! Every route of the description × callers of another tenant: what is asked for by its id is not there or not
//! theirs, nothing of it stands in any answer, and afterwards its owner finds it as it was.
//!
//! [`super::permissions`] tries who may not call at all; here are those who may, and ask for what is behind
//! another wall. A new endpoint is a new row by being registered.

use serde_json::{Value, json};

use super::{
    each,
    stage::{Example, Stage, USER},
};
use crate::support::{
    Token,
    api::Port,
    document::{Described, Documents},
};

/// Where the id in the path is a name that each tenant has for itself, so that the same request is about
/// somebody or something of the caller's own: it may be answered, without anything that is the other's.
const NAMES: [(&str, &str); 7] = [
    ("identities_add", "a provider's name; the login that is added is the caller's"),
    ("users_role_members", "a role's name; who carries it in the caller's tenant"),
    (
        "users_set_roles",
        "a user's id, which is somebody of the caller's tenant, made where there is none",
    ),
    ("users_set_department", "the same"),
    ("users_disable", "the same"),
    ("users_enable", "the same"),
    ("deletions_of_user", "the same: of the caller's tenant there was nobody"),
];

/// What is one for all tenants, so that its owner does not find it as it was, and why nothing of the owner's is
/// told or taken by that.
const ONE_FOR_ALL: [(&str, &str); 4] = [
    (
        "services_create",
        "ids of services, which keys begin with: the neighbour has registered its own first",
    ),
    ("admins_create", "usernames of admins, who log in without naming a tenant: as above"),
    (
        "identities_add",
        "a code of a login is a secret that works once, and the neighbour was shown it by the test",
    ),
    (
        "oneself_confirm",
        "a challenge is a secret that works once, and the neighbour was shown it by the test",
    ),
];

/// Shorter texts may stand in any answer by chance, in bytes.
const MARKER_BYTES_MIN: usize = 9;

/// Those of another tenant, as far as they come in at the port at all.
async fn neighbours(stage: &Stage, port: Port) -> Vec<(&'static str, String)> {
    let bearer =
        |token: &Token| format!("Bearer {}", token.clone().claim("tenant_id", "t2").sign());
    if port == Port::Admin {
        let admin = stage.server.sign_in("neighbour", "admin", Some("t2")).await;
        let root = Token::of("root").claim("roles", json!(["system_admin"]));
        return vec![
            ("an admin of another tenant", format!("Bearer {}", admin.token)),
            ("a user who is another tenant's admin", bearer(&root)),
        ];
    }
    let service = json!({"id": "neighbour", "name": "neighbour", "level": "system",
        "permissions": ["on_behalf_of"], "tenant_id": "t2"});
    let root = Token::of(USER).claim("roles", json!(["system_admin"]));
    vec![
        ("the same user of another tenant", bearer(&Token::of(USER).device("device-789"))),
        ("another tenant's admin of the same name", bearer(&root)),
        ("a service of another tenant", stage.service(service).await),
    ]
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= MARKER_BYTES_MIN => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(object) => object.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// What was there before the example: ids, and texts that are long enough to be told from chance, but for those
/// that the request says itself.
fn markers(stage: &Stage, example: &Example<'_>, path: &str) -> Vec<String> {
    let mut found: Vec<String> = stage.kept.iter().map(|(_, real)| real.clone()).collect();
    for given in example.0["given"].as_array().unwrap() {
        if let Some(body) = given["body"].as_str() {
            texts(&serde_json::from_str(body).unwrap(), &mut found);
        }
    }
    let said = stage.body(example).unwrap_or_default().to_string();
    found.retain(|text| {
        !said.contains(text.as_str()) && !path.contains(text.as_str()) && text != USER
    });
    found
}

fn reason(table: &[(&str, &str)], id: &str) -> bool {
    table.iter().any(|(known, _)| *known == id)
}

/// How many were tried, and what is wrong.
async fn row(port: Port, operation: Described<'_>) -> (usize, Vec<String>) {
    let id = operation.id();
    if operation.value["x-who"] == "public" {
        return (0, vec![]);
    }
    let examples = operation.value["x-examples"].as_array().unwrap();
    let good = || examples.iter().filter(|example| example["status"] == 200);
    // Rather one before which something was made: that is what there is to see.
    let made =
        good().find(|example| example["given"].as_array().is_some_and(|all| !all.is_empty()));
    let Some(example) = made.or_else(|| good().next()) else {
        return (0, vec![format!("{id}: no example of it goes well")]);
    };
    let example = Example(example);
    let mut stage = Stage::start().await;
    stage.prepare(&example).await;
    let own = stage.credentials(example.0["by"].as_str().unwrap()).await;
    let path = stage.path(&operation, &example);
    let markers = markers(&stage, &example, &path);
    let (mut tried, mut wrong) = (0, vec![]);
    for (who, credentials) in neighbours(&stage, port).await {
        let answer = stage.call(&operation, port, &example, &credentials).await;
        let text = answer.body.to_string();
        let is_refused = matches!(answer.status, 401 | 403 | 404);
        if operation.path.contains('{') && !is_refused && !reason(&NAMES, &id) {
            wrong.push(format!("{id}: {who}: {}: {text}", answer.status));
        }
        let shown = markers.iter().filter(|marker| text.contains(marker.as_str()));
        wrong.extend(shown.map(|marker| format!("{id}: {who}: shows {marker}: {text}")));
        tried += 1;
    }
    if port == Port::Admin {
        let (more, said) = name_the_other(&stage, &operation, &example).await;
        tried += more;
        wrong.extend(said);
    }
    let answer = stage.call(&operation, port, &example, &own).await;
    if answer.status != 200 && !reason(&ONE_FOR_ALL, &id) {
        wrong.push(format!("{id}: its owner, afterwards: {}: {}", answer.status, answer.body));
    }
    (tried, wrong)
}

/// The same, naming the other's tenant in query or body wherever one can be named: it must be one's own.
async fn name_the_other(
    stage: &Stage,
    operation: &Described<'_>,
    example: &Example<'_>,
) -> (usize, Vec<String>) {
    let id = operation.id();
    let root = Token::of("root").claim("roles", json!(["system_admin"])).claim("tenant_id", "t2");
    let api = stage.api("/api/v3/admin", &format!("Bearer {}", root.sign()));
    let method = operation.method.to_ascii_uppercase().parse().unwrap();
    let parameters = operation.value["parameters"].as_array();
    let in_query = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "tenant_id"));
    let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
    let in_body = !schema["properties"]["tenant_id"].is_null();
    let path = stage.path(operation, example);
    let (mut path, mut body) = (path, stage.body(example));
    if in_query {
        let bare = path.split('?').next().unwrap().to_owned();
        path = format!("{bare}?tenant_id=default");
    } else if in_body {
        body.get_or_insert_with(|| json!({}))["tenant_id"] = json!("default");
    } else {
        return (0, vec![]);
    }
    let answer = api.call(method, &path, body).await;
    if matches!(answer.status, 403 | 404 | 422) {
        return (1, vec![]);
    }
    (1, vec![format!("{id}: names another tenant: {}: {}", answer.status, answer.body)])
}

#[tokio::test]
async fn nothing_of_another_tenant_is_read_or_changed_by_any_route() {
    let documents = Documents::learn().await;
    let user = documents.user.operations().into_iter().map(|operation| (Port::User, operation));
    let admin = documents.admin.operations().into_iter().map(|operation| (Port::Admin, operation));
    let all: Vec<_> = user.chain(admin).collect();
    // What is said of a route that is not there any more is said of nothing.
    for (known, _) in NAMES.iter().chain(&ONE_FOR_ALL) {
        assert!(all.iter().any(|(_, operation)| operation.id() == *known), "{known} is no route");
    }
    let work = all.into_iter().map(|(port, operation)| (operation.id(), row(port, operation)));
    let rows: Vec<(usize, Vec<String>)> = each(work.collect()).await;
    let wrong: Vec<String> = rows.iter().flat_map(|(_, wrong)| wrong.clone()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let tried: usize = rows.iter().map(|(tried, _)| tried).sum();
    println!("{} routes, {tried} callers", rows.len());
    assert!(tried > 200, "{tried} callers");
}
