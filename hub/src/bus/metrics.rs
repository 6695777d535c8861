//! What the bus counts.

use delivery::metrics::Metric;
use metrics::{Counter, Gauge, Histogram, Recorder};

use super::{Doubt, State};

const STATE: Metric = Metric::gauge(
    "pushhub_bus_state",
    "state",
    "1 for the state the way to other nodes is in: up, doubtful (back, not proven yet), connecting, down.",
);
const PUBLISHED: Metric = Metric::counter(
    "pushhub_bus_published_total",
    "kind",
    "Envelopes for other nodes that were put into the queue to the bus.",
);
const RECEIVED: Metric = Metric::counter(
    "pushhub_bus_received_total",
    "kind",
    "Envelopes of other nodes that were acted upon.",
);
const DROPPED: Metric = Metric::counter(
    "pushhub_bus_dropped_total",
    "reason",
    "Envelopes that were not published: the queue was full, the server refused them, or no server was \
     known. Other nodes find what they missed in the store.",
);
const PASSED_OVER: Metric = Metric::counter(
    "pushhub_bus_passed_over_total",
    "reason",
    "Messages on the bus that were not understood (of a newer node: kind, version; or no envelopes: \
     malformed), and questions that came while too many were being answered (busy).",
);
const DOUBTS: Metric = Metric::counter(
    "pushhub_bus_doubts_total",
    "reason",
    "Times that something of other nodes may have been missed, so that all connections were compared \
     with the store.",
);
const HOLES: Metric = Metric::counter(
    "pushhub_bus_holes_total",
    "",
    "Envelopes of other nodes that are missing, by their numbers.",
);
const RECONNECTS: Metric = Metric::counter(
    "pushhub_bus_reconnects_total",
    "reason",
    "Connections to the bus that were given up: broken, silent (what was published did not come back in \
     time), refused (no connection, or not by this server).",
);
const RESUBSCRIBED: Metric = Metric::counter(
    "pushhub_bus_resubscribed_total",
    "",
    "Subscriptions that were made anew and confirmed after a connection or a slot had moved.",
);
const TOPICS: Metric = Metric::gauge(
    "pushhub_bus_topics",
    "",
    "Topics this node listens to: users, channels, tenants.",
);
const QUEUE_BYTES: Metric =
    Metric::gauge("pushhub_bus_queue_bytes", "", "Memory of envelopes that wait to be published.");
const QUEUE_MESSAGES: Metric =
    Metric::gauge("pushhub_bus_queue_messages", "", "Envelopes that wait to be published.");
const ROUND_TRIP: Metric = Metric::histogram(
    "pushhub_bus_round_trip_seconds",
    "",
    "Time from a node's ping being queued to it coming back through the bus.",
);
const NODES: Metric =
    Metric::gauge("pushhub_bus_nodes", "", "Nodes that are heard on the bus, this one included.");

const CONFLICTS: Metric = Metric::counter(
    "pushhub_bus_conflicts_total",
    "what",
    "Nodes that cannot be right beside this one: with the same NODE_ID (`node_id`), with another JWT_SECRET \
     (`secrets`) or ADMIN_TOKEN (`admin_token`), or that use this database and are not heard (`unheard`). The \
     log says more.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[
    STATE,
    PUBLISHED,
    RECEIVED,
    DROPPED,
    PASSED_OVER,
    DOUBTS,
    HOLES,
    RECONNECTS,
    RESUBSCRIBED,
    TOPICS,
    QUEUE_BYTES,
    QUEUE_MESSAGES,
    ROUND_TRIP,
    NODES,
    CONFLICTS,
];

const KINDS: [&str; 9] =
    ["changes", "group", "connected", "presence", "revoked", "node", "ping", "inquiry", "spent"];

/// Why an envelope was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    QueueFull,
    Refused,
    NoServer,
}

impl Drop {
    const ALL: [(Self, &'static str); 3] = [
        (Self::QueueFull, "queue_full"),
        (Self::Refused, "refused"),
        (Self::NoServer, "no_server"),
    ];
}

/// Why bytes were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strange {
    Kind,
    Version,
    Malformed,
    /// A question, while as many are being answered as may be.
    Busy,
}

impl Strange {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Kind, "kind"),
        (Self::Version, "version"),
        (Self::Malformed, "malformed"),
        (Self::Busy, "busy"),
    ];
}

/// What two nodes disagree about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    NodeId,
    Secrets,
    AdminToken,
    /// Nodes use the database of this one and are not heard.
    Unheard,
}

impl Conflict {
    const ALL: [(Self, &'static str); 4] = [
        (Self::NodeId, "node_id"),
        (Self::Secrets, "secrets"),
        (Self::AdminToken, "admin_token"),
        (Self::Unheard, "unheard"),
    ];
}

/// Why a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    Broken,
    Silent,
    Refused,
}

impl GivenUp {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Broken, "broken"), (Self::Silent, "silent"), (Self::Refused, "refused")];
}

/// The handles.
pub(super) struct BusMetrics {
    states: [Gauge; State::ALL.len()],
    published: [Counter; KINDS.len()],
    received: [Counter; KINDS.len()],
    dropped: [Counter; Drop::ALL.len()],
    passed_over: [Counter; Strange::ALL.len()],
    doubts: [Counter; Doubt::ALL.len()],
    reconnects: [Counter; GivenUp::ALL.len()],
    conflicts: [Counter; Conflict::ALL.len()],
    pub(super) holes: Counter,
    pub(super) resubscribed: Counter,
    pub(super) topics: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) queue_messages: Gauge,
    pub(super) round_trip: Histogram,
    pub(super) nodes: Gauge,
}

impl BusMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let counter = |metric: Metric, label, value| metric.to_counter(recorder, &[(label, value)]);
        let metrics = Self {
            states: State::ALL.map(|state| STATE.to_gauge(recorder, &[("state", state.label())])),
            published: KINDS.map(|kind| counter(PUBLISHED, "kind", kind)),
            received: KINDS.map(|kind| counter(RECEIVED, "kind", kind)),
            dropped: Drop::ALL.map(|(_, reason)| counter(DROPPED, "reason", reason)),
            passed_over: Strange::ALL.map(|(_, reason)| counter(PASSED_OVER, "reason", reason)),
            doubts: Doubt::ALL.map(|doubt| counter(DOUBTS, "reason", doubt.label())),
            reconnects: GivenUp::ALL.map(|(_, reason)| counter(RECONNECTS, "reason", reason)),
            conflicts: Conflict::ALL.map(|(_, what)| counter(CONFLICTS, "what", what)),
            holes: HOLES.to_counter(recorder, &[]),
            resubscribed: RESUBSCRIBED.to_counter(recorder, &[]),
            topics: TOPICS.to_gauge(recorder, &[]),
            queue_bytes: QUEUE_BYTES.to_gauge(recorder, &[]),
            queue_messages: QUEUE_MESSAGES.to_gauge(recorder, &[]),
            round_trip: ROUND_TRIP.to_histogram(recorder, &[]),
            nodes: NODES.to_gauge(recorder, &[]),
        };
        metrics.nodes.set(1.0);
        metrics.state(State::Connecting);
        metrics
    }

    pub(super) fn state(&self, state: State) {
        for (other, gauge) in State::ALL.iter().zip(&self.states) {
            gauge.set(if *other == state { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn published(&self, kind: &'static str) -> &Counter {
        &self.published[place(kind)]
    }

    pub(super) fn received(&self, kind: &'static str) -> &Counter {
        &self.received[place(kind)]
    }

    pub(super) fn dropped(&self, reason: Drop) -> &Counter {
        &self.dropped[reason as usize]
    }

    pub(super) fn passed_over(&self, reason: Strange) -> &Counter {
        &self.passed_over[reason as usize]
    }

    pub(super) fn doubts(&self, doubt: Doubt) -> &Counter {
        &self.doubts[doubt as usize]
    }

    pub(super) fn reconnects(&self, reason: GivenUp) -> &Counter {
        &self.reconnects[reason as usize]
    }

    pub(super) fn conflicts(&self, what: Conflict) -> &Counter {
        &self.conflicts[what as usize]
    }
}

fn place(kind: &'static str) -> usize {
    KINDS.iter().position(|other| *other == kind).expect("KINDS has every label of an event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        for (at, (reason, _)) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
        for (at, (reason, _)) in Strange::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
        for (at, (reason, _)) in GivenUp::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
        for (at, (what, _)) in Conflict::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, at);
        }
        for (at, (what, _)) in Conflict::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, at);
        }
        for (at, doubt) in Doubt::ALL.into_iter().enumerate() {
            assert_eq!(doubt as usize, at);
        }
    }
}
