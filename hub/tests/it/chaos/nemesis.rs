//! Who harms a site: one fault at a time, each of which ends.

use std::time::{Duration, Instant};

use rand::{RngExt as _, rngs::StdRng};
use servers::{Exhausted, Redis};

use super::site::{Bus, Form, Site, health, name};
use crate::support::{SOON, eventually_within};

/// A silent bus is noticed within this (issue figure).
pub(super) const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// How long Sentinel or Redis Cluster may take to agree that somebody is dead and who follows.
const FAILOVER: Duration = Duration::from_secs(40);

/// How a site is harmed. What is of one node is of one that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fault {
    /// `kill -9` of a node, which is started again.
    NodeKilled,
    /// `SIGSTOP` of a node.
    NodeFrozen,
    /// `SIGTERM` of a node, which is started again.
    NodeRestarted,
    /// `kill -9` of Redis, which comes back empty.
    RedisKilled,
    /// `SIGSTOP` of Redis.
    RedisFrozen,
    /// What nodes and Redis say to each other is swallowed.
    RedisSilent,
    /// The same for one node.
    NodeDeaf,
    /// Connections to Redis break.
    RedisCut,
    /// `CLIENT KILL TYPE pubsub`.
    SubscribersKilled,
    /// `FLUSHALL`.
    RedisFlushed,
    /// The primary dies and its sentinels choose another one.
    SentinelFailover,
    /// The primary of a third of all slots dies and its replica takes them over.
    SlotFailover,
    /// A primary stands still until another one is in its place, and goes on as if it were still one.
    PrimaryFrozen,
    /// `kill -9` of PostgreSQL.
    PostgresKilled,
    /// `SIGSTOP` of PostgreSQL.
    PostgresFrozen,
    /// PostgreSQL is stopped and started in order.
    PostgresRestarted,
    /// Nothing of what a node and PostgreSQL say to each other gets through, until it all does.
    PostgresHeld,
    /// What a node and PostgreSQL say to each other is swallowed, and connections of which something was stay
    /// silent when it is over.
    PostgresSilent,
    /// A node's connections to PostgreSQL break, at any place.
    PostgresCut,
    /// There are no connections to PostgreSQL to be had.
    PostgresExhausted,
}

impl Fault {
    pub(super) const OF_NODES: [Self; 3] =
        [Self::NodeKilled, Self::NodeFrozen, Self::NodeRestarted];

    pub(super) const OF_REDIS: [Self; 7] = [
        Self::RedisSilent,
        Self::RedisKilled,
        Self::SubscribersKilled,
        Self::NodeDeaf,
        Self::RedisFlushed,
        Self::RedisFrozen,
        Self::RedisCut,
    ];

    pub(super) const OF_SENTINELS: [Self; 3] =
        [Self::SentinelFailover, Self::SubscribersKilled, Self::PrimaryFrozen];

    pub(super) const OF_REDIS_CLUSTER: [Self; 4] =
        [Self::SlotFailover, Self::SubscribersKilled, Self::PrimaryFrozen, Self::RedisFlushed];

    pub(super) const OF_POSTGRES: [Self; 7] = [
        Self::PostgresKilled,
        Self::PostgresExhausted,
        Self::PostgresHeld,
        Self::PostgresSilent,
        Self::PostgresRestarted,
        Self::PostgresCut,
        Self::PostgresFrozen,
    ];

    /// All that can happen where Redis has this form.
    pub(super) fn of(form: Form) -> Vec<Self> {
        let redis: &[Self] = match form {
            Form::Single => &Self::OF_REDIS,
            Form::Sentinel => &Self::OF_SENTINELS,
            Form::Cluster => &Self::OF_REDIS_CLUSTER,
        };
        [&Self::OF_NODES[..], redis, &Self::OF_POSTGRES].concat()
    }

    /// Whether only the way between nodes is harmed, so that everything is stored meanwhile.
    pub(super) fn is_of_redis(self) -> bool {
        Self::OF_REDIS.contains(&self)
            || Self::OF_SENTINELS.contains(&self)
            || Self::OF_REDIS_CLUSTER.contains(&self)
    }

    /// Whether one node alone feels it.
    pub(super) fn is_of_one_node(self) -> bool {
        Self::OF_NODES.contains(&self)
            || matches!(
                self,
                Self::NodeDeaf | Self::PostgresHeld | Self::PostgresSilent | Self::PostgresCut
            )
    }

    /// Whose bus it silences.
    const fn silences(self) -> Silences {
        match self {
            Self::RedisKilled | Self::RedisFrozen | Self::RedisSilent => Silences::All,
            Self::NodeDeaf => Silences::Victim,
            _ => Silences::Nobody,
        }
    }

    /// Whether it is over at once, and what follows is the recovery.
    const fn is_a_blow(self) -> bool {
        matches!(
            self,
            Self::RedisCut | Self::SubscribersKilled | Self::RedisFlushed | Self::PostgresCut
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Silences {
    All,
    Victim,
    Nobody,
}

/// What a fault did.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    pub(super) fault: Fault,
    /// A node's name, where it was about a node.
    pub(super) victim: String,
    /// When it began and ended, by the history's clock.
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    /// From its begin until every node that is concerned said that the bus is not well.
    pub(super) noticed: Option<Duration>,
    /// From its end until all nodes were ready and heard each other.
    pub(super) recovered: Duration,
    /// From its end until every device had what had been stored by then.
    pub(super) caught_up: Duration,
}

/// A fault that has begun.
pub(super) struct Harm {
    fault: Fault,
    victim: usize,
    exhausted: Option<Exhausted>,
}

impl Harm {
    /// Begins.
    pub(super) async fn begin(site: &mut Site, fault: Fault, random: &mut StdRng) -> Self {
        let victim = random.random_range(0..site.nodes.len());
        let mut exhausted = None;
        match fault {
            Fault::NodeKilled => {
                site.keep_words(victim);
                site.nodes[victim].kill_9().await;
            }
            Fault::NodeFrozen => site.nodes[victim].freeze().await,
            Fault::NodeRestarted => {
                let ended = site.nodes[victim].terminate().await;
                site.keep_words(victim);
                assert!(ended.success(), "{} ended with {ended}", name(victim));
            }
            Fault::SubscribersKilled => site.bus.everywhere(&["CLIENT", "KILL", "TYPE", "pubsub"]),
            Fault::RedisFlushed => site.bus.everywhere(&["FLUSHALL"]),
            Fault::RedisKilled
            | Fault::RedisFrozen
            | Fault::RedisSilent
            | Fault::NodeDeaf
            | Fault::RedisCut => begin_single(&mut site.bus, fault, victim),
            Fault::SentinelFailover | Fault::SlotFailover => {
                site.bus.replace_primary(Redis::kill).await;
            }
            Fault::PrimaryFrozen => site.bus.replace_primary(|primary| primary.freeze()).await,
            Fault::PostgresKilled => site.postgres.kill(),
            Fault::PostgresFrozen => site.postgres.freeze(),
            Fault::PostgresRestarted => site.postgres.stop(),
            Fault::PostgresHeld => site.ways[victim].hold(true),
            Fault::PostgresSilent => site.ways[victim].silence(true),
            Fault::PostgresCut => site.ways[victim].cut(),
            Fault::PostgresExhausted => exhausted = Some(site.postgres.exhaust()),
        }
        Self { fault, victim, exhausted }
    }

    /// Whom it is about.
    pub(super) fn victim(&self) -> String {
        name(self.victim)
    }

    /// Lets it last: so long, and until it is noticed where it has to be. How long that took.
    pub(super) async fn last(&self, site: &Site, lasting: Duration) -> Option<Duration> {
        let began = Instant::now();
        let concerned = match self.fault.silences() {
            Silences::All => &site.nodes[..],
            Silences::Victim => &site.nodes[self.victim..=self.victim],
            Silences::Nobody => &[],
        };
        let mut noticed = None;
        for node in concerned {
            let not_up = async || health(node).await.is_some_and(|(_, bus)| bus != "up");
            let what = format!("{:?} is noticed", self.fault);
            eventually_within(&what, SOON, || async { not_up().await.then_some(()) }).await;
            noticed = Some(began.elapsed());
        }
        if !self.fault.is_a_blow() {
            tokio::time::sleep(lasting.saturating_sub(began.elapsed())).await;
        }
        noticed
    }

    /// Ends it: whoever is away is there again.
    pub(super) async fn end(self, site: &mut Site) {
        match self.fault {
            Fault::NodeKilled | Fault::NodeRestarted => site.start_again(self.victim).await,
            Fault::NodeFrozen => site.nodes[self.victim].signal(libc::SIGCONT),
            Fault::PostgresKilled | Fault::PostgresRestarted => site.postgres.start_again(),
            Fault::PostgresFrozen => site.postgres.thaw(),
            Fault::PostgresHeld => site.ways[self.victim].hold(false),
            Fault::PostgresSilent => site.ways[self.victim].silence(false),
            Fault::PostgresExhausted => drop(self.exhausted),
            Fault::SentinelFailover | Fault::SlotFailover => {
                // That it is a replica now others will tell it.
                site.bus.replaced().restart().await;
            }
            Fault::PrimaryFrozen => site.bus.replaced().thaw(),
            Fault::RedisKilled | Fault::RedisFrozen | Fault::RedisSilent | Fault::NodeDeaf => {
                end_single(&mut site.bus, self.fault, self.victim).await;
            }
            Fault::RedisCut
            | Fault::SubscribersKilled
            | Fault::RedisFlushed
            | Fault::PostgresCut => {}
        }
    }
}

fn begin_single(bus: &mut Bus, fault: Fault, victim: usize) {
    let Bus::Single { redis, proxies } = bus else { panic!("{fault:?} is of a single server") };
    match fault {
        Fault::RedisKilled => redis.kill(),
        Fault::RedisFrozen => redis.freeze(),
        Fault::RedisSilent => proxies.iter().for_each(|proxy| proxy.swallow(true)),
        Fault::NodeDeaf => proxies[victim].swallow(true),
        _ => proxies.iter().for_each(servers::Proxy::cut),
    }
}

async fn end_single(bus: &mut Bus, fault: Fault, victim: usize) {
    let Bus::Single { redis, proxies } = bus else { panic!("{fault:?} is of a single server") };
    match fault {
        Fault::RedisKilled => redis.restart().await,
        Fault::RedisFrozen => redis.thaw(),
        Fault::NodeDeaf => proxies[victim].swallow(false),
        _ => proxies.iter().for_each(|proxy| proxy.swallow(false)),
    }
}

impl Bus {
    /// Gives a command to every server that takes it.
    fn everywhere(&self, words: &[&str]) {
        match self {
            Self::Single { redis, .. } => drop(redis.command(words)),
            Self::Sentinel { primary, replica, .. } => {
                primary.command(words);
                replica.command(words);
            }
            Self::Cluster(cluster) => cluster.servers.iter().for_each(|server| {
                server.command(words);
            }),
        }
    }

    /// The two that stand for each other.
    fn pair(&mut self) -> (&mut Redis, &mut Redis) {
        match self {
            Self::Single { .. } => panic!("one server has nobody to stand for it"),
            Self::Sentinel { primary, replica, .. } => (primary, replica),
            Self::Cluster(cluster) => {
                let (first, rest) = cluster.servers.split_at_mut(3);
                (&mut first[0], &mut rest[0])
            }
        }
    }

    /// Harms the one that is primary, and waits until the other one is.
    async fn replace_primary(&mut self, harm: impl FnOnce(&mut Redis)) {
        let (one, two) = self.pair();
        // One that was thawed or came back takes itself for a primary until sentinels have told it.
        servers::eventually("one follows the other", FAILOVER, || {
            (is_primary(one) && follows(two)) || (is_primary(two) && follows(one))
        })
        .await;
        let (primary, other) = if follows(two) { (one, two) } else { (two, one) };
        harm(primary);
        servers::eventually("another primary is chosen", FAILOVER, || is_primary(other)).await;
    }

    /// The one that was harmed, and does not answer.
    fn replaced(&mut self) -> &mut Redis {
        let (one, two) = self.pair();
        if is_primary(one) { two } else { one }
    }
}

fn is_primary(server: &Redis) -> bool {
    server.try_command(&["ROLE"]).is_some_and(|role| role.contains("master"))
}

/// A replica that has what its primary has.
fn follows(server: &Redis) -> bool {
    let state = server.try_command(&["INFO", "replication"]).unwrap_or_default();
    state.contains("role:slave") && state.contains("master_link_status:up")
}
