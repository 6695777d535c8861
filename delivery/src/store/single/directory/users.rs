//! What is known of users: what their tokens said, what admins said.

use std::{collections::BTreeSet, sync::Arc};

use protocol::{RoleId, TenantId, Time, UserId};
use rusqlite::params;

use super::super::{
    SingleStore,
    inbox::What,
    membership::Memberships,
    record::{DirectoryRecord, Facts},
    shared::{self, most, no_facts},
};
use crate::{
    InboxKey, StoreError, clock,
    store::{Group, TokenFacts, UserChange, UserRecord, limits::USER_GROUPS_MAX},
};

/// What a token says, next to what is known of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Nothing: a newer one has spoken.
    Older,
    /// What is known; `later` if it is the newest that says so.
    Same { later: bool },
    /// Something new.
    New,
}

impl SingleStore {
    /// What is known of a user; none for one that was never seen.
    pub(super) fn find_user(&self, key: &InboxKey) -> rusqlite::Result<Option<Facts>> {
        if let Some(facts) = self.shared.user(key)? {
            return Ok(Some(facts));
        }
        if self.note_newcomer(key) {
            return self.shared.user(key);
        }
        if Self::has_files(&self.root, key) {
            // Put there by hand.
            let now = clock::now();
            self.shared.add_known(key.clone(), 0, now);
            return Ok(Some(no_facts(key.user.clone(), now)));
        }
        Ok(None)
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
        let since = entry.lsn;
        drop(state);
        self.shared.add_known(key.clone(), since, at.unwrap_or_else(clock::now));
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
        let fingerprint = self.noted.fingerprint(&key, &token);
        if self.noted.has(fingerprint) {
            self.metrics.tokens_known.increment(1);
            return Ok(());
        }
        let token = cleaned(token);
        let mut known = self.read(self.find_user(&key))?;
        let mut says = says(known.as_ref(), &token);
        let mut deciding = None;
        // Also what only says since when the same holds: an older token that says something else must
        // not be decided on between this look and that note.
        if matches!(says, Says::New | Says::Same { later: true }) {
            deciding = Some(self.locks.user(&key).await);
            known = self.read(self.find_user(&key))?;
            says = self::says(known.as_ref(), &token);
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
        self.noted.add(fingerprint);
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

fn says(known: Option<&Facts>, token: &TokenFacts) -> Says {
    let Some(known) = known else { return Says::New };
    // One that was made in the same second may say something new: a login right after another.
    if known.issued_at > Some(token.issued_at) {
        return Says::Older;
    }
    let record = &known.record;
    let same = record.username == token.username
        && record.email == token.email
        && record.token_roles == token.roles
        && known.token_department == token.department;
    if same { Says::Same { later: known.issued_at < Some(token.issued_at) } } else { Says::New }
}

/// With each role once, and without a department that has no name.
fn cleaned(token: TokenFacts) -> TokenFacts {
    let department = token.department.filter(|name| !name.is_empty());
    TokenFacts { roles: once_each(token.roles), department, ..token }
}

fn once_each(roles: Vec<RoleId>) -> Vec<RoleId> {
    let mut seen = BTreeSet::new();
    roles.into_iter().filter(|role| seen.insert(role.clone())).collect()
}

/// The role that stands for a department; none where the name is too long for an id, and so cannot
/// be addressed.
fn department(name: &str) -> Option<RoleId> {
    if name.is_empty() { None } else { RoleId::new(format!("department:{name}")).ok() }
}

/// The groups that follow from what is known of a user: the roles of both sources, and the
/// department.
fn groups(record: &UserRecord) -> BTreeSet<Group> {
    let department = record.department.as_deref().and_then(department);
    let roles = record.token_roles.iter().chain(&record.added_roles).cloned();
    roles.chain(department).map(Group::Role).collect()
}

/// How many channels a user is in.
fn channels(stays: &Memberships) -> usize {
    stays.open().filter(|stay| matches!(*stay.group, Group::Channel(_))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued_at: i64, roles: &[&str]) -> TokenFacts {
        TokenFacts {
            issued_at: Time::from_millis(issued_at),
            username: "Ann".to_owned(),
            email: String::new(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            department: Some(String::new()),
        }
    }

    #[test]
    fn a_token_says_something_new_only_if_no_newer_one_spoke() {
        let ann: UserId = "ann".parse().unwrap();
        let mut known = no_facts(ann, Time::from_millis(5));
        let first = cleaned(token(10, &["a", "b", "a"]));
        assert_eq!(first.roles.len(), 2);
        assert_eq!(says(None, &first), Says::New);
        assert_eq!(says(Some(&known), &first), Says::New);
        known.record.username = "Ann".to_owned();
        known.record.token_roles.clone_from(&first.roles);
        assert_eq!(says(Some(&known), &first), Says::Same { later: true });
        known.issued_at = Some(Time::from_millis(10));
        assert_eq!(says(Some(&known), &first), Says::Same { later: false });
        assert_eq!(says(Some(&known), &cleaned(token(9, &["a"]))), Says::Older);
        assert_eq!(says(Some(&known), &cleaned(token(10, &["a"]))), Says::New);
        assert_eq!(says(Some(&known), &cleaned(token(11, &["a"]))), Says::New);
    }

    #[test]
    fn a_department_is_a_role_if_it_can_be_one() {
        let mut record = no_facts("ann".parse().unwrap(), Time::from_millis(0)).record;
        record.token_roles = vec!["a".parse().unwrap(), "department:研发".parse().unwrap()];
        record.added_roles = vec!["a".parse().unwrap(), "b".parse().unwrap()];
        record.department = Some("研发".to_owned());
        assert_eq!(groups(&record).len(), 3);
        record.department = Some("x".repeat(117));
        assert_eq!(groups(&record).len(), 4);
        record.department = Some("x".repeat(118));
        assert_eq!(groups(&record).len(), 3);
    }
}
