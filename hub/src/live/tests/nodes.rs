//! What a node tells others of its connections, and what it does at their word.

use std::sync::{Arc, atomic::Ordering};

use delivery::{
    InboxKey,
    store::{BoxFuture, Stored},
};
use parking_lot::Mutex;
use protocol::{
    ChannelId, ClientFrame, ConnectionId, DeviceId, Seq, ServerFrame, TenantId, UserId,
    envelope::{Spent, Then, Which},
};

use super::support::{Client, Server, config, eventually, inbox, stored};
use crate::{
    bus::{Asked, Attention, Bus, Doubt, Inbound, PeerInfo, PresenceNews, State, TooManyQuestions},
    live::{FromNodes, Upkeep},
};

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.lock().push(note.into());
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Bus for Notes {
    fn publish(&self, _changes: &[Stored]) {}
    fn publish_group(&self, _tenant: &TenantId, _pos: u64) {}
    fn unheard(&self) -> usize {
        0
    }
    fn attend(&self, inbox: &InboxKey) -> BoxFuture<'static, Attention> {
        self.add(format!("attend {}", inbox.user));
        Box::pin(std::future::ready(Attention::default()))
    }
    fn connected(&self, inbox: &InboxKey, device: &DeviceId, _connection: &ConnectionId) {
        self.add(format!("connected {} {device}", inbox.user));
    }
    fn ended(&self, inbox: &InboxKey, device: &DeviceId, _connection: &ConnectionId) {
        self.add(format!("ended {} {device}", inbox.user));
    }
    fn channel_opened(&self, _tenant: &TenantId, channel: &ChannelId) {
        self.add(format!("opened {channel}"));
    }
    fn channel_closed(&self, _tenant: &TenantId, channel: &ChannelId) {
        self.add(format!("closed {channel}"));
    }
    fn presence(
        &self,
        _tenant: &TenantId,
        channel: &ChannelId,
        joined: Vec<UserId>,
        left: Vec<UserId>,
    ) {
        self.add(format!("{channel} +{joined:?} -{left:?}"));
    }
    fn revoked(&self) {}
    fn ask(&self, _: Which, _: Then) -> BoxFuture<'static, Result<Asked, TooManyQuestions>> {
        Box::pin(std::future::ready(Ok(Asked::default())))
    }
    fn spent(&self, _spent: Vec<Spent>) {}
    fn state(&self) -> State {
        State::Up
    }
    fn why(&self) -> Option<String> {
        None
    }
    fn peers(&self) -> Vec<PeerInfo> {
        Vec::new()
    }
}

impl Upkeep for Notes {
    fn group(&self, tenant: &TenantId, pos: u64) {
        self.add(format!("group {tenant} {pos}"));
    }
    fn revoked(&self) {
        self.add("revoked".to_owned());
    }
    fn spent(&self, spent: &[Spent]) {
        self.add(format!("{spent:?}"));
    }
    fn doubt(&self) {
        self.add("doubt");
    }
}

async fn ready(server: &Server, query: &str) -> Client {
    let mut client = server.connect(query).await;
    client.expect_sync_complete(0).await;
    client
}

fn from_nodes(server: &Server, notes: &Arc<Notes>) -> FromNodes {
    FromNodes::new(Arc::clone(&server.live), Arc::clone(notes) as Arc<dyn Upkeep>)
}

#[tokio::test]
async fn others_are_told_of_devices_and_channels() {
    let notes = Arc::new(Notes::default());
    let server = Server::start_on(config(), notes.clone()).await;
    server.members.add("ann", "team");
    let mut ann = ready(&server, "token=ann/phone").await;
    assert_eq!(notes.taken(), ["attend ann", "connected ann phone"]);
    // One whose device was made up is nobody's successor.
    let other = ready(&server, "token=ann").await;
    drop(other);
    ann.say(&ClientFrame::Join { channel_id: "team".parse().unwrap() }).await;
    eventually("it has joined", || notes.0.lock().len() == 3).await;
    assert_eq!(notes.taken(), ["attend ann", "opened team", "team +[\"ann\"] -[]"]);
    drop(ann);
    eventually("it has ended", || notes.0.lock().len() == 3).await;
    assert_eq!(notes.taken(), ["closed team", "team +[] -[\"ann\"]", "ended ann phone"]);
}

#[tokio::test]
async fn what_another_node_stored_is_delivered() {
    let notes = Arc::new(Notes::default());
    let server = Server::start().await;
    let nodes = from_nodes(&server, &notes);
    let mut ann = ready(&server, "token=ann").await;
    server.store.deaf.store(true, Ordering::Relaxed);
    for text in ["one", "two", "three"] {
        server.store.send("ann", text);
    }
    nodes.changes(&[stored("ann", 1, "one"), stored("ann", 2, "two")]);
    ann.expect_changes(0, 2).await;
    // Too large for the bus: read from the store.
    nodes.in_store(&inbox("ann"), Seq(3));
    ann.expect_changes(2, 3).await;
    // Again, and long past.
    nodes.in_store(&inbox("ann"), Seq(1));
    nodes.changes(&[stored("ann", 3, "three")]);
    server.store.deaf.store(false, Ordering::Relaxed);
    server.store.send("ann", "four");
    ann.expect_changes(3, 4).await;
    nodes.group(&TenantId::default(), 7);
    nodes.revoked();
    assert_eq!(notes.taken(), ["group default 7", "revoked"]);
}

#[tokio::test]
async fn in_doubt_the_last_change_is_found_at_once() {
    let notes = Arc::new(Notes::default());
    let server = Server::start().await;
    let nodes = from_nodes(&server, &notes);
    let mut ann = ready(&server, "token=ann").await;
    server.store.deaf.store(true, Ordering::Relaxed);
    server.store.send("ann", "one");
    let asked = tokio::time::Instant::now();
    for _ in 0..100 {
        nodes.doubt(Doubt::Back);
    }
    ann.expect_changes(0, 1).await;
    assert!(asked.elapsed() < config().ping_interval / 2);
    assert_eq!(notes.taken().len(), 100);
}

#[tokio::test]
async fn connections_go_at_another_nodes_word() {
    let notes = Arc::new(Notes::default());
    let server = Server::start().await;
    let nodes = from_nodes(&server, &notes);
    let mut phone = server.open("token=ann/phone", protocol::Codec::Json).await.unwrap();
    let phone_id = phone.expect_welcome().await.connection_id;
    let _bob = server.connect("token=bob/phone").await;
    // Not this connection, not this user.
    nodes.replaced(&inbox("ann"), &"0123".parse().unwrap());
    nodes.replaced(&inbox("bob"), &phone_id);
    nodes.replaced(&inbox("ann"), &phone_id);
    phone.expect_close_code(4509).await;
    assert_eq!(server.live.connections().len(), 1);
}

/// The next `presence`, as who and whether.
async fn presence(client: &mut Client) -> (String, bool) {
    match client.next().await {
        ServerFrame::Presence { user_id, online, .. } => (user_id.to_string(), online),
        other => panic!("not presence: {other:?}"),
    }
}

#[tokio::test]
async fn who_is_in_a_channel_elsewhere_is_shown() {
    let notes = Arc::new(Notes::default());
    let server = Server::start().await;
    let nodes = from_nodes(&server, &notes);
    server.members.add("ann", "team");
    let (tenant, channel): (TenantId, ChannelId) = (TenantId::default(), "team".parse().unwrap());
    let users = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<UserId>>();
    let all = |node, names: &[&str]| {
        let news = PresenceNews::All { users: &users(names), more: false };
        nodes.presence(node, &tenant, &channel, news);
    };
    // Nobody here looks at it.
    all(7, &["zoe"]);
    let mut ann = ready(&server, "token=ann").await;
    ann.say(&ClientFrame::Join { channel_id: channel.clone() }).await;
    assert_eq!(presence(&mut ann).await, ("ann".to_owned(), true));
    assert_eq!(nodes.presence_here(&tenant, &channel), (users(&["ann"]), false));
    all(7, &["bob", "ann"]);
    assert_eq!(presence(&mut ann).await, ("bob".to_owned(), true));
    let news = PresenceNews::Changed { joined: &users(&["cid"]), left: &users(&["ann"]) };
    nodes.presence(7, &tenant, &channel, news);
    assert_eq!(presence(&mut ann).await, ("cid".to_owned(), true));
    // A list that says the same is no news; one that leaves somebody out is.
    all(7, &["cid", "bob"]);
    all(7, &["cid"]);
    assert_eq!(presence(&mut ann).await, ("bob".to_owned(), false));
    // Of two nodes that name a user, one may go.
    all(8, &["cid", "dan"]);
    assert_eq!(presence(&mut ann).await, ("dan".to_owned(), true));
    nodes.node_gone(7);
    nodes.node_gone(7);
    nodes.node_gone(8);
    let mut gone = [presence(&mut ann).await, presence(&mut ann).await];
    gone.sort();
    assert_eq!(gone, [("cid".to_owned(), false), ("dan".to_owned(), false)]);
}
