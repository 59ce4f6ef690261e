//! HTTP/1.1 and HTTP/2 as a server, shared by `serve`, `admin` and the webhook.
//!
//! A [`Listener`] is bound to a [`ListenAddress`]; [`accept()`] takes its connections within
//! [`PortLimits`] and hands each request to a [`Handler`], which decides on the answer;
//! [`ProblemDetails`] writes an error as one. The bytes and the time that a peer can take are
//! bounded here, so that no handler has to think of it. [`drain_until_quiet`] waits for the end of
//! the requests under way.
//!
//! This module knows neither datasets nor its handlers.

mod accept;
mod accept_header;
mod connection;
mod connection_table;
mod drain;
mod eviction_candidate;
pub(crate) mod exposition;
mod frames;
mod handler;
mod host;
mod listen_address;
mod listener;
mod observed_stream;
mod port;
mod port_metrics;
mod problem_details;
mod progress;
mod request;
mod request_bytes;

use std::time::Duration;

pub use accept::{accept, accept_tls};
pub use drain::{QUIET_PERIOD, drain_until_quiet};
pub use handler::Handler;
pub use host::AllowedHosts;
pub(crate) use host::MISDIRECTED_DETAIL;
pub use listen_address::ListenAddress;
pub use listener::{BindError, Listener};
pub use port::{Activity, DrainPhase, Port, PortLimits};
pub use port_metrics::PortMetrics;
pub use problem_details::{ProblemDetails, ProblemType};
pub(crate) use request::WaitNotice;
pub use request::{BodyError, RequestBody};

/// Milliseconds as a number that every format of the log writes as one.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
