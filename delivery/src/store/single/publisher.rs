//! Hands durable changes to the fan-out on threads of its own, so that the next commit does not
//! wait for sockets.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::metrics::StoreMetrics;
use crate::{Fanout, store::Stored};

/// Changes that may wait for one publisher, about 150 bytes each plus shared bodies. At 120,000
/// deliveries a second this is two seconds of work. Above it changes are dropped and counted: the
/// connection sees the hole and reads the store.
const QUEUE_MAX: usize = 262_144;

/// One publisher's queue; an inbox always has the same publisher, which keeps its order.
pub(super) struct Publisher {
    queue: Mutex<Queue>,
    wake: Condvar,
    metrics: Arc<StoreMetrics>,
}

/// Changes that the committer publishes by itself, at most: writing them costs less than waking the
/// publisher, some 8 µs each.
const INLINE_MAX: usize = 4;

#[derive(Default)]
struct Queue {
    changes: VecDeque<Stored>,
    /// Somebody is publishing; whoever comes next must wait, or an inbox's order is lost.
    busy: bool,
    closing: bool,
}

impl Publisher {
    pub(super) fn new(metrics: Arc<StoreMetrics>) -> Self {
        Self { queue: Mutex::default(), wake: Condvar::new(), metrics }
    }

    /// Publishes a few changes at once if the publisher rests and the caller has the time, else
    /// leaves them to it.
    pub(super) fn offer(&self, changes: &mut Vec<Stored>, at_leisure: bool, fanout: &dyn Fanout) {
        if changes.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        let rests = !queue.busy && queue.changes.is_empty();
        if at_leisure && rests && changes.len() <= INLINE_MAX {
            queue.busy = true;
            drop(queue);
            publish(changes, fanout);
            self.queue.lock().busy = false;
            return;
        }
        if queue.changes.len() + changes.len() > QUEUE_MAX {
            self.metrics.publish_dropped.increment(changes.len() as u64);
            changes.clear();
            return;
        }
        queue.changes.extend(changes.drain(..));
        drop(queue);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    /// Publishes until closed and empty.
    pub(super) fn run(&self, fanout: &dyn Fanout) {
        let mut batch = Vec::new();
        loop {
            {
                let mut queue = self.queue.lock();
                queue.busy = false;
                while queue.changes.is_empty() {
                    if queue.closing {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
                // Only the committer offers, and it is here when it has finished by itself.
                queue.busy = true;
                batch.extend(queue.changes.drain(..));
            }
            publish(&mut batch, fanout);
            batch.shrink_to(1024);
        }
    }
}

fn publish(batch: &mut Vec<Stored>, fanout: &dyn Fanout) {
    // Several changes of one inbox become one write. The sort is stable: each inbox keeps its
    // order, and between inboxes there is none to keep.
    if batch.len() > 1 {
        batch.sort_by_key(owner);
    }
    // What came while nobody watched is not here: where an inbox was watched before and again after, two
    // runs of changes meet, and as one they would be taken for contiguous.
    for changes in batch.chunk_by(|a, b| owner(a) == owner(b) && a.seq.next() == b.seq) {
        fanout.publish(changes);
    }
    batch.clear();
}

/// Tells inboxes apart by address: all changes of one inbox share its key's text.
fn owner(stored: &Stored) -> *const u8 {
    stored.inbox.user.as_str().as_ptr()
}

#[cfg(test)]
mod tests {
    use protocol::{MessageId, Seq, Status, TenantId, Time, UserId};

    use super::*;
    use crate::store::{Change, InboxKey, StatusChange};

    #[derive(Default)]
    struct Runs(Mutex<Vec<Vec<u64>>>);

    impl Fanout for Runs {
        fn publish(&self, changes: &[Stored]) {
            self.0.lock().push(changes.iter().map(|change| change.seq.0).collect());
        }
    }

    /// A connection took the change after the hole for one it had been given, and lost it.
    #[test]
    fn changes_before_and_after_an_absence_were_published_as_contiguous() {
        let inbox = InboxKey::new(TenantId::default(), UserId::new("ann").unwrap());
        let change = |seq| {
            let id = MessageId::new("m").unwrap();
            let change = Change::Status(StatusChange::new(id, Status::Read, Time::default()));
            Stored { inbox: inbox.clone(), seq: Seq(seq), change, accepted: None }
        };
        let runs = Runs::default();
        publish(&mut [1, 2, 4, 5].map(change).to_vec(), &runs);
        assert_eq!(*runs.0.lock(), [vec![1, 2], vec![4, 5]]);
    }
}
