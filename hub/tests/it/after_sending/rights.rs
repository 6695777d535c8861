//! Who may change, take back and look after what.

use reqwest::Method;
use serde_json::json;

use super::{path, receipts, send, with_buttons};
use crate::support::{Api, TestServer, Token, api::message_to};

#[tokio::test]
async fn who_may_change_and_take_back() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "secret").await;
    let chief =
        server.api().bearer(&Token::of("chief").claim("roles", json!(["system_admin"])).sign());
    let elsewhere = Token::of("chief").claim("roles", json!(["system_admin"]));
    let elsewhere = server.api().bearer(&elsewhere.claim("tenant_id", "acme").sign());
    for stranger in
        [server.as_user("ann"), server.as_user("eve"), server.service().await, elsewhere]
    {
        let unknown = "msg-unknown";
        for id in [&*id, unknown] {
            stranger.put(&path(id, ""), json!({"title": "x"})).await.refused(404, "not_found");
            stranger.post(&path(id, "/recall"), json!({})).await.refused(404, "not_found");
            stranger.post(&path(id, "/cancel"), json!({})).await.refused(404, "not_found");
            stranger.get(&path(id, "/receipts")).await.refused(404, "not_found");
        }
    }
    let reader = Token::of("ann").claim("scope", json!(["read"]));
    let reader = server.api().bearer(&reader.sign());
    reader.put(&path(&id, ""), json!({"title": "x"})).await.refused(403, "forbidden");
    reader.post(&path(&id, "/recall"), json!({})).await.refused(403, "forbidden");

    let title = |title: &str| json!({"title": title});
    chief.put(&path(&id, ""), title("by the chief")).await.ok();
    let admin = server.as_admin();
    let at_admins = format!("/api/v3/admin/messages/{id}");
    let edited = admin.put(&at_admins, title("by the admin")).await.ok();
    assert_eq!(edited["message"]["title"], "by the admin");
    let foreign = format!("{at_admins}?tenant_id=acme");
    admin.put(&foreign, title("x")).await.refused(404, "not_found");
    let seen = admin.get(&format!("{at_admins}/receipts")).await.ok();
    assert_eq!(seen["receipts"][0]["user_id"], "ann");
    let answer = admin.post(&format!("{at_admins}/recall"), json!({})).await.ok();
    assert_eq!(answer, json!({"message_id": id, "state": "recalled"}));
    assert_eq!(server.as_user("ann").all_messages().await.len(), 0);

    // A user is the sender of what they sent, and a service of what it sent for one.
    let bob = server.as_user("bob");
    let own = bob.sent("ann", "hi").await;
    bob.put(&path(&own, ""), title("hello")).await.ok();
    assert_eq!(receipts(&bob, &own).await["receipts"][0]["user_id"], "ann");
    let mut behalf = message_to(&["ann"], "for bob");
    behalf["on_behalf_of"] = json!("bob");
    let behalf = send(&service, behalf).await;
    bob.put(&path(&behalf, ""), title("x")).await.refused(404, "not_found");
    service.put(&path(&behalf, ""), title("of bob")).await.ok();
}

/// Every route of this file and of statistics and maintenance, on both ports, against whoever is
/// nobody or known and not meant.
#[tokio::test]
async fn every_route_asks_who_is_there() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = send(&service, with_buttons("ann")).await;
    let expired = Token::of("ann").expires_in(-60).sign();
    let audience = Token::of("ann").claim("aud", "another-app").sign();
    let key = service.credentials().strip_prefix("Service ").unwrap().to_owned();
    let change = || Some(json!({"title": "x"}));
    let of = |prefix: &str| {
        let one = format!("/api/v3/{prefix}messages/{id}");
        vec![
            (Method::PUT, one.clone(), change()),
            (Method::POST, format!("{one}/recall"), None),
            (Method::POST, format!("{one}/cancel"), None),
            (Method::GET, format!("{one}/receipts"), None),
        ]
    };
    let mut of_users = of("");
    of_users.push((Method::POST, path(&id, "/actions/0"), None));
    of_users.push((Method::GET, "/api/v3/stats".to_owned(), None));
    let mut of_admins = of("admin/");
    of_admins.push((Method::GET, "/api/v3/admin/stats".to_owned(), None));
    of_admins.push((Method::POST, "/api/v3/admin/maintenance/prune".to_owned(), None));
    let admin = server.as_admin();
    for (api, routes) in [(server.api(), of_users), (admin.clone().authorization(""), of_admins)] {
        let strangers = [
            api.clone().authorization(""),
            api.clone().bearer(&expired),
            api.clone().bearer(&audience),
            api.clone().bearer(&key),
            api.clone().service_key(&key[..key.len() - 1]),
        ];
        for (method, path, body) in &routes {
            for stranger in &strangers {
                let answer = stranger.call(method.clone(), path, body.clone()).await;
                answer.refused(401, "unauthorized");
            }
            if path.contains("/admin/") {
                for known in
                    [api.clone().bearer(&Token::of("ann").sign()), api.clone().service_key(&key)]
                {
                    let answer = known.call(method.clone(), path, body.clone()).await;
                    answer.refused(403, "forbidden");
                }
            }
        }
    }
    let suspend = format!("/api/v3/admin/services/{}/suspend", service_id(&admin).await);
    admin.call(Method::POST, &suspend, None).await.ok();
    service.post(&path(&id, "/recall"), json!({})).await.refused(403, "forbidden");
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!((&message["title"], &message["version"]), (&json!("approve?"), &json!(1)));
}

/// The only service that a test made; the first start makes one too.
async fn service_id(admin: &Api) -> String {
    let services = admin.get("/api/v3/admin/services").await.ok();
    let mut ids =
        services["services"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap());
    ids.find(|id| id.starts_with("svc-")).unwrap().to_owned()
}
