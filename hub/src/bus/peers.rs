//! The other nodes: who is there, who is silent, and whose words were lost.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::{
    NodeId,
    envelope::{NodeAbout, NodeFacts},
};
use rustc_hash::FxBuildHasher;

/// How often a node says that it is there.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// Without a heartbeat for this long something is wrong with a node or its way to the bus: three may be
/// late on a busy machine.
pub const SILENT_AFTER: Duration = Duration::from_secs(4);

/// After this long a silent node is taken for dead: whoever was there is not any more.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// Most nodes that are remembered. A bus that is shared with strangers must not fill memory.
const PEERS_MAX: usize = 1_000;

/// Most topics whose count is kept, of this node and of the others each. Beyond, the rest is not counted:
/// what is lost there is found by the check of positions and by the lists of presence.
const COUNTED_MAX: usize = 1 << 16;

/// Another node, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its name.
    pub node: NodeId,
    /// This start of it.
    pub epoch: u64,
    /// When it was heard last, ago.
    pub silent_for: Duration,
    /// Its sockets and event streams; none where it holds none by its role.
    pub connections: Option<u64>,
    /// What it says of itself; none of an older node.
    pub about: Option<NodeAbout>,
}

struct Peer {
    facts: NodeFacts,
    heard_at: Instant,
}

/// What is heard of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// It was not known before.
    pub(super) first: bool,
    /// How many more envelopes it has lost than when it was heard before.
    pub(super) lost: u64,
}

/// The other nodes.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<u64, Peer, FxBuildHasher>>);

/// What a look at the others came to.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Nodes that are silent but not dead yet.
    pub(super) silent: usize,
    /// Nodes that have just been found dead.
    pub(super) dead: Vec<u64>,
    /// Nodes that are there.
    pub(super) present: usize,
}

impl Peers {
    /// A node says how it is.
    pub(super) fn heard(&self, sender: u64, facts: &NodeFacts, now: Instant) -> News {
        let mut all = self.0.lock();
        let room = all.len() < PEERS_MAX;
        match all.get_mut(&sender) {
            Some(peer) => {
                peer.heard_at = now;
                let lost = facts.lost.saturating_sub(peer.facts.lost);
                peer.facts.clone_from(facts);
                News { first: false, lost }
            }
            None if room => {
                all.insert(sender, Peer { facts: facts.clone(), heard_at: now });
                News { first: true, lost: 0 }
            }
            None => News::default(),
        }
    }

    /// A node has gone in order.
    pub(super) fn remove(&self, sender: u64) {
        self.0.lock().remove(&sender);
    }

    /// Looks who is silent.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut look = Look::default();
        self.0.lock().retain(|sender, peer| {
            let silent = now.saturating_duration_since(peer.heard_at);
            if silent >= DEAD_AFTER {
                look.dead.push(*sender);
            } else if silent >= SILENT_AFTER {
                look.silent += 1;
            } else {
                look.present += 1;
            }
            silent < DEAD_AFTER
        });
        look
    }

    /// This node could not hear: nobody was silent because of that.
    pub(super) fn excuse(&self, now: Instant) {
        self.0.lock().values_mut().for_each(|peer| peer.heard_at = now);
    }

    /// Those that hold sockets, by epoch; only those of this name, where one is said.
    pub(super) fn holders(&self, name: Option<&NodeId>) -> HashMap<u64, NodeId, FxBuildHasher> {
        let holds = |peer: &Peer| {
            peer.facts.connections.is_some() && name.is_none_or(|name| *name == peer.facts.node)
        };
        let all = self.0.lock();
        let holders = all.iter().filter(|(_, peer)| holds(peer));
        holders.map(|(epoch, peer)| (*epoch, peer.facts.node.clone())).collect()
    }

    pub(super) fn list(&self, now: Instant) -> Vec<PeerInfo> {
        let info = |(epoch, peer): (&u64, &Peer)| PeerInfo {
            node: peer.facts.node.clone(),
            connections: peer.facts.connections,
            about: peer.facts.about.clone(),
            epoch: *epoch,
            silent_for: now.saturating_duration_since(peer.heard_at),
        };
        self.0.lock().iter().map(info).collect()
    }
}

/// How many envelopes each node has sent on each topic, so that a hole shows. Topics of inboxes are not
/// counted: their changes have seqs.
#[derive(Default)]
pub(super) struct Counts(HashMap<(u64, Box<str>), u64, FxBuildHasher>);

impl Counts {
    /// The number of the next envelope of `sender` on a topic; 0 where it is not counted.
    pub(super) fn next(&mut self, sender: u64, topic: &str) -> u64 {
        let room = self.0.len() < COUNTED_MAX;
        match self.0.get_mut(&(sender, Box::from(topic))) {
            Some(count) => {
                *count += 1;
                *count
            }
            None if room => {
                self.0.insert((sender, topic.into()), 1);
                1
            }
            None => 0,
        }
    }

    /// Takes in the number of an envelope; answers how many are missing before it. One that comes a
    /// second time misses nothing.
    pub(super) fn missing(&mut self, sender: u64, topic: &str, number: u64) -> u64 {
        if number == 0 {
            return 0;
        }
        let room = self.0.len() < COUNTED_MAX;
        match self.0.get_mut(&(sender, Box::from(topic))) {
            Some(last) => {
                let missing = number.saturating_sub(last.saturating_add(1));
                *last = number.max(*last);
                missing
            }
            None => {
                if room {
                    self.0.insert((sender, topic.into()), number);
                }
                0
            }
        }
    }

    /// Forgets a node.
    pub(super) fn forget(&mut self, sender: u64) {
        self.0.retain(|(other, _), _| *other != sender);
    }

    /// Forgets everything: this node could not hear.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lost: u64) -> NodeFacts {
        let node = "node-2".parse().unwrap();
        NodeFacts {
            node,
            clock: 0,
            lost,
            connections: None,
            secrets: None,
            about: None,
            admin: None,
        }
    }

    #[test]
    fn a_silent_node_is_noticed_and_then_dead() {
        let (peers, start) = (Peers::default(), Instant::now());
        assert_eq!(peers.heard(7, &facts(3), start), News { first: true, lost: 0 });
        assert_eq!(peers.heard(7, &facts(5), start), News { first: false, lost: 2 });
        assert_eq!(peers.look(start), Look { present: 1, ..Look::default() });
        assert_eq!(peers.look(start + SILENT_AFTER), Look { silent: 1, ..Look::default() });
        peers.excuse(start + SILENT_AFTER);
        assert_eq!(peers.look(start + SILENT_AFTER).present, 1);
        let look = peers.look(start + SILENT_AFTER + DEAD_AFTER);
        assert_eq!(look, Look { dead: vec![7], ..Look::default() });
        assert!(peers.list(start).is_empty());
        peers.heard(8, &facts(0), start);
        peers.remove(8);
        assert_eq!(peers.look(start), Look::default());
    }

    #[test]
    fn holes_are_counted_and_repeats_are_not() {
        let (mut sent, mut heard) = (Counts::default(), Counts::default());
        let numbers: Vec<u64> = (0..4).map(|_| sent.next(1, "a")).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(sent.next(1, "b"), 1);
        // Who begins to listen has missed nothing.
        assert_eq!(heard.missing(1, "a", 2), 0);
        assert_eq!(heard.missing(1, "a", 4), 1);
        assert_eq!(heard.missing(1, "a", 4), 0);
        assert_eq!(heard.missing(1, "a", 3), 0);
        assert_eq!(heard.missing(1, "a", 0), 0);
        assert_eq!(heard.missing(2, "a", 9), 0);
        heard.forget(1);
        assert_eq!(heard.missing(1, "a", 40), 0);
    }
}
