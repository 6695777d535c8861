//! A store of lists in memory that several nodes may share: as far as sockets need one.

use std::collections::HashMap;

use delivery::{
    InboxKey, Store, StoreError,
    backup::{BackupError, Draft, Wanted},
    store::{
        Batch, BoxFuture, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery, Mark,
        MarkTarget, Marked, Pressing, Retention, Stored, UnreadCounts, Watch, WatchGuard,
    },
};
use parking_lot::Mutex;
use protocol::{DeviceId, MessageId, Seq, TenantId};

/// Changes by inbox.
#[derive(Default)]
pub(crate) struct ListStore(Mutex<HashMap<InboxKey, Vec<Stored>>>);

impl ListStore {
    /// Stores the next change of an inbox, which `make` makes for its seq; it is not published by this.
    pub(crate) fn store(&self, inbox: &InboxKey, make: impl FnOnce(u64) -> Stored) -> Stored {
        let mut all = self.0.lock();
        let list = all.entry(inbox.clone()).or_default();
        let stored = make(list.len() as u64 + 1);
        list.push(stored.clone());
        stored
    }

    fn head_of(&self, inbox: &InboxKey) -> Head {
        let count = self.0.lock().get(inbox).map_or(0, Vec::len) as u64;
        Head { seq: Seq(count), unread: count }
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

    fn forget(&self, _: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0))
    }

    fn inboxes(
        &self,
        _: tokio::sync::mpsc::Sender<InboxKey>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(()))
    }

    fn forget_tenant(&self, _: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(()))
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
        ready(inboxes.iter().map(|inbox| Some(self.head_of(inbox).seq)).collect())
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let all = self.0.lock();
        let list = all.get(inbox).map_or(&[][..], Vec::as_slice);
        let since = usize::try_from(since.0).unwrap();
        let changes = list.iter().skip(since).take(limit).cloned().collect();
        ready(Ok(ChangePage { changes, head: Seq(list.len() as u64), min_seq: Seq(0) }))
    }

    fn list(&self, _: &InboxKey, _: ListQuery) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        ready(Err(StoreError::Closing))
    }

    fn get(&self, _: &InboxKey, _: &MessageId) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        ready(Err(StoreError::NotFound))
    }

    fn back_up(
        &self,
        _: &InboxKey,
        _: Wanted,
        _: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>> {
        ready(Err(StoreError::Closing.into()))
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
