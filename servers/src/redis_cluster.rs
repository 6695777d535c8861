//! A Redis Cluster of child processes.

use std::time::Duration;

use crate::{Redis, eventually, free_port};

/// How long nodes of a cluster may take to know each other, and a replica its primary.
const AGREE: Duration = Duration::from_secs(20);

/// Slots of the three primaries.
const SPLIT: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// Three primaries, each with a third of the slots, and perhaps a replica of the first.
pub struct RedisCluster {
    /// The primaries, then the replica.
    pub servers: Vec<Redis>,
    first_bus: String,
}

impl RedisCluster {
    /// One without replicas.
    pub async fn start() -> Self {
        let mut servers = Vec::new();
        for (from, to) in SPLIT {
            let (server, bus) = member().await;
            let (from, to) = (from.to_string(), to.to_string());
            is_ok(&server.command(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]));
            servers.push((server, bus));
        }
        for (epoch, (server, _)) in servers.iter().enumerate() {
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]);
        }
        let (servers, buses): (Vec<Redis>, Vec<String>) = servers.into_iter().unzip();
        let cluster = Self { servers, first_bus: buses[0].clone() };
        cluster.servers[1..].iter().for_each(|server| cluster.meet(server));
        cluster.agrees().await;
        cluster
    }

    /// Adds a replica of the first primary, which takes over its slots when it dies.
    pub async fn add_replica(&mut self) {
        let (replica, _) = member().await;
        self.meet(&replica);
        self.servers.push(replica);
        self.agrees().await;
        let replica = self.servers.last().expect("just added");
        let primary = self.id(0);
        eventually("the replica has its primary", AGREE, || {
            replica.command(&["CLUSTER", "REPLICATE", &primary]).starts_with("+OK")
        })
        .await;
        eventually("the replica follows", AGREE, || {
            replica.command(&["INFO", "replication"]).contains("master_link_status:up")
        })
        .await;
    }

    /// Where it is, for `REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Whether this server has slots now.
    #[must_use]
    pub fn is_primary(&self, server: usize) -> bool {
        self.servers[server].command(&["ROLE"]).contains("master")
    }

    /// Gives all slots of a range to another primary, as `redis-cli --cluster reshard` does.
    pub fn move_slots(&self, (from, to): (u16, u16), source: usize, target: usize) {
        let id = self.id(target);
        for slot in from..=to {
            let slot = slot.to_string();
            for server in [target, source] {
                is_ok(&self.servers[server].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]));
            }
        }
    }

    fn id(&self, server: usize) -> String {
        let answer = self.servers[server].command(&["CLUSTER", "MYID"]);
        answer.lines().nth(1).expect("an id").to_owned()
    }

    fn meet(&self, server: &Redis) {
        let first = self.servers[0].port.to_string();
        is_ok(&server.command(&["CLUSTER", "MEET", "127.0.0.1", &first, &self.first_bus]));
    }

    async fn agrees(&self) {
        let known = format!("cluster_known_nodes:{}", self.servers.len());
        eventually("the cluster is one", AGREE, || {
            self.servers.iter().all(|server| {
                let info = server.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains(&known)
            })
        })
        .await;
    }
}

/// A server that is in no cluster yet, and its port for the others.
async fn member() -> (Redis, String) {
    let bus = free_port().to_string();
    let settings = ["cluster-enabled", "yes", "cluster-port", &bus, "cluster-node-timeout", "2000"];
    (Redis::start_with(&settings).await, bus)
}

fn is_ok(answer: &str) {
    assert!(answer.starts_with("+OK"), "{answer}");
}
