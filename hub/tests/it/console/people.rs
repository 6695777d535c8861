//! One user in the console, and oneself.

use serde_json::json;

use super::clicks::{console, go, well};
use crate::support::{
    SOON, TestServer,
    admins::{PASSWORD, begin, code, end},
    eventually_within,
    server::ADMIN_TOKEN,
};

const BUTTONS: &str = "[...document.querySelectorAll('#main button')].map((one) => one.innerText)";

#[tokio::test]
async fn a_users_preferences_are_read_and_a_backup_is_kept() {
    let server = TestServer::start().await;
    let mut ann = server.connect("ann").await;
    server.service().await.send_to("ann", "to be kept").await.ok();
    ann.next_message().await;
    let preferences = json!({"muted_channels": ["noise"], "languages": ["zh-CN", "en"],
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Asia/Shanghai", "days": ["fri", "sat"]}});
    server.as_admin().put("/api/v3/admin/users/ann/preferences", preferences).await.ok();
    let mut tab = console(&server, ADMIN_TOKEN, "users/ann").await;
    let text = tab.eval("document.getElementById('main').innerText").await;
    for shown in ["22:00 – 07:00 Asia/Shanghai", "Fri Sat", "priority 9", "noise", "zh-CN, en"] {
        assert!(text.as_str().unwrap().contains(shown), "{shown}: {text}");
    }
    tab.pictures("user").await;
    let folder = tempfile::tempdir().unwrap();
    let to = json!({"behavior": "allow", "downloadPath": folder.path()});
    tab.call("Browser.setDownloadBehavior", to).await;
    tab.click("button", "Download backup").await;
    let file = folder.path().join("backup_ann.db");
    let bytes = eventually_within("the file is there", SOON, || {
        let found = std::fs::read(&file).ok().filter(|bytes| !bytes.is_empty());
        async move { found }
    })
    .await;
    assert!(bytes.starts_with(b"SQLite format 3\0"), "{:?}", &bytes[..bytes.len().min(64)]);
    well(&mut tab);
}

#[tokio::test]
async fn a_user_is_deleted_by_whoever_types_the_id() {
    let server = TestServer::start().await;
    let _ann = server.connect("ann").await;
    let operator = server.sign_in("op", "operator", None).await;
    let mut tab = console(&server, &operator.token, "users/ann").await;
    let buttons: Vec<String> = serde_json::from_value(tab.eval(BUTTONS).await).unwrap();
    assert!(buttons.iter().any(|one| one == "Download backup"), "{buttons:?}");
    assert!(!buttons.iter().any(|one| one.starts_with("Delete")), "{buttons:?}");
    well(&mut tab);
    let mut tab = console(&server, ADMIN_TOKEN, "users/ann").await;
    tab.click("#main button", "Delete with all data").await;
    let sure = "!document.querySelector('dialog [type=submit]').disabled";
    for (typed, enough) in [("an", false), ("ann ", false), ("Ann", false), ("ann", true)] {
        tab.fill("confirm", typed).await;
        assert_eq!(tab.eval(sure).await, enough, "{typed}");
    }
    tab.pictures("user-delete").await;
    tab.click("dialog [type=submit]", "Delete with all data").await;
    tab.until("location.hash === '#/users' && document.querySelector('dialog') === null").await;
    server.as_admin().get("/api/v3/admin/users/ann").await.refused(404, "not_found");
    well(&mut tab);
}

#[tokio::test]
async fn an_admin_changes_the_own_password_and_second_factor() {
    const NEW: &str = "another one that is long enough";
    let server = TestServer::start().await;
    let mei = server.sign_in("mei", "viewer", None).await;
    let mut tab = console(&server, &mei.token, "overview").await;
    let open = "document.querySelector('button.who').click()";
    tab.eval(open).await;
    tab.until("document.querySelector('dialog[open] button') !== null").await;
    tab.pictures("own").await;
    tab.click("dialog button", "Change the password").await;
    tab.fill("old_password", "a wrong one that is long").await;
    tab.fill("new_password", NEW).await;
    tab.click("dialog button", "Save").await;
    tab.until(
        "[...document.querySelectorAll('dialog .problem')].some((one) => one.textContent !== '')",
    )
    .await;
    tab.fill("old_password", PASSWORD).await;
    tab.click("dialog button", "Save").await;
    tab.until("document.querySelector('dialog') === null").await;
    // Another authenticator; who is in stays in.
    tab.eval(open).await;
    tab.click("dialog button", "Another authenticator").await;
    tab.fill("password", NEW).await;
    tab.click("dialog button", "Continue").await;
    let secret = tab.until("document.querySelector('dialog .copyable code')?.textContent").await;
    let secret = secret.as_str().unwrap().to_owned();
    assert_ne!(secret, mei.secret);
    tab.pictures("own-factor").await;
    tab.fill("code", &code(&secret, 0)).await;
    tab.click("dialog button", "Continue").await;
    let codes = tab.until("((text) => text?.includes('-') && text)(document.querySelector('dialog .copyable code')?.textContent)").await;
    tab.click("dialog button", "Done").await;
    tab.until("document.querySelector('dialog') === null").await;
    let port = server.admin_port();
    let challenge = begin(&port, "mei", NEW).await.ok();
    assert_eq!(challenge["enrolment"], json!(null));
    end(&port, &challenge, &code(&secret, 1)).await.ok();
    // New recovery codes in place of those.
    tab.eval(open).await;
    tab.click("dialog button", "New recovery codes").await;
    tab.fill("password", NEW).await;
    tab.click("dialog button", "Create").await;
    let newer = tab.until(&format!("((text) => text?.includes('-') && text !== {codes} && text)(document.querySelector('dialog .copyable code')?.textContent)")).await;
    tab.click("dialog button", "Done").await;
    let challenge = begin(&port, "mei", NEW).await.ok();
    let first = newer.as_str().unwrap().lines().next().unwrap();
    end(&port, &challenge, first).await.ok();
    // None at all, until the next login.
    tab.eval(open).await;
    tab.click("dialog button", "Give up the second factor").await;
    tab.fill("password", NEW).await;
    tab.click("dialog button.danger", "Give up the second factor").await;
    tab.until("document.querySelector('dialog') === null").await;
    let challenge = begin(&port, "mei", NEW).await.ok();
    assert!(challenge["enrolment"].is_object(), "{challenge}");
    // The console has not been left.
    go(&mut tab, "users").await;
    let troubles = tab.troubles(&["me/password"]);
    assert!(troubles.is_empty(), "{troubles:#?}");
    // Who has no login of their own is offered nothing.
    let mut tab = console(&server, ADMIN_TOKEN, "overview").await;
    assert_eq!(tab.eval("document.querySelector('button.who')").await, json!(null));
    well(&mut tab);
}
