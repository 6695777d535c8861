//! The live half of pushhub and the process around it: sockets, sessions and fan-out on one side;
//! settings, command line, HTTP, logs and metrics on the other. [`app`] puts everything together.

pub mod app;
pub mod bus;
pub mod census;
pub mod cli;
pub mod config;
pub mod console;
pub mod descriptors;
pub mod foundation;
pub mod health;
pub mod http;
pub mod live;
pub mod process_metrics;
pub mod service_manager;
pub mod storage_secrets;
pub mod telemetry;
