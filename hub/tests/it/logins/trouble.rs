//! Providers that are away, slow, or answer nonsense; settings that are wrong.

use std::time::{Duration, Instant};

use super::{ALL, Site, failed};
use crate::support::{
    TestServer,
    browser::Browser,
    providers::{Fakes, Mood},
};

/// Whom a mood can be tried on without a login that was begun before it: the way there needs nobody.
const FIXED: [&str; 4] = ["github", "wechat", "wecom", "dingtalk"];

/// Begins a login while all is well, and comes back after the mood has changed.
async fn in_mood(site: &Site, provider: &'static str, mood: Mood) -> crate::support::Answer {
    site.fakes.mood(provider, Mood::Well);
    let mut browser = site.browser();
    let begun = browser.begin(provider, "").await;
    let back = browser.sign_in(&begun.auth_url).await;
    site.fakes.mood(provider, mood);
    browser.get(&back).await
}

#[tokio::test]
async fn a_provider_that_is_down_or_slow_is_unavailable() {
    let site = Site::with(&[("OAUTH_TIMEOUT", "1s")]).await;
    for provider in ALL {
        for mood in [Mood::Down(500), Mood::Down(503), Mood::Down(429)] {
            let answer = in_mood(&site, provider, mood).await;
            answer.refused(503, "unavailable");
            assert!(!answer.header("retry-after").is_empty(), "{provider}");
        }
        let began = Instant::now();
        in_mood(&site, provider, Mood::Silent).await.refused(503, "unavailable");
        assert!(began.elapsed() < Duration::from_secs(8), "{provider}: {:?}", began.elapsed());
    }
    site.nothing_was_made().await;
    // And nothing of it lasts.
    for provider in ALL {
        in_mood(&site, provider, Mood::Well).await.ok();
    }
}

#[tokio::test]
async fn nonsense_of_a_provider_is_said_to_be_that() {
    let site = Site::start().await;
    let nonsense = [
        "",
        "<html>maintenance</html>",
        "null",
        "[]",
        "{}",
        "7",
        "\"token\"",
        "{\"access_token\": 7}",
        "{\"access_token\": \"\", \"errcode\": 0}",
        "{\"access_token\": \"t\"",
        "{\"error\": \"<script>alert(1)</script>\"}",
        "{\"errcode\": 99999, \"errmsg\": \"<script>\"}",
        "{\"code\": \"<script>\", \"accessToken\": null}",
    ];
    for provider in ALL {
        for text in nonsense {
            let answer = in_mood(&site, provider, Mood::Says(text)).await;
            answer.refused(502, "provider_failed");
            assert!(!answer.body.to_string().contains("script"), "{provider}: {}", answer.body);
        }
        in_mood(&site, provider, Mood::Endless).await.refused(502, "provider_failed");
        in_mood(&site, provider, Mood::Down(404)).await.refused(502, "provider_failed");
    }
    site.nothing_was_made().await;
}

#[tokio::test]
async fn who_declines_is_told_so() {
    let site = Site::start().await;
    for provider in ALL {
        site.fakes.mood(provider, Mood::Declined);
        let said = site.browser().log_in(provider, "").await.refused(403, "forbidden");
        assert!(said.contains("declined") && !said.contains("<b>"), "{provider}: {said}");
    }
    site.nothing_was_made().await;
}

#[tokio::test]
async fn people_see_a_page_and_nothing_of_it_runs() {
    let site = Site::start().await;
    for provider in FIXED {
        site.fakes.mood(provider, Mood::Declined);
        let mut browser = site.browser();
        let begun = browser.begin(provider, "").await;
        let back = browser.sign_in(&begun.auth_url).await;
        let page = browser.navigate(&back).await;
        assert_eq!(page.status, 403);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        assert!(page.text.contains("declined") && page.text.contains("登录失败"), "{}", page.text);
        assert!(page.text.contains(page.header("x-request-id")), "{}", page.text);
    }
    let page = site.browser().navigate("/api/v3/auth/%3Cscript%3E/login").await;
    assert_eq!(page.status, 404);
    assert!(!page.text.contains("<script"), "{}", page.text);
    let page = site.browser().navigate("/api/v3/auth/github/login?%3Cscript%3E=1").await;
    assert_eq!(page.status, 422);
    assert!(!page.text.contains("<script"), "{}", page.text);
}

#[tokio::test]
async fn wrong_settings_at_a_provider_are_not_the_users_fault() {
    let fakes = Fakes::start().await;
    let mut server = TestServer::builder().envs(fakes.env());
    for secret in ["GITHUB", "GOOGLE", "WECHAT", "WECOM", "DINGTALK", "OIDC"] {
        let name = format!("{secret}_CLIENT_SECRET");
        server = server.env(&name, "another-secret");
    }
    let server = server.start().await;
    for provider in ALL {
        let answer = Browser::new(&server).log_in(provider, "").await;
        failed(&answer);
        let said = answer.refused(502, "provider_failed");
        assert!(said.contains("settings") && !said.contains("another-secret"), "{said}");
    }
    assert!(server.log().contains("its settings are wrong"), "the operator hears of it");
}

#[tokio::test]
async fn a_provider_that_is_away_does_not_keep_the_hub_from_starting() {
    let fakes = Fakes::start().await;
    let env = fakes.env();
    drop(fakes);
    let server = TestServer::builder().envs(env).start().await;
    assert!(server.ready().await);
    let login = |provider: &str| format!("/api/v3/auth/{provider}/login");
    server.api().get(&login("github")).await.ok();
    server.api().get(&login("oidc")).await.refused(503, "unavailable");
}

#[tokio::test]
async fn half_a_provider_is_named_at_the_start() {
    let (status, said) = TestServer::builder()
        .env("GITHUB_CLIENT_ID", "id")
        .env("WECOM_CLIENT_ID", "ww1")
        .env("WECOM_CLIENT_SECRET", "secret-of-wecom")
        .env("OIDC_ISSUER", "sso.example.com")
        .env("OAUTH_REDIRECT_URIS", "javascript:alert(1)")
        .run(&["check-config"])
        .await;
    assert!(!status.success(), "{said}");
    for name in ["GITHUB_CLIENT_SECRET", "WECOM_AGENT_ID", "OIDC_ISSUER", "OAUTH_REDIRECT_URIS"] {
        assert!(said.contains(&format!("{name}:")), "{name}: {said}");
    }
    assert!(!said.contains("secret-of-wecom"), "{said}");
}
