//! The `sources` section.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::database::Mutuality;
use super::database_source::mutuality;
use super::fields::{Field, Fields, NameRule, count, duration, mapping, name, number, size};
use super::graph;
use super::http_source::http_source;
use super::missing::missing;
use super::model::{MAX_DEADLINE, Missing, Source, SourceKind, UrlPiece};
use super::mongo_source::mongo_source;
use super::postgres_source::postgres_source;
use super::reference::{Reference, ReferenceReader, SourceIndex};
use super::tree::{TreeKey, TreeNode};

/// The keys of a source.
pub(super) const SOURCE_KEYS: &[&str] = &[
    "url",
    "server",
    "headers",
    "pages",
    "max_pages",
    "postgres",
    "query",
    "mongodb",
    "collection",
    "filter",
    "sort",
    "limit",
    "projection",
    "pipeline",
    "rows",
    "mutual",
    "missing",
    "timeout",
    "retries",
    "concurrency",
    "max_body",
];
/// The keys that say what a source asks.
const KINDS: [&str; 3] = ["url", "postgres", "mongodb"];
/// The keys that have a meaning only beside some of those.
const KEYS_OF_KINDS: &[(&str, &[&str])] = &[
    ("server", &["url", "postgres"]),
    ("headers", &["url"]),
    ("pages", &["url"]),
    ("max_pages", &["url"]),
    ("query", &["postgres"]),
    ("collection", &["mongodb"]),
    ("filter", &["mongodb"]),
    ("sort", &["mongodb"]),
    ("limit", &["mongodb"]),
    ("projection", &["mongodb"]),
    ("pipeline", &["mongodb"]),
    ("rows", &["postgres", "mongodb"]),
];

/// The most sources of a domain.
const MAX_SOURCES: usize = 64;
const TOO_MANY: &str = "at most 64 sources";
const MAX_BODY: u32 = 1 << 30;
const DEFAULT_BODY: usize = 4 << 20;

const SOURCE_NAME: NameRule = NameRule {
    subject: "source",
    first: |c| c.is_ascii_alphabetic() || c == '_',
    rest: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    expected: "a letter, then letters, digits, `_` or `-`",
    example: "profile",
};

/// Every source, in the order of the file.
pub(super) fn sources(context: &mut Context<'_>, node: &TreeNode) -> Option<Vec<Source>> {
    let entries = mapping(context, node, "the sources, each under its name,")?;
    if entries.is_empty() || entries.len() > MAX_SOURCES {
        let message =
            if entries.is_empty() { "there is no source" } else { "there are too many sources" };
        let (expected, hint) = if entries.is_empty() {
            (
                "at least one source",
                "say where the data comes from: `profile: {url: 'https://host/path/{key}'}`",
            )
        } else {
            (TOO_MANY, "put what belongs together behind one URL, or in a domain of its own")
        };
        context.problem(node.span.clone(), message, expected, hint);
        return None;
    }
    let names: Vec<&str> = entries.iter().map(|(key, _)| key.text.as_str()).collect();
    let found: Vec<_> =
        entries.iter().map(|(key, node)| source(context, key, node, &names)).collect();
    let needs: Vec<&[(SourceIndex, _)]> = found.iter().map(|(_, uses)| uses.as_slice()).collect();
    let acyclic = graph::check_acyclic(context, &names, &needs);
    let sources = found.into_iter().map(|(source, _)| source).collect::<Option<Vec<_>>>()?;
    acyclic.then_some(sources)
}

/// A source if it is right, and the sources that it names in any case.
fn source(
    context: &mut Context<'_>,
    key: &TreeKey,
    node: &TreeNode,
    names: &[&str],
) -> (Option<Source>, Vec<(SourceIndex, Range<usize>)>) {
    let name = source_name(context, key);
    let Some(fields) = Fields::of(context, node, "a source", SOURCE_KEYS) else {
        return (None, Vec::new());
    };
    let common = common_fields(context, &fields, names);
    let mut references = ReferenceReader::new(names);
    let kind = kind(context, &fields, &key.text, &mut references);
    let uses = references.into_uses();
    let source = (|| {
        let common = common?;
        let kind = kind?;
        let needs = needs(&kind);
        Some(Source {
            name: name?,
            kind,
            missing: common.missing,
            timeout: common.timeout,
            retries: common.retries,
            concurrency: common.concurrency,
            max_body: common.max_body,
            needs,
        })
    })();
    (source, uses)
}

/// What the source asks: the first of the keys that say so decides.
fn kind(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    references: &mut ReferenceReader<'_>,
) -> Option<SourceKind> {
    let found: Vec<_> = KINDS.iter().filter_map(|kind| fields.get(kind)).collect();
    if let [first, second, ..] = found[..] {
        let message = format!("`{}` and `{}` exclude each other", first.key.text, second.key.text);
        let hint = "remove one of them: a source reads from one place";
        let expected = "one of `url`, `postgres`, `mongodb`";
        context.problem(second.key.span.clone(), message, expected, hint);
    }
    for (key, kinds) in KEYS_OF_KINDS {
        let has_kind = kinds.iter().any(|kind| fields.get(kind).is_some());
        // Without any kind, an HTTP source is what is meant: the missing `url` is reported.
        let is_excused = has_kind || found.is_empty() && kinds.contains(&"url");
        if let Some(field) = fields.get(key).filter(|_| !is_excused) {
            report_misplaced_key(context, field, kinds[0]);
        }
    }
    let Some(field) = found.first().copied() else {
        let hint = "say where it is: `url: https://host/path/{key}`";
        fields.require(context, "url", &format!("the source `{name}`"), hint);
        return None;
    };
    match field.key.text.as_str() {
        "postgres" => {
            let postgres = postgres_source(context, fields, field, references);
            postgres.map(SourceKind::Postgres)
        }
        "mongodb" => mongo_source(context, fields, field, references).map(SourceKind::Mongo),
        _ => {
            check_http_mutuality(context, fields);
            http_source(context, fields, field, references).map(SourceKind::Http)
        }
    }
}

fn needs(kind: &SourceKind) -> Vec<SourceIndex> {
    let mut needs: Vec<_> = match kind {
        SourceKind::Http(http) => {
            let references = http.url.pieces.iter().filter_map(|piece| match piece {
                UrlPiece::Reference(reference) => Some(reference),
                UrlPiece::Literal(_) => None,
            });
            references.filter_map(Reference::source).collect()
        }
        SourceKind::Postgres(postgres) => {
            postgres.query.parameters.iter().filter_map(Reference::source).collect()
        }
        SourceKind::Mongo(mongo) => {
            mongo.parameters.iter().filter_map(|it| it.reference.source()).collect()
        }
    };
    needs.sort_unstable();
    needs.dedup();
    needs
}

fn source_name(context: &mut Context<'_>, key: &TreeKey) -> Option<Arc<str>> {
    if key.text == "key" {
        let hint = "`{key}` in a URL is the key that was asked for";
        context.problem(key.span.clone(), "a source cannot be named `key`", "another name", hint);
        return None;
    }
    name(context, &key.span, &key.text, None, SOURCE_NAME)
}

/// The fields that are read alike for every kind of source.
struct CommonFields {
    missing: Missing,
    timeout: Option<Duration>,
    retries: u32,
    concurrency: NonZeroUsize,
    max_body: NonZeroUsize,
}

fn common_fields(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    names: &[&str],
) -> Option<CommonFields> {
    let missing = fields
        .get("missing")
        .map_or(Some(Missing::Failure), |field| missing(context, field, names));
    let timeout = fields.get("timeout").map_or(Some(None), |field| {
        duration(context, field, Duration::from_millis(1)..=MAX_DEADLINE).map(Some)
    });
    let retries = fields.get("retries").map_or(Some(1), |field| number(context, field, 0..=10));
    let concurrency = fields
        .get("concurrency")
        .map_or(NonZeroUsize::new(64), |field| count(context, field, 10_000));
    let max_body = fields
        .get("max_body")
        .map_or(NonZeroUsize::new(DEFAULT_BODY), |field| size(context, field, MAX_BODY));
    Some(CommonFields {
        missing: missing?,
        timeout: timeout?,
        retries: retries?,
        concurrency: concurrency?,
        max_body: max_body?,
    })
}

/// An HTTP source is always proven.
fn check_http_mutuality(context: &mut Context<'_>, fields: &Fields<'_>) {
    let Some((field, found)) = mutuality(context, fields) else { return };
    if found != Mutuality::Proven {
        let message = format!("`mutual: {}` is for databases", found.as_str());
        let hint =
            "remove it: no request goes to an HTTP service that did not ask for our certificate";
        context.problem(field.node.span.clone(), message, "`proven`", hint);
    }
}

/// Reports a key that belongs to another kind of source.
fn report_misplaced_key(context: &mut Context<'_>, field: Field<'_>, kind: &str) {
    let name = &field.key.text;
    let message = format!("`{name}` has no meaning without `{kind}`");
    let hint = format!("remove `{name}`, or say with `{kind}` where the source is");
    context.problem(field.key.span.clone(), message, format!("`{kind}` beside it"), hint);
}
