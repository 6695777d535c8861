//! What is asked of `shared.db` often: answered from what waits and a few indexed rows.

use std::sync::Arc;

use protocol::{ChannelId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{
        inbox::SharedEntry,
        membership::{Membership, Memberships},
        record::{Facts, ForgetRecord, Lsn},
        sql,
    },
    Shared,
    recent::concerns,
    schema::{CHANNELS, ENTRY, entry_of, from_json, group_of, group_text, most},
    waiting::KeptChannel,
    write,
};
use crate::{
    InboxKey,
    store::{Group, facts::no_facts},
};

/// What an inbox begins with when it is loaded.
#[derive(Default)]
pub(in super::super) struct Standing {
    /// The record since which it exists; none if it is not known.
    pub(in super::super) since: Option<Lsn>,
    /// The groups it is and was in.
    pub(in super::super) memberships: Memberships,
}

/// What was sent to an inbox, in its order.
#[derive(Default)]
pub(in super::super) struct Wanted {
    pub(in super::super) entries: Vec<SharedEntry>,
    /// There is more after the last of them.
    pub(in super::super) more: bool,
}

impl Shared {
    /// What an inbox begins with.
    pub(in super::super) fn standing(&self, key: &InboxKey) -> rusqlite::Result<Standing> {
        let (seen, forgotten, stays) = {
            let waiting = self.waiting.lock();
            let stays = waiting.stays(key, &waiting.ended(&key.tenant));
            let user = waiting.of_user(key);
            (user.and_then(|user| user.seen), user.map_or(0, |user| user.forgotten), stays)
        };
        self.readers.ask(|db| {
            let row = db
                .prepare_cached(
                    "SELECT since_lsn, grouped FROM users
                     WHERE tenant = ?1 AND user = ?2 AND since_lsn >= ?3",
                )?
                .query_row(
                    params![key.tenant.as_str(), key.user.as_str(), forgotten.cast_signed()],
                    |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, bool>(1)?)),
                )
                .optional()?;
            let grouped = row.is_some_and(|(_, grouped)| grouped);
            let file = if grouped { memberships(db, key)? } else { Memberships::default() };
            let memberships = if grouped || !stays.no_turns() { stays.over(file) } else { file };
            let since = seen.map(|(since, _)| since);
            Ok(Standing { since: since.into_iter().chain(row.map(|row| row.0)).min(), memberships })
        })
    }

    /// The stays of users of one tenant.
    pub(in super::super) fn memberships(
        &self,
        keys: &[InboxKey],
    ) -> rusqlite::Result<Vec<Memberships>> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let stays: Vec<_> = {
            let waiting = self.waiting.lock();
            let ended = waiting.ended(&first.tenant);
            keys.iter().map(|key| waiting.stays(key, &ended)).collect()
        };
        self.readers.ask(|db| {
            keys.iter()
                .zip(stays)
                .map(|(key, stays)| Ok(stays.over(memberships(db, key)?)))
                .collect()
        })
    }

    /// What is known of a user; none for one that is not known.
    pub(in super::super) fn user(&self, key: &InboxKey) -> rusqlite::Result<Option<Facts>> {
        let waiting = self.waiting.lock().of_user(key).cloned().unwrap_or_default();
        let known = match waiting.facts {
            Some(facts) => Some(Facts::clone(&facts)),
            None => self.readers.ask(|db| {
                let forgotten = waiting.forgotten.cast_signed();
                db.prepare_cached(&format!(
                    "{USERS} WHERE tenant = ?1 AND user = ?2 AND since_lsn >= ?3"
                ))?
                .query_row(params![key.tenant.as_str(), key.user.as_str(), forgotten], facts_of)
                .optional()
            })?,
        };
        let seen = || waiting.seen.map(|(_, at)| facts_of_seen(key, at));
        Ok(known
            .or_else(seen)
            .map(|facts| Facts { issued_at: facts.issued_at.max(waiting.issued_at), ..facts }))
    }

    /// A channel.
    pub(in super::super) fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> rusqlite::Result<Option<Arc<KeptChannel>>> {
        let forgotten = {
            let waiting = self.waiting.lock();
            if let Some(channel) = waiting.of_channel(tenant, id) {
                return Ok(channel);
            }
            waiting.forgotten()
        };
        let found = self.readers.ask(|db| {
            db.prepare_cached(
                "SELECT channel, since_lsn FROM channels WHERE tenant = ?1 AND id = ?2",
            )?
            .query_row(params![tenant.as_str(), id.as_str()], |row| {
                let since = row.get::<_, i64>(1)?.cast_unsigned();
                Ok(KeptChannel { channel: from_json(row, 0)?, since })
            })
            .optional()
        })?;
        Ok(found.map(|mut kept| {
            let gone = |(lsn, record): &(Lsn, Arc<ForgetRecord>)| {
                kept.since < *lsn && kept.is_made_by(tenant, record)
            };
            if forgotten.iter().any(gone) {
                kept.channel.created_by.clear();
            }
            Arc::new(kept)
        }))
    }

    /// How many are in a group.
    pub(in super::super) fn size(&self, tenant: &TenantId, group: &Group) -> rusqlite::Result<u64> {
        self.count(tenant, &group_text(group))
    }

    /// How many channels a tenant has.
    pub(in super::super) fn channels(&self, tenant: &TenantId) -> rusqlite::Result<u64> {
        self.count(tenant, CHANNELS)
    }

    fn count(&self, tenant: &TenantId, what: &str) -> rusqlite::Result<u64> {
        let counting = self.waiting.lock().of_count(tenant, what);
        let (n, as_of) = self.readers.ask(|db| counted(db, tenant, what))?;
        Ok(counting.total(n, as_of))
    }

    /// What was sent after a record to everyone in a tenant, and to the groups of an inbox: the
    /// first so many.
    pub(in super::super) fn entries_after(
        &self,
        tenant: &TenantId,
        memberships: &Memberships,
        after: Lsn,
        limit: usize,
    ) -> rusqlite::Result<Wanted> {
        let groups = memberships.groups();
        if let Some(entries) = self.recent.lock().after(tenant, &groups, after)
            && entries.len() <= limit
        {
            return Ok(Wanted { entries, more: false });
        }
        let mut entries: Vec<SharedEntry> = {
            let waiting = self.waiting.lock();
            let entries = waiting.entries_after(tenant, after);
            let wanted = entries.filter(|entry| concerns(entry, &groups));
            wanted.take(limit.saturating_add(1)).map(|entry| SharedEntry::clone(entry)).collect()
        };
        let found = self.readers.ask(|db| {
            let mut lsns = Vec::new();
            let most = most(limit.saturating_add(1));
            let first = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let mut select = db.prepare_cached(
                "SELECT lsn FROM broadcasts WHERE tenant = ?1 AND grps IS NULL AND lsn > ?2
                 ORDER BY lsn LIMIT ?3",
            )?;
            let values = params![tenant.as_str(), after.cast_signed(), most];
            for lsn in select.query_map(values, first)? {
                lsns.push(lsn?);
            }
            let mut select = db.prepare_cached(
                "SELECT lsn FROM broadcast_groups WHERE tenant = ?1 AND grp = ?2 AND lsn > ?3
                 ORDER BY lsn LIMIT ?4",
            )?;
            for group in &groups {
                let values = params![tenant.as_str(), group_text(group), after.cast_signed(), most];
                for lsn in select.query_map(values, first)? {
                    lsns.push(lsn?);
                }
            }
            lsns.sort_unstable();
            // In several of the inbox's groups.
            lsns.dedup();
            lsns.truncate(limit.saturating_add(1));
            let mut select = db
                .prepare_cached(&format!("SELECT {ENTRY} FROM broadcasts AS b WHERE b.lsn = ?1"))?;
            lsns.into_iter()
                .map(|lsn| select.query_row([lsn], |row| entry_of(tenant.as_str(), row)))
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        entries.extend(found);
        entries.sort_by_key(|entry| entry.lsn);
        // In both places.
        entries.dedup_by_key(|entry| entry.lsn);
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Wanted { entries, more })
    }

    /// Asks the file when everything that waits is in it. While it cannot be written, the question
    /// goes to a draft of what it would be, which takes memory instead of disk.
    pub(in super::super) fn ask_settled<T>(
        &self,
        ask: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match self.flush() {
            Ok(()) => self.readers.ask(ask),
            Err(error) if sql::is_damage(&error) => Err(error),
            Err(_) => {
                self.metrics.shared_errors.increment(1);
                // Nobody of this process may be writing.
                let writer = self.writer.lock();
                let items = {
                    let waiting = self.waiting.lock();
                    waiting.first(usize::MAX, usize::MAX)
                };
                let draft = sql::open_draft(&self.path)?;
                write::write(&draft, &items)?;
                let answer = ask(&draft);
                drop(draft);
                drop(writer);
                answer
            }
        }
    }
}

fn memberships(db: &Connection, key: &InboxKey) -> rusqlite::Result<Memberships> {
    let mut select = db.prepare_cached(
        "SELECT grp, since_lsn, until_lsn FROM members WHERE tenant = ?1 AND user = ?2",
    )?;
    let rows = select.query_map(params![key.tenant.as_str(), key.user.as_str()], |row| {
        let until = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
        Ok(Membership {
            group: group_of(row, 0)?,
            since: row.get::<_, i64>(1)?.cast_unsigned(),
            until: until.unwrap_or(Membership::OPEN),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into())
}

/// A count in the file, and the record as of which it is.
pub(super) fn counted(
    db: &Connection,
    tenant: &TenantId,
    what: &str,
) -> rusqlite::Result<(u64, Lsn)> {
    db.prepare_cached("SELECT n, lsn FROM counts WHERE tenant = ?1 AND what = ?2")?
        .query_row(params![tenant.as_str(), what], |row| {
            Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), row.get::<_, i64>(1)?))
        })
        .optional()
        .map(|row| row.map_or((0, 0), |(n, lsn)| (n, lsn.cast_unsigned())))
}

/// Selects what [`facts_of`] reads.
pub(in super::super) const USERS: &str = "SELECT user, seen_at, issued_at, facts FROM users";

/// Reads a row of [`USERS`].
pub(in super::super) fn facts_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Facts> {
    let issued_at = row.get::<_, Option<i64>>(2)?.map(Time::from_millis);
    let facts = match row.get_ref(3)?.as_str_or_null()? {
        Some(_) => from_json(row, 3)?,
        None => no_facts(super::schema::id_of(row, 0)?, Time::from_millis(row.get(1)?)),
    };
    Ok(Facts { issued_at, ..facts })
}

fn facts_of_seen(key: &InboxKey, at: Time) -> Facts {
    no_facts(key.user.clone(), at)
}
