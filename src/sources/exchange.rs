//! One HTTP exchange and its bounds: a request out, a whole response back, or the error on the way.
//!
//! The caller bounds its time by dropping it. Bodies are read only where they can become a part,
//! and never past their bound. Its work is bounded too: the pieces of a body are counted here, and
//! all other bytes that the server sends are charged to the connection's [`TrafficMeter`].

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Extensions, HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, capture_connection};
use prometheus_client::metrics::counter::Counter;

use super::Reason;
use super::answer::{self, UpstreamReply};
use super::attempt_error::{AttemptError, Resend, format_size};
use super::connections::{H2_HEADERS_MAX, HyperClient};
use super::reserved_body::ReservedBody;
use crate::identity::{ConnectError, Flooded, TrafficMeter};
use crate::resources::WorkMemory;

/// The headers of an answer together, names and values, in bytes.
const HEADERS_MAX_BYTES: usize = 32 * 1024;
/// The part of an unwanted body that is read so that its connection can be reused; and for how
/// long.
const DRAIN_MAX_BYTES: usize = 16 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(20);
/// In how many pieces it may come.
const DRAIN_PIECES_MAX: usize = 64;
/// A body may come in so many pieces (chunks, frames) however small; beyond them they must have
/// [`PIECE_MIN_BYTES`] bytes on average. Generators that write token by token stay within it up to
/// some 40 KB.
const PIECES_FREE: usize = 8 * 1024;
const PIECE_MIN_BYTES: usize = 16;

/// How long the news of a request may take when its connection has ended, on a busy machine too.
const LOST_REQUEST_GRACE: Duration = Duration::from_millis(250);

/// How large a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit {
    /// The bytes that are left of it.
    pub(super) left: usize,
    /// The source's `max_body`, for the failure's text.
    pub(super) allowed: usize,
}

/// Sends `request`. `status` is filled as soon as it is known, for a caller that gives up waiting
/// for the rest.
pub(super) async fn exchange(
    client: &HyperClient,
    floods: &Counter,
    mut request: Request<Empty<Bytes>>,
    room: BodyLimit,
    memory: &WorkMemory,
    status: &mut Option<u16>,
) -> Result<UpstreamReply, AttemptError> {
    let is_tls = request.uri().scheme_str() == Some("https");
    let connection = capture_connection(&mut request);
    let response = tokio::select! {
        biased;
        response = client.request(request) => {
            response.map_err(|error| no_answer_error(&error, is_tls))?
        }
        () = wait_until_lost(connection) => return Err(unsent_error()),
    };
    let (head, body) = response.into_parts();
    *status = Some(head.status.as_u16());
    let is_reused = head.extensions.get().is_some_and(TrafficMeter::is_of_reused_connection);
    if head.status == StatusCode::REQUEST_TIMEOUT && is_reused {
        return Err(idle_timeout_error());
    }
    let head_bytes =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let pieces = BodyPieces::of(head.extensions.get(), head_bytes);
    if head_bytes > HEADERS_MAX_BYTES {
        return Err(headers_too_large_error());
    }
    let body = if answer::has_body(head.status, &head.headers)? {
        read_body(body, &head.headers, room, memory, pieces, floods).await?
    } else {
        drain_body(body).await;
        Bytes::new()
    };
    Ok(UpstreamReply { status: head.status, headers: head.headers, body })
}

/// Returns once the connection of a request is gone and the request is still unanswered.
///
/// hyper hands a request to its connection through a channel, and may lose one that is sent in the
/// very moment in which the connection ends (by GOAWAY): it would then wait until its deadline. The
/// pool may lend another connection meanwhile: that one counts.
async fn wait_until_lost(mut connection: CaptureConnection) {
    loop {
        let lent = connection.wait_for_connection_metadata().await.as_ref().and_then(meter_of);
        let Some(meter) = lent else { return std::future::pending().await };
        meter.ended().await;
        tokio::time::sleep(LOST_REQUEST_GRACE).await;
        let now = connection.connection_metadata().as_ref().and_then(meter_of);
        if now.is_some_and(|now| now.is_of_same_connection(&meter)) {
            return;
        }
    }
}

fn meter_of(connected: &Connected) -> Option<TrafficMeter> {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.get().cloned()
}

/// The pieces that a body comes in, counted and credited to its connection.
struct BodyPieces {
    meter: Option<TrafficMeter>,
    count: usize,
}

impl BodyPieces {
    /// For the body behind a head of so many bytes.
    fn of(meter: Option<&TrafficMeter>, head_bytes: usize) -> Self {
        if let Some(meter) = meter {
            meter.credit_head(head_bytes);
        }
        Self { meter: meter.cloned(), count: 0 }
    }

    /// Adds one more, of so many bytes, to `total` as well; an error if they are too many.
    fn add(&mut self, bytes: usize, total: usize) -> Result<(), String> {
        self.count += 1;
        if self.count <= PIECES_FREE + total / PIECE_MIN_BYTES {
            if let Some(meter) = &self.meter {
                meter.credit_piece(bytes);
            }
            return Ok(());
        }
        Err(format!(
            "sent {} of its body in {} pieces, expected pieces of at least {PIECE_MIN_BYTES} \
             bytes; hint: let it write through a buffer",
            format_size(total),
            self.count
        ))
    }
}

/// The server is given up because it brings too little for the work that it is; it would be the
/// same again.
fn flood_error(detail: String) -> AttemptError {
    AttemptError { retry: false, ..AttemptError::of_unhealthy_source(Reason::Incomplete, detail) }
}

/// The same, found and counted by its connection.
fn flooded_connection_error() -> AttemptError {
    flood_error(
        "sent too much that is no part of an answer (control frames, informational responses, \
         crumbs), so that its \
         connection was ended"
            .to_owned(),
    )
}

fn headers_too_large_error() -> AttemptError {
    AttemptError::answered(
        Reason::TooLarge,
        format!("sent more headers than the {} that are allowed", format_size(HEADERS_MAX_BYTES)),
    )
}

async fn read_body(
    mut body: Incoming,
    headers: &HeaderMap,
    room: BodyLimit,
    memory: &WorkMemory,
    mut pieces: BodyPieces,
    floods: &Counter,
) -> Result<Bytes, AttemptError> {
    let too_large = |found: String| {
        AttemptError::answered(
            Reason::TooLarge,
            format!("{found}, allowed are {}", format_size(room.allowed)),
        )
    };
    let before = room.allowed - room.left;
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(bytes) = announced.filter(|bytes| *bytes > room.left) {
        return Err(too_large(format!("announced {}", format_size(before.saturating_add(bytes)))));
    }
    // An announced length is reserved at once: no request waits for more memory with half a body in
    // hand, and the body is not copied as it grows.
    let mut reserved = ReservedBody::new(memory);
    reserved.reserve_total(announced.unwrap_or_default()).await?;
    let mut text = Vec::with_capacity(announced.unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| body_error(&error, text.len(), floods))?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        pieces.add(bytes, text.len() + bytes).map_err(|detail| {
            floods.inc();
            flood_error(detail)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > room.left - text.len() {
            return Err(too_large(format!(
                "sent {} so far",
                format_size(before + text.len() + data.len())
            )));
        }
        let needed = text.len() + data.len();
        if needed > text.capacity() {
            let doubled =
                needed.max(text.capacity() * 2).min(announced.unwrap_or(room.left)).max(needed);
            reserved.reserve_total(doubled).await?;
            text.reserve_exact(doubled - text.len());
        }
        text.extend_from_slice(&data);
    }
    text.shrink_to_fit();
    reserved.keep(text.len());
    Ok(text.into())
}

fn body_error(error: &hyper::Error, after: usize, floods: &Counter) -> AttemptError {
    if Flooded::is_cause_of(error) {
        return flooded_connection_error();
    }
    match find_cause::<h2::Error>(error) {
        // Most likely its length is not the announced one.
        Some(error) if error.is_library() && error.is_reset() && is_protocol_error(error) => {
            let detail =
                format!("the body contradicts what was announced, after {}", format_size(after));
            AttemptError::of_unhealthy_source(Reason::Incomplete, detail)
        }
        Some(error) if error.is_library() => {
            // An empty or tiny frame too many, most likely.
            floods.inc();
            flood_error(format!(
                "sent frames that HTTP/2 does not allow, after {} of its body",
                format_size(after)
            ))
        }
        _ => AttemptError::of_unhealthy_source(
            Reason::Incomplete,
            format!("the body ended early, after {}", format_size(after)),
        ),
    }
}

fn is_protocol_error(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
}

/// Reads a little of an unwanted body; a longer one costs its connection instead.
async fn drain_body(mut body: Incoming) {
    let all = async {
        let mut bytes = 0;
        for _ in 0..DRAIN_PIECES_MAX {
            let Some(Ok(frame)) = body.frame().await else { break };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    // A timeout is as good as an end: the status has been read.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
}

/// A server may answer 408 to the request that it waited for on an idle connection, and close it
/// (RFC 9110, section 15.5.9): the answer may have been on its way before our request was.
fn idle_timeout_error() -> AttemptError {
    let resend = Resend::OnFreshConnection;
    AttemptError { resend, ..AttemptError::answered(Reason::Status, "answered 408, expected 200") }
}

/// Why no head of an answer came.
fn no_answer_error(error: &legacy::Error, is_tls: bool) -> AttemptError {
    if Flooded::is_cause_of(error) {
        return flooded_connection_error();
    }
    if let Some(error) = ConnectError::cause_of(error) {
        return AttemptError::from_connect(error);
    }
    let is_closed = find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_closed);
    if error.is_connect() && is_closed && is_tls {
        return AttemptError::from_connect(ConnectError::closed_unanswered());
    }
    if let Some(fault) = unprocessed_error(error) {
        return fault;
    }
    match find_cause::<hyper::Error>(error) {
        Some(hyper) if hyper.is_parse_too_large() => headers_too_large_error(),
        Some(hyper) if hyper.is_parse() => {
            let detail = "sent what is no valid HTTP answer, expected 200";
            let resend = if is_of_reused_connection(error) {
                Resend::OnFreshConnection
            } else {
                Resend::Never
            };
            AttemptError { resend, ..AttemptError::of_unhealthy_source(Reason::Status, detail) }
        }
        _ if find_cause::<h2::Error>(error).is_some_and(h2::Error::is_library) => {
            let most = format_size(H2_HEADERS_MAX as usize);
            let detail = format!(
                "sent what is no valid HTTP/2 answer, or headers of more than {most}, expected 200"
            );
            AttemptError {
                retry: false,
                ..AttemptError::of_unhealthy_source(Reason::Status, detail)
            }
        }
        _ if error.is_connect() => AttemptError::of_unhealthy_source(
            Reason::Connect,
            "the connection broke while HTTP began on it",
        ),
        _ => AttemptError::of_unhealthy_source(
            Reason::Status,
            "broke the connection off before it answered, expected 200",
        ),
    }
}

/// The error of a request that the source has certainly not processed: it was never written, its
/// stream was refused (RFC 9113, section 8.7), or it is above the last stream that the server's
/// GOAWAY names (section 6.8; h2 ends only those with that error).
fn unprocessed_error(error: &legacy::Error) -> Option<AttemptError> {
    if let Some(error) = find_cause::<h2::Error>(error) {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return (error.is_remote() && (error.is_go_away() || is_refused)).then(refused_error);
    }
    let Some(hyper) = find_cause::<hyper::Error>(error) else {
        // The pool's own: it lent a connection that had just ended, or gave another one up.
        return Some(unsent_error());
    };
    let is_http2 = error.connect_info().is_some_and(Connected::is_negotiated_h2);
    // hyper drops a request as "user" error that waits for a free stream when the connection ends.
    (hyper.is_canceled() || hyper.is_closed() || (is_http2 && hyper.is_user())).then(unsent_error)
}

fn refused_error() -> AttemptError {
    let detail = "refused the request unprocessed (GOAWAY or REFUSED_STREAM), expected 200";
    AttemptError {
        resend: Resend::OnAnyConnection,
        ..AttemptError::of_unhealthy_source(Reason::Status, detail)
    }
}

fn unsent_error() -> AttemptError {
    let detail = "ended the connection before the request was sent, expected 200";
    AttemptError {
        resend: Resend::OnAnyConnection,
        ..AttemptError::of_unhealthy_source(Reason::Status, detail)
    }
}

/// Whether another request had gone out on the connection before.
fn is_of_reused_connection(error: &legacy::Error) -> bool {
    error.connect_info().and_then(meter_of).is_some_and(|meter| meter.is_of_reused_connection())
}

/// The error of type `E` that caused `error`, if one did.
fn find_cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    std::iter::successors(error.source(), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}
