//! In which tenant people are who log in elsewhere.

use serde_json::{Value, json};

use super::{Site, user_of};
use crate::support::{
    TestServer,
    browser::{Browser, Returned},
    providers::{APP, Fakes, Forge},
};

impl Site {
    /// The tenant of somebody who has logged in, by what a service of each may send to.
    async fn tenant_of(&self, pair: &Value) -> String {
        let user = user_of(pair);
        for tenant in ["default", "acme", "umbrella"] {
            let path = format!("/api/v3/admin/users?tenant_id={tenant}&size=200");
            let page = self.server.as_admin().get(&path).await.ok();
            if page["users"].as_array().unwrap().iter().any(|known| known["user_id"] == json!(user))
            {
                return tenant.to_owned();
            }
        }
        panic!("{user} is nowhere");
    }
}

#[tokio::test]
async fn a_provider_has_a_tenant() {
    let site = Site::with(&[("OAUTH_TENANTS", "github=acme, wechat=umbrella")]).await;
    for (provider, tenant) in [("github", "acme"), ("wechat", "umbrella"), ("google", "default")] {
        let pair = site.browser().log_in(provider, "").await.ok();
        site.as_pair(&pair).get("/api/v3/messages").await.ok();
        assert_eq!(site.tenant_of(&pair).await, tenant, "{provider}");
        // The same person again, by an app's code this time.
        let code =
            Returned::of(&site.browser().log_in(provider, &format!("redirect_uri={APP}")).await);
        let body = json!({"code": code.get("code")});
        let again = site.server.api().post("/api/v3/auth/exchange", body).await.ok();
        assert_eq!(user_of(&again), user_of(&pair), "{provider}");
    }
}

#[tokio::test]
async fn a_user_stays_where_they_are_when_the_setting_changes() {
    let fakes = Fakes::start().await;
    let mut server = TestServer::builder().envs(fakes.env()).start().await;
    let before = Browser::new(&server).log_in("github", "").await.ok();
    server.set_env("OAUTH_TENANTS", "github=acme");
    server.crash_and_restart().await;
    let site = Site { server, fakes };
    let after = site.browser().log_in("github", "").await.ok();
    assert_eq!(user_of(&after), user_of(&before));
    site.as_pair(&after).get("/api/v3/messages").await.ok();
    assert_eq!(site.tenant_of(&after).await, "default");
    site.fakes.person("github", "2002");
    let new = site.browser().log_in("github", "").await.ok();
    site.as_pair(&new).get("/api/v3/messages").await.ok();
    assert_eq!(site.tenant_of(&new).await, "acme");
}

#[tokio::test]
async fn a_provider_that_names_tenants_names_those_it_may() {
    let site =
        Site::with(&[("OIDC_TENANT_CLAIM", "org.id"), ("OIDC_TENANTS", "acme,umbrella")]).await;
    let org = |org: Value| site.fakes.forge(Forge::Claims(json!({"org": org})));
    org(json!({"id": "acme"}));
    let pair = site.browser().log_in("oidc", "").await.ok();
    site.as_pair(&pair).get("/api/v3/messages").await.ok();
    assert_eq!(site.tenant_of(&pair).await, "acme");
    for none in [
        json!(null),
        json!("acme"),
        json!({"id": "default"}),
        json!({"id": "ACME"}),
        json!({"id": ["acme"]}),
        json!({"id": ""}),
    ] {
        org(none.clone());
        let sentence = site.browser().log_in("oidc", "").await.refused(403, "forbidden");
        assert!(sentence.contains("tenant"), "{none}: {sentence}");
        // An app is told as well.
        let told = site.browser().log_in_app("oidc", &format!("redirect_uri={APP}")).await;
        assert_eq!(told.get("error"), "access_denied", "{none}");
    }
    // Who is in another tenant there now does not get into the one before, nor into two.
    org(json!({"id": "umbrella"}));
    let sentence = site.browser().log_in("oidc", "").await.refused(403, "forbidden");
    assert!(sentence.contains("another tenant"), "{sentence}");
    let code = site.browser().log_in_app("oidc", &format!("redirect_uri={APP}")).await;
    let body = json!({"code": code.get("code")});
    site.server.api().post("/api/v3/auth/exchange", body).await.refused(403, "forbidden");
    // Nor does a user of one link a login of the other.
    site.fakes.person("oidc", "2002");
    let mut browser = site.browser().bearer(pair["access_token"].as_str().unwrap());
    let path = "/api/v3/auth/identities/oidc";
    let begun = browser.call(http::Method::POST, path, None).await.ok();
    let back = browser.sign_in(begun["auth_url"].as_str().unwrap()).await;
    browser.get(&back).await.refused(403, "forbidden");
    // Where they are, they log in.
    let other = site.browser().log_in("oidc", "").await.ok();
    site.as_pair(&other).get("/api/v3/messages").await.ok();
    assert_eq!(site.tenant_of(&other).await, "umbrella");
}
