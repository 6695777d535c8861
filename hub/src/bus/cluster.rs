//! Which primary of a Redis Cluster serves which partition: asked of the cluster, now and then and
//! whenever somebody finds that it has changed.

use std::{sync::Arc, time::Duration};

use rand::seq::SliceRandom;
use redis::Value;

use super::{
    address::{SERVERS_MAX, Server},
    connect::{Connector, Trouble},
    link::{Link, Place},
    node::Node,
    topic::PARTITIONS,
};

/// How often the cluster is asked without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon it is asked again after a change: slots are moved one after the other, and not all servers hear
/// of it at once.
const SETTLE: Duration = Duration::from_secs(1);

/// Shortest pause between two questions: thousands of subscriptions may find the same change.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Most ranges of slots that are read: a slot each, for all of them.
const RANGES_MAX: usize = super::topic::SLOTS as usize;

/// Follows the cluster until the shutdown.
pub(super) async fn follow(node: Arc<Node>, seeds: Vec<Server>) {
    loop {
        let looked = tokio::select! {
            () = node.shutdown.cancelled() => return,
            looked = look(&node, &seeds) => looked,
        };
        let changed = match looked {
            Ok(ranges) => apply(&node, &ranges),
            Err(trouble) => {
                node.no_servers(trouble.why);
                true
            }
        };
        tokio::time::sleep(LOOK_PAUSE).await;
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            () = node.look_again.notified() => {}
            () = tokio::time::sleep(if changed { SETTLE } else { LOOK_EVERY }) => {}
        }
    }
}

/// Slots from and to, and whose they are.
pub(super) type Range = (u16, u16, Server);

/// Asks the known servers one after the other, then the seeds.
async fn look(node: &Node, seeds: &[Server]) -> Result<Vec<Range>, Trouble> {
    let mut asked: Vec<Server> = Vec::new();
    let mut known: Vec<Server> = {
        let owners = node.owners.read();
        let places = owners.links.iter().filter_map(|link| match link.place() {
            Place::Primary(server) => Some(server.clone()),
            Place::Located => None,
        });
        places.collect()
    };
    // Not always the same first: it may be one that has not heard of a change.
    known.shuffle(&mut rand::rng());
    let mut last = Trouble::refused("no server of the cluster is known");
    for server in known.iter().chain(seeds).take(2 * SERVERS_MAX) {
        if asked.contains(server) {
            continue;
        }
        asked.push(server.clone());
        match ask(&node.connector, server).await {
            Ok(ranges) if !ranges.is_empty() => return Ok(ranges),
            Ok(_) => last = Trouble::refused(format!("{server} knows of no slots")),
            Err(trouble) => last = trouble.of(server),
        }
    }
    Err(last)
}

pub(super) async fn ask(connector: &Connector, server: &Server) -> Result<Vec<Range>, Trouble> {
    let mut connection = connector.connect(server).await?;
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    Ok(read(&answer, server))
}

/// `[[from, to, [host, port, …], replicas …], …]`; what is not of this form is passed over.
fn read(answer: &Value, asked: &Server) -> Vec<Range> {
    let Value::Array(ranges) = answer else { return Vec::new() };
    let range = |range: &Value| {
        let Value::Array(fields) = range else { return None };
        let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = &fields[..] else {
            return None;
        };
        let port = match primary.get(1)? {
            Value::Int(port) => u16::try_from(*port).ok()?,
            _ => return None,
        };
        let host = match primary.first()? {
            Value::BulkString(host) if !host.is_empty() && host != b"?" => {
                String::from_utf8(host.clone()).ok()?
            }
            Value::SimpleString(host) if !host.is_empty() => host.clone(),
            // It does not know its own name: the one it was asked by will do.
            _ => asked.host.clone(),
        };
        Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, Server { host, port }))
    };
    ranges.iter().take(RANGES_MAX).filter_map(range).collect()
}

/// Gives each partition to the link of its primary; links that have none any more end. Answers whether
/// anything has changed.
fn apply(node: &Arc<Node>, ranges: &[Range]) -> bool {
    let mut started = Vec::new();
    let gone = {
        let mut owners = node.owners.write();
        let mut of = vec![None; PARTITIONS.into()];
        for partition in 0..PARTITIONS {
            let slot = node.topics.slot(partition);
            let Some((_, _, server)) =
                ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot))
            else {
                continue;
            };
            let place = Place::Primary(server.clone());
            let known = owners.links.iter().find(|link| *link.place() == place).map(|l| l.id());
            let id = known.unwrap_or_else(|| {
                let id = owners.links.iter().map(|link| link.id() + 1).max().unwrap_or(0);
                let link = Link::new(id, place);
                owners.links.push(Arc::clone(&link));
                started.push(link);
                id
            });
            of[usize::from(partition)] = Some(id);
        }
        if of == owners.of {
            return false;
        }
        let (kept, gone): (Vec<_>, Vec<_>) =
            owners.links.drain(..).partition(|link| of.contains(&Some(link.id())));
        owners.links = kept;
        owners.of = of;
        gone
    };
    for link in gone {
        link.stop.cancel();
        link.outgoing.drain().into_iter().for_each(|message| node.pass_on(message));
    }
    for link in started {
        node.tasks.spawn(link.run(Arc::clone(node)));
    }
    for link in &node.owners.read().links {
        link.has_moved();
    }
    node.judge();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_odd_is_passed_over() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let asked = Server { host: "seed".into(), port: 1 };
        let answer = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(99),
                Value::Array(vec![text("10.0.0.1"), Value::Int(7000), text("id")]),
                Value::Array(vec![text("10.0.0.2"), Value::Int(7001), text("id")]),
            ]),
            Value::Array(vec![
                Value::Int(100),
                Value::Int(16_383),
                Value::Array(vec![text(""), Value::Int(7002)]),
            ]),
            Value::Array(vec![Value::Int(1)]),
            Value::Nil,
        ]);
        let server = |host: &str, port| Server { host: host.into(), port };
        assert_eq!(
            read(&answer, &asked),
            [(0, 99, server("10.0.0.1", 7000)), (100, 16_383, server("seed", 7002))]
        );
        assert!(read(&Value::Nil, &asked).is_empty());
    }
}
