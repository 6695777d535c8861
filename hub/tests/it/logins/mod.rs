//! Logging in elsewhere, against providers that behave as the real ones.

mod apps;
mod attacks;
mod figures;
mod id_tokens;
mod linking;
mod odd;
mod tenants;
mod trouble;

use serde_json::Value;

use crate::support::{
    Answer, Api, TestServer,
    browser::Browser,
    providers::{Fakes, about},
};

/// The six of the contract.
const ALL: [&str; 6] = ["github", "google", "wechat", "wecom", "dingtalk", "oidc"];

/// A hub and its providers.
struct Site {
    server: TestServer,
    fakes: Fakes,
}

impl Site {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(env: &[(&'static str, &str)]) -> Self {
        let fakes = Fakes::start().await;
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let server = TestServer::builder().envs(fakes.env()).envs(env).start().await;
        Self { server, fakes }
    }

    fn browser(&self) -> Browser {
        Browser::new(&self.server)
    }

    /// REST with the tokens of a login.
    fn as_pair(&self, pair: &Value) -> Api {
        self.server.api().bearer(pair["access_token"].as_str().expect("access_token"))
    }

    /// How many users have ever logged in or been written to.
    async fn users(&self) -> usize {
        let page = self.server.as_admin().get("/api/v3/admin/users?size=200").await.ok();
        page["users"].as_array().expect("data.users").len()
    }

    async fn sessions(&self) -> usize {
        let page = self.server.as_admin().get("/api/v3/admin/sessions?size=200").await.ok();
        page["sessions"].as_array().expect("data.sessions").len()
    }

    /// That a login that did not work has left nothing.
    async fn nothing_was_made(&self) {
        assert_eq!((self.users().await, self.sessions().await), (0, 0));
    }
}

fn user_of(pair: &Value) -> String {
    pair["user_id"].as_str().expect("user_id").to_owned()
}

#[tokio::test]
async fn each_provider_logs_people_in() {
    let site = Site::start().await;
    let shown = site.server.api().get("/api/v3/auth/providers").await.ok();
    let names: Vec<&str> = shown["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|provider| provider["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ALL);
    let mut users = vec![];
    for provider in ALL {
        let pair = site.browser().log_in(provider, "").await.ok();
        let api = site.as_pair(&pair);
        let profile = api.get("/api/v3/auth/profile").await.ok();
        for (name, value) in about("1001").as_object().unwrap() {
            // DingTalk and others have no more than these in common.
            assert_eq!(&profile[name], value, "{provider}: {profile}");
        }
        let email = profile["email"].as_str().unwrap();
        let vouched = ["github", "google", "oidc"].contains(&provider);
        assert_eq!(email, if vouched { "1001@example.com" } else { "" }, "{provider}");
        // The same person again is the same user, in another session.
        let again = site.browser().log_in(provider, "").await.ok();
        assert_eq!(user_of(&again), user_of(&pair), "{provider}");
        assert_ne!(again["session_id"], pair["session_id"], "{provider}");
        site.fakes.person(provider, "2002");
        let other = site.browser().log_in(provider, "").await.ok();
        assert_ne!(user_of(&other), user_of(&pair), "{provider}");
        users.push(user_of(&pair));
    }
    users.sort();
    users.dedup();
    assert_eq!(users.len(), ALL.len(), "the same id at two providers is two people");
}

#[tokio::test]
async fn a_browser_goes_all_the_way_by_redirects() {
    let site = Site::start().await;
    for provider in ALL {
        let mut browser = site.browser();
        let begun = browser.navigate(&format!("/api/v3/auth/{provider}/login")).await;
        assert_eq!(begun.status, 302, "{provider}: {}", begun.text);
        assert_eq!(begun.header("cache-control"), "no-store");
        let cookie = begun.header("set-cookie");
        for part in ["pushhub_login=", "HttpOnly", "SameSite=Lax", "Max-Age=600", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let back = browser.sign_in(begun.header("location")).await;
        let page = browser.navigate(&back).await;
        assert_eq!(page.status, 200, "{provider}: {}", page.text);
        assert_eq!(page.header("cache-control"), "no-store");
        let pair: Value = serde_json::from_str(&page.text).unwrap();
        assert!(pair["data"]["access_token"].is_string(), "{provider}");
    }
}

#[tokio::test]
async fn behind_tls_the_cookie_is_the_hosts_own() {
    let site = Site::with(&[("PUBLIC_URL", "https://push.example.com/")]).await;
    let mut browser = site.browser();
    let begun = browser.begin("github", "").await;
    let back = "redirect_uri=https%3A%2F%2Fpush.example.com%2Fapi%2Fv3%2Fauth%2Fgithub%2Fcallback";
    assert!(begun.auth_url.contains(back), "{}", begun.auth_url);
    let page = browser.navigate("/api/v3/auth/github/login").await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-pushhub_login=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn two_tabs_of_a_browser_can_both_log_in() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let (first, second) = (browser.begin("github", "").await, browser.begin("google", "").await);
    assert_ne!(first.state, second.state);
    let back = browser.sign_in(&second.auth_url).await;
    browser.get(&back).await.ok();
    let back = browser.sign_in(&first.auth_url).await;
    browser.get(&back).await.ok();
}

#[tokio::test]
async fn the_device_of_a_login_is_the_sessions() {
    let site = Site::start().await;
    let query = "device_id=phone-7&device_name=%E5%B0%8F%E6%98%8E%E7%9A%84%E6%89%8B%E6%9C%BA";
    let pair = site.browser().log_in("wechat", query).await.ok();
    assert_eq!(pair["device_id"], "phone-7");
    let sessions = site.as_pair(&pair).get("/api/v3/auth/sessions").await.ok();
    let session = &sessions["sessions"][0];
    assert_eq!(session["device_name"], "小明的手机");
    assert_eq!(session["provider"], "wechat");
    assert_eq!(session["address"], "127.0.0.1");
}

/// Refusals that are no success of any kind.
fn failed(answer: &Answer) {
    assert!(answer.status >= 400, "{}: {}", answer.status, answer.body);
    assert!(answer.body["data"].is_null(), "{}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains(' '), "{}", answer.body);
}
