//! What is not to be believed any more, in memory.

use std::{
    hash::Hasher,
    num::NonZeroU64,
    sync::atomic::{AtomicI64, Ordering},
};

use parking_lot::RwLock;
use protocol::{TenantId, Time, UserId};
use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;

use crate::{
    InboxKey,
    identity::{AuthError, UserCaller, signing::KeyMark},
};

/// What has become void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Void {
    /// A login.
    Session(String),
    /// A token, by its `jti`.
    Token(String),
    /// All tokens of the user that were made until then, but for those of one session.
    User {
        /// Until when, itself included.
        before: Time,
        /// The session that goes on; empty for none.
        spared: String,
    },
    /// The user as a whole, until further notice.
    Disabled,
}

/// Something that is void, and until when that must be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub inbox: InboxKey,
    /// What.
    pub void: Void,
    /// When nobody need remember it any more: no token that it concerns is valid then. In the past for
    /// what is valid again.
    pub until: Time,
}

/// All tokens of somebody that were made until then, of whom nothing else is known any more: who was deleted
/// must not be named by what keeps their tokens out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// What the user's tokens are found by.
    pub(super) user: Key,
    /// And that they were disabled, which they are no longer.
    pub(super) disabled: Key,
    /// Until when, itself included.
    pub(super) before: Time,
    /// As [`Revocation::until`].
    pub(super) until: Time,
}

impl Forgotten {
    pub(super) fn new(inbox: &InboxKey, before: Time, until: Time) -> Self {
        let InboxKey { tenant, user } = inbox;
        let of = |kind| key(kind, tenant, user, "");
        Self { user: of(Kind::User), disabled: of(Kind::Disabled), before, until }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Session = 1,
    Token = 2,
    User = 3,
    Disabled = 4,
}

/// What an entry is found by, in little room. Those of [`Forgotten`] are stored: how they are made cannot be
/// changed.
pub(super) type Key = NonZeroU64;

/// What was revoked.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) named: Vec<Revocation>,
    pub(super) forgotten: Vec<Forgotten>,
}

#[derive(Clone, Copy)]
struct Entry {
    until: Time,
    before: Time,
    spared: Option<Key>,
}

/// By what a token can be revoked, in 32 bytes: each connection keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginMark {
    session: Option<Key>,
    token: Option<Key>,
    issued_at: Time,
    /// The key that it was checked by, where that is one of our own.
    pub(crate) signed_by: Option<KeyMark>,
}

impl LoginMark {
    /// Of a token.
    #[must_use]
    pub fn of(caller: &UserCaller) -> Self {
        let InboxKey { tenant, user } = &caller.inbox;
        let of = |kind, value: &Option<String>| {
            value.as_deref().map(|value| key(kind, tenant, user, value))
        };
        Self {
            session: of(Kind::Session, &caller.session),
            token: of(Kind::Token, &caller.token_id),
            issued_at: caller.issued_at,
            signed_by: caller.signed_by,
        }
    }
}

/// Everything that is void now, on every node.
///
/// Its size is bounded by how many logins end while their last access token would still be valid, and by
/// how many users were ever logged out everywhere or disabled. Nothing is dropped to make room: what is
/// dropped would be believed again. `pushhub_revoked` says how many there are; one takes about 40 bytes.
#[derive(Default)]
pub struct Revocations {
    entries: RwLock<FxHashMap<Key, Entry>>,
    revision: AtomicI64,
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// 64 bits: with a million entries and a million logins two meet once in twenty million times, and what comes of
/// it is a login too many. Nobody can aim at another's, for tenant and user are part of it.
fn key(kind: Kind, tenant: &TenantId, user: &UserId, value: &str) -> Key {
    let mut hasher = SipHasher13::new();
    hasher.write_u8(kind as u8);
    for text in [tenant.as_str(), user.as_str(), value] {
        hasher.write(text.as_bytes());
        // No id has this byte.
        hasher.write_u8(0xff);
    }
    Key::new(hasher.finish()).unwrap_or(Key::MAX)
}

impl Revocations {
    /// Whether a token is still to be believed. Some 100 ns where anything is void at all.
    ///
    /// # Errors
    /// [`AuthError::Revoked`], [`AuthError::UserDisabled`].
    pub fn check(&self, caller: &UserCaller) -> Result<(), AuthError> {
        if self.entries.read().is_empty() {
            return Ok(());
        }
        self.check_mark(&caller.inbox, &LoginMark::of(caller))
    }

    /// As [`Revocations::check`].
    ///
    /// # Errors
    /// As [`Revocations::check`].
    pub fn check_mark(&self, inbox: &InboxKey, mark: &LoginMark) -> Result<(), AuthError> {
        let entries = self.entries.read();
        if entries.is_empty() {
            return Ok(());
        }
        let (tenant, user) = (&inbox.tenant, &inbox.user);
        if entries.contains_key(&key(Kind::Disabled, tenant, user, "")) {
            return Err(AuthError::UserDisabled);
        }
        let is_void = |key: Option<Key>| key.is_some_and(|key| entries.contains_key(&key));
        if is_void(mark.session) || is_void(mark.token) {
            return Err(AuthError::Revoked);
        }
        match entries.get(&key(Kind::User, tenant, user, "")) {
            Some(entry) if mark.issued_at <= entry.before => {
                let spared = entry.spared.is_some() && mark.session == entry.spared;
                if spared { Ok(()) } else { Err(AuthError::Revoked) }
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether an admin has disabled the user.
    #[must_use]
    pub fn is_disabled(&self, inbox: &InboxKey) -> bool {
        let key = key(Kind::Disabled, &inbox.tenant, &inbox.user, "");
        self.entries.read().contains_key(&key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As of which revision of the database this is.
    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Takes in what is new as of a revision; answers what of it is void now and was not.
    pub(super) fn learn(&self, revision: i64, mut news: News) -> News {
        let mut entries = self.entries.write();
        news.named.retain(|revocation| take_in(&mut entries, revocation));
        news.forgotten.retain(|forgotten| {
            let Forgotten { user, disabled, before, until } = *forgotten;
            entries.remove(&disabled);
            let known = entries.insert(user, Entry { until, before, spared: None });
            known.is_none_or(|known| known.before < before || known.spared.is_some())
        });
        self.revision.fetch_max(revision, Ordering::AcqRel);
        news
    }

    /// Forgets what no valid token can be about.
    pub(super) fn forget(&self, now: Time) {
        let over = |entry: &Entry| entry.until < now;
        self.entries.write().retain(|_, entry| !over(entry));
    }
}

/// Whether something is void now that was not.
fn take_in(entries: &mut FxHashMap<Key, Entry>, revocation: &Revocation) -> bool {
    let Revocation { inbox, void, until } = revocation;
    let (tenant, user) = (&inbox.tenant, &inbox.user);
    let (key, before, spared) = match void {
        Void::Session(session) => (key(Kind::Session, tenant, user, session), Time::MAX, None),
        Void::Token(token) => (key(Kind::Token, tenant, user, token), Time::MAX, None),
        Void::User { before, spared } => {
            let spared = (!spared.is_empty()).then(|| key(Kind::Session, tenant, user, spared));
            (key(Kind::User, tenant, user, ""), *before, spared)
        }
        Void::Disabled => (key(Kind::Disabled, tenant, user, ""), Time::MAX, None),
    };
    if until.millis() <= 0 {
        entries.remove(&key);
        return false;
    }
    let known = entries.insert(key, Entry { until: *until, before, spared });
    known.is_none_or(|known| known.before < before || known.spared != spared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn ann() -> InboxKey {
        InboxKey::new(TenantId::default(), "ann".parse().unwrap())
    }

    fn void(void: Void, until: i64) -> Revocation {
        Revocation { inbox: ann(), void, until: at(until) }
    }

    fn caller(inbox: InboxKey, session: &str, token: &str, issued_at: i64) -> UserCaller {
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        UserCaller {
            session: said(session),
            token_id: said(token),
            issued_at: at(issued_at),
            ..UserCaller::new(inbox, Time::MAX)
        }
    }

    fn label(result: Result<(), AuthError>) -> &'static str {
        result.err().map_or("ok", |error| error.label())
    }

    #[test]
    fn what_is_void_is_refused_and_its_neighbours_are_not() {
        let all = Revocations::default();
        let check =
            |session, token, issued| label(all.check(&caller(ann(), session, token, issued)));
        assert_eq!(check("s1", "t1", 5), "ok");
        let new = vec![void(Void::Session("s1".into()), 100), void(Void::Token("t2".into()), 100)];
        let learn = |revision, named: Vec<Revocation>| {
            all.learn(revision, News { named, forgotten: vec![] }).named
        };
        assert_eq!(learn(3, new.clone()), new);
        assert!(learn(3, new).is_empty(), "nothing of it is new");
        assert_eq!(check("s1", "t1", 5), "revoked");
        assert_eq!(check("t2", "t1", 5), "ok");
        assert_eq!(check("s2", "t2", 5), "revoked");
        assert_eq!(check("s2", "s1", 5), "ok");
        let other = InboxKey::new("t2".parse().unwrap(), "ann".parse().unwrap());
        assert_eq!(label(all.check(&caller(other, "s1", "t1", 5))), "ok");

        let user = Void::User { before: at(10), spared: "s3".into() };
        assert_eq!(learn(4, vec![void(user, i64::MAX / 1_000)]).len(), 1);
        assert_eq!(check("s2", "t3", 10), "revoked");
        assert_eq!(check("s3", "t3", 10), "ok");
        assert_eq!(check("s2", "t3", 11), "ok");
        assert_eq!(check("", "", 9), "revoked");

        assert_eq!(learn(5, vec![void(Void::Disabled, 1_000)]).len(), 1);
        assert!(all.is_disabled(&ann()));
        assert_eq!(check("s2", "t3", 11), "user_disabled");
        assert!(learn(6, vec![void(Void::Disabled, 0)]).is_empty());
        assert_eq!(check("s2", "t3", 11), "ok");
        assert_eq!((all.revision(), all.len()), (6, 3));
        all.forget(at(101));
        assert_eq!(all.len(), 1);
        assert_eq!(check("s1", "t1", 11), "ok");
    }

    #[test]
    fn who_was_deleted_is_refused_by_what_was_made_before_and_is_not_named() {
        let all = Revocations::default();
        let named = vec![void(Void::Disabled, i64::MAX / 1_000)];
        all.learn(1, News { named, forgotten: vec![] });
        let check = |issued| label(all.check(&caller(ann(), "s1", "t1", issued)));
        assert_eq!(check(5), "user_disabled");
        let forgotten = vec![Forgotten::new(&ann(), at(10), at(100))];
        let learn = || all.learn(2, News { named: vec![], forgotten: forgotten.clone() }).forgotten;
        assert_eq!(learn(), forgotten);
        assert!(learn().is_empty(), "it is not new");
        assert_eq!((check(10), check(11)), ("revoked", "ok"));
        assert!(!all.is_disabled(&ann()));
        all.forget(at(101));
        assert!(all.is_empty());
        // It is stored, so it is what it was.
        assert_eq!(forgotten[0].user.get(), 0x952f_a44d_ddb1_9e20);
    }
}
