//! What a store keeps, which may change while it is open.

use std::time::Duration;

use parking_lot::RwLock;

use super::Retention;

/// Which messages inboxes keep, and for how long senders can ask for what they sent. Whatever forgets asks
/// here each time it begins.
#[derive(Debug)]
pub struct Keeping(RwLock<(Retention, Duration)>);

impl Keeping {
    /// What it is in the beginning.
    #[must_use]
    pub const fn new(retention: Retention, sent_kept: Duration) -> Self {
        Self(RwLock::new((retention, sent_kept)))
    }

    /// Which messages an inbox keeps.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.0.read().0
    }

    /// For how long it is kept what was sent.
    #[must_use]
    pub fn sent_kept(&self) -> Duration {
        self.0.read().1
    }

    /// Both are another from here on. A walk that is under way goes on as it began.
    pub fn set(&self, retention: Retention, sent_kept: Duration) {
        *self.0.write() = (retention, sent_kept);
    }
}
