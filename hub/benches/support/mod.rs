//! The parts of the bench that are not the measurement.

pub(crate) mod clients;
#[path = "../../tests/bus/support/list_store.rs"]
pub(crate) mod list_store;
pub(crate) mod store;
pub(crate) mod usage;
