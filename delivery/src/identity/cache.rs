//! Tokens that were checked, so that the next request with the same one costs a hash and a look-up.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use protocol::Time;
use rustc_hash::FxBuildHasher;
use sha2::{Digest, Sha256};

use super::UserCaller;

/// Most tokens that are remembered. About 500 bytes each; every socket and polling client of a
/// full node has its own. At the limit the half that was not used since the last time goes; a
/// forgotten token is checked anew.
pub const ENTRIES_MAX: usize = 32_768;

/// Locks: two threads rarely want the same one.
const SHARDS: usize = 16;

/// A shard holds two generations of this size.
const GENERATION_MAX: usize = ENTRIES_MAX / SHARDS / 2;

/// The token's hash: the token itself is not kept in memory, and a key an attacker cannot choose
/// makes the cheap hasher below safe.
pub(super) type Key = [u8; 32];

pub(super) fn key(token: &str) -> Key {
    Sha256::digest(token.as_bytes()).into()
}

type Map = HashMap<Key, Arc<UserCaller>, FxBuildHasher>;

#[derive(Default)]
struct Shard {
    young: Map,
    old: Map,
    /// How many keys had been withdrawn when these were checked.
    withdrawn: u64,
}

impl Shard {
    /// Forgets what was checked before a key was withdrawn: it may have been by that one.
    fn keep_up(&mut self, withdrawn: u64) {
        if self.withdrawn != withdrawn {
            *self = Self { withdrawn, ..Self::default() };
        }
    }

    fn put(&mut self, key: Key, user: Arc<UserCaller>) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, user);
    }
}

/// Remembers good tokens only: bad ones would let strangers fill it.
#[derive(Default)]
pub(super) struct TokenCache {
    shards: [Mutex<Shard>; SHARDS],
}

impl TokenCache {
    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[usize::from(key[0]) % SHARDS]
    }

    /// The token's user while the token lives. No leeway here: past `exp` every request goes through
    /// the whole check.
    pub(super) fn get(&self, key: &Key, now: Time, withdrawn: u64) -> Option<Arc<UserCaller>> {
        let mut shard = self.shard(key).lock();
        shard.keep_up(withdrawn);
        let user = match shard.young.get(key) {
            Some(user) => Arc::clone(user),
            None => {
                let user = shard.old.remove(key)?;
                shard.put(*key, Arc::clone(&user));
                user
            }
        };
        if user.expires_at <= now {
            shard.young.remove(key);
            return None;
        }
        Some(user)
    }

    /// Remembers a token that was checked after so many keys had been withdrawn.
    pub(super) fn insert(&self, key: Key, user: Arc<UserCaller>, withdrawn: u64) {
        let mut shard = self.shard(&key).lock();
        // One that was withdrawn meanwhile may be the one that it was checked by.
        if shard.withdrawn == withdrawn {
            shard.put(key, user);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.lock();
                shard.young.len() + shard.old.len()
            })
            .sum()
    }
}
