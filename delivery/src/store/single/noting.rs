//! What devices got and confirmed: cursors, and notes for receipts.

use std::{future::Future, sync::Arc, time::Instant};

use protocol::{DeviceId, MessageId, Seq};

use super::{
    SingleStore,
    inbox::{Inbox, State},
    metrics::StoreMetrics,
    receipts::{Kind, Note},
};
use crate::{InboxKey, StoreError, clock, store::Receipt};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Advanced {
    Yes,
    No,
    NotLoaded,
}

impl SingleStore {
    /// See [`crate::Store::ack`].
    pub(super) fn note_ack(&self, key: &InboxKey, device: &DeviceId, seq: Seq) {
        let inbox = self.inbox(key);
        match advance(&inbox, device, seq, &self.metrics) {
            Advanced::Yes => self.queue(inbox),
            Advanced::No => {}
            Advanced::NotLoaded => {
                let (asked, device) = (Arc::clone(&inbox), device.clone());
                let metrics = Arc::clone(&self.metrics);
                self.workers[inbox.worker].tell(move |files| {
                    if files.load(&asked).is_ok()
                        && advance(&asked, &device, seq, &metrics) == Advanced::Yes
                    {
                        // The inbox is at hand, so the file is written now.
                        let _ = files.flush(&asked, false);
                    }
                });
            }
        }
    }

    /// See [`crate::Store::delivered`].
    pub(super) fn note_delivered(&self, key: &InboxKey, device: &DeviceId, from: Seq, to: Seq) {
        // Whoever is sent frames watches the inbox, so it is in memory, and loaded.
        let Some(inbox) = self.inboxes.find(key) else { return };
        let due = {
            let mut state = inbox.state.lock();
            let Some(head) = state.loaded().map(|loaded| loaded.head) else { return };
            let (from, to) = (from.next(), to.min(head));
            if from > to {
                return;
            }
            let (device, at) = (device.clone(), clock::now());
            let note = Note { kind: Kind::Delivered, device, from: Some(from), to, at };
            add(&mut state, note, &self.metrics);
            state.needs_work()
        };
        if due {
            self.queue(inbox);
        }
    }

    /// Has an inbox written sooner or later.
    fn queue(&self, inbox: Arc<Inbox>) {
        let queued = std::mem::replace(&mut inbox.state.lock().queued, true);
        if !queued {
            self.workers[inbox.worker].mark_dirty(Instant::now(), &mut vec![inbox]);
        }
    }

    /// What became of a message in an inbox; none where it is not there, or not any more.
    pub(super) fn receipt_in(
        &self,
        key: &InboxKey,
        id: &MessageId,
    ) -> impl Future<Output = Result<Option<Receipt>, StoreError>> + Send + use<'_> {
        let (inbox, id) = (self.inbox(key), id.clone());
        async move {
            if let Some(notes) = &mut inbox.state.lock().notes {
                notes.due = true;
            }
            let key = inbox.key.clone();
            let found = self
                .ask(&inbox, move |open, templates| open.receipt_of(templates, &key, &id))
                .await?;
            Ok(found.flatten())
        }
    }
}

fn add(state: &mut State, note: Note, metrics: &StoreMetrics) {
    let lost = state.notes.get_or_insert_default().add(note);
    if lost > 0 {
        metrics.notes_dropped.increment(lost);
    }
}

/// Moves a device's cursor, and notes what it confirmed by that.
fn advance(inbox: &Inbox, device: &DeviceId, seq: Seq, metrics: &StoreMetrics) -> Advanced {
    let mut state = inbox.state.lock();
    let Some(head) = state.loaded().map(|loaded| loaded.head) else { return Advanced::NotLoaded };
    let (to, at) = (seq.min(head), clock::now());
    if seq == Seq::ZERO {
        return Advanced::No;
    }
    let cursors = state.cursors.get_or_insert_default();
    let from = cursors.get(device).map(Seq::next);
    if !cursors.advance(device, to, at) {
        return Advanced::No;
    }
    if to > Seq::ZERO {
        add(&mut state, Note { kind: Kind::Acked, device: device.clone(), from, to, at }, metrics);
    }
    Advanced::Yes
}
