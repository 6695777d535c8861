//! What a run has beside inboxes: services, templates, tenants, logins, admins and the audit log (`control.db`),
//! webhooks (`webhooks.db`), and who there is: users with their roles, channels with their members
//! (`directory.db`). Each is one SQLite file, the same from either store.

use std::{collections::BTreeSet, path::Path};

use protocol::{ChannelId, TenantId, Time, UserId};
use rusqlite::{Connection, OpenFlags, params};

use super::RunError;
use crate::{
    InboxKey, StoreError,
    store::{Channel, Directory, Group, Storage, TokenFacts, UserChange, UserRecord},
};

/// What control data is called in a run, and in a storage folder.
pub(super) const CONTROL: &str = crate::control::FILE_NAME;

/// What webhooks are called.
pub(super) const WEBHOOKS: &str = crate::webhook::FILE_NAME;

/// What users and channels are called.
pub(super) const DIRECTORY: &str = "directory.db";

/// `application_id` of `directory.db`: "phd1".
const APPLICATION_ID: i64 = 0x7068_6431;

/// Channels, and members of one, that are asked for at a time.
const PAGE: usize = 500;

const SCHEMA: &str = "
CREATE TABLE person (              -- who there is
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    record TEXT NOT NULL,          -- JSON: names, roles, department
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
CREATE TABLE channel (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    record TEXT NOT NULL,          -- JSON: name, description and what it allows
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE TABLE member (              -- who is in them
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    user TEXT NOT NULL,
    joined_at INTEGER NOT NULL,    -- unix ms
    PRIMARY KEY (tenant, channel, user)
) WITHOUT ROWID;
";

/// `directory.db`, being filled.
pub(super) struct People {
    db: Connection,
    tenants: BTreeSet<TenantId>,
}

impl People {
    pub(super) fn create(path: &Path) -> Result<Self, RunError> {
        let db = Connection::open(path)?;
        db.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;
             BEGIN;{SCHEMA}COMMIT; BEGIN"
        ))?;
        Ok(Self { db, tenants: BTreeSet::new() })
    }

    /// Whose inbox was met, and what is known of them.
    pub(super) fn met(
        &mut self,
        key: &InboxKey,
        record: Option<&UserRecord>,
    ) -> Result<(), RunError> {
        if !self.tenants.contains(&key.tenant) {
            self.tenants.insert(key.tenant.clone());
        }
        if let Some(record) = record {
            let record = serde_json::to_string(record).map_err(std::io::Error::other)?;
            let mut insert =
                self.db.prepare_cached("INSERT OR REPLACE INTO person VALUES (?1, ?2, ?3)")?;
            insert.execute([key.tenant.as_str(), key.user.as_str(), &record])?;
        }
        Ok(())
    }

    /// Takes the channels of all tenants that were met, and closes the file. Who joins or leaves meanwhile may be in
    /// it or not.
    pub(super) async fn finish(mut self, store: &dyn Storage) -> Result<(), RunError> {
        for tenant in &std::mem::take(&mut self.tenants) {
            let mut after: Option<ChannelId> = None;
            loop {
                let page = store.channels(tenant, after.clone(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.channel.id.clone());
                for info in &page {
                    self.channel(tenant, &info.channel)?;
                    self.members(store, tenant, &info.channel.id).await?;
                }
            }
        }
        self.db.execute_batch("COMMIT")?;
        self.db.close().map_err(|(_, error)| error.into())
    }

    fn channel(&self, tenant: &TenantId, channel: &Channel) -> Result<(), RunError> {
        let record = serde_json::to_string(channel).map_err(std::io::Error::other)?;
        let mut insert = self.db.prepare_cached("INSERT INTO channel VALUES (?1, ?2, ?3)")?;
        insert.execute([tenant.as_str(), channel.id.as_str(), &record])?;
        Ok(())
    }

    async fn members(
        &mut self,
        store: &dyn Storage,
        tenant: &TenantId,
        channel: &ChannelId,
    ) -> Result<(), RunError> {
        let group = Group::Channel(channel.clone());
        let mut after: Option<UserId> = None;
        loop {
            let page = store.members(tenant, &group, after.clone(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.user_id.clone());
            let mut insert =
                self.db.prepare_cached("INSERT INTO member VALUES (?1, ?2, ?3, ?4)")?;
            for member in &page {
                insert.execute(params![
                    tenant.as_str(),
                    channel.as_str(),
                    member.user_id.as_str(),
                    member.joined_at.millis(),
                ])?;
            }
        }
    }
}

fn damaged(error: impl std::fmt::Display) -> RunError {
    RunError::Damaged(DIRECTORY.to_owned(), error.to_string())
}

/// Brings users and channels of a `directory.db` back into a store, which keeps whatever else it has: a channel that
/// is there stays as it is, with those as members, too. Answers how many users and channels there were.
///
/// # Errors
/// [`RunError::Store`], [`RunError::Damaged`].
pub(super) async fn bring_people(
    path: &Path,
    store: &dyn Directory,
) -> Result<(u64, u64), RunError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    let found: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found != APPLICATION_ID {
        return Err(damaged("it is something else"));
    }
    let (mut users, mut channels) = (0, 0);
    let (mut tenant, mut id) = (String::new(), String::new());
    while let Some([next_tenant, next_id, record]) = after(&db, "person", "user", [&tenant, &id])? {
        (tenant, id) = (next_tenant, next_id);
        let record: UserRecord = serde_json::from_str(&record).map_err(damaged)?;
        let inbox = InboxKey::new(tenant.parse().map_err(damaged)?, record.user_id.clone());
        person(store, &inbox, record).await?;
        users += 1;
    }
    let (mut tenant, mut id) = (String::new(), String::new());
    while let Some([next_tenant, next_id, record]) = after(&db, "channel", "id", [&tenant, &id])? {
        (tenant, id) = (next_tenant, next_id);
        let channel: Channel = serde_json::from_str(&record).map_err(damaged)?;
        let wall: TenantId = tenant.parse().map_err(damaged)?;
        let channel_id = channel.id.clone();
        match store.save_channel(&wall, channel, Some(0)).await {
            Ok(_) | Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        join(&mut db, store, &wall, &channel_id).await?;
        channels += 1;
    }
    Ok((users, channels))
}

/// The row after a key, of a table whose third column is a record.
fn after(
    db: &Connection,
    table: &str,
    key: &str,
    last: [&str; 2],
) -> Result<Option<[String; 3]>, RunError> {
    let sql = format!(
        "SELECT tenant, {key}, record FROM {table} WHERE (tenant, {key}) > (?1, ?2)
         ORDER BY tenant, {key} LIMIT 1"
    );
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query(last)?;
    let row = rows.next()?;
    Ok(row
        .map(|row| Ok::<_, rusqlite::Error>([row.get(0)?, row.get(1)?, row.get(2)?]))
        .transpose()?)
}

async fn person(
    store: &dyn Directory,
    inbox: &InboxKey,
    record: UserRecord,
) -> Result<(), RunError> {
    let from_token = !record.token_roles.is_empty()
        || !record.username.is_empty()
        || (record.department.is_some() && !record.department_set);
    if from_token {
        let facts = TokenFacts {
            issued_at: record.updated_at,
            username: record.username,
            email: record.email,
            roles: record.token_roles,
            department: record.department.clone().filter(|_| !record.department_set),
        };
        store.note_token(inbox, facts).await?;
    }
    let change = UserChange {
        added_roles: Some(record.added_roles),
        department: record.department_set.then_some(record.department),
    };
    store.change_user(inbox, change).await?;
    Ok(())
}

async fn join(
    db: &mut Connection,
    store: &dyn Directory,
    tenant: &TenantId,
    channel: &ChannelId,
) -> Result<(), RunError> {
    let sql = "SELECT user FROM member WHERE tenant = ?1 AND channel = ?2 AND user > ?3
        ORDER BY user LIMIT ?4";
    let mut last = String::new();
    loop {
        let page: Vec<String> = {
            let mut select = db.prepare_cached(sql)?;
            let values = params![tenant.as_str(), channel.as_str(), last, PAGE as i64];
            select.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let Some(end) = page.last() else { return Ok(()) };
        last = end.clone();
        let users = page.iter().map(|user| user.parse().map_err(damaged));
        let users: Vec<UserId> = users.collect::<Result<_, _>>()?;
        store.change_members(tenant, channel, users, Vec::new()).await?;
    }
}

/// When the directory's record of a user begins.
pub(super) fn since(record: Option<&UserRecord>) -> Option<Time> {
    record.map(|record| record.created_at)
}
