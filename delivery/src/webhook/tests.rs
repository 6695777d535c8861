//! Webhooks as a whole: a file, a receiver on this machine, and a clock that the test sets.

mod deliver;
mod failures;
mod fixture;
mod manage;
mod nodes;
mod proxy;
mod receiver;
mod slow;
mod targets;
mod upkeep;
