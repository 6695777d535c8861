//! Who is there, counted: by connections of this node, and by what other nodes say.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{UserId, envelope::USERS_MAX};

use crate::bus::PresenceNews;

/// How often users are there, and what has changed of it.
#[derive(Default)]
pub(super) struct Present {
    count: BTreeMap<UserId, u32>,
    /// Who came or left since the last flush, and whether they were there before.
    before: BTreeMap<UserId, bool>,
}

impl Present {
    pub(super) fn add(&mut self, user: &UserId) {
        let count = self.count.entry(user.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.before.entry(user.clone()).or_insert(false);
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) {
        if let Some(count) = self.count.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(user);
                self.before.entry(user.clone()).or_insert(true);
            }
        }
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.count.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.count.len()
    }

    /// Whether something may have changed since it was last asked.
    pub(super) fn has_news(&self) -> bool {
        !self.before.is_empty()
    }

    /// What has changed since it was last asked.
    pub(super) fn changes(&mut self) -> Vec<(UserId, bool)> {
        let before = std::mem::take(&mut self.before).into_iter();
        let changed = before.filter_map(|(user, was)| {
            let online = self.count.contains_key(&user);
            (online != was).then_some((user, online))
        });
        changed.collect()
    }
}

/// Who is there by what another node says.
#[derive(Default)]
pub(super) struct Elsewhere {
    users: BTreeSet<UserId>,
    /// And more that it did not name.
    more: bool,
}

impl Elsewhere {
    /// Takes in news, and counts in `all` who is there by them. Of more than [`USERS_MAX`] the rest is not
    /// kept, only that there are more.
    pub(super) fn hear(&mut self, news: PresenceNews<'_>, all: &mut Present) {
        match news {
            PresenceNews::Changed { joined, left } => {
                for user in joined {
                    if self.users.len() >= USERS_MAX {
                        self.more |= !self.users.contains(user);
                    } else if self.users.insert(user.clone()) {
                        all.add(user);
                    }
                }
                left.iter()
                    .filter(|user| self.users.remove(*user))
                    .for_each(|user| all.remove(user));
            }
            PresenceNews::All { users, more } => {
                let named: BTreeSet<UserId> = users.iter().take(USERS_MAX).cloned().collect();
                let before = std::mem::replace(&mut self.users, named);
                self.more = more;
                // First who is there: who is in both is not away in between.
                self.users.iter().for_each(|user| all.add(user));
                before.iter().for_each(|user| all.remove(user));
            }
        }
    }

    /// The node is gone.
    pub(super) fn leave(self, all: &mut Present) {
        self.users.iter().for_each(|user| all.remove(user));
    }

    /// Whether there are more than it names.
    pub(super) const fn more(&self) -> bool {
        self.more
    }
}
