//! Whoever may not do something sees no button for it, and no view refuses them.

use serde_json::{Value, json};

use super::clicks::{console, go};
use crate::support::TestServer;

#[tokio::test]
async fn nobody_is_offered_what_they_are_refused() {
    let server = TestServer::start().await;
    server
        .as_admin()
        .post("/api/v3/admin/services", json!({"id": "shop", "name": "Shop"}))
        .await
        .ok();
    let _ann = server.connect("ann").await;
    for (role, tenant, has, has_not) in [
        ("viewer", None, &["nodes", "tail"][..], &["send", "admins", "tenants"][..]),
        ("operator", None, &["nodes", "send"], &["admins", "tenants"]),
        ("admin", Some("default"), &["send", "admins"], &["nodes", "tenants"]),
    ] {
        let name = format!("{role}-{}", tenant.unwrap_or("all"));
        let admin = server.sign_in(&name, role, tenant).await;
        let mut tab = console(&server, &admin.token, "overview").await;
        let views = tab
            .eval("[...document.querySelectorAll('nav a')].map((one) => one.dataset.view)")
            .await;
        let views: Vec<String> = serde_json::from_value(views).unwrap();
        for view in has {
            assert!(views.iter().any(|one| one == view), "{name} has no {view}");
        }
        for view in has_not {
            assert!(!views.iter().any(|one| one == view), "{name} has {view}");
        }
        let more = ["users/ann", "services/shop", "templates/file_share", "webhooks/shop"];
        let more = more.into_iter().map(str::to_owned);
        for view in views.into_iter().chain(more) {
            go(&mut tab, &view).await;
            let buttons = tab.eval("[...document.querySelectorAll('#main button')].map((one) => one.innerText).join()").await;
            if role == "viewer" {
                for refused in [
                    "New",
                    "Disconnect",
                    "Disable",
                    "Edit",
                    "Rotate",
                    "Revoke",
                    "Save",
                    "Delete",
                    "Roles",
                ] {
                    assert!(
                        !buttons.as_str().unwrap().contains(refused),
                        "{view} has {refused}: {buttons}"
                    );
                }
            }
            assert_eq!(
                tab.eval("document.querySelector('.toast.bad')?.textContent").await,
                Value::Null,
                "{name}: {view}"
            );
        }
        // A view that is not theirs is none, whatever the address says.
        go(&mut tab, if tenant.is_some() { "nodes" } else { "tenants" }).await;
        assert_eq!(tab.eval("document.querySelector('#main h1').textContent").await, "Overview");
        // Nothing was asked for that is refused: that would be an error in the browser's log.
        let troubles = tab.troubles(&[]);
        assert!(troubles.is_empty(), "{name}: {troubles:#?}");
    }
}
