//! The live half of pushhub and the process: sockets, configuration, start and drain.

pub mod config;
pub mod http;
