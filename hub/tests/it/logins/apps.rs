//! Logins that lead back to an app, with a code that is exchanged.

use serde_json::json;

use super::Site;
use crate::support::{
    browser::Returned,
    providers::{APP, Mood, NATIVE_APP},
};

/// RFC 7636, appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The query of a login for an app.
pub(super) fn to_app(more: &str) -> String {
    let app: String = url::form_urlencoded::byte_serialize(APP.as_bytes()).collect();
    format!("redirect_uri={app}{more}")
}

pub(super) fn with_pkce() -> String {
    to_app(&format!("&code_challenge={CHALLENGE}&code_challenge_method=S256"))
}

const EXCHANGE: &str = "/api/v3/auth/exchange";

#[tokio::test]
async fn an_app_exchanges_its_code_once() {
    let site = Site::start().await;
    let query = with_pkce() + "&app_state=xyz%26a%3Db&device_id=phone-1";
    let returned = site.browser().log_in_app("github", &query).await;
    assert_eq!((returned.to.as_str(), returned.get("state")), (APP, "xyz&a=b"));
    // Before the exchange nobody is logged in, and nobody is there.
    site.nothing_was_made().await;
    let body = json!({"code": returned.get("code"), "code_verifier": VERIFIER});
    let api = site.server.api().header("User-Agent", "TestApp/1.0");
    let answer = api.post(EXCHANGE, body.clone()).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let pair = answer.ok();
    assert_eq!(pair["device_id"], "phone-1");
    let sessions = site.as_pair(&pair).get("/api/v3/auth/sessions").await.ok();
    assert_eq!(sessions["sessions"][0]["user_agent"], "TestApp/1.0");
    api.post(EXCHANGE, body).await.refused(401, "unauthorized");
    assert_eq!(site.sessions().await, 1);
}

#[tokio::test]
async fn without_pkce_the_state_is_the_logins() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let begun = browser.begin("dingtalk", &to_app("")).await;
    let back = browser.sign_in(&begun.auth_url).await;
    let returned = Returned::of(&browser.get(&back).await);
    assert_eq!(returned.get("state"), begun.state);
    let code = json!({"code": returned.get("code")});
    site.server.api().post(EXCHANGE, code).await.ok();
}

#[tokio::test]
async fn a_challenge_cannot_be_left_out_or_added_later() {
    let site = Site::start().await;
    let api = site.server.api();
    let code = |returned: &Returned| returned.get("code").to_owned();
    let wrong = "wrong-verifier-wrong-verifier-wrong-verifier";
    for verifier in [None, Some(wrong), Some(CHALLENGE)] {
        let returned = site.browser().log_in_app("github", &with_pkce()).await;
        let mut body = json!({"code": code(&returned)});
        if let Some(verifier) = verifier {
            body["code_verifier"] = verifier.into();
        }
        api.post(EXCHANGE, body).await.refused(401, "unauthorized");
        // And the right one comes too late.
        let body = json!({"code": code(&returned), "code_verifier": VERIFIER});
        api.post(EXCHANGE, body).await.refused(401, "unauthorized");
    }
    // A code of a login without a challenge, put into an app that has sent one.
    let returned = site.browser().log_in_app("github", &to_app("")).await;
    let body = json!({"code": code(&returned), "code_verifier": VERIFIER});
    api.post(EXCHANGE, body).await.refused(401, "unauthorized");
    // "plain" is no method, and a challenge must look like one.
    for bad in ["code_challenge=short", "code_challenge_method=S256"] {
        let path = format!("/api/v3/auth/github/login?{}", to_app(&format!("&{bad}")));
        api.get(&path).await.refused(422, "invalid");
    }
    let plain = format!("&code_challenge={CHALLENGE}&code_challenge_method=plain");
    let path = format!("/api/v3/auth/github/login?{}", to_app(&plain));
    api.get(&path).await.refused(422, "invalid");
    site.nothing_was_made().await;
}

#[tokio::test]
async fn an_apps_own_scheme_needs_a_challenge() {
    let site = Site::start().await;
    let app: String = url::form_urlencoded::byte_serialize(NATIVE_APP.as_bytes()).collect();
    let path = format!("/api/v3/auth/github/login?redirect_uri={app}");
    let said = site.server.api().get(&path).await.refused(422, "invalid");
    assert!(said.contains("code_challenge"), "{said}");
    let query = format!("redirect_uri={app}&code_challenge={CHALLENGE}");
    let returned = site.browser().log_in_app("github", &query).await;
    assert_eq!(returned.to, NATIVE_APP);
    let body = json!({"code": returned.get("code"), "code_verifier": VERIFIER});
    site.server.api().post(EXCHANGE, body).await.ok();
}

#[tokio::test]
async fn an_app_hears_what_went_wrong() {
    let site = Site::start().await;
    site.fakes.mood("github", Mood::Declined);
    let returned = site.browser().log_in_app("github", &with_pkce()).await;
    assert_eq!((returned.to.as_str(), returned.get("error")), (APP, "access_denied"));
    assert!(returned.get("error_description").contains("declined"));
    assert!(!returned.get("state").is_empty());
    site.fakes.mood("github", Mood::Down(503));
    let returned = site.browser().log_in_app("github", &with_pkce()).await;
    assert_eq!(returned.get("error"), "temporarily_unavailable");
    site.fakes.mood("github", Mood::Says("<html>"));
    let returned = site.browser().log_in_app("github", &with_pkce()).await;
    assert_eq!((returned.get("error"), returned.get("code")), ("server_error", ""));
    site.nothing_was_made().await;
}
