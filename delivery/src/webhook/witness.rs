//! What happens to messages, as events for the services that sent them.

use std::{error::Error, sync::Arc};

use protocol::ServiceId;
use serde_json::{Map, Value, json};

use super::{Event, EventKind, EventSink, Webhooks};
use crate::store::{Happened, Happening, Witness};

impl Witness for Webhooks {
    fn wants(&self) -> bool {
        self.wants_any()
    }

    fn happened(&self, happenings: &[Happening]) -> Result<(), Arc<dyn Error + Send + Sync>> {
        let events: Vec<Event> =
            happenings.iter().filter_map(|happening| self.event(happening)).collect();
        if events.is_empty() {
            return Ok(());
        }
        self.record(events).map_err(|error| Arc::new(error) as Arc<dyn Error + Send + Sync>)
    }
}

impl Webhooks {
    /// What the service that sent the message is told; none where nobody wants to hear of it.
    fn event(&self, happening: &Happening) -> Option<Event> {
        let kind = kind(&happening.what)?;
        let facts = happening.body.facts();
        let service = facts.sender_info.as_ref()?.service_id.as_deref()?;
        let service = ServiceId::new(service).ok()?;
        let (tenant, user) = (&happening.inbox.tenant, &happening.inbox.user);
        if !EventSink::wants(self, tenant, &service, kind) {
            return None;
        }
        let mut data = Map::new();
        let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
        put("message_id", json!(happening.body.id()));
        put("user_id", json!(user));
        put("at", json!(happening.at));
        put("device_id", json!(happening.device));
        put("channel_id", json!(facts.channel_id));
        put("template_id", json!(facts.template_id));
        put("message_type", json!(facts.message_type));
        if let Happened::Pressed(action) = &happening.what {
            put("action", json!({"index": action.index, "action": action.action}));
        }
        // The same change of the same inbox, also after a crash. A first delivery has no place of its
        // own: there is one for each message.
        let id = format!("{}/{}/{}/{user}", kind.as_str(), happening.message_seq, happening.seq);
        let tenant = tenant.clone();
        Some(Event { id, tenant, service, kind, at: happening.at, data: Value::Object(data) })
    }
}

/// The word for it; none for what a second device does that a first has done.
fn kind(what: &Happened) -> Option<EventKind> {
    Some(match what {
        Happened::Delivered { first: true } => EventKind::Delivered,
        Happened::Acked { first: true } => EventKind::Acked,
        Happened::Delivered { first: false } | Happened::Acked { first: false } => return None,
        Happened::Read => EventKind::Read,
        Happened::Unread => EventKind::Unread,
        Happened::Archived => EventKind::Archived,
        Happened::Pressed(_) => EventKind::Action,
    })
}
