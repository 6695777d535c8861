//! Several nodes on one PostgreSQL and one Redis.

mod balance;
mod budgets;
mod clocks;
mod connections;
mod database;
mod devices;
mod failover;
mod once;
mod shape;
mod silent;
mod starts;
