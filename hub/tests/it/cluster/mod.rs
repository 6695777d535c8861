//! Several nodes on one PostgreSQL and one Redis.

mod budgets;
mod shape;
mod starts;
