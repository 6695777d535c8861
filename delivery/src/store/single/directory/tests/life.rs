//! A random life with rewrites, next to a model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use protocol::Seq;

use super::*;
use crate::store::{Directory, UserChange, Watch};

#[derive(Clone, Debug)]
enum Step {
    Members { channel: usize, join: Vec<usize>, leave: Vec<usize> },
    Remake { channel: usize },
    Role { user: usize, carries: bool },
    Send { users: Vec<usize>, groups: BTreeSet<usize> },
    Everyone,
    Rewrite { which: prop::sample::Index, recall: bool },
    Look { user: usize },
    List { user: usize },
    Watch { user: usize },
    Unwatch { user: usize },
    Sweep,
    Flush,
    Reopen,
    Kill,
}

const NAMES: [&str; 4] = ["ann", "bob", "eve", "zoe"];

/// Two channels and a role.
fn groups() -> [Group; 3] {
    [group("one"), group("two"), Group::Role("dev".parse().unwrap())]
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..NAMES.len();
    let some = || vec(0..NAMES.len(), 0..3);
    prop_oneof![
        6 => (0..2_usize, some(), some())
            .prop_map(|(channel, join, leave)| Step::Members { channel, join, leave }),
        1 => (0..2_usize).prop_map(|channel| Step::Remake { channel }),
        2 => (user(), any::<bool>()).prop_map(|(user, carries)| Step::Role { user, carries }),
        6 => (some(), prop::collection::btree_set(0..3_usize, 0..3))
            .prop_map(|(users, groups)| Step::Send { users, groups }),
        2 => Just(Step::Everyone),
        6 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, recall)| Step::Rewrite { which, recall }),
        2 => user().prop_map(|user| Step::Look { user }),
        2 => user().prop_map(|user| Step::List { user }),
        2 => user().prop_map(|user| Step::Watch { user }),
        2 => user().prop_map(|user| Step::Unwatch { user }),
        2 => Just(Step::Sweep),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What a user should have: the messages they received, and a change for each rewrite of those.
#[derive(Default)]
struct Model {
    known: bool,
    messages: Vec<MessageId>,
    head: u64,
    groups: BTreeSet<usize>,
}

struct Life {
    folder: TempDir,
    store: Arc<SingleStore>,
    models: Vec<Model>,
    watches: BTreeMap<usize, Watch>,
    sent: Vec<Sent>,
    recalled: BTreeSet<MessageId>,
}

impl Life {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for name in ["one", "two"] {
            store.save_channel(&tenant(), channel(name), Some(0)).await.unwrap();
        }
        Self {
            folder,
            store,
            models: NAMES.iter().map(|_| Model::default()).collect(),
            watches: BTreeMap::new(),
            sent: vec![],
            recalled: BTreeSet::new(),
        }
    }

    async fn deliver(&mut self, to: Audience, receivers: impl Fn(usize, &Model) -> bool) {
        let name = format!("m{}", self.sent.len());
        let sent = sent(&self.store, &self.folder, to, &name).await;
        for (at, model) in self.models.iter_mut().enumerate() {
            if receivers(at, model) {
                model.known = true;
                model.messages.push(sent.id.clone());
                model.head += 1;
            }
        }
        self.sent.push(sent);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Members { channel, join, leave } => {
                let name = |at: &usize| NAMES[*at].parse().unwrap();
                let (joining, leaving) =
                    (join.iter().map(name).collect(), leave.iter().map(name).collect());
                let room = id(["one", "two"][channel]);
                self.store.change_members(&tenant(), &room, joining, leaving).await.unwrap();
                for at in join {
                    if !leave.contains(&at) {
                        self.models[at].known = true;
                        self.models[at].groups.insert(channel);
                    }
                }
                for at in leave {
                    self.models[at].groups.remove(&channel);
                }
            }
            Step::Remake { channel: at } => {
                let name = ["one", "two"][at];
                self.store.delete_channel(&tenant(), &id(name)).await.unwrap();
                self.store.save_channel(&tenant(), channel(name), Some(0)).await.unwrap();
                for model in &mut self.models {
                    model.groups.remove(&at);
                }
            }
            Step::Role { user, carries } => {
                let roles = if carries { vec!["dev".parse().unwrap()] } else { vec![] };
                let change = UserChange { added_roles: Some(roles), department: None };
                self.store.change_user(&key(NAMES[user]), change).await.unwrap();
                self.models[user].known = true;
                if carries {
                    self.models[user].groups.insert(2);
                } else {
                    self.models[user].groups.remove(&2);
                }
            }
            Step::Send { users, groups: to } if !users.is_empty() || !to.is_empty() => {
                let all = groups();
                let audience = Audience::Some {
                    users: users.iter().map(|at| NAMES[*at].parse().unwrap()).collect(),
                    groups: to.iter().map(|at| all[*at].clone()).collect(),
                };
                self.deliver(audience, |at, model| {
                    users.contains(&at) || !model.groups.is_disjoint(&to)
                })
                .await;
            }
            Step::Send { .. } => {}
            Step::Everyone => self.deliver(Audience::Everyone, |_, model| model.known).await,
            Step::Rewrite { which, recall } if !self.sent.is_empty() => {
                let target = which.get(&self.sent).clone();
                if self.recalled.contains(&target.id) {
                    return;
                }
                rewrite(&self.store, &target, recall).await;
                if recall {
                    self.recalled.insert(target.id.clone());
                }
                for model in &mut self.models {
                    model.head += u64::from(model.messages.contains(&target.id));
                }
            }
            Step::Rewrite { .. } => {}
            Step::Look { user } => {
                assert_eq!(head(&self.store, NAMES[user]).await, self.models[user].head);
            }
            Step::List { user } => self.compare(user).await,
            Step::Watch { user } => {
                let watch = self.store.watch(&key(NAMES[user])).await.unwrap();
                assert_eq!(watch.head.seq, Seq(self.models[user].head));
                self.models[user].known = true;
                self.watches.insert(user, watch);
            }
            Step::Unwatch { user } => {
                self.watches.remove(&user);
            }
            Step::Sweep => sweep(&self.store),
            Step::Flush => self.store.shared.flush().unwrap(),
            Step::Reopen => {
                self.watches.clear();
                self.store.close().await;
                self.store = open(&self.folder);
            }
            Step::Kill => {
                self.watches.clear();
                self.folder = killed(&self.folder);
                self.store = open(&self.folder);
            }
        }
    }

    async fn compare(&self, at: usize) {
        let (name, model) = (NAMES[at], &self.models[at]);
        assert_eq!(head(&self.store, name).await, model.head, "{name}");
        let expected: Vec<String> = model.messages.iter().map(ToString::to_string).collect();
        assert_eq!(received(&self.store, name).await, expected, "{name}");
    }
}

#[test]
fn a_random_life_with_rewrites_is_like_the_model() {
    let cases = std::env::var("MODEL_CASES").map_or(60, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&vec(step(), 1..80), |steps| {
        runtime.block_on(async {
            let mut life = Life::new().await;
            for step in steps {
                life.step(step).await;
            }
            for at in 0..NAMES.len() {
                life.compare(at).await;
            }
        });
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
