//! Several nodes on one PostgreSQL and one Redis.

mod balance;
mod budgets;
mod connections;
mod database;
mod shape;
mod starts;
