//! What only shows from inside: rewrites, which are another trait's to make, and what is in memory.

mod life;
mod limits;
mod loads;
mod memory;
mod order;
mod rewrites;

use std::{fs, path::Path, sync::Arc, time::Duration};

use metrics::NoopRecorder;
use protocol::{Body, ChannelId, MessageFields, MessageId, TenantId, UserId};
use tempfile::TempDir;

use super::super::{
    SingleConfig, SingleStore,
    record::{Lsn, Record, RewriteRecord},
    segment,
};
use crate::{
    Fanout, InboxKey, Store, clock,
    store::{Audience, Channel, Group, ListQuery, Outgoing, SenderKey, Sort, StatusFilter, Stored},
};

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// Files are written when a question needs them, or when the test says so.
fn open(folder: &TempDir) -> Arc<SingleStore> {
    let config = SingleConfig {
        root: folder.path().join("storage"),
        flush_interval: Duration::from_hours(1),
        ..SingleConfig::default()
    };
    SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn killed(folder: &TempDir) -> TempDir {
    let other = tempfile::tempdir().unwrap();
    copy(folder.path(), other.path());
    other
}

fn tenant() -> TenantId {
    TenantId::default()
}

fn key(user: &str) -> InboxKey {
    InboxKey::new(tenant(), user.parse().unwrap())
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn id(channel: &str) -> ChannelId {
    channel.parse().unwrap()
}

fn group(channel: &str) -> Group {
    Group::Channel(id(channel))
}

fn channel(name: &str) -> Channel {
    Channel {
        id: id(name),
        name: String::new(),
        description: String::new(),
        open: true,
        history: true,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by: String::new(),
        created_at: clock::now(),
        updated_at: clock::now(),
        version: 0,
    }
}

fn body(id: &str, title: &str) -> Arc<Body> {
    Arc::new(Body::new(&MessageFields {
        id: id.parse().unwrap(),
        channel_id: None,
        title: title.to_owned(),
        content: String::new(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: clock::now(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }))
}

async fn send(store: &SingleStore, to: Audience, id: &str) {
    let sender = SenderKey::Admin;
    let body = body(id, id);
    let item = Outgoing { tenant: tenant(), sender, audience: to, body, scheduled_at: None };
    store.append(vec![item].into()).await.unwrap();
}

/// The latest record in the journal.
fn latest(folder: &TempDir) -> Lsn {
    let hub = folder.path().join("storage/.hub");
    let mut latest = 0;
    for entry in fs::read_dir(hub).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().and_then(|name| segment::number_of(name.to_str()?)).is_some() {
            let db = rusqlite::Connection::open(path).unwrap();
            let last: Option<i64> =
                db.query_row("SELECT max(lsn) FROM journal", [], |row| row.get(0)).unwrap();
            latest = latest.max(last.unwrap_or(0).cast_unsigned());
        }
    }
    latest
}

/// An edit, or a recall, as the ledger makes it.
async fn rewrite(store: &SingleStore, target: &Sent, recall: bool) {
    let record = RewriteRecord {
        tenant: tenant(),
        id: target.id.clone(),
        target: target.lsn,
        audience: Arc::new(target.to.clone()),
        at: clock::now(),
        body: (!recall).then(|| body(target.id.as_str(), "edited")),
    };
    store.committer.submit(vec![Record::Rewrite(Arc::new(record))]).await.unwrap();
}

/// A message that was sent.
#[derive(Clone, Debug)]
struct Sent {
    id: MessageId,
    lsn: Lsn,
    to: Audience,
}

async fn sent(store: &SingleStore, folder: &TempDir, to: Audience, id: &str) -> Sent {
    send(store, to.clone(), id).await;
    Sent { id: id.parse().unwrap(), lsn: latest(folder), to }
}

async fn head(store: &SingleStore, user: &str) -> u64 {
    store.head(&key(user)).await.unwrap().seq.0
}

async fn received(store: &SingleStore, user: &str) -> Vec<String> {
    let query = ListQuery {
        status: StatusFilter::All,
        recalled: true,
        sort: Sort::Oldest,
        size: 10_000,
        ..ListQuery::default()
    };
    let page = store.list(&key(user), query).await.unwrap();
    page.messages.iter().map(|message| message.body.id().to_string()).collect()
}

/// Forgets what is not needed in memory; nothing here has to be written first.
fn sweep(store: &SingleStore) {
    assert!(store.inboxes.sweep(Duration::ZERO).is_empty());
}
