//! The `missing` key: the meaning of a source's 404, a value as JSON text.

use serde_json::{Map, Number, Value as Json};

use super::context::{Context, FieldPlace};
use super::fields::{Field, is_bool, is_null, is_number};
use super::model::Missing;
use super::reference;
use super::tree::{Scalar, TreeNode, TreeValue};
use crate::diagnostics::edit_distance;

/// Reads the `missing` key.
///
/// `not-found` in quotes means the same as without; in a block (`|-`) it is a text, and so is all
/// that resembles it.
pub(super) fn missing(
    context: &mut Context<'_>,
    field: Field<'_>,
    sources: &[&str],
) -> Option<Missing> {
    if let Some(at) = FieldPlace::of(field.node) {
        if at.scalar.broken {
            return None;
        }
        if at.scalar.plain && at.scalar.text.is_empty() {
            let expected = "`not-found`, or a value";
            let hint = "write `missing: null` if a 404 means null";
            context.problem(field.key.span.clone(), "`missing` has no value", expected, hint);
            return None;
        }
        if at.scalar.text == NOT_FOUND && !at.scalar.block {
            return Some(Missing::NotFound);
        }
        if is_nearly_not_found(at.scalar) {
            let message = format!("{} is not `{NOT_FOUND}`, but nearly so", at.scalar.shown());
            let hint = "write `not-found` if there is then no such key; a text like this is \
                        written in a block: `missing: |-`, and the text below it";
            context.problem(at.span.clone(), message, "`not-found`, or a value", hint);
            return None;
        }
    }
    let before = context.count();
    reference::report_references(context, field.node, sources, "`missing`");
    if context.count() > before {
        return None;
    }
    json_value(context, field.node).map(|value| Missing::Value(value.to_string().into()))
}

const NOT_FOUND: &str = "not-found";

/// Whether a text is a misspelt `not-found`, in any case, with any characters between or around the
/// words.
fn is_nearly_not_found(scalar: &Scalar) -> bool {
    const LONGEST: usize = 32;
    let letters = || scalar.text.chars().filter(|c| c.is_alphanumeric());
    let plain: String = letters().take(LONGEST).collect();
    !scalar.block && scalar.text.len() <= LONGEST && edit_distance(&plain, "notfound") <= 1
}

fn json_value(context: &mut Context<'_>, node: &TreeNode) -> Option<Json> {
    match &node.value {
        TreeValue::List(items) => {
            let items: Vec<_> = items.iter().map(|item| json_value(context, item)).collect();
            items.into_iter().collect::<Option<_>>().map(Json::Array)
        }
        TreeValue::Map(entries) => {
            let members: Vec<_> = entries
                .iter()
                .map(|(key, value)| Some((key.text.clone(), json_value(context, value)?)))
                .collect();
            members.into_iter().collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        TreeValue::Scalar(scalar) if scalar.broken => None,
        TreeValue::Scalar(scalar) => {
            let value = scalar_json(scalar);
            if value.is_none() {
                let hint = "write a finite number, or put it in quotes if it is meant as text";
                context.problem(node.span.clone(), "JSON has no such number", "a JSON value", hint);
            }
            value
        }
    }
}

/// A scalar's JSON value, typed as YAML 1.2's core schema does.
fn scalar_json(scalar: &Scalar) -> Option<Json> {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Some(Json::String(text.into()));
    }
    if is_null(text) {
        return Some(Json::Null);
    }
    if is_bool(text) {
        return Some(Json::Bool(text.eq_ignore_ascii_case("true")));
    }
    if !is_number(text) {
        return Some(Json::String(text.into()));
    }
    let based =
        |prefix, base| text.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, base));
    if let Some(number) = based("0x", 16).or_else(|| based("0o", 8)) {
        return number.ok().map(Json::from);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = unsigned.parse::<i64>() {
        return Some(Json::from(number));
    }
    unsigned.parse().ok().and_then(Number::from_f64).map(Json::Number)
}
