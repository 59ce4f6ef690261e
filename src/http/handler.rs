//! The interface between a port and the handler of its requests.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Body;

use super::request::RequestBody;

/// Answers the requests of a port: implemented by the consumers' side, the admin port and the
/// webhook. Clones share everything.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static;

    /// Answers one request; `on_tcp`: it came over TCP, so its `Host` must be checked.
    fn handle(
        &self,
        request: Request<RequestBody>,
        on_tcp: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Refuses a request with these headers, for which the port has no memory left.
    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Self::Body>;
}
