//! Admins who log in at an issuer: who is let in, with what second factor, and what must not work.

use serde_json::{Value, json};

use crate::support::{
    Answer, TestServer,
    admins::{PASSWORD, SignedIn, code, end},
    browser::Browser,
    providers::{Fakes, Forge},
};

const ADMINS: &str = "/api/v3/admin/admins";
const LOGIN: &str = "/api/v3/admin/login/oidc";
const EXCHANGE: &str = "/api/v3/admin/login/exchange";
const ME: &str = "/api/v3/admin/auth/me";
const ROLES: [(&str, &str); 2] = [
    ("ADMIN_OIDC_ROLE_CLAIM", "realm.groups"),
    ("ADMIN_OIDC_ROLES", "root=admin,ops=operator,watch=viewer"),
];

/// A hub whose admins log in at an issuer.
struct Site {
    server: TestServer,
    fakes: Fakes,
}

impl Site {
    async fn start(env: &[(&'static str, &str)]) -> Self {
        let fakes = Fakes::start().await;
        let env = env.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let server = TestServer::builder()
            .envs(fakes.env())
            .envs(fakes.admin_env())
            .envs(env.collect::<Vec<_>>())
            .start()
            .await;
        Self { server, fakes }
    }

    fn browser(&self) -> Browser {
        Browser::at_admin(&self.server)
    }

    /// Makes an admin whom the issuer knows by this address.
    async fn known_by(&self, username: &str, email: &str) -> Value {
        let new = json!({"username": username, "role": "operator", "password": PASSWORD,
            "email": email});
        self.server.as_admin().post(ADMINS, new).await.ok()
    }

    /// What the tokens of the issuer say beside what they always say.
    fn says(&self, claims: Value) {
        self.fakes.forge(Forge::Claims(claims));
    }

    /// To the callback, as a program; the browser and what it is answered.
    async fn come_back(&self) -> (Browser, Answer) {
        let mut browser = self.browser();
        let back = begun(&mut browser).await;
        let answer = browser.get(&back).await;
        (browser, answer)
    }

    /// All the way.
    async fn log_in(&self) -> Answer {
        let (mut browser, answer) = self.come_back().await;
        exchange(&mut browser, &answer.ok()["code"]).await
    }

    async fn admins(&self) -> Vec<Value> {
        let listed = self.server.as_admin().get(ADMINS).await.ok();
        listed["admins"].as_array().unwrap().clone()
    }

    async fn me(&self, login: &Value) -> Answer {
        let token = login["token"].as_str().expect("a session");
        self.server.admin_port().bearer(token).get(ME).await
    }
}

/// Goes to the issuer and signs in; where it sends the browser back to.
async fn begun(browser: &mut Browser) -> String {
    let begun = browser.get(LOGIN).await.ok();
    browser.sign_in(begun["auth_url"].as_str().unwrap()).await
}

async fn exchange(browser: &mut Browser, code: &Value) -> Answer {
    browser.call(http::Method::POST, EXCHANGE, Some(json!({"code": code}))).await
}

#[tokio::test]
async fn an_admin_is_found_by_a_verified_email_and_stays_found() {
    let site = Site::start(&[]).await;
    let shown = site.server.admin_port().get("/api/v3/admin/login/providers").await.ok();
    assert_eq!(shown["providers"][0]["login_url"], LOGIN);
    let made = site.known_by("mei", "1001@Example.com").await;
    assert_eq!((&made["email"], &made["has_password"]), (&json!("1001@example.com"), &json!(true)));

    // No second factor yet: it is enrolled, as after a password.
    let challenge = site.log_in().await.ok();
    let secret = challenge["enrolment"]["secret"].as_str().unwrap().to_owned();
    let port = site.server.admin_port();
    let done = end(&port, &challenge, &code(&secret, 0)).await.ok();
    assert_eq!(
        (&done["admin"]["username"], &done["admin"]["role"]),
        (&json!("mei"), &json!("operator"))
    );
    site.me(&done).await.ok();
    // The next time it is asked for.
    let challenge = site.log_in().await.ok();
    assert_eq!(challenge["enrolment"], Value::Null);
    end(&port, &challenge, "000000").await.refused(401, "unauthorized");
    end(&port, &challenge, &code(&secret, 1)).await.ok();
    // Unless the issuer says that it has asked for one.
    site.says(json!({"amr": ["pwd", "otp"]}));
    let done = site.log_in().await.ok();
    assert_eq!(done["recovery_codes"], json!([]));
    site.me(&done).await.ok();
    // By the subject from now on, whatever the address is there …
    site.says(json!({"email": "married@example.com", "email_verified": false, "amr": ["mfa"]}));
    assert_eq!(site.log_in().await.ok()["admin"]["username"], "mei");
    // … and whoever gets the address there later is somebody else.
    site.fakes.person("oidc", "2002");
    site.says(json!({"email": "1001@example.com", "email_verified": true}));
    let (_, answer) = site.come_back().await;
    let sentence = answer.refused(403, "forbidden");
    assert!(sentence.contains("nobody here is known by this login"), "{sentence}");
    assert_eq!(site.admins().await.len(), 1);
    // Another address forgets the login that was found by the one before, and ends sessions.
    let path = format!("{ADMINS}/{}", made["id"].as_str().unwrap());
    site.server.as_admin().put(&path, json!({"email": "2002@example.com"})).await.ok();
    site.me(&done).await.refused(401, "unauthorized");
    site.says(json!({"amr": ["mfa"]}));
    assert_eq!(site.log_in().await.ok()["admin"]["username"], "mei");
    site.fakes.person("oidc", "1001");
    site.come_back().await.1.refused(403, "forbidden");
    let log = site.server.log();
    for event in ["admin_logged_in", "admin_login_refused"] {
        assert!(log.contains(event), "{event}");
    }
}

#[tokio::test]
async fn a_browser_ends_at_the_console_with_a_code_that_only_it_can_use() {
    let site = Site::start(&[("ADMIN_OIDC_SECOND_FACTOR", "issuer")]).await;
    site.known_by("mei", "1001@example.com").await;
    let mut browser = site.browser();
    let begun = browser.navigate(LOGIN).await;
    assert_eq!(begun.status, 302, "{}", begun.text);
    let cookie = begun.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let back = browser.sign_in(begun.header("location")).await;
    let page = browser.navigate(&back).await;
    assert_eq!((page.status, page.header("cache-control")), (302, "no-store"), "{}", page.text);
    let to = page.header("location");
    let code = to.strip_prefix("http://admin.example.com/#login_code=").expect(to);
    // Somebody who has seen it, in a browser of their own with a login of their own.
    let mut thief = site.browser();
    self::begun(&mut thief).await;
    exchange(&mut thief, &json!(code)).await.refused(401, "unauthorized");
    // By which it is spent: a code is tried once.
    exchange(&mut browser, &json!(code)).await.refused(401, "unauthorized");
    let done = site.log_in().await.ok();
    assert_eq!(done["admin"]["username"], "mei");
    // A person sees a page where something is wrong, in a sentence.
    site.fakes.person("oidc", "2002");
    let mut browser = site.browser();
    let back = self::begun(&mut browser).await;
    let page = browser.navigate(&back).await;
    assert_eq!((page.status, page.header("content-type")), (403, "text/html; charset=utf-8"));
    assert!(page.text.contains("nobody here is known by this login"), "{}", page.text);
}

#[tokio::test]
async fn a_role_of_the_issuer_makes_an_admin_and_is_followed() {
    let site = Site::start(&ROLES).await;
    let groups = |groups: Value| site.says(json!({"realm": {"groups": groups}, "amr": ["mfa"]}));
    groups(json!(["staff", "watch", "ops"]));
    let first = site.log_in().await.ok();
    let admin = &first["admin"];
    assert_eq!((&admin["role"], &admin["has_password"]), (&json!("operator"), &json!(false)));
    assert_eq!(admin["username"], "user1001");
    // Nobody gets in with a password that it does not have.
    for password in ["", "$argon2id$v=19", PASSWORD] {
        let body = json!({"username": "user1001", "password": password});
        let answer = site.server.admin_port().post("/api/v3/admin/auth/login", body).await;
        assert!(matches!(answer.status, 401 | 422), "{}", answer.body);
    }
    groups(json!("root"));
    assert_eq!(site.log_in().await.ok()["admin"]["role"], "admin");
    assert_eq!(site.me(&first).await.ok()["role"], "admin", "sessions of before have it too");
    // No role, no way in, and those who are in are out. Nor for a word that only looks like one.
    for none in [
        json!(["staff"]),
        json!(true),
        json!({"root": true}),
        json!(["root", 7]),
        json!([["root"]]),
        json!("roots"),
        json!("ops root"),
        json!(null),
    ] {
        groups(json!(["root"]));
        let done = site.log_in().await.ok();
        groups(none.clone());
        let (_, answer) = site.come_back().await;
        answer.refused(403, "forbidden");
        site.me(&done).await.refused(401, "unauthorized");
        // Nor somebody who never was here.
        site.fakes.person("oidc", "3003");
        site.come_back().await.1.refused(403, "forbidden");
        site.fakes.person("oidc", "1001");
    }
    assert_eq!(site.admins().await.len(), 1, "nothing was made");
    // Somebody of the same name there is not the one here.
    groups(json!(["watch"]));
    site.fakes.person("oidc", "3003");
    site.says(
        json!({"preferred_username": "user1001", "realm": {"groups": ["watch"]}, "amr": ["mfa"]}),
    );
    let other = site.log_in().await.ok();
    let username = other["admin"]["username"].as_str().unwrap();
    assert!(username.starts_with("user1001-") && username.len() == 17, "{username}");
    assert_eq!(other["admin"]["role"], "viewer");
    assert_eq!(site.admins().await.len(), 2);
}

#[tokio::test]
async fn who_is_disabled_is_not_let_in() {
    let site = Site::start(&[("ADMIN_OIDC_SECOND_FACTOR", "issuer")]).await;
    let made = site.known_by("mei", "1001@example.com").await;
    let (mut browser, answer) = site.come_back().await;
    let path = format!("{ADMINS}/{}", made["id"].as_str().unwrap());
    site.server.as_admin().put(&path, json!({"disabled": true})).await.ok();
    // Neither between the two steps nor before them.
    let sentence = exchange(&mut browser, &answer.ok()["code"]).await.refused(403, "forbidden");
    assert!(sentence.contains("disabled"), "{sentence}");
    let sentence = site.come_back().await.1.refused(403, "forbidden");
    assert!(sentence.contains("disabled"), "{sentence}");
    site.server.as_admin().put(&path, json!({"disabled": false})).await.ok();
    site.log_in().await.ok();
}

#[tokio::test]
async fn states_belong_to_a_browser_and_to_a_port() {
    let site = Site::start(&[("ADMIN_OIDC_SECOND_FACTOR", "issuer")]).await;
    site.known_by("mei", "1001@example.com").await;
    let (mut attacker, mut victim) = (site.browser(), site.browser());
    let back = begun(&mut attacker).await;
    begun(&mut victim).await;
    victim.get(&back).await.refused(401, "unauthorized");
    attacker.get(&back).await.refused(401, "unauthorized");
    // Two browsers that change states.
    let (a, b) = (begun(&mut attacker).await, begun(&mut victim).await);
    let state = |back: &str| {
        let url = url::Url::parse(&format!("http://hub{back}")).unwrap();
        url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
    };
    attacker.get(&a.replace(&state(&a), &state(&b))).await.refused(401, "unauthorized");
    victim.get(&b.replace(&state(&b), &state(&a))).await.refused(401, "unauthorized");
    // One that was used.
    let mut browser = site.browser();
    let back = begun(&mut browser).await;
    let code = browser.get(&back).await.ok()["code"].clone();
    browser.get(&back).await.refused(401, "unauthorized");
    // The code of a state is no session twice.
    exchange(&mut browser, &code).await.ok();
    exchange(&mut browser, &code).await.refused(401, "unauthorized");
    exchange(&mut browser, &json!("none")).await.refused(401, "unauthorized");
    // A login of a user ends at the other port, and an admin's not there.
    let mut user = Browser::new(&site.server);
    let begun_there = user.begin("oidc", "").await;
    let back = user.sign_in(&begun_there.auth_url).await;
    let query = back.split_once('?').unwrap().1;
    let mut here = site.browser().with_cookies(user.cookies.clone());
    here.get(&format!("{LOGIN}/callback?{query}")).await.refused(401, "unauthorized");
    let mut browser = site.browser();
    let back = begun(&mut browser).await;
    let query = back.split_once('?').unwrap().1.to_owned();
    let mut there = Browser::new(&site.server).with_cookies(browser.cookies.clone());
    there.get(&format!("/api/v3/auth/oidc/callback?{query}")).await.refused(401, "unauthorized");
    there.get(&format!("/api/v3/auth/admin/callback?{query}")).await.refused(404, "not_found");
    // Nowhere else is a browser sent.
    for query in ["redirect_uri=https://evil.example", "next=//evil.example", "app_state=x"] {
        browser.get(&format!("{LOGIN}?{query}")).await.refused(422, "invalid");
    }
    let page = browser.navigate(&format!("{back}&redirect_uri=https%3A%2F%2Fevil.example")).await;
    assert!(page.header("location").starts_with("http://admin.example.com/#"), "{}", page.text);
}

#[tokio::test]
async fn tokens_that_are_not_to_be_believed_let_nobody_in() {
    let site = Site::start(&ROLES).await;
    site.known_by("mei", "1001@example.com").await;
    let root = json!({"groups": ["root"]});
    for forge in [
        Forge::Claims(json!({"nonce": null, "realm": root})),
        Forge::Claims(json!({"nonce": "another", "realm": root})),
        Forge::Claims(json!({"aud": "another-client", "realm": root})),
        Forge::Claims(json!({"aud": ["hub-at-provider", "other"], "azp": "other", "realm": root})),
        Forge::Claims(json!({"iss": "https://evil.example", "realm": root})),
        Forge::Claims(json!({"exp": 1_000_000_000, "realm": root})),
        Forge::OtherKey,
        Forge::Unsigned("none"),
        Forge::Confused,
        Forge::BySecret,
        Forge::OwnKey,
        Forge::Missing,
    ] {
        let what = format!("{forge:?}");
        site.fakes.forge(forge);
        let (_, answer) = site.come_back().await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.body);
    }
    // An address that nobody has checked is nobody's.
    for unverified in [json!(false), json!(0), json!("no")] {
        site.says(json!({"email": "1001@example.com", "email_verified": unverified}));
        site.come_back().await.1.refused(403, "forbidden");
    }
    // Nor does an issuer that says nothing of a second factor spare one.
    site.says(json!({"amr": "mfa", "acr": "0"}));
    let SignedIn { .. } = site.server.sign_in("other", "viewer", None).await;
    let challenge = site.log_in().await.ok();
    assert!(challenge["challenge"].is_string() && challenge["token"].is_null(), "{challenge}");
    assert_eq!(site.admins().await.len(), 2);
    // Whoever says no.
    site.fakes.mood("oidc", crate::support::providers::Mood::Declined);
    site.come_back().await.1.refused(403, "forbidden");
}

#[tokio::test]
async fn without_an_issuer_there_is_none() {
    let server = TestServer::start().await;
    let port = server.admin_port();
    let shown = port.get("/api/v3/admin/login/providers").await.ok();
    assert_eq!(shown["providers"], json!([]));
    port.get(LOGIN).await.refused(404, "not_found");
    port.get(&format!("{LOGIN}/callback?code=1&state=2")).await.refused(404, "not_found");
    port.post(EXCHANGE, json!({"code": "x"})).await.refused(404, "not_found");
}
