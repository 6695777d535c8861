//! Users, roles and departments through the admin port.

use serde_json::{Value, json};

use super::harness::{ADMIN_TOKEN, Api};

fn admin() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

async fn members(api: &Api, role: &str) -> Vec<String> {
    let answer = api.get(&admin(), &format!("/admin/roles/{role}/members")).await;
    let members = answer.data()["members"].as_array().unwrap();
    members.iter().map(|member| member["user_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_valid_token_makes_its_user_known() {
    let api = Api::new();
    api.get(&admin(), "/admin/users/ann").await.error(404, "not_found");
    let ann = api.user_with("ann", |request| {
        request.roles = vec!["oncall".to_owned(), "oncall".to_owned(), String::new()];
        request.department = Some("销售".to_owned());
        request.username = Some("Ann".to_owned());
        request.email = Some("ann@example.com".to_owned());
    });
    api.get("Bearer forged.token.here", "/messages").await.error(401, "unauthorized");
    api.get(&ann, "/messages").await.data();
    let shown = api.get(&admin(), "/admin/users/ann").await;
    let user = shown.data();
    assert_eq!(
        (&user["user_id"], &user["username"], &user["email"]),
        (&json!("ann"), &json!("Ann"), &json!("ann@example.com"))
    );
    assert_eq!((&user["department"], &user["department_set"]), (&json!("销售"), &json!(false)));
    assert_eq!((&user["roles"], &user["added_roles"]), (&json!(["oncall"]), &json!([])));
    assert_eq!(members(&api, "oncall").await, ["ann"]);
    assert_eq!(members(&api, "department:%E9%94%80%E5%94%AE").await, ["ann"]);
    assert_eq!(members(&api, "nobody").await, [""; 0]);
    // A chief of the admin port is a user as well.
    let chief = api.user("chief", &["system_admin"]);
    api.get(&chief, "/admin/users").await.data();
    assert_eq!(members(&api, "system_admin").await, ["chief"]);
}

#[tokio::test]
async fn admins_add_roles_and_say_departments() {
    let api = Api::new();
    let ann = api.user_with("ann", |request| {
        request.roles = vec!["oncall".to_owned()];
        request.department = Some("sales".to_owned());
    });
    api.get(&ann, "/messages").await.data();
    let put = async |path: &str, body: Value| api.put(&admin(), path, body).await;
    let roles = "/admin/users/ann/roles";
    let user = put(roles, json!({"roles": ["b", "a", "b", "oncall"]})).await;
    assert_eq!(user.data()["added_roles"], json!(["a", "b", "oncall"]));
    assert_eq!(user.data()["roles"], json!(["a", "b", "oncall"]));
    assert_eq!(members(&api, "a").await, ["ann"]);
    assert_eq!(put(roles, json!({"roles": []})).await.data()["roles"], json!(["oncall"]));
    assert_eq!(members(&api, "a").await, [""; 0]);

    let department = "/admin/users/ann/department";
    let user = put(department, json!({"department": "hr"})).await;
    assert_eq!(
        (&user.data()["department"], &user.data()["department_set"]),
        (&json!("hr"), &json!(true))
    );
    assert_eq!(members(&api, "department:hr").await, ["ann"]);
    assert_eq!(members(&api, "department:sales").await, [""; 0]);
    let user = put(department, json!({"department": null})).await;
    assert_eq!(
        (&user.data()["department"], &user.data()["department_set"]),
        (&json!("sales"), &json!(false))
    );
    // Who was never here can be given roles beforehand.
    let early = put("/admin/users/early/roles", json!({"roles": ["oncall"]})).await;
    assert_eq!(early.data()["roles"], json!(["oncall"]));
    assert_eq!(members(&api, "oncall").await, ["ann", "early"]);

    let many: Vec<String> = (0..65).map(|n| format!("r{n}")).collect();
    for (path, body, field) in [
        (roles, json!({}), "roles"),
        (roles, json!({"roles": "a"}), "roles"),
        (roles, json!({"roles": ["a", ""]}), "roles[1]"),
        (roles, json!({"roles": ["department:hr"]}), "roles[0]"),
        (roles, json!({"roles": many}), "roles"),
        (roles, json!({"role": ["a"]}), "role"),
        (department, json!({"department": ""}), "department"),
        (department, json!({"department": "d".repeat(118)}), "department"),
        (department, json!({"department": 5}), "department"),
        (department, json!({"departement": "a"}), "departement"),
    ] {
        let wrong = put(path, body.clone()).await;
        assert!(wrong.fields().contains(&field), "{body}: {}", wrong.body);
    }
    put(&format!("/admin/users/{}/roles", "x".repeat(129)), json!({"roles": []}))
        .await
        .error(404, "not_found");
}

#[tokio::test]
async fn users_are_paged_and_each_tenants_are_its_own() {
    let api = Api::new();
    for n in 0..5 {
        let user = api.user(&format!("user {n}&#?"), &[]);
        api.get(&user, "/messages").await.data();
    }
    let of_t2 = |name: &str, roles: &[&str]| {
        api.user_with(name, |request| {
            request.tenant = Some(protocol::TenantId::new("t2").unwrap());
            request.roles = roles.iter().map(|&role| role.to_owned()).collect();
        })
    };
    api.get(&of_t2("user t2", &[]), "/messages").await.data();
    let (mut seen, mut cursor) = (vec![], String::new());
    loop {
        let page = api.get(&admin(), &format!("/admin/users?size=2{cursor}")).await;
        let users = page.data()["users"].as_array().unwrap();
        seen.extend(users.iter().map(|user| user["user_id"].as_str().unwrap().to_owned()));
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..5).map(|n| format!("user {n}&#?")).collect::<Vec<_>>());
    let chief = of_t2("chief", &["system_admin"]);
    let list = async |caller: &str, query: &str| {
        let answer = api.get(caller, &format!("/admin/users{query}")).await;
        let users = answer.data()["users"].as_array().unwrap().clone();
        users.iter().map(|u| u["user_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&chief, "").await, ["chief", "user t2"]);
    assert_eq!(list(&admin(), "?tenant_id=t2").await, ["chief", "user t2"]);
    assert_eq!(list(&admin(), "?tenant_id=none").await, [""; 0]);
    for path in ["/admin/users", "/admin/users/x", "/admin/roles/x/members"] {
        let foreign = api.get(&chief, &format!("{path}?tenant_id=default")).await;
        assert_eq!(foreign.fields(), ["tenant_id"]);
    }
    // A change stays behind the wall too.
    let roles = json!({"roles": ["oncall"]});
    api.put(&chief, "/admin/users/ghost/roles", roles).await.data();
    api.get(&admin(), "/admin/users/ghost").await.error(404, "not_found");
    assert_eq!(members(&api, "oncall").await, [""; 0]);
}

#[tokio::test]
async fn an_added_system_admin_is_none_on_the_admin_port() {
    let api = Api::new();
    let ann = api.user("ann", &[]);
    let everyone = json!({"title": "t", "content": "c", "recipient_type": "all"});
    api.post(&ann, "/messages/send", everyone.clone()).await.error(403, "forbidden");
    let roles = json!({"roles": ["system_admin"]});
    api.put(&admin(), "/admin/users/ann/roles", roles).await.data();
    api.post(&ann, "/messages/send", everyone.clone()).await.data();
    api.get(&ann, "/admin/users").await.error(403, "forbidden");
    let template = json!({"id": "t", "name": "n", "category": "system", "title": "t"});
    api.post(&ann, "/messages/templates", template).await.data();
    api.put(&admin(), "/admin/users/ann/roles", json!({"roles": []})).await.data();
    api.post(&ann, "/messages/send", everyone).await.error(403, "forbidden");
}

#[tokio::test]
async fn a_tenants_system_admin_looks_after_its_services_only() {
    let api = Api::new();
    let chief = |tenant: &str| {
        api.user_with("chief", |request| {
            request.tenant = Some(protocol::TenantId::new(tenant).unwrap());
            request.roles = vec!["system_admin".to_owned()];
        })
    };
    let (ours, theirs) = (chief("t2"), chief("t3"));
    let made = api.post(&ours, "/admin/services", json!({"id": "s", "name": "s"})).await;
    assert_eq!(made.data()["tenant_id"], "t2");
    let foreign = json!({"name": "x", "tenant_id": "default"});
    api.post(&ours, "/admin/services", foreign).await.error(403, "forbidden");
    let ids = async |caller: &str| {
        let answer = api.get(caller, "/admin/services").await;
        answer.data()["total"].as_u64().unwrap()
    };
    assert_eq!((ids(&ours).await, ids(&theirs).await, ids(&admin()).await), (1, 0, 1));
    api.get(&ours, "/admin/services/s").await.data();
    for what in ["approve", "suspend", "activate", "disable", "keys"] {
        let path = format!("/admin/services/s/{what}");
        api.post(&theirs, &path, json!({})).await.error(404, "not_found");
    }
    api.get(&theirs, "/admin/services/s").await.error(404, "not_found");
    api.get(&theirs, "/admin/services/s/keys").await.error(404, "not_found");
    let key = made.data()["key"]["id"].as_str().unwrap();
    let path = format!("/admin/services/s/keys/{key}");
    api.delete(&theirs, &path).await.error(404, "not_found");
    api.delete(&ours, &path).await.data();
}
