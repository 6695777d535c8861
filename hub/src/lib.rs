//! The live half of pushhub and the process: sockets, configuration, start and drain.

pub mod cli;
pub mod config;
pub mod descriptors;
pub mod foundation;
pub mod health;
pub mod http;
pub mod process_metrics;
pub mod storage_secrets;
pub mod telemetry;
