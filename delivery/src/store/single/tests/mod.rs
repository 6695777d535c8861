//! What can only be tested from inside.

#[allow(dead_code, unused_imports, unused_macros, reason = "only the fixture is used here")]
#[path = "../../../../tests/contract/mod.rs"]
pub(super) mod contract;
mod lists;
mod power_cut;
mod receipts;
mod retention;
