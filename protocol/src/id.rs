//! Ids as checked types: parsed at the edge, valid ever after.
//!
//! A textual id is 1–128 bytes of UTF-8 without control characters (contract §11). Nothing else is
//! assumed of it, above all not that it could be a file name: the store escapes it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::ID_BYTES_MAX;

/// An id as a regular expression of ECMA 262, for schemas: no control characters.
pub const ID_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// Why a text is no id. The message names the limit, never the text: ids may be personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has no characters.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`].
    #[error("must have at most {ID_BYTES_MAX} bytes, has {bytes}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text has a control character (U+0000–U+001F, U+007F–U+009F).
    #[error("must not contain control characters")]
    Control,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cloning shares the text.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long, or has control characters.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        /// What it is for is said where it stands, so that it needs no schema of its own.
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": ID_BYTES_MAX,
                    "pattern": ID_PATTERN,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "an id of 1 to {ID_BYTES_MAX} bytes without control characters")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

text_id!(
    /// A person (or bot) with an inbox.
    UserId
);
text_id!(
    /// A wall between customers. [`TenantId::default`] where none is named.
    TenantId
);
text_id!(
    /// One installation of an app.
    DeviceId
);
text_id!(
    /// One content, however many recipients it has.
    MessageId
);
text_id!(
    /// One live socket.
    ConnectionId
);
text_id!(
    /// One running process.
    NodeId
);
text_id!(
    /// A registered backend.
    ServiceId
);
text_id!(
    /// A named group of users.
    ChannelId
);
text_id!(
    /// A name that users carry; `department:<name>` for a department.
    RoleId
);

impl Default for TenantId {
    fn default() -> Self {
        // One text for all: every inbox and connection in memory has its tenant.
        static DEFAULT: OnceLock<TenantId> = OnceLock::new();
        DEFAULT.get_or_init(|| Self("default".into())).clone()
    }
}

/// The position of a change in an inbox: 1, 2, 3 …, without holes, never reused. 0 is "before the
/// first".
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The position after this one. The last one stays where it is: a client may claim any number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
