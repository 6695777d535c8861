//! The real store in a temporary folder, which can be told to fail.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::{Body, ChannelId, DeviceId, MessageId, Seq, TenantId, UserId};
use tempfile::TempDir;

use crate::{
    Fanout,
    backup::{BackupError, Draft, Wanted},
    store::{
        Audience, Batch, BoxFuture, ChangePage, Channel, ChannelInfo, Directory, Group, Head,
        Health, InboxKey, InboxMessage, Ledger, ListPage, ListQuery, Mark, MarkTarget, Marked,
        Member, MembersChanged, MessagePage, NameKind, Pressing, ReceiptPage, Retention, SenderKey,
        SentMessage, SentPage, SentState, Sort, StatsQuery, StatsRow, StatusFilter, Store,
        StoreError, Stored, StoredAnswer, TokenFacts, UnreadCounts, UserChange, UserRecord,
        WaitingPage, WaitingPosition, Watch,
        single::{SingleConfig, SingleStore},
    },
};

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// Makes the error that every call answers.
pub(crate) type Failing = fn() -> StoreError;

/// See the module.
pub(crate) struct TestStore {
    store: Arc<SingleStore>,
    failing: Mutex<Option<Failing>>,
    /// Sizes of the appends that were asked for.
    pub(crate) appends: Mutex<Vec<usize>>,
    /// Positions before this one are gone.
    pub(crate) min_seq: Mutex<Seq>,
    _dir: TempDir,
}

impl TestStore {
    pub(crate) fn open() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = SingleConfig {
            root: dir.path().join("storage"),
            journal_sync: false,
            ..SingleConfig::default()
        };
        let recorder = metrics::NoopRecorder;
        let store = SingleStore::open(&config, Arc::new(Nobody), &recorder).unwrap();
        Arc::new(Self {
            store,
            failing: Mutex::default(),
            appends: Mutex::default(),
            min_seq: Mutex::default(),
            _dir: dir,
        })
    }

    /// From here on every call answers this.
    pub(crate) fn fail_with(&self, error: Failing) {
        *self.failing.lock() = Some(error);
    }

    /// From here on it does what it is asked.
    pub(crate) fn work_again(&self) {
        *self.failing.lock() = None;
    }

    /// Everything in an inbox, oldest first.
    pub(crate) async fn messages(&self, inbox: &InboxKey) -> Vec<InboxMessage> {
        let query = ListQuery {
            status: StatusFilter::All,
            sort: Sort::Oldest,
            size: 100_000,
            ..ListQuery::default()
        };
        self.store.list(inbox, query).await.unwrap().messages
    }

    fn with<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a SingleStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let failing = *self.failing.lock();
        match failing {
            Some(error) => Box::pin(std::future::ready(Err(error()))),
            None => call(&self.store),
        }
    }
}

impl Store for TestStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.appends.lock().push(batch.items.len());
        self.with(|store| store.append(batch))
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        self.with(|store| store.mark(inbox, device, mark, target))
    }

    fn press(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        id: &MessageId,
        index: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        self.with(|store| store.press(inbox, device, id, index))
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.with(|store| store.watch(inbox))
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.with(|store| store.head(inbox))
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        self.store.heads(inboxes)
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let asked = self.with(|store| store.changes(inbox, since, limit, bytes_max));
        let min_seq = *self.min_seq.lock();
        Box::pin(async move {
            let page = asked.await?;
            let gone = min_seq > since;
            let changes = if gone { Vec::new() } else { page.changes };
            Ok(ChangePage { changes, min_seq: page.min_seq.max(min_seq), head: page.head })
        })
    }

    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        self.with(|store| store.list(inbox, query))
    }

    fn unread(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        self.with(|store| store.unread(inbox))
    }

    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        assert_ne!(id.as_str(), "panic", "asked for by a test");
        self.with(|store| store.get(inbox, id))
    }

    fn back_up(
        &self,
        inbox: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>> {
        let failing = *self.failing.lock();
        match failing {
            Some(error) => Box::pin(std::future::ready(Err(error().into()))),
            None => self.store.back_up(inbox, wanted, draft),
        }
    }

    fn inboxes(
        &self,
        to: tokio::sync::mpsc::Sender<InboxKey>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.inboxes(to)
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        self.store.ack(inbox, device, seq);
    }

    fn delivered(&self, inbox: &InboxKey, device: &DeviceId, from: Seq, to: Seq) {
        self.store.delivered(inbox, device, from, to);
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        self.with(|store| store.cursor(inbox, device))
    }

    fn prune(
        &self,
        inbox: &InboxKey,
        retention: Retention,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|store| store.prune(inbox, retention))
    }

    fn forget(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|store| store.forget(inbox))
    }

    fn forget_tenant(&self, tenant: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|store| store.forget_tenant(tenant))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|store| store.prune_all())
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.store.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}

impl Directory for TestStore {
    fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<Option<ChannelInfo>, StoreError>> {
        self.with(|store| store.channel(tenant, id))
    }

    fn channels(
        &self,
        tenant: &TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChannelInfo>, StoreError>> {
        self.with(|store| store.channels(tenant, after, limit))
    }

    fn save_channel(
        &self,
        tenant: &TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> BoxFuture<'_, Result<ChannelInfo, StoreError>> {
        self.with(|store| store.save_channel(tenant, channel, expected))
    }

    fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.with(|store| store.delete_channel(tenant, id))
    }

    fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> BoxFuture<'_, Result<MembersChanged, StoreError>> {
        self.with(|store| store.change_members(tenant, id, join, leave))
    }

    fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Member>, StoreError>> {
        self.with(|store| store.members(tenant, group, after, limit))
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        group: &Group,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.with(|store| store.is_member(inbox, group))
    }

    fn groups_of(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Vec<Group>, StoreError>> {
        self.with(|store| store.groups_of(inbox))
    }

    fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        self.with(|store| store.channel_log(tenant, id, before, limit))
    }

    fn user(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Option<UserRecord>, StoreError>> {
        self.with(|store| store.user(inbox))
    }

    fn users(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        self.with(|store| store.users(tenant, after, limit))
    }

    fn note_token(
        &self,
        inbox: &InboxKey,
        facts: TokenFacts,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|store| store.note_token(inbox, facts))
    }

    fn change_user(
        &self,
        inbox: &InboxKey,
        change: UserChange,
    ) -> BoxFuture<'_, Result<UserRecord, StoreError>> {
        self.with(|store| store.change_user(inbox, change))
    }

    fn kinds<'a>(
        &'a self,
        tenant: &TenantId,
        names: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<NameKind>, StoreError>> {
        self.with(|store| store.kinds(tenant, names))
    }

    fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.with(|store| store.audience_size(tenant, audience))
    }
}

impl Ledger for TestStore {
    fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<StoredAnswer>, StoreError>> {
        self.with(|store| store.answer(tenant, sender, key))
    }

    fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<SentMessage>, StoreError>> {
        self.with(|store| store.sent(tenant, id))
    }

    fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<SentPage, StoreError>> {
        self.with(|store| store.sent_by(tenant, sender, after, limit))
    }

    fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> BoxFuture<'_, Result<WaitingPage, StoreError>> {
        self.with(|store| store.waiting(tenant, after, limit))
    }

    fn sent_body(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<Arc<Body>>, StoreError>> {
        self.with(|store| store.sent_body(tenant, id))
    }

    fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|store| store.edit(tenant, id, over, body))
    }

    fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<SentState, StoreError>> {
        self.with(|store| store.recall(tenant, id))
    }

    fn cancel(&self, tenant: &TenantId, id: &MessageId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|store| store.cancel(tenant, id))
    }

    fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ReceiptPage, StoreError>> {
        self.with(|store| store.receipts(tenant, id, after, limit))
    }

    fn stats(&self, query: StatsQuery) -> BoxFuture<'_, Result<Vec<StatsRow>, StoreError>> {
        self.with(|store| store.stats(query))
    }
}
