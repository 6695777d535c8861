//! What must not work: states, codes and addresses that are not one's own.

use serde_json::json;

use super::{ALL, Site, apps::to_app, failed};
use crate::support::providers::{APP, NATIVE_APP};

#[tokio::test]
async fn a_state_works_once() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let begun = browser.begin("github", "").await;
    let back = browser.sign_in(&begun.auth_url).await;
    browser.get(&back).await.ok();
    browser.get(&back).await.refused(401, "unauthorized");
    // Nor with a new code of the provider.
    let again = browser.sign_in(&begun.auth_url).await;
    assert_ne!(again, back);
    browser.get(&again).await.refused(401, "unauthorized");
    assert_eq!(site.sessions().await, 1);
}

#[tokio::test]
async fn a_state_belongs_to_its_browser() {
    let site = Site::start().await;
    for provider in ALL {
        // A victim is led to where the attacker's login comes back, with the attacker's code …
        let (mut attacker, mut victim) = (site.browser(), site.browser());
        let of_attacker = attacker.begin(provider, "").await;
        victim.begin(provider, "").await;
        let back = attacker.sign_in(&of_attacker.auth_url).await;
        victim.get(&back).await.refused(401, "unauthorized");
        // … after which it is over for the attacker as well.
        attacker.get(&back).await.refused(401, "unauthorized");
        // Two browsers that change states get nothing.
        let (a, b) = (attacker.begin(provider, "").await, victim.begin(provider, "").await);
        let back_a = attacker.sign_in(&a.auth_url).await.replace(&a.state, &b.state);
        let back_b = victim.sign_in(&b.auth_url).await.replace(&b.state, &a.state);
        attacker.get(&back_a).await.refused(401, "unauthorized");
        victim.get(&back_b).await.refused(401, "unauthorized");
        // A browser without cookies, and one with others.
        let begun = attacker.begin(provider, "").await;
        let back = attacker.sign_in(&begun.auth_url).await;
        site.browser().get(&back).await.refused(401, "unauthorized");
        let begun = attacker.begin(provider, "").await;
        let back = attacker.sign_in(&begun.auth_url).await;
        let cookies = vec![("pushhub_login".to_owned(), "A".repeat(43))];
        site.browser().with_cookies(cookies).get(&back).await.refused(401, "unauthorized");
    }
    site.nothing_was_made().await;
}

#[tokio::test]
async fn a_state_belongs_to_its_provider() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let begun = browser.begin("github", "").await;
    let back = browser.sign_in(&begun.auth_url).await;
    browser.get(&back.replace("/github/", "/google/")).await.refused(401, "unauthorized");
    browser.get(&back).await.refused(401, "unauthorized");
    site.nothing_was_made().await;
}

#[tokio::test]
async fn states_that_were_never_given_are_refused() {
    let site = Site::start().await;
    let mut browser = site.browser();
    browser.begin("github", "").await;
    let long = "x".repeat(5_000);
    for query in [
        "",
        "code=1",
        "state=",
        "code=1&state=none",
        "code=1&state=%00",
        "code=1&state=%ff",
        "code=1&state=a&state=b",
        "error=access_denied",
        "error=access_denied&state=none",
        &format!("code=1&state={long}"),
    ] {
        let answer = browser.get(&format!("/api/v3/auth/github/callback?{query}")).await;
        answer.refused(401, "unauthorized");
    }
    browser.get("/api/v3/auth/nobody/callback?code=1&state=a").await.refused(404, "not_found");
    browser.get("/api/v3/auth/nobody/login").await.refused(404, "not_found");
    assert_eq!(site.fakes.calls("github/login/oauth/access_token"), 0, "nobody was asked");
}

#[tokio::test]
async fn a_code_of_the_provider_works_once() {
    let site = Site::start().await;
    for provider in ALL {
        let mut victim = site.browser();
        let begun = victim.begin(provider, "").await;
        let back = victim.sign_in(&begun.auth_url).await;
        let name = if provider == "dingtalk" { "authCode=" } else { "code=" };
        let code = |back: &str| {
            let (_, rest) = back.split_once(name).unwrap();
            rest.split('&').next().unwrap().to_owned()
        };
        let stolen = code(&back);
        victim.get(&back).await.ok();
        // Somebody has seen it, and puts it into a login of their own.
        let mut thief = site.browser();
        let begun = thief.begin(provider, "").await;
        let back = thief.sign_in(&begun.auth_url).await;
        let bent = back.replace(&code(&back), &stolen);
        thief.get(&bent).await.refused(401, "unauthorized");
    }
    assert_eq!(site.sessions().await, ALL.len());
}

#[tokio::test]
async fn a_stolen_code_that_was_not_used_is_bound_to_its_login() {
    let site = Site::start().await;
    // By PKCE and, where there is one, by the nonce.
    for provider in ["github", "google", "oidc"] {
        let (mut victim, mut thief) = (site.browser(), site.browser());
        let begun = victim.begin(provider, "").await;
        let stolen = victim.sign_in(&begun.auth_url).await;
        let of_thief = thief.begin(provider, "").await;
        let bent = stolen.replace(&begun.state, &of_thief.state);
        thief.get(&bent).await.refused(401, "unauthorized");
    }
    site.nothing_was_made().await;
}

#[tokio::test]
async fn browsers_are_sent_to_registered_addresses_only() {
    let site = Site::start().await;
    let api = site.server.api();
    for near in [
        "https://app.example.com/signed-in/",
        "https://app.example.com/signed-in?x=1",
        "https://app.example.com/signed-in#x",
        "https://app.example.com/signed-in/../evil",
        "https://app.example.com/Signed-in",
        "https://app.example.com/",
        "https://app.example.com:443/signed-in",
        "https://app.example.com:8443/signed-in",
        "https://APP.example.com/signed-in",
        "https://app.example.com.evil.example/signed-in",
        "https://evil.example/https://app.example.com/signed-in",
        "https://app.example.com@evil.example/signed-in",
        "https://evil.example\\@app.example.com/signed-in",
        "http://app.example.com/signed-in",
        "//app.example.com/signed-in",
        "/signed-in",
        " https://app.example.com/signed-in",
        "https://app.example.com/signed-in\0",
        "https://app.example.com%2fsigned-in",
        "javascript:alert(1)//https://app.example.com/signed-in",
        "com.example.app://signed-in",
        &format!("{APP},{NATIVE_APP}"),
    ] {
        let uri: String = url::form_urlencoded::byte_serialize(near.as_bytes()).collect();
        let path = format!("/api/v3/auth/github/login?redirect_uri={uri}");
        let said = api.get(&path).await.refused(422, "invalid");
        assert!(said.contains("OAUTH_REDIRECT_URIS"), "{near}: {said}");
        let page = site.browser().navigate(&path).await;
        assert_eq!((page.status, page.header("location")), (422, ""), "{near}");
    }
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example", to_app(""));
    api.get(&format!("/api/v3/auth/github/login?{twice}")).await.refused(422, "invalid");
}

#[tokio::test]
async fn a_host_that_is_none_is_not_told_to_providers() {
    let site = Site::start().await;
    for host in
        ["a b", "evil.example/x", "evil.example?x", "user@evil.example", "evil.example#x", ""]
    {
        let request = format!("GET /api/v3/auth/github/login HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let deadline = crate::support::SOON;
        let answer =
            crate::support::raw::exchange(site.server.user, request.as_bytes(), deadline).await;
        assert!(answer.status().is_some_and(|status| status >= 400), "{host}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_one_time_code_is_no_ticket_and_no_state() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let returned = browser.log_in_app("github", &to_app("")).await;
    let code = returned.get("code");
    failed(&browser.get(&format!("/api/v3/auth/github/callback?code=1&state={code}")).await);
    let refused = site.server.socket("x").raw_token("").query("ticket", code).refused().await;
    assert_eq!(refused.status(), 401);
    let begun = browser.begin("github", "").await;
    let body = json!({"code": begun.state});
    site.server.api().post("/api/v3/auth/exchange", body).await.refused(401, "unauthorized");
    let body = json!({"code": code});
    site.server.api().post("/api/v3/auth/exchange", body).await.ok();
}

#[tokio::test]
async fn secrets_of_logins_are_in_no_log() {
    let site = Site::with(&[("LOG_LEVEL", "trace")]).await;
    let mut secrets = vec![crate::support::providers::CLIENT_SECRET.to_owned()];
    for provider in ALL {
        let mut browser = site.browser();
        let begun = browser.begin(provider, "").await;
        let back = browser.sign_in(&begun.auth_url).await;
        secrets.push(begun.state);
        let code = back
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix("code=").or_else(|| part.strip_prefix("authCode=")));
        secrets.push(code.unwrap().to_owned());
        secrets.extend(browser.cookies.iter().map(|(_, secret)| secret.clone()));
        let pair = browser.get(&back).await.ok();
        for token in ["access_token", "refresh_token"] {
            secrets.push(pair[token].as_str().unwrap().to_owned());
        }
    }
    let returned = site.browser().log_in_app("github", &to_app("")).await;
    secrets.push(returned.get("code").to_owned());
    let body = json!({"code": returned.get("code")});
    site.server.api().post("/api/v3/auth/exchange", body).await.ok();
    let metrics = site.server.metrics().await;
    let log = site.server.log();
    assert!(log.contains("/api/v3/auth/{provider}/callback"), "requests are logged");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
        assert!(!metrics.contains(&secret), "{secret} is in the metrics");
    }
}
