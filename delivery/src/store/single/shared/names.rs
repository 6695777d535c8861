//! What names are, and how many stand behind them.

use protocol::{TenantId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::record::Lsn,
    Shared,
    read::counted,
    schema::{group_text, to_json},
    waiting::{Counting, UserWaiting, Waiting},
};
use crate::{
    InboxKey,
    store::{Group, NameKind},
};

/// What waits of a name.
struct Name<'a> {
    /// Where it stood in the question.
    at: usize,
    text: &'a str,
    id: &'a UserId,
    /// Whether a user of this id is known, by no word of theirs or of an admin.
    known: bool,
    /// What the file says of the user from earlier records is void.
    forgotten: Lsn,
    /// Whether there is a channel of this id, if that is known.
    channel: Option<bool>,
    /// Who comes to and leaves the role of this id.
    role: Counting,
}

impl<'a> Name<'a> {
    fn new(waiting: &Waiting, tenant: &TenantId, at: usize, id: &'a UserId, known: bool) -> Self {
        let text = id.as_str();
        // One alphabet for all ids: what can name a user can name a channel or a role.
        let channel = text.parse().ok().and_then(|id| waiting.of_channel(tenant, &id));
        let role = waiting.of_count(tenant, &format!("r:{text}"));
        let user = waiting.of_user(&InboxKey::new(tenant.clone(), id.clone()));
        let forgotten = user.map_or(0, |user| user.forgotten);
        Self {
            at,
            text,
            id,
            known,
            forgotten,
            channel: channel.map(|channel| channel.is_some()),
            role,
        }
    }
}

impl Shared {
    /// What names are; beside each, whether an inbox of that name is in memory. `has_files` says
    /// whether a user has an inbox whom this file does not know: one whose folder was put there by
    /// hand.
    pub(in super::super) fn kinds(
        &self,
        tenant: &TenantId,
        names: &[(UserId, bool)],
        has_files: impl Fn(&UserId) -> bool,
    ) -> rusqlite::Result<Vec<NameKind>> {
        let mut kinds = vec![NameKind::User; names.len()];
        let mut open: Vec<Name<'_>> = Vec::new();
        {
            let waiting = self.waiting.lock();
            for (at, (id, in_memory)) in names.iter().enumerate() {
                let key = InboxKey::new(tenant.clone(), id.clone());
                let user = waiting.of_user(&key);
                if user.is_none_or(|user| user.facts.is_none() && user.issued_at.is_none()) {
                    let waits = |user: &UserWaiting| user.forgotten == 0 || user.seen.is_some();
                    let known = *in_memory || user.is_some_and(waits);
                    open.push(Name::new(&waiting, tenant, at, id, known));
                }
            }
        }
        if open.is_empty() {
            return Ok(kinds);
        }
        // In the order of the tables: neighbours stand on one page.
        open.sort_unstable_by_key(|name| name.text);
        self.readers.ask(|db| {
            // One snapshot for all, not one for each.
            let transaction = db.unchecked_transaction()?;
            for name in &open {
                kinds[name.at] = kind(&transaction, tenant, name, &has_files)?;
            }
            transaction.commit()
        })?;
        Ok(kinds)
    }

    /// How many are in at least one of these groups, each once. Reads every member: for several
    /// groups; [`Shared::size`] tells it of one.
    pub(in super::super) fn size_of_several(
        &self,
        tenant: &TenantId,
        groups: &[Group],
    ) -> rusqlite::Result<u64> {
        let texts = to_json(&groups.iter().map(group_text).collect::<Vec<_>>());
        self.ask_settled(|db| {
            db.prepare_cached(
                "SELECT count(DISTINCT m.user) FROM json_each(?2) AS g CROSS JOIN members AS m
                 WHERE m.tenant = ?1 AND m.grp = g.value AND m.until_lsn IS NULL",
            )?
            .query_row(params![tenant.as_str(), texts], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
        })
    }
}

fn kind(
    db: &Connection,
    tenant: &TenantId,
    name: &Name<'_>,
    has_files: impl Fn(&UserId) -> bool,
) -> rusqlite::Result<NameKind> {
    let values = params![tenant.as_str(), name.text];
    let of_user = params![tenant.as_str(), name.text, name.forgotten.cast_signed()];
    let user = db
        .prepare_cached(
            "SELECT facts IS NOT NULL OR issued_at IS NOT NULL FROM users
             WHERE tenant = ?1 AND user = ?2 AND since_lsn >= ?3",
        )?
        .query_row(of_user, |row| row.get::<_, bool>(0))
        .optional()?;
    if user == Some(true) {
        return Ok(NameKind::User);
    }
    let channel = match name.channel {
        Some(channel) => channel,
        None => db
            .prepare_cached("SELECT 1 FROM channels WHERE tenant = ?1 AND id = ?2")?
            .exists(values)?,
    };
    if channel {
        return Ok(NameKind::Channel);
    }
    let (n, as_of) = counted(db, tenant, &format!("r:{}", name.text))?;
    if name.role.total(n, as_of) > 0 {
        return Ok(NameKind::Role);
    }
    // Last: a message makes an inbox of any name, so anybody could take a channel's or a role's.
    let user = user.is_some() || name.known || has_files(name.id);
    Ok(if user { NameKind::User } else { NameKind::Unknown })
}
