//! What an operator should know of a Redis before nodes meet on it. Changes nothing there; what is published
//! goes to nobody else.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::RngExt;
use redis::{PushKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::timeout};

use super::{
    address::{Server, Shape},
    cluster,
    connect::{Connector, Trouble, must_be_primary, version},
    topic::{PARTITIONS, Topic, Topics},
};
use crate::config::ClusterConfig;

/// How long what is published may take to come back: as long as nodes give it.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// The one link of whoever looks.
const LINK: u32 = 0;

/// A server, as it was found.
#[derive(Clone, Debug)]
pub struct RedisExamined {
    /// Where.
    pub server: Server,
    /// Its version; none where something in between does not let it through.
    pub version: Option<String>,
    /// How long it took until what was published arrived.
    pub round_trip: Duration,
    /// `maxmemory` in bytes, 0 for no limit, and `maxmemory-policy`; none where the user may not ask.
    pub memory: Option<(u64, String)>,
    /// The line of `client-output-buffer-limit` that is about subscribers: hard limit, soft limit (bytes, 0
    /// for none), seconds; none where the user may not ask.
    pub subscriber_buffer: Option<(u64, u64, u64)>,
    /// How far its clock is ahead of this machine's, in microseconds; negative where it is behind. None
    /// where the user may not ask.
    pub clock_ahead_micros: Option<i64>,
}

/// A Redis that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisUnusable {
    /// `REDIS_CA_FILE`.
    #[error("REDIS_CA_FILE cannot be read")]
    Certificates(#[source] io::Error),
    /// In words for an operator, without secrets.
    #[error("{0}")]
    Server(String),
}

impl From<Trouble> for RedisUnusable {
    fn from(trouble: Trouble) -> Self {
        Self::Server(trouble.why)
    }
}

/// Looks at the primary, or at each primary of a cluster; nothing where no Redis is named.
///
/// # Errors
/// [`RedisUnusable`], in the words that a node has for it.
pub async fn examine(settings: &ClusterConfig) -> Result<Vec<RedisExamined>, RedisUnusable> {
    let Some(address) = settings.redis.clone() else { return Ok(Vec::new()) };
    let ca = settings.redis_ca.as_deref().map(std::fs::read).transpose();
    let connector = Connector::new(address, ca.map_err(RedisUnusable::Certificates)?);
    let topics = Topics::new(&settings.redis_prefix);
    // As a node that nobody else is.
    let node: u64 = rand::rng().random();
    let mut found = Vec::new();
    for (server, partition) in primaries(&connector, &topics).await? {
        let own = topics.own(partition.unwrap_or_default(), node, LINK);
        let looked = look(&connector, &server, &own, partition.is_some()).await;
        found.push(looked.map_err(|trouble| trouble.of(&server))?);
    }
    Ok(found)
}

/// The servers, and in a cluster a partition of each.
async fn primaries(
    connector: &Connector,
    topics: &Topics,
) -> Result<Vec<(Server, Option<u16>)>, Trouble> {
    let Shape::Cluster(seeds) = &connector.address().shape else {
        return Ok(vec![(connector.locate().await?, None)]);
    };
    let mut last = Trouble::refused("no server of the cluster is named");
    for seed in seeds {
        let ranges = match cluster::ask(connector, seed).await {
            Ok(ranges) => ranges,
            Err(trouble) => {
                last = trouble.of(seed);
                continue;
            }
        };
        let mut found: Vec<(Server, Option<u16>)> = Vec::new();
        for partition in 0..PARTITIONS {
            let slot = topics.slot(partition);
            let range = ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
            let Some((_, _, server)) = range else {
                return Err(Trouble::refused(format!("slot {slot} is served by nobody")).of(seed));
            };
            if !found.iter().any(|(known, _)| known == server) {
                found.push((server.clone(), Some(partition)));
            }
        }
        return Ok(found);
    }
    Err(last)
}

async fn look(
    connector: &Connector,
    server: &Server,
    own: &Topic,
    sharded: bool,
) -> Result<RedisExamined, Trouble> {
    let mut connection = connector.connect(server).await?;
    must_be_primary(&mut connection).await?;
    let round_trip = round_trip(connector, server, own, sharded, &mut connection).await?;
    let told = redis::cmd("HELLO").query_async::<Value>(&mut connection).await.ok();
    let policy = setting(&mut connection, "maxmemory-policy").await;
    let memory = setting(&mut connection, "maxmemory").await.and_then(|most| most.parse().ok());
    let buffers = setting(&mut connection, "client-output-buffer-limit").await;
    Ok(RedisExamined {
        server: server.clone(),
        version: told.as_ref().and_then(version).map(|(version, _)| version),
        round_trip,
        memory: memory.zip(policy),
        subscriber_buffer: buffers.as_deref().and_then(of_subscribers),
        clock_ahead_micros: clock_ahead(&mut connection).await,
    })
}

/// Publishes something, waits for it, and says how long it took.
async fn round_trip(
    connector: &Connector,
    server: &Server,
    own: &Topic,
    sharded: bool,
    publisher: &mut MultiplexedConnection,
) -> Result<Duration, Trouble> {
    let (subscribe, publish) =
        if sharded { ("SSUBSCRIBE", "SPUBLISH") } else { ("SUBSCRIBE", "PUBLISH") };
    let (back, name) = (Arc::new(Notify::new()), Arc::clone(&own.name));
    let arrived = Arc::clone(&back);
    let mut listener = connector
        .listen(server, move |push| {
            let is_message = matches!(push.kind, PushKind::Message | PushKind::SMessage);
            let topic = push.data.first();
            if is_message
                && matches!(topic, Some(Value::BulkString(topic)) if *topic == name.as_bytes())
            {
                arrived.notify_one();
            }
        })
        .await?;
    redis::cmd(subscribe).arg(&*own.name).query_async::<Value>(&mut listener).await?;
    let sent = Instant::now();
    redis::cmd(publish).arg(&*own.name).arg("").query_async::<Value>(publisher).await?;
    match timeout(BACK_WITHIN, back.notified()).await {
        Ok(()) => Ok(sent.elapsed()),
        Err(_) => Err(Trouble::silent("what is published there does not arrive")),
    }
}

/// A setting of the server; none where the user may not ask, as with most hosted ones.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let pairs: Vec<(String, String)> =
        redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await.ok()?;
    pairs.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn of_subscribers(limits: &str) -> Option<(u64, u64, u64)> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let mut number = || words.next()?.parse().ok();
    Some((number()?, number()?, number()?))
}

async fn clock_ahead(connection: &mut MultiplexedConnection) -> Option<i64> {
    let before = SystemTime::now();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(connection).await.ok()?;
    let own = before + before.elapsed().ok()? / 2;
    let own = i64::try_from(own.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    Some(seconds.checked_mul(1_000_000)?.checked_add(micros)?.saturating_sub(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_subscribers_are_found_in_the_line() {
        let line = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(of_subscribers(line), Some((33_554_432, 8_388_608, 60)));
        assert_eq!(of_subscribers("pubsub 0 0 0 normal 1 2 3"), Some((0, 0, 0)));
        for odd in ["", "normal 0 0 0", "pubsub 1 2", "pubsub a b c"] {
            assert_eq!(of_subscribers(odd), None, "{odd}");
        }
    }
}
