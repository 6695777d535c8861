//! The numbers of the database's advisory locks, in one place: two that are the same would keep strangers
//! waiting for each other. Control data and webhooks have numbers of their own beside their transactions.

/// Migrations are run under it.
pub(super) const MIGRATIONS: i64 = 0x7075_7368_6875_6201;

/// One node at a time adds up statistics.
pub(super) const STATISTICS: i64 = 0x7075_7368_6875_6202;

/// One node at a time sends what is due.
pub(super) const SCHEDULE: i64 = 0x7075_7368_6875_6203;

/// One node at a time goes over all inboxes.
pub(super) const PRUNING: i64 = 0x7075_7368_6875_6204;

/// One folder at a time is moved in.
pub(super) const MOVING: i64 = 0x7075_7368_6875_6206;

/// One node at a time backs up everybody.
pub(super) const BACKUPS: i64 = 0x7075_7368_6875_6207;

/// Whether a node is alone on the database, see [`super::company`].
pub(super) const COMPANY: i64 = 0x7075_7368_6875_6205;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let mut all = vec![MIGRATIONS, STATISTICS, SCHEDULE, PRUNING, COMPANY, MOVING, BACKUPS];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7);
    }
}
