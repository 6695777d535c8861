//! One node on SQLite.
/// How long an ack may wait in memory.
pub const CURSOR_FLUSH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
