//! The checked domain file: a [`Domain`] exists once every problem has been ruled out.
//!
//! Nothing here can be wrong: sizes are non-zero, patterns compiled, URLs parsed, references
//! resolved to a source, and the sources form a DAG. Only the checker of this module builds these
//! types from a file.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};
use regex::Regex;

use super::database::{Mutuality, PostgresSource};
use super::mongo::MongoSource;
use super::reference::{Reference, SourceIndex};
use super::server::ServerIdentity;

/// The longest that a dataset may take.
pub(super) const MAX_DEADLINE: Duration = Duration::from_mins(5);

/// One domain: the content of its file, checked.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The domain's name: `customer`.
    pub name: Arc<str>,
    /// The file it was read from.
    pub file: PathBuf,
    /// The pattern that the whole decoded key must match.
    pub key: KeyPattern,
    /// The sources, in the order of the file; a [`SourceIndex`] points into it.
    pub sources: Vec<Source>,
    /// Whether the parts must have been current at one instant.
    pub atomicity: Atomicity,
    /// How long a whole dataset may take.
    pub deadline: Duration,
    /// The published shapes, in the order of the file.
    pub versions: Vec<Version>,
    /// How long datasets are kept, and how their tags are computed.
    pub cache: CacheRules,
    /// The fingerprint of everything that determines a dataset's content.
    pub plan: PlanId,
}

/// A compiled key pattern that matches whole keys only.
#[derive(Debug, Clone)]
pub struct KeyPattern {
    /// As the file has it, for people.
    pub text: String,
    /// `^(?:text)$`, so that a part of a key never matches.
    pub anchored: Regex,
}

impl KeyPattern {
    /// Whether the whole of `key` matches.
    pub fn matches(&self, key: &str) -> bool {
        self.anchored.is_match(key)
    }
}

/// Where one part of a dataset comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The source's name, and the member of the dataset that holds its part.
    pub name: Arc<str>,
    /// What it asks: a service or a database.
    pub kind: SourceKind,
    /// The meaning of its 404, or of no row.
    pub missing: Missing,
    /// How long one request may take; `None` means until the deadline.
    pub timeout: Option<Duration>,
    /// How often a failed request is tried again.
    pub retries: u32,
    /// How many requests may be under way at once.
    pub concurrency: NonZeroUsize,
    /// The largest body accepted, in bytes (over all pages).
    pub max_body: NonZeroUsize,
    /// The sources whose parts its URL or its query names, ascending, without doubles.
    pub needs: Vec<SourceIndex>,
}

/// What a source asks.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// An HTTP service.
    Http(HttpSource),
    /// A PostgreSQL database.
    Postgres(PostgresSource),
    /// A MongoDB collection.
    Mongo(MongoSource),
}

impl Source {
    /// Where it is asked, without credentials: `https://orders.shop:8443`,
    /// `postgres://loyalty.shop:5432/shop`.
    pub fn address(&self) -> String {
        match &self.kind {
            SourceKind::Http(http) => http.url.origin.to_string().trim_end_matches('/').to_owned(),
            SourceKind::Postgres(postgres) => postgres.database.to_string(),
            SourceKind::Mongo(mongo) => mongo.database.to_string(),
        }
    }

    /// The identity that its server's certificate must have over TLS; `None` for a database that is
    /// asked without.
    pub fn server(&self) -> Option<&ServerIdentity> {
        match &self.kind {
            SourceKind::Http(http) => Some(&http.server),
            SourceKind::Postgres(postgres) => postgres.database.server.as_ref(),
            SourceKind::Mongo(mongo) => mongo.database.server.as_ref(),
        }
    }

    /// How far its connection is proven.
    pub fn mutual(&self) -> Mutuality {
        match &self.kind {
            SourceKind::Http(_) => Mutuality::Proven,
            SourceKind::Postgres(postgres) => postgres.database.mutual,
            SourceKind::Mongo(mongo) => mongo.database.mutual,
        }
    }

    /// The HTTP service behind it, if it is one.
    pub fn http(&self) -> Option<&HttpSource> {
        match &self.kind {
            SourceKind::Http(http) => Some(http),
            SourceKind::Postgres(_) | SourceKind::Mongo(_) => None,
        }
    }
}

/// An upstream HTTP service.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSource {
    /// Its URL with places for the key and for values of other parts.
    pub url: UrlTemplate,
    /// The identity that its certificate must have.
    pub server: ServerIdentity,
    /// Fixed request headers.
    pub headers: HeaderMap,
    /// The same as the file has them, before substitution, by name: the plan's hash takes these.
    pub written_headers: WrittenHeaders,
    /// How an answer with a next page is treated.
    pub pages: Pages,
}

/// Headers as a file has them, sorted by name. Their text is not shown: it may be a token.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WrittenHeaders(pub Vec<(HeaderName, String)>);

impl fmt::Debug for WrittenHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A URL whose path segments and query values may hold references.
///
/// The request target is the concatenation of `pieces`: literals as they stand, references
/// percent-encoded so that no value can leave its segment or its query value.
#[derive(Debug, Clone, PartialEq)]
pub struct UrlTemplate {
    /// Scheme and authority: `https://orders.shop:8443`. Its path is `/`.
    pub origin: Uri,
    /// The path and query, in pieces; the first begins with `/`.
    pub pieces: Vec<UrlPiece>,
}

/// One piece of a [`UrlTemplate`].
#[derive(Debug, Clone, PartialEq)]
pub enum UrlPiece {
    /// Text that goes out as it stands.
    Literal(String),
    /// A value that goes out percent-encoded.
    Reference(Reference),
}

/// How an answer with a `Link` to a next page is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// It is incomplete: a failure.
    Refuse,
    /// The first page is the part.
    First,
    /// Follow within the origin; the pages' arrays are joined.
    Follow {
        /// The most pages read; one more is a failure.
        max_pages: NonZeroU32,
    },
}

/// The meaning of a source's 404.
#[derive(Debug, Clone, PartialEq)]
pub enum Missing {
    /// A failure like any other status.
    Failure,
    /// There is no such key in this domain.
    NotFound,
    /// The part is this JSON text.
    Value(Arc<str>),
}

/// How strongly the parts of a dataset belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomicity {
    /// Every part is there.
    Complete,
    /// Every part is there, and all were current at one instant.
    Snapshot {
        /// The most rounds, the first collect included (at least 2).
        rounds: NonZeroU32,
    },
}

/// One published shape of the dataset.
#[derive(Debug, Clone)]
pub struct Version {
    /// `v1`.
    pub name: Arc<str>,
    /// The path that consumers ask for.
    pub path: PathTemplate,
    /// The jq program over the dataset; `None`: the dataset as it is. It has compiled once.
    pub shape: Option<Arc<str>>,
    /// The JSON Schema of the answer, for `openapi.json`.
    pub schema: Option<Arc<serde_json::Value>>,
    /// Since when it is deprecated.
    pub deprecated: Option<time::Date>,
    /// When it will be gone.
    pub sunset: Option<time::Date>,
    /// The version to move to.
    pub successor: Option<Arc<str>>,
}

/// A consumer's path: segments around exactly one `{key}` segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// As the file has it: `/v1/customers/{key}`.
    pub text: String,
    /// The path before the key's segment, with the slash: `/v1/customers/`.
    pub before: String,
    /// The path after it: empty, or from the slash on.
    pub after: String,
}

/// The `cache` section.
#[derive(Debug, Clone)]
pub struct CacheRules {
    /// How long a dataset may be served; zero: nothing is kept.
    pub ttl: Duration,
    /// The same for a `not-found`.
    pub missing_ttl: Duration,
    /// How long past its ttl a dataset may stand in for failing sources.
    pub stale_if_error: Duration,
    /// The jq program whose strings are the dataset's tags. It has compiled once.
    pub tags: Option<Arc<str>>,
}

/// The fingerprint of everything in the file that determines a dataset's content: 16 bytes in
/// lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlanId(pub Arc<str>);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The domains of one process, by name.
pub type Domains = BTreeMap<Arc<str>, Arc<Domain>>;

impl Domain {
    /// The version of this name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| &*version.name == name)
    }

    /// The source at an index of this domain.
    ///
    /// # Panics
    /// With another domain's index.
    pub fn source(&self, index: SourceIndex) -> &Source {
        &self.sources[index.0]
    }
}
