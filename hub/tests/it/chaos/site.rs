//! Nodes on a PostgreSQL and a Redis of their own.

use std::time::Duration;

use reqwest::Method;
use servers::{Postgres, Proxy, Redis, RedisCluster};

use crate::support::{Cluster, TestServer, device::Addresses, eventually_within, server::Builder};

/// How long a node may take to be ready, with everything else well: what it needs itself, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// In what form there is Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One server; each node reaches it through a proxy of its own.
    Single,
    /// A primary, a replica, and a sentinel.
    Sentinel,
    /// Three primaries, one of which has a replica.
    Cluster,
}

/// The servers of a form.
#[expect(clippy::large_enum_variant, reason = "there is one of a site")]
pub(super) enum Bus {
    Single { redis: Redis, proxies: Vec<Proxy> },
    Sentinel { primary: Redis, replica: Redis, sentinel: Redis },
    Cluster(RedisCluster),
}

/// Everything that may be harmed.
pub(super) struct Site {
    pub(super) nodes: Vec<TestServer>,
    /// Of the nodes, wherever they are.
    pub(super) addresses: Addresses,
    pub(super) postgres: Postgres,
    /// Before PostgreSQL, for each node.
    pub(super) ways: Vec<Proxy>,
    pub(super) bus: Bus,
    /// The database's address, without a proxy.
    pub(super) database: String,
    /// What nodes said before they were started again.
    pub(super) last_words: Vec<(String, String)>,
}

impl Site {
    /// One of so many nodes, all of them ready.
    pub(super) async fn start(form: Form, nodes: usize) -> Self {
        let postgres = Postgres::start_with(&["max_connections = 100"]);
        let database = postgres.database();
        let bus = Bus::start(form, nodes).await;
        let cluster = Cluster::at(database.clone(), String::new());
        let mut ways = Vec::new();
        for _ in 0..nodes {
            ways.push(Proxy::start(postgres.port()).await);
        }
        let builder = |n: usize| settings(cluster.node(&name(n)), &bus, &database, &ways[n], n);
        let starts: Vec<_> = (0..nodes).map(|n| builder(n).start_unlearned()).collect();
        let nodes = futures_util::future::join_all(starts).await;
        let addresses = Addresses::of(nodes.iter().map(|node| node.user));
        let last_words = Vec::new();
        let site = Self { nodes, addresses, postgres, ways, bus, database, last_words };
        site.well().await;
        site
    }

    /// Waits until all nodes are ready and hear each other.
    pub(super) async fn well(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            let what = format!("node {} is ready and hears the others", name(n));
            let is = async || health(node).await.is_some_and(|(status, _)| status == "ready");
            eventually_within(&what, READY_WITHIN, || async { is().await.then_some(()) }).await;
        }
    }

    /// Keeps what a node has said, for it is going to be started again.
    pub(super) fn keep_words(&mut self, n: usize) {
        self.last_words.push((name(n), self.nodes[n].log()));
    }

    /// Starts a node that has ended.
    pub(super) async fn start_again(&mut self, n: usize) {
        self.nodes[n].spawn().await;
        self.addresses.set(n, self.nodes[n].user);
    }
}

/// What a node is called.
pub(super) fn name(n: usize) -> String {
    format!("node-{n}")
}

/// What a node's readiness says: its status, and the bus's; none where it says nothing.
pub(super) async fn health(node: &TestServer) -> Option<(String, String)> {
    let asked = node.as_admin();
    let asked = asked.try_call(Method::GET, "/health/ready", None);
    let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
    let word = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Some((word(&answer.body["status"])?, word(&answer.body["checks"]["bus"])?))
}

fn settings(builder: Builder, bus: &Bus, database: &str, way: &Proxy, n: usize) -> Builder {
    builder
        .env("DATABASE_URL", way.postgres_url(database))
        .env("DATABASE_CONNECTIONS", 8)
        // What is not answered is given up 5 s later.
        .env("DATABASE_STATEMENT_TIMEOUT", "3s")
        .env("REDIS_URL", bus.url(n))
        .env("WS_PING_INTERVAL", "5s")
        .env("DRAIN_TIMEOUT", "5s")
        .env("RATE_LIMIT_USER", "off")
        .env("LOG_LEVEL", "info,access=warn,business=warn")
}

impl Bus {
    async fn start(form: Form, nodes: usize) -> Self {
        match form {
            Form::Single => {
                let redis = Redis::start().await;
                let mut proxies = Vec::new();
                for _ in 0..nodes {
                    proxies.push(Proxy::start(redis.port).await);
                }
                Self::Single { redis, proxies }
            }
            Form::Sentinel => {
                let primary = Redis::start().await;
                let of = format!("127.0.0.1 {}", primary.port);
                let replica = Redis::start_with(&["replicaof", &of]).await;
                let sentinel = Redis::start_sentinel("main", primary.port).await;
                servers::eventually("the sentinel knows both", Duration::from_secs(30), || {
                    let known = sentinel.command(&["SENTINEL", "replicas", "main"]);
                    known.contains(&replica.port.to_string())
                        && known.contains("master-link-status\r\n$2\r\nok")
                })
                .await;
                Self::Sentinel { primary, replica, sentinel }
            }
            Form::Cluster => {
                let mut cluster = RedisCluster::start().await;
                cluster.add_replica().await;
                Self::Cluster(cluster)
            }
        }
    }

    /// Where a node finds it.
    fn url(&self, n: usize) -> String {
        match self {
            Self::Single { proxies, .. } => proxies[n].redis_url(),
            Self::Sentinel { sentinel, .. } => {
                format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port)
            }
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}
