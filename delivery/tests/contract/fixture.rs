//! What every test of the suite needs: an open store, somebody to publish to, short words for calls.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, StoreError,
    store::{
        Audience, Change, ChangePage, Channel, ChannelInfo, Group, ListPage, ListQuery, Mark,
        MarkTarget, Marked, MembersChanged, Outgoing, SenderKey, StatusFilter, Stored, TokenFacts,
    },
};
use protocol::{
    ActionInfo, Body, ChannelId, MessageFields, MessageId, Seq, TenantId, Time, UserId,
};

use super::Backend;

/// Keeps what was published.
#[derive(Default)]
pub(crate) struct Published {
    changes: Mutex<HashMap<InboxKey, Vec<Stored>>>,
}

impl Fanout for Published {
    fn publish(&self, changes: &[Stored]) {
        assert!(!changes.is_empty());
        for pair in changes.windows(2) {
            assert_eq!(pair[0].inbox, pair[1].inbox);
            assert_eq!(pair[0].seq.next(), pair[1].seq);
        }
        let mut published = self.changes.lock().unwrap();
        published.entry(changes[0].inbox.clone()).or_default().extend_from_slice(changes);
    }
}

impl Published {
    /// What one inbox was told, in the order of telling.
    #[allow(dead_code, reason = "not every test that shares this looks at it")]
    pub(crate) fn changes(&self, inbox: &InboxKey) -> Vec<Stored> {
        self.changes.lock().unwrap().get(inbox).cloned().unwrap_or_default()
    }

    /// The seqs that one inbox was told, in the order of telling.
    pub(crate) fn seqs(&self, inbox: &InboxKey) -> Vec<u64> {
        let published = self.changes.lock().unwrap();
        published.get(inbox).into_iter().flatten().map(|change| change.seq.0).collect()
    }
}

/// An open store.
pub(crate) struct Fixture<B> {
    pub(crate) backend: B,
    pub(crate) store: Arc<dyn delivery::store::Storage>,
    pub(crate) published: Arc<Published>,
}

impl<B: Backend> Fixture<B> {
    pub(crate) async fn new(backend: B) -> Self {
        let published = Arc::new(Published::default());
        let store = backend.open(published.clone()).await;
        Self { backend, store, published }
    }

    /// Ends the store in order and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.backend.open(self.published.clone()).await;
    }

    /// Goes on with what a new process would find after a kill; without change where the backend
    /// cannot say. Nothing may be watched.
    pub(crate) async fn kill(&mut self) {
        if let Some(killed) = self.backend.killed() {
            self.store = killed.open(self.published.clone()).await;
            self.backend = killed;
        }
    }

    /// Stores a message and gives its id.
    pub(crate) async fn send(&self, to: &[&InboxKey], title: &str) -> MessageId {
        self.send_as(to, &message(title)).await
    }

    pub(crate) async fn send_as(&self, to: &[&InboxKey], fields: &MessageFields) -> MessageId {
        self.store.append(vec![outgoing(to, fields)].into()).await.unwrap();
        fields.id.clone()
    }

    pub(crate) async fn mark(&self, inbox: &InboxKey, mark: Mark, target: MarkTarget) -> Marked {
        self.store.mark(inbox, None, mark, target).await.unwrap()
    }

    pub(crate) async fn mark_one(
        &self,
        inbox: &InboxKey,
        mark: Mark,
        id: &MessageId,
    ) -> Result<Marked, StoreError> {
        let target = MarkTarget::One { id: id.clone(), expected: None };
        self.store.mark(inbox, None, mark, target).await
    }

    /// All changes of an inbox.
    pub(crate) async fn log(&self, inbox: &InboxKey) -> Vec<Stored> {
        self.page(inbox, 0, usize::MAX, usize::MAX).await.changes
    }

    pub(crate) async fn page(
        &self,
        inbox: &InboxKey,
        since: u64,
        limit: usize,
        bytes_max: usize,
    ) -> ChangePage {
        self.store.changes(inbox, Seq(since), limit, bytes_max).await.unwrap()
    }

    pub(crate) async fn list(&self, inbox: &InboxKey, query: ListQuery) -> ListPage {
        self.store.list(inbox, query).await.unwrap()
    }

    /// Titles of everything that is listed, oldest first.
    pub(crate) async fn titles(&self, inbox: &InboxKey) -> Vec<String> {
        let query = ListQuery {
            status: StatusFilter::All,
            sort: delivery::store::Sort::Oldest,
            size: 10_000,
            ..ListQuery::default()
        };
        self.list(inbox, query).await.messages.iter().map(|message| title(&message.body)).collect()
    }

    pub(crate) async fn unread(&self, inbox: &InboxKey) -> u64 {
        self.store.head(inbox).await.unwrap().unread
    }

    /// Makes a channel.
    pub(crate) async fn make(&self, tenant: &str, id: &str) -> ChannelInfo {
        self.store.save_channel(&tenant_id(tenant), channel(id), Some(0)).await.unwrap()
    }

    /// Users come to and leave a channel of the default tenant.
    pub(crate) async fn members(&self, id: &str, join: &[&str], leave: &[&str]) -> MembersChanged {
        let users = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let id = id.parse().unwrap();
        self.store
            .change_members(&TenantId::default(), &id, users(join), users(leave))
            .await
            .unwrap()
    }

    /// Stores a message for an audience of the default tenant, and gives its id.
    pub(crate) async fn send_to(&self, to: Audience, title: &str) -> MessageId {
        let fields = message(title);
        self.store.append(vec![to_audience("default", to, &fields)].into()).await.unwrap();
        fields.id
    }

    /// A user of the default tenant shows a token.
    pub(crate) async fn token(&self, user: &str, issued_at: i64, roles: &[&str]) {
        self.store.note_token(&inbox(user), token(issued_at, roles)).await.unwrap();
    }

    /// Waits until an inbox was told so many changes.
    pub(crate) async fn told(&self, inbox: &InboxKey, count: usize) -> Vec<u64> {
        eventually("it is published", || self.published.seqs(inbox).len() >= count).await;
        self.published.seqs(inbox)
    }
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(15), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn inbox(user: &str) -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new(user).unwrap())
}

pub(crate) fn inbox_of(tenant: &str, user: &str) -> InboxKey {
    InboxKey::new(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
}

/// A message with an id of its own.
pub(crate) fn message(title: &str) -> MessageFields {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    MessageFields {
        id: MessageId::new(format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap(),
        channel_id: None,
        title: title.to_owned(),
        content: "内容".to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: delivery::clock::now(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }
}

/// A button whose callback word this is.
pub(crate) fn button(action: &str) -> ActionInfo {
    ActionInfo {
        kind: "button".to_owned(),
        text: "Press".to_owned(),
        url: String::new(),
        action: action.to_owned(),
        style: String::new(),
    }
}

pub(crate) fn outgoing(to: &[&InboxKey], fields: &MessageFields) -> Outgoing {
    let tenant = to.first().map_or_else(TenantId::default, |inbox| inbox.tenant.clone());
    assert!(to.iter().all(|inbox| inbox.tenant == tenant));
    Outgoing {
        tenant,
        sender: SenderKey::User(UserId::new("sender").unwrap()),
        audience: Audience::users(to.iter().map(|inbox| inbox.user.clone()).collect()),
        body: Arc::new(Body::new(fields)),
        scheduled_at: None,
    }
}

pub(crate) fn to_everyone(tenant: &str, fields: &MessageFields) -> Outgoing {
    Outgoing {
        tenant: TenantId::new(tenant).unwrap(),
        sender: SenderKey::Admin,
        audience: Audience::Everyone,
        body: Arc::new(Body::new(fields)),
        scheduled_at: None,
    }
}

pub(crate) fn to_audience(tenant: &str, audience: Audience, fields: &MessageFields) -> Outgoing {
    Outgoing {
        tenant: tenant_id(tenant),
        sender: SenderKey::Admin,
        audience,
        body: Arc::new(Body::new(fields)),
        scheduled_at: None,
    }
}

/// These users and these groups: `#` and a channel, or a role.
pub(crate) fn audience(users: &[&str], groups: &[&str]) -> Audience {
    Audience::Some {
        users: users.iter().map(|user| user.parse().unwrap()).collect(),
        groups: groups.iter().map(|name| group(name)).collect(),
    }
}

pub(crate) fn group(name: &str) -> Group {
    match name.strip_prefix('#') {
        Some(id) => Group::Channel(id.parse().unwrap()),
        None => Group::Role(name.parse().unwrap()),
    }
}

pub(crate) fn channel(id: &str) -> Channel {
    Channel {
        id: ChannelId::new(id).unwrap(),
        name: format!("The {id}"),
        description: "为了测试".to_owned(),
        open: true,
        history: true,
        presence: false,
        metadata: serde_json::Map::from_iter([("k".to_owned(), serde_json::json!([1, null]))]),
        created_by: "maker".to_owned(),
        created_at: Time::default(),
        updated_at: Time::default(),
        version: 0,
    }
}

pub(crate) fn token(issued_at: i64, roles: &[&str]) -> TokenFacts {
    TokenFacts {
        issued_at: Time::from_millis(issued_at),
        username: "name".to_owned(),
        email: "name@example.com".to_owned(),
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        department: None,
    }
}

pub(crate) fn tenant_id(tenant: &str) -> TenantId {
    TenantId::new(tenant).unwrap()
}

pub(crate) fn title(body: &Body) -> String {
    body.fields().unwrap().title
}

/// A change in words that can be compared: seq, and title or status.
pub(crate) fn words(changes: &[Stored]) -> Vec<(u64, String)> {
    changes
        .iter()
        .map(|stored| {
            let what = match &stored.change {
                Change::Message { body, .. } => title(body),
                Change::Status(status) => {
                    format!("{} {}", status.message_id, status.status.as_str())
                }
            };
            (stored.seq.0, what)
        })
        .collect()
}

/// A moment so far from now, in milliseconds.
pub(crate) fn in_millis(millis: i64) -> Time {
    Time::from_millis(delivery::clock::now().millis() + millis)
}
