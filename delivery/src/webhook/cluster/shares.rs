//! Who should send for whom. Pure.

use protocol::ServiceId;
use sha2::{Digest as _, Sha256};

/// In how many shares services are: a dozen nodes have about the same then. Rows of `webhook_share`;
/// nodes that disagree about it would send the same twice.
pub const SHARES: usize = 256;

/// A set of shares.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::webhook) struct ShareSet([u64; SHARES / 64]);

impl ShareSet {
    pub(in crate::webhook) const ALL: Self = Self([u64::MAX; SHARES / 64]);

    pub(in crate::webhook) const fn has(&self, share: usize) -> bool {
        self.0[share / 64] & (1 << (share % 64)) != 0
    }

    pub(super) fn insert(&mut self, share: usize) {
        self.0[share / 64] |= 1 << (share % 64);
    }

    pub(super) fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own &= !other);
        self
    }

    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own &= other);
        self
    }

    pub(super) fn or(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..SHARES).filter(|share| self.has(*share))
    }
}

impl FromIterator<usize> for ShareSet {
    fn from_iter<I: IntoIterator<Item = usize>>(shares: I) -> Self {
        let mut set = Self::default();
        shares.into_iter().for_each(|share| set.insert(share));
        set
    }
}

/// A number that is the same on every node and in every build.
fn hash(parts: [&[u8]; 2]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The share that a service is in.
pub(in crate::webhook) fn of_service(service: &ServiceId) -> usize {
    (hash([b"service", service.as_str().as_bytes()]) % SHARES as u64) as usize
}

/// What a node should have, where these are there: of each share, the node that weighs most.
pub(super) fn wanted(node: &str, live: &[String]) -> ShareSet {
    let weight = |share: usize, node: &str| hash([&(share as u64).to_le_bytes(), node.as_bytes()]);
    let owner = |share| live.iter().max_by_key(|other| (weight(share, other), *other));
    (0..SHARES).filter(|share| owner(*share).is_some_and(|owner| owner == node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("node-{n}")).collect()
    }

    #[test]
    fn each_share_has_one_owner_and_nodes_have_about_as_many() {
        for count in 1..=8 {
            let live = nodes(count);
            let mut all = ShareSet::default();
            for node in &live {
                let own = wanted(node, &live);
                assert!(all.and(&own).is_empty());
                assert!(own.len() > SHARES / count / 2, "{node} of {count}: {}", own.len());
                all = all.or(&own);
            }
            assert!(all == ShareSet::ALL);
        }
        assert!(wanted("stranger", &nodes(3)).is_empty());
    }

    #[test]
    fn who_comes_takes_from_all_and_moves_nothing_else() {
        let (before, after) = (nodes(3), nodes(4));
        for node in &before {
            let (had, has) = (wanted(node, &before), wanted(node, &after));
            assert!(has.without(&had).is_empty());
        }
    }

    /// What stands in the database is of other builds too.
    #[test]
    fn shares_are_what_they_were() {
        let share = |id| of_service(&ServiceId::new(id).unwrap());
        assert_eq!([share("shop"), share("crm"), share("张三")], [72, 77, 104]);
    }
}
