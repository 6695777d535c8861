//! A random life of a few inboxes, next to a model that is too simple to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use delivery::{
    InboxKey, StoreError,
    search::Terms,
    store::{
        Change, InboxMessage, ListPage, ListQuery, Mark, MarkTarget, Retention, SentState, Sort,
        StatusFilter, Stored, UnreadCounts, Watch,
    },
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};
use protocol::{Body, MessageFields, MessageId, Seq, Status, TenantId};

use super::{
    Backend,
    fixture::{Fixture, button, in_millis, inbox_of, message, outgoing, title, to_everyone},
};

const TENANTS: [&str; 2] = ["default", "t2"];
const USERS: [&str; 4] = ["ann", "../x", "Ann", "界"];
const CHANNELS: [&str; 2] = ["c1", "c2"];
const KEYS: [&str; 2] = ["k1", "k2"];
const SENDERS: [&str; 2] = ["s1", "s2"];

/// What messages of a step have in common.
#[derive(Clone, Debug)]
struct Looks {
    channel: Option<usize>,
    key: Option<usize>,
    sender: usize,
    expired: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// To these users of a tenant; several messages at once.
    Send {
        tenant: usize,
        users: Vec<usize>,
        count: usize,
        looks: Looks,
    },
    Everyone {
        tenant: usize,
        looks: Looks,
    },
    /// Another content for one of all messages.
    Edit {
        message: Index,
        expires: bool,
    },
    /// None any more.
    Recall {
        message: Index,
    },
    Mark {
        inbox: usize,
        mark: Mark,
        target: Target,
    },
    Press {
        inbox: usize,
        message: Index,
        index: u8,
    },
    /// Keeps so many messages.
    Prune {
        inbox: usize,
        keep: u64,
    },
    Watch {
        inbox: usize,
    },
    Unwatch {
        inbox: usize,
    },
    Ack {
        inbox: usize,
        device: usize,
        seq: u64,
    },
    Delivered {
        inbox: usize,
        from: u64,
        count: u64,
    },
    Reopen,
    Kill,
}

#[derive(Clone, Debug)]
enum Target {
    One(Index, Option<i64>),
    Many(Vec<Index>),
    UpTo(u64),
    Channel(usize),
}

fn looks() -> impl Strategy<Value = Looks> {
    (
        prop::option::of(0..CHANNELS.len()),
        prop::option::weighted(0.3, 0..KEYS.len()),
        0..SENDERS.len(),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(channel, key, sender, expired)| Looks { channel, key, sender, expired })
}

fn step() -> impl Strategy<Value = Step> {
    let inbox = 0..TENANTS.len() * USERS.len();
    let target = prop_oneof![
        (any::<Index>(), prop::option::of(-1_i64..=1))
            .prop_map(|(index, version)| Target::One(index, version)),
        vec(any::<Index>(), 0..5).prop_map(Target::Many),
        (0_u64..40).prop_map(Target::UpTo),
        (0..CHANNELS.len()).prop_map(Target::Channel),
    ];
    let mark = prop::sample::select(vec![Mark::Read, Mark::Unread, Mark::Archive]);
    prop_oneof![
        6 => (0..TENANTS.len(), vec(0..USERS.len(), 1..4), 1_usize..4, looks())
            .prop_map(|(tenant, users, count, looks)| Step::Send { tenant, users, count, looks }),
        2 => (0..TENANTS.len(), looks())
            .prop_map(|(tenant, looks)| Step::Everyone { tenant, looks }),
        2 => (any::<Index>(), prop::bool::weighted(0.1))
            .prop_map(|(message, expires)| Step::Edit { message, expires }),
        1 => any::<Index>().prop_map(|message| Step::Recall { message }),
        8 => (inbox.clone(), mark, target)
            .prop_map(|(inbox, mark, target)| Step::Mark { inbox, mark, target }),
        3 => (inbox.clone(), any::<Index>(), 0_u8..3)
            .prop_map(|(inbox, message, index)| Step::Press { inbox, message, index }),
        1 => (inbox.clone(), 1_u64..12).prop_map(|(inbox, keep)| Step::Prune { inbox, keep }),
        2 => inbox.clone().prop_map(|inbox| Step::Watch { inbox }),
        2 => inbox.clone().prop_map(|inbox| Step::Unwatch { inbox }),
        2 => (inbox.clone(), 0_usize..2, 0_u64..40)
            .prop_map(|(inbox, device, seq)| Step::Ack { inbox, device, seq }),
        2 => (inbox, 0_u64..20, 1_u64..20)
            .prop_map(|(inbox, from, count)| Step::Delivered { inbox, from, count }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What stands at a seq.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Logged {
    Arrived,
    Edited,
    Recalled,
    Marked(Status),
    Pressed(Status, u8),
}

/// One inbox as it ought to be.
#[derive(Default)]
struct Model {
    exists: bool,
    /// By seq, from 1.
    log: Vec<(MessageId, Logged)>,
    /// Those that are kept.
    messages: BTreeMap<MessageId, ModelMessage>,
    min_seq: u64,
    cursors: BTreeMap<usize, u64>,
    /// The watch, and the seqs that may have been told.
    watch: Option<Watch>,
    told: BTreeSet<u64>,
}

#[derive(Clone)]
struct ModelMessage {
    seq: u64,
    version: u64,
    status: Status,
    channel: Option<String>,
    /// Sender and key.
    collapse: Option<(String, String)>,
    title: String,
    pressed: BTreeSet<u8>,
}

impl ModelMessage {
    fn live(&self) -> bool {
        matches!(self.status, Status::Unread | Status::Read | Status::Archived)
    }
}

impl Model {
    fn add(&mut self, id: &MessageId, logged: Logged) -> u64 {
        self.log.push((id.clone(), logged));
        let seq = self.log.len() as u64;
        if self.watch.is_some() {
            self.told.insert(seq);
        }
        seq
    }

    fn arrive(&mut self, fields: &MessageFields) {
        self.exists = true;
        let seq = self.add(&fields.id, Logged::Arrived);
        let collapse = fields.collapse_key.clone().map(|key| (fields.sender.clone(), key));
        for older in self.messages.values_mut() {
            if collapse.is_some() && older.collapse == collapse && older.status == Status::Unread {
                (older.status, older.version) = (Status::Collapsed, seq);
            }
        }
        let expired = fields.expire_at.is_some();
        let message = ModelMessage {
            seq,
            version: seq,
            status: if expired { Status::Expired } else { Status::Unread },
            channel: fields.channel_id.as_ref().map(ToString::to_string),
            collapse,
            title: fields.title.clone(),
            pressed: BTreeSet::new(),
        };
        self.messages.insert(fields.id.clone(), message);
    }

    fn edit(&mut self, id: &MessageId, title: &str, expires: bool) {
        let seq = self.add(id, Logged::Edited);
        if let Some(message) = self.messages.get_mut(id).filter(|message| message.live()) {
            (message.version, message.title) = (seq, title.to_owned());
            if expires {
                message.status = Status::Expired;
            }
        }
    }

    fn recall(&mut self, id: &MessageId) {
        let seq = self.add(id, Logged::Recalled);
        if let Some(message) = self.messages.get_mut(id) {
            message.version = seq;
            message.title.clear();
            message.collapse = None;
            if message.live() {
                message.status = Status::Recalled;
            }
        }
    }

    fn prune(&mut self, keep: u64) -> u64 {
        let mut seqs: Vec<u64> = self.messages.values().map(|message| message.seq).collect();
        seqs.sort_unstable();
        let Some(gone) = seqs.len().checked_sub(usize::try_from(keep).unwrap()) else { return 0 };
        if gone == 0 {
            return 0;
        }
        self.min_seq = seqs.get(gone).map_or(self.log.len() as u64, |next| next - 1);
        self.messages.retain(|_, message| message.seq > self.min_seq);
        gone as u64
    }

    fn live(&self) -> impl Iterator<Item = (&MessageId, &ModelMessage)> {
        self.messages.iter().filter(|(_, message)| message.live())
    }

    fn unread(&self) -> UnreadCounts {
        let mut counts = UnreadCounts::default();
        let mut channels: BTreeMap<String, u64> = BTreeMap::new();
        for (_, message) in self.live().filter(|(_, message)| message.status == Status::Unread) {
            counts.total += 1;
            match &message.channel {
                None => counts.direct += 1,
                Some(channel) => *channels.entry(channel.clone()).or_default() += 1,
            }
        }
        counts.channels =
            channels.into_iter().map(|(id, count)| (id.parse().unwrap(), count)).collect();
        counts
    }

    fn would_change(&self, id: &MessageId, mark: Mark) -> bool {
        let Some(message) = self.messages.get(id).filter(|message| message.live()) else {
            return false;
        };
        match mark {
            Mark::Read => message.status == Status::Unread,
            Mark::Unread => message.status == Status::Read,
            Mark::Archive => message.status != Status::Archived,
        }
    }

    /// Which messages a target names, leaving conflicts aside.
    fn named(&self, target: &MarkTarget) -> BTreeSet<MessageId> {
        let all = |wanted: &dyn Fn(&MessageId, &ModelMessage) -> bool| {
            let named = self.messages.iter().filter(|(id, message)| wanted(id, message));
            named.map(|(id, _)| id.clone()).collect()
        };
        match target {
            MarkTarget::One { id, .. } => all(&|other, _| other == id),
            MarkTarget::Many(ids) => all(&|id, _| ids.contains(id)),
            MarkTarget::UpTo(seq) => all(&|_, message| message.seq <= seq.0),
            MarkTarget::Channel(channel) => {
                all(&|_, message| message.channel.as_ref() == Some(channel))
            }
        }
    }
}

struct Life<B> {
    fix: Fixture<B>,
    keys: Vec<InboxKey>,
    models: Vec<Model>,
    /// All messages there ever were.
    sent: Vec<((TenantId, MessageId), MessageFields)>,
}

impl<B: Backend> Life<B> {
    async fn new() -> Self {
        let keys: Vec<_> =
            TENANTS.iter().flat_map(|tenant| USERS.map(|user| inbox_of(tenant, user))).collect();
        let models = keys.iter().map(|_| Model::default()).collect();
        Self { fix: Fixture::new(B::new()).await, keys, models, sent: Vec::new() }
    }

    fn fields(looks: &Looks) -> MessageFields {
        let mut fields = message("m");
        fields.title = fields.id.to_string();
        fields.channel_id = looks.channel.map(|channel| CHANNELS[channel].parse().unwrap());
        fields.collapse_key = looks.key.map(|key| KEYS[key].to_owned());
        SENDERS[looks.sender].clone_into(&mut fields.sender);
        fields.expire_at = looks.expired.then(|| in_millis(-1));
        fields.actions = vec![button("0"), button("1")];
        fields
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Send { tenant, users, count, looks } => {
                let users: Vec<usize> =
                    users.iter().map(|user| tenant * USERS.len() + user).collect();
                let mut items = vec![];
                for _ in 0..count {
                    let fields = Self::fields(&looks);
                    let keys: Vec<&InboxKey> = users.iter().map(|user| &self.keys[*user]).collect();
                    let item = outgoing(&keys, &fields);
                    for user in BTreeSet::from_iter(&users) {
                        self.models[*user].arrive(&fields);
                    }
                    self.sent.push(((item.tenant.clone(), item.body.id().clone()), fields));
                    items.push(item);
                }
                self.fix.store.append(items.into()).await.unwrap();
            }
            Step::Everyone { tenant, looks } => {
                let fields = Self::fields(&looks);
                let item = to_everyone(TENANTS[tenant], &fields);
                for model in &mut self.models[tenant * USERS.len()..][..USERS.len()] {
                    if model.exists {
                        model.arrive(&fields);
                    }
                }
                self.sent.push(((item.tenant.clone(), item.body.id().clone()), fields));
                self.fix.store.append(vec![item].into()).await.unwrap();
            }
            Step::Edit { message, expires } => self.edit(message, expires).await,
            Step::Recall { message } => self.recall(message).await,
            Step::Mark { inbox, mark, target } => self.mark(inbox, mark, target).await,
            Step::Press { inbox, message, index } => self.press(inbox, message, index).await,
            Step::Prune { inbox, keep } => {
                let retention = Retention { max_age: None, max_messages: Some(keep) };
                let pruned = self.fix.store.prune(&self.keys[inbox], retention).await.unwrap();
                assert_eq!(pruned, self.models[inbox].prune(keep));
            }
            Step::Watch { inbox } => {
                let watch = self.fix.store.watch(&self.keys[inbox]).await.unwrap();
                let model = &mut self.models[inbox];
                model.exists = true;
                assert_eq!(watch.head.seq.0, model.log.len() as u64);
                assert_eq!(watch.head.unread, model.unread().total);
                model.watch = Some(watch);
            }
            Step::Unwatch { inbox } => self.models[inbox].watch = None,
            Step::Ack { inbox, device, seq } => {
                let model = &mut self.models[inbox];
                // Acking nothing is no ack.
                if model.exists && seq > 0 {
                    let id = format!("device-{device}").parse().unwrap();
                    self.fix.store.ack(&self.keys[inbox], &id, Seq(seq));
                    // An ack of an inbox that is not in memory waits for it, and is held to the
                    // head it finds then: nothing may arrive in between.
                    self.fix.store.cursor(&self.keys[inbox], &id).await.unwrap();
                    let cursor = model.cursors.entry(device).or_default();
                    *cursor = (*cursor).max(seq.min(model.log.len() as u64));
                }
            }
            // Changes nothing that can be seen here; it must not.
            Step::Delivered { inbox, from, count } => {
                let device = "device-0".parse().unwrap();
                self.fix.store.delivered(&self.keys[inbox], &device, Seq(from), Seq(from + count));
            }
            Step::Reopen => {
                for model in &mut self.models {
                    model.watch = None;
                }
                self.fix.reopen().await;
            }
            Step::Kill => {
                for model in &mut self.models {
                    model.watch = None;
                }
                self.fix.kill().await;
                self.take_over_cursors().await;
            }
        }
    }

    /// After a kill cursors may stand back; not forward.
    async fn take_over_cursors(&mut self) {
        for (key, model) in self.keys.iter().zip(&mut self.models) {
            for (device, cursor) in std::mem::take(&mut model.cursors) {
                let id = format!("device-{device}").parse().unwrap();
                if let Some(found) = self.fix.store.cursor(key, &id).await.unwrap() {
                    assert!(found.0 <= cursor, "{found} after {cursor}");
                    model.cursors.insert(device, found.0);
                }
            }
        }
    }

    /// Those who received a message, pruned or not.
    fn receivers(&mut self, id: &MessageId) -> impl Iterator<Item = &mut Model> {
        self.models.iter_mut().filter(move |model| model.log.iter().any(|(other, _)| other == id))
    }

    async fn edit(&mut self, message: Index, expires: bool) {
        if self.sent.is_empty() {
            return;
        }
        let (sent, mut fields) = message.get(&self.sent).clone();
        fields.title = format!("{} again", fields.title);
        if expires {
            fields.expire_at = Some(in_millis(-1));
        }
        let (tenant, id) = sent;
        match self.fix.store.edit(&tenant, &id, None, Arc::new(Body::new(&fields))).await {
            // It was recalled.
            Err(StoreError::Conflict(_)) => return,
            edited => edited.unwrap(),
        }
        for model in self.receivers(&id) {
            model.edit(&id, &fields.title, expires);
        }
    }

    async fn recall(&mut self, message: Index) {
        if self.sent.is_empty() {
            return;
        }
        let (tenant, id) = message.get(&self.sent).0.clone();
        let sent = self.fix.store.sent(&tenant, &id).await.unwrap().unwrap();
        self.fix.store.recall(&tenant, &id).await.unwrap();
        // A second time changes nothing.
        if sent.state != SentState::Recalled {
            for model in self.receivers(&id) {
                model.recall(&id);
            }
        }
    }

    async fn press(&mut self, inbox: usize, message: Index, index: u8) {
        let (key, model) = (&self.keys[inbox], &mut self.models[inbox]);
        let ids: Vec<MessageId> = model.messages.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let id = message.get(&ids);
        let device = Some("device-0".parse().unwrap());
        let answer = self.fix.store.press(key, device, id, index).await;
        let message = &model.messages[id];
        if !message.live() || index > 1 {
            assert!(matches!(answer, Err(StoreError::NotFound)), "{answer:?}");
            return;
        }
        let pressing = answer.unwrap();
        assert_eq!(pressing.first, !message.pressed.contains(&index));
        if pressing.first {
            let archived = message.status == Status::Archived;
            let status = if archived { Status::Archived } else { Status::Read };
            let seq = model.add(id, Logged::Pressed(status, index));
            let message = model.messages.get_mut(id).unwrap();
            (message.version, message.status) = (seq, status);
            message.pressed.insert(index);
        }
        compare_message(&pressing.message, id, &model.messages[id]);
    }

    async fn mark(&mut self, inbox: usize, mark: Mark, target: Target) {
        let (key, model) = (&self.keys[inbox], &mut self.models[inbox]);
        let ids: Vec<MessageId> = model.messages.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let target = match target {
            Target::One(index, version) => {
                let id = index.get(&ids).clone();
                let expected =
                    version.map(|by| Seq(model.messages[&id].version.saturating_add_signed(by)));
                MarkTarget::One { id, expected }
            }
            Target::Many(indexes) => {
                MarkTarget::Many(indexes.iter().map(|index| index.get(&ids).clone()).collect())
            }
            Target::UpTo(seq) => MarkTarget::UpTo(Seq(seq)),
            Target::Channel(channel) => MarkTarget::Channel(CHANNELS[channel].to_owned()),
        };
        let answer = self.fix.store.mark(key, None, mark, target.clone()).await;
        if let MarkTarget::One { id, expected } = &target {
            let message = &model.messages[id];
            if !message.live() {
                assert!(matches!(answer, Err(StoreError::NotFound)), "{answer:?}");
                return;
            }
            if expected.is_some_and(|expected| expected.0 != message.version) {
                let Err(StoreError::VersionConflict(current)) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(current.state.version.0, message.version);
                return;
            }
        }
        let mut changed: BTreeSet<MessageId> =
            model.named(&target).into_iter().filter(|id| model.would_change(id, mark)).collect();
        let marked = answer.unwrap();
        assert_eq!(marked.changed, changed.len() as u64, "{mark:?} {target:?}");
        // Which of them takes which seq is the store's to say.
        let since = model.log.len() as u64;
        let page = self.fix.page(key, since, usize::MAX, usize::MAX).await;
        for stored in page.changes {
            let Change::Status(change) = stored.change else { panic!("{:?}", stored.change) };
            assert!(changed.remove(&change.message_id), "{change:?}");
            assert_eq!(change.status, mark.status());
            let seq = model.add(&change.message_id, Logged::Marked(change.status));
            let message = model.messages.get_mut(&change.message_id).unwrap();
            (message.version, message.status) = (seq, change.status);
        }
        assert!(changed.is_empty());
        assert_eq!(
            (marked.head.seq.0, marked.head.unread),
            (model.log.len() as u64, model.unread().total)
        );
        if let MarkTarget::One { id, .. } = &target {
            compare_message(&marked.message.unwrap(), id, &model.messages[id]);
        }
    }

    async fn compare(&self, inbox: usize) {
        let (key, model) = (&self.keys[inbox], &self.models[inbox]);
        let head = self.fix.store.head(key).await.unwrap();
        let unread = model.unread();
        assert_eq!((head.seq.0, head.unread), (model.log.len() as u64, unread.total), "{key:?}");
        if model.min_seq > 0 {
            let page = self.fix.page(key, model.min_seq - 1, 9, usize::MAX).await;
            assert_eq!((page.changes.len(), page.min_seq.0), (0, model.min_seq), "{key:?}");
        }
        let page = self.fix.page(key, model.min_seq, usize::MAX, usize::MAX).await;
        assert_eq!(page.min_seq.0, model.min_seq, "{key:?}");
        let expected = &model.log[usize::try_from(model.min_seq).unwrap()..];
        assert_eq!(page.changes.len(), expected.len(), "{key:?}");
        for ((at, stored), (id, logged)) in (model.min_seq + 1..).zip(&page.changes).zip(expected) {
            assert_eq!((stored.seq.0, &stored.inbox), (at, key));
            compare_change(stored, id, logged, model.messages.get(id));
        }
        assert_eq!(self.fix.store.unread(key).await.unwrap(), unread, "{key:?}");
        self.compare_lists(key, model).await;
        for device in 0..2 {
            let id = format!("device-{device}").parse().unwrap();
            let cursor = self.fix.store.cursor(key, &id).await.unwrap();
            assert_eq!(cursor.map(|seq| seq.0), model.cursors.get(&device).copied());
        }
    }

    async fn compare_lists(&self, key: &InboxKey, model: &Model) {
        let unread = model.unread().total;
        let shown = |filter: StatusFilter, status: Status| match filter {
            StatusFilter::Inbox => matches!(status, Status::Unread | Status::Read),
            StatusFilter::Unread => status == Status::Unread,
            StatusFilter::Read => status == Status::Read,
            StatusFilter::Archived => status == Status::Archived,
            StatusFilter::All => {
                matches!(status, Status::Unread | Status::Read | Status::Archived)
            }
        };
        let filters = [
            StatusFilter::All,
            StatusFilter::Inbox,
            StatusFilter::Unread,
            StatusFilter::Read,
            StatusFilter::Archived,
        ];
        let of_channels = CHANNELS.map(|channel| (StatusFilter::Inbox, Some(channel)));
        let of_all = filters.map(|filter| (filter, None));
        for (filter, channel) in of_all.into_iter().chain(of_channels) {
            let recalled = filter == StatusFilter::All && channel.is_none();
            let query = ListQuery {
                status: filter,
                recalled,
                channel_id: channel.map(ToOwned::to_owned),
                sort: Sort::Oldest,
                size: 1_000,
                ..ListQuery::default()
            };
            let page = self.fix.list(key, query.clone()).await;
            let mut expected: Vec<_> = model
                .messages
                .iter()
                .filter(|(_, message)| {
                    shown(filter, message.status)
                        || (recalled && message.status == Status::Recalled)
                })
                .filter(|(_, message)| channel.is_none() || message.channel.as_deref() == channel)
                .collect();
            expected.sort_by_key(|(_, message)| message.seq);
            assert_eq!(page.messages.len(), expected.len(), "{filter:?} of {key:?}");
            for (listed, (id, message)) in page.messages.iter().zip(&expected) {
                compare_message(listed, id, message);
            }
            assert_eq!((page.total, page.unread), (expected.len() as u64, unread));
            if !recalled && channel.is_none() {
                // Every message has these words.
                let text = Some(Terms::parse("内容").unwrap());
                let searched = self.fix.list(key, ListQuery { text, ..query }).await;
                let ids = |page: &ListPage| -> Vec<_> {
                    page.messages.iter().map(|m| (m.state.seq.0, m.body.id().clone())).collect()
                };
                assert_eq!(ids(&searched), ids(&page), "{filter:?} of {key:?}");
                assert_eq!((searched.total, searched.unread), (page.total, page.unread));
            }
        }
    }

    async fn end(mut self) {
        for (key, model) in self.keys.iter().zip(&self.models) {
            let told: Vec<u64> = model.told.iter().copied().collect();
            super::fixture::eventually("all is published", || {
                let published = self.fix.published.seqs(key);
                told.iter().all(|seq| published.contains(seq))
            })
            .await;
            // An edit is published when the file has been asked what the message is besides.
            let mut published = self.fix.published.seqs(key);
            let edited =
                |seq: u64| model.log[usize::try_from(seq).unwrap() - 1].1 == Logged::Edited;
            published.retain(|seq| !edited(*seq));
            assert!(published.is_sorted_by(|a, b| a < b), "{key:?}: {published:?}");
        }
        self.fix.reopen().await;
        for inbox in 0..self.keys.len() {
            self.compare(inbox).await;
        }
        self.fix.store.close().await;
    }
}

fn compare_message(found: &InboxMessage, id: &MessageId, expected: &ModelMessage) {
    assert_eq!(found.body.id(), id);
    let state = &found.state;
    assert_eq!((state.seq.0, state.version.0), (expected.seq, expected.version), "{id}");
    assert_eq!((state.status, state.is_read), (expected.status, expected.status.is_read()), "{id}");
    assert_eq!(title(&found.body), expected.title, "{id}");
    let pressed: BTreeSet<u8> = found.pressed.iter().map(|pressed| pressed.action.index).collect();
    assert_eq!(pressed, expected.pressed, "{id}");
    assert_eq!(state.read_at.is_some() || expected.status == Status::Recalled, state.is_read);
}

/// `message` is none where it is not kept any more.
fn compare_change(
    stored: &Stored,
    id: &MessageId,
    logged: &Logged,
    message: Option<&ModelMessage>,
) {
    let at = stored.seq;
    let status = message.map_or(Status::Expired, |message| message.status);
    match (&stored.change, logged) {
        (Change::Message { state, body }, Logged::Arrived | Logged::Edited) => {
            let message = message.filter(|message| message.live()).unwrap();
            let found = InboxMessage { state: *state, body: body.clone(), pressed: Vec::new() };
            let unpressed = ModelMessage { pressed: BTreeSet::new(), ..message.clone() };
            compare_message(&found, id, &unpressed);
        }
        (Change::Status(change), Logged::Arrived | Logged::Edited) => {
            assert!(message.is_none_or(|message| !message.live()), "at {at}: {change:?}");
            assert_eq!((&change.message_id, change.status), (id, status), "at {at}");
        }
        (Change::Status(change), Logged::Recalled) => {
            assert_eq!((&change.message_id, change.status), (id, Status::Recalled), "at {at}");
        }
        (Change::Status(change), Logged::Marked(became)) => {
            assert_eq!((&change.message_id, change.status), (id, *became), "at {at}");
            assert_eq!(change.action, None, "at {at}");
        }
        (Change::Status(change), Logged::Pressed(became, index)) => {
            assert_eq!((&change.message_id, change.status), (id, *became), "at {at}");
            let action = change.action.as_ref().unwrap();
            assert_eq!((action.index, &*action.action), (*index, &*index.to_string()), "at {at}");
        }
        other => panic!("at {at}: {other:?}"),
    }
}

pub(crate) fn a_random_life_is_like_the_model<B: Backend>() {
    let cases = std::env::var("MODEL_CASES").map_or(40, |text| text.parse().unwrap());
    let runtime = Arc::new(tokio::runtime::Runtime::new().unwrap());
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        // A failing life is shrunk by living it again.
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let steps = vec((step(), 0..TENANTS.len() * USERS.len()), 1..60);
    let result = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut life = Life::<B>::new().await;
            for (step, looked_at) in steps {
                life.step(step).await;
                life.compare(looked_at).await;
            }
            life.end().await;
        });
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
