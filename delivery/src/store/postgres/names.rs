//! Which inbox a name stands for.

use std::mem;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::{
    columns::Columns as _,
    errors::Failure,
    pool::{Ask, Transaction, rows},
};
use crate::InboxKey;

/// Names that are remembered in each of two halves, at some 100 bytes: when one is full it becomes the
/// older one, whose names are looked up again if nobody asks for them meanwhile.
const HALF_MAX: usize = 65_536;

/// Ids of inboxes, as far as they are remembered.
#[derive(Default)]
pub(super) struct Names(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    new: FxHashMap<InboxKey, i64>,
    old: FxHashMap<InboxKey, i64>,
}

impl Names {
    pub(super) fn get(&self, key: &InboxKey) -> Option<i64> {
        let mut halves = self.0.lock();
        if let Some(id) = halves.new.get(key) {
            return Some(*id);
        }
        let (key, id) = halves.old.remove_entry(key)?;
        halves.put(key, id);
        Some(id)
    }

    /// Remembers what was committed.
    pub(super) fn put(&self, key: InboxKey, id: i64) {
        self.0.lock().put(key, id);
    }

    /// Of an inbox that is not there any more.
    pub(super) fn forget(&self, key: &InboxKey) {
        let mut halves = self.0.lock();
        halves.new.remove(key);
        halves.old.remove(key);
    }
}

impl Halves {
    fn put(&mut self, key: InboxKey, id: i64) {
        if self.new.len() >= HALF_MAX {
            self.old = mem::take(&mut self.new);
        }
        self.new.insert(key, id);
    }
}

/// Looks names up. Those that are not known are left out.
pub(super) async fn find(
    client: &impl Ask,
    keys: &[&InboxKey],
) -> Result<Vec<(InboxKey, i64)>, Failure> {
    let tenants: Vec<&str> = keys.iter().map(|key| key.tenant.as_str()).collect();
    let users: Vec<&str> = keys.iter().map(|key| key.user.as_str()).collect();
    let sql = "SELECT i.tenant, i.usr, i.id FROM unnest($1::text[], $2::text[]) AS k (tenant, usr)
        JOIN inboxes i ON i.tenant = k.tenant AND i.usr = k.usr";
    named(&rows(client, sql, &[&tenants, &users]).await?)
}

/// Makes inboxes that are not there; those that another transaction makes meanwhile are left out.
/// Beside each the record after which it is there; none for the latest that is.
pub(super) async fn make(
    transaction: &Transaction<'_>,
    keys: &[(&InboxKey, Option<i64>)],
    now: i64,
) -> Result<Vec<(InboxKey, i64)>, Failure> {
    let tenants: Vec<&str> = keys.iter().map(|(key, _)| key.tenant.as_str()).collect();
    let users: Vec<&str> = keys.iter().map(|(key, _)| key.user.as_str()).collect();
    let born: Vec<Option<i64>> = keys.iter().map(|(_, born)| *born).collect();
    // In one order everywhere: who makes the same ones waits, and never in a circle.
    let sql = "INSERT INTO inboxes (tenant, usr, created_at, born_pos, group_pos)
        SELECT k.tenant, k.usr, $4, k.born, k.born FROM (
            SELECT k.tenant, k.usr, coalesce(k.born, t.pos, 0) AS born
            FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (tenant, usr, born)
            LEFT JOIN tenants t ON t.tenant = k.tenant
        ) AS k ORDER BY k.tenant COLLATE \"C\", k.usr COLLATE \"C\"
        ON CONFLICT (tenant, usr) DO NOTHING RETURNING tenant, usr, id";
    named(&rows(transaction, sql, &[&tenants, &users, &born, &now]).await?)
}

fn named(rows: &[tokio_postgres::Row]) -> Result<Vec<(InboxKey, i64)>, Failure> {
    rows.iter().map(|row| Ok((InboxKey::new(row.id(0)?, row.id(1)?), row.column(2)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let names = Names::default();
        let key = |n: usize| InboxKey::new("t".parse().unwrap(), n.to_string().parse().unwrap());
        for n in 0..3 * HALF_MAX {
            names.put(key(n), 1);
            if n % 1_000 == 0 {
                assert_eq!(names.get(&key(0)), Some(1), "{n}");
            }
        }
        assert_eq!(names.get(&key(1)), None);
        names.forget(&key(0));
        assert_eq!(names.get(&key(0)), None);
    }
}
