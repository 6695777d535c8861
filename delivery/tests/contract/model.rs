//! A random life of a few inboxes, next to a model that is too simple to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use delivery::{
    InboxKey, StoreError,
    search::Terms,
    store::{Change, ListQuery, Mark, MarkTarget, Sort, StatusFilter, Watch},
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use protocol::{MessageId, Seq, Status};

use super::{
    Backend,
    fixture::{Fixture, in_millis, inbox_of, message, outgoing, to_everyone},
};

const TENANTS: [&str; 2] = ["default", "t2"];
const USERS: [&str; 4] = ["ann", "../x", "Ann", "界"];
const CHANNELS: [&str; 2] = ["c1", "c2"];

#[derive(Clone, Debug)]
enum Step {
    /// To these users of a tenant; several messages at once.
    Send {
        tenant: usize,
        users: Vec<usize>,
        count: usize,
        channel: Option<usize>,
        expired: bool,
    },
    Everyone {
        tenant: usize,
        expired: bool,
    },
    Mark {
        inbox: usize,
        mark: Mark,
        target: Target,
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
    Reopen,
    Kill,
}

#[derive(Clone, Debug)]
enum Target {
    One(prop::sample::Index, Option<i64>),
    Many(Vec<prop::sample::Index>),
    UpTo(u64),
    Channel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let inbox = 0..TENANTS.len() * USERS.len();
    let target = prop_oneof![
        (any::<prop::sample::Index>(), prop::option::of(-1_i64..=1))
            .prop_map(|(index, version)| Target::One(index, version)),
        vec(any::<prop::sample::Index>(), 0..5).prop_map(Target::Many),
        (0_u64..40).prop_map(Target::UpTo),
        (0..CHANNELS.len()).prop_map(Target::Channel),
    ];
    let mark = prop::sample::select(vec![Mark::Read, Mark::Unread, Mark::Archive]);
    prop_oneof![
        6 => (
            0..TENANTS.len(),
            vec(0..USERS.len(), 1..4),
            1_usize..4,
            prop::option::of(0..CHANNELS.len()),
            prop::bool::weighted(0.1),
        )
            .prop_map(|(tenant, users, count, channel, expired)| Step::Send {
                tenant, users, count, channel, expired,
            }),
        2 => (0..TENANTS.len(), prop::bool::weighted(0.1))
            .prop_map(|(tenant, expired)| Step::Everyone { tenant, expired }),
        8 => (inbox.clone(), mark, target)
            .prop_map(|(inbox, mark, target)| Step::Mark { inbox, mark, target }),
        2 => inbox.clone().prop_map(|inbox| Step::Watch { inbox }),
        2 => inbox.clone().prop_map(|inbox| Step::Unwatch { inbox }),
        2 => (inbox, 0_usize..2, 0_u64..40)
            .prop_map(|(inbox, device, seq)| Step::Ack { inbox, device, seq }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// One inbox as it ought to be.
#[derive(Default)]
struct Model {
    exists: bool,
    /// By seq, from 1: a message arrived, or became this.
    log: Vec<(MessageId, Option<Status>)>,
    messages: BTreeMap<MessageId, ModelMessage>,
    cursors: BTreeMap<usize, u64>,
    /// The watch, and the seqs that may have been told.
    watch: Option<Watch>,
    told: BTreeSet<u64>,
}

struct ModelMessage {
    seq: u64,
    version: u64,
    status: Status,
    channel: Option<String>,
    expired: bool,
}

impl Model {
    fn add(&mut self, change: (MessageId, Option<Status>)) -> u64 {
        self.log.push(change);
        let seq = self.log.len() as u64;
        if self.watch.is_some() {
            self.told.insert(seq);
        }
        seq
    }

    fn arrive(&mut self, id: &MessageId, channel: Option<&str>, expired: bool) {
        self.exists = true;
        let seq = self.add((id.clone(), None));
        let message = ModelMessage {
            seq,
            version: seq,
            status: Status::Unread,
            channel: channel.map(ToOwned::to_owned),
            expired,
        };
        self.messages.insert(id.clone(), message);
    }

    fn live(&self) -> impl Iterator<Item = (&MessageId, &ModelMessage)> {
        self.messages.iter().filter(|(_, message)| !message.expired)
    }

    fn unread(&self) -> u64 {
        self.live().filter(|(_, message)| message.status == Status::Unread).count() as u64
    }

    fn would_change(&self, id: &MessageId, mark: Mark) -> bool {
        let Some(message) = self.messages.get(id).filter(|message| !message.expired) else {
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
}

impl<B: Backend> Life<B> {
    async fn new() -> Self {
        let keys: Vec<_> =
            TENANTS.iter().flat_map(|tenant| USERS.map(|user| inbox_of(tenant, user))).collect();
        let models = keys.iter().map(|_| Model::default()).collect();
        Self { fix: Fixture::new(B::new()).await, keys, models }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Send { tenant, users, count, channel, expired } => {
                let users: Vec<usize> =
                    users.iter().map(|user| tenant * USERS.len() + user).collect();
                let channel = channel.map(|channel| CHANNELS[channel]);
                let mut items = vec![];
                for _ in 0..count {
                    let mut fields = message("m");
                    fields.channel_id = channel.map(|channel| channel.parse().unwrap());
                    fields.expire_at = expired.then(|| in_millis(-1));
                    let keys: Vec<&InboxKey> = users.iter().map(|user| &self.keys[*user]).collect();
                    items.push(outgoing(&keys, &fields));
                    for user in BTreeSet::from_iter(&users) {
                        self.models[*user].arrive(&fields.id, channel, expired);
                    }
                }
                self.fix.store.append(items.into()).await.unwrap();
            }
            Step::Everyone { tenant, expired } => {
                let mut fields = message("everyone");
                fields.expire_at = expired.then(|| in_millis(-1));
                let item = to_everyone(TENANTS[tenant], &fields);
                self.fix.store.append(vec![item].into()).await.unwrap();
                for model in &mut self.models[tenant * USERS.len()..][..USERS.len()] {
                    if model.exists {
                        model.arrive(&fields.id, None, expired);
                    }
                }
            }
            Step::Mark { inbox, mark, target } => self.mark(inbox, mark, target).await,
            Step::Watch { inbox } => {
                let watch = self.fix.store.watch(&self.keys[inbox]).await.unwrap();
                let model = &mut self.models[inbox];
                model.exists = true;
                assert_eq!(watch.head.seq.0, model.log.len() as u64);
                assert_eq!(watch.head.unread, model.unread());
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
            if message.expired {
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
            let seq = model.add((change.message_id.clone(), Some(change.status)));
            let message = model.messages.get_mut(&change.message_id).unwrap();
            (message.version, message.status) = (seq, change.status);
        }
        assert!(changed.is_empty());
        assert_eq!(
            (marked.head.seq.0, marked.head.unread),
            (model.log.len() as u64, model.unread())
        );
        if let MarkTarget::One { id, .. } = &target {
            assert_eq!(marked.message.unwrap().state.version.0, model.messages[id].version);
        }
    }

    async fn compare(&self, inbox: usize) {
        let (key, model) = (&self.keys[inbox], &self.models[inbox]);
        let head = self.fix.store.head(key).await.unwrap();
        assert_eq!((head.seq.0, head.unread), (model.log.len() as u64, model.unread()), "{key:?}");
        let log = self.fix.log(key).await;
        assert_eq!(log.len(), model.log.len(), "{key:?}");
        for ((at, stored), (id, status)) in (1..).zip(&log).zip(&model.log) {
            assert_eq!((stored.seq.0, &stored.inbox), (at, key));
            let message = &model.messages[id];
            match (&stored.change, status) {
                (Change::Message { state, body }, None) if !message.expired => {
                    assert_eq!(body.id(), id);
                    assert_eq!((state.seq.0, state.version.0), (message.seq, message.version));
                    assert_eq!(
                        (state.status, state.is_read),
                        (message.status, message.status.is_read())
                    );
                }
                (Change::Status(change), None) if message.expired => {
                    assert_eq!((&change.message_id, change.status), (id, Status::Expired));
                }
                (Change::Status(change), Some(status)) => {
                    assert_eq!((&change.message_id, change.status), (id, *status));
                }
                other => panic!("at {at} of {key:?}: {other:?}"),
            }
        }
        self.compare_lists(key, model).await;
        for device in 0..2 {
            let id = format!("device-{device}").parse().unwrap();
            let cursor = self.fix.store.cursor(key, &id).await.unwrap();
            assert_eq!(cursor.map(|seq| seq.0), model.cursors.get(&device).copied());
        }
    }

    async fn compare_lists(&self, key: &InboxKey, model: &Model) {
        for (filter, wanted) in [
            (StatusFilter::All, &[Status::Unread, Status::Read, Status::Archived][..]),
            (StatusFilter::Inbox, &[Status::Unread, Status::Read]),
            (StatusFilter::Unread, &[Status::Unread]),
            (StatusFilter::Read, &[Status::Read]),
            (StatusFilter::Archived, &[Status::Archived]),
        ] {
            let mut expected: Vec<_> = model
                .live()
                .filter(|(_, message)| wanted.contains(&message.status))
                .map(|(id, message)| (message.seq, id.clone()))
                .collect();
            expected.sort();
            // Every message has these words.
            for text in [None, Some(Terms::parse("内容").unwrap())] {
                let query = ListQuery {
                    status: filter,
                    sort: Sort::Oldest,
                    size: 1_000,
                    text,
                    ..ListQuery::default()
                };
                let page = self.fix.list(key, query).await;
                let listed: Vec<_> =
                    page.messages.iter().map(|m| (m.state.seq.0, m.body.id().clone())).collect();
                assert_eq!(listed, expected, "{filter:?} of {key:?}");
                assert_eq!((page.total, page.unread), (expected.len() as u64, model.unread()));
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
            let published = self.fix.published.seqs(key);
            assert!(published.is_sorted_by(|a, b| a < b), "{key:?}: {published:?}");
        }
        self.fix.reopen().await;
        for inbox in 0..self.keys.len() {
            self.compare(inbox).await;
        }
        self.fix.store.close().await;
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
