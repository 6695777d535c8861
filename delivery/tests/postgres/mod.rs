//! Databases with pushhub's tables, one for each test. Other crates take this file in by `#[path]`.

use std::sync::OnceLock;

use delivery::{
    control::Control,
    store::postgres::{PostgresConfig, PostgresStore},
    webhook::Webhooks,
};

#[allow(unused_imports, reason = "not every test that shares this needs all of it")]
pub(crate) use servers::{ask, copy_of, empty_database};

/// A fresh database with pushhub's tables, and its address: a copy of one that was migrated once.
#[allow(dead_code, reason = "not every test that shares this needs all of it")]
pub(crate) fn database() -> String {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let url = servers::empty_database();
        let config = PostgresConfig::new(url.clone());
        servers::aside(async move { PostgresStore::migrate(&config).await.unwrap() });
        Control::migrate_postgres(url.parse().unwrap(), tokio_postgres::NoTls).unwrap();
        Webhooks::migrate_postgres(url.parse().unwrap(), tokio_postgres::NoTls).unwrap();
        url
    });
    servers::copy_of(template)
}
