//! The console without a mouse, and on a phone.

use super::clicks::{console, go, well};
use crate::support::{TestServer, chromium::Tab, server::ADMIN_TOKEN};

const FOCUSED: &str = "document.activeElement";

/// Tabs on until the focus is where it is wanted.
async fn tab_to(tab: &mut Tab, wanted: &str) {
    for _ in 0..60 {
        if tab.eval(&format!("((one) => {wanted})({FOCUSED})")).await == true {
            return;
        }
        tab.press("Tab", 0).await;
        let ring = tab
            .eval(&format!(
                "{FOCUSED} === document.body || getComputedStyle({FOCUSED}).outlineStyle !== 'none'"
            ))
            .await;
        let where_ = tab.eval(&format!("{FOCUSED}.outerHTML.slice(0, 200)")).await;
        assert_eq!(ring, true, "no ring shows where the focus is: {where_}");
    }
    panic!("never focused: {wanted}");
}

#[tokio::test]
async fn everything_is_reached_by_keyboard() {
    let server = TestServer::start().await;
    server.connect("ann").await;
    let mut tab = Tab::start(1280, 900).await;
    tab.open(&format!("http://{}/", server.admin)).await;
    // The login: the first field has the focus.
    tab.until("document.activeElement.name === 'username'").await;
    tab_to(&mut tab, "one.innerText === 'Use a token instead'").await;
    tab.press("Enter", 0).await;
    tab.until("document.activeElement.name === 'token'").await;
    tab.write(ADMIN_TOKEN).await;
    tab.press("Enter", 0).await;
    tab.until("document.querySelector('#main h1')?.textContent === 'Overview'").await;
    // Past the navigation.
    tab_to(&mut tab, "one.className === 'skip'").await;
    tab.press("Enter", 0).await;
    tab.until("document.activeElement.tagName === 'H1'").await;
    // Anywhere by two keys; the focus goes along.
    tab.press("g", 0).await;
    tab.press("v", 0).await;
    tab.until("document.activeElement.textContent === 'Services and keys'").await;
    // A dialog keeps the focus and gives it back.
    tab_to(&mut tab, "one.innerText === 'New service'").await;
    tab.press("Enter", 0).await;
    tab.until("document.activeElement.name === 'name'").await;
    for _ in 0..25 {
        tab.press("Tab", 0).await;
        let inside = format!("{FOCUSED} === document.body || {FOCUSED}.closest('dialog') !== null");
        assert_eq!(tab.eval(&inside).await, true, "the focus has left the dialog");
    }
    tab.press("Escape", 0).await;
    tab.until("document.querySelector('dialog') === null && document.activeElement.innerText === 'New service'").await;
    // A service made by keys alone.
    tab.press("Enter", 0).await;
    tab.until("document.activeElement.name === 'name'").await;
    tab.write("By keyboard").await;
    tab.press("Enter", 0).await;
    tab.until("document.querySelector('dialog[open] .copyable') !== null").await;
    tab.press("Escape", 0).await;
    tab.until("document.querySelector('#main h1').textContent === 'By keyboard'").await;
    // By a few letters.
    tab.press("k", 2).await;
    tab.until("document.activeElement.role === 'combobox'").await;
    tab.write("connec").await;
    tab.until("document.querySelector('[role=option][aria-selected=true]')?.textContent === 'Connections'").await;
    tab.press("Enter", 0).await;
    tab.until("document.activeElement.textContent === 'Connections'").await;
    tab.press("/", 0).await;
    tab.until("document.activeElement.dataset.filter !== undefined").await;
    tab.press("Tab", 0).await;
    tab.eval("document.activeElement.blur()").await;
    tab.press("?", 8).await;
    tab.until("document.querySelector('dialog kbd') !== null").await;
    tab.press("Escape", 0).await;
    well(&mut tab);
}

/// Names for who cannot see: of every control, in every view.
#[tokio::test]
async fn every_control_has_a_name_and_nothing_is_wider_than_a_phone() {
    const NAMELESS: &str = "[...document.querySelectorAll('button, a, input, select, textarea')].filter((one) => \
        one.checkVisibility({ visibilityProperty: true }) && !(one.innerText?.trim() || one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)";
    let server = TestServer::start().await;
    let _ann = server.connect("ann").await;
    let service = server.service().await;
    service
        .send_to("ann", "a title that is quite long and goes over the width of a telephone")
        .await
        .ok();
    let mut tab = console(&server, ADMIN_TOKEN, "overview").await;
    tab.resize(390, 844).await;
    let views =
        tab.eval("[...document.querySelectorAll('nav a')].map((one) => one.dataset.view)").await;
    let mut views: Vec<String> =
        views.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    assert!(views.len() >= 13, "{views:?}");
    views.push("users/ann".to_owned());
    views.push("templates/file_share".to_owned());
    for view in &views {
        go(&mut tab, view).await;
        let nameless = tab.eval(NAMELESS).await;
        assert_eq!(nameless, serde_json::json!([]), "{view}");
        let over = tab.eval("document.documentElement.scrollWidth - innerWidth").await;
        assert!(over.as_i64().unwrap() <= 0, "{view} is {over} px too wide");
        let headings = tab.eval("document.querySelectorAll('h1').length").await;
        assert_eq!(headings, 1, "{view}");
        tab.picture(&format!("phone-{}", view.replace('/', "-"))).await;
    }
    // The navigation is behind a button there.
    tab.click("button", "Navigation").await;
    tab.until("document.activeElement.closest('nav') !== null").await;
    tab.press("Escape", 0).await;
    tab.until("!document.getElementById('app').classList.contains('open')").await;
    well(&mut tab);
}
