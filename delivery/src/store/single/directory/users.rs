//! What is known of users: what their tokens said, what admins said.

use std::{collections::BTreeSet, sync::Arc};

use protocol::{TenantId, Time, UserId};
use rusqlite::params;

use super::super::{
    SingleStore,
    inbox::What,
    membership::Memberships,
    record::{DirectoryRecord, Facts},
    shared::{self, most},
};
use crate::{
    InboxKey, StoreError, clock,
    store::{
        Group, TokenFacts, UserChange, UserRecord,
        facts::{self, Says, cleaned, department, groups, no_facts, once_each},
        limits::USER_GROUPS_MAX,
    },
};

impl SingleStore {
    /// What is known of a user; none for one that was never seen.
    pub(super) fn find_user(&self, key: &InboxKey) -> rusqlite::Result<Option<Facts>> {
        if let Some(facts) = self.shared.user(key)? {
            return Ok(Some(facts));
        }
        if self.note_newcomer(key) {
            return self.shared.user(key);
        }
        if !Self::has_files(&self.root, key) {
            return Ok(None);
        }
        let inbox = self.inboxes.get(key.clone());
        let state = inbox.state.lock();
        // Looked at once more: they may have been removed just now.
        if state.ending > 0 || !Self::has_files(&self.root, key) {
            return Ok(None);
        }
        // Put there by hand.
        let now = clock::now();
        state.tell_known(&self.shared, key, 0, now);
        Ok(Some(no_facts(key.user.clone(), now)))
    }

    /// Notes a user whose first message waits for its file. Whether there is one.
    fn note_newcomer(&self, key: &InboxKey) -> bool {
        let Some(inbox) = self.inboxes.find(key) else { return false };
        let state = inbox.state.lock();
        let Some(entry) = state.tail.iter().find(|entry| !entry.lazy()) else { return false };
        let at = match &entry.what {
            What::Message(body) => body.facts().created_at,
            _ => None,
        };
        state.tell_known(&self.shared, key, entry.lsn, at.unwrap_or_else(clock::now));
        true
    }

    pub(super) async fn list_users(
        &self,
        tenant: TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserRecord>, StoreError> {
        self.check_open()?;
        let (shared, inboxes) = (Arc::clone(&self.shared), Arc::clone(&self.inboxes));
        // Whose first message waits for its file is known too.
        let newcomers: Vec<InboxKey> = inboxes
            .of_tenant(&tenant)
            .iter()
            .filter(|inbox| inbox.state.lock().is_new())
            .map(|inbox| inbox.key.clone())
            .collect();
        for key in newcomers {
            self.note_newcomer(&key);
        }
        self.aside(move || {
            shared.ask_settled(|db| {
                let users = shared::USERS;
                let mut select = db.prepare_cached(&format!(
                    "{users} WHERE tenant = ?1 AND user > ?2 ORDER BY user LIMIT ?3"
                ))?;
                let after = after.as_ref().map_or("", UserId::as_str);
                let rows = select
                    .query_map(params![tenant.as_str(), after, most(limit)], |row| {
                        shared::facts_of(row).map(|facts| facts.record)
                    })?;
                rows.collect()
            })
        })
        .await
    }

    pub(super) async fn run_note_token(
        &self,
        key: InboxKey,
        token: TokenFacts,
    ) -> Result<(), StoreError> {
        self.check_open()?;
        let noted = self.forgets.noted();
        let fingerprint = noted.fingerprint(&key, &token);
        if noted.has(fingerprint) {
            self.metrics.tokens_known.increment(1);
            return Ok(());
        }
        let token = cleaned(token);
        let mut known = self.read(self.find_user(&key))?;
        let mut says = facts::says(known.as_ref(), &token);
        let mut deciding = None;
        // Also what only says since when the same holds: an older token that says something else must
        // not be decided on between this look and that note.
        if matches!(says, Says::New | Says::Same { later: true }) {
            deciding = Some(self.locks.user(&key).await);
            known = self.read(self.find_user(&key))?;
            says = facts::says(known.as_ref(), &token);
        }
        match says {
            Says::Older | Says::Same { later: false } => self.metrics.tokens_same.increment(1),
            Says::Same { later: true } => {
                self.metrics.tokens_same.increment(1);
                self.shared.add_issued(key, token.issued_at);
            }
            Says::New => {
                self.metrics.tokens_new.increment(1);
                let now = clock::now();
                let stays = self.read(self.with_memberships(&key, Memberships::clone))?;
                let mut facts = known.unwrap_or_else(|| no_facts(key.user.clone(), now));
                facts.issued_at = Some(token.issued_at);
                facts.token_department = token.department;
                let record = &mut facts.record;
                record.updated_at = now;
                record.username = token.username;
                record.email = token.email;
                record.token_roles = token.roles;
                if !record.department_set {
                    record.department.clone_from(&facts.token_department);
                }
                // A token is not refused: the roles that are too many are passed over.
                let room = USER_GROUPS_MAX.saturating_sub(channels(&stays));
                while groups(record).len() > room && record.token_roles.pop().is_some() {
                    self.metrics.roles_over.increment(1);
                }
                self.store_user(key, facts, &stays, now, deciding).await?;
            }
        }
        noted.add(fingerprint);
        Ok(())
    }

    pub(super) async fn run_change_user(
        &self,
        key: InboxKey,
        change: UserChange,
    ) -> Result<UserRecord, StoreError> {
        self.check_open()?;
        let deciding = self.locks.user(&key).await;
        let now = clock::now();
        let known = self.read(self.find_user(&key))?;
        let mut facts = known.clone().unwrap_or_else(|| no_facts(key.user.clone(), now));
        if let Some(roles) = change.added_roles {
            facts.record.added_roles = once_each(roles);
        }
        match change.department {
            None => {}
            Some(None) => {
                facts.record.department_set = false;
                facts.record.department.clone_from(&facts.token_department);
            }
            Some(Some(name)) => {
                if department(&name).is_none() {
                    return Err(StoreError::Limit(
                        "a department's name has 1 to 117 bytes and no control characters",
                    ));
                }
                facts.record.department_set = true;
                facts.record.department = Some(name);
            }
        }
        let stays = self.read(self.with_memberships(&key, Memberships::clone))?;
        let before = stays.open().count();
        let after = channels(&stays) + groups(&facts.record).len();
        if after > USER_GROUPS_MAX && after > before {
            return Err(StoreError::Limit("a user is in at most 1,000 channels and roles"));
        }
        let record = facts.record.clone();
        if known.as_ref() != Some(&facts) {
            self.store_user(key, facts, &stays, now, Some(deciding)).await?;
        }
        Ok(record)
    }

    /// Stores what a user is now, and has them come to the groups that follow from it and leave the
    /// others.
    async fn store_user(
        &self,
        key: InboxKey,
        facts: Facts,
        stays: &Memberships,
        at: Time,
        deciding: Option<tokio::sync::OwnedMutexGuard<()>>,
    ) -> Result<(), StoreError> {
        let wanted = groups(&facts.record);
        let carried: BTreeSet<Group> = stays
            .open()
            .filter(|stay| matches!(*stay.group, Group::Role(_)))
            .map(|stay| Group::clone(&stay.group))
            .collect();
        let join = wanted.difference(&carried).cloned().collect();
        let leave = carried.difference(&wanted).cloned().collect();
        let record = DirectoryRecord::User { tenant: key.tenant, facts, join, leave, at };
        self.decided(record, deciding).await
    }
}

/// How many channels a user is in.
fn channels(stays: &Memberships) -> usize {
    stays.open().filter(|stay| matches!(*stay.group, Group::Channel(_))).count()
}
