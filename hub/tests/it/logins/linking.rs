//! Several providers for one user.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Site,
    apps::{VERIFIER, to_app, with_pkce},
    user_of,
};

const IDENTITIES: &str = "/api/v3/auth/identities";

fn providers(list: &Value) -> Vec<&str> {
    let all = list["identities"].as_array().unwrap().iter();
    all.map(|one| one["provider"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_user_adds_a_login_and_comes_by_it() {
    let site = Site::start().await;
    let pair = site.browser().log_in("github", "").await.ok();
    let api = site.as_pair(&pair);
    assert_eq!(providers(&api.get(IDENTITIES).await.ok()), ["github"]);

    let mut browser = site.browser().bearer(pair["access_token"].as_str().unwrap());
    let path = format!("{IDENTITIES}/google");
    let begun = browser.call(Method::POST, &path, None).await.ok();
    let back = browser.sign_in(begun["auth_url"].as_str().unwrap()).await;
    // Another browser cannot add its login to this user.
    let linked = browser.get(&back).await.ok();
    assert_eq!((&linked["provider"], &linked["subject"]), (&json!("google"), &json!("1001")));
    assert_eq!(providers(&api.get(IDENTITIES).await.ok()), ["github", "google"]);
    let by_google = site.browser().log_in("google", "").await.ok();
    assert_eq!(user_of(&by_google), user_of(&pair));
    assert_eq!(site.users().await, 1);
}

#[tokio::test]
async fn an_app_adds_a_login_by_its_code() {
    let site = Site::start().await;
    let pair = site.browser().log_in("github", "").await.ok();
    let api = site.as_pair(&pair);
    let path = format!("{IDENTITIES}/oidc");
    let returned = site.browser().log_in_app("oidc", &with_pkce()).await;
    let without = json!({"code": returned.get("code")});
    api.post(&path, without).await.refused(401, "unauthorized");
    let returned = site.browser().log_in_app("oidc", &with_pkce()).await;
    let body = json!({"code": returned.get("code"), "code_verifier": VERIFIER});
    let elsewhere = format!("{IDENTITIES}/wechat");
    api.post(&elsewhere, body.clone()).await.refused(401, "unauthorized");
    api.post(&path, body).await.refused(401, "unauthorized");
    let returned = site.browser().log_in_app("oidc", &with_pkce()).await;
    let body = json!({"code": returned.get("code"), "code_verifier": VERIFIER});
    api.post(&path, body.clone()).await.ok();
    api.post(&path, body).await.refused(401, "unauthorized");
    let by_oidc = site.browser().log_in("oidc", "").await.ok();
    assert_eq!(user_of(&by_oidc), user_of(&pair));
}

#[tokio::test]
async fn a_login_that_is_anothers_cannot_be_added() {
    let site = Site::start().await;
    let ann = site.browser().log_in("github", "").await.ok();
    let bob = site.browser().log_in("wechat", "").await.ok();
    let returned = site.browser().log_in_app("github", &to_app("")).await;
    let body = json!({"code": returned.get("code")});
    let path = format!("{IDENTITIES}/github");
    site.as_pair(&bob).post(&path, body).await.refused(409, "conflict");
    let again = site.browser().log_in("github", "").await.ok();
    assert_eq!(user_of(&again), user_of(&ann));
}

#[tokio::test]
async fn a_login_is_not_added_in_another_browser() {
    let site = Site::start().await;
    let ann = site.browser().log_in("github", "").await.ok();
    let mut attacker = site.browser().bearer(ann["access_token"].as_str().unwrap());
    let begun = attacker.call(Method::POST, &format!("{IDENTITIES}/google"), None).await.ok();
    // The victim, who is logged in at Google, is led through it: their Google would open Ann's account to
    // them, and theirs to Ann.
    let mut victim = site.browser();
    let back = victim.sign_in(begun["auth_url"].as_str().unwrap()).await;
    victim.get(&back).await.refused(401, "unauthorized");
    assert_eq!(providers(&site.as_pair(&ann).get(IDENTITIES).await.ok()), ["github"]);
}

#[tokio::test]
async fn the_last_login_stays() {
    let site = Site::start().await;
    let pair = site.browser().log_in("github", "").await.ok();
    let api = site.as_pair(&pair);
    let remove = async |path: String| api.call(Method::DELETE, &path, None).await;
    remove(format!("{IDENTITIES}/github")).await.refused(409, "conflict");
    remove(format!("{IDENTITIES}/google")).await.refused(404, "not_found");
    site.fakes.person("github", "2002");
    let returned = site.browser().log_in_app("github", &to_app("")).await;
    let body = json!({"code": returned.get("code")});
    api.post(&format!("{IDENTITIES}/github"), body).await.ok();
    remove(format!("{IDENTITIES}/github")).await.refused(422, "invalid");
    remove(format!("{IDENTITIES}/github?subject=1001")).await.ok();
    let list = api.get(IDENTITIES).await.ok();
    assert_eq!(list["identities"][0]["subject"], "2002");
    // Who comes by the one that was taken away is somebody new.
    site.fakes.person("github", "1001");
    let new = site.browser().log_in("github", "").await.ok();
    assert_ne!(user_of(&new), user_of(&pair));
}

#[tokio::test]
async fn adding_leads_back_to_an_app() {
    let site = Site::start().await;
    let pair = site.browser().log_in("github", "").await.ok();
    let mut browser = site.browser().bearer(pair["access_token"].as_str().unwrap());
    let path = format!("{IDENTITIES}/wecom");
    let bad = json!({"redirect_uri": "https://evil.example/"});
    browser.call(Method::POST, &path, Some(bad)).await.refused(422, "invalid");
    let body = json!({"redirect_uri": crate::support::providers::APP, "app_state": "s-1"});
    let begun = browser.call(Method::POST, &path, Some(body)).await.ok();
    let back = browser.sign_in(begun["auth_url"].as_str().unwrap()).await;
    let returned = crate::support::browser::Returned::of(&browser.get(&back).await);
    assert_eq!((returned.get("linked"), returned.get("state")), ("wecom", "s-1"));
    assert_eq!(returned.get("code"), "");
}
