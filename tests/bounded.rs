//! *Bounded*: under any input the process stays within its memory limit, and honest consumers are
//! answered.

mod combined_load;
mod flights;
mod memory;
mod programs;

use crate::support::client::ClientResponse;
use crate::support::domain::DomainFile;
use crate::support::upstream::Upstream;

/// The names of the sources of [`of_four_sources`].
const SOURCES: [&str; 4] = ["profile", "favorites", "reviews", "orders"];

/// A domain of four sources, each at a path of its own of one upstream, with the key in the query.
fn of_four_sources(upstream: &Upstream) -> DomainFile {
    let domain = DomainFile::of("customer").head("cache: {ttl: 1h}");
    SOURCES.into_iter().fold(domain, |domain, name| {
        domain.source(name, upstream, &format!("/{name}?of={{key}}"), &[])
    })
}

/// Whether an answer is a dataset, or `overloaded` with a `Retry-After`.
fn is_honest(got: &ClientResponse) -> bool {
    match got.status {
        200 => true,
        503 => {
            got.problem("overloaded", 503)["type"] == "urn:bfb:overloaded"
                && !got.header("retry-after").is_empty()
        }
        _ => false,
    }
}
