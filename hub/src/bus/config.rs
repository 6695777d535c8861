//! What a bus by Redis is told at the start.

use std::io;

use delivery::{clock::WallClock, spans::Spans};
use protocol::NodeId;

use super::address::RedisAddress;
use crate::config::ClusterConfig;

/// Where the bus is and who is on it.
#[derive(Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`.
    pub address: RedisAddress,
    /// `REDIS_CA_FILE`: certificates that are trusted instead of the system's, PEM.
    pub ca: Option<Vec<u8>>,
    /// `REDIS_PREFIX`: what the names of this cluster begin with. Databases do not part the channels of
    /// Redis, so two clusters on one Redis need two of them.
    pub prefix: String,
    /// This node.
    pub node: NodeId,
    /// A mark of the secrets this node works with, from which they cannot be had: nodes that differ in it
    /// say so. None where nobody compares.
    pub secrets: Option<Marks>,
    /// What nodes take for the time. It has to be the same for all: where words were lost it says which of
    /// two connections of a device is the later one.
    pub clock: WallClock,
    /// What is recorded of changes that come from other nodes.
    pub spans: Spans,
}

/// Marks of secrets: equal on nodes that have the same, and of no use to whoever has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Of the key of tokens.
    pub tokens: u64,
    /// Of the admin token; comparable only where the other one is equal.
    pub admin: u64,
}

impl RedisConfig {
    /// From the settings; none where they name no Redis.
    ///
    /// # Errors
    /// When the file of certificates cannot be read.
    pub fn from_settings(
        settings: &ClusterConfig,
        node: NodeId,
        secrets: Marks,
        clock: WallClock,
        spans: Spans,
    ) -> io::Result<Option<Self>> {
        let Some(address) = settings.redis.clone() else { return Ok(None) };
        let ca = settings.redis_ca.as_deref().map(std::fs::read).transpose()?;
        Ok(Some(Self {
            address,
            ca,
            prefix: settings.redis_prefix.clone(),
            node,
            secrets: Some(secrets),
            clock,
            spans,
        }))
    }
}
