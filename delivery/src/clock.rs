//! The wall clock. Order never depends on it: positions in an inbox do.

use protocol::Time;

/// Now, in milliseconds.
#[must_use]
pub fn now() -> Time {
    Time::from_millis(jiff::Timestamp::now().as_millisecond())
}
