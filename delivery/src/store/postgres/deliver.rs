//! Puts messages, edits and recalls into inboxes, in the transaction of whoever asks for it.
//!
//! Every transaction takes what it needs in one order: answers and bodies, then `tenants` by name, new
//! names, and inboxes by id. So none waits for another in a circle.

use std::collections::BTreeMap;

use protocol::{TenantId, UserId};
use rustc_hash::FxHashMap;

use super::{
    columns::{Columns as _, group_text},
    core::Core,
    errors::Failure,
    groups, names,
    pool::{Transaction, execute, rows},
    rows::{Content, Inbox},
    work::Work,
};
use crate::{
    InboxKey,
    store::{Audience, Group},
};

/// What is put into inboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    /// Another content for a message, or none any more. Who was sent it by a group was a member at
    /// `place`.
    Rewrite {
        recall: bool,
        place: Option<i64>,
    },
}

/// Something to put into inboxes.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) tenant: TenantId,
    pub(super) audience: Audience,
    pub(super) content: Content,
    pub(super) kind: Kind,
    /// Its place among the tenant's records; none for one that goes to named users only.
    pub(super) pos: Option<i64>,
}

impl Item {
    /// Whether it is one for groups or everyone.
    pub(super) fn is_shared(audience: &Audience) -> bool {
        match audience {
            Audience::Everyone => true,
            Audience::Some { groups, .. } => !groups.is_empty(),
        }
    }

    fn users(&self) -> &[UserId] {
        match &self.audience {
            Audience::Everyone => &[],
            Audience::Some { users, .. } => users,
        }
    }

    fn groups(&self) -> &[Group] {
        match &self.audience {
            Audience::Everyone => &[],
            Audience::Some { groups, .. } => groups,
        }
    }

    /// Where its readers' memberships are looked at.
    fn place(&self) -> Option<i64> {
        match self.kind {
            Kind::Message => self.pos,
            Kind::Rewrite { place, .. } => place,
        }
    }
}

/// Gives places to records for groups, in their order. Holds the tenants' rows from here on.
pub(super) async fn places(
    transaction: &Transaction<'_>,
    shared: impl Iterator<Item = &TenantId>,
) -> Result<BTreeMap<TenantId, i64>, Failure> {
    let mut counts: BTreeMap<TenantId, i64> = BTreeMap::new();
    for tenant in shared {
        *counts.entry(tenant.clone()).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(counts);
    }
    let tenants: Vec<&str> = counts.keys().map(TenantId::as_str).collect();
    let by: Vec<i64> = counts.values().copied().collect();
    let sql = "INSERT INTO tenants AS t (tenant, pos)
        SELECT k.tenant, k.by FROM unnest($1::text[], $2::bigint[]) AS k (tenant, by)
        ORDER BY k.tenant COLLATE \"C\"
        ON CONFLICT (tenant) DO UPDATE SET pos = t.pos + excluded.pos RETURNING tenant, pos";
    for row in rows(transaction, sql, &[&tenants, &by]).await? {
        if let Some(place) = counts.get_mut(&row.id::<TenantId>(0)?) {
            *place = row.column::<i64>(1)? - *place + 1;
        }
    }
    Ok(counts)
}

/// Holds a tenant's row without a record, so that nobody comes to a group or leaves one meanwhile.
pub(super) async fn hold(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<(), Failure> {
    let sql = "INSERT INTO tenants AS t (tenant, pos) VALUES ($1, 0)
        ON CONFLICT (tenant) DO UPDATE SET pos = t.pos";
    execute(transaction, sql, &[&tenant.as_str()]).await.map(drop)
}

/// Puts items into the inboxes of who is named, and writes records for groups. Answers the inboxes,
/// whose changes are not written yet. `made` gets the names that were looked up, for after the commit.
pub(super) async fn deliver(
    core: &Core,
    transaction: &Transaction<'_>,
    items: &[Item],
    now: i64,
    made: &mut Vec<(InboxKey, i64)>,
) -> Result<Work, Failure> {
    let ids = resolve(core, transaction, items, now, made).await?;
    let mut locked: Vec<i64> = ids.values().copied().collect();
    locked.sort_unstable();
    let mut work = Work::lock(transaction, &locked, now).await?;
    let gone: Vec<_> = ids.iter().filter(|(key, id)| !work.is_of(**id, key)).collect();
    if !gone.is_empty() {
        gone.into_iter().for_each(|(key, _)| core.names.forget(key));
        return Err(Failure::Gone);
    }
    groups::take_over(transaction, &mut work).await?;
    write_records(transaction, items, now).await?;
    let stays = stays(transaction, &work, items).await?;
    read_messages(transaction, &mut work, items, &ids).await?;
    for item in items {
        let mut named: Vec<i64> = item
            .users()
            .iter()
            .filter_map(|user| ids.get(&InboxKey::new(item.tenant.clone(), user.clone())))
            .copied()
            .collect();
        if let Some(place) = item.place() {
            named.extend(stays.readers(&work, item, place));
            named.sort_unstable();
            named.dedup();
        }
        for id in named {
            let Some(slot) = work.slot(id) else { continue };
            match item.kind {
                Kind::Message => slot.arrive(&item.content, now),
                Kind::Rewrite { recall, .. } => slot.rewrite(&item.content, recall, now),
            }
        }
    }
    Ok(work)
}

/// The inboxes of all who are named; those of a message are made where there is none.
async fn resolve(
    core: &Core,
    transaction: &Transaction<'_>,
    items: &[Item],
    now: i64,
    made: &mut Vec<(InboxKey, i64)>,
) -> Result<FxHashMap<InboxKey, i64>, Failure> {
    let mut ids: FxHashMap<InboxKey, i64> = FxHashMap::default();
    // Beside each unknown name the tenant's latest record when it is first named, in this batch.
    let mut unknown: BTreeMap<InboxKey, (Option<i64>, bool)> = BTreeMap::new();
    let mut latest: BTreeMap<&TenantId, i64> = BTreeMap::new();
    for item in items {
        if let Some(pos) = item.pos {
            latest.entry(&item.tenant).or_insert(pos - 1);
        }
    }
    for item in items {
        for user in item.users() {
            let key = InboxKey::new(item.tenant.clone(), user.clone());
            if ids.contains_key(&key) || unknown.contains_key(&key) {
                continue;
            }
            match core.names.get(&key) {
                Some(id) => drop(ids.insert(key, id)),
                None => {
                    let born = latest.get(&item.tenant).copied();
                    unknown.insert(key, (born, item.kind == Kind::Message));
                }
            }
        }
        if let Some(pos) = item.pos {
            latest.insert(&item.tenant, pos);
        }
    }
    if unknown.is_empty() {
        return Ok(ids);
    }
    let mut found = names::find(transaction, &unknown.keys().collect::<Vec<_>>()).await?;
    for (key, _) in &found {
        unknown.remove(key);
    }
    unknown.retain(|_, (_, make)| *make);
    if !unknown.is_empty() {
        let new: Vec<_> = unknown.iter().map(|(key, (born, _))| (key, *born)).collect();
        let new = names::make(transaction, &new, now).await?;
        found.extend(new);
        for (key, _) in &found {
            unknown.remove(key);
        }
    }
    if !unknown.is_empty() {
        // Another transaction has just made them.
        found.extend(names::find(transaction, &unknown.keys().collect::<Vec<_>>()).await?);
    }
    ids.extend(found.iter().cloned());
    made.extend(found);
    Ok(ids)
}

/// Writes the records of what goes to groups or everyone.
async fn write_records(
    transaction: &Transaction<'_>,
    items: &[Item],
    now: i64,
) -> Result<(), Failure> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
    let mut groups = (vec![], vec![], vec![], vec![]);
    for item in items {
        let (Some(pos), Some(place)) = (item.pos, item.place()) else { continue };
        let (target, recall) = match item.kind {
            Kind::Message => (None, false),
            Kind::Rewrite { recall, place } => (place, recall),
        };
        columns.0.push(item.tenant.as_str());
        columns.1.push(pos);
        columns.2.push(item.content.id);
        columns.3.push(target);
        columns.4.push(recall);
        columns.5.push(item.audience == Audience::Everyone);
        columns.6.push(item.content.facts.expire_at);
        columns.7.push(&*item.content.facts.sender);
        columns.8.push(item.content.facts.collapse_key.as_deref());
        for group in item.groups() {
            groups.0.push(item.tenant.as_str());
            groups.1.push(group_text(group));
            groups.2.push(pos);
            groups.3.push(place);
        }
    }
    if columns.0.is_empty() {
        return Ok(());
    }
    let sql =
        "INSERT INTO broadcasts (tenant, pos, body, target, recall, everyone, expire_at, sender,
            collapse_key, at)
        SELECT k.*, $10 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[],
            $5::boolean[], $6::boolean[], $7::bigint[], $8::text[], $9::text[]) AS k";
    let (a, b, c, d, e, f, g, h, i) = &columns;
    execute(transaction, sql, &[a, b, c, d, e, f, g, h, i, &now]).await?;
    let sql = "INSERT INTO broadcast_groups (tenant, grp, pos, place)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])";
    let (a, b, c, d) = &groups;
    execute(transaction, sql, &[a, b, c, d]).await?;
    Ok(())
}

/// A stay of an inbox's owner in a group: the inbox, and the records between which it was.
type Stay = (i64, i64, i64);

/// When the owners of the locked inboxes were in the groups of items, by tenant and group.
#[derive(Default)]
struct Stays(FxHashMap<(TenantId, String), Vec<Stay>>);

impl Stays {
    /// Who of the locked inboxes is reached by an item's groups.
    fn readers<'a>(
        &'a self,
        work: &'a Work,
        item: &'a Item,
        place: i64,
    ) -> Box<dyn Iterator<Item = i64> + 'a> {
        if item.audience == Audience::Everyone {
            let there =
                move |inbox: &&Inbox| inbox.key.tenant == item.tenant && inbox.born_pos < place;
            return Box::new(
                work.slots.iter().map(|slot| &slot.inbox).filter(there).map(|inbox| inbox.id),
            );
        }
        let stays = item
            .groups()
            .iter()
            .filter_map(|group| self.0.get(&(item.tenant.clone(), group_text(group))))
            .flatten();
        let then = stays.filter(move |(_, since, until)| *since < place && place < *until);
        Box::new(then.map(|(inbox, ..)| *inbox))
    }
}

async fn stays(
    transaction: &Transaction<'_>,
    work: &Work,
    items: &[Item],
) -> Result<Stays, Failure> {
    let mut groups: Vec<String> =
        items.iter().flat_map(|item| item.groups()).map(group_text).collect();
    groups.sort_unstable();
    groups.dedup();
    let inboxes: Vec<i64> = work.ids().collect();
    let mut stays = Stays::default();
    if groups.is_empty() || inboxes.is_empty() {
        return Ok(stays);
    }
    let sql = "SELECT m.tenant, m.grp, m.inbox, m.since_pos, coalesce(m.until_pos, $3)
        FROM unnest($1::bigint[]) AS k (inbox) JOIN members m ON m.inbox = k.inbox
        WHERE m.grp = ANY($2)";
    for row in rows(transaction, sql, &[&inboxes, &groups, &i64::MAX]).await? {
        let stay = (row.column(2)?, row.column(3)?, row.column(4)?);
        stays.0.entry((row.id(0)?, row.column(1)?)).or_default().push(stay);
    }
    Ok(stays)
}

/// Reads the messages that items speak of, or take the place of.
async fn read_messages(
    transaction: &Transaction<'_>,
    work: &mut Work,
    items: &[Item],
    ids: &FxHashMap<InboxKey, i64>,
) -> Result<(), Failure> {
    let (mut rewritten, mut collapsing) =
        ((Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
    for item in items {
        let facts = &item.content.facts;
        let rewrites = matches!(item.kind, Kind::Rewrite { .. });
        if !rewrites && facts.collapse_key.is_none() {
            continue;
        }
        // What goes to groups may be for any of them.
        let of_tenant = |inbox: &&Inbox| item.pos.is_some() && inbox.key.tenant == item.tenant;
        let perhaps: Vec<i64> = work
            .slots
            .iter()
            .map(|slot| &slot.inbox)
            .filter(of_tenant)
            .map(|inbox| inbox.id)
            .chain(item.users().iter().filter_map(|user| {
                ids.get(&InboxKey::new(item.tenant.clone(), user.clone())).copied()
            }))
            .collect();
        for inbox in perhaps {
            if rewrites {
                rewritten.0.push(inbox);
                rewritten.1.push(item.content.id);
            } else if let Some(key) = &facts.collapse_key {
                collapsing.0.push(inbox);
                collapsing.1.push(&*facts.sender);
                collapsing.2.push(&**key);
            }
        }
    }
    work.read_bodies(transaction, rewritten).await?;
    work.read_collapsing(transaction, collapsing).await
}
