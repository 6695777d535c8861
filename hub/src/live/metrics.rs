//! What the live side counts. Names, labels and help stand here once; the reference in the docs is
//! made from [`ALL`].

use delivery::{metrics::Metric, preference::Reason};
use metrics::{Counter, Gauge, Histogram, Recorder};
use protocol::{ClientFrame, CloseReason, DeviceType};

use super::{
    framing::{Framing, Transport},
    wire_frame::FrameKind,
};

const CONNECTIONS: Metric = Metric::gauge(
    "pushhub_connections",
    "transport,device_type,codec",
    "Open connections on this node: WebSockets (ws) and event streams (sse).",
);
const CONNECTIONS_LIMIT: Metric =
    Metric::gauge("pushhub_connections_limit", "", "Most connections this node accepts.");
const USERS_ONLINE: Metric =
    Metric::gauge("pushhub_users_online", "", "Inboxes with at least one connection on this node.");
const ACCEPTED: Metric = Metric::counter(
    "pushhub_connections_accepted_total",
    "transport,codec",
    "Connections that got as far as their welcome.",
);
const REJECTED: Metric = Metric::counter(
    "pushhub_connections_rejected_total",
    "reason",
    "Handshakes that were refused, or did not reach their welcome.",
);
const DISCONNECTS: Metric =
    Metric::counter("pushhub_disconnects_total", "reason", "Ended connections by close reason.");
const LIFESPAN: Metric = Metric::histogram(
    "pushhub_connection_lifespan_seconds",
    "",
    "How long ended connections had lived.",
);
const PING_RTT: Metric = Metric::histogram(
    "pushhub_ping_rtt_seconds",
    "",
    "Time from a server's WebSocket ping to the pong.",
);
const DELIVERY: Metric = Metric::histogram(
    "pushhub_delivery_seconds",
    "path",
    "Time from the store being asked to the kernel having the whole frame: live was written at \
     once, queued waited for the socket. A change that another node stored: its age there, by that \
     node's clock, and the bus's latest round trip, which is one way from node to node; wall clocks \
     are not compared. A message to a group in a cluster: from its commit, by the database's clock. \
     What is older than ten minutes is not counted, it was not on its way.",
);
const ACK: Metric = Metric::histogram(
    "pushhub_delivery_ack_seconds",
    "",
    "Time from the store being asked to the device's ack of a change that was pushed to it, measured \
     as in pushhub_delivery_seconds. Of changes that wait for an ack at the same time the first 16 of \
     a connection count. Event streams confirm nothing.",
);
const FRAMES_SENT: Metric = Metric::counter(
    "pushhub_frames_sent_total",
    "transport,type",
    "Frames handed to the kernel whole.",
);
const SENT_BYTES: Metric =
    Metric::counter("pushhub_sent_bytes_total", "transport", "Bytes handed to the kernel.");
const FRAMES_RECEIVED: Metric = Metric::counter(
    "pushhub_frames_received_total",
    "type",
    "Frames from clients; invalid ones were refused.",
);
const REPLAYS: Metric = Metric::counter(
    "pushhub_replays_total",
    "result",
    "Catch-ups to the head at connect and by sync; resync_required where the position was not kept.",
);
const CATCHUPS: Metric = Metric::counter(
    "pushhub_outbox_catchups_total",
    "reason",
    "Live connections that were switched to reading the store: their outbox was full, or a seq was \
     missing.",
);
const OUTBOX_BYTES: Metric = Metric::gauge(
    "pushhub_outbox_bytes",
    "",
    "Memory of frames that wait for their sockets, over all connections.",
);
const REPAIRS: Metric = Metric::counter(
    "pushhub_position_check_repairs_total",
    "",
    "Connections that the periodic check found behind the store; more than a few mean a lossy bus.",
);
const REWOUND: Metric = Metric::counter(
    "pushhub_position_check_rewound_total",
    "",
    "Connections that the periodic check found ahead of the store: it has lost what was sent, and they are told `resync_required`.",
);
const SILENCED: Metric = Metric::counter(
    "pushhub_silent_messages_total",
    "reason",
    "Messages that were given to a user's devices on this node as silent, and why; each once, however many \
     devices, and once more for each device that reads it from its backlog.",
);
const PRESENCE_SKIPPED: Metric = Metric::counter(
    "pushhub_presence_skipped_total",
    "",
    "Lists and changes of presence that a reader had no room for; it gets a new list later.",
);
const DRAINING: Metric =
    Metric::gauge("pushhub_draining", "", "1 while the node sends its connections away.");

/// Every metric of the live side.
pub const ALL: &[Metric] = &[
    CONNECTIONS,
    CONNECTIONS_LIMIT,
    USERS_ONLINE,
    ACCEPTED,
    REJECTED,
    DISCONNECTS,
    LIFESPAN,
    PING_RTT,
    DELIVERY,
    ACK,
    FRAMES_SENT,
    SENT_BYTES,
    FRAMES_RECEIVED,
    REPLAYS,
    CATCHUPS,
    OUTBOX_BYTES,
    REPAIRS,
    REWOUND,
    SILENCED,
    PRESENCE_SKIPPED,
    DRAINING,
];

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The node or the user holds as many connections as it may.
    Limit,
    /// The address tried too often.
    Rate,
    /// No token, or a bad one.
    Auth,
    /// A web page of another origin.
    Origin,
    /// Known, but not allowed.
    Forbidden,
    /// The node is going down.
    Draining,
    /// Not RFC 6455, an unknown subprotocol, a bad parameter.
    BadRequest,
    /// The upgrade or the welcome took longer than the handshake timeout.
    Timeout,
    /// The store or the identity could not answer.
    Unavailable,
}

impl Rejection {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Limit, "limit"),
        (Self::Rate, "rate"),
        (Self::Auth, "auth"),
        (Self::Origin, "origin"),
        (Self::Forbidden, "forbidden"),
        (Self::Draining, "draining"),
        (Self::BadRequest, "bad_request"),
        (Self::Timeout, "timeout"),
        (Self::Unavailable, "unavailable"),
    ];
}

/// What became of a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It went out whole.
    Complete,
    /// The position is not kept any more, or was never reached.
    Resync,
}

/// Why a live connection reads the store again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CatchUpReason {
    /// Its outbox is full.
    Lagging,
    /// A seq was missing.
    Hole,
}

/// How a frame got out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// It was written at once.
    Live,
    /// It waited for the socket.
    Queued,
}

impl Path {
    const ALL: [Self; 2] = [Self::Live, Self::Queued];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Queued => "queued",
        }
    }
}

/// Handles, registered once with every value their labels can have, so that `rate()` sees the first
/// event.
pub(super) struct LiveMetrics {
    connections: [[Gauge; Framing::ALL.len()]; DeviceType::ALL.len()],
    pub(super) connections_limit: Gauge,
    pub(super) users_online: Gauge,
    accepted: [Counter; Framing::ALL.len()],
    rejected: [Counter; Rejection::ALL.len()],
    disconnects: [Counter; CloseReason::ALL.len()],
    pub(super) lifespan: Histogram,
    pub(super) ping_rtt: Histogram,
    delivery: [Histogram; Path::ALL.len()],
    pub(super) ack: Histogram,
    frames_sent: [[Counter; FrameKind::ALL.len()]; Transport::ALL.len()],
    sent_bytes: [Counter; Transport::ALL.len()],
    frames_received: [Counter; ClientFrame::NAMES.len()],
    pub(super) received_invalid: Counter,
    pub(super) received_control: Counter,
    replays: [Counter; 2],
    catchups: [Counter; 2],
    pub(super) outbox_bytes: Gauge,
    pub(super) repairs: Counter,
    pub(super) rewound: Counter,
    silenced: [Counter; Reason::ALL.len()],
    pub(super) presence_skipped: Counter,
    pub(super) draining: Gauge,
}

impl LiveMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let way = |transport: Transport| ("transport", transport.label());
        let encoded = |framing: Framing| ("codec", framing.codec().label());
        let received = |name| FRAMES_RECEIVED.to_counter(recorder, &[("type", name)]);
        let metrics = Self {
            connections: DeviceType::ALL.map(|device| {
                Framing::ALL.map(|framing| {
                    let device = ("device_type", device.as_str());
                    let labels = [way(framing.transport()), device, encoded(framing)];
                    CONNECTIONS.to_gauge(recorder, &labels)
                })
            }),
            connections_limit: CONNECTIONS_LIMIT.to_gauge(recorder, &[]),
            users_online: USERS_ONLINE.to_gauge(recorder, &[]),
            accepted: Framing::ALL.map(|framing| {
                ACCEPTED.to_counter(recorder, &[way(framing.transport()), encoded(framing)])
            }),
            rejected: Rejection::ALL
                .map(|(_, label)| REJECTED.to_counter(recorder, &[("reason", label)])),
            disconnects: CloseReason::ALL
                .map(|reason| DISCONNECTS.to_counter(recorder, &[("reason", reason.label())])),
            lifespan: LIFESPAN.to_histogram(recorder, &[]),
            ping_rtt: PING_RTT.to_histogram(recorder, &[]),
            delivery: Path::ALL
                .map(|path| DELIVERY.to_histogram(recorder, &[("path", path.label())])),
            ack: ACK.to_histogram(recorder, &[]),
            frames_sent: Transport::ALL.map(|transport| {
                FrameKind::ALL.map(|kind| {
                    FRAMES_SENT.to_counter(recorder, &[way(transport), ("type", kind.label())])
                })
            }),
            sent_bytes: Transport::ALL
                .map(|transport| SENT_BYTES.to_counter(recorder, &[way(transport)])),
            frames_received: ClientFrame::NAMES.map(received),
            received_invalid: received("invalid"),
            received_control: received("control"),
            replays: ["complete", "resync_required"]
                .map(|result| REPLAYS.to_counter(recorder, &[("result", result)])),
            catchups: ["lagging", "hole"]
                .map(|reason| CATCHUPS.to_counter(recorder, &[("reason", reason)])),
            outbox_bytes: OUTBOX_BYTES.to_gauge(recorder, &[]),
            repairs: REPAIRS.to_counter(recorder, &[]),
            rewound: REWOUND.to_counter(recorder, &[]),
            silenced: Reason::ALL
                .map(|reason| SILENCED.to_counter(recorder, &[("reason", reason.label())])),
            presence_skipped: PRESENCE_SKIPPED.to_counter(recorder, &[]),
            draining: DRAINING.to_gauge(recorder, &[]),
        };
        metrics.touch();
        metrics
    }

    /// Exporters show a series from its first use on.
    fn touch(&self) {
        let counters = self
            .accepted
            .iter()
            .chain(&self.rejected)
            .chain(&self.disconnects)
            .chain(self.frames_sent.iter().flatten())
            .chain(&self.sent_bytes)
            .chain(&self.frames_received)
            .chain(&self.replays)
            .chain(&self.catchups)
            .chain(&self.silenced)
            .chain([&self.repairs, &self.rewound, &self.presence_skipped])
            .chain([&self.received_invalid, &self.received_control]);
        counters.for_each(|counter| counter.increment(0));
        let gauges = [&self.users_online, &self.outbox_bytes, &self.draining];
        self.connections.iter().flatten().chain(gauges).for_each(|gauge| gauge.set(0.0));
    }

    pub(super) fn connections(&self, device: DeviceType, framing: Framing) -> &Gauge {
        &self.connections[device as usize][framing.index()]
    }

    pub(super) fn accepted(&self, framing: Framing) -> &Counter {
        &self.accepted[framing.index()]
    }

    pub(super) fn rejected(&self, reason: Rejection) -> &Counter {
        &self.rejected[reason as usize]
    }

    pub(super) fn disconnects(&self, reason: CloseReason) -> &Counter {
        &self.disconnects[reason as usize]
    }

    pub(super) fn frames_sent(&self, transport: Transport, kind: FrameKind) -> &Counter {
        &self.frames_sent[transport as usize][kind as usize]
    }

    pub(super) const fn delivery(&self, path: Path) -> &Histogram {
        &self.delivery[path as usize]
    }

    pub(super) fn sent_bytes(&self, transport: Transport) -> &Counter {
        &self.sent_bytes[transport as usize]
    }

    pub(super) fn received(&self, name: &str) {
        if let Some(at) = ClientFrame::NAMES.iter().position(|known| *known == name) {
            self.frames_received[at].increment(1);
        }
    }

    pub(super) fn silenced(&self, reason: Reason) -> &Counter {
        &self.silenced[reason as usize]
    }

    pub(super) fn replays(&self, result: Replay) -> &Counter {
        &self.replays[result as usize]
    }

    pub(super) fn catchups(&self, reason: CatchUpReason) -> &Counter {
        &self.catchups[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_their_enums() {
        for (at, (reason, _)) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(at, reason as usize);
        }
        for (at, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(at, reason as usize);
        }
        for (at, kind) in FrameKind::ALL.into_iter().enumerate() {
            assert_eq!(at, kind as usize);
        }
        for (at, device) in DeviceType::ALL.into_iter().enumerate() {
            assert_eq!(at, device as usize);
        }
        for (at, framing) in Framing::ALL.into_iter().enumerate() {
            assert_eq!(at, framing.index());
        }
        for (at, transport) in Transport::ALL.into_iter().enumerate() {
            assert_eq!(at, transport as usize);
        }
    }

    #[test]
    fn names_carry_the_prefix_and_differ() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("pushhub_")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
