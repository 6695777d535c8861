//! The audit log in the console.

use serde_json::json;

use super::clicks::{console, well};
use crate::support::{TestServer, server::ADMIN_TOKEN};

const SERVICES: &str = "/api/v3/admin/services";

/// Every row's action.
const ACTIONS: &str = "[...document.querySelectorAll('tbody tr')].map((row) => row.querySelectorAll('code')[0].textContent)";

#[tokio::test]
async fn what_was_changed_is_found_and_its_difference_read() {
    let server = TestServer::start().await;
    let mei = server.sign_in("mei", "admin", None).await;
    let viewer = server.sign_in("kim", "viewer", None).await;
    let api = server.admin_port().bearer(&mei.token);
    let shop = json!({"id": "shop", "name": "Shop", "owner": "Li"});
    api.post(SERVICES, shop.clone()).await.ok();
    let limits = json!({"owner": "小美", "allowed_networks": ["10.0.0.0/8", "127.0.0.0/8"]});
    api.put(&format!("{SERVICES}/shop"), limits).await.ok();
    let refused = server.admin_port().bearer(&viewer.token).post(SERVICES, shop).await;
    refused.refused(403, "forbidden");

    let mut tab = console(&server, ADMIN_TOKEN, "audit").await;
    tab.until("document.querySelectorAll('tbody tr').length > 2").await;
    let top = "document.querySelector('tbody tr').innerText";
    let top = tab.eval(top).await;
    assert!(
        ["kim", "services_create", "refused"].iter().all(|one| top.as_str().unwrap().contains(one)),
        "{top}"
    );
    tab.pictures("audit").await;
    // By what was done; the address keeps it.
    tab.eval("document.querySelector('input[aria-label=Action]').focus()").await;
    tab.write("services_update").await;
    tab.until(&format!("(({ACTIONS}).join() === 'services_update')")).await;
    assert!(tab.eval("location.hash").await.as_str().unwrap().contains("action=services_update"));
    tab.click("tbody button", "Details").await;
    tab.until("document.querySelector('dialog ins') !== null").await;
    let shown = tab
        .eval("[...document.querySelectorAll('dialog tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))")
        .await;
    let shown: Vec<[String; 3]> = serde_json::from_value(shown).unwrap();
    let has = |row: [&str; 3]| shown.iter().any(|one| *one == row);
    assert!(has(["owner", "Li", "小美"]), "{shown:?}");
    assert!(
        shown.iter().any(|[_, before, after]| before == "–" && after == "10.0.0.0/8, 127.0.0.0/8"),
        "{shown:?}"
    );
    tab.pictures("audit-entry").await;
    tab.click("dialog button", "Close").await;
    // And by when: nothing was done in the last century.
    tab.eval("(() => { const one = [...document.querySelectorAll('input[type=datetime-local]')].at(-1); one.value = '1999-12-31T23:59'; one.dispatchEvent(new Event('change')); })()").await;
    tab.until("document.querySelector('.empty')?.innerText === 'No entries.'").await;
    well(&mut tab);
}

#[tokio::test]
async fn the_log_is_paged_and_verified() {
    let server = TestServer::start().await;
    let admin = server.as_admin();
    admin.post(SERVICES, json!({"id": "shop", "name": "Shop"})).await.ok();
    for owner in 0..60 {
        admin.put(&format!("{SERVICES}/shop"), json!({"owner": format!("{owner}")})).await.ok();
    }
    let mut tab = console(&server, ADMIN_TOKEN, "audit").await;
    tab.until("document.querySelectorAll('tbody tr').length === 50").await;
    tab.click("button", "Show more").await;
    tab.until("document.querySelectorAll('tbody tr').length >= 61").await;
    let actions = tab.eval(ACTIONS).await;
    assert_eq!(actions.as_array().unwrap().last(), Some(&json!("services_create")));
    tab.click("button", "Verify the log").await;
    let said = tab.until("document.querySelector('.notice.good')?.innerText").await;
    let entries = admin.get("/api/v3/admin/audit/verify").await.ok()["entries"].clone();
    let whole = format!("The log is whole: all {entries} entries");
    assert!(said.as_str().unwrap().starts_with(&whole), "{said}");
    tab.pictures("audit-verified").await;
    // Somebody with a hand on the file.
    let file = rusqlite::Connection::open(server.storage().join(".hub/control.db")).unwrap();
    let harm = "DROP TRIGGER audit_entry_stands; UPDATE audit_entry SET status = 403 WHERE seq = 3";
    file.execute_batch(harm).unwrap();
    tab.click("button", "Verify the log").await;
    let said = tab.until("document.querySelector('.notice.bad')?.innerText").await;
    let said = said.as_str().unwrap();
    let changed = "Entry 3 is not as it was written; the 2 before it hold.";
    assert!(said.starts_with(changed), "{said}");
    well(&mut tab);
    // All of it is looked through, so only who sees all may.
    let lee = server.sign_in("lee", "admin", Some("default")).await;
    let mut tab = console(&server, &lee.token, "audit").await;
    tab.until("document.querySelectorAll('tbody tr').length > 0").await;
    let buttons =
        "[...document.querySelectorAll('#main button')].map((one) => one.innerText).join()";
    let buttons = tab.eval(buttons).await;
    assert!(!buttons.as_str().unwrap().contains("Verify"), "{buttons}");
    well(&mut tab);
}
