//! The README's tables are made from the code. `UPDATE_README=1 cargo test -p hub --test readme`
//! writes them.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::{fmt::Write as _, fs, path::Path};

use delivery::metrics::{Kind, Metric};
use protocol::CloseReason;

fn metrics() -> String {
    let mut table = "| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    let mut all: Vec<&Metric> = [
        hub::live::metrics::ALL,
        hub::health::METRICS,
        hub::http::METRICS,
        hub::bus::metrics::ALL,
        hub::telemetry::METRICS,
        hub::app::METRICS,
        delivery::api::METRICS,
        delivery::tail::METRICS,
        delivery::content::METRICS,
        delivery::spans::METRICS,
        delivery::backup::METRICS,
        delivery::backup::JOB_METRICS,
        delivery::backup::RUN_METRICS,
        delivery::identity::METRICS,
        delivery::control::METRICS,
        delivery::limit::METRICS,
        delivery::guard::METRICS,
        delivery::outbound::METRICS,
        delivery::template::METRICS,
        delivery::provider::METRICS,
        delivery::account::METRICS,
        delivery::audit::METRICS,
        delivery::deletion::METRICS,
        delivery::channel::METRICS,
        delivery::webhook::METRICS,
        delivery::store::single::metrics::ALL,
        delivery::store::postgres::metrics::ALL,
        delivery::store::outcome::ALL,
        delivery::store::single::metrics::LEDGER,
    ]
    .into_iter()
    .flatten()
    .collect();
    all.sort_by_key(|metric| metric.name);
    for metric in all {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = metric.labels.replace(',', ", ");
        writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help).unwrap();
    }
    table
}

fn close_codes() -> String {
    let mut table = "| Code | Why | Come back by itself |\n|---|---|---|\n".to_owned();
    let mut all: Vec<_> =
        CloseReason::ALL.into_iter().filter(|reason| reason.code() != 1006).collect();
    all.sort_by_key(|reason| reason.code());
    for reason in all {
        let back = if reason.reconnect() { "yes, with backoff" } else { "no" };
        writeln!(table, "| {} | {} | {back} |", reason.code(), reason.text()).unwrap();
    }
    table
}

fn place(readme: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let start = readme.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let end = start + readme[start..].find("<!-- end -->").expect("an end");
    format!("{}{table}{}", &readme[..start], &readme[end..])
}

#[test]
fn tables_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let made = place(&readme, "settings", &hub::config::markdown_table());
    let made = place(&made, "metrics", &metrics());
    let made = place(&made, "close codes", &close_codes());
    if std::env::var_os("UPDATE_README").is_some() {
        return fs::write(&path, &made).unwrap();
    }
    assert!(readme == made, "README.md is behind the code: run this test with UPDATE_README=1");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("../README.md")).unwrap();
    let mut tests = String::new();
    for entry in fs::read_dir(root.join("tests/it/promises")).unwrap() {
        tests += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let mut named = 0;
    for word in readme.split('`').filter(|word| word.starts_with("promise_")) {
        assert!(tests.contains(&format!("fn {word}(")), "{word} is no test");
        named += 1;
    }
    assert!(named >= 8, "the promises' table is gone");
}
