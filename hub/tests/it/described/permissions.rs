//! Every route of the description × everybody who may not call it: 401, 403 or 404, never data, and
//! nothing is changed. Then everybody who may.
//!
//! The rows are the operations, the columns are below; a new endpoint is a new row by being
//! registered.

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::{
    each,
    stage::{Example, Stage, USER},
};
use crate::support::{
    Answer, SOON, Token,
    api::Port,
    document::{Described, Documents},
    eventually_within,
    server::ADMIN_TOKEN,
    token::SECRET,
};

/// Shorter texts of what is there before may stand in any answer by chance, in bytes.
const MARKER_BYTES_MIN: usize = 9;

/// Nobody who is known: 401, whatever is asked. `good` is a token that would be.
fn strangers(good: &Token, key: &str) -> Vec<(&'static str, String)> {
    let bearer = |token: String| format!("Bearer {token}");
    let secret = key.rsplit('_').next().unwrap();
    let mut other = secret.to_owned();
    other.replace_range(..1, if secret.starts_with('a') { "b" } else { "a" });
    vec![
        ("nobody", String::new()),
        ("an unknown scheme", "Basic YW5uOmFubg==".into()),
        ("garbage", "garbage".into()),
        ("an empty bearer", "Bearer ".into()),
        ("a bearer of garbage", "Bearer a.b.c".into()),
        ("an expired token", bearer(good.clone().expires_in(-60).sign())),
        ("a token for others", bearer(good.clone().claim("aud", "another-app").sign())),
        ("a token of others", bearer(good.clone().claim("iss", "another-service").sign())),
        ("a token that is not yet", {
            let ahead = jiff::Timestamp::now().as_second() + 3600;
            bearer(good.clone().claim("nbf", ahead).sign())
        }),
        ("a forged token", {
            let header = Header::new(Algorithm::HS256);
            bearer(good.sign_with(&header, &SECRET.replace("jwt", "xyz")))
        }),
        ("an unsigned token", {
            bearer(good.with_header(&json!({"alg": "none", "typ": "JWT"}), false))
        }),
        ("a key as a token", key.replace("Service ", "Bearer ")),
        ("a token as a key", format!("Service {}", good.sign())),
        ("another secret", key.replace(secret, &other)),
        ("half a key", key[..key.len() - 1].to_owned()),
        ("no such key", "Service phk_nosuchkey000_0123456789abcdef".into()),
    ]
}

/// A caller of each kind, by the description's words.
async fn kinds(stage: &Stage) -> Vec<(&'static str, String)> {
    let level =
        |id: &'static str, level: &'static str| json!({"id": id, "name": id, "level": level});
    let partner = stage.service(level("a-partner", "third_party")).await;
    let approve = "/api/v3/admin/services/a-partner/approve";
    stage.server.as_admin().post(approve, json!({})).await.ok();
    let [reader, user, department_admin, system_admin] = user_kinds(|_| USER.to_owned());
    vec![
        reader,
        user,
        department_admin,
        system_admin,
        ("third_party", partner),
        ("business", stage.service(level("a-business", "business")).await),
        ("system", stage.service(level("a-system", "system")).await),
        ("admin", format!("Bearer {ADMIN_TOKEN}")),
    ]
}

/// The kinds that show a user's token, each of the user whom `who` says.
fn user_kinds(who: impl Fn(&str) -> String) -> [(&'static str, String); 4] {
    let with = |kind: &'static str, device: &str, claim: &str, value: &str| {
        let token = Token::of(&who(kind)).device(device).claim(claim, json!([value]));
        (kind, format!("Bearer {}", token.sign()))
    };
    let user = who("user");
    let user = if user == USER { Stage::user() } else { Token::of(&user) };
    [
        with("reader", "reader", "scope", "read"),
        ("user", format!("Bearer {}", user.sign())),
        with("department_admin", "phone", "roles", "department_admin"),
        with("system_admin", "phone", "roles", "system_admin"),
    ]
}

/// What ends logins of its caller, or of the user of examples: whoever tries it next must be somebody else.
const ENDS_LOGINS: [&str; 6] = [
    "auth_logout",
    "sessions_end_others",
    "sessions_end_of_user",
    "users_disable",
    "deletions_own",
    "deletions_of_user",
];

/// Admins who have logged in, one of each role.
async fn admins(stage: &Stage) -> Vec<(&'static str, String)> {
    let mut admins = Vec::new();
    for (kind, role) in [("viewer", "viewer"), ("operator", "operator"), ("administrator", "admin")]
    {
        let admin = stage.server.sign_in(&format!("an-{kind}"), role, None).await;
        admins.push((kind, format!("Bearer {}", admin.token)));
    }
    admins
}

/// Of kinds that may call, but with nothing there that is theirs.
async fn others(stage: &Stage, port: Port) -> Vec<(&'static str, String, &'static str)> {
    let bearer = |token: Token| format!("Bearer {}", token.sign());
    let root = || Token::of("root").claim("roles", json!(["system_admin"]));
    // The bearer of the admin token stands above tenants, and nobody else.
    if port == Port::Admin {
        let root = bearer(root().claim("tenant_id", "t2"));
        return vec![("an admin of another tenant", root, "system_admin")];
    }
    let service = |id: &'static str, level: &'static str, tenant: &'static str| {
        let service = json!({"id": id, "name": id, "level": level, "tenant_id": tenant});
        async { stage.service(service).await }
    };
    vec![
        ("another user", bearer(Token::of("mallory")), "user"),
        ("another service", service("another", "business", "default").await, "business"),
        ("the same user of another tenant", bearer(Stage::user().claim("tenant_id", "t2")), "user"),
        ("an admin of another tenant", bearer(root().claim("tenant_id", "t2")), "system_admin"),
        ("a service of another tenant", service("elsewhere", "system", "t2").await, "system"),
    ]
}

/// What is there before the example and must be seen by nobody else: ids, and texts that are long
/// enough to be told from chance.
fn markers(stage: &Stage, example: &Example<'_>) -> Vec<String> {
    fn texts(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= MARKER_BYTES_MIN => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(object) => object.values().for_each(|value| texts(value, found)),
            _ => {}
        }
    }
    let mut found: Vec<String> = stage.kept.iter().map(|(_, real)| real.clone()).collect();
    for given in example.0["given"].as_array().unwrap() {
        if let Some(body) = given["body"].as_str() {
            texts(&serde_json::from_str(body).unwrap(), &mut found);
        }
    }
    // What the request itself says may stand in its answer.
    let said = example.0["body"].as_str().unwrap_or_default();
    found.retain(|text| !said.contains(text.as_str()) && text != USER);
    found
}

fn refused(what: &str, answer: &Answer, statuses: &[u16]) {
    assert!(statuses.contains(&answer.status), "{what}: {}: {}", answer.status, answer.body);
    assert!(answer.body["data"].is_null(), "{what}: data: {}", answer.body);
    assert!(answer.body["error"]["type"].is_string(), "{what}: {}", answer.body);
}

/// Those who may call, but are not the one whose example it is.
async fn try_others(
    stage: &Stage,
    port: Port,
    operation: &Described<'_>,
    example: &Example<'_>,
) -> usize {
    let id = operation.id();
    let who = operation.value["x-who"].as_array().unwrap();
    let sees = operation.value["x-others"].as_str().unwrap();
    let markers = markers(stage, example);
    let mut tried = 0;
    for (other, credentials, kind) in others(stage, port).await {
        let tenant = other.contains("tenant");
        // Within a tenant, "same" is what is meant.
        if !who.iter().any(|word| word == kind) || (sees == "same" && !tenant) {
            continue;
        }
        let what = format!("{id}: {other}");
        let answer = stage.call(operation, port, example, &credentials).await;
        let names_a_thing = operation.path.contains('{') && !markers.is_empty();
        if sees == "refused" || (tenant && names_a_thing) {
            refused(&what, &answer, &[403, 404]);
        }
        let text = answer.body.to_string();
        for marker in &markers {
            assert!(!text.contains(marker.as_str()), "{what}: shows {marker}: {text}");
        }
        tried += 1;
    }
    tried
}

async fn row(port: Port, operation: Described<'_>) -> usize {
    let id = operation.id();
    let who = &operation.value["x-who"];
    if who == "public" {
        return 0;
    }
    let may = |kind: &str| who.as_array().unwrap().iter().any(|word| word == kind);
    let example = Example(&operation.value["x-examples"][0]);
    let by = example.0["by"].as_str().unwrap();
    let mut stage = Stage::start().await;
    stage.prepare(&example).await;
    let own = stage.credentials(by).await;
    let service = stage.credentials("service").await;
    let mut tried = 0;

    let good = if port == Port::Admin { Stage::root() } else { Stage::user() };
    let mut strangers = strangers(&good, &service);
    if port == Port::User {
        strangers.push(("the admin's token at the other port", format!("Bearer {ADMIN_TOKEN}")));
    }
    for (stranger, credentials) in &strangers {
        let answer = stage.call(&operation, port, &example, credentials).await;
        refused(&format!("{id}: {stranger}"), &answer, &[401]);
        tried += 1;
    }
    let mut kinds = kinds(&stage).await;
    if port == Port::Admin {
        kinds.extend(admins(&stage).await);
    }
    for (kind, credentials) in kinds.iter().filter(|(kind, _)| !may(kind)) {
        let answer = stage.call(&operation, port, &example, credentials).await;
        refused(&format!("{id}: {kind}"), &answer, &[401, 403, 404]);
        tried += 1;
    }
    // What is another's is refused before anything else is done. Where everybody has their own, the
    // others come later: they may.
    let theirs = operation.value["x-others"] != "refused";
    if !theirs {
        tried += try_others(&stage, port, &operation, &example).await;
    }

    // Nothing was done so far: the one it is meant for finds everything as it was.
    let answer = stage.call(&operation, port, &example, &own).await;
    let status = example.0["status"].as_u64().unwrap();
    assert_eq!(u64::from(answer.status), status, "{id}: after the others: {}", answer.body);
    let shown = &example.0["answer"];
    if let (Some(shown), Some(real)) = (shown["data"].get("changed"), answer.body.get("data")) {
        assert_eq!(shown, &real["changed"], "{id}: somebody else has done it");
    }

    if theirs {
        tried += try_others(&stage, port, &operation, &example).await;
    }

    if ENDS_LOGINS.contains(&id.as_str()) {
        let own = user_kinds(|kind| format!("a-{kind}"));
        kinds.retain(|(kind, _)| own.iter().all(|(known, _)| kind != known));
        kinds.extend(own);
    }
    // Whoever may is not refused; what is another's is not theirs.
    for (kind, credentials) in kinds.iter().filter(|(kind, _)| may(kind) && (theirs || *kind == by))
    {
        // An export or backup of a user has its place until the server has seen that it is over.
        let answer = eventually_within(&format!("{id}: {kind} is answered"), SOON, || async {
            let answer = stage.call(&operation, port, &example, credentials).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        let refused = matches!(answer.status, 401 | 403 | 500..);
        assert!(!refused, "{id}: {kind} may not: {}", answer.body);
        tried += 1;
    }
    tried
}

#[tokio::test]
async fn every_route_refuses_everybody_it_is_not_for() {
    let documents = Documents::learn().await;
    let user = documents.user.operations().into_iter().map(|operation| (Port::User, operation));
    let admin = documents.admin.operations().into_iter().map(|operation| (Port::Admin, operation));
    let work = user.chain(admin).map(|(port, operation)| (operation.id(), row(port, operation)));
    let tried: Vec<usize> = each(work.collect()).await;
    let (rows, tried) =
        (tried.iter().filter(|tried| **tried > 0).count(), tried.iter().sum::<usize>());
    println!("{rows} routes, {tried} callers");
    assert!(rows > 25 && tried > 20 * rows, "{rows} routes, {tried} callers");
}
