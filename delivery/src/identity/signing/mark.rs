//! A key by which a token was checked, in little room: each connection keeps it.

use std::{hash::Hasher, num::NonZeroU64};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// One of our own key pairs. Two of the few keys there are meet once in 2⁶⁰ times, and nobody chooses a key's
/// name: it is a hash of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMark(NonZeroU64);

impl KeyMark {
    /// Of a key's name.
    #[must_use]
    pub fn of(kid: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(kid.as_bytes());
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }
}
