//! Backends that send, edit and recall, and users that mark what they have, by any node, at any time.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::MessageId;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Api, Token,
    api::Port,
    device::Addresses,
    history::{ARCHIVED, Event, History, Op, READ, Register, UNREAD, title},
};

const SEND: &str = "/api/v3/messages/send";
const BATCH: &str = "/api/v3/messages/send-batch";

/// A client gives up on an answer after this, and does not know then.
const PATIENCE: Duration = Duration::from_secs(3);

/// A send is tried again under its key for so long: longer than any fault and what follows it.
const PERSISTENCE: Duration = Duration::from_secs(90);

/// Sent messages that a sender goes on with: edits, recalls, and its users read.
const RECENT: usize = 60;

/// The channel of each tenant that the first half of its users are in.
const CHANNEL: &str = "half";

/// Who there is. Both tenants have users of the same names.
pub(super) struct World {
    pub(super) history: Arc<History>,
    pub(super) addresses: Addresses,
    pub(super) users: usize,
    http: reqwest::Client,
    stop: AtomicBool,
}

pub(super) const TENANTS: [&str; 2] = ["default", "acme"];

impl World {
    pub(super) fn new(history: Arc<History>, addresses: Addresses, users: usize) -> Arc<Self> {
        let (http, stop) = (Api::http(), AtomicBool::new(false));
        Arc::new(Self { history, addresses, users, http, stop })
    }

    /// A person's token.
    pub(super) fn token(tenant: &str, user: &str) -> Token {
        Token::of(user).claim("tenant_id", tenant).claim("scope", json!(["read", "write"]))
    }

    /// What a person is called in the history.
    pub(super) fn inbox(tenant: &str, user: &str) -> String {
        format!("{tenant}/{user}")
    }

    /// A person.
    pub(super) fn user(n: usize) -> String {
        format!("user-{n}")
    }

    /// Everybody with an inbox that is looked at: tenant and user.
    pub(super) fn people(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let of = |tenant: &'static str| (0..self.users).map(move |n| (tenant, Self::user(n)));
        TENANTS.into_iter().flat_map(of)
    }

    /// REST for somebody, at any node.
    pub(super) fn api(&self, token: &Token) -> Api {
        Api::new(self.http.clone(), self.addresses.any(), Port::User).bearer(&token.sign())
    }

    /// Makes what senders need; all nodes are well.
    pub(super) async fn prepare(&self) {
        for tenant in TENANTS {
            let admin = self.api(&Sender::token(tenant, 0));
            let channel = json!({"id": CHANNEL, "name": CHANNEL});
            admin.post("/api/v3/channels", channel).await.ok();
            let half: Vec<_> = (0..self.users / 2).map(Self::user).collect();
            let path = format!("/api/v3/channels/{CHANNEL}/members");
            admin.post(&path, json!({"join": half})).await.ok();
        }
    }
}

/// Senders at work.
pub(super) struct Senders {
    world: Arc<World>,
    tasks: JoinSet<()>,
}

impl Senders {
    /// So many of each tenant.
    pub(super) fn spawn(world: &Arc<World>, each: usize, seed: u64, pause: Duration) -> Self {
        let mut tasks = JoinSet::new();
        for (at, tenant) in TENANTS.into_iter().enumerate() {
            for n in 0..each {
                let token = Sender::token(tenant, n);
                let sender = Sender {
                    world: Arc::clone(world),
                    tenant,
                    api: world.api(&token),
                    recent: VecDeque::new(),
                    random: StdRng::seed_from_u64(seed ^ ((at * 1_000 + n) as u64)),
                    pause,
                };
                tasks.spawn(sender.live());
            }
        }
        Self { world: Arc::clone(world), tasks }
    }

    /// Lets what runs come to its end.
    pub(super) async fn stop(mut self) {
        self.world.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.transpose().unwrap().is_some() {}
    }
}

/// A message that was sent.
#[derive(Clone)]
struct Sent {
    op: Op,
    id: String,
    /// Users it went to, by their numbers.
    users: Vec<usize>,
    edits: u64,
}

struct Sender {
    world: Arc<World>,
    tenant: &'static str,
    api: Api,
    recent: VecDeque<Sent>,
    random: StdRng,
    pause: Duration,
}

impl Sender {
    fn token(tenant: &str, n: usize) -> Token {
        World::token(tenant, &format!("sender-{n}")).claim("roles", json!(["system_admin"]))
    }

    async fn live(mut self) {
        while !self.world.stop.load(Ordering::Relaxed) {
            match self.random.random_range(0..100) {
                0..45 => self.send_to_some().await,
                45..55 => self.send_batch().await,
                55..62 => self.send_to_channel().await,
                62..64 => self.send_to_all().await,
                64..90 => self.mark().await,
                90..96 => self.edit().await,
                _ => self.recall().await,
            }
            if !self.pause.is_zero() {
                let pause = self.random.random_range(Duration::ZERO..self.pause * 2);
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn send_to_some(&mut self) {
        let mut users: Vec<usize> = (0..self.random.random_range(1..=3))
            .map(|_| self.random.random_range(0..self.world.users))
            .collect();
        users.sort_unstable();
        users.dedup();
        let names: Vec<String> = users.iter().map(|user| World::user(*user)).collect();
        self.send(users, json!({"recipients": names, "recipient_type": "user"})).await;
    }

    async fn send_to_channel(&mut self) {
        let users = (0..self.world.users / 2).collect();
        self.send(users, json!({"recipients": [CHANNEL], "recipient_type": "channel"})).await;
    }

    async fn send_to_all(&mut self) {
        let users = (0..self.world.users).collect();
        self.send(users, json!({"recipients": [], "recipient_type": "all"})).await;
    }

    async fn send_batch(&mut self) {
        let users: Vec<usize> = (0..self.random.random_range(2..=5))
            .map(|_| self.random.random_range(0..self.world.users))
            .collect();
        let ops: Vec<Op> = users.iter().map(|user| self.begin(&[*user])).collect();
        let messages: Vec<Value> = ops
            .iter()
            .zip(&users)
            .map(|(op, user)| {
                self.message(
                    *op,
                    &json!({"recipients": [World::user(*user)], "recipient_type": "user"}),
                )
            })
            .collect();
        match self.until_answered(BATCH, ops[0], json!({"messages": messages})).await {
            Outcome::Done(data) => {
                for (at, (op, user)) in ops.into_iter().zip(users).enumerate() {
                    let result = &data["results"][at];
                    match result["code"].as_u64() {
                        Some(200) => self.acked(op, vec![user], &result["message_id"]),
                        Some(400..500) => self.world.history.note(Event::Refused { op }),
                        _ => {}
                    }
                }
            }
            Outcome::Refused(_) => {
                ops.into_iter().for_each(|op| self.world.history.note(Event::Refused { op }));
            }
            Outcome::Unknown => {}
        }
    }

    async fn send(&mut self, users: Vec<usize>, to: Value) {
        let op = self.begin(&users);
        let message = self.message(op, &to);
        match self.until_answered(SEND, op, message).await {
            Outcome::Done(data) => self.acked(op, users, &data["message_id"]),
            Outcome::Refused(why) => {
                // Nothing that is sent here is wrong.
                panic!("{} refused: {why}", title(op));
            }
            Outcome::Unknown => {}
        }
    }

    fn begin(&self, users: &[usize]) -> Op {
        let op = self.world.history.op();
        let users = users.iter().map(|user| World::inbox(self.tenant, &World::user(*user)));
        self.world.history.note(Event::Send { op, users: users.collect() });
        op
    }

    fn acked(&mut self, op: Op, users: Vec<usize>, id: &Value) {
        let id = id.as_str().expect("message_id").to_owned();
        let message = Some(self.world.history.message(&MessageId::new(&id).unwrap()));
        self.world.history.note(Event::Acked { op, message });
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Sent { op, id, users, edits: 0 });
    }

    fn message(&mut self, op: Op, to: &Value) -> Value {
        let mut message = json!({
            "title": title(op), "content": text(0, self.random.random_range(0..300)), "message_type": "text",
        });
        message.as_object_mut().unwrap().extend(to.as_object().unwrap().clone());
        message
    }

    /// Sends it by any node, again and again under one key, until it is known what became of it. Some clients
    /// are impatient, and some ask two nodes at once.
    async fn until_answered(&mut self, path: &str, op: Op, body: Value) -> Outcome {
        let api = self.api.key(&format!("key-{op}"));
        let began = Instant::now();
        let mut patience = PATIENCE;
        if self.random.random_ratio(1, 8) {
            patience =
                self.random.random_range(Duration::from_millis(1)..Duration::from_millis(40));
        }
        let twice = self.random.random_ratio(1, 16);
        loop {
            let ask = || ask(&api, &self.world.addresses, path, &body, patience);
            let outcome = if twice {
                let (one, other) = tokio::join!(ask(), ask());
                one.or(other)
            } else {
                ask().await
            };
            if !matches!(outcome, Outcome::Unknown) || began.elapsed() > PERSISTENCE {
                return outcome;
            }
            patience = PATIENCE;
            let pause =
                self.random.random_range(Duration::from_millis(10)..Duration::from_millis(150));
            tokio::time::sleep(pause).await;
        }
    }

    /// Any recent message, and its place.
    fn any_recent(&mut self) -> Option<usize> {
        let count = self.recent.len();
        (count > 0).then(|| self.random.random_range(0..count))
    }

    /// A user does something with a message.
    async fn mark(&mut self) {
        let Some(at) = self.any_recent() else { return };
        let sent = self.recent[at].clone();
        let user = World::user(sent.users[self.random.random_range(0..sent.users.len())]);
        let (verb, value) = match self.random.random_range(0..10) {
            0..6 => ("read", READ),
            6..9 => ("unread", UNREAD),
            _ => ("archive", ARCHIVED),
        };
        let register = Register::Mark { user: World::inbox(self.tenant, &user), op: sent.op };
        let api = self.world.api(&World::token(self.tenant, &user));
        let path = format!("/api/v3/messages/{}/{verb}", sent.id);
        if verb == "read" && self.random.random_ratio(1, 4) {
            let batch = json!({"message_ids": [sent.id]});
            self.write(register, value, &api, Method::POST, "/api/v3/messages/read-batch", batch)
                .await;
        } else {
            self.write(register, value, &api, Method::POST, &path, json!({})).await;
        }
    }

    async fn edit(&mut self) {
        let Some(at) = self.any_recent() else { return };
        self.recent[at].edits += 1;
        let Sent { op, id, edits, .. } = self.recent[at].clone();
        let body = json!({"content": text(edits, 20)});
        let api = self.api.moved_to(self.world.addresses.any());
        let path = format!("/api/v3/messages/{id}");
        self.write(Register::Text { op }, edits, &api, Method::PUT, &path, body).await;
    }

    async fn recall(&mut self) {
        let Some(at) = self.any_recent() else { return };
        let Some(Sent { op, id, .. }) = self.recent.remove(at) else { return };
        let api = self.api.moved_to(self.world.addresses.any());
        let path = format!("/api/v3/messages/{id}/recall");
        self.write(Register::Recall { op }, 1, &api, Method::POST, &path, json!({})).await;
    }

    /// Tries it once.
    async fn write(
        &self,
        register: Register,
        value: u64,
        api: &Api,
        method: Method,
        path: &str,
        body: Value,
    ) {
        let history = &self.world.history;
        let write = history.write(register, value);
        match tokio::time::timeout(PATIENCE, api.try_call(method, path, Some(body))).await {
            Ok(Ok(answer)) if answer.status == 200 => history.note(Event::Written { write }),
            Ok(Ok(answer)) if answer.status < 500 => history.note(Event::NotWritten { write }),
            _ => {}
        }
    }
}

/// What became of a send.
enum Outcome {
    Done(Value),
    Refused(String),
    Unknown,
}

impl Outcome {
    fn or(self, other: Self) -> Self {
        if matches!(self, Self::Unknown) { other } else { self }
    }
}

async fn ask(
    api: &Api,
    addresses: &Addresses,
    path: &str,
    body: &Value,
    patience: Duration,
) -> Outcome {
    let api = api.moved_to(addresses.any());
    let asked = api.try_call(Method::POST, path, Some(body.clone()));
    let Ok(Ok(answer)) = tokio::time::timeout(patience, asked).await else {
        return Outcome::Unknown;
    };
    match answer.status {
        200 => Outcome::Done(answer.ok()),
        // It runs, or the node has too much to do: not for good.
        409 | 429 | 500.. => Outcome::Unknown,
        _ => Outcome::Refused(answer.body.to_string()),
    }
}

/// What the nth edit says.
fn text(edit: u64, filler: usize) -> String {
    format!("{edit} {}", "x".repeat(filler))
}

/// Which edit says this.
pub(super) fn edit_of(text: &str) -> u64 {
    text.split(' ').next().and_then(|edit| edit.parse().ok()).unwrap_or(u64::MAX)
}
