//! The `versions` section: consumers' paths, shapes, and how a version ends.

use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use super::context::{Context, FieldPlace};
use super::fields::{Field, Fields, NameRule, date, mapping, name, text};
use super::model::{PathTemplate, Version};
use super::program::program;
use super::substitute::strip_byte_order_mark;
use super::tree::{TreeKey, TreeNode};
use crate::diagnostics::{io_error_text, nearest, quote, quote_few};

/// The keys of a version.
pub(super) const VERSION_KEYS: &[&str] =
    &["path", "shape", "deprecated", "sunset", "successor", "schema"];

const MAX_VERSIONS: usize = 64;
/// The longest path, in bytes.
const MAX_PATH: usize = 512;

const VERSION_NAME: NameRule = NameRule {
    subject: "version",
    first: |c| c.is_ascii_alphanumeric(),
    rest: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'),
    expected: "a letter or digit, then letters, digits, `.`, `_` or `-`",
    example: "v1",
};

/// Every version and the place of its path, in the order of the file.
pub(super) fn versions(
    context: &mut Context<'_>,
    node: &TreeNode,
) -> Option<(Vec<Version>, Vec<Range<usize>>)> {
    let entries = mapping(context, node, "the versions, each under its name,")?;
    if entries.is_empty() || entries.len() > MAX_VERSIONS {
        let message =
            if entries.is_empty() { "there is no version" } else { "there are too many versions" };
        let hint = if entries.is_empty() {
            "publish the data: `v1: {path: '/v1/customers/{key}'}`"
        } else {
            "remove those that nobody asks for any more"
        };
        context.problem(
            node.span.clone(),
            message,
            format!("from 1 to {MAX_VERSIONS} versions"),
            hint,
        );
        return None;
    }
    let names: Vec<&str> = entries.iter().map(|(key, _)| key.text.as_str()).collect();
    let mut paths = Vec::new();
    let versions: Vec<_> =
        entries.iter().map(|(key, node)| version(context, key, node, &names, &mut paths)).collect();
    let versions = versions.into_iter().collect::<Option<Vec<_>>>()?;
    Some((versions, paths.into_iter().map(|(_, place)| place).collect()))
}

fn version(
    context: &mut Context<'_>,
    key: &TreeKey,
    node: &TreeNode,
    names: &[&str],
    paths: &mut Vec<(PathTemplate, Range<usize>)>,
) -> Option<Version> {
    let own = name(context, &key.span, &key.text, None, VERSION_NAME);
    let fields = Fields::of(context, node, "a version", VERSION_KEYS)?;
    let what = format!("the version {}", quote(&key.text));
    let path = fields
        .require(
            context,
            "path",
            &what,
            "say where consumers ask for it: `path: '/v1/customers/{key}'`",
        )
        .and_then(|field| text(context, field.node, "a path"))
        .and_then(|at| distinct_path(context, at, paths));
    let shape =
        fields.get("shape").map_or(Some(None), |field| program(context, field.node).map(Some));
    let schema = fields.get("schema").map_or(Some(None), |field| schema(context, field).map(Some));
    let deprecated =
        fields.get("deprecated").map_or(Some(None), |field| date(context, field).map(Some));
    let sunset = fields
        .get("sunset")
        .map_or(Some(None), |field| sunset(context, field, deprecated.flatten()).map(Some));
    let successor = fields
        .get("successor")
        .map_or(Some(None), |it| successor(context, it, &key.text, names).map(Some));
    Some(Version {
        name: own?,
        path: path?,
        shape: shape?,
        schema: schema?,
        deprecated: deprecated?,
        sunset: sunset?,
        successor: successor?,
    })
}

/// The expectation for a path that overlaps with another.
pub(super) const DISTINCT_PATH: &str = "a path that no other version can match";

/// A path that no other version of the file could be meant by.
fn distinct_path(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
    paths: &mut Vec<(PathTemplate, Range<usize>)>,
) -> Option<PathTemplate> {
    let path = path(context, at)?;
    if let Some((other, place)) = paths.iter().find(|(other, _)| paths_overlap(other, &path)) {
        let line = context.line(place.start);
        let message = format!("this path overlaps with {} on line {line}", quote(&other.text));
        context.problem(
            at.span.clone(),
            message,
            DISTINCT_PATH,
            "`{key}` stands for any one segment",
        );
        return None;
    }
    paths.push((path.clone(), at.span.clone()));
    Some(path)
}

/// Whether some request path would match both.
pub(super) fn paths_overlap(left: &PathTemplate, right: &PathTemplate) -> bool {
    let left = left.text.split('/');
    let right = right.text.split('/');
    left.clone().count() == right.clone().count()
        && left.zip(right).all(|(left, right)| left == right || left == "{key}" || right == "{key}")
}

fn path(context: &mut Context<'_>, at: FieldPlace<'_>) -> Option<PathTemplate> {
    match read_path(&at.scalar.text) {
        Ok(path) => Some(path),
        Err((range, message, hint)) => {
            context.problem_in(at, range, message, "a path such as `/v1/customers/{key}`", hint);
            None
        }
    }
}

/// The path, or where it is wrong, how, and a hint.
fn read_path(text: &str) -> Result<PathTemplate, (Range<usize>, String, &'static str)> {
    let all = 0..text.len();
    let fault = |range, message: &str, hint| Err((range, message.to_owned(), hint));
    if !text.starts_with('/') {
        return fault(0..0, "a path begins with `/`", "put `/` before it");
    }
    if text.len() > MAX_PATH {
        return fault(all, "the path is longer than 512 bytes", "shorten it to 512 bytes at most");
    }
    let mut keys = Vec::new();
    let mut start = 1;
    for segment in text[1..].split('/') {
        let range = start..start + segment.len();
        start = range.end + 1;
        match segment {
            "{key}" => keys.push(range),
            "" if range.end == text.len() => {
                return fault(
                    range.start - 1..range.end,
                    "a path has no slash at its end",
                    "remove the slash",
                );
            }
            "" => {
                return fault(
                    range.start - 1..range.end + 1,
                    "a path has no empty segment",
                    "write one slash",
                );
            }
            "." | ".." => {
                return fault(range, "a path cannot go up or stay", "write the path that is meant");
            }
            _ => literal_segment(segment, range.start)?,
        }
    }
    let key = match &keys[..] {
        [key] => key.clone(),
        [] => return fault(all, "the path has no `{key}`", "add `{key}` as a segment of its own"),
        [_, second, ..] => {
            return fault(second.clone(), "the path has `{key}` twice", "keep one of them");
        }
    };
    let path = PathTemplate {
        text: text.into(),
        before: text[..key.start].into(),
        after: text[key.end..].into(),
    };
    if text == "/{key}" {
        return fault(
            all,
            "this path would also match `/openapi.json`",
            "put a fixed segment before `{key}`",
        );
    }
    Ok(path)
}

fn literal_segment(
    segment: &str,
    start: usize,
) -> Result<(), (Range<usize>, String, &'static str)> {
    for (at, c) in segment.char_indices() {
        if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c) {
            continue;
        }
        let range = start + at..start + at + c.len_utf8();
        let message = match c {
            '?' => "a path has no query".to_owned(),
            '{' | '}' => "only `{key}`, as a whole segment, can stand in a path".to_owned(),
            _ => format!("{} cannot stand in a path", quote(&c.to_string())),
        };
        let hint = match c {
            '{' | '}' => "the key is one whole segment: `/customers/{key}`",
            '?' => "remove the `?` and what follows it: a version is asked for without a query",
            '#' => "remove the `#` and what follows it",
            '%' => "write the character itself, or a name without it",
            _ => "write it with letters, digits and the signs that URLs allow, such as `-`",
        };
        return Err((range, message, hint));
    }
    Ok(())
}

fn sunset(
    context: &mut Context<'_>,
    field: Field<'_>,
    deprecated: Option<time::Date>,
) -> Option<time::Date> {
    let sunset = date(context, field)?;
    match deprecated {
        Some(deprecated) if sunset < deprecated => {
            let expected = "a day not before the deprecation";
            let hint = "a version is deprecated first, and gone later";
            context.problem(
                field.node.span.clone(),
                "`sunset` is before `deprecated`",
                expected,
                hint,
            );
            None
        }
        _ => Some(sunset),
    }
}

fn successor(
    context: &mut Context<'_>,
    field: Field<'_>,
    own: &str,
    names: &[&str],
) -> Option<Arc<str>> {
    let at = text(context, field.node, "the name of a version")?;
    let given = at.scalar.text.as_str();
    if given != own && names.contains(&given) {
        return Some(given.into());
    }
    let message = if given == own {
        "a version cannot be its own successor".to_owned()
    } else {
        format!("there is no version {}", at.scalar.shown())
    };
    let others = || names.iter().copied().filter(|name| *name != own);
    let hint = match nearest(given, others()).filter(|_| given != own) {
        Some(near) => format!("did you mean `{near}`?"),
        None if others().next().is_none() => {
            "add the version to move to, or remove `successor`".into()
        }
        None => format!("the others are {}; or remove `successor`", quote_few(others())),
    };
    context.problem(at.span.clone(), message, "another version of this file", hint);
    None
}

/// Whether links on the way lead out of the folder. A missing file is reported by its reader.
fn leads_out_of(folder: &Path, path: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match (folder.canonicalize(), path.canonicalize()) {
        (Ok(folder), Ok(path)) => !path.starts_with(folder),
        _ => false,
    }
}

/// Reads a version's JSON Schema; its path is relative to the domain file, and leads no higher.
fn schema(context: &mut Context<'_>, field: Field<'_>) -> Option<Arc<serde_json::Value>> {
    let at = text(context, field.node, "the path of a JSON Schema")?;
    let folder = context.file.parent().unwrap_or(Path::new(""));
    let written = Path::new(&at.scalar.text);
    let path = folder.join(written);
    let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !written.components().all(is_plain) || leads_out_of(folder, &path) {
        let message = "the schema is not in this file's folder or below";
        let hint = "put it beside this file: consumers can read it in `/openapi.json`";
        context.problem(at.span.clone(), message, "a path within the folder of this file", hint);
        return None;
    }
    let parsed = match (context.world.read)(&path) {
        Ok(text) => serde_json::from_str::<serde_json::Value>(strip_byte_order_mark(&text))
            .map_err(|error| {
                format!(
                    "the schema is not valid JSON (line {}, column {} of it)",
                    error.line(),
                    error.column()
                )
            }),
        Err(error) => Err(format!("the schema cannot be read: {}", io_error_text(&error))),
    };
    let problem = match parsed {
        Ok(schema) if schema.is_object() || schema.is_boolean() => return Some(Arc::new(schema)),
        Ok(_) => "the schema is neither a JSON object nor a boolean".to_owned(),
        Err(message) => message,
    };
    context.problem(
        at.span.clone(),
        problem,
        "a file with a JSON Schema",
        "the path is relative to this file",
    );
    None
}
