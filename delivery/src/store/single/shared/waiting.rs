//! What is not in `shared.db` yet, so that readers see it all the same.
//!
//! Who reads looks here first and into the file after that: what was here and is not any more is in
//! the file by then. What it finds in both places it must be able to tell apart; see
//! [`Memberships::turn`] and [`Counting::total`].

use std::{collections::VecDeque, sync::Arc};

use protocol::{ChannelId, TenantId, Time};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    super::{
        inbox::SharedEntry,
        membership::{Memberships, Turn},
        record::{DirectoryRecord, Facts, ForgetRecord, Lsn},
    },
    recent,
    schema::{CHANNELS, group_text},
};
use crate::{
    InboxKey,
    store::{Channel, Group},
};

/// What an item holds in memory besides its content, in bytes.
const ITEM_WEIGHT: usize = 256;

/// What a user among the members of a record holds in memory, in bytes: a line in the map of users
/// with its key, and a turn.
const USER_WEIGHT: usize = 400;

/// Something that belongs into the file.
#[derive(Clone)]
pub(super) enum Item {
    /// What was sent to groups or to everyone.
    Entry { tenant: TenantId, entry: Arc<SharedEntry> },
    /// An inbox that began to exist with a record.
    Seen { lsn: Lsn, key: InboxKey, at: Time },
    /// A change of the directory.
    Directory { lsn: Lsn, record: Arc<DirectoryRecord> },
    /// A user who is forgotten by a record.
    Forget { lsn: Lsn, record: Arc<ForgetRecord> },
    /// An inbox that exists since a record at the latest: no record says so by itself.
    Known { key: InboxKey, since: Lsn, at: Time },
    /// A token that said nothing new; not in the journal.
    Issued { key: InboxKey, at: Time },
}

impl Item {
    /// The record that it comes from.
    pub(super) fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Entry { entry, .. } => Some(entry.lsn),
            Self::Seen { lsn, .. } | Self::Directory { lsn, .. } | Self::Forget { lsn, .. } => {
                Some(*lsn)
            }
            Self::Known { .. } | Self::Issued { .. } => None,
        }
    }

    fn weight(&self) -> usize {
        ITEM_WEIGHT
            + match self {
                Self::Entry { entry, .. } => recent::weight(entry),
                Self::Directory { record, .. } => match &**record {
                    DirectoryRecord::Members { join, leave, .. } => {
                        (join.len() + leave.len()) * USER_WEIGHT
                    }
                    DirectoryRecord::User { join, leave, .. } => {
                        USER_WEIGHT + (join.len() + leave.len()) * USER_WEIGHT
                    }
                    DirectoryRecord::Channel { channel, .. } => {
                        channel.metadata.len() * 64 + USER_WEIGHT
                    }
                    DirectoryRecord::ChannelGone { .. } => 0,
                },
                Self::Forget { record, .. } => USER_WEIGHT + record.leave.len() * USER_WEIGHT,
                Self::Seen { .. } | Self::Known { .. } | Self::Issued { .. } => USER_WEIGHT,
            }
    }

    /// Whose lines in the map of users it changes.
    fn users(&self) -> Vec<InboxKey> {
        match self {
            Self::Entry { .. } => Vec::new(),
            Self::Seen { key, .. } | Self::Known { key, .. } | Self::Issued { key, .. } => {
                vec![key.clone()]
            }
            Self::Forget { record, .. } => {
                vec![InboxKey::new(record.tenant.clone(), record.user.clone())]
            }
            Self::Directory { record, .. } => match &**record {
                DirectoryRecord::Members { tenant, join, leave, .. } => join
                    .iter()
                    .chain(leave)
                    .map(|user| InboxKey::new(tenant.clone(), user.clone()))
                    .collect(),
                DirectoryRecord::User { tenant, facts, .. } => {
                    vec![InboxKey::new(tenant.clone(), facts.record.user_id.clone())]
                }
                DirectoryRecord::Channel { .. } | DirectoryRecord::ChannelGone { .. } => Vec::new(),
            },
        }
    }

    /// The counts it changes.
    fn counts(&self) -> Vec<(TenantId, String, Step)> {
        let record = match self {
            Self::Directory { record, .. } => record,
            Self::Forget { record, .. } => {
                let leave = |group| (record.tenant.clone(), group_text(group), Step::Add(-1));
                return record.leave.iter().map(leave).collect();
            }
            _ => return Vec::new(),
        };
        match &**record {
            DirectoryRecord::Channel { tenant, since: None, .. } => {
                vec![(tenant.clone(), CHANNELS.to_owned(), Step::Add(1))]
            }
            DirectoryRecord::Channel { .. } => Vec::new(),
            DirectoryRecord::ChannelGone { tenant, id } => vec![
                (tenant.clone(), CHANNELS.to_owned(), Step::Add(-1)),
                (tenant.clone(), group_text(&Group::Channel(id.clone())), Step::Zero),
            ],
            DirectoryRecord::Members { tenant, id, join, leave, .. } => {
                let by = join.len().cast_signed() as i64 - leave.len().cast_signed() as i64;
                let group = Group::Channel(id.clone());
                vec![(tenant.clone(), group_text(&group), Step::Add(by))]
            }
            DirectoryRecord::User { tenant, join, leave, .. } => join
                .iter()
                .map(|group| (tenant.clone(), group_text(group), Step::Add(1)))
                .chain(leave.iter().map(|group| (tenant.clone(), group_text(group), Step::Add(-1))))
                .collect(),
        }
    }
}

/// What a record does to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Add(i64),
    Zero,
}

/// What records do to a count that the file may have taken over already.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting(Vec<(Lsn, Step)>);

impl Counting {
    /// The count, where the file says `n` as of a record.
    pub(super) fn total(&self, n: u64, as_of: Lsn) -> u64 {
        let later = self.0.iter().filter(|(lsn, _)| *lsn > as_of);
        let total = later.fold(n.cast_signed(), |n, (_, step)| match step {
            Step::Add(by) => n + by,
            Step::Zero => 0,
        });
        u64::try_from(total).unwrap_or(0)
    }
}

/// What waits of a user.
#[derive(Clone, Debug, Default)]
pub(super) struct UserWaiting {
    /// The earliest record since which the inbox exists, and when.
    pub(super) seen: Option<(Lsn, Time)>,
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) issued_at: Option<Time>,
    /// In the order of their records.
    pub(super) turns: Vec<Turn>,
    /// The record by which the user was forgotten: what the file says of earlier ones is void. Zero for
    /// most.
    pub(super) forgotten: Lsn,
    /// The item after which nothing of this waits any more.
    last: u64,
}

impl UserWaiting {
    fn see(&mut self, lsn: Lsn, at: Time) {
        self.seen = Some(self.seen.map_or((lsn, at), |seen| seen.min((lsn, at))));
    }
}

/// A channel as it stands in the file.
#[derive(Clone, Debug)]
pub(in super::super) struct KeptChannel {
    pub(in super::super) channel: Channel,
    /// The record that made it.
    pub(in super::super) since: Lsn,
}

impl KeptChannel {
    /// Whether it is a channel of this user's.
    pub(super) fn is_made_by(&self, tenant: &TenantId, record: &ForgetRecord) -> bool {
        *tenant == record.tenant && self.channel.created_by == record.user.as_str()
    }
}

/// A channel as of the record; none, if that record deleted it.
type LatestChannel = (Lsn, Option<Arc<KeptChannel>>);

/// What is not in the file yet.
#[derive(Default)]
pub(super) struct Waiting {
    /// In the order in which they came: that of the journal, for those that come from it.
    items: VecDeque<Item>,
    /// How many items were taken out of the front, ever.
    gone: u64,
    bytes: usize,
    users: FxHashMap<InboxKey, UserWaiting>,
    /// Channels as of their latest record; none for one that is gone.
    channels: FxHashMap<(TenantId, ChannelId), LatestChannel>,
    /// Channels that ended, in the order of the records.
    ended: VecDeque<(Lsn, TenantId, Arc<Group>)>,
    /// Users who are forgotten, in the order of the records.
    forgotten: VecDeque<(Lsn, Arc<ForgetRecord>)>,
    counts: FxHashMap<(TenantId, String), Counting>,
    pub(super) closing: bool,
}

impl Waiting {
    pub(super) fn add(&mut self, item: Item) {
        self.bytes += item.weight();
        let serial = self.gone + self.items.len() as u64;
        match &item {
            Item::Entry { .. } => {}
            Item::Seen { lsn: since, key, at } | Item::Known { key, since, at } => {
                self.user(key.clone(), serial).see(*since, *at);
            }
            Item::Issued { key, at } => {
                let user = self.user(key.clone(), serial);
                user.issued_at = user.issued_at.max(Some(*at));
            }
            Item::Directory { lsn, record } => self.add_directory(*lsn, record, serial),
            Item::Forget { lsn, record } => self.forget(*lsn, record, serial),
        }
        if let Some(lsn) = item.lsn() {
            for (tenant, what, step) in item.counts() {
                self.counts.entry((tenant, what)).or_default().0.push((lsn, step));
            }
        }
        self.items.push_back(item);
    }

    fn add_directory(&mut self, lsn: Lsn, record: &DirectoryRecord, serial: u64) {
        match record {
            DirectoryRecord::Channel { tenant, channel, since } => {
                let key = (tenant.clone(), channel.id.clone());
                let kept = KeptChannel { channel: channel.clone(), since: since.unwrap_or(lsn) };
                self.channels.insert(key, (lsn, Some(Arc::new(kept))));
            }
            DirectoryRecord::ChannelGone { tenant, id } => {
                self.channels.insert((tenant.clone(), id.clone()), (lsn, None));
                let group = Arc::new(Group::Channel(id.clone()));
                self.ended.push_back((lsn, tenant.clone(), group));
            }
            DirectoryRecord::Members { tenant, id, join, leave, at } => {
                let group = Arc::new(Group::Channel(id.clone()));
                let turn = |joins| Turn { group: Arc::clone(&group), lsn, joins };
                for member in join {
                    let key = InboxKey::new(tenant.clone(), member.clone());
                    let user = self.user(key, serial);
                    user.see(lsn, *at);
                    user.turns.push(turn(true));
                }
                for member in leave {
                    let key = InboxKey::new(tenant.clone(), member.clone());
                    self.user(key, serial).turns.push(turn(false));
                }
            }
            DirectoryRecord::User { tenant, facts, join, leave, at } => {
                let key = InboxKey::new(tenant.clone(), facts.record.user_id.clone());
                let user = self.user(key, serial);
                user.see(lsn, *at);
                user.facts = Some(Arc::new(facts.clone()));
                let turn =
                    |group: &Group, joins| Turn { group: Arc::new(group.clone()), lsn, joins };
                user.turns.extend(join.iter().map(|group| turn(group, true)));
                user.turns.extend(leave.iter().map(|group| turn(group, false)));
            }
        }
    }

    fn forget(&mut self, lsn: Lsn, record: &Arc<ForgetRecord>, serial: u64) {
        self.forgotten.push_back((lsn, Arc::clone(record)));
        let key = InboxKey::new(record.tenant.clone(), record.user.clone());
        let user = self.user(key, serial);
        *user = UserWaiting { forgotten: lsn, last: serial, ..UserWaiting::default() };
        for ((tenant, _), (_, kept)) in &mut self.channels {
            if let Some(kept) = kept
                && kept.is_made_by(tenant, record)
            {
                Arc::make_mut(kept).channel.created_by.clear();
            }
        }
    }

    /// Users whose being forgotten waits, and by which record.
    pub(super) fn forgotten(&self) -> Vec<(Lsn, Arc<ForgetRecord>)> {
        self.forgotten.iter().cloned().collect()
    }

    fn user(&mut self, key: InboxKey, serial: u64) -> &mut UserWaiting {
        let user = self.users.entry(key).or_default();
        user.last = serial;
        user
    }

    /// What was sent to groups or everyone by a record.
    pub(super) fn entry_at(&self, at: Lsn) -> Option<Arc<SharedEntry>> {
        self.items.iter().find_map(|item| match item {
            Item::Entry { entry, .. } if entry.lsn == at => Some(Arc::clone(entry)),
            _ => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first items, at most so many and about so many bytes, at least one if there is one.
    pub(super) fn first(&self, count: usize, bytes_max: usize) -> Vec<Item> {
        let mut bytes = 0;
        let fitting = |item: &&Item| {
            let fits = bytes == 0 || bytes + item.weight() <= bytes_max;
            bytes += item.weight();
            fits
        };
        self.items.iter().take(count).take_while(fitting).cloned().collect()
    }

    /// The first items, so many, are in the file now.
    pub(super) fn written(&mut self, count: usize) {
        let written: Vec<Item> = self.items.drain(..count).collect();
        self.gone += count as u64;
        let applied = written.iter().filter_map(Item::lsn).max().unwrap_or(0);
        let mut counts = FxHashSet::default();
        for item in &written {
            self.bytes -= item.weight();
            for key in item.users() {
                if let Some(user) = self.users.get_mut(&key) {
                    user.turns.retain(|turn| turn.lsn > applied);
                    if user.last < self.gone {
                        self.users.remove(&key);
                    }
                }
            }
            counts.extend(item.counts().into_iter().map(|(tenant, what, _)| (tenant, what)));
            if let Item::Directory { record, .. } = item
                && let DirectoryRecord::Channel { tenant, channel: Channel { id, .. }, .. }
                | DirectoryRecord::ChannelGone { tenant, id } = &**record
            {
                let key = (tenant.clone(), id.clone());
                if self.channels.get(&key).is_some_and(|(latest, _)| *latest <= applied) {
                    self.channels.remove(&key);
                }
            }
        }
        // Each once: thousands of users may have come to one role.
        for key in counts {
            if let Some(counting) = self.counts.get_mut(&key) {
                counting.0.retain(|(lsn, _)| *lsn > applied);
                if counting.0.is_empty() {
                    self.counts.remove(&key);
                }
            }
        }
        while self.ended.front().is_some_and(|(lsn, ..)| *lsn <= applied) {
            self.ended.pop_front();
        }
        while self.forgotten.front().is_some_and(|(lsn, _)| *lsn <= applied) {
            self.forgotten.pop_front();
        }
        if self.items.is_empty() {
            // A burst must not leave its capacity behind.
            self.items.shrink_to(0);
            self.users.shrink_to(0);
            self.counts.shrink_to(0);
        }
    }

    /// What waits of a user.
    pub(super) fn of_user(&self, key: &InboxKey) -> Option<&UserWaiting> {
        self.users.get(key)
    }

    /// A channel, if it is here: none if it is gone.
    pub(super) fn of_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> Option<Option<Arc<KeptChannel>>> {
        if self.channels.is_empty() {
            return None;
        }
        self.channels.get(&(tenant.clone(), id.clone())).map(|(_, channel)| channel.clone())
    }

    /// What waits for a count.
    pub(super) fn of_count(&self, tenant: &TenantId, what: &str) -> Counting {
        if self.counts.is_empty() {
            return Counting::default();
        }
        self.counts.get(&(tenant.clone(), what.to_owned())).cloned().unwrap_or_default()
    }

    /// The channels of a tenant that ended; for [`Waiting::stays`].
    pub(super) fn ended(&self, tenant: &TenantId) -> Arc<[(Lsn, Arc<Group>)]> {
        let ended = self.ended.iter().filter(|(_, of, _)| of == tenant);
        ended.map(|(lsn, _, group)| (*lsn, Arc::clone(group))).collect()
    }

    /// What waits of a user's stays, to be laid over what the file says.
    pub(super) fn stays(&self, key: &InboxKey, ended: &Arc<[(Lsn, Arc<Group>)]>) -> Stays {
        let user = self.of_user(key);
        let turns = user.map_or_else(Vec::new, |user| user.turns.clone());
        let forgotten = user.map_or(0, |user| user.forgotten);
        Stays { turns, forgotten, ended: Arc::clone(ended) }
    }

    /// What was sent after a record, in its order.
    pub(super) fn entries_after(
        &self,
        tenant: &TenantId,
        after: Lsn,
    ) -> impl Iterator<Item = &Arc<SharedEntry>> {
        self.items.iter().filter_map(move |item| match item {
            Item::Entry { tenant: of, entry } => {
                (of == tenant && entry.lsn > after).then_some(entry)
            }
            _ => None,
        })
    }
}

/// See [`Waiting::stays`].
pub(super) struct Stays {
    turns: Vec<Turn>,
    forgotten: Lsn,
    ended: Arc<[(Lsn, Arc<Group>)]>,
}

impl Stays {
    /// Whether nothing waits.
    pub(super) fn no_turns(&self) -> bool {
        self.turns.is_empty()
    }

    /// What the file says, and what waits.
    pub(super) fn over(&self, file: Memberships) -> Memberships {
        let mut file = file.since(self.forgotten);
        self.turns.iter().for_each(|turn| file.turn(turn));
        self.ended.iter().for_each(|(lsn, group)| file.end(group, *lsn));
        file
    }
}
