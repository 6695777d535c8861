//! The way by one server: two connections, one to publish and one to listen, and the proof that what is
//! published arrives.
//!
//! Both are given up together, whichever fails: then everything is subscribed to anew, confirmed, and a
//! ping must come back, before the link is up again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::Histogram;
use parking_lot::Mutex;
use rand::RngExt;
use redis::{Pipeline, Value, aio::MultiplexedConnection};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    State,
    address::Server,
    connect::{Trouble, must_be_primary, passes},
    listener::Listener,
    metrics::Drop as Dropped,
    node::Node,
    outgoing::{Batch, Message, Outgoing, TRIES_MAX},
    receive,
    topic::Topic,
};

/// First and longest pause between two attempts to connect; each is drawn from its second half.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How often the server is asked whether it is still a primary, and sentinels whether it is still theirs: one
/// that was cut off from them, or stood still while they chose another, still answers pings, and nodes that
/// stay with it do not hear those that have left.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Where a link goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Wherever the address says at the moment.
    Located,
    /// To this primary of a cluster.
    Primary(Server),
}

/// A link.
pub(super) struct Link {
    pub(super) id: u32,
    place: Place,
    /// Of a cluster: subscriptions and messages are sharded.
    pub(super) sharded: bool,
    pub(super) outgoing: Outgoing,
    /// Ends it when its server has nothing of ours any more.
    pub(super) stop: CancellationToken,
    state: Mutex<(State, Option<String>)>,
    pub(super) soon: Mutex<Vec<Topic>>,
    pub(super) moved: AtomicBool,
    pub(super) broken: AtomicU64,
    pub(super) wake: Notify,
    pub(super) ping: Mutex<Ping>,
}

/// The ping that is under way.
#[derive(Default)]
pub(super) struct Ping {
    pub(super) count: u64,
    pub(super) sent: Option<Instant>,
    /// How long the latest one took.
    took: Duration,
}

impl Link {
    pub(super) fn new(id: u32, place: Place) -> Arc<Self> {
        Arc::new(Self {
            id,
            sharded: matches!(place, Place::Primary(_)),
            place,
            outgoing: Outgoing::default(),
            stop: CancellationToken::new(),
            state: Mutex::new((State::Connecting, None)),
            soon: Mutex::default(),
            moved: AtomicBool::new(false),
            broken: AtomicU64::new(0),
            wake: Notify::new(),
            ping: Mutex::default(),
        })
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn state(&self) -> (State, Option<String>) {
        self.state.lock().clone()
    }

    /// Subscribes to one more topic, as soon as it can. What is asked for while there is no connection is
    /// found among [`super::interest::Interests::missing`].
    pub(super) fn subscribe_soon(&self, topic: Topic) {
        if self.state.lock().0 <= State::Doubtful {
            self.soon.lock().push(topic);
            self.wake.notify_one();
        }
    }

    /// Subscriptions have to be looked through: partitions came or went.
    pub(super) fn has_moved(&self) {
        self.moved.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn broken(&self, connection: u64) {
        self.broken.store(connection, Ordering::Release);
        self.wake.notify_one();
    }

    /// A ping has come back.
    pub(super) fn pong(&self, count: u64, round_trip: &Histogram) {
        let mut ping = self.ping.lock();
        if count == ping.count
            && let Some(sent) = ping.sent.take()
        {
            ping.took = sent.elapsed();
            round_trip.record(ping.took);
            drop(ping);
            self.wake.notify_one();
        }
    }

    /// How long what is published is on its way, by the latest ping: that goes from this node through the server
    /// to this node, so what others publish takes about as long. Nothing before the first.
    pub(super) fn way(&self) -> Duration {
        self.ping.lock().took
    }

    /// Keeps the link up for ever.
    pub(super) async fn run(self: Arc<Self>, node: Arc<Node>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = node.shutdown.cancelled() => {}
            () = self.keep_up(&node) => {}
        }
    }

    async fn keep_up(self: &Arc<Self>, node: &Arc<Node>) {
        let mut pause = RECONNECT_MIN;
        loop {
            let connection = node.next_connection();
            let trouble = self.serve(node, connection).await;
            node.interests.lost(connection);
            node.metrics.reconnects(trouble.kind).increment(1);
            if self.state().0 == State::Up {
                pause = RECONNECT_MIN;
            }
            self.set(node, State::Down, Some(trouble.why));
            node.look_again.notify_one();
            let drawn = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(drawn).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    pub(super) fn set(&self, node: &Node, state: State, why: Option<String>) {
        let why = why.map(|why| match &self.place {
            Place::Primary(server) => format!("{server}: {why}"),
            Place::Located => why,
        });
        *self.state.lock() = (state, why);
        node.judge();
    }

    /// From the connections to their end.
    async fn serve(self: &Arc<Self>, node: &Arc<Node>, connection: u64) -> Trouble {
        let opened = async {
            let server = match &self.place {
                Place::Located => node.connector.locate().await?,
                Place::Primary(server) => server.clone(),
            };
            let hear = {
                let (node, link) = (Arc::clone(node), Arc::clone(self));
                move |push| receive::hear(&node, &link, connection, &push)
            };
            let both = async {
                let mut publisher = node.connector.connect(&server).await?;
                if !self.sharded {
                    must_be_primary(&mut publisher).await?;
                }
                let listener = node.connector.listen(&server, hear).await?;
                Ok::<_, Trouble>((publisher, listener))
            };
            let (publisher, listener) = both.await.map_err(|trouble| match &self.place {
                Place::Located => trouble.of(&server),
                // As everything that is said of it.
                Place::Primary(_) => trouble,
            })?;
            Ok::<_, Trouble>((server, publisher, listener))
        };
        let (server, publisher, listener) = match opened.await {
            Ok(opened) => opened,
            Err(trouble) => return trouble,
        };
        self.ping.lock().sent = None;
        // Their place in the order is lost; once the link is up the same is said in other words.
        self.outgoing.drop_once();
        let listener = Listener { link: self, node, connection, listener };
        let result = tokio::select! {
            result = self.publish(node, publisher.clone()) => result,
            // Beside the others, which must not wait for a sentinel that does not answer.
            result = self.check_place(node, publisher, &server) => result,
            result = listener.run() => result,
        };
        result.err().unwrap_or_else(|| Trouble::broken("it ended"))
    }

    /// Looks whether this is still the server to be at, for as long as it is.
    async fn check_place(
        &self,
        node: &Node,
        mut publisher: MultiplexedConnection,
        server: &Server,
    ) -> Result<(), Trouble> {
        if self.sharded {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            must_be_primary(&mut publisher).await.map_err(|trouble| trouble.of(server))?;
            // Sentinels that do not answer now are no reason to leave a server that does.
            if let Ok(now) = node.connector.locate().await
                && now != *server
            {
                return Err(Trouble::refused(format!("the primary is {now} now")));
            }
        }
    }

    /// Publishes what waits, one pipeline at a time: that keeps the order, and while one is under way the
    /// next gathers.
    async fn publish(
        &self,
        node: &Arc<Node>,
        mut connection: MultiplexedConnection,
    ) -> Result<(), Trouble> {
        let command = if self.sharded { "SPUBLISH" } else { "PUBLISH" };
        loop {
            let mut batch = self.outgoing.next().await;
            self.hand_on(node, &mut batch);
            let mut pipeline = Pipeline::with_capacity(batch.messages().len());
            for Message { topic, payload, .. } in batch.messages() {
                pipeline.cmd(command).arg(&*topic.name).arg(&payload[..]);
            }
            let count = batch.messages().len();
            if count == 0 {
                continue;
            }
            let answers = connection.send_packed_commands(&pipeline, 0, count).await?;
            self.settle(node, batch.done(), &answers)?;
        }
    }

    /// Messages of partitions that are another link's by now go there.
    fn hand_on(&self, node: &Node, batch: &mut Batch<'_>) {
        if !self.sharded {
            return;
        }
        let strangers = {
            let owners = node.owners.read();
            let ours = |message: &Message| {
                owners.of[usize::from(message.topic.partition)] == Some(self.id)
            };
            if batch.messages().iter().all(ours) {
                return;
            }
            batch.take_where(|message| !ours(message))
        };
        strangers.into_iter().for_each(|message| node.pass_on(message));
    }

    /// Sees to what the server did not take.
    fn settle(
        &self,
        node: &Node,
        messages: Vec<Message>,
        answers: &[Value],
    ) -> Result<(), Trouble> {
        let mut again = Vec::new();
        let mut trouble = None;
        for (mut message, answer) in messages.into_iter().zip(answers) {
            let Value::ServerError(error) = answer else { continue };
            message.tries += 1;
            if !passes(error.kind()) {
                trouble.get_or_insert_with(|| {
                    format!("{} {}", error.code(), error.details().unwrap_or(""))
                });
                node.count_lost(Dropped::Refused);
            } else if message.tries > TRIES_MAX {
                node.count_lost(Dropped::Refused);
            } else {
                again.push(message);
            }
        }
        if !again.is_empty() {
            node.look_again.notify_one();
            self.outgoing.retry(again);
        }
        trouble.map_or(Ok(()), |why| Err(Trouble::refused(why)))
    }
}
