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
    Fanout, InboxKey, Store, StoreError,
    store::{
        Audience, Change, ChangePage, ListPage, ListQuery, Mark, MarkTarget, Marked, Outgoing,
        SenderKey, StatusFilter, Stored,
    },
};
use protocol::{ActionInfo, Body, MessageFields, MessageId, Seq, TenantId, Time, UserId};

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
    pub(crate) store: Arc<dyn Store>,
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
