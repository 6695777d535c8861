//! Messages that were made unread again, so that reading them once more is not counted.

use std::{
    collections::{HashSet, VecDeque},
    mem,
};

use protocol::Seq;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::{InboxKey, store::Happening};

/// Messages of inboxes that are remembered; the first one makes room. 24 bytes each.
const REMEMBERED_MAX: usize = 262_144;

/// What the file has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Remember(i64),
    Forget(i64),
}

/// See the module.
#[derive(Default)]
pub(super) struct Reread {
    known: HashSet<i64>,
    /// In the order in which they came.
    order: VecDeque<i64>,
    changes: Vec<Change>,
}

impl Reread {
    pub(super) fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut select = db.prepare("SELECT hash FROM reread")?;
        let order: VecDeque<i64> =
            select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self { known: order.iter().copied().collect(), order, changes: Vec::new() })
    }

    pub(super) fn contains(&self, happening: &Happening) -> bool {
        !self.known.is_empty() && self.known.contains(&hash_of(happening))
    }

    pub(super) fn insert(&mut self, happening: &Happening) {
        let hash = hash_of(happening);
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        self.changes.push(Change::Remember(hash));
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.changes.push(Change::Forget(oldest));
        }
    }

    /// Forgets the places of an inbox up to its head. Whether there were any.
    pub(super) fn forget(&mut self, inbox: &InboxKey, head: Seq) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let hashes = (1..=head.0).map(|place| hash(inbox, Seq(place)));
        let gone: HashSet<i64> = hashes.filter(|hash| self.known.remove(hash)).collect();
        if !gone.is_empty() {
            self.order.retain(|hash| !gone.contains(hash));
        }
        self.changes.extend(gone.iter().copied().map(Change::Forget));
        !gone.is_empty()
    }

    pub(super) fn changed(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    /// They could not be written.
    pub(super) fn put_back(&mut self, mut changes: Vec<Change>) {
        changes.append(&mut self.changes);
        self.changes = changes;
    }
}

pub(super) fn write(db: &Connection, changes: &[Change]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO reread VALUES (?1)")?;
    let mut delete = db.prepare_cached("DELETE FROM reread WHERE hash = ?1")?;
    for change in changes {
        match change {
            Change::Remember(hash) => insert.execute([hash])?,
            Change::Forget(hash) => delete.execute([hash])?,
        };
    }
    Ok(())
}

fn hash_of(happening: &Happening) -> i64 {
    hash(&happening.inbox, happening.message_seq)
}

/// The same in every build: it is kept.
fn hash(inbox: &InboxKey, place: Seq) -> i64 {
    let mut digest = Sha256::new();
    for part in [inbox.tenant.as_str(), inbox.user.as_str()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.update(place.0.to_le_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    i64::from_le_bytes(digest[..8].try_into().expect("8 of 32 bytes"))
}
