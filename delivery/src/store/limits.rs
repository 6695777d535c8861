//! Limits that every backend keeps, each with its unit and its reason.

/// Most channels of a tenant: a list of them is walked by admins, and each costs a row and a
/// counter.
pub const CHANNELS_MAX: u64 = 100_000;

/// Most members of a channel. A member costs a row; a message to the channel costs one record
/// whatever this number is.
pub const CHANNEL_MEMBERS_MAX: u64 = 1_000_000;

/// Most members that one change may name: they travel in one record.
pub const MEMBERS_CHANGE_MAX: usize = 10_000;

/// Most groups (channels, roles and the department) of one user: all are looked at when the inbox
/// is loaded.
pub const USER_GROUPS_MAX: usize = 1_000;

/// How long an answer to an `Idempotency-Key` is kept (contract §5).
pub const ANSWER_KEPT: std::time::Duration = std::time::Duration::from_hours(24);

/// How long it is kept what was sent, where nothing else is said: long enough to edit, recall and
/// look after a message in its quarter.
pub const SENT_KEPT: std::time::Duration = std::time::Duration::from_hours(90 * 24);

/// Most messages that one look for a sender's goes through: some milliseconds, in which other questions wait.
pub const SENT_LOOK_MAX: usize = 2_000;

/// How long statistics are kept: a year and a month, to compare a month with the same one before.
pub const STATS_KEPT: std::time::Duration = std::time::Duration::from_hours(400 * 24);

/// Most rows of an answer to a statistics question.
pub const STATS_ROWS_MAX: usize = 10_000;
