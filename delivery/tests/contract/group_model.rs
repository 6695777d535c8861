//! A random life of a few users in a few groups, next to a model that is too simple to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use delivery::store::{
    Audience, Change, Group, ListQuery, MembersChanged, NameKind, Sort, StatusFilter, UserChange,
    Watch,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use protocol::{MessageId, RoleId, TenantId, UserId};

use super::{
    Backend,
    fixture::{Fixture, audience, channel, group, inbox, message, to_audience, to_everyone, token},
};

const USERS: [&str; 5] = ["ann", "bob", "Ann", "界", "general"];
const CHANNELS: [&str; 3] = ["general", "news", "dev"];
const ROLES: [&str; 3] = ["dev", "ops", "department:law"];

#[derive(Clone, Debug)]
enum Step {
    Make { channel: usize },
    End { channel: usize },
    Members { channel: usize, join: Vec<usize>, leave: Vec<usize> },
    Token { user: usize, roles: BTreeSet<usize>, older: bool },
    Admin { user: usize, roles: BTreeSet<usize> },
    Send { users: Vec<usize>, channels: Vec<usize>, roles: Vec<usize>, count: usize },
    Everyone,
    Look { user: usize },
    Watch { user: usize },
    Unwatch { user: usize },
    Reopen,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let users = || vec(0..USERS.len(), 0..4);
    let roles = || prop::collection::btree_set(0..ROLES.len(), 0..3);
    prop_oneof![
        3 => (0..CHANNELS.len()).prop_map(|channel| Step::Make { channel }),
        1 => (0..CHANNELS.len()).prop_map(|channel| Step::End { channel }),
        6 => (0..CHANNELS.len(), users(), users())
            .prop_map(|(channel, join, leave)| Step::Members { channel, join, leave }),
        3 => (0..USERS.len(), roles(), prop::bool::weighted(0.2))
            .prop_map(|(user, roles, older)| Step::Token { user, roles, older }),
        2 => (0..USERS.len(), roles()).prop_map(|(user, roles)| Step::Admin { user, roles }),
        8 => (users(), vec(0..CHANNELS.len(), 0..3), vec(0..ROLES.len(), 0..2), 1_usize..3)
            .prop_map(|(users, channels, roles, count)| Step::Send {
                users, channels, roles, count,
            }),
        2 => Just(Step::Everyone),
        2 => (0..USERS.len()).prop_map(|user| Step::Look { user }),
        2 => (0..USERS.len()).prop_map(|user| Step::Watch { user }),
        2 => (0..USERS.len()).prop_map(|user| Step::Unwatch { user }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// One user as they ought to be.
#[derive(Default)]
struct Model {
    known: bool,
    /// A token or an admin spoke of them.
    spoken_of: bool,
    log: Vec<MessageId>,
    /// When the latest token was made, and what it said.
    issued: i64,
    by_token: BTreeSet<usize>,
    by_admin: BTreeSet<usize>,
    watch: Option<Watch>,
    told: BTreeSet<u64>,
}

impl Model {
    fn receive(&mut self, id: &MessageId) {
        self.known = true;
        self.log.push(id.clone());
        if self.watch.is_some() {
            self.told.insert(self.log.len() as u64);
        }
    }

    fn carries(&self, role: usize) -> bool {
        self.by_token.contains(&role) || self.by_admin.contains(&role)
    }
}

struct Life<B> {
    fix: Fixture<B>,
    models: Vec<Model>,
    channels: BTreeMap<usize, BTreeSet<usize>>,
    clock: i64,
}

fn tenant() -> TenantId {
    TenantId::default()
}

impl<B: Backend> Life<B> {
    async fn new() -> Self {
        let models = USERS.iter().map(|_| Model::default()).collect();
        Self { fix: Fixture::new(B::new()).await, models, channels: BTreeMap::new(), clock: 1_000 }
    }

    fn user_ids(users: &[usize]) -> Vec<UserId> {
        users.iter().map(|user| USERS[*user].parse().unwrap()).collect()
    }

    fn role_ids(roles: &BTreeSet<usize>) -> Vec<RoleId> {
        roles.iter().map(|role| ROLES[*role].parse().unwrap()).collect()
    }

    /// Who receives what is sent to these.
    fn receivers(&self, users: &[usize], channels: &[usize], roles: &[usize]) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = users.iter().copied().collect();
        for channel in channels {
            all.extend(self.channels.get(channel).into_iter().flatten());
        }
        for (at, model) in self.models.iter().enumerate() {
            if roles.iter().any(|role| model.carries(*role)) {
                all.insert(at);
            }
        }
        all
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Make { channel: at } => {
                let made =
                    self.fix.store.save_channel(&tenant(), channel(CHANNELS[at]), Some(0)).await;
                assert_eq!(made.is_ok(), !self.channels.contains_key(&at));
                self.channels.entry(at).or_default();
            }
            Step::End { channel } => {
                let id = CHANNELS[channel].parse().unwrap();
                let gone = self.fix.store.delete_channel(&tenant(), &id).await.unwrap();
                assert_eq!(gone, self.channels.remove(&channel).is_some());
            }
            Step::Members { channel, join, leave } => {
                self.members(channel, &join, &leave).await;
            }
            Step::Token { user, roles, older } => {
                self.clock += 10;
                let at = if older { self.clock - 500 } else { self.clock };
                let names: Vec<&str> = roles.iter().map(|role| ROLES[*role]).collect();
                let key = inbox(USERS[user]);
                self.fix.store.note_token(&key, token(at, &names)).await.unwrap();
                let model = &mut self.models[user];
                (model.known, model.spoken_of) = (true, true);
                if model.issued <= at {
                    (model.issued, model.by_token) = (at, roles);
                }
            }
            Step::Admin { user, roles } => {
                let change =
                    UserChange { added_roles: Some(Self::role_ids(&roles)), department: None };
                let record = self.fix.store.change_user(&inbox(USERS[user]), change).await.unwrap();
                assert_eq!(record.added_roles, Self::role_ids(&roles));
                let model = &mut self.models[user];
                // Nothing said of somebody who is known says nothing.
                model.spoken_of |= !model.known || !roles.is_empty();
                (model.known, model.by_admin) = (true, roles);
            }
            Step::Send { users, channels, roles, count } => {
                let groups: Vec<String> = channels
                    .iter()
                    .map(|channel| format!("#{}", CHANNELS[*channel]))
                    .chain(roles.iter().map(|role| ROLES[*role].to_owned()))
                    .collect();
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                let names: Vec<&str> = users.iter().map(|user| USERS[*user]).collect();
                let to = audience(&names, &groups);
                let receivers = self.receivers(&users, &channels, &roles);
                let size = self.fix.store.audience_size(&tenant(), &to).await.unwrap();
                assert_eq!(size, Some(receivers.len() as u64), "{to:?}");
                let mut items = vec![];
                for _ in 0..count {
                    let fields = message("m");
                    items.push(to_audience("default", to.clone(), &fields));
                    for user in &receivers {
                        self.models[*user].receive(&fields.id);
                    }
                }
                self.fix.store.append(items.into()).await.unwrap();
            }
            Step::Everyone => {
                let fields = message("everyone");
                self.fix.store.append(vec![to_everyone("default", &fields)].into()).await.unwrap();
                for model in self.models.iter_mut().filter(|model| model.known) {
                    model.receive(&fields.id);
                }
            }
            Step::Look { user } => {
                let head = self.fix.store.head(&inbox(USERS[user])).await.unwrap();
                assert_eq!(head.seq.0, self.models[user].log.len() as u64);
            }
            Step::Watch { user } => {
                let watch = self.fix.store.watch(&inbox(USERS[user])).await.unwrap();
                let model = &mut self.models[user];
                model.known = true;
                assert_eq!(watch.head.seq.0, model.log.len() as u64);
                model.watch = Some(watch);
            }
            Step::Unwatch { user } => self.models[user].watch = None,
            Step::Reopen => {
                self.models.iter_mut().for_each(|model| model.watch = None);
                self.fix.reopen().await;
            }
            Step::Kill => {
                self.models.iter_mut().for_each(|model| model.watch = None);
                self.fix.kill().await;
            }
        }
    }

    async fn members(&mut self, channel: usize, join: &[usize], leave: &[usize]) {
        let id = CHANNELS[channel].parse().unwrap();
        let (joining, leaving) = (Self::user_ids(join), Self::user_ids(leave));
        let answer = self.fix.store.change_members(&tenant(), &id, joining, leaving).await;
        let Some(members) = self.channels.get_mut(&channel) else {
            assert!(answer.is_err());
            return;
        };
        let before = members.clone();
        members.extend(join);
        members.retain(|user| !leave.contains(user));
        let changed = MembersChanged {
            joined: members.difference(&before).count() as u64,
            left: before.difference(members).count() as u64,
            members: members.len() as u64,
        };
        assert_eq!(answer.unwrap(), changed);
        for user in members.difference(&before) {
            self.models[*user].known = true;
        }
    }

    async fn compare(&self, at: usize) {
        let (key, model) = (inbox(USERS[at]), &self.models[at]);
        let log = self.fix.log(&key).await;
        let ids: Vec<&MessageId> = log
            .iter()
            .map(|stored| match &stored.change {
                Change::Message { body, .. } => body.id(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, model.log.iter().collect::<Vec<_>>(), "{key:?}");
        assert!(log.iter().map(|stored| stored.seq.0).eq(1..=log.len() as u64));
        let query = ListQuery {
            status: StatusFilter::All,
            sort: Sort::Oldest,
            size: 10_000,
            ..ListQuery::default()
        };
        let listed = self.fix.list(&key, query).await;
        assert!(listed.messages.iter().map(|message| message.body.id()).eq(&model.log), "{key:?}");
        assert_eq!(listed.unread, model.log.len() as u64);
        self.compare_directory(at).await;
    }

    async fn compare_directory(&self, at: usize) {
        let (key, model, store) = (inbox(USERS[at]), &self.models[at], &self.fix.store);
        let mut groups: Vec<Group> = self
            .channels
            .iter()
            .filter(|(_, members)| members.contains(&at))
            .map(|(channel, _)| group(&format!("#{}", CHANNELS[*channel])))
            .chain((0..ROLES.len()).filter(|role| model.carries(*role)).map(|r| group(ROLES[r])))
            .collect();
        groups.sort();
        assert_eq!(store.groups_of(&key).await.unwrap(), groups, "{key:?}");
        assert_eq!(store.user(&key).await.unwrap().is_some(), model.known, "{key:?}");
        let name = CHANNELS[at % CHANNELS.len()];
        let members = store.members(&tenant(), &group(&format!("#{name}")), None, 100).await;
        let members: BTreeSet<UserId> =
            members.unwrap().into_iter().map(|member| member.user_id).collect();
        let expected = self.channels.get(&(at % CHANNELS.len())).cloned().unwrap_or_default();
        let expected: Vec<usize> = expected.into_iter().collect();
        assert_eq!(members, BTreeSet::from_iter(Self::user_ids(&expected)), "{name}");
        let names: Vec<UserId> = ["ann", "general", "dev", "ops", "news", "never"]
            .map(|name| name.parse().unwrap())
            .into();
        let kinds = store.kinds(&tenant(), &names).await.unwrap();
        for (name, kind) in names.iter().zip(kinds) {
            let name = name.as_str();
            let user = USERS.iter().position(|user| *user == name);
            let channel = CHANNELS.iter().position(|channel| *channel == name);
            let role = ROLES.iter().position(|role| *role == name);
            let model = user.map(|user| &self.models[user]);
            let expected = if model.is_some_and(|model| model.spoken_of) {
                NameKind::User
            } else if channel.is_some_and(|channel| self.channels.contains_key(&channel)) {
                NameKind::Channel
            } else if role.is_some_and(|role| self.models.iter().any(|m| m.carries(role))) {
                NameKind::Role
            } else if model.is_some_and(|model| model.known) {
                NameKind::User
            } else {
                NameKind::Unknown
            };
            assert_eq!(kind, expected, "{name}");
        }
    }

    async fn end(mut self) {
        for (user, model) in USERS.iter().zip(&self.models) {
            let (key, told) = (inbox(user), &model.told);
            super::fixture::eventually("all is published", || {
                let published = self.fix.published.seqs(&key);
                told.iter().all(|seq| published.contains(seq))
            })
            .await;
            let published = self.fix.published.seqs(&key);
            assert!(published.is_sorted_by(|a, b| a < b), "{key:?}: {published:?}");
        }
        self.fix.reopen().await;
        for user in 0..USERS.len() {
            self.compare(user).await;
        }
        let everybody: Vec<usize> = (0..ROLES.len()).collect();
        let to = audience(&[], &ROLES);
        let size = self.fix.store.audience_size(&tenant(), &to).await.unwrap();
        assert_eq!(size, Some(self.receivers(&[], &[], &everybody).len() as u64));
        let everyone = self.fix.store.audience_size(&tenant(), &Audience::Everyone).await.unwrap();
        assert_eq!(everyone, None);
        self.fix.store.close().await;
    }
}

pub(crate) fn a_random_life_of_groups_is_like_the_model<B: Backend>() {
    let cases = std::env::var("MODEL_CASES").map_or(40, |text| text.parse().unwrap());
    let runtime = Arc::new(tokio::runtime::Runtime::new().unwrap());
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let steps = vec((step(), 0..USERS.len()), 1..60);
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
