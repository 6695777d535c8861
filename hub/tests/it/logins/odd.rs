//! What is odd about each provider.

use serde_json::json;

use super::{Site, user_of};
use crate::support::{TestServer, browser::Browser, providers::Fakes};

#[tokio::test]
async fn github_may_answer_forms_and_keep_emails() {
    let site = Site::start().await;
    site.fakes.odd("github answers forms");
    site.browser().log_in("github", "").await.ok();
    site.fakes.odd("github keeps emails");
    site.fakes.person("github", "2002");
    let pair = site.browser().log_in("github", "").await.ok();
    let profile = site.as_pair(&pair).get("/api/v3/auth/profile").await.ok();
    assert_eq!((&profile["email"], &profile["username"]), (&json!(""), &json!("octo2002")));
    let begun = site.browser().begin("github", "").await;
    for part in ["code_challenge=", "code_challenge_method=S256", "scope=read%3Auser+user%3Aemail"]
    {
        assert!(begun.auth_url.contains(part), "{}", begun.auth_url);
    }
    let said = site.fakes.said().join("\n");
    assert!(said.contains("code_verifier="), "{said}");
}

#[tokio::test]
async fn google_may_be_asked_for_one_domain() {
    let site = Site::with(&[("GOOGLE_HOSTED_DOMAIN", "example.com")]).await;
    let begun = site.browser().begin("google", "").await;
    assert!(begun.auth_url.contains("hd=example.com"), "{}", begun.auth_url);
    assert!(begun.auth_url.contains("nonce="), "{}", begun.auth_url);
    // The page's parameter is anybody's to change: an account of nowhere comes back.
    site.browser().log_in("google", "").await.refused(403, "forbidden");
    site.nothing_was_made().await;
    site.fakes.person("google", "work-7");
    site.browser().log_in("google", "").await.ok();
}

#[tokio::test]
async fn google_is_found_at_other_addresses_too() {
    let fakes = Fakes::start().await;
    let base = format!("http://{}/google", fakes.address());
    let server = TestServer::builder()
        .envs(fakes.env())
        .env("GOOGLE_BASE_URL", &base)
        .env("GOOGLE_API_BASE_URL", &base)
        .start()
        .await;
    Browser::new(&server).log_in("google", "").await.ok();
    assert_eq!(fakes.calls("google/.well-known/openid-configuration"), 0);
}

#[tokio::test]
async fn wechat_wants_a_fragment_and_may_have_no_unionid() {
    let site = Site::start().await;
    let begun = site.browser().begin("wechat", "").await;
    assert!(begun.auth_url.ends_with("#wechat_redirect"), "{}", begun.auth_url);
    assert!(begun.auth_url.contains("appid=") && !begun.auth_url.contains("client_id="));
    let with = site.browser().log_in("wechat", "").await.ok();
    site.fakes.odd("wechat has no unionid");
    let without = site.browser().log_in("wechat", "").await.ok();
    assert_ne!(user_of(&with), user_of(&without), "an openid is no unionid");
    let again = site.browser().log_in("wechat", "").await.ok();
    assert_eq!(user_of(&again), user_of(&without));
    let list = site.as_pair(&again).get("/api/v3/auth/identities").await.ok();
    assert_eq!(list["identities"][0]["subject"], "hub-at-provider/oPen_1001");
}

#[tokio::test]
async fn wecom_has_one_token_for_all_logins() {
    let site = Site::start().await;
    let logins = (0..6).map(|_| async { site.browser().log_in("wecom", "").await.ok() });
    futures_util::future::join_all(logins).await;
    assert_eq!(site.fakes.calls("wecom-api/cgi-bin/gettoken"), 1);
    // Somebody else fetches one, and ours is over.
    site.fakes.forget_app_token();
    site.browser().log_in("wecom", "").await.ok();
    assert_eq!(site.fakes.calls("wecom-api/cgi-bin/gettoken"), 2);
}

#[tokio::test]
async fn wecom_has_two_cases_and_guests() {
    let site = Site::start().await;
    let lower = site.browser().log_in("wecom", "").await.ok();
    site.fakes.odd("wecom writes UserId");
    let upper = site.browser().log_in("wecom", "").await.ok();
    assert_eq!(user_of(&lower), user_of(&upper));
    let users = site.users().await;
    for person in ["guest-1", "left-1"] {
        site.fakes.person("wecom", person);
        let said = site.browser().log_in("wecom", "").await.refused(403, "forbidden");
        assert!(said.contains("member"), "{said}");
    }
    assert_eq!(site.users().await, users);
}

#[tokio::test]
async fn dingtalk_may_be_asked_for_one_corporation() {
    let site = Site::with(&[("DINGTALK_CORP_ID", "ding1")]).await;
    let begun = site.browser().begin("dingtalk", "").await;
    for part in ["scope=openid+corpid", "prompt=consent"] {
        assert!(begun.auth_url.contains(part), "{}", begun.auth_url);
    }
    site.browser().log_in("dingtalk", "").await.ok();
    let site = Site::with(&[("DINGTALK_CORP_ID", "ding2")]).await;
    site.browser().log_in("dingtalk", "").await.refused(403, "forbidden");
    site.nothing_was_made().await;
}

#[tokio::test]
async fn a_custom_provider_may_take_its_secret_in_the_body() {
    let site = Site::start().await;
    site.fakes.odd("oidc takes the body only");
    site.browser().log_in("oidc", "").await.ok();
}

#[tokio::test]
async fn more_custom_providers_stand_in_a_file() {
    let fakes = Fakes::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("providers.toml");
    std::fs::write(&file, fakes.company()).unwrap();
    let server = TestServer::builder()
        .envs(fakes.env())
        .env("OAUTH_PROVIDERS_FILE", file.display())
        .start()
        .await;
    let shown = server.api().get("/api/v3/auth/providers").await.ok();
    assert_eq!(shown["providers"][6]["title"], "公司");
    let pair = Browser::new(&server).log_in("company", "").await.ok();
    let api = server.api().bearer(pair["access_token"].as_str().unwrap());
    let profile = api.get("/api/v3/auth/profile").await.ok();
    assert_eq!(profile["username"], "acc1001");
    assert_eq!(profile["email"], "1001@company.example");
    let list = api.get("/api/v3/auth/identities").await.ok();
    assert_eq!(list["identities"][0]["subject"], "1001");
}
