//! Who is in a channel now, for channels that show it (contract §6, seed 003 §2.1): who has joined on this
//! node, and who is said to be there by others.
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
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use protocol::{ChannelId, ServerFrame, TenantId, UserId, envelope::USERS_MAX};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::bus::PresenceNews;

use super::{
    Live,
    connection::Connection,
    framing::Framing,
    present::{Elsewhere, Present},
    wire_frame::WireFrame,
};

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
    /// How many connections of this node each user has joined with.
    here: Present,
    /// The same, and one more for each other node that names them; sorted, so that lists of many show
    /// the same.
    all: Present,
    /// Whom other nodes name, by node.
    elsewhere: FxHashMap<u64, Elsewhere>,
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
        self.all.len() > LIST_MAX || self.elsewhere.values().any(|there| there.more())
    }

    fn add(&mut self, connection: &Arc<Connection>) {
        let joined = Joined { connection: Arc::clone(connection), current: false };
        if self.joined.insert(connection.id(), joined).is_none() {
            let user = &connection.inbox().user;
            self.here.add(user);
            self.all.add(user);
        }
    }

    fn remove(&mut self, id: Uuid) -> bool {
        let Some(Joined { connection, .. }) = self.joined.remove(&id) else { return false };
        let user = &connection.inbox().user;
        self.thin_out(|state| {
            state.here.remove(user);
            state.all.remove(user);
        });
        true
    }

    /// What another node says.
    fn hear(&mut self, node: u64, news: PresenceNews<'_>) {
        self.thin_out(|state| state.elsewhere.entry(node).or_default().hear(news, &mut state.all));
    }

    fn node_gone(&mut self, node: u64) -> bool {
        let known = self.elsewhere.contains_key(&node);
        self.thin_out(|state| {
            if let Some(there) = state.elsewhere.remove(&node) {
                there.leave(&mut state.all);
            }
        });
        known
    }

    /// Does something by which there may be fewer.
    fn thin_out(&mut self, act: impl FnOnce(&mut Self)) {
        let crowded = self.crowded();
        act(self);
        if crowded && !self.crowded() {
            // Nobody was told of what changed meanwhile.
            self.joined.values_mut().for_each(|joined| joined.current = false);
        }
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
                if state.joined.is_empty() {
                    live.bus().channel_opened(&key.0, &key.1);
                }
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

    /// Another node says who is in a channel there. Of a channel that nobody here has joined nothing is kept.
    pub(super) fn heard(
        &self,
        live: &Arc<Live>,
        node: u64,
        tenant: &TenantId,
        channel: &ChannelId,
        news: PresenceNews<'_>,
    ) {
        let key = (tenant.clone(), channel.clone());
        let Some(hub) = self.hubs.get(&key).map(|hub| Arc::clone(&hub)) else { return };
        let mut state = hub.state.lock();
        if !state.gone {
            state.hear(node, news);
            self.tell(live, &hub, &mut state);
        }
    }

    /// Another node is gone, and whoever was in channels there.
    pub(super) fn node_gone(&self, live: &Arc<Live>, node: u64) {
        let hubs: Vec<Arc<Hub>> = self.hubs.iter().map(|hub| Arc::clone(&hub)).collect();
        for hub in hubs {
            let mut state = hub.state.lock();
            if !state.gone && state.node_gone(node) {
                self.tell(live, &hub, &mut state);
            }
        }
    }

    /// Who is in a channel on this node, and whether there are more than are named.
    pub(super) fn here(&self, tenant: &TenantId, channel: &ChannelId) -> (Vec<UserId>, bool) {
        let key = (tenant.clone(), channel.clone());
        let Some(hub) = self.hubs.get(&key).map(|hub| Arc::clone(&hub)) else {
            return (Vec::new(), false);
        };
        let state = hub.state.lock();
        let users = state.here.users().take(USERS_MAX).cloned().collect();
        (users, state.here.len() > USERS_MAX)
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
            // Before another hub of this channel can be made, which opens it again.
            live.bus().channel_closed(&key.0, &key.1);
            let changes = state.here.changes();
            drop(state);
            hub.tell_nodes(live, changes);
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
            let news = state.all.has_news() || state.here.has_news();
            if state.gone || !(news || lists) {
                state.telling = false;
                return;
            }
        }
    }

    /// Tells other nodes who came and left here. Not under the lock: they may be asked for a list.
    fn tell_nodes(&self, live: &Live, changes: Vec<(UserId, bool)>) {
        if !changes.is_empty() {
            let (joined, left): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|(_, online)| *online);
            let users =
                |list: Vec<(UserId, bool)>| list.into_iter().map(|(user, _)| user).collect();
            live.bus().presence(&self.key.0, &self.key.1, users(joined), users(left));
        }
    }

    /// Tells everybody what has changed, and those who need it, everything. Answers whether somebody
    /// did not keep up.
    async fn flush(&self, live: &Arc<Live>) -> bool {
        let channel = &self.key.1;
        let (here, mut changes, mut list, readers) = {
            let mut state = self.state.lock();
            let here = state.here.changes();
            let changed = state.all.changes();
            let changes = if state.crowded() { Vec::new() } else { changed };
            let all = state.all.users().take(LIST_MAX).map(|user| (user.clone(), true)).collect();
            let readers: Vec<(Arc<Connection>, bool)> = state
                .joined
                .values()
                .map(|joined| (Arc::clone(&joined.connection), joined.current))
                .collect();
            (here, News::new(channel.clone(), changes), News::new(channel.clone(), all), readers)
        };
        self.tell_nodes(live, here);
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
