//! What is known of users, and what follows from it; the same in every store.

use std::collections::BTreeSet;

use protocol::{RoleId, Time};
use serde::{Deserialize, Serialize};

use super::{Group, TokenFacts, UserRecord};

/// What is kept of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) record: UserRecord,
    /// What the latest token said, for when an admin takes back another word.
    pub(crate) token_department: Option<String>,
    /// When the latest token was made; none for a user who never showed one.
    pub(crate) issued_at: Option<Time>,
}

/// Of a user of whom nobody said anything yet.
pub(crate) fn no_facts(user_id: protocol::UserId, at: Time) -> Facts {
    let record = UserRecord {
        user_id,
        username: String::new(),
        email: String::new(),
        token_roles: Vec::new(),
        added_roles: Vec::new(),
        department: None,
        department_set: false,
        created_at: at,
        updated_at: at,
    };
    Facts { record, token_department: None, issued_at: None }
}

/// What a token says, next to what is known of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Nothing: a newer one has spoken.
    Older,
    /// What is known; `later` if it is the newest that says so.
    Same { later: bool },
    /// Something new.
    New,
}

pub(crate) fn says(known: Option<&Facts>, token: &TokenFacts) -> Says {
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
pub(crate) fn cleaned(token: TokenFacts) -> TokenFacts {
    let department = token.department.filter(|name| !name.is_empty());
    TokenFacts { roles: once_each(token.roles), department, ..token }
}

pub(crate) fn once_each(roles: Vec<RoleId>) -> Vec<RoleId> {
    let mut seen = BTreeSet::new();
    roles.into_iter().filter(|role| seen.insert(role.clone())).collect()
}

/// The role that stands for a department; none where the name is too long for an id, and so cannot
/// be addressed.
pub(crate) fn department(name: &str) -> Option<RoleId> {
    if name.is_empty() { None } else { RoleId::new(format!("department:{name}")).ok() }
}

/// The groups that follow from what is known of a user: the roles of both sources, and the
/// department.
pub(crate) fn groups(record: &UserRecord) -> BTreeSet<Group> {
    let department = record.department.as_deref().and_then(department);
    let roles = record.token_roles.iter().chain(&record.added_roles).cloned();
    roles.chain(department).map(Group::Role).collect()
}

#[cfg(test)]
mod tests {
    use protocol::UserId;

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
