//! Reads parts in MongoDB collections, by its driver.
//!
//! A [`MongoPool`] has one client of the driver an identity generation. Sources that are asked at
//! once are read in one snapshot session, one after the other, where the servers can; a source that
//! is asked alone reads what a majority has. Futures of the driver must not be dropped half-way
//! (its README), so they run in a task of their own, which hands the batches over as they come and
//! ends with the reader, or soon after its time.

mod client;
mod deployment;
mod examine;
mod json;
mod mongo_error;
mod pool;
mod query;
mod read;

pub(super) use examine::examine;
pub(super) use pool::MongoPool;
pub(super) use read::CollectionRead;
