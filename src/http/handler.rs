//! What a port needs of whoever answers its requests.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Body;

use super::request::RequestBody;

/// What answers the requests of a port: the consumers' side, the admin port, the webhook. Clones
/// share everything.
pub trait Handler: Clone + Send + Sync + 'static {
    /// What its answers hold.
    type Body: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static;

    /// Answers one request; `on_tcp` says whether its `Host` matters.
    fn handle(
        &self,
        request: Request<RequestBody>,
        on_tcp: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Refuses a request with these headers, for which the port has no memory left.
    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Self::Body>;
}
