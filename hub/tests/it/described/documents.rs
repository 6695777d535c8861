//! The documents as they are served.

use reqwest::Method;
use serde_json::Value;

use crate::support::{Api, SOON, TestServer, eventually_within};

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

/// A browser that does not outlive its test.
struct Browser(std::process::Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The page's elements once its script has run, by a real browser.
async fn rendered(url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("dom.html");
    let mut browser = Browser(
        std::process::Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            // A page that asks another host for something fails at once, and would show it.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(["--virtual-time-budget=10000", "--dump-dom", url])
            .stdin(std::process::Stdio::null())
            .stdout(std::fs::File::create(&output).unwrap())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("chromium: scripts/tools.sh installs it"),
    );
    let ended = eventually_within("the browser is done", SOON * 4, || {
        let ended = browser.0.try_wait().unwrap();
        async move { ended }
    })
    .await;
    assert!(ended.success(), "{ended}");
    std::fs::read_to_string(&output).unwrap()
}

#[tokio::test]
async fn the_page_shows_every_endpoint_in_a_browser() {
    let server = TestServer::start().await;
    let document = server.api().get("/api/v3/openapi.json").await.body;
    // The fragment opens one, which is filled when it is opened.
    let page = rendered(&format!("http://{}{PAGE}#sends_send", server.user)).await;
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.contains(&format!(r#"id="{id}""#)), "{id} is not shown");
        }
    }
    for shown in ["curl -sS", "项目计划.pdf", "Try it", "server_welcome", "on_behalf_of"] {
        assert!(page.contains(shown), "{shown} is not shown");
    }
    let page = rendered(&format!("http://{}{PAGE}", server.admin)).await;
    assert!(page.contains(r#"id="services_create""#) && page.contains(r#"id="health_ready""#));
}
