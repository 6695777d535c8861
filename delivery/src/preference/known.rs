//! What every node has in memory of all users' preferences: little, and enough that most users cost nothing.

use std::{collections::HashMap, hash::Hasher, sync::Arc};

use parking_lot::RwLock;
use protocol::{TenantId, UserId};
use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;

use super::Preferences;
use crate::template::locale::normal;

/// Most different lists of languages that are kept. People of one product have some hundred between them; one
/// takes about 200 bytes. Users with further ones are sent templates' own texts, and are counted.
pub const LANGUAGE_LISTS_MAX: usize = 65_536;

/// Languages of a user by their normal names, the dearest first.
pub type Spoken = Arc<[Box<str>]>;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    /// Whether there is anything to be asked for when the user connects.
    silences: bool,
    /// Which of the lists; none for nothing that is known.
    languages: Option<u32>,
}

#[derive(Default)]
struct Table {
    /// By a hash of tenant and user. Two meet once in twenty million times with a million users, and what
    /// comes of it is a look-up too many, or another language.
    users: FxHashMap<u64, Entry>,
    lists: Vec<Spoken>,
    numbers: HashMap<Spoken, u32>,
}

/// Who has preferences that can make anything silent, and who speaks what: of everybody who ever said so.
///
/// Its size is bounded by how many users have said something, some 24 bytes each: `pushhub_preferences_known`.
#[derive(Default)]
pub struct Known(RwLock<Table>);

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("users", &self.len()).finish_non_exhaustive()
    }
}

fn key(tenant: &TenantId, user: &UserId) -> u64 {
    let mut hasher = SipHasher13::new();
    for text in [tenant.as_str(), user.as_str()] {
        hasher.write(text.as_bytes());
        // No id has this byte.
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

/// What a user speaks: what the preferences say, else the profile.
fn spoken(preferences: &Preferences, locale: &str) -> Vec<Box<str>> {
    let said = preferences.languages.iter().map(String::as_str);
    let all = said.chain(Some(locale).filter(|_| preferences.languages.is_empty()));
    all.filter_map(normal).map(String::into_boxed_str).collect()
}

impl Known {
    /// What a user speaks; none where nothing is known.
    #[must_use]
    pub fn languages(&self, tenant: &TenantId, user: &UserId) -> Option<Spoken> {
        let table = self.0.read();
        if table.lists.is_empty() {
            return None;
        }
        let entry = table.users.get(&key(tenant, user))?;
        table.lists.get(entry.languages? as usize).cloned()
    }

    /// Whether a user's preferences can make anything silent.
    #[must_use]
    pub fn can_silence(&self, tenant: &TenantId, user: &UserId) -> bool {
        let table = self.0.read();
        !table.users.is_empty()
            && table.users.get(&key(tenant, user)).is_some_and(|entry| entry.silences)
    }

    /// How many users are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().users.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in what a user has said now. Answers whether there was room for the languages.
    pub(crate) fn learn(
        &self,
        tenant: &TenantId,
        user: &UserId,
        preferences: &Preferences,
        locale: &str,
    ) -> bool {
        let spoken = spoken(preferences, locale);
        let key = key(tenant, user);
        let mut table = self.0.write();
        let wanted = !spoken.is_empty();
        let languages = if wanted { table.number(spoken) } else { None };
        let entry = Entry { silences: preferences.can_silence(), languages };
        if entry == Entry::default() {
            table.users.remove(&key);
        } else {
            table.users.insert(key, entry);
        }
        languages.is_some() || !wanted
    }
}

impl Table {
    /// The number of a list, which is kept from now on; none where there is no room.
    fn number(&mut self, spoken: Vec<Box<str>>) -> Option<u32> {
        let spoken: Spoken = spoken.into();
        if let Some(number) = self.numbers.get(&spoken) {
            return Some(*number);
        }
        let number = u32::try_from(self.lists.len()).ok()?;
        if self.lists.len() >= LANGUAGE_LISTS_MAX {
            return None;
        }
        self.lists.push(Arc::clone(&spoken));
        self.numbers.insert(spoken, number);
        Some(number)
    }
}
