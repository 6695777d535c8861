//! Where webhooks are kept: the file `webhooks.db`, or tables in a PostgreSQL that nodes share.

use crate::{
    migration::Migration,
    sql::{Area, postgres::words},
};

/// The file's name in the node's folder.
pub const FILE_NAME: &str = "webhooks.db";

/// Endpoints, events on their way, and who sends them.
pub(super) static AREA: Area = Area {
    file: &[include_str!("schema.sql"), include_str!("schema_2.sql")],
    migrations: &[Migration {
        version: 1,
        name: "init",
        sql: include_str!("../../migrations/postgres/webhooks_0001_init.sql"),
    }],
    compatible_from: 1,
    words: words!("webhooks", 4120833527751246103),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Database, sqlite, values};

    #[test]
    fn migrations_are_numbered_from_one() {
        assert!(AREA.migrations.iter().map(|migration| migration.version).eq(1..=1));
    }

    /// What waits may be a million rows: SQLite must find its way without being told it, for PostgreSQL
    /// does not know the words by which it is told.
    #[test]
    fn questions_about_many_rows_go_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let file = sqlite::Connection::open(&dir.path().join(FILE_NAME), &AREA).unwrap();
        let mut file = Database::Sqlite(file);
        for (sql, index) in [
            (super::super::deliveries::DUE, "delivery_due"),
            (super::super::deliveries::NEXT_DUE, "delivery_due"),
            (super::super::deliveries::DEAD_LETTERS, "delivery_failed"),
            (super::super::deliveries::LIST, "delivery_listed"),
        ] {
            let explain: &'static str = format!("EXPLAIN QUERY PLAN {sql}").leak();
            let plan = file.glance(explain, &values![1_i64, 1_i64, 1_i64, 1_i64]).unwrap();
            let plan: Vec<_> = plan
                .into_iter()
                .map(|mut row| {
                    let _ = (row.int().unwrap(), row.int().unwrap(), row.int().unwrap());
                    row.text().unwrap()
                })
                .collect();
            assert!(plan[0].contains(index), "{sql}: {plan:?}");
            assert!(!plan.iter().any(|step| step.contains("SCAN")), "{sql}: {plan:?}");
        }
    }
}
