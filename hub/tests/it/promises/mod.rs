//! What contract §2 promises; each test is named after its promise.
//!
//! The short forms run with every `make test`. `make kill9` and `make powercut` run the long ones.

mod bounded;
mod disk_faults;
mod durable;
mod gapless;
mod nodes;
mod read_state;
mod revocation;
mod rollouts;
mod walls;
pub(crate) mod workload;
