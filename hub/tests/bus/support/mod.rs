//! Nodes of a cluster in this process.

pub(crate) mod list_store;
pub(crate) mod node;

use std::time::Duration;

pub(crate) use servers::eventually;

/// Longest wait for what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);
