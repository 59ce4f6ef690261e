//! Promise 2, *Snapshot*: all parts were current at one same instant.
//!
//! `rounds` holds the rules one by one; `torn` reads sources that change together, over and over,
//! and counts the answers whose parts were never current at one instant. `make test` runs a short
//! form of it. The long one takes ten thousand answers at each rate:
//!
//! ```text
//! BFB_SNAPSHOT_ANSWERS=10000 cargo test --release --test promises \
//!     snapshot::torn -- --nocapture --test-threads 1
//! ```

mod rounds;
mod torn;
