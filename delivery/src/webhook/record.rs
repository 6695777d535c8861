//! How the rest of the program tells of events.

use protocol::{ServiceId, TenantId};
use rustc_hash::FxHashSet;

use super::{
    Event, EventKind, WebhookError, Webhooks, deliveries::NewDelivery, event::EVENT_BYTES_MAX,
};

/// Most events in one transaction; more are recorded one part after the other, each durable by
/// itself.
const RECORD_MAX: usize = 4_096;

/// Takes events that services may want to hear of. Called where messages change: never from a task,
/// because [`EventSink::record`] waits for the disk or the database.
pub trait EventSink: Send + Sync {
    /// Whether an event would be kept; asked before one is made.
    fn wants(&self, tenant: &TenantId, service: &ServiceId, kind: EventKind) -> bool;

    /// Whether any event would be kept. One read of memory: where this is false, whoever changes
    /// messages need not even know whose they are.
    fn wants_any(&self) -> bool;

    /// Keeps events for every endpoint that wants them. When it returns they are durable; each is
    /// kept once, however often it is recorded. What nobody wants is passed over.
    ///
    /// # Errors
    /// [`WebhookError::NotWritable`], and nothing (or, of more than 4,096 events, a part) was kept, or
    /// [`WebhookError::Unknown`]: the caller keeps what it has and tries again.
    /// [`WebhookError::Closed`].
    fn record(&self, events: Vec<Event>) -> Result<(), WebhookError>;
}

impl EventSink for Webhooks {
    fn wants(&self, tenant: &TenantId, service: &ServiceId, kind: EventKind) -> bool {
        let known = self.0.known.load();
        known.of(service).any(|endpoint| {
            endpoint.active && endpoint.tenant == *tenant && endpoint.kinds & kind.bit() != 0
        })
    }

    fn wants_any(&self) -> bool {
        self.0.known.load().active > 0
    }

    fn record(&self, events: Vec<Event>) -> Result<(), WebhookError> {
        let (known, now) = (self.0.known.load_full(), self.0.now());
        let mut rows = Vec::new();
        for event in &events {
            let mut made = None;
            for endpoint in known.of(&event.service) {
                let wants = endpoint.active
                    && endpoint.tenant == event.tenant
                    && endpoint.kinds & event.kind.bit() != 0;
                if !wants {
                    continue;
                }
                let (id, body) = made.get_or_insert_with(|| (event.wire_id(), event.body()));
                if body.len() > EVENT_BYTES_MAX {
                    self.0.metrics.dropped_large.increment(1);
                    tracing::error!(
                        webhook = endpoint.id,
                        bytes = body.len(),
                        "an event is too large and was dropped"
                    );
                    continue;
                }
                rows.push(NewDelivery {
                    endpoint: endpoint.key,
                    event: id.clone(),
                    kind: event.kind.as_str(),
                    at: event.at,
                    body: body.clone(),
                    since: now,
                });
            }
        }
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let part: Vec<_> = rows.by_ref().take(RECORD_MAX).collect();
            let keys: FxHashSet<_> = part.iter().map(|row| row.endpoint).collect();
            self.0.writer()?.record(part)?;
            self.0.expect(keys, now);
        }
        Ok(())
    }
}
