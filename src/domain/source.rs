//! The `sources` section.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::fields::{
    Field, Fields, NameRule, count, duration, mapping, name, number, size, text, word,
};
use super::graph;
use super::headers::{Headers, headers};
use super::missing::missing;
use super::model::{HttpSource, MAX_DEADLINE, Missing, Pages, Source, SourceIndex, UrlPiece};
use super::server;
use super::tree::{TreeKey, TreeNode};
use super::url::{self, ReferenceScope};

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
    "database",
    "collection",
    "filter",
    "projection",
    "missing",
    "timeout",
    "retries",
    "concurrency",
    "max_body",
];
/// The keys that are refused for a source of another kind than HTTP.
const HTTP_KEYS: &[&str] = &["server", "headers", "pages", "max_pages", "max_body"];

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

/// A source if it is right, and the sources that its URL names in any case.
fn source(
    context: &mut Context<'_>,
    key: &TreeKey,
    node: &TreeNode,
    names: &[&str],
) -> (Option<Source>, Vec<(SourceIndex, std::ops::Range<usize>)>) {
    let name = source_name(context, key);
    let Some(fields) = Fields::of(context, node, "a source", SOURCE_KEYS) else {
        return (None, Vec::new());
    };
    let common = common_fields(context, &fields, names);
    if report_unsupported_kind(context, &fields) {
        return (None, Vec::new());
    }
    let hint = "say where it is: `url: https://host/path/{key}`";
    let Some(field) = fields.require(context, "url", &format!("the source `{}`", key.text), hint)
    else {
        return (None, Vec::new());
    };
    let parsed = text(context, field.node, "a URL")
        .map(|at| url::url(context, at, &ReferenceScope { names }));
    let (url, uses) = parsed.unwrap_or_default();
    let server = match fields.get("server") {
        Some(field) => {
            text(context, field.node, "an identity").and_then(|at| server::server(context, at))
        }
        None => url.as_ref().and_then(|url| server::identity_of_origin(&url.origin)),
    };
    let headers = fields
        .get("headers")
        .map_or_else(|| Some(Headers::default()), |it| headers(context, it.node, names));
    let pages = pages(context, &fields);
    let source = (|| {
        let common = common?;
        let url = url?;
        let headers = headers?;
        let needs = needs(&url.pieces);
        Some(Source {
            name: name?,
            http: HttpSource {
                url,
                server: server?,
                headers: headers.values,
                written_headers: headers.written,
                pages: pages?,
            },
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

fn needs(pieces: &[UrlPiece]) -> Vec<SourceIndex> {
    let mut needs: Vec<_> = pieces
        .iter()
        .filter_map(|piece| match piece {
            UrlPiece::Part { source, .. } => Some(*source),
            UrlPiece::Literal(_) | UrlPiece::Key => None,
        })
        .collect();
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

/// Reports a source of another kind than HTTP, and keys that do not go together.
fn report_unsupported_kind(context: &mut Context<'_>, fields: &Fields<'_>) -> bool {
    let kinds: Vec<_> =
        ["url", "postgres", "mongodb"].iter().filter_map(|kind| fields.get(kind)).collect();
    if let [_, second, ..] = kinds[..] {
        let message =
            format!("`{}` and `{}` exclude each other", kinds[0].key.text, second.key.text);
        let hint = "remove one of them: a source reads from one place";
        context.problem(
            second.key.span.clone(),
            message,
            "one of `url`, `postgres`, `mongodb`",
            hint,
        );
    }
    let other = |kind: &str| fields.get(kind).is_some();
    let belongs = [
        ("query", "postgres"),
        ("database", "mongodb"),
        ("collection", "mongodb"),
        ("filter", "mongodb"),
    ];
    for (key, kind) in belongs.into_iter().chain([("projection", "mongodb")]) {
        if let Some(field) = fields.get(key).filter(|_| !other(kind)) {
            report_misplaced_key(context, field, kind);
        }
    }
    let Some(kind) = kinds.iter().find(|field| field.key.text != "url") else { return false };
    for field in HTTP_KEYS.iter().filter_map(|key| fields.get(key)).filter(|_| !other("url")) {
        report_misplaced_key(context, field, "url");
    }
    let needed = if kind.key.text == "postgres" { "query" } else { "collection" };
    let what = format!("a `{}` source", kind.key.text);
    fields.require(context, needed, &what, if needed == "query" { QUERY } else { COLLECTION });
    let hint = "put an HTTP service before it, and name that: `url: https://host/path/{key}`";
    context.problem(
        kind.key.span.clone(),
        format!("{what} is not yet in this build"),
        "`url`",
        hint,
    );
    true
}

const QUERY: &str = "say what to read: `query: select … where customer_id = $key`";
const COLLECTION: &str = "say what to read: `collection: customers`";

/// Reports a key that belongs to another kind of source.
fn report_misplaced_key(context: &mut Context<'_>, field: Field<'_>, kind: &str) {
    let name = &field.key.text;
    let message = format!("`{name}` has no meaning without `{kind}`");
    let hint = format!("remove `{name}`, or say with `{kind}` where the source is");
    context.problem(field.key.span.clone(), message, format!("`{kind}` beside it"), hint);
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
