//! Several nodes on one PostgreSQL and one Redis.

mod clocks;
mod once;
mod shape;
mod starts;
