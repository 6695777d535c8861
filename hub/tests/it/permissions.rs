//! Who may do what (seed 003 §4.3, §4.8; contract §4, §11): every route of channels, users and tenants
//! against everybody who might try.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestServer, Token};

const USER_ROUTES: [(Method, &str); 10] = [
    (Method::GET, "/api/v3/channels"),
    (Method::POST, "/api/v3/channels"),
    (Method::GET, "/api/v3/channels/secret"),
    (Method::PUT, "/api/v3/channels/secret"),
    (Method::DELETE, "/api/v3/channels/secret"),
    (Method::GET, "/api/v3/channels/secret/messages"),
    (Method::GET, "/api/v3/channels/secret/members"),
    (Method::POST, "/api/v3/channels/secret/members"),
    (Method::POST, "/api/v3/channels/secret/join"),
    (Method::POST, "/api/v3/channels/secret/leave"),
];

const ADMIN_ROUTES: [(Method, &str); 15] = [
    (Method::GET, "/api/v3/admin/users"),
    (Method::GET, "/api/v3/admin/users/insider"),
    (Method::PUT, "/api/v3/admin/users/insider/roles"),
    (Method::PUT, "/api/v3/admin/users/insider/department"),
    (Method::GET, "/api/v3/admin/roles/oncall/members"),
    (Method::GET, "/api/v3/admin/channels"),
    (Method::POST, "/api/v3/admin/channels"),
    (Method::GET, "/api/v3/admin/channels/secret"),
    (Method::PUT, "/api/v3/admin/channels/secret"),
    (Method::DELETE, "/api/v3/admin/channels/secret"),
    (Method::GET, "/api/v3/admin/channels/secret/members"),
    (Method::POST, "/api/v3/admin/channels/secret/members"),
    (Method::GET, "/api/v3/admin/tenants"),
    (Method::GET, "/api/v3/admin/tenants/default"),
    (Method::PUT, "/api/v3/admin/tenants/default"),
];

/// A body that every route of its method would take.
fn body(method: &Method, path: &str) -> Option<Value> {
    if method == Method::GET || method == Method::DELETE {
        return None;
    }
    Some(match path.rsplit('/').next().unwrap() {
        "members" => json!({"join": ["intruder"]}),
        "join" | "leave" => json!({}),
        "roles" => json!({"roles": ["intruder"]}),
        "department" => json!({"department": "intruders"}),
        "default" => json!({"quotas": {}}),
        "channels" => json!({"id": "intruder", "name": "intruder"}),
        _ => json!({"name": "intruder"}),
    })
}

/// Everything there is to steal.
async fn secret(server: &TestServer) -> Api {
    let owner = server.service().await;
    owner.post("/api/v3/channels", json!({"id": "secret", "name": "SECRET-NAME"})).await.ok();
    let members = json!({"join": ["insider"]});
    owner.post("/api/v3/channels/secret/members", members).await.ok();
    let message = json!({"title": "SECRET-TITLE", "content": "c", "recipients": ["secret"]});
    owner.send(message).await.ok();
    owner
}

async fn try_all(
    routes: &[(Method, &str)],
    who: &str,
    api: &Api,
    allowed: &[u16],
    not_asked: &[&str],
) {
    for (method, path) in routes {
        if not_asked.contains(&format!("{method} {path}").as_str()) {
            continue;
        }
        let answer = api.call(method.clone(), path, body(method, path)).await;
        let said = answer.body.to_string();
        assert!(allowed.contains(&answer.status), "{who}: {method} {path}: {said}");
        assert!(!said.contains("SECRET"), "{who}: {method} {path}: {said}");
        assert!(answer.body["data"].is_null(), "{who}: {method} {path}: {said}");
    }
}

#[tokio::test]
async fn nobody_gets_anything() {
    let server = TestServer::start().await;
    secret(&server).await;
    let at = |token: String| (server.api().bearer(&token), server.as_admin().bearer(&token));
    let suspended = json!({"id": "gone", "name": "gone", "level": "system"});
    let key = server.create_service(suspended).await.ok()["api_key"].clone();
    server.as_admin().post("/api/v3/admin/services/gone/suspend", json!({})).await.ok();
    let key = key.as_str().unwrap();
    for (who, (user, admin), allowed) in [
        ("nobody", (server.api(), server.as_admin().authorization("")), &[401][..]),
        ("expired", at(Token::of("insider").expires_in(-60).sign()), &[401]),
        ("wrong audience", at(Token::of("insider").claim("aud", "x").sign()), &[401]),
        (
            "bad key",
            {
                let bad = "phk_x_y";
                (server.api().service_key(bad), server.as_admin().service_key(bad))
            },
            &[401],
        ),
        ("suspended", (server.api().service_key(key), server.as_admin().service_key(key)), &[403]),
    ] {
        try_all(&USER_ROUTES, who, &user, allowed, &[]).await;
        try_all(&ADMIN_ROUTES, who, &admin, allowed, &[]).await;
    }
}

#[tokio::test]
async fn others_get_nothing_of_it() {
    let server = TestServer::start().await;
    let owner = secret(&server).await;
    let list = ["GET /api/v3/channels"];
    let may_list = ["GET /api/v3/channels", "POST /api/v3/channels"];
    let tenant =
        |roles: Value| Token::of("insider").claim("tenant_id", "t2").claim("roles", roles).sign();
    let user = |token: &str| server.api().bearer(token);
    // Another user, and the same one of another tenant.
    try_all(&USER_ROUTES, "other user", &server.as_user("eve"), &[403, 404], &list).await;
    try_all(&USER_ROUTES, "other tenant", &user(&tenant(json!([]))), &[403, 404], &list).await;
    let chief = tenant(json!(["system_admin"]));
    try_all(&USER_ROUTES, "other chief", &user(&chief), &[403, 404], &may_list).await;
    let head = Token::of("eve").claim("roles", json!(["department_admin"])).sign();
    try_all(&USER_ROUTES, "department admin", &user(&head), &[403, 404], &list).await;
    // Services: a third party, one whose scope is elsewhere, and one of another tenant.
    let service = async |change: Value| {
        let mut new = json!({"name": "s", "level": "business"});
        new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let made = server.create_service(new).await.ok();
        let id = made["id"].as_str().unwrap().to_owned();
        server
            .as_admin()
            .post(&format!("/api/v3/admin/services/{id}/approve"), json!({}))
            .await
            .ok();
        server.api().service_key(made["api_key"].as_str().unwrap())
    };
    let partner = service(json!({"level": "third_party"})).await;
    try_all(&USER_ROUTES, "third party", &partner, &[403, 404], &list).await;
    let scoped = service(json!({"scope": {"channels": ["elsewhere"]}})).await;
    try_all(&USER_ROUTES, "out of scope", &scoped, &[403, 404], &list).await;
    let foreign = service(json!({"tenant_id": "t2"})).await;
    try_all(&USER_ROUTES, "foreign service", &foreign, &[403, 404], &may_list).await;
    for (who, api) in [
        ("eve", server.as_user("eve")),
        ("third party", partner),
        ("out of scope", scoped),
        ("foreign service", foreign),
        ("other chief", user(&chief)),
    ] {
        let list = api.get("/api/v3/channels").await.ok();
        assert!(!list.to_string().contains("SECRET"), "{who}: {list}");
    }
    // The admin port: no user without the role, no service, and no admin of another tenant.
    let admin = |token: &str| server.as_admin().bearer(token);
    let eve = Token::of("eve").claim("roles", json!(["admin", "department_admin"])).sign();
    try_all(&ADMIN_ROUTES, "user", &admin(&eve), &[403], &[]).await;
    let key = owner.credentials().strip_prefix("Service ").unwrap();
    let service = server.as_admin().service_key(key);
    try_all(&ADMIN_ROUTES, "service", &service, &[403], &[]).await;
    let own = [
        "GET /api/v3/admin/users",
        "PUT /api/v3/admin/users/insider/roles",
        "PUT /api/v3/admin/users/insider/department",
        "GET /api/v3/admin/roles/oncall/members",
        "GET /api/v3/admin/channels",
        "POST /api/v3/admin/channels",
        "GET /api/v3/admin/tenants",
    ];
    // Its own user of that name is known to it, because the token was shown.
    let own_user = [&own[..], &["GET /api/v3/admin/users/insider"]].concat();
    try_all(&ADMIN_ROUTES, "foreign chief", &admin(&chief), &[403, 404], &own_user).await;
    for path in ["users", "channels", "tenants", "roles/oncall/members"] {
        let list = admin(&chief).get(&format!("/api/v3/admin/{path}")).await.ok();
        assert!(!list.to_string().contains("SECRET"), "{list}");
    }

    // Nothing was changed by all that.
    let channel = owner.get("/api/v3/channels/secret").await.ok();
    assert_eq!(
        (&channel["name"], &channel["members"], &channel["version"]),
        (&json!("SECRET-NAME"), &json!(1), &json!(1))
    );
    let insider = server.as_user("insider");
    assert_eq!(insider.get("/api/v3/channels/secret/messages").await.ok()["total"], 1);
}

#[tokio::test]
async fn an_added_role_counts_at_once_and_not_on_the_admin_port() {
    let server = TestServer::start().await;
    let token = Token::of("ann").claim("department", "hr").sign();
    let ann = server.api().bearer(&token);
    let mut bob =
        server.socket("bob").token(Token::of("bob").claim("department", "hr")).connect().await;
    let to = |name: &str| json!({"title": "t", "content": "c", "recipients": [name], "recipient_type": "role"});
    ann.send(to("department:hr")).await.refused(403, "forbidden");
    let roles = async |roles: Value| {
        let body = json!({"roles": roles});
        server.as_admin().put("/api/v3/admin/users/ann/roles", body).await.ok();
    };
    roles(json!(["department_admin"])).await;
    assert_eq!(ann.send(to("department:hr")).await.ok()["recipients"], 2);
    assert_eq!(bob.next_message().await.fields.sender, "ann");
    ann.send(to("department:sales")).await.refused(403, "forbidden");
    roles(json!(["system_admin"])).await;
    let everyone = json!({"title": "t", "content": "c", "recipient_type": "all"});
    ann.send(everyone.clone()).await.ok();
    bob.next_message().await;
    server.as_admin().bearer(&token).get("/api/v3/admin/users").await.refused(403, "forbidden");
    roles(json!([])).await;
    ann.send(everyone).await.refused(403, "forbidden");
    ann.send(to("department:hr")).await.refused(403, "forbidden");
}
