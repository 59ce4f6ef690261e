//! From the tree to a checked [`Domain`], or to all its problems.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::context::Context;
use super::fields::{Field, Fields, NameRule, duration, name, number, text, word};
use super::model::{Atomicity, CacheRules, Domain, KeyPattern, MAX_DEADLINE};
use super::substitute::substitute;
use super::tree::TreeNode;
use super::world::World;
use super::{plan, program, source, tree_reader, version};
use crate::diagnostics::Problem;

/// The keys of a domain file.
pub(super) const DOMAIN_KEYS: &[&str] =
    &["domain", "key", "sources", "atomicity", "rounds", "deadline", "versions", "cache"];
/// The keys of `cache`.
pub(super) const CACHE_KEYS: &[&str] = &["ttl", "missing_ttl", "stale_if_error", "tags"];

/// The largest domain file, in bytes.
pub(super) const MAX_FILE: usize = 1 << 20;
/// The longest key pattern, in bytes.
const MAX_PATTERN_TEXT: usize = 4 << 10;
/// The most memory that a compiled key pattern may take, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// The longest that a dataset may be kept.
const MAX_TTL: Duration = Duration::from_hours(365 * 24);

const DOMAIN_NAME: NameRule = NameRule {
    subject: "domain",
    first: |c| c.is_ascii_lowercase(),
    rest: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'),
    expected: "a lower-case letter, then lower-case letters, digits, `_` or `-`",
    example: "customer",
};

/// A domain, and where the things stand that may clash with other files.
#[derive(Debug, Clone)]
pub(super) struct CheckedFile {
    pub(super) domain: Arc<Domain>,
    /// Where its name stands.
    pub(super) name: Range<usize>,
    /// Where its versions' paths stand, in the order of the versions.
    pub(super) paths: Vec<Range<usize>>,
}

/// Checks the text of a domain file: a domain, or everything that is wrong with it.
///
/// Asks only `world` of the outside.
pub fn parse(file: &Path, text: &str, world: World<'_>) -> Result<Domain, Vec<Problem>> {
    check(file, text, world).map(|checked| Arc::unwrap_or_clone(checked.domain))
}

/// The same, with the places that a check across files needs.
pub(super) fn check(
    file: &Path,
    text: &str,
    world: World<'_>,
) -> Result<CheckedFile, Vec<Problem>> {
    if text.len() > MAX_FILE {
        let hint = "check that it is the right file: a domain file is a page or two";
        return Err(vec![Problem::of_file(file, "the file is too large", "at most 1 MiB", hint)]);
    }
    let mut context = Context::new(file, text, world);
    let checked = tree_reader::read(&mut context).and_then(|mut root| {
        substitute(&mut context, &mut root);
        domain(&mut context, &root)
    });
    match checked {
        Some(checked) if context.count() == 0 => Ok(checked),
        _ => Err(context.finish()),
    }
}

fn domain(context: &mut Context<'_>, root: &TreeNode) -> Option<CheckedFile> {
    let fields = Fields::of(context, root, "a domain file", DOMAIN_KEYS)?;
    let name_field = fields.require(
        context,
        "domain",
        "the file",
        "name what the data is about: `domain: customer`",
    );
    let name = name_field.and_then(|field| {
        let at = text(context, field.node, "a name")?;
        let hidden = at.scalar.substituted().then(|| at.scalar.shown());
        let name = name(context, at.span, &at.scalar.text, hidden.as_deref(), DOMAIN_NAME)?;
        Some((name, at.span.clone()))
    });
    let key = fields.get("key").map_or_else(any_key, |field| key_pattern(context, field));
    let sources = fields
        .require(context, "sources", "the file", "say where the data comes from")
        .and_then(|field| source::sources(context, field.node));
    let atomicity = atomicity(context, &fields);
    let deadline = fields.get("deadline").map_or(Some(Duration::from_secs(2)), |field| {
        duration(context, field, Duration::from_millis(1)..=MAX_DEADLINE)
    });
    let versions = fields
        .require(
            context,
            "versions",
            "the file",
            "publish the data: `versions: {v1: {path: '/v1/customers/{key}'}}`",
        )
        .and_then(|field| version::versions(context, field.node));
    let cache = cache(context, fields.get("cache"));
    let (name, name_span) = name?;
    let (versions, paths) = versions?;
    let mut domain = Domain {
        name,
        file: context.file.into(),
        key: key?,
        sources: sources?,
        atomicity: atomicity?,
        deadline: deadline?,
        versions,
        cache: cache?,
        plan: plan::placeholder(),
    };
    domain.plan = plan::fingerprint(&domain);
    Some(CheckedFile { domain: Arc::new(domain), name: name_span, paths })
}

/// The pattern of a file without `key`: any text that every decoder takes for one segment.
const ANY_KEY: &str = r"[^/\\\p{Cc}]+";

fn any_key() -> Option<KeyPattern> {
    let anchored = Regex::new(&format!("^(?:{ANY_KEY})$")).ok()?;
    Some(KeyPattern { text: ANY_KEY.into(), anchored })
}

fn key_pattern(context: &mut Context<'_>, field: Field<'_>) -> Option<KeyPattern> {
    let at = text(context, field.node, "a regular expression")?;
    let text = at.scalar.text.as_str();
    if text.len() > MAX_PATTERN_TEXT {
        let expected = format!("at most {MAX_PATTERN_TEXT} bytes");
        let hint = "say with classes and counts: `[a-z]{2,8}`";
        context.problem(at.span.clone(), "the pattern is too long", expected, hint);
        return None;
    }
    if text.is_empty() {
        let hint = "without `key`, any key on one line will do: remove it, \
                    or write a pattern such as `'[0-9]{1,18}'`";
        context.problem(
            at.span.clone(),
            "this pattern matches no key",
            "a pattern that some key matches",
            hint,
        );
        return None;
    }
    let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_PATTERN).build();
    // Alone first: `a)(b` would be well-formed between the anchors.
    if let Err(error) = compile(text) {
        let (range, message) = regex_problem(text, &error);
        let hint = match error {
            regex::Error::CompiledTooBig(_) => "repeat less: a count within a count multiplies",
            _ => {
                "write `\\` before a sign that means itself; look-around and back-references do \
                 not exist"
            }
        };
        context.problem_in(
            at,
            range,
            message,
            "a regular expression as Rust's `regex` reads it",
            hint,
        );
        return None;
    }
    if let Ok(anchored) = compile(&format!("^(?:{text})$")) {
        return Some(KeyPattern { text: text.into(), anchored });
    }
    let message = "this pattern cannot be held to the whole key";
    let expected = "a pattern that can stand in a group";
    let hint = "leave out comments (`(?x) … # …`)";
    context.problem(at.span.clone(), message, expected, hint);
    None
}

/// Where in the pattern, and the error's last line: the lines before it draw the pattern.
fn regex_problem(text: &str, error: &regex::Error) -> (Range<usize>, String) {
    let drawn = error.to_string();
    let message = drawn.rsplit("error: ").next().unwrap_or(&drawn).trim().to_lowercase();
    let caret = drawn.lines().find(|line| {
        line.trim_start().starts_with('^') && line.trim_matches([' ', '^']).is_empty()
    });
    let whole = 0..text.len();
    let range = match (error, caret) {
        (regex::Error::Syntax(_), Some(caret)) if !text.contains('\n') => {
            let start = caret.find('^').unwrap_or(0).saturating_sub(4);
            let byte = |nth| text.char_indices().nth(nth).map_or(text.len(), |(at, _)| at);
            byte(start)..byte(start + caret.trim().len())
        }
        _ => whole,
    };
    let message = match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".into(),
        _ => message,
    };
    (range, message)
}

fn atomicity(context: &mut Context<'_>, fields: &Fields<'_>) -> Option<Atomicity> {
    let chosen = fields
        .get("atomicity")
        .map_or(Some("complete"), |field| word(context, field, &["complete", "snapshot"]));
    let rounds = fields.get("rounds");
    let count =
        rounds.map_or(Some(3), |field| number(context, field, 2..=16)).and_then(NonZeroU32::new);
    match (chosen?, rounds) {
        ("complete", Some(field)) => {
            let message = "`rounds` has no meaning without `atomicity: snapshot`";
            let hint = "remove `rounds`, or write `atomicity: snapshot`";
            context.problem(
                field.key.span.clone(),
                message,
                "`atomicity: snapshot` beside it",
                hint,
            );
            None
        }
        ("complete", None) => Some(Atomicity::Complete),
        _ => count.map(|rounds| Atomicity::Snapshot { rounds }),
    }
}

fn cache(context: &mut Context<'_>, field: Option<Field<'_>>) -> Option<CacheRules> {
    let fields = match field {
        Some(field) => Some(Fields::of(context, field.node, "`cache`", CACHE_KEYS)?),
        None => None,
    };
    let get = |name| fields.as_ref().and_then(|fields| fields.get(name));
    let mut seconds = |name, default| {
        get(name).map_or(Some(Duration::from_secs(default)), |field| {
            duration(context, field, Duration::ZERO..=MAX_TTL)
        })
    };
    let ttl = seconds("ttl", 60);
    let missing_ttl = seconds("missing_ttl", 5);
    let stale_if_error = seconds("stale_if_error", 0);
    let tags =
        get("tags").map_or(Some(None), |field| program::program(context, field.node).map(Some));
    Some(CacheRules {
        ttl: ttl?,
        missing_ttl: missing_ttl?,
        stale_if_error: stale_if_error?,
        tags: tags?,
    })
}
