//! The facts about a request that its log line and its spans are made from.

use bytes::Bytes;
use http::Response;

use super::consumer_problem::ConsumerProblem;
use super::routes::Route;
use crate::collect::Timeline;

/// A request, its outcome, and the steps of its collection.
pub(super) struct RequestReport<'a> {
    pub(super) response: Result<&'a Response<Bytes>, &'a ConsumerProblem>,
    pub(super) route: Option<&'a Route>,
    pub(super) key: Option<&'a str>,
    pub(super) timeline: Option<&'a Timeline>,
}
