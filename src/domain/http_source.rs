//! A source that is an HTTP service: `url` and the keys that go with it.

use std::num::NonZeroU32;

use super::context::Context;
use super::fields::{Field, Fields, number, text, word};
use super::headers::{Headers, headers};
use super::model::{HttpSource, Pages};
use super::reference::ReferenceReader;
use super::server;
use super::url;

/// Reads the keys of an HTTP source.
pub(super) fn http_source(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    url: Field<'_>,
    references: &mut ReferenceReader<'_>,
) -> Option<HttpSource> {
    let names = references.names();
    let url = text(context, url.node, "a URL").and_then(|at| url::url(context, at, references));
    let server = match fields.get("server") {
        Some(field) => {
            text(context, field.node, "an identity").and_then(|at| server::server(context, at))
        }
        None => url.as_ref().and_then(|url| server::identity_of_origin(&url.origin)),
    };
    let headers = fields
        .get("headers")
        .map_or_else(|| Some(Headers::default()), |it| headers(context, it.node, names));
    let pages = pages(context, fields);
    let headers = headers?;
    Some(HttpSource {
        url: url?,
        server: server?,
        headers: headers.values,
        written_headers: headers.written,
        pages: pages?,
    })
}

fn pages(context: &mut Context<'_>, fields: &Fields<'_>) -> Option<Pages> {
    let chosen = fields
        .get("pages")
        .map_or(Some(None), |field| word(context, field, &["first", "follow"]).map(Some));
    let most = fields.get("max_pages");
    let max_pages =
        most.map_or(Some(10), |field| number(context, field, 1..=1000)).and_then(NonZeroU32::new);
    match (chosen?, most) {
        (Some("follow"), _) => max_pages.map(|max_pages| Pages::Follow { max_pages }),
        (_, Some(field)) => {
            let message = "`max_pages` has no meaning without `pages: follow`";
            let hint = "remove `max_pages`, or write `pages: follow`";
            context.problem(field.key.span.clone(), message, "`pages: follow` beside it", hint);
            None
        }
        (Some(_), None) => Some(Pages::First),
        (None, None) => Some(Pages::Refuse),
    }
}
