//! The ways in which a client is connected.

/// The way a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `GET /ws`.
    WebSocket,
    /// `GET /api/v3/stream`: the same frames one way, as server-sent events.
    EventStream,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::WebSocket, Self::EventStream];

    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::EventStream => "sse",
        }
    }

    /// A word for operators, and between nodes.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "sse",
        }
    }
}
