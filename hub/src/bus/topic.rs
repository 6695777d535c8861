//! Names of what is published and subscribed to.
//!
//! A name is `<prefix>:{p<tag>}:<what>:<of whom>`. What stands in braces alone decides where Redis
//! Cluster keeps a name, so all names of a partition move together; outside a cluster it means nothing,
//! and stays the same. Parts are separated by U+001F, which no id contains.

use std::{borrow::Borrow, fmt, hash, sync::Arc};

use delivery::InboxKey;
use protocol::{ChannelId, TenantId};

/// Partitions. Many more than the primaries of a cluster, so that each gets its share.
pub(super) const PARTITIONS: u16 = 256;

/// Slots of Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The partition of what all nodes hear.
const CONTROL_PARTITION: u16 = 0;

const SEPARATOR: char = '\u{1f}';

/// A name to publish on.
#[derive(Clone)]
pub(super) struct Topic {
    pub(super) partition: u16,
    pub(super) name: Arc<str>,
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Topic {}

impl hash::Hash for Topic {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.name
    }
}

/// Only its partition: a name holds a user's id.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic(p{})", self.partition)
    }
}

/// Makes names.
pub(super) struct Topics {
    prefix: String,
    tags: Vec<u32>,
}

impl Topics {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), tags: tags() }
    }

    /// What happens in an inbox.
    pub(super) fn inbox(&self, inbox: &InboxKey) -> Topic {
        self.pair('u', inbox.tenant.as_str(), inbox.user.as_str())
    }

    /// What is stored for groups of a tenant.
    pub(super) fn tenant(&self, tenant: &TenantId) -> Topic {
        let partition = partition_of(&[tenant.as_str()]);
        self.topic(partition, format_args!("g:{tenant}"))
    }

    /// Who is in a channel.
    pub(super) fn channel(&self, tenant: &TenantId, channel: &ChannelId) -> Topic {
        self.pair('c', tenant.as_str(), channel.as_str())
    }

    /// What all nodes hear.
    pub(super) fn control(&self) -> Topic {
        self.topic(CONTROL_PARTITION, format_args!("nodes"))
    }

    /// What is said to one node: answers to its questions.
    pub(super) fn node(&self, node: u64) -> Topic {
        let name = format!("{node:016x}");
        self.topic(partition_of(&[&name]), format_args!("n:{name}"))
    }

    /// What a node says to itself by way of one server.
    pub(super) fn own(&self, partition: u16, node: u64, link: u32) -> Topic {
        self.topic(partition, format_args!("self:{node:016x}-{link}"))
    }

    /// Whether it is one of [`Topics::own`]; of nodes one listens to one's own only.
    pub(super) fn is_own(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.prefix).and_then(|rest| rest.split_once("}:"));
        rest.is_some_and(|(_, rest)| rest.starts_with("self:"))
    }

    /// Where Redis Cluster keeps a partition.
    pub(super) fn slot(&self, partition: u16) -> u16 {
        slot_of_tag(self.tags[usize::from(partition)])
    }

    fn pair(&self, what: char, tenant: &str, id: &str) -> Topic {
        let partition = partition_of(&[tenant, id]);
        self.topic(partition, format_args!("{what}:{tenant}{SEPARATOR}{id}"))
    }

    fn topic(&self, partition: u16, rest: fmt::Arguments<'_>) -> Topic {
        let (prefix, tag) = (&self.prefix, self.tags[usize::from(partition)]);
        Topic { partition, name: format!("{prefix}:{{p{tag}}}:{rest}").into() }
    }
}

/// FNV-1a, folded. All nodes of a cluster must agree on it, of whatever version.
fn partition_of(parts: &[&str]) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([SEPARATOR as u8]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let folded = (hash ^ (hash >> 32)) & u64::from(PARTITIONS - 1);
    folded as u16
}

/// For each partition the smallest number whose tag falls into its part of the slots, so that
/// partitions are spread as evenly as slots are. `p0`, `p1`, … would be twice as many here as there.
fn tags() -> Vec<u32> {
    let width = SLOTS / PARTITIONS;
    let mut tags = vec![None; PARTITIONS.into()];
    let mut missing = PARTITIONS;
    for tag in 0.. {
        let place = &mut tags[usize::from(slot_of_tag(tag) / width)];
        if place.is_none() {
            *place = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into_iter().flatten().collect()
}

fn slot_of_tag(tag: u32) -> u16 {
    crc16(format!("p{tag}").as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(tenant: &str, user: &str) -> InboxKey {
        InboxKey::new(tenant.parse().unwrap(), user.parse().unwrap())
    }

    /// Nodes of different versions must agree: a changed name here is a cluster that does not hear
    /// itself during a rollout.
    #[test]
    fn names_stay_as_they_are() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let topics = Topics::new("pushhub");
        let names = [
            topics.inbox(&inbox("default", "ann")),
            topics.inbox(&inbox("acme", "王伟")),
            topics.tenant(&TenantId::default()),
            topics.channel(&TenantId::default(), &"team".parse().unwrap()),
            topics.control(),
            topics.node(0x0123_4567_89ab_cdef),
        ];
        let names: Vec<&str> = names.iter().map(|topic| &*topic.name).collect();
        assert_eq!(
            names,
            [
                "pushhub:{p65}:u:default\u{1f}ann",
                "pushhub:{p56}:u:acme\u{1f}王伟",
                "pushhub:{p126}:g:default",
                "pushhub:{p211}:c:default\u{1f}team",
                "pushhub:{p267}:nodes",
                "pushhub:{p461}:n:0123456789abcdef",
            ]
        );
    }

    #[test]
    fn partitions_share_the_slots_evenly() {
        let topics = Topics::new("pushhub");
        for partition in 0..PARTITIONS {
            let width = SLOTS / PARTITIONS;
            assert_eq!(topics.slot(partition) / width, partition);
        }
        let mut users = vec![0; PARTITIONS.into()];
        for n in 0..100_000 {
            let topic = topics.inbox(&inbox("default", &format!("user-{n}")));
            users[usize::from(topic.partition)] += 1;
        }
        assert!(users.iter().all(|count| (280..520).contains(count)), "{users:?}");
    }

    #[test]
    fn names_do_not_run_into_each_other() {
        let topics = Topics::new("pushhub");
        let (one, two) = (inbox("a", "b:c"), inbox("a:b", "c"));
        assert_ne!(topics.inbox(&one).name, topics.inbox(&two).name);
        assert_eq!(format!("{:?}", topics.control()), "Topic(p0)");
        assert!(topics.is_own(&topics.own(3, 4, 5).name));
        assert!(!topics.is_own(&topics.inbox(&inbox("self", "}:self:")).name));
    }
}
