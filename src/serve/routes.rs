//! The table of published paths: built once from the domains, swapped whole at a reload.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::metrics::{ServeMetrics, VersionMetrics};
use super::openapi;
use crate::cache::Cache;
use crate::domain::{Domain, PathTemplate, Version, encode_key};
use crate::shape::{CompileError, Program};

/// Everything that consumers can ask for.
#[derive(Debug)]
pub struct Routes {
    all: Vec<Arc<Route>>,
    pub(super) openapi: Bytes,
    pub(super) unmatched: VersionMetrics,
}

/// One version of one domain, ready to be answered.
#[derive(Debug)]
pub(crate) struct Route {
    /// A number that no other route of this process ever had: rendered bytes are
    /// kept under it.
    pub(super) id: NonZeroU64,
    pub(super) cache: Cache,
    pub(super) version: Version,
    pub(super) shape: Option<Arc<Program>>,
    /// `Deprecation` and `Sunset`, as far as the file says so.
    pub(super) deprecation_headers: Vec<(HeaderName, HeaderValue)>,
    /// Where the version to move to is published.
    successor: Option<PathTemplate>,
    pub(super) metrics: VersionMetrics,
}

impl Routes {
    /// Publishes every version of every cache's domain.
    pub fn new(caches: &[Cache], metrics: &ServeMetrics) -> Result<Self, CompileError> {
        let mut routes = Vec::new();
        for cache in caches {
            for version in &cache.domain().versions {
                routes.push(Arc::new(Route::new(cache.clone(), version.clone(), metrics)?));
            }
        }
        let domains: Vec<&Domain> = caches.iter().map(|cache| cache.domain().as_ref()).collect();
        Ok(Self {
            openapi: openapi::render(&domains),
            all: routes,
            unmatched: metrics.for_version("", ""),
        })
    }

    /// The version published under `path`, and the key's segment as it came.
    pub(super) fn find<'p>(&self, path: &'p str) -> Option<(&Arc<Route>, &'p str)> {
        self.all.iter().find_map(|route| Some((route, key_segment(&route.version.path, path)?)))
    }
}

impl Route {
    fn new(cache: Cache, version: Version, metrics: &ServeMetrics) -> Result<Self, CompileError> {
        static NEXT_ROUTE_ID: AtomicU64 = AtomicU64::new(0);
        let shape = version.shape.as_deref().map(Program::compile).transpose()?.map(Arc::new);
        let domain = cache.domain();
        let deprecation_headers = deprecation_headers(&version);
        let successor = version
            .successor
            .as_ref()
            .and_then(|name| domain.versions.iter().find(|v| v.name == *name));
        let successor = successor.map(|version| version.path.clone());
        let metrics = metrics.for_version(&domain.name, &version.name);
        let id = NonZeroU64::MIN.saturating_add(NEXT_ROUTE_ID.fetch_add(1, Ordering::Relaxed));
        Ok(Self { id, cache, version, shape, deprecation_headers, successor, metrics })
    }

    pub(super) fn domain(&self) -> &Domain {
        self.cache.domain()
    }

    /// The value of `Link`: the same key in the version to move to.
    pub(super) fn successor_link(&self, key: &str) -> Option<HeaderValue> {
        let PathTemplate { before, after, .. } = self.successor.as_ref()?;
        let key = encode_key(key);
        HeaderValue::try_from(format!("<{before}{key}{after}>; rel=\"successor-version\"")).ok()
    }
}

/// The key's segment of `path`, where the rest is the template's.
fn key_segment<'p>(template: &PathTemplate, path: &'p str) -> Option<&'p str> {
    let segment = path.strip_prefix(&template.before)?.strip_suffix(&template.after)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

/// RFC 9745 and RFC 8594; a date means its first second in UTC.
fn deprecation_headers(version: &Version) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let mut push = |name, value: String| {
        headers
            .extend(HeaderValue::try_from(value).ok().map(|v| (HeaderName::from_static(name), v)));
    };
    if let Some(date) = version.deprecated {
        push("deprecation", format!("@{}", date.midnight().assume_utc().unix_timestamp()));
    }
    if let Some(date) = version.sunset {
        push("sunset", httpdate::fmt_http_date(date.midnight().assume_utc().into()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(before: &str, after: &str) -> PathTemplate {
        PathTemplate {
            text: format!("{before}{{key}}{after}"),
            before: before.to_owned(),
            after: after.to_owned(),
        }
    }

    #[test]
    fn the_key_is_one_whole_segment() {
        let t = template("/v1/customers/", "");
        assert_eq!(key_segment(&t, "/v1/customers/42"), Some("42"));
        assert_eq!(key_segment(&t, "/v1/customers/a%2Fb"), Some("a%2Fb"));
        for path in [
            "/v1/customers/",
            "/v1/customers/42/",
            "/v1/customers/a/b",
            "/v1/customers",
            "/v2/customers/42",
        ] {
            assert_eq!(key_segment(&t, path), None, "{path}");
        }
        assert_eq!(key_segment(&template("/c/", "/all"), "/c/42/all"), Some("42"));
        assert_eq!(key_segment(&template("/c/", "/all"), "/c/all"), None);
    }
}
