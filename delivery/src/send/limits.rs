//! Limits of a send, each with its unit and its reason. Over a limit is 422, which names it.

pub use crate::template::{CONTENT_BYTES_MAX, TITLE_BYTES_MAX};

/// Most recipients of one message (contract §5).
pub const RECIPIENTS_MAX: usize = 10_000;

/// Most recipients of a message that an ordinary user sends (contract §11).
pub const USER_RECIPIENTS_MAX: usize = 20;

/// Most channels and roles among the recipients of one message: each inbox in memory that is in one
/// of them is held against all of them.
pub const GROUPS_MAX: usize = 100;

/// Most channels that are looked at to name the one that may have been meant.
pub const NEAREST_LOOKED_AT_MAX: usize = 500;

/// Most unknown channels of one message for which that is done.
pub const NEAREST_TOLD_MAX: usize = 3;

/// Most messages of one batch (contract §5).
pub const BATCH_MAX: usize = 1_000;

/// How far ahead a message may be scheduled: who means to remind in a year can, and a slip of the pen
/// in the year does not wait for ever.
pub const SCHEDULE_AHEAD_MAX: std::time::Duration = std::time::Duration::from_hours(366 * 24);

/// Longest message type, in bytes: it is an index key.
pub const MESSAGE_TYPE_BYTES_MAX: usize = 64;

/// Largest metadata, in bytes of JSON: it travels in every frame of the message.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// Deepest metadata, in levels below `metadata`: clients parse it recursively.
pub const METADATA_DEPTH_MAX: usize = 16;

/// Most attachments.
pub const ATTACHMENTS_MAX: usize = 20;

/// Most actions: more buttons fit no screen.
pub const ACTIONS_MAX: usize = 10;

/// Longest name, button text, callback name, MIME type, in bytes.
pub const SHORT_TEXT_BYTES_MAX: usize = 256;

/// Longest link, in bytes: what browsers and proxies agree on.
pub const URL_BYTES_MAX: usize = 2 << 10;

/// Largest attachment size, in bytes, that a client in JavaScript can read exactly.
pub const ATTACHMENT_SIZE_MAX: u64 = (1 << 53) - 1;

/// Most problems that are told at once; an answer to 10,000 bad recipients helps nobody.
pub const PROBLEMS_MAX: usize = 50;
