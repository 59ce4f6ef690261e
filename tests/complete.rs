//! Promise 1, *Complete*: a 200 holds every part; if one source fails, the consumer gets one
//! problem that names it, and no data.
//!
//! Every good part carries [`SECRET`], which no problem may hold.

mod failures;
mod flaky;
mod parts;

use crate::support::client::ClientResponse;
use crate::support::upstream::Reply;

/// The content of every good part; no problem may hold it.
const SECRET: &str = "s3cret-of-a-customer";

/// A good part.
fn part() -> Reply {
    Reply::json(format!(r#"{{"account_id":"A-1","secret":"{SECRET}"}}"#))
}

/// Asserts that this is one problem about `source`, for `reason`, without data.
#[track_caller]
fn names(got: &ClientResponse, source: &str, reason: &str, kind: &str, status: u16) {
    assert_eq!(
        got.failed_sources(kind, status),
        [(source.to_owned(), reason.to_owned())],
        "{got:?}"
    );
    holds_no_data(got);
}

#[track_caller]
fn holds_no_data(got: &ClientResponse) {
    assert!(!got.text().contains(SECRET), "{got:?}");
    assert!(
        got.headers
            .values()
            .all(|value| !value.as_bytes().windows(6).any(|bytes| bytes == b"s3cret")),
        "{got:?}"
    );
}
