//! What this node finds of its connections when an operator asks, here or on another node.

use std::sync::Arc;

use delivery::InboxKey;
use protocol::{
    CloseReason, ConnectionId,
    envelope::{CONNECTIONS_MAX, Close, ConnectionFacts, Findings, Inquiry, Then, Which},
};
use uuid::Uuid;

use super::{Live, connection::Connection};

/// Names or closes those that are meant; none where this node holds no connections, or where another one
/// is meant.
pub(super) fn inquire(live: &Live, Inquiry { id, which, then }: &Inquiry) -> Option<Findings> {
    let config = live.config();
    if !live.holds_connections() || which.node.as_ref().is_some_and(|name| *name != config.node_id)
    {
        return None;
    }
    let meant = meant(live, which);
    let connections = match then {
        Then::List { after, limit } => {
            let limit = usize::try_from(*limit).unwrap_or(usize::MAX).min(CONNECTIONS_MAX);
            let page = page(meant.clone(), after.as_ref(), limit);
            page.iter().map(|connection| facts(connection)).collect()
        }
        Then::Close(close) => {
            let reason = match close {
                Close::StayAway => CloseReason::Disconnected,
                Close::ComeBack => CloseReason::Moved,
            };
            meant.iter().for_each(|connection| connection.close(reason));
            Vec::new()
        }
    };
    let matching = meant.len() as u64;
    Some(Findings { inquiry: *id, node: config.node_id.clone(), matching, connections })
}

fn meant(live: &Live, Which { tenant, user, node: _, connection }: &Which) -> Vec<Arc<Connection>> {
    let mut all: Vec<_> = match (tenant, user) {
        (Some(tenant), Some(user)) => {
            live.registry().of(&InboxKey::new(tenant.clone(), user.clone())).into_vec()
        }
        _ => live.registry().all(),
    };
    // One that is none of ours cannot be read as one.
    let id = connection.as_ref().map(number);
    all.retain(|ours| {
        tenant.as_ref().is_none_or(|tenant| *tenant == ours.inbox().tenant)
            && user.as_ref().is_none_or(|user| *user == ours.inbox().user)
            && id.is_none_or(|id| id == Some(ours.id()))
    });
    all
}

fn number(id: &ConnectionId) -> Option<Uuid> {
    Uuid::try_parse(id.as_str()).ok()
}

/// The first of them behind one, by id.
fn page(
    mut all: Vec<Arc<Connection>>,
    after: Option<&ConnectionId>,
    limit: usize,
) -> Vec<Arc<Connection>> {
    if let Some(after) = after {
        // What cannot be read stands at the end: nothing is behind it.
        let after = number(after).unwrap_or(Uuid::max());
        all.retain(|connection| connection.id() > after);
    }
    if all.len() > limit {
        // Sorting a million for a page would take a second.
        all.select_nth_unstable_by_key(limit, |connection| connection.id());
        all.truncate(limit);
    }
    all.sort_unstable_by_key(|connection| connection.id());
    all
}

fn facts(connection: &Connection) -> ConnectionFacts {
    let info = connection.describe();
    ConnectionFacts {
        id: info.id,
        tenant: info.inbox.tenant,
        user: info.inbox.user,
        device: info.device,
        device_type: info.device_type,
        app_version: info.app_version,
        transport: info.transport,
        codec: info.codec,
        address: Some(info.address),
        connected_at: info.connected_at,
        last: info.last,
        acked: info.acked,
        queued_bytes: info.queued_bytes as u64,
        live: info.live,
    }
}
