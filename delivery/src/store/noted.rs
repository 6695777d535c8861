//! Which tokens were noted lately, so that the same token need not be looked up with every request.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{InboxKey, store::TokenFacts};

/// Tokens that are remembered, at 8 bytes each: those of ten thousand connected users, most of the
/// time. A newer one takes the place of another, which is then looked up again.
const NOTED_MAX: usize = 16_384;

/// Fingerprints of tokens that were noted. What was noted once need not be noted again, whatever
/// came in between: nothing makes an older token say something new.
pub(crate) struct Noted {
    places: Box<[AtomicU64]>,
    /// Counts how often all was made new.
    generation: AtomicU64,
    hasher: std::hash::RandomState,
}

impl Default for Noted {
    fn default() -> Self {
        let places = (0..NOTED_MAX).map(|_| AtomicU64::new(0)).collect();
        Self { places, generation: AtomicU64::new(0), hasher: std::hash::RandomState::new() }
    }
}

impl Noted {
    /// A token's fingerprint, never 0. Keyed by chance, so that nobody can make two that are alike.
    pub(crate) fn fingerprint(&self, inbox: &InboxKey, facts: &TokenFacts) -> u64 {
        let generation = self.generation.load(Ordering::Acquire);
        self.hasher.hash_one((generation, inbox, facts)) | 1
    }

    /// No token counts as noted any more, neither one that is being noted right now: a user was forgotten, and
    /// is known again when a token says so.
    pub(crate) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn has(&self, fingerprint: u64) -> bool {
        self.place(fingerprint).load(Ordering::Relaxed) == fingerprint
    }

    pub(crate) fn add(&self, fingerprint: u64) {
        self.place(fingerprint).store(fingerprint, Ordering::Relaxed);
    }

    /// All of them may be noted again.
    pub(crate) fn forget_all(&self) {
        self.places.iter().for_each(|place| place.store(0, Ordering::Relaxed));
    }

    fn place(&self, fingerprint: u64) -> &AtomicU64 {
        let at = usize::try_from((fingerprint >> 1) % NOTED_MAX as u64).expect("a small remainder");
        &self.places[at]
    }
}

#[cfg(test)]
mod tests {
    use protocol::{TenantId, Time};

    use super::*;

    #[test]
    fn another_user_time_or_role_is_another_token() {
        let noted = Noted::default();
        let ann = InboxKey::new(TenantId::default(), "ann".parse().unwrap());
        let facts = TokenFacts {
            issued_at: Time::from_millis(1),
            username: String::new(),
            email: String::new(),
            roles: vec!["r".parse().unwrap()],
            department: None,
        };
        let first = noted.fingerprint(&ann, &facts);
        assert!(!noted.has(first));
        noted.add(first);
        assert!(noted.has(noted.fingerprint(&ann, &facts.clone())));
        let bob = InboxKey::new(TenantId::default(), "bob".parse().unwrap());
        assert!(!noted.has(noted.fingerprint(&bob, &facts)));
        let later = TokenFacts { issued_at: Time::from_millis(2), ..facts.clone() };
        assert!(!noted.has(noted.fingerprint(&ann, &later)));
        assert!(!noted.has(noted.fingerprint(&ann, &TokenFacts { roles: vec![], ..facts })));
    }
}
