//! What nodes of one cluster share: a database, a Redis, secrets.

use std::sync::OnceLock;

use servers::Redis;

use super::{TestServer, server::Builder};
use crate::postgres;

/// A place for nodes. What it names is shared by the tests of this process, under names of its own.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// `DATABASE_URL`.
    pub(crate) database: String,
    /// `REDIS_URL`.
    pub(crate) redis: String,
    prefix: String,
}

impl Cluster {
    /// One with nobody in it.
    pub(crate) fn new() -> Self {
        Self::at(postgres::database(), shared_redis().url())
    }

    /// One on servers that a test may harm.
    pub(crate) fn at(database: String, redis: String) -> Self {
        Self { database, redis, prefix: uuid::Uuid::now_v7().simple().to_string() }
    }

    /// One on a database that is there.
    pub(crate) fn on(database: String) -> Self {
        Self { database, ..Self::new() }
    }

    /// A node that is not started yet.
    pub(crate) fn node(&self, name: &str) -> Builder {
        self.joined_by(TestServer::plain_builder()).env("NODE_ID", name)
    }

    /// Nodes `a`, `b`, … .
    pub(crate) async fn nodes<const N: usize>(&self) -> [TestServer; N] {
        let names = (b'a'..).take(N).map(|name| char::from(name).to_string());
        let starts = names.map(|name| self.node(&name).start());
        let nodes: Vec<_> = futures_util::future::join_all(starts).await;
        nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for"))
    }

    /// Any server, as a node of this cluster.
    pub(crate) fn joined_by(&self, builder: Builder) -> Builder {
        builder
            .env("DATABASE_URL", &self.database)
            .env("REDIS_URL", &self.redis)
            .env("REDIS_PREFIX", &self.prefix)
    }
}

/// The Redis of this process.
fn shared_redis() -> &'static Redis {
    static REDIS: OnceLock<Redis> = OnceLock::new();
    REDIS.get_or_init(|| servers::aside(Redis::start()))
}
