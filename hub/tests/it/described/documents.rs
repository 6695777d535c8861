//! The documents as they are served.

use reqwest::Method;
use serde_json::Value;

use crate::support::{Api, TestServer};

const PAGE: &str = "/api/v3/docs";

/// The documents of each port.
fn all(server: &TestServer) -> Vec<(Api, &'static str, &'static str)> {
    let (user, admin) = (server.api(), server.as_admin().without_credentials());
    vec![
        (user.clone(), "/api/v3/openapi.json", "application/json"),
        (user.clone(), "/api/v3/asyncapi.json", "application/json"),
        (user, PAGE, "text/html; charset=utf-8"),
        (admin.clone(), "/api/v3/openapi.json", "application/json"),
        (admin, PAGE, "text/html; charset=utf-8"),
    ]
}

#[tokio::test]
async fn documents_are_served_to_everybody_and_not_twice() {
    let server = TestServer::start().await;
    for (api, path, media) in all(&server) {
        let first = api.get(path).await;
        assert_eq!((first.status, first.header("content-type")), (200, media), "{path}");
        let tag = first.header("etag").to_owned();
        assert!(tag.len() > 10, "{path}: {tag}");
        let again = api.clone().header("If-None-Match", &tag).get(path).await;
        assert_eq!((again.status, &again.body), (304, &Value::String(String::new())), "{path}");
        assert_eq!(again.header("etag"), tag);
        let changed = api.clone().header("If-None-Match", "\"other\"").get(path).await;
        assert_eq!(changed.status, 200, "{path}");
        // What a browser sends, and what it sends where it wants nothing else.
        let html = api.clone().header("Accept", "text/html").get(path).await;
        assert_eq!(html.status, 200, "{path}");
        let post = api.call(Method::POST, path, None).await;
        post.refused(405, "method_not_allowed");
        assert_eq!(post.header("allow"), "GET,HEAD", "{path}");
    }
}

#[tokio::test]
async fn the_ports_describe_themselves() {
    let server = TestServer::start().await;
    let paths = async |api: Api| {
        let document = api.get("/api/v3/openapi.json").await.body;
        assert_eq!(document["openapi"], "3.1.0");
        document["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let (user, admin) = (paths(server.api()).await, paths(server.as_admin()).await);
    for path in ["/api/v3/messages/send", "/api/v3/stream", "/api/v3/openapi.json"] {
        assert!(user.iter().any(|known| known == path), "{path}");
    }
    for path in ["/api/v3/admin/services", "/health/ready", "/metrics", "/api/v3/openapi.json"] {
        assert!(admin.iter().any(|known| known == path), "{path}");
    }
    assert!(!user.iter().any(|path| path.contains("/admin/")), "{user:?}");
    let socket = server.api().get("/api/v3/asyncapi.json").await.body;
    assert_eq!(socket["asyncapi"], "3.0.0");
}

#[tokio::test]
async fn the_page_loads_nothing_from_outside() {
    let server = TestServer::start().await;
    let page = server.api().get(PAGE).await;
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for part in policy.split(';').map(str::trim) {
        assert!(!part.contains("unsafe") && !part.contains('*'), "{part}");
        assert!(!part.contains("http"), "{part}");
    }
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let html = page.body.as_str().unwrap();
    for outside in ["src=", "<link", "@import", "url(", "import("] {
        assert!(!html.contains(outside), "the page has {outside}");
    }
}
