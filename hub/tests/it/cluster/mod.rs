//! Several nodes on one PostgreSQL and one Redis.

mod shape;
mod starts;
