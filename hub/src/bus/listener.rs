//! The listening half of a link: subscriptions, each confirmed, and pings, each of which must come back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use delivery::InboxKey;
use protocol::envelope::{Envelope, Event};
use redis::{Pipeline, Value, aio::MultiplexedConnection};

use super::{
    Doubt, State,
    connect::{Trouble, passes},
    link::Link,
    node::Node,
    outgoing::{Class, Message},
    topic::Topic,
};

/// How often a node proves to itself that what it publishes arrives.
const PING_EVERY: Duration = Duration::from_secs(1);

/// After this long a ping is lost and the link wedged. With [`PING_EVERY`] and a [`TICK`] before each look a
/// silent server is noticed within four and a half seconds.
const PONG_WITHIN: Duration = Duration::from_secs(3);

/// How often the times above are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How often topics are given up that nobody needs any more.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Topics in one pipeline: what Redis does in some two milliseconds, so that publishers do not wait for a
/// node that comes back with ten thousand.
const SUBSCRIBE_BATCH: usize = 512;

/// How often subscriptions are asked for that the server did not confirm (their slot is moving).
const SUBSCRIBE_TRIES: u32 = 20;

/// Pause between two of these.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// The listening side of a link while it is connected.
pub(super) struct Listener<'a> {
    pub(super) link: &'a Arc<Link>,
    pub(super) node: &'a Arc<Node>,
    pub(super) connection: u64,
    pub(super) listener: MultiplexedConnection,
}

impl Listener<'_> {
    /// Until the link has to be given up.
    pub(super) async fn run(mut self) -> Result<(), Trouble> {
        self.prove().await?;
        self.up();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut pinged, mut forgot) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.link.wake.notified() => {}
            }
            self.check_broken()?;
            let now = Instant::now();
            self.check_pong(now)?;
            if now - pinged >= PING_EVERY && self.link.ping.lock().sent.is_none() {
                pinged = now;
                self.ping();
            }
            let soon = std::mem::take(&mut *self.link.soon.lock());
            if !soon.is_empty() {
                self.subscribe(&soon).await?;
            }
            if self.link.moved.swap(false, Ordering::AcqRel) {
                self.follow().await?;
            }
            if now - forgot >= FORGET_EVERY {
                forgot = now;
                let topics = self.node.interests.forget(self.connection, now);
                self.command(
                    if self.link.sharded { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" },
                    &topics,
                )
                .await?;
            }
        }
    }

    /// Subscribes to everything, each confirmed, and has a ping come back.
    async fn prove(&mut self) -> Result<(), Trouble> {
        self.link.set(self.node, State::Doubtful, Some("subscribing".to_owned()));
        self.link.moved.store(false, Ordering::Release);
        self.link.soon.lock().clear();
        let count = self.subscribe_missing().await?;
        self.node.metrics.resubscribed.increment(count);
        self.prove_ping().await
    }

    async fn prove_ping(&mut self) -> Result<(), Trouble> {
        if let Some(own) = self.own_topic() {
            self.command(if self.link.sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" }, &[own])
                .await?;
            self.ping();
            while self.link.ping.lock().sent.is_some() {
                tokio::time::timeout(TICK, self.link.wake.notified()).await.ok();
                self.check_broken()?;
                self.check_pong(Instant::now())?;
            }
        }
        Ok(())
    }

    /// The link is up: what was meanwhile is in doubt, and what others should know of this node is said
    /// again.
    fn up(&self) {
        let node = self.node;
        let owned = |partition| self.owns(partition);
        node.was_deaf(owned(node.topics.control().partition));
        self.link.set(node, State::Up, None);
        node.doubt(Doubt::Back);
        if owned(node.topics.control().partition) {
            node.say(&node.topics.control(), Event::Hello(node.facts()), Class::Word);
        }
        for words in node.devices.again(|inbox| owned(node.topics.inbox(inbox).partition)) {
            let inbox = InboxKey::new(words.tenant.clone(), words.user.clone());
            node.say(&node.topics.inbox(&inbox), Event::Connected(words), Class::Change);
        }
        for (tenant, channel) in node.channels_in_view(owned) {
            node.tell_presence(&tenant, &channel);
            node.ask_presence(&tenant, &channel);
        }
    }

    /// Partitions came or went.
    async fn follow(&mut self) -> Result<(), Trouble> {
        self.node.look_again.notify_one();
        let owned = |partition| self.owns(partition);
        if !self.node.interests.missing(self.connection, owned).is_empty() {
            self.link.set(self.node, State::Doubtful, Some("slots have moved".to_owned()));
        }
        let count = self.subscribe_missing().await?;
        self.prove_ping().await?;
        self.link.set(self.node, State::Up, None);
        if count > 0 {
            self.node.metrics.resubscribed.increment(count);
            self.node.doubt(Doubt::Moved);
        }
        Ok(())
    }

    async fn subscribe_missing(&mut self) -> Result<u64, Trouble> {
        let mut count = 0;
        for attempt in 0.. {
            let owned = |partition| self.owns(partition);
            let missing = self.node.interests.missing(self.connection, owned);
            if missing.is_empty() {
                return Ok(count);
            }
            if attempt == SUBSCRIBE_TRIES {
                let why = format!("{} subscriptions were not confirmed", missing.len());
                return Err(Trouble::refused(why));
            }
            if attempt > 0 {
                tokio::time::sleep(SUBSCRIBE_PAUSE).await;
            }
            count = count.max(missing.len() as u64);
            self.subscribe(&missing).await?;
        }
        Ok(count)
    }

    async fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Trouble> {
        self.command(if self.link.sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" }, topics).await
    }

    /// One command per topic: Redis Cluster refuses one with topics of two slots, as a whole.
    async fn command(&mut self, command: &str, topics: &[Topic]) -> Result<(), Trouble> {
        for topics in topics.chunks(SUBSCRIBE_BATCH) {
            let mut pipeline = Pipeline::with_capacity(topics.len());
            for topic in topics {
                pipeline.cmd(command).arg(&*topic.name);
            }
            let answers = self.listener.send_packed_commands(&pipeline, 0, topics.len()).await?;
            for answer in answers {
                let Value::ServerError(error) = answer else { continue };
                if !passes(error.kind()) {
                    let why = format!("{} {}", error.code(), error.details().unwrap_or(""));
                    return Err(Trouble::refused(why));
                }
                // The partition is another server's. It stays missing until that is known here.
                self.node.look_again.notify_one();
                self.link.moved.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    fn owns(&self, partition: u16) -> bool {
        self.node.owners.read().of[usize::from(partition)] == Some(self.link.id)
    }

    /// A topic of this node on this server; none if the server has no partition any more.
    fn own_topic(&self) -> Option<Topic> {
        let owners = self.node.owners.read();
        let first = owners.of.iter().position(|owner| *owner == Some(self.link.id))?;
        let partition = u16::try_from(first).expect("there are fewer partitions");
        Some(self.node.topics.own(partition, self.node.epoch, self.link.id))
    }

    fn ping(&self) {
        let Some(topic) = self.own_topic() else { return };
        let count = {
            let mut ping = self.link.ping.lock();
            ping.count += 1;
            ping.sent = Some(Instant::now());
            ping.count
        };
        let event = Event::Ping { count };
        let payload = Envelope { sender: self.node.epoch, number: 0, event }.encode();
        self.link.outgoing.ping(Message { topic, payload, class: Class::Once, tries: 0 });
    }

    fn check_broken(&self) -> Result<(), Trouble> {
        if self.link.broken.load(Ordering::Acquire) == self.connection {
            return Err(Trouble::broken("the connection broke"));
        }
        Ok(())
    }

    fn check_pong(&self, now: Instant) -> Result<(), Trouble> {
        match self.link.ping.lock().sent {
            Some(sent) if now.saturating_duration_since(sent) >= PONG_WITHIN => {
                Err(Trouble::silent("what is published does not come back"))
            }
            _ => Ok(()),
        }
    }
}
