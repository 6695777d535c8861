//! The parts of the bench that are not the measurement.

pub(crate) mod clients;
pub(crate) mod store;
pub(crate) mod usage;
