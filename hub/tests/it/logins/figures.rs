//! Figures for `loadtest/RESULTS.md`.

use std::time::Instant;

use super::{ALL, Site};

/// Callbacks of one provider, each half of them of people seen before.
const LOGINS: usize = 400;

/// From before the callback's request until its answer, the provider's own answers on loopback included:
/// what the hub adds is less.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_long_a_callback_takes() {
    let site = Site::start().await;
    for provider in ALL {
        let (mut first, mut known) = (vec![], vec![]);
        for n in 0..LOGINS {
            site.fakes.person(provider, &(10_000 + n % (LOGINS / 2)).to_string());
            let mut browser = site.browser();
            let begun = browser.begin(provider, "").await;
            let back = browser.sign_in(&begun.auth_url).await;
            let start = Instant::now();
            browser.get(&back).await.ok();
            if n < LOGINS / 2 { &mut first } else { &mut known }.push(start.elapsed());
        }
        for (who, mut took) in [("first", first), ("known", known)] {
            took.sort_unstable();
            let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
            println!("{provider}: {} callbacks, {who} login: p50 {p50:?} p99 {p99:?}", took.len());
        }
    }
}
