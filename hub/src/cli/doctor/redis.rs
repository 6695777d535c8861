//! Redis, by which nodes reach each other.

use std::time::Duration;

use super::{
    clock::compare,
    folder::size,
    report::{Finding, causes, fail, ok, warn},
};
use crate::{
    bus::{RedisExamined, examine as look},
    config::ClusterConfig,
};

/// A slower way makes messages to other nodes late.
const ROUND_TRIP_SLOW: Duration = Duration::from_millis(50);

/// With less a node that is busy for a moment is cut off, and has everything compared with the store: a
/// thousand messages of 8 KiB.
const BUFFER_LITTLE: u64 = 8 << 20;

pub(super) async fn examine(config: &ClusterConfig) -> Vec<Finding> {
    const CHECK: &str = "redis";
    let at = match &config.redis {
        Some(address) => address.describe(),
        None => return Vec::new(),
    };
    let servers = match look(config).await {
        Ok(servers) => servers,
        Err(error) => {
            let advice = "see REDIS_URL, its password, and whether the server runs; without it nodes do not hear each other";
            return vec![fail(CHECK, format!("{at}: {}", causes(&error)), advice)];
        }
    };
    servers.iter().flat_map(server).collect()
}

fn server(found: &RedisExamined) -> Vec<Finding> {
    let RedisExamined { server, version, round_trip, memory, subscriber_buffer, .. } = found;
    let version = version.as_deref().unwrap_or("of a version that it does not say");
    let mut findings = vec![ok("redis", format!("{server}: Redis {version}, a primary"))];
    let trip = format!(
        "{server}: what is published arrives after {:.1} ms",
        round_trip.as_secs_f64() * 1e3
    );
    findings.push(if *round_trip > ROUND_TRIP_SLOW {
        warn("redis.pubsub", trip, "bring it nearer to the nodes")
    } else {
        ok("redis.pubsub", trip)
    });
    if let Some((most, policy)) = memory {
        let most = if *most == 0 { "no limit".to_owned() } else { size(*most) };
        findings.push(ok(
            "redis.memory",
            format!(
                "{server}: {most}, {policy}; nothing is stored there, so none of it is evicted"
            ),
        ));
    }
    if let Some((hard, soft, seconds)) = *subscriber_buffer {
        let limits = format!(
            "{server}: client-output-buffer-limit pubsub {} {} {seconds}",
            size(hard),
            size(soft)
        );
        let advice = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'";
        findings.push(match hard {
            0 => warn(
                "redis.buffers",
                format!("{limits}: a node that stands still fills its memory"),
                advice,
            ),
            1..BUFFER_LITTLE => {
                warn("redis.buffers", format!("{limits}: a busy node is cut off"), advice)
            }
            _ => ok("redis.buffers", limits),
        });
    }
    if let Some(ahead) = found.clock_ahead_micros {
        findings.push(compare("clock.redis", &format!("that of {server}"), ahead, *round_trip));
    }
    findings
}
