//! Who is in a channel now, on this node: for channels that show it (contract §6, seed 003 §2.1).
//!
//! A connection joins a channel and is told who is there: first itself, then the others. So a
//! `presence` frame about the reader's own user with `online: true` begins a new list, and whoever was known before is forgotten.
//! After that come changes. Changes are gathered for [`FLUSH_EVERY`]: somebody whose connection is
//! replaced has not been away, and ten thousand who come back at once cost no hundred million
//! frames.
//!
//! **Limits.** A connection joins at most [`JOINED_MAX`] channels. A list names at most [`LIST_MAX`]
//! users, and where more are in a channel, changes are not told at all until there are fewer: then
//! everybody gets a new list. A reader that does not keep up is not sent changes; it gets a new list
//! when it has read what waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use protocol::{ChannelId, ServerFrame, TenantId, UserId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use uuid::Uuid;

use super::{Live, connection::Connection, framing::Framing, wire_frame::WireFrame};

/// Channels that one connection may have joined: each is looked at when it ends.
pub(super) const JOINED_MAX: usize = 100;

/// Users that a list names, and from which on changes are not told: a list of 500 is some 50 KB on
/// the wire, and more names fit no screen.
const LIST_MAX: usize = 500;

/// How long changes are gathered.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// How often readers that did not keep up are looked at again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

type Key = (TenantId, ChannelId);

/// The channels that connections of this node have joined.
#[derive(Default)]
pub(super) struct Presence {
    hubs: DashMap<Key, Arc<Hub>>,
    /// What each connection has joined; only those that have.
    joined: DashMap<Uuid, SmallVec<[ChannelId; 2]>>,
}

/// One channel.
struct Hub {
    key: Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    joined: FxHashMap<Uuid, Joined>,
    /// How many connections each user has joined with; sorted, so that lists of many show the same.
    users: BTreeMap<UserId, u32>,
    /// Who came or left since the last flush, and whether they were there before.
    before: BTreeMap<UserId, bool>,
    /// A task tells.
    telling: bool,
    /// The hub was taken out of the map: join another one.
    gone: bool,
}

struct Joined {
    connection: Arc<Connection>,
    /// It has had a list and every change since.
    current: bool,
}

/// The connection has joined as many channels as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyJoined;

impl State {
    fn crowded(&self) -> bool {
        self.users.len() > LIST_MAX
    }

    fn add(&mut self, connection: &Arc<Connection>) {
        let joined = Joined { connection: Arc::clone(connection), current: false };
        if self.joined.insert(connection.id(), joined).is_none() {
            let user = connection.inbox().user.clone();
            let count = self.users.entry(user.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.before.entry(user).or_insert(false);
            }
        }
    }

    fn remove(&mut self, id: Uuid) -> bool {
        let Some(Joined { connection, .. }) = self.joined.remove(&id) else { return false };
        let user = &connection.inbox().user;
        let crowded = self.crowded();
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
                self.before.entry(user.clone()).or_insert(true);
            }
        }
        if crowded && !self.crowded() {
            // Nobody was told of what changed meanwhile.
            self.joined.values_mut().for_each(|joined| joined.current = false);
        }
        true
    }
}

/// What is told in one go, encoded once for each framing.
struct News {
    channel: ChannelId,
    users: Vec<(UserId, bool)>,
    encoded: [Option<Vec<WireFrame>>; Framing::ALL.len()],
}

impl News {
    fn new(channel: ChannelId, users: Vec<(UserId, bool)>) -> Self {
        Self { channel, users, encoded: [const { None }; Framing::ALL.len()] }
    }

    fn frames(&mut self, framing: Framing) -> &[WireFrame] {
        let (channel, users) = (&self.channel, &self.users);
        self.encoded[framing.index()].get_or_insert_with(|| {
            users.iter().map(|(user, online)| frame(channel, user, *online, framing)).collect()
        })
    }
}

fn frame(channel: &ChannelId, user: &UserId, online: bool, framing: Framing) -> WireFrame {
    let frame =
        ServerFrame::Presence { channel_id: channel.clone(), user_id: user.clone(), online };
    WireFrame::server(&frame, framing)
}

impl Presence {
    /// Shows a connection who is in a channel, and the others that it is.
    pub(super) fn join(
        &self,
        live: &Arc<Live>,
        connection: &Arc<Connection>,
        channel: &ChannelId,
    ) -> Result<(), TooManyJoined> {
        {
            let mut joined = self.joined.entry(connection.id()).or_default();
            if !joined.contains(channel) {
                if joined.len() >= JOINED_MAX {
                    return Err(TooManyJoined);
                }
                joined.push(channel.clone());
            }
        }
        let key = (connection.inbox().tenant.clone(), channel.clone());
        loop {
            let hub =
                Arc::clone(&self.hubs.entry(key.clone()).or_insert_with(|| {
                    Arc::new(Hub { key: key.clone(), state: Mutex::default() })
                }));
            let mut state = hub.state.lock();
            if !state.gone {
                state.add(connection);
                self.tell(live, &hub, &mut state);
                return Ok(());
            }
        }
    }

    /// Ends what [`Presence::join`] began; whether it had.
    pub(super) fn leave(
        &self,
        live: &Arc<Live>,
        connection: &Connection,
        channel: &ChannelId,
    ) -> bool {
        let had = self.joined.get_mut(&connection.id()).is_some_and(|mut joined| {
            let before = joined.len();
            joined.retain(|one| one != channel);
            joined.len() < before
        });
        self.joined.remove_if(&connection.id(), |_, joined| joined.is_empty());
        if had {
            self.take_out(live, connection, channel);
        }
        had
    }

    /// A connection ends.
    pub(super) fn leave_all(&self, live: &Arc<Live>, connection: &Connection) {
        if self.joined.is_empty() {
            return;
        }
        if let Some((_, joined)) = self.joined.remove(&connection.id()) {
            for channel in &joined {
                self.take_out(live, connection, channel);
            }
        }
    }

    /// Connections that have joined a channel, over all channels.
    pub(super) fn joins(&self) -> usize {
        self.joined.iter().map(|joined| joined.len()).sum()
    }

    fn take_out(&self, live: &Arc<Live>, connection: &Connection, channel: &ChannelId) {
        let key = (connection.inbox().tenant.clone(), channel.clone());
        let Some(hub) = self.hubs.get(&key).map(|hub| Arc::clone(&hub)) else { return };
        let mut state = hub.state.lock();
        if !state.remove(connection.id()) {
            return;
        }
        if state.joined.is_empty() {
            state.gone = true;
            drop(state);
            self.hubs.remove_if(&key, |_, there| Arc::ptr_eq(there, &hub));
        } else {
            self.tell(live, &hub, &mut state);
        }
    }

    /// Makes sure that a task tells what there is to tell.
    fn tell(&self, live: &Arc<Live>, hub: &Arc<Hub>, state: &mut State) {
        if !std::mem::replace(&mut state.telling, true) {
            let (live, hub) = (Arc::downgrade(live), Arc::clone(hub));
            tokio::spawn(async move { hub.run(&live).await });
        }
    }
}

impl Hub {
    /// Tells until there is nothing more to tell.
    async fn run(&self, live: &Weak<Live>) {
        loop {
            let Some(strong) = live.upgrade() else { return };
            let behind = self.flush(&strong).await;
            drop(strong);
            tokio::time::sleep(if behind { RETRY_EVERY } else { FLUSH_EVERY }).await;
            let mut state = self.state.lock();
            let lists = !state.crowded() && state.joined.values().any(|joined| !joined.current);
            if state.gone || (state.before.is_empty() && !lists) {
                state.telling = false;
                return;
            }
        }
    }

    /// Tells everybody what has changed, and those who need it, everything. Answers whether somebody
    /// did not keep up.
    async fn flush(&self, live: &Arc<Live>) -> bool {
        let channel = &self.key.1;
        let (mut changes, mut list, readers) = {
            let mut state = self.state.lock();
            let before = std::mem::take(&mut state.before);
            let users = &state.users;
            let changed = before.into_iter().filter_map(|(user, was)| {
                let online = users.contains_key(&user);
                (online != was).then_some((user, online))
            });
            let changes = if state.crowded() { Vec::new() } else { changed.collect() };
            let all = state.users.keys().take(LIST_MAX).map(|user| (user.clone(), true)).collect();
            let readers: Vec<(Arc<Connection>, bool)> = state
                .joined
                .values()
                .map(|joined| (Arc::clone(&joined.connection), joined.current))
                .collect();
            (News::new(channel.clone(), changes), News::new(channel.clone(), all), readers)
        };
        let mut behind = false;
        for (connection, current) in readers {
            match live.channels().is_member(connection.inbox(), channel).await {
                Ok(true) => {}
                Ok(false) => {
                    live.presence().leave(live, &connection, channel);
                    continue;
                }
                // Who cannot be looked up is told nothing; the list comes when it can.
                Err(_) => {
                    behind = true;
                    self.set_current(&connection, false);
                    continue;
                }
            }
            let framing = connection.framing();
            let taken = if current {
                let frames = changes.frames(framing);
                frames.is_empty() || offer(live, &connection, frames, false)
            } else {
                let me = &connection.inbox().user;
                let mut frames = vec![frame(channel, me, true, framing)];
                let others = list.users.iter().position(|(user, _)| user == me);
                let all = list.frames(framing);
                frames.extend(
                    all.iter()
                        .enumerate()
                        .filter(|(at, _)| Some(*at) != others)
                        .map(|(_, frame)| frame.clone()),
                );
                offer(live, &connection, &frames, true)
            };
            if current != taken {
                self.set_current(&connection, taken);
            }
            behind |= !taken;
        }
        behind
    }

    fn set_current(&self, connection: &Connection, current: bool) {
        if let Some(joined) = self.state.lock().joined.get_mut(&connection.id()) {
            joined.current = current;
        }
    }
}

fn offer(live: &Live, connection: &Connection, frames: &[WireFrame], whole: bool) -> bool {
    let io = live.io(connection, Instant::now());
    let taken = connection.outbox().lock().offer_presence(frames, whole, io);
    if taken {
        connection.waker().wake();
    } else {
        live.metrics().presence_skipped.increment(1);
    }
    taken
}
