//! Reads parts in a PostgreSQL database: statements of one transaction, in one round trip.
//!
//! A [`PostgresPool`] hands out a connection to one transaction at a time. The statements are sent
//! together, between a `begin … read only` and a `commit`, before the first answer is awaited: the
//! parts belong to one instant, and no transaction waits for us. A connection on which anything
//! failed, or whose future was dropped, is closed and never used again.

mod connection;
mod examine;
mod inbound;
mod pool;
mod sql_error;
mod transaction;

pub(super) use examine::examine;
pub(super) use pool::PostgresPool;
pub(super) use transaction::{StatementRead, statement_text};
