//! Logging in at the issuer of admins, as a person does: a click, there and back, and in.

use serde_json::json;

use crate::support::{
    TestServer,
    admins::{PASSWORD, code},
    chromium::Tab,
    providers::{ADMIN_PORT, Fakes, Forge},
};

/// What a browser says of a host that has a name and no TLS.
const NO_TLS: &str = "Cross-Origin-Opener-Policy";

const LOGIN: &str = "Continue with Example";

/// The way back from the issuer leads to the name by which it knows the admin port.
async fn at_login(server: &TestServer) -> Tab {
    let host = ADMIN_PORT.strip_prefix("http://").unwrap();
    let mut tab = Tab::start_where(1280, 900, host, server.admin).await;
    tab.open(&format!("{ADMIN_PORT}/")).await;
    tab
}

/// Whom the console takes the page's user for.
async fn is_in(tab: &mut Tab, name: &str) {
    tab.until(&format!("document.querySelector('.who b')?.textContent === {name:?}")).await;
    // The code is in no address, and the token in no cookie.
    let left = tab.eval("[location.href, document.cookie]").await;
    let (href, cookie) = (left[0].as_str().unwrap(), left[1].as_str().unwrap());
    assert!(!href.contains("login_code") && cookie.is_empty(), "{left}");
}

#[tokio::test]
async fn an_admin_goes_to_the_issuer_and_comes_back_in() {
    let fakes = Fakes::start().await;
    let title = [("ADMIN_OIDC_TITLE", "Example".to_owned())];
    let server =
        TestServer::builder().envs(fakes.env()).envs(fakes.admin_env()).envs(title).start().await;
    let new = json!({"username": "mei", "role": "operator", "password": PASSWORD,
        "email": "1001@example.com"});
    server.as_admin().post("/api/v3/admin/admins", new).await.ok();
    let mut tab = at_login(&server).await;
    tab.until("document.querySelector('.others a.button') !== null").await;
    tab.picture("login-with").await;
    tab.click("a.button", LOGIN).await;
    // The issuer has asked for no second factor: it is enrolled here.
    let secret = tab.until("document.querySelector('.copyable code')?.textContent").await;
    let secret = secret.as_str().unwrap();
    tab.fill("code", &code(secret, 0)).await;
    tab.click("button", "Continue").await;
    tab.until("document.querySelector('dialog[open] code')?.textContent.includes('-')").await;
    tab.click("dialog button", "Done").await;
    is_in(&mut tab, "mei").await;
    tab.click("button", "Log out").await;
    // The next time it is asked for …
    tab.click("a.button", LOGIN).await;
    tab.until("document.querySelector('h1')?.textContent === 'Second factor'").await;
    assert_eq!(tab.eval("document.querySelector('.copyable')").await, json!(null));
    tab.fill("code", &code(secret, 1)).await;
    tab.click("button", "Continue").await;
    is_in(&mut tab, "mei").await;
    tab.click("button", "Log out").await;
    // … unless the issuer has.
    fakes.forge(Forge::Claims(json!({"amr": ["mfa"]})));
    tab.click("a.button", LOGIN).await;
    is_in(&mut tab, "mei").await;
    tab.until("document.querySelector('#main h1')?.textContent === 'Overview'").await;
    // Nothing went wrong, and elsewhere is the issuer alone.
    let troubles = tab.troubles(&[NO_TLS, "/oidc/authorize"]);
    assert!(troubles.is_empty(), "{troubles:#?}");
}

#[tokio::test]
async fn a_code_that_this_browser_did_not_get_lets_nobody_in() {
    let fakes = Fakes::start().await;
    let server = TestServer::builder().envs(fakes.env()).envs(fakes.admin_env()).start().await;
    let mut tab = at_login(&server).await;
    tab.eval("location.hash = '#login_code=of-somebody-else', location.reload()").await;
    tab.until("document.querySelector('.notice[role=alert]')?.textContent !== undefined").await;
    let kept = tab.eval("[sessionStorage.getItem('pushhub.session'), location.hash]").await;
    assert_eq!(kept, json!([null, ""]));
    let troubles = tab.troubles(&[NO_TLS, "login/exchange"]);
    assert!(troubles.is_empty(), "{troubles:#?}");
}
