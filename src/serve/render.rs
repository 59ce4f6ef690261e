//! From a dataset to a version's bytes, without ever holding up the event loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::consumer_problem::ConsumerProblem;
use super::dataset_response::etag_digest;
use super::routes::Route;
use crate::cache::{CacheEntry, ProgramError, RenderedAnswer, SHAPE_OUTPUT_BYTES_MAX};
use crate::resources::NO_MEMORY;

/// A shape gets at least this long, also where the collection used up the deadline: a complete
/// dataset is not thrown away for the last few milliseconds.
const SHAPE_TIME_MIN: Duration = Duration::from_millis(250);

/// Renders a cached dataset as `published`: on first use, then kept beside it. `deadline`
/// is the request's.
pub(super) async fn render(
    route: &Route,
    key: &str,
    kept: &Arc<CacheEntry>,
    deadline: Instant,
) -> Result<RenderedAnswer, ConsumerProblem> {
    if let Some(rendered) = kept.rendered(route.id) {
        return Ok(rendered);
    }
    let Some(stored) = kept.stored() else {
        return Err(ConsumerProblem::NotFound { domain: route.domain().name.to_string() });
    };
    let overloaded = |detail: &str| ConsumerProblem::Overloaded { detail: detail.to_owned() };
    // The shape's input, or what the digest is made of: a copy for as long as that takes.
    let copy = route.cache.share().try_reserve(stored.body_bytes() as u64);
    let _copy = copy.ok_or_else(|| overloaded(NO_MEMORY))?;
    let Some(shape) = route.shape.clone() else {
        return Ok(kept.keep_rendered(route.id, etag_digest(&stored.body()), None));
    };
    let until = deadline.max(Instant::now() + SHAPE_TIME_MIN);
    let run = route.cache.run_program(shape, stored.body(), SHAPE_OUTPUT_BYTES_MAX, until);
    let json = run.await.map_err(|error| match error {
        ProgramError::Failed(detail) | ProgramError::OutputTooLong(detail) => {
            ConsumerProblem::ShapeFailed { version: route.version.name.to_string(), detail }
        }
        ProgramError::Overloaded(detail) => overloaded(detail),
    })?;
    let rendered = kept.keep_rendered(route.id, etag_digest(&json), Some(Bytes::from(json)));
    route.cache.reweigh(key, kept);
    Ok(rendered)
}
