//! The request headers of a consumer: versions, freshness, conditions, explain.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, IF_NONE_MATCH};

use crate::cache::{After, InvalidationToken, ReadOptions};
use crate::collect;
use crate::sources::TraceContext;

/// The request `Cache-Control`, as far as we honour it; other directives are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RequestCacheControl {
    /// `no-cache`: ask the sources again.
    pub(super) no_cache: bool,
    /// `only-if-cached`: answer from a cache or not at all.
    pub(super) only_if_cached: bool,
    /// `no-store`: keep nothing for this request's sake.
    pub(super) no_store: bool,
    /// `max-age=N`: nothing older, in seconds.
    pub(super) max_age: Option<u64>,
}

impl RequestCacheControl {
    /// Reads all `Cache-Control` fields (RFC 9111 section 5.2.1).
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in fields.flat_map(|field| field.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            directives.no_cache |= name.eq_ignore_ascii_case("no-cache");
            directives.only_if_cached |= name.eq_ignore_ascii_case("only-if-cached");
            directives.no_store |= name.eq_ignore_ascii_case("no-store");
            if name.eq_ignore_ascii_case("max-age") {
                // A second one can only ask for more.
                let seconds = value.trim().trim_matches('"').parse::<u64>().ok();
                directives.max_age = [directives.max_age, seconds].into_iter().flatten().min();
            }
        }
        directives
    }
}

impl RequestCacheControl {
    /// The whole wish: with `Bfb-After`, and the trace that a collection would belong to.
    pub(super) fn into_read_options(
        self,
        headers: &HeaderMap,
        trace: &TraceContext,
    ) -> ReadOptions {
        let token = |value: &http::HeaderValue| {
            value.to_str().ok().and_then(|text| text.trim().parse().ok())
        };
        let after: Option<Vec<InvalidationToken>> =
            headers.get_all("bfb-after").iter().map(token).collect();
        ReadOptions {
            no_cache: self.no_cache,
            no_store: self.no_store,
            max_age: self.max_age.map(Duration::from_secs),
            only_if_cached: self.only_if_cached,
            after: after.map_or(After::Unknown, After::Tokens),
            collect: collect::CollectOptions {
                no_cache: false,
                trace: trace.clone(),
                previous_parts: None,
                deadline: None,
            },
        }
    }
}

/// Whether `If-None-Match` names `etag` (RFC 9110 section 13.1.2: weak comparison, `*` matches
/// all).
pub(super) fn if_none_match_has(headers: &HeaderMap, etag: &str) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    fields
        .flat_map(entity_tags)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The members of a list of entity tags. The tags of `bfb` hold no comma, so a foreign tag that
/// does only splits into others' tags.
fn entity_tags(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_in_any_case_and_field() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_CONTROL, "max-age=3, No-Cache".parse().unwrap());
        headers.append(CACHE_CONTROL, "only-if-cached".parse().unwrap());
        let expected = RequestCacheControl {
            no_cache: true,
            only_if_cached: true,
            no_store: false,
            max_age: Some(3),
        };
        assert_eq!(RequestCacheControl::from_headers(&headers), expected);
    }

    #[test]
    fn etags_match_weakly_in_lists_and_by_star() {
        let matches = |field: &str| {
            let mut headers = HeaderMap::new();
            headers.append(IF_NONE_MATCH, field.parse().unwrap());
            if_none_match_has(&headers, "\"a\"")
        };
        assert!(matches("\"a\"") && matches("\"b\", W/\"a\"") && matches("*"));
        assert!(!matches("\"b\"") && !matches("a") && !matches(""));
    }
}
