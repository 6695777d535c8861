//! A node of a cluster as far as the bus goes: it keeps what arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use delivery::{
    InboxKey,
    store::{Change, Stored},
};
use hub::{
    bus::{Attention, Bus, Doubt, Inbound, PresenceNews, RedisBus, RedisConfig, State},
    telemetry::Metrics,
};
use parking_lot::Mutex;
use protocol::{
    Body, ChannelId, ConnectionId, MessageFields, MessageState, Seq, TenantId, Time, UserId,
    envelope::Spent,
};

use super::{SOON, eventually};

/// What has arrived.
#[derive(Default)]
pub(crate) struct Ears {
    pub(crate) changes: Mutex<BTreeMap<InboxKey, Vec<(u64, String)>>>,
    pub(crate) count: AtomicU64,
    pub(crate) in_store: Mutex<Vec<(InboxKey, Seq)>>,
    pub(crate) groups: Mutex<Vec<(TenantId, u64)>>,
    pub(crate) doubts: Mutex<Vec<Doubt>>,
    pub(crate) replaced: Mutex<Vec<ConnectionId>>,
    pub(crate) revoked: AtomicU64,
    pub(crate) spent: Mutex<Vec<Spent>>,
    /// Who is in a channel elsewhere, by node.
    pub(crate) elsewhere: Mutex<BTreeMap<u64, BTreeSet<UserId>>>,
    /// Who is in a channel here.
    pub(crate) here: Mutex<Vec<UserId>>,
}

impl Inbound for Ears {
    fn changes(&self, changes: &[Stored]) {
        let mut all = self.changes.lock();
        let list = all.entry(changes[0].inbox.clone()).or_default();
        for change in changes {
            let text = match &change.change {
                Change::Message { body, .. } => body.fields().unwrap().content,
                Change::Status(status) => status.status.as_str().to_owned(),
            };
            list.push((change.seq.0, text));
        }
        self.count.fetch_add(changes.len() as u64, Ordering::SeqCst);
    }

    fn connections(&self) -> Option<u64> {
        None
    }

    fn in_store(&self, inbox: &InboxKey, seq: Seq) {
        self.in_store.lock().push((inbox.clone(), seq));
    }

    fn group(&self, tenant: &TenantId, pos: u64) {
        self.groups.lock().push((tenant.clone(), pos));
    }

    fn doubt(&self, why: Doubt) {
        self.doubts.lock().push(why);
    }

    fn replaced(&self, _inbox: &InboxKey, connection: &ConnectionId) {
        self.replaced.lock().push(connection.clone());
    }

    fn revoked(&self) {
        self.revoked.fetch_add(1, Ordering::SeqCst);
    }

    fn spent(&self, spent: &[Spent]) {
        self.spent.lock().extend(spent);
    }

    fn presence(
        &self,
        node: u64,
        _tenant: &TenantId,
        _channel: &ChannelId,
        news: PresenceNews<'_>,
    ) {
        let mut elsewhere = self.elsewhere.lock();
        let there = elsewhere.entry(node).or_default();
        match news {
            PresenceNews::Changed { joined, left } => {
                there.extend(joined.iter().cloned());
                left.iter().for_each(|user| {
                    there.remove(user);
                });
            }
            PresenceNews::All { users, .. } => *there = users.iter().cloned().collect(),
        }
    }

    fn node_gone(&self, node: u64) {
        self.elsewhere.lock().remove(&node);
    }

    fn presence_here(&self, _tenant: &TenantId, _channel: &ChannelId) -> (Vec<UserId>, bool) {
        (self.here.lock().clone(), false)
    }
}

impl Ears {
    /// The seqs that arrived for a user.
    pub(crate) fn seqs(&self, user: &str) -> Vec<u64> {
        let changes = self.changes.lock();
        changes.get(&inbox(user)).into_iter().flatten().map(|(seq, _)| *seq).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn doubts(&self, which: Doubt) -> usize {
        self.doubts.lock().iter().filter(|doubt| **doubt == which).count()
    }
}

/// A node.
pub(crate) struct Node {
    pub(crate) bus: Arc<RedisBus>,
    pub(crate) ears: Arc<Ears>,
    metrics: Metrics,
}

impl Node {
    /// Starts one that need not reach its bus.
    pub(crate) fn start(name: &str, url: &str) -> Self {
        let config = RedisConfig {
            address: url.parse().unwrap(),
            ca: None,
            prefix: "test".to_owned(),
            node: name.parse().unwrap(),
            secrets: None,
            clock: delivery::clock::WallClock::default(),
            spans: delivery::spans::Spans::default(),
        };
        Self::start_config(config)
    }

    pub(crate) fn start_config(config: RedisConfig) -> Self {
        let metrics = Metrics::new().unwrap();
        let bus = RedisBus::new(config, &*metrics.recorder());
        let ears = Arc::new(Ears::default());
        bus.start(Arc::clone(&ears) as Arc<dyn Inbound>);
        Self { bus, ears, metrics }
    }

    /// Starts one and waits until it is up.
    pub(crate) async fn up(name: &str, url: &str) -> Self {
        let node = Self::start(name, url);
        node.is(State::Up, SOON).await;
        node
    }

    /// Waits for a state.
    pub(crate) async fn is(&self, state: State, within: Duration) {
        let mut states = self.bus.states();
        let reached = states.wait_for(|now| *now == state);
        if tokio::time::timeout(within, reached).await.is_err() {
            let (now, why) = (self.bus.state(), self.bus.why());
            panic!("not {state} within {within:?} but {now}: {why:?}");
        }
    }

    /// Listens to a user.
    pub(crate) async fn attend(&self, user: &str) -> Attention {
        self.bus.attend(&inbox(user)).await
    }

    /// A change that this node has stored.
    pub(crate) fn publish(&self, user: &str, seq: u64) {
        self.bus.publish(&[change(user, seq, &format!("{user} {seq}"))]);
    }

    /// Publishes one change after the other until another node has one: the bus works from there to here.
    /// Answers the seq that was reached.
    pub(crate) async fn reaches(&self, other: &Self, user: &str, first: u64) -> u64 {
        let mut seq = first;
        let before = other.ears.seqs(user).len();
        eventually("a change arrives", SOON, || {
            self.publish(user, seq);
            seq += 1;
            other.ears.seqs(user).len() > before
        })
        .await;
        seq - 1
    }

    /// What a failed test wants to know.
    pub(crate) fn describe(&self) -> String {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| {
            line.starts_with("pushhub_bus") && !line.ends_with(" 0") && !line.contains("bucket")
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        format!("{} {:?}\n{lines}", self.bus.state(), self.bus.why())
    }

    /// The value of a metric, as Prometheus shows it.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
            .unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }
}

pub(crate) fn inbox(user: &str) -> InboxKey {
    InboxKey::new(TenantId::default(), user.parse().unwrap())
}

pub(crate) fn change(user: &str, seq: u64, content: &str) -> Stored {
    let state = MessageState::new(Seq(seq));
    let change = Change::Message { state, body: Arc::new(body(content)) };
    Stored { inbox: inbox(user), seq: Seq(seq), change, accepted: None }
}

fn body(content: &str) -> Body {
    Body::new(&MessageFields {
        id: "0197-message".parse().unwrap(),
        channel_id: None,
        title: String::new(),
        content: content.into(),
        message_type: "text".into(),
        priority: 5,
        sender: "test".into(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::default(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    })
}
