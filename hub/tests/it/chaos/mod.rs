//! Nodes, Redis and PostgreSQL are harmed in the ways they can be, while users and backends go on; what
//! everybody did and saw is written down and checked.
//!
//! [`campaign`] runs it: [`site`] is what is harmed, [`nemesis`] who harms it, [`senders`] and the devices of
//! `support::device` are who uses it, and [`verdict`] compares what they wrote down with what all nodes say
//! in the end. `short` is part of `make test`, `long` is `make chaos`, and `planted` proves that what is wrong
//! is seen.

mod campaign;
mod long;
mod nemesis;
mod planted;
mod report;
mod senders;
mod short;
mod site;
mod verdict;
