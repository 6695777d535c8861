//! What is published, opened.

use std::sync::Arc;

use metrics::Recorder;
use protocol::TenantId;

use super::{ContentKeys, metrics::ContentMetrics};
use crate::{
    Fanout,
    store::{Change, Stored},
};

/// Hands on what a store publishes, with its content. What was sent through this process is not opened for it:
/// it is still there as it was.
pub struct Opening {
    to: Arc<dyn Fanout>,
    keys: Arc<ContentKeys>,
    metrics: ContentMetrics,
}

impl Opening {
    /// In front of another fan-out.
    #[must_use]
    pub fn new(to: Arc<dyn Fanout>, keys: Arc<ContentKeys>, recorder: &dyn Recorder) -> Arc<Self> {
        Arc::new(Self { to, keys, metrics: ContentMetrics::new(recorder) })
    }
}

fn is_sealed(stored: &Stored) -> bool {
    matches!(&stored.change, Change::Message { body, .. } if body.sealed().is_some())
}

impl Fanout for Opening {
    fn publish(&self, changes: &[Stored]) {
        if !changes.iter().any(is_sealed) {
            return self.to.publish(changes);
        }
        let mut opened = Vec::with_capacity(changes.len());
        for stored in changes {
            let mut stored = stored.clone();
            if let Change::Message { body, .. } = &mut stored.change {
                match self.keys.open(&stored.inbox.tenant, body) {
                    Ok(readable) => *body = readable,
                    // Whoever is connected finds the hole, asks the store, and is told there.
                    Err(error) => {
                        self.metrics.note(&error);
                        break;
                    }
                }
            }
            opened.push(stored);
        }
        if !opened.is_empty() {
            self.to.publish(&opened);
        }
    }

    fn wants_unwatched(&self) -> bool {
        self.to.wants_unwatched()
    }

    fn advanced(&self, tenant: &TenantId, pos: u64) {
        self.to.advanced(tenant, pos);
    }
}
