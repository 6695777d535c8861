//! What this node listens to, and whether the server has said that it does.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::topic::Topic;

/// How long a topic is kept that nobody needs any more. A client that reconnects, which most do
/// within seconds, then costs no two commands.
const UNSUBSCRIBE_AFTER: Duration = Duration::from_secs(30);

/// All topics, each with how often it is needed.
#[derive(Default)]
pub(super) struct Interests(Mutex<HashMap<Topic, Entry, FxBuildHasher>>);

#[derive(Default)]
struct Entry {
    needed: u32,
    /// The connection on which the server confirmed it; none if none did.
    confirmed: Option<u64>,
    waiting: SmallVec<[oneshot::Sender<()>; 1]>,
    unneeded_since: Option<Instant>,
}

/// What became of a wish to listen.
pub(super) enum Wish {
    /// The server confirmed it before.
    Confirmed,
    /// It has to be asked for.
    New(oneshot::Receiver<()>),
    /// It was asked for.
    Asked(oneshot::Receiver<()>),
}

impl Interests {
    /// Needs a topic, until [`Interests::release`].
    pub(super) fn need(&self, topic: &Topic) -> Wish {
        let mut all = self.0.lock();
        let (entry, new) = match all.get_mut(topic) {
            Some(entry) => (entry, false),
            None => (all.entry(topic.clone()).or_default(), true),
        };
        entry.needed += 1;
        entry.unneeded_since = None;
        if entry.confirmed.is_some() {
            return Wish::Confirmed;
        }
        let (done, wait) = oneshot::channel();
        // Those who gave up must not pile up while the bus is down.
        entry.waiting.retain(|waiting| !waiting.is_closed());
        entry.waiting.push(done);
        if new { Wish::New(wait) } else { Wish::Asked(wait) }
    }

    /// Ends one [`Interests::need`].
    pub(super) fn release(&self, topic: &Topic) {
        if let Some(entry) = self.0.lock().get_mut(topic) {
            entry.needed = entry.needed.saturating_sub(1);
            if entry.needed == 0 {
                entry.unneeded_since = Some(Instant::now());
            }
        }
    }

    /// The server confirmed a subscription.
    pub(super) fn confirmed(&self, name: &str, connection: u64) {
        if let Some(entry) = self.0.lock().get_mut(name) {
            entry.confirmed = Some(connection);
            for waiting in entry.waiting.drain(..) {
                // Nobody waits any more where this fails.
                waiting.send(()).ok();
            }
        }
    }

    /// The server ended a subscription; whether it was one that is needed.
    pub(super) fn ended(&self, name: &str, connection: u64) -> bool {
        self.0.lock().get_mut(name).is_some_and(|entry| {
            let was = entry.confirmed == Some(connection);
            if was {
                entry.confirmed = None;
            }
            was && entry.needed > 0
        })
    }

    /// A connection is gone, and all that was confirmed on it.
    pub(super) fn lost(&self, connection: u64) {
        for entry in self.0.lock().values_mut() {
            if entry.confirmed == Some(connection) {
                entry.confirmed = None;
            }
        }
    }

    /// Topics of some partitions that are not confirmed on this connection.
    pub(super) fn missing(&self, connection: u64, owned: impl Fn(u16) -> bool) -> Vec<Topic> {
        let all = self.0.lock();
        let missing = all
            .iter()
            .filter(|(topic, entry)| entry.confirmed != Some(connection) && owned(topic.partition));
        missing.map(|(topic, _)| topic.clone()).collect()
    }

    /// Forgets topics that have not been needed for a while, of those confirmed on this connection.
    pub(super) fn forget(&self, connection: u64, now: Instant) -> Vec<Topic> {
        let gone = |entry: &Entry| {
            entry.needed == 0
                && entry.confirmed == Some(connection)
                && entry.unneeded_since.is_some_and(|since| now - since >= UNSUBSCRIBE_AFTER)
        };
        let mut all = self.0.lock();
        all.extract_if(|_, entry| gone(entry)).map(|(topic, _)| topic).collect()
    }

    /// Forgets what is not needed and was never confirmed: the bus was down meanwhile.
    pub(super) fn forget_unconfirmed(&self) {
        self.0.lock().retain(|_, entry| entry.needed > 0 || entry.confirmed.is_some());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use delivery::InboxKey;
    use protocol::TenantId;

    use super::{super::topic::Topics, *};

    fn topic(user: &str) -> Topic {
        Topics::new("t").inbox(&InboxKey::new(TenantId::default(), user.parse().unwrap()))
    }

    #[test]
    fn who_waits_is_told_once_it_is_confirmed() {
        let (interests, ann) = (Interests::default(), topic("ann"));
        let Wish::New(mut first) = interests.need(&ann) else { panic!() };
        let Wish::Asked(mut second) = interests.need(&ann) else { panic!() };
        assert!(first.try_recv().is_err());
        interests.confirmed(&ann.name, 1);
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(matches!(interests.need(&ann), Wish::Confirmed));
        interests.lost(2);
        assert!(matches!(interests.need(&ann), Wish::Confirmed));
        interests.lost(1);
        assert!(matches!(interests.need(&ann), Wish::Asked(_)));
        assert_eq!(interests.missing(3, |_| true), [ann]);
    }

    #[test]
    fn a_topic_is_kept_for_a_while() {
        let (interests, ann) = (Interests::default(), topic("ann"));
        interests.need(&ann);
        interests.confirmed(&ann.name, 1);
        interests.release(&ann);
        let now = Instant::now();
        assert!(interests.forget(1, now).is_empty());
        assert!(interests.forget(2, now + UNSUBSCRIBE_AFTER).is_empty());
        assert!(matches!(interests.need(&ann), Wish::Confirmed));
        assert!(interests.forget(1, now + UNSUBSCRIBE_AFTER).is_empty());
        interests.release(&ann);
        assert_eq!(interests.forget(1, now + 2 * UNSUBSCRIBE_AFTER), std::slice::from_ref(&ann));
        assert_eq!(interests.len(), 0);
        assert!(!interests.ended(&ann.name, 1));
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_noticed() {
        let (interests, ann) = (Interests::default(), topic("ann"));
        interests.need(&ann);
        assert!(!interests.ended(&ann.name, 1));
        interests.confirmed(&ann.name, 1);
        assert!(!interests.ended(&ann.name, 2));
        assert!(interests.ended(&ann.name, 1));
    }
}
