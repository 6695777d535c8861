//! What is known of users: what their tokens said, what admins said.

use std::collections::BTreeSet;

use protocol::{TenantId, Time, UserId};
use tokio_postgres::Row;

use super::{
    columns::{Columns as _, most},
    core::Core,
    errors::Failure,
    members::{self, groups_of, turns_of},
    names,
    pool::{self, Ask, execute, row, rows},
};
use crate::{
    InboxKey, StoreError,
    store::{
        Group, TokenFacts, UserChange, UserRecord,
        facts::{self, Facts, Says, department, no_facts, once_each},
        limits::USER_GROUPS_MAX,
    },
};

const SELECT: &str =
    "SELECT i.id, i.usr, i.created_at, u.version, u.issued_at, u.facts FROM inboxes i
    LEFT JOIN users u ON u.inbox = i.id";

/// A user who is known.
struct Known {
    inbox: i64,
    /// How often it was written what was said of them; 0 where nobody said anything.
    version: i64,
    facts: Facts,
}

fn known_of(row: &Row) -> Result<Known, Failure> {
    let issued_at = row.maybe_time(4)?;
    let facts = match row.column::<Option<&str>>(5)? {
        Some(json) => serde_json::from_str(json).map_err(Failure::unreadable)?,
        None => no_facts(row.id(1)?, row.time(2)?),
    };
    Ok(Known {
        inbox: row.column(0)?,
        version: row.column::<Option<i64>>(3)?.unwrap_or(0),
        facts: Facts { issued_at, ..facts },
    })
}

async fn find(client: &impl Ask, key: &InboxKey) -> Result<Option<Known>, Failure> {
    let sql = format!("{SELECT} WHERE i.tenant = $1 AND i.usr = $2");
    let found = row(client, &sql, &[&key.tenant.as_str(), &key.user.as_str()]).await?;
    found.as_ref().map(known_of).transpose()
}

/// The channels among some groups.
fn channels(groups: &BTreeSet<Group>) -> usize {
    groups.iter().filter(|group| matches!(group, Group::Channel(_))).count()
}

impl Core {
    pub(super) async fn user(&self, key: &InboxKey) -> Result<Option<UserRecord>, Failure> {
        let client = self.db.client().await?;
        Ok(find(&client, key).await?.map(|known| known.facts.record))
    }

    pub(super) async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserRecord>, Failure> {
        let client = self.db.client().await?;
        let sql = format!("{SELECT} WHERE i.tenant = $1 AND i.usr > $2 ORDER BY i.usr LIMIT $3");
        let after = after.map_or("", UserId::as_str);
        let found = rows(&client, &sql, &[&tenant.as_str(), &after, &most(limit)]).await?;
        found.iter().map(|row| Ok(known_of(row)?.facts.record)).collect()
    }

    /// What a token says, which is not known to have been noted.
    pub(super) async fn note_token(
        &self,
        key: &InboxKey,
        token: &TokenFacts,
    ) -> Result<(), Failure> {
        let mut client = self.db.client().await?;
        let known = find(&client, key).await?;
        let says = facts::says(known.as_ref().map(|known| &known.facts), token);
        match says {
            Says::Older | Says::Same { later: false } => {
                self.metrics.tokens_same.increment(1);
                return Ok(());
            }
            Says::Same { later: true } => {
                self.metrics.tokens_same.increment(1);
                let sql = "UPDATE users SET issued_at = $3, version = version + 1
                    WHERE inbox = $1 AND version = $2";
                let Some(Known { inbox, version, .. }) = known else { return Ok(()) };
                let issued_at = token.issued_at.millis();
                // What was said meanwhile is looked at first; the next token brings it again.
                if version > 0 && execute(&client, sql, &[&inbox, &version, &issued_at]).await? > 0
                {
                    return Ok(());
                }
            }
            Says::New => self.metrics.tokens_new.increment(1),
        }
        let transaction = pool::begin(&mut client).await?;
        let now = self.now(&transaction).await?;
        let known = self.hold(&transaction, key, now).await?;
        match facts::says(Some(&known.facts).filter(|_| known.version > 0), token) {
            Says::Older | Says::Same { later: false } => return Ok(()),
            Says::Same { .. } | Says::New => {}
        }
        let groups = groups_of(&transaction, key).await?;
        let mut facts = known.facts.clone();
        facts.issued_at = Some(token.issued_at);
        facts.token_department.clone_from(&token.department);
        let record = &mut facts.record;
        record.updated_at = Time::from_millis(now);
        record.username.clone_from(&token.username);
        record.email.clone_from(&token.email);
        record.token_roles.clone_from(&token.roles);
        if !record.department_set {
            record.department.clone_from(&facts.token_department);
        }
        // A token is not refused: the roles that are too many are passed over.
        let room = USER_GROUPS_MAX.saturating_sub(channels(&groups));
        while facts::groups(record).len() > room && record.token_roles.pop().is_some() {
            self.metrics.roles_over.increment(1);
        }
        self.store_user(transaction, key, &known, &facts, &groups, now).await
    }

    pub(super) async fn change_user(
        &self,
        key: &InboxKey,
        change: &UserChange,
    ) -> Result<UserRecord, Failure> {
        let mut client = self.db.client().await?;
        let there = find(&client, key).await?.is_some();
        let transaction = pool::begin(&mut client).await?;
        let now = self.now(&transaction).await?;
        let known = self.hold(&transaction, key, now).await?;
        let mut facts = known.facts.clone();
        if let Some(roles) = &change.added_roles {
            facts.record.added_roles = once_each(roles.clone());
        }
        match &change.department {
            None => {}
            Some(None) => {
                facts.record.department_set = false;
                facts.record.department.clone_from(&facts.token_department);
            }
            Some(Some(name)) => {
                if department(name).is_none() {
                    return Err(StoreError::Limit(
                        "a department's name has 1 to 117 bytes and no control characters",
                    )
                    .into());
                }
                facts.record.department_set = true;
                facts.record.department = Some(name.clone());
            }
        }
        let groups = groups_of(&transaction, key).await?;
        let after = channels(&groups) + facts::groups(&facts.record).len();
        if after > USER_GROUPS_MAX && after > groups.len() {
            return Err(members::FULL.into());
        }
        // Nothing said of somebody who is known says nothing.
        if !there || known.facts != facts {
            self.store_user(transaction, key, &known, &facts, &groups, now).await?;
        }
        Ok(facts.record)
    }

    /// Holds what is known of a user, who is made where there is none: no other word of theirs is
    /// decided on meanwhile, nor in how many groups they are. So the tenant's row is held, too; what
    /// tokens say that is new is rare.
    async fn hold(
        &self,
        transaction: &pool::Transaction<'_>,
        key: &InboxKey,
        now: i64,
    ) -> Result<Known, Failure> {
        super::deliver::hold(transaction, &key.tenant).await?;
        names::make(transaction, &[(key, None)], now).await?;
        // What only moves `issued_at` takes no other lock than this one: without it an older token that is
        // looked at here would be written over a newer one.
        let sql = "SELECT 1 FROM users u JOIN inboxes i ON i.id = u.inbox
            WHERE i.tenant = $1 AND i.usr = $2 FOR UPDATE OF u";
        row(transaction, sql, &[&key.tenant.as_str(), &key.user.as_str()]).await?;
        find(transaction, key).await?.ok_or(Failure::Gone)
    }

    /// Stores what a user is now, and has them come to the groups that follow from it and leave the
    /// others.
    async fn store_user(
        &self,
        transaction: pool::Transaction<'_>,
        key: &InboxKey,
        known: &Known,
        facts: &Facts,
        groups: &BTreeSet<Group>,
        now: i64,
    ) -> Result<(), Failure> {
        let json = serde_json::to_string(facts).map_err(Failure::unreadable)?;
        let sql = "INSERT INTO users (inbox, version, issued_at, facts) VALUES ($1, $2, $3, $4)
            ON CONFLICT (inbox) DO UPDATE SET version = excluded.version,
                issued_at = excluded.issued_at, facts = excluded.facts";
        let issued_at = facts.issued_at.map(Time::millis);
        execute(&transaction, sql, &[&known.inbox, &(known.version + 1), &issued_at, &json])
            .await?;
        let wanted = facts::groups(&facts.record);
        let carried: BTreeSet<Group> =
            groups.iter().filter(|group| matches!(group, Group::Role(_))).cloned().collect();
        if wanted != carried {
            turns_of(&transaction, key, known.inbox, (&wanted, &carried), now).await?;
        }
        self.commit(transaction).await
    }
}
