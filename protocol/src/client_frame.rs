//! What a client may say on a socket (contract §6).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::SeqAccess};

use crate::{
    ChannelId, MessageId, Seq,
    limits::{CAPABILITIES_MAX, DEVICE_TEXT_BYTES_MAX, READ_IDS_MAX},
};

/// What kind of device a connection comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceType {
    /// A phone or tablet.
    Mobile,
    /// A desktop program.
    Desktop,
    /// A browser.
    Web,
    /// It did not say.
    #[default]
    Unknown,
}

impl DeviceType {
    /// Every kind, for metrics.
    pub const ALL: [Self; 4] = [Self::Mobile, Self::Desktop, Self::Web, Self::Unknown];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Desktop => "desktop",
            Self::Web => "web",
            Self::Unknown => "unknown",
        }
    }
}

/// Longest part of an unknown word that is repeated in the refusal, in characters.
const WORD_SHOWN_CHARS_MAX: usize = 32;

/// By its word: what `derive(Deserialize)` makes also takes the number of a variant, in MessagePack.
impl<'de> Deserialize<'de> for DeviceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            let shown: String = word.chars().take(WORD_SHOWN_CHARS_MAX).collect();
            serde::de::Error::custom(format_args!(
                "unknown device_type {shown:?}, expected one of {words}"
            ))
        })
    }
}

/// What a device says of itself (seed 003 §7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceInfo {
    /// Kind of device.
    #[serde(default)]
    pub device_type: DeviceType,
    /// Version of the app, at most [`DEVICE_TEXT_BYTES_MAX`] bytes.
    #[serde(default, deserialize_with = "short_text")]
    #[schemars(length(max = DEVICE_TEXT_BYTES_MAX))]
    pub app_version: String,
    /// What the device understands, such as `app_ping`; at most [`CAPABILITIES_MAX`].
    #[serde(default, deserialize_with = "capabilities")]
    #[schemars(length(max = CAPABILITIES_MAX), inner(length(max = DEVICE_TEXT_BYTES_MAX)))]
    pub capabilities: Vec<String>,
}

/// Which messages were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ReadTarget {
    /// These; at most [`READ_IDS_MAX`].
    Ids {
        /// The messages.
        #[schemars(length(max = READ_IDS_MAX))]
        message_ids: Vec<MessageId>,
    },
    /// All up to and with this position.
    UpTo {
        /// The position.
        up_to_seq: Seq,
    },
}

/// Data of a frame that needs none; `{}` and nothing are both accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// A frame from a client. It has no `Deserialize`: [`crate::Codec::decode_client`] is the one way in,
/// and the one with limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Are you there? Answered by `pong`.
    Ping(Option<Nothing>),
    /// Answer to the server's `ping`.
    Pong(Option<Nothing>),
    /// Device information.
    Device(DeviceInfo),
    /// Everything up to `seq` arrived on this device.
    Ack {
        /// The position.
        seq: Seq,
    },
    /// Messages were read.
    Read(ReadTarget),
    /// Send the backlog again from here.
    Sync {
        /// The last position the client has.
        since: Seq,
    },
    /// Live frames and presence of a channel on this connection.
    Join {
        /// The channel.
        channel_id: ChannelId,
    },
    /// No more of them.
    Leave {
        /// The channel.
        channel_id: ChannelId,
    },
    /// A new token before the old one expires.
    Refresh {
        /// The token.
        token: Token,
    },
}

impl ClientFrame {
    /// Its type on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::Device(_) => "device",
            Self::Ack { .. } => "ack",
            Self::Read(_) => "read",
            Self::Sync { .. } => "sync",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Refresh { .. } => "refresh",
        }
    }

    /// All names, for metrics.
    pub const NAMES: [&'static str; 9] =
        ["ping", "pong", "device", "ack", "read", "sync", "join", "leave", "refresh"];
}

/// A token in a frame. Prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads at most `max` items, whatever the frame claims to have: a claimed length never allocates.
fn bounded<'de, D, T>(deserializer: D, max: usize, what: &'static str) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T>(usize, &'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} {}", self.0, self.1)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == self.0 {
                    return Err(serde::de::Error::custom(format_args!(
                        "at most {} {} are allowed",
                        self.0, self.1
                    )));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Visitor(max, what, std::marker::PhantomData))
}

pub(crate) fn message_ids<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<MessageId>, D::Error> {
    bounded(deserializer, READ_IDS_MAX, "message_ids")
}

fn capabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Vec<String> = bounded(deserializer, CAPABILITIES_MAX, "capabilities")?;
    if list.iter().any(|text| text.len() > DEVICE_TEXT_BYTES_MAX) {
        return Err(serde::de::Error::custom(format_args!(
            "a capability has at most {DEVICE_TEXT_BYTES_MAX} bytes"
        )));
    }
    Ok(list)
}

fn short_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > DEVICE_TEXT_BYTES_MAX {
        return Err(serde::de::Error::custom(format_args!(
            "app_version has at most {DEVICE_TEXT_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}
