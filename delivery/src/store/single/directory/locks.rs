//! What is decided about a channel or a user is true until its record is visible: these are the
//! locks that make it so.

use std::{hash::BuildHasher, sync::Arc};

use protocol::{ChannelId, TenantId};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::InboxKey;

/// Locks of each kind. Channels or users that meet on one wait for each other's commits, so there are
/// more of them than commits that could be under way at a time.
const SHARDS: usize = 256;

type Lock = Arc<Mutex<()>>;

/// Held by whoever decides. Order: channel, making of channels, users by their place.
pub(in super::super) struct Locks {
    channels: Vec<Lock>,
    /// Held while a channel is made: their number has a limit.
    making: Lock,
    users: Vec<Lock>,
    hasher: std::hash::RandomState,
}

impl Default for Locks {
    fn default() -> Self {
        let shards = || (0..SHARDS).map(|_| Lock::default()).collect();
        Self {
            channels: shards(),
            making: Lock::default(),
            users: shards(),
            hasher: std::hash::RandomState::new(),
        }
    }
}

impl Locks {
    /// What a channel is and who is in it stays.
    pub(super) async fn channel(&self, tenant: &TenantId, id: &ChannelId) -> OwnedMutexGuard<()> {
        let lock = &self.channels[self.shard((tenant, id))];
        Arc::clone(lock).lock_owned().await
    }

    /// No other channel is made.
    pub(super) async fn making(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.making).lock_owned().await
    }

    /// What is known of a user, and in which groups they are, stays.
    pub(super) async fn user(&self, key: &InboxKey) -> OwnedMutexGuard<()> {
        Arc::clone(&self.users[self.shard(key)]).lock_owned().await
    }

    /// The same for several users.
    pub(super) async fn users(&self, keys: &[InboxKey]) -> Vec<OwnedMutexGuard<()>> {
        let mut shards: Vec<usize> = keys.iter().map(|key| self.shard(key)).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut guards = Vec::with_capacity(shards.len());
        for shard in shards {
            guards.push(Arc::clone(&self.users[shard]).lock_owned().await);
        }
        guards
    }

    /// The same for a user, and all that is decided about channels.
    pub(in super::super) async fn all_channels_and(
        &self,
        key: &InboxKey,
    ) -> Vec<OwnedMutexGuard<()>> {
        let mut guards = Vec::with_capacity(SHARDS + 2);
        for lock in self.channels.iter().chain([&self.making]) {
            guards.push(Arc::clone(lock).lock_owned().await);
        }
        guards.push(self.user(key).await);
        guards
    }

    fn shard(&self, key: impl std::hash::Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("a remainder of 256")
    }
}
