//! The live half of pushhub: who is connected now, and the process around it.

pub mod live;
