//! The API as it describes itself: its examples are executed, its permissions tried, its documents
//! read. A new endpoint is tested here by being registered.

mod documents;
mod examples;
mod normal;
mod permissions;
mod stage;
