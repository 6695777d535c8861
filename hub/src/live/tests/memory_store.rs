//! A store in memory that keeps the contract, and can be told to lose what it publishes.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use delivery::{
    Fanout, InboxKey, Store, StoreError,
    backup::{BackupError, Draft, Wanted},
    store::{
        Audience, Batch, BoxFuture, Change, ChangePage, Head, Health, InboxMessage, ListPage,
        ListQuery, Mark, MarkTarget, Marked, Pressing, Retention, StatusChange, Stored,
        UnreadCounts, Watch, WatchGuard,
    },
};
use parking_lot::Mutex;
use protocol::{DeviceId, MessageId, MessageState, Seq, TenantId, Time};

use super::support::{body_until, inbox, stored};
use crate::live::Registry;

#[derive(Default)]
struct Log {
    changes: Vec<Stored>,
    min_seq: u64,
    unread: u64,
    cursors: HashMap<DeviceId, Seq>,
}

/// A store that keeps the contract, and can be told to lose what it publishes.
#[derive(Default)]
pub(crate) struct MemoryStore {
    logs: Mutex<HashMap<InboxKey, Log>>,
    pub(crate) fanout: OnceLock<Arc<Registry>>,
    pub(crate) deaf: AtomicBool,
    pub(crate) pages: AtomicUsize,
}

struct NoGuard;
impl WatchGuard for NoGuard {}

impl MemoryStore {
    pub(crate) fn send(&self, user: &str, content: &str) -> Seq {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox(user)).or_default();
        let change = stored(user, log.changes.len() as u64 + 1, content);
        log.unread += 1;
        self.push(log, change)
    }

    pub(crate) fn send_expiring(&self, user: &str, expire_at: Time) -> Seq {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox(user)).or_default();
        let seq = Seq(log.changes.len() as u64 + 1);
        let body = body_until(&format!("m{seq}"), "late", Some(expire_at));
        let change = Change::Message { state: MessageState::new(seq), body };
        self.push(log, Stored { inbox: inbox(user), seq, change, accepted: None })
    }

    /// Publishing under the lock keeps the order of the inbox.
    fn push(&self, log: &mut Log, change: Stored) -> Seq {
        let seq = change.seq;
        log.changes.push(change.clone());
        if !self.deaf.load(Ordering::Relaxed) {
            self.fanout.get().unwrap().publish(&[change]);
        }
        seq
    }

    pub(crate) fn prune(&self, user: &str, min_seq: u64) {
        self.logs.lock().entry(inbox(user)).or_default().min_seq = min_seq;
    }

    pub(crate) fn cursor_of(&self, user: &str, device: &str) -> Option<Seq> {
        let device = DeviceId::new(device).unwrap();
        self.logs.lock().get(&inbox(user)).and_then(|log| log.cursors.get(&device).copied())
    }
}

fn head(log: &Log) -> Head {
    Head { seq: Seq(log.changes.len() as u64), unread: log.unread }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for MemoryStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        for item in batch.items {
            if let Audience::Some { users, .. } = item.audience {
                for user in &*users {
                    self.send(user.as_str(), "appended");
                }
            }
        }
        ready(Ok(()))
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

    fn forget_tenant(&self, _: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(()))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0))
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let ids = match target {
            MarkTarget::Many(ids) => ids,
            _ => return ready(Err(StoreError::Busy("only ids here"))),
        };
        let changed = ids.len() as u64;
        for message_id in ids {
            let at = Time::from_millis(1_700_000_000_000);
            let status = StatusChange {
                device: device.clone(),
                ..StatusChange::new(message_id, mark.status(), at)
            };
            let seq = Seq(log.changes.len() as u64 + 1);
            let change = Change::Status(status);
            self.push(log, Stored { inbox: inbox.clone(), seq, change, accepted: None });
        }
        let marked = Marked { changed, head: head(log), message: None };
        ready(Ok(marked))
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let head = head(self.logs.lock().entry(inbox.clone()).or_default());
        ready(Ok(Watch { head, guard: Box::new(NoGuard) }))
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Ok(head(self.logs.lock().entry(inbox.clone()).or_default())))
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        let logs = self.logs.lock();
        ready(inboxes.iter().map(|inbox| logs.get(inbox).map(|log| head(log).seq)).collect())
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        _bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let changes = if since.0 < log.min_seq {
            vec![]
        } else {
            log.changes.iter().skip(since.0 as usize).take(limit).cloned().collect()
        };
        ready(Ok(ChangePage { changes, head: head(log).seq, min_seq: Seq(log.min_seq) }))
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

    fn inboxes(
        &self,
        to: tokio::sync::mpsc::Sender<InboxKey>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        drop(to);
        ready(Ok(()))
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let cursor = log.cursors.entry(device.clone()).or_default();
        *cursor = seq.max(*cursor);
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        let logs = self.logs.lock();
        ready(Ok(logs.get(inbox).and_then(|log| log.cursors.get(device).copied())))
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        ready(Health::Writable)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(())
    }
}
