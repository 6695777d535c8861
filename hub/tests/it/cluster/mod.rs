//! Several nodes on one PostgreSQL and one Redis.

mod database;
mod shape;
mod starts;
