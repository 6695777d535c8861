//! A store of lists in memory, and a verifier that knows everyone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use delivery::{
    InboxKey, Store, StoreError,
    identity::UserCaller,
    store::{
        Batch, BoxFuture, Change, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery,
        Mark, MarkTarget, Marked, Pressing, Retention, Stored, UnreadCounts, Watch, WatchGuard,
    },
};
use hub::live::{Admission, ChannelGate, Refusal, TokenVerifier};
use protocol::{
    Body, ChannelId, DeviceId, MessageFields, MessageId, MessageState, Seq, TenantId, Time, UserId,
};

pub(crate) fn inbox(prefix: &str, user: usize) -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new(format!("{prefix}{user}")).unwrap())
}

pub(crate) fn change(inbox: InboxKey, seq: u64, content: &str) -> Stored {
    Stored {
        inbox,
        seq: Seq(seq),
        change: Change::Message { state: MessageState::new(Seq(seq)), body: body(content) },
        accepted: None,
    }
}

/// One body for all: what is measured is not its encoding.
fn body(content: &str) -> Arc<Body> {
    thread_local! {
        static BODY: std::cell::RefCell<Option<Arc<Body>>> = const { std::cell::RefCell::new(None) };
    }
    BODY.with_borrow_mut(|body| body.get_or_insert_with(|| Arc::new(make(content))).clone())
}

fn make(content: &str) -> Body {
    Body::new(&MessageFields {
        id: MessageId::new("0197-message").unwrap(),
        channel_id: None,
        title: String::new(),
        content: content.into(),
        message_type: "text".into(),
        priority: 5,
        sender: "bench".into(),
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

/// The first free seq of everybody, and `count` taken.
pub(crate) fn next_seq(_connections: usize, count: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(count, Ordering::Relaxed)
}

#[derive(Default)]
pub(crate) struct ListStore(Mutex<HashMap<InboxKey, Vec<Stored>>>);

impl ListStore {
    pub(crate) fn fill(&self, inbox: InboxKey, count: u64, content: &str) {
        let list = (1..=count).map(|seq| change(inbox.clone(), seq, content)).collect();
        self.0.lock().unwrap().insert(inbox, list);
    }

    fn head_of(&self, inbox: &InboxKey) -> Head {
        let count = self.0.lock().unwrap().get(inbox).map_or(0, Vec::len);
        Head { seq: Seq(count as u64), unread: count as u64 }
    }
}

struct NoGuard;
impl WatchGuard for NoGuard {}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for ListStore {
    fn append(&self, _: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Err(StoreError::Closing))
    }

    fn press(
        &self,
        _: &InboxKey,
        _: Option<DeviceId>,
        _: &MessageId,
        _: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        ready(Err(StoreError::NotFound))
    }

    fn unread(&self, _: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        ready(Ok(UnreadCounts::default()))
    }

    fn delivered(&self, _: &InboxKey, _: &DeviceId, _: Seq, _: Seq) {}

    fn prune(&self, _: &InboxKey, _: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0))
    }

    fn mark(
        &self,
        _: &InboxKey,
        _: Option<DeviceId>,
        _: Mark,
        _: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        ready(Err(StoreError::Closing))
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        ready(Ok(Watch { head: self.head_of(inbox), guard: Box::new(NoGuard) }))
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Ok(self.head_of(inbox)))
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        ready(inboxes.iter().map(|_| None).collect())
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let lists = self.0.lock().unwrap();
        let list = lists.get(inbox).map_or(&[][..], Vec::as_slice);
        let changes = list.iter().skip(since.0 as usize).take(limit).cloned().collect();
        ready(Ok(ChangePage { changes, head: Seq(list.len() as u64), min_seq: Seq(0) }))
    }

    fn list(&self, _: &InboxKey, _: ListQuery) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        ready(Err(StoreError::Closing))
    }

    fn get(&self, _: &InboxKey, _: &MessageId) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        ready(Err(StoreError::NotFound))
    }

    fn ack(&self, _: &InboxKey, _: &DeviceId, _: Seq) {}

    fn cursor(&self, _: &InboxKey, _: &DeviceId) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        ready(Ok(None))
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        ready(Health::Writable)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(())
    }
}

/// The token is the user's name.
pub(crate) struct Everyone;

impl TokenVerifier for Everyone {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        let inbox = InboxKey::new(TenantId::default(), UserId::new(token).unwrap());
        Ok(UserCaller {
            device: Some(DeviceId::new("device-0123456789").unwrap()),
            session: Some("session-0123456789abcdef".into()),
            ..UserCaller::new(inbox, Time::MAX)
        })
    }

    fn note<'a>(&'a self, _: &'a UserCaller) -> BoxFuture<'a, ()> {
        ready(())
    }
}

/// No channels at all.
pub(crate) struct NoChannels;

impl ChannelGate for NoChannels {
    fn admit(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn is_member(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}
