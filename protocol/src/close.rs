//! Why a socket ends: the one table of codes, texts and what the client does next.

/// Every way in which the server ends a connection.
///
/// 4000–4499 and 1012, 1013 mean "come back, with backoff"; 4500–4999 and 1009 mean "do not come
/// back by yourself". The number alone decides, so that a client in any language needs one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said goodbye.
    ClientClosed,
    /// The transport broke.
    ConnectionLost,
    /// The token's `exp` passed without a refresh.
    TokenExpired,
    /// Nothing was heard from the client for a whole heartbeat.
    NoHeartbeat,
    /// The client read nothing for a whole stall timeout.
    NoProgress,
    /// The node holds as many connections as it may.
    TooManyConnections,
    /// The client sends faster than it may.
    TooManyFrames,
    /// The node is going down.
    Restarting,
    /// The store cannot answer now.
    TryLater,
    /// The client broke RFC 6455 or sent something that is no frame.
    BadFrame,
    /// A frame over [`crate::limits::CLIENT_FRAME_BYTES_MAX`].
    TooBig,
    /// The session was ended.
    Revoked,
    /// This user may not connect.
    NotAllowed,
    /// The same device connected again.
    Replaced,
    /// An operator ended it.
    Disconnected,
    /// It is to be opened anew, likely on another node: this one holds more than its share.
    Moved,
    /// It is as old as a connection may become.
    Aged,
}

impl CloseReason {
    /// All of them, for metrics and docs.
    pub const ALL: [Self; 17] = [
        Self::ClientClosed,
        Self::ConnectionLost,
        Self::TokenExpired,
        Self::NoHeartbeat,
        Self::NoProgress,
        Self::TooManyConnections,
        Self::TooManyFrames,
        Self::Restarting,
        Self::TryLater,
        Self::BadFrame,
        Self::TooBig,
        Self::Revoked,
        Self::NotAllowed,
        Self::Replaced,
        Self::Disconnected,
        Self::Moved,
        Self::Aged,
    ];

    /// The close code. 1006 is never sent: it stands for "no close frame".
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::ClientClosed => 1000,
            Self::ConnectionLost => 1006,
            Self::TokenExpired => 4001,
            Self::NoHeartbeat | Self::NoProgress => 4008,
            Self::TooManyConnections | Self::TooManyFrames => 4029,
            Self::Restarting | Self::Moved | Self::Aged => 1012,
            Self::TryLater => 1013,
            Self::BadFrame => 4500,
            Self::TooBig => 1009,
            Self::Revoked => 4501,
            Self::NotAllowed => 4503,
            Self::Replaced => 4509,
            Self::Disconnected => 4502,
        }
    }

    /// Whether the client should come back by itself.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        match self {
            Self::ConnectionLost
            | Self::TokenExpired
            | Self::NoHeartbeat
            | Self::NoProgress
            | Self::TooManyConnections
            | Self::TooManyFrames
            | Self::Restarting
            | Self::TryLater
            | Self::Moved
            | Self::Aged => true,
            Self::ClientClosed
            | Self::BadFrame
            | Self::TooBig
            | Self::Revoked
            | Self::NotAllowed
            | Self::Replaced
            | Self::Disconnected => false,
        }
    }

    /// A few words for people and logs; at most 123 bytes (RFC 6455 §5.5.1).
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "closed by the client",
            Self::ConnectionLost => "connection lost",
            Self::TokenExpired => "token expired",
            Self::NoHeartbeat => "no heartbeat",
            Self::NoProgress => "client stopped reading",
            Self::TooManyConnections => "too many connections",
            Self::TooManyFrames => "too many frames",
            Self::Restarting => "restarting",
            Self::TryLater => "try again later",
            Self::BadFrame => "bad frame",
            Self::TooBig => "frame too big",
            Self::Revoked => "logged out or revoked",
            Self::NotAllowed => "not allowed",
            Self::Replaced => "replaced by the same device",
            Self::Disconnected => "disconnected by an operator",
            Self::Moved => "moved to another node",
            Self::Aged => "connection is to be renewed",
        }
    }

    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ConnectionLost => "connection_lost",
            Self::TokenExpired => "token_expired",
            Self::NoHeartbeat => "no_heartbeat",
            Self::NoProgress => "no_progress",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFrames => "too_many_frames",
            Self::Restarting => "restarting",
            Self::TryLater => "try_later",
            Self::BadFrame => "bad_frame",
            Self::TooBig => "too_big",
            Self::Revoked => "revoked",
            Self::NotAllowed => "not_allowed",
            Self::Replaced => "replaced",
            Self::Disconnected => "disconnected",
            Self::Moved => "moved",
            Self::Aged => "aged",
        }
    }

    /// Whether an operator wants to see it (warn), or it is everyday life (debug).
    #[must_use]
    pub const fn is_notable(self) -> bool {
        match self {
            Self::NoProgress
            | Self::TooManyConnections
            | Self::TooManyFrames
            | Self::TryLater
            | Self::BadFrame
            | Self::TooBig
            | Self::Revoked
            | Self::NotAllowed
            | Self::Disconnected => true,
            Self::ClientClosed
            | Self::ConnectionLost
            | Self::TokenExpired
            | Self::NoHeartbeat
            | Self::Restarting
            | Self::Replaced
            | Self::Moved
            | Self::Aged => false,
        }
    }
}
