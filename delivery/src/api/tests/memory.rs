//! A store in memory, to test what stands before the store. Only what handlers ask for.

use std::collections::HashMap;

use parking_lot::Mutex;
use protocol::{DeviceId, MessageId, MessageState, Seq, Status};

use crate::{
    clock,
    store::{
        Audience, Batch, BoxFuture, Change, ChangePage, Head, Health, InboxKey, InboxMessage,
        ListPage, ListPosition, ListQuery, Mark, MarkTarget, Marked, Pressing, Retention, Sort,
        StatusChange, StatusFilter, Store, StoreError, Stored, UnreadCounts, Watch,
    },
};

#[derive(Default)]
struct Inbox {
    messages: Vec<InboxMessage>,
    log: Vec<Change>,
}

impl Inbox {
    fn unread(&self) -> u64 {
        self.messages.iter().filter(|message| !message.state.is_read).count() as u64
    }

    fn head(&self) -> Head {
        Head { seq: Seq(self.log.len() as u64), unread: self.unread() }
    }

    fn mark(&mut self, index: usize, device: Option<&DeviceId>, mark: Mark) -> u64 {
        let state = &mut self.messages[index].state;
        let status = mark.status();
        let changes = match mark {
            Mark::Read => state.status == Status::Unread,
            Mark::Unread => state.status == Status::Read,
            Mark::Archive => state.status != Status::Archived,
        };
        if !changes {
            return 0;
        }
        let at = clock::now();
        state.status = status;
        state.is_read = status.is_read();
        state.read_at = state.is_read.then_some(at);
        state.version = Seq(self.log.len() as u64 + 1);
        let message_id = self.messages[index].body.id().clone();
        let device = device.cloned();
        self.log.push(Change::Status(StatusChange {
            device,
            ..StatusChange::new(message_id, status, at)
        }));
        1
    }
}

/// Makes the error that every call answers.
pub(crate) type Failing = fn() -> StoreError;

/// Keeps everything in memory.
#[derive(Default)]
pub(crate) struct MemoryStore {
    inboxes: Mutex<HashMap<InboxKey, Inbox>>,
    failing: Mutex<Option<Failing>>,
    /// Sizes of the appends that were asked for.
    pub(crate) appends: Mutex<Vec<usize>>,
    /// Positions before this one are gone.
    pub(crate) min_seq: Mutex<Seq>,
}

impl MemoryStore {
    /// From here on every call answers this.
    pub(crate) fn fail_with(&self, error: Failing) {
        *self.failing.lock() = Some(error);
    }

    pub(crate) fn messages(&self, inbox: &InboxKey) -> Vec<InboxMessage> {
        self.inboxes.lock().get(inbox).map(|inbox| inbox.messages.clone()).unwrap_or_default()
    }

    fn with<'a, T: Send + 'a>(
        &self,
        work: impl FnOnce(&mut HashMap<InboxKey, Inbox>) -> Result<T, StoreError>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let failing = *self.failing.lock();
        let result = match failing {
            Some(error) => Err(error()),
            None => work(&mut self.inboxes.lock()),
        };
        Box::pin(std::future::ready(result))
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.appends.lock().push(batch.items.len());
        self.with(|inboxes| {
            for item in batch.items {
                let keys: Vec<InboxKey> = match item.audience {
                    Audience::Some { users, .. } => users
                        .iter()
                        .map(|user| InboxKey::new(item.tenant.clone(), user.clone()))
                        .collect(),
                    Audience::Everyone => {
                        inboxes.keys().filter(|key| key.tenant == item.tenant).cloned().collect()
                    }
                };
                for key in keys {
                    let inbox = inboxes.entry(key).or_default();
                    let state = MessageState::new(inbox.head().seq.next());
                    let body = item.body.clone();
                    inbox.log.push(Change::Message { state, body: body.clone() });
                    inbox.messages.push(InboxMessage { state, body, pressed: Vec::new() });
                }
            }
            Ok(())
        })
    }

    fn press(
        &self,
        _: &InboxKey,
        _: Option<DeviceId>,
        _: &MessageId,
        _: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::NotFound)))
    }

    fn unread(&self, _: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        Box::pin(std::future::ready(Ok(UnreadCounts::default())))
    }

    fn delivered(&self, _: &InboxKey, _: &DeviceId, _: Seq, _: Seq) {}

    fn prune(&self, _: &InboxKey, _: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        self.with(|inboxes| {
            let inbox = inboxes.entry(inbox.clone()).or_default();
            let chosen: Vec<usize> = (0..inbox.messages.len())
                .filter(|&index| {
                    let InboxMessage { state, body, .. } = &inbox.messages[index];
                    match &target {
                        MarkTarget::One { id, .. } => body.id() == id,
                        MarkTarget::Many(ids) => ids.contains(body.id()),
                        MarkTarget::UpTo(seq) => state.seq <= *seq,
                        MarkTarget::Channel(channel) => {
                            let found = body.fields().unwrap().channel_id;
                            found.is_some_and(|id| id.as_str() == channel)
                        }
                    }
                })
                .collect();
            if let MarkTarget::One { expected, .. } = target {
                let &index = chosen.first().ok_or(StoreError::NotFound)?;
                let message = &inbox.messages[index];
                if expected.is_some_and(|version| version != message.state.version) {
                    return Err(StoreError::VersionConflict(Box::new(message.clone())));
                }
            }
            let one = matches!(target, MarkTarget::One { .. });
            let changed =
                chosen.iter().map(|&index| inbox.mark(index, device.as_ref(), mark)).sum();
            let message = one.then(|| inbox.messages[chosen[0]].clone());
            Ok(Marked { changed, head: inbox.head(), message })
        })
    }

    fn watch(&self, _: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        unreachable!("REST does not watch")
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.with(|inboxes| Ok(inboxes.entry(inbox.clone()).or_default().head()))
    }

    fn heads<'a>(&'a self, _: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        unreachable!("REST does not watch")
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let min_seq = *self.min_seq.lock();
        self.with(|inboxes| {
            let key = inbox;
            let inbox = inboxes.entry(key.clone()).or_default();
            let head = inbox.head().seq;
            let from = usize::try_from(since.0).unwrap_or(usize::MAX);
            let changes = inbox
                .log
                .iter()
                .enumerate()
                .skip(from)
                .take(if min_seq > since { 0 } else { limit })
                .map(|(index, change)| Stored {
                    inbox: key.clone(),
                    seq: Seq(index as u64 + 1),
                    change: change.clone(),
                    accepted: None,
                })
                .collect();
            Ok(ChangePage { changes, head, min_seq })
        })
    }

    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        self.with(|inboxes| {
            let inbox = inboxes.entry(inbox.clone()).or_default();
            let mut found: Vec<InboxMessage> = inbox
                .messages
                .iter()
                .filter(|message| {
                    let fields = message.body.fields().unwrap();
                    let status = message.state.status;
                    let state = match query.status {
                        StatusFilter::Inbox => status != Status::Archived,
                        StatusFilter::Unread => status == Status::Unread,
                        StatusFilter::Read => status == Status::Read,
                        StatusFilter::Archived => status == Status::Archived,
                        StatusFilter::All => true,
                    };
                    let channel = fields.channel_id.as_ref().map(|id| id.as_str());
                    state
                        && (query.channel_id.is_none() || query.channel_id.as_deref() == channel)
                        && query.message_type.as_ref().is_none_or(|t| *t == fields.message_type)
                        && query.priority_min.is_none_or(|p| p <= fields.priority)
                        && query.sender.as_ref().is_none_or(|s| *s == fields.sender)
                        && query.since.is_none_or(|at| at <= fields.created_at)
                        && query.until.is_none_or(|at| fields.created_at < at)
                })
                .cloned()
                .collect();
            let total = found.len() as u64;
            match query.sort {
                Sort::Newest => found.reverse(),
                Sort::Oldest => {}
                Sort::Priority => found.sort_by_key(|m| {
                    std::cmp::Reverse((m.body.fields().unwrap().priority, m.state.seq))
                }),
            }
            let skip = match query.at {
                ListPosition::Offset(offset) => usize::try_from(offset).unwrap(),
                ListPosition::After(seq) => {
                    found.iter().position(|m| m.state.seq == seq).map_or(0, |index| index + 1)
                }
            };
            let more = found.len() > skip + query.size;
            let messages = found.into_iter().skip(skip).take(query.size).collect();
            Ok(ListPage { messages, total, unread: inbox.unread(), more })
        })
    }

    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        assert_ne!(id.as_str(), "panic", "asked for by a test");
        self.with(|inboxes| {
            let inbox = inboxes.entry(inbox.clone()).or_default();
            let found = inbox.messages.iter().find(|message| message.body.id() == id);
            found.cloned().ok_or(StoreError::NotFound)
        })
    }

    fn ack(&self, _: &InboxKey, _: &DeviceId, _: Seq) {}

    fn cursor(&self, _: &InboxKey, _: &DeviceId) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        unreachable!("REST has no cursors")
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        Box::pin(std::future::ready(Health::Writable))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
