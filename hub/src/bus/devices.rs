//! Which of two connections of one device is the later one, where they are on two nodes.
//!
//! Each node says on the user's topic that a device has connected, after it has begun to listen there.
//! Redis hands out what is said on one topic to all in one order, also to who said it. So when a node
//! hears of the same device elsewhere, its own connection is the older one if its own words have come
//! back before, and the later one if they are still to come. No clock is asked, and both nodes see the
//! same order.
//!
//! Where words may have been lost (the bus was away), everything is said again, and the stamps decide:
//! the cluster's clock when a device connected, which is never behind what its node had heard from the
//! others. Of two equal stamps the greater connection id counts, here as there.

use std::collections::HashMap;

use delivery::InboxKey;
use parking_lot::Mutex;
use protocol::{ConnectionId, DeviceId, envelope::Connected};
use rustc_hash::FxBuildHasher;

/// The devices that are connected here, at most one connection each.
#[derive(Default)]
pub(super) struct Devices(Mutex<HashMap<(InboxKey, DeviceId), Mine, FxBuildHasher>>);

struct Mine {
    connection: ConnectionId,
    stamp: u64,
    /// Our own words have come back.
    heard: bool,
}

/// What follows from another node's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// This connection of ours is the older one.
    Replaced(ConnectionId),
    /// Ours is the later one, and the other node does not know yet.
    SayAgain(Connected),
}

impl Devices {
    /// A device has connected here.
    pub(super) fn insert(&self, words: &Connected) {
        let mine = Mine { connection: words.connection.clone(), stamp: words.stamp, heard: false };
        self.0.lock().insert(key(words), mine);
    }

    /// A connection has ended.
    pub(super) fn remove(&self, inbox: &InboxKey, device: &DeviceId, connection: &ConnectionId) {
        let key = (inbox.clone(), device.clone());
        let mut all = self.0.lock();
        if all.get(&key).is_some_and(|mine| mine.connection == *connection) {
            all.remove(&key);
        }
    }

    /// Our own words have come back.
    pub(super) fn heard_own(&self, words: &Connected) {
        if let Some(mine) = self.0.lock().get_mut(&key(words))
            && mine.connection == words.connection
        {
            mine.heard = true;
        }
    }

    /// Another node's words.
    pub(super) fn heard(&self, words: &Connected) -> Verdict {
        let key = key(words);
        let mut all = self.0.lock();
        let Some(mine) = all.get(&key) else { return Verdict::Nothing };
        let ours_is_older = if words.again {
            (mine.stamp, mine.connection.as_str()) < (words.stamp, words.connection.as_str())
        } else {
            mine.heard
        };
        if ours_is_older {
            let mine = all.remove(&key).expect("it was there a moment ago");
            Verdict::Replaced(mine.connection)
        } else if words.again {
            Verdict::SayAgain(say_again(&key, mine))
        } else {
            Verdict::Nothing
        }
    }

    /// Everything to be said again, of the inboxes that `which` picks. Own words that were on their way
    /// do not count any more.
    pub(super) fn again(&self, which: impl Fn(&InboxKey) -> bool) -> Vec<Connected> {
        let mut all = self.0.lock();
        let picked = all.iter_mut().filter(|((inbox, _), _)| which(inbox));
        picked
            .map(|(key, mine)| {
                mine.heard = false;
                say_again(key, mine)
            })
            .collect()
    }
}

fn key(words: &Connected) -> (InboxKey, DeviceId) {
    (InboxKey::new(words.tenant.clone(), words.user.clone()), words.device.clone())
}

fn say_again((inbox, device): &(InboxKey, DeviceId), mine: &Mine) -> Connected {
    Connected {
        tenant: inbox.tenant.clone(),
        user: inbox.user.clone(),
        device: device.clone(),
        connection: mine.connection.clone(),
        stamp: mine.stamp,
        again: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(connection: &str, stamp: u64) -> Connected {
        Connected {
            tenant: "t".parse().unwrap(),
            user: "ann".parse().unwrap(),
            device: "phone".parse().unwrap(),
            connection: connection.parse().unwrap(),
            stamp,
            again: false,
        }
    }

    fn again(connection: &str, stamp: u64) -> Connected {
        Connected { again: true, ..words(connection, stamp) }
    }

    fn replaced(connection: &str) -> Verdict {
        Verdict::Replaced(connection.parse().unwrap())
    }

    /// Whatever the clocks say: the stamp of the second is smaller.
    #[test]
    fn the_order_of_the_bus_decides() {
        let (a, b) = (Devices::default(), Devices::default());
        let (first, second) = (words("c1", 900), words("c2", 100));
        a.insert(&first);
        b.insert(&second);
        // Both are on their way; the bus has `first` before `second`.
        assert_eq!(b.heard(&first), Verdict::Nothing);
        a.heard_own(&first);
        assert_eq!(a.heard(&second), replaced("c1"));
        b.heard_own(&second);
        assert_eq!(b.heard(&words("c3", 1)), replaced("c2"));
    }

    #[test]
    fn said_again_the_stamps_decide_and_exactly_one_stays() {
        for (one, two) in [(("c1", 5), ("c2", 7)), (("c1", 7), ("c2", 5)), (("c1", 5), ("c2", 5))] {
            let (a, b) = (Devices::default(), Devices::default());
            a.insert(&words(one.0, one.1));
            b.insert(&words(two.0, two.1));
            let at_b = b.heard(&a.again(|_| true)[0]);
            let at_a = match &at_b {
                Verdict::SayAgain(words) => a.heard(words),
                _ => Verdict::Nothing,
            };
            let later = if one.1 > two.1 { one.0 } else { two.0 };
            if later == "c1" {
                assert_eq!((at_b, at_a), (replaced("c2"), Verdict::Nothing));
            } else {
                assert_eq!(at_a, replaced("c1"));
                assert_eq!(at_b, Verdict::SayAgain(again("c2", two.1)));
            }
        }
    }

    #[test]
    fn an_end_does_not_take_its_successor_with_it() {
        let devices = Devices::default();
        devices.insert(&words("c1", 1));
        devices.insert(&words("c2", 2));
        let inbox = InboxKey::new("t".parse().unwrap(), "ann".parse().unwrap());
        let device = "phone".parse().unwrap();
        devices.remove(&inbox, &device, &"c1".parse().unwrap());
        assert_eq!(devices.again(|_| true), [again("c2", 2)]);
        devices.remove(&inbox, &device, &"c2".parse().unwrap());
        assert_eq!(devices.heard(&again("c9", 9)), Verdict::Nothing);
    }
}
