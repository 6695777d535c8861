//! What the server may say on a socket (contract §6).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    ChannelId, CloseReason, ConnectionId, DeviceId, ErrorType, Message, MessageId, NodeId, Seq,
    Status, Time, UserId,
};

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// This socket.
    pub connection_id: ConnectionId,
    /// Whose inbox it is.
    pub user_id: UserId,
    /// The device, from the token, or one made up for this connection.
    pub device_id: DeviceId,
    /// The node it is connected to.
    pub node_id: NodeId,
    /// The head of the inbox: the seq of its latest change.
    pub seq: Seq,
    /// Unread messages.
    pub unread_count: u64,
    /// How often the server pings; a client may take twice that for silence.
    pub ping_interval_ms: u64,
    /// The server's clock.
    pub server_time: Time,
}

/// A message's state changed, by any device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusUpdate {
    /// The message.
    pub message_id: MessageId,
    /// What it is now.
    pub status: Status,
    /// The device that did it; none where the server or the sender did.
    pub device_id: Option<DeviceId>,
    /// When.
    pub at: Time,
    /// The button that was pressed, where that is the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<PressedAction>,
}

/// A button of a message that its recipient pressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PressedAction {
    /// Which of the message's `actions`, from 0.
    pub index: u8,
    /// Its callback word, as the sender named it; empty for a button without one.
    pub action: String,
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "frames are encoded and dropped, never collected")]
pub enum ServerFrame {
    /// First frame.
    #[schemars(with = "Data<Welcome>")]
    Welcome(Welcome),
    /// A new or edited message.
    Message {
        /// The place of this change in the inbox.
        seq: Seq,
        /// Whether this user does not want to hear it now: the channel is muted, or these are quiet hours.
        /// The client shows it in its lists and neither rings nor pops up. Left out where it is false.
        #[schemars(default, skip_serializing_if = "std::ops::Not::not")]
        silent: bool,
        /// The message.
        data: Message,
    },
    /// A changed state.
    StatusUpdate {
        /// The place of this change in the inbox.
        seq: Seq,
        /// The change.
        data: StatusUpdate,
    },
    /// The backlog is through; live from here.
    #[schemars(with = "Data<SyncCompleteData>")]
    SyncComplete {
        /// The last seq of the backlog.
        seq: Seq,
    },
    /// The asked position is older than what is kept, or ahead of the inbox: fetch by REST.
    #[schemars(with = "Data<ResyncData>")]
    ResyncRequired {
        /// The oldest position that can be resumed from.
        min_seq: Seq,
    },
    /// A user came to or left a channel.
    #[schemars(with = "Data<PresenceData>")]
    Presence {
        /// The channel.
        channel_id: ChannelId,
        /// The user.
        user_id: UserId,
        /// Whether they are there now.
        online: bool,
    },
    /// The token ends soon: send another one with `refresh`, or be closed with 4001.
    #[schemars(with = "Data<TokenExpiringData>")]
    TokenExpiring {
        /// How long it still lives, in milliseconds.
        expires_in_ms: u64,
    },
    /// Are you there? Only for devices with the capability `app_ping`.
    Ping,
    /// Answer to a client's `ping`.
    Pong,
    /// A client frame was refused.
    #[schemars(with = "Data<ErrorData>")]
    Error {
        /// Stable slug.
        kind: ErrorType,
        /// One sentence.
        message: String,
        /// The type of the refused frame, where it could be read.
        reference: Option<String>,
    },
    /// Right before a close.
    #[schemars(with = "Data<DisconnectData>")]
    Disconnect {
        /// The close code that follows.
        code: u16,
        /// Why, in a few words.
        reason: String,
        /// Whether the client should come back by itself.
        reconnect: bool,
        /// When, if so.
        reconnect_after_ms: u64,
    },
}

impl ServerFrame {
    /// The `disconnect` frame of a reason.
    #[must_use]
    pub fn disconnect(reason: CloseReason, reconnect_after_ms: u64) -> Self {
        Self::Disconnect {
            code: reason.code(),
            reason: reason.text().to_owned(),
            reconnect: reason.reconnect(),
            reconnect_after_ms,
        }
    }

    /// Its type on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Message { .. } => "message",
            Self::StatusUpdate { .. } => "status_update",
            Self::SyncComplete { .. } => "sync_complete",
            Self::ResyncRequired { .. } => "resync_required",
            Self::Presence { .. } => "presence",
            Self::TokenExpiring { .. } => "token_expiring",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Error { .. } => "error",
            Self::Disconnect { .. } => "disconnect",
        }
    }

    /// The seq of a frame that changes the inbox.
    #[must_use]
    pub const fn seq(&self) -> Option<Seq> {
        match self {
            Self::Message { seq, .. } | Self::StatusUpdate { seq, .. } => Some(*seq),
            _ => None,
        }
    }
}

/// A frame whose `data` is this; for the schema only.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that is needed of it")]
struct Data<T> {
    data: T,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct SyncCompleteData {
    /// The last seq of the backlog.
    seq: Seq,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct ResyncData {
    /// The oldest position that can be resumed from.
    min_seq: Seq,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct PresenceData {
    /// The channel.
    channel_id: ChannelId,
    /// The user.
    user_id: UserId,
    /// Whether they are there now.
    online: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct TokenExpiringData {
    /// How long it still lives, in milliseconds.
    expires_in_ms: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct ErrorData {
    /// Stable slug.
    #[serde(rename = "type")]
    kind: ErrorType,
    /// One sentence.
    message: String,
    /// The type of the refused frame, where it could be read.
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct DisconnectData {
    /// The close code that follows.
    code: u16,
    /// Why, in a few words.
    reason: String,
    /// Whether the client should come back by itself.
    reconnect: bool,
    /// When, if so.
    reconnect_after_ms: u64,
}

impl Serialize for ServerFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = 1
            + usize::from(self.seq().is_some())
            + usize::from(matches!(self, Self::Message { silent: true, .. }))
            + usize::from(!matches!(self, Self::Ping | Self::Pong));
        let mut map = serializer.serialize_map(Some(entries))?;
        map.serialize_entry("type", self.name())?;
        if let Some(seq) = self.seq() {
            map.serialize_entry("seq", &seq)?;
        }
        if let Self::Message { silent: true, .. } = self {
            map.serialize_entry("silent", &true)?;
        }
        match self {
            Self::Welcome(data) => map.serialize_entry("data", data)?,
            Self::Message { data, .. } => map.serialize_entry("data", data)?,
            Self::StatusUpdate { data, .. } => map.serialize_entry("data", data)?,
            Self::SyncComplete { seq } => {
                map.serialize_entry("data", &SyncCompleteData { seq: *seq })?;
            }
            Self::ResyncRequired { min_seq } => {
                map.serialize_entry("data", &ResyncData { min_seq: *min_seq })?;
            }
            Self::Presence { channel_id, user_id, online } => map.serialize_entry(
                "data",
                &PresenceData {
                    channel_id: channel_id.clone(),
                    user_id: user_id.clone(),
                    online: *online,
                },
            )?,
            Self::TokenExpiring { expires_in_ms } => {
                map.serialize_entry("data", &TokenExpiringData { expires_in_ms: *expires_in_ms })?;
            }
            Self::Ping | Self::Pong => {}
            Self::Error { kind, message, reference } => map.serialize_entry(
                "data",
                &ErrorData { kind: *kind, message: message.clone(), reference: reference.clone() },
            )?,
            Self::Disconnect { code, reason, reconnect, reconnect_after_ms } => map
                .serialize_entry(
                    "data",
                    &DisconnectData {
                        code: *code,
                        reason: reason.clone(),
                        reconnect: *reconnect,
                        reconnect_after_ms: *reconnect_after_ms,
                    },
                )?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ServerFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "type")]
            kind: String,
            seq: Option<Seq>,
            #[serde(default)]
            silent: bool,
            #[serde(default)]
            data: Value,
        }
        fn data<T: serde::de::DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
            serde_json::from_value(value).map_err(E::custom)
        }
        use serde::de::Error;
        let wire = Wire::deserialize(deserializer)?;
        let seq = wire.seq.ok_or_else(|| D::Error::missing_field("seq"));
        Ok(match wire.kind.as_str() {
            "welcome" => Self::Welcome(data(wire.data)?),
            "message" => Self::Message { seq: seq?, silent: wire.silent, data: data(wire.data)? },
            "status_update" => Self::StatusUpdate { seq: seq?, data: data(wire.data)? },
            "sync_complete" => {
                Self::SyncComplete { seq: data::<SyncCompleteData, _>(wire.data)?.seq }
            }
            "resync_required" => {
                Self::ResyncRequired { min_seq: data::<ResyncData, _>(wire.data)?.min_seq }
            }
            "presence" => {
                let PresenceData { channel_id, user_id, online } = data(wire.data)?;
                Self::Presence { channel_id, user_id, online }
            }
            "token_expiring" => {
                let TokenExpiringData { expires_in_ms } = data(wire.data)?;
                Self::TokenExpiring { expires_in_ms }
            }
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "error" => {
                let ErrorData { kind, message, reference } = data(wire.data)?;
                Self::Error { kind, message, reference }
            }
            "disconnect" => {
                let DisconnectData { code, reason, reconnect, reconnect_after_ms } =
                    data(wire.data)?;
                Self::Disconnect { code, reason, reconnect, reconnect_after_ms }
            }
            other => return Err(D::Error::custom(format_args!("unknown server frame {other:?}"))),
        })
    }
}
