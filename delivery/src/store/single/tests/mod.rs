//! What can only be tested from inside.

#[allow(dead_code, unused_imports, unused_macros, reason = "only the model is used here")]
#[path = "../../../../tests/contract/mod.rs"]
mod contract;
mod receipts;
mod retention;
mod rewrites;
