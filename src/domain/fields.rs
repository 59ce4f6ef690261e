//! Reading typed values out of the tree: each reader gives a value, or reports what is wrong and
//! gives none.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, FieldPlace};
use super::tree::{TreeKey, TreeNode, TreeValue};
use crate::diagnostics::{nearest, quote};

/// A mapping whose keys are known.
pub(super) struct Fields<'n> {
    /// Where the mapping stands.
    pub(super) span: Range<usize>,
    entries: &'n [(TreeKey, TreeNode)],
    allowed: &'static [&'static str],
}

/// A key that is there, and its value.
#[derive(Clone, Copy)]
pub(super) struct Field<'n> {
    /// The key.
    pub(super) key: &'n TreeKey,
    /// Its value.
    pub(super) node: &'n TreeNode,
}

impl<'n> Fields<'n> {
    /// Takes `node` as a mapping with these keys; any other key is reported.
    pub(super) fn of(
        context: &mut Context<'_>,
        node: &'n TreeNode,
        what: &str,
        allowed: &'static [&'static str],
    ) -> Option<Self> {
        let entries = mapping(context, node, what)?;
        for (key, _) in entries.iter().filter(|(key, _)| !allowed.contains(&key.text.as_str())) {
            if context.count_if_full() {
                continue;
            }
            let (expected, hint) = match nearest(&key.text, allowed.iter().copied()) {
                Some(near) => (format!("`{near}`"), format!("did you mean `{near}`?")),
                None => (
                    format!("a key of {what}"),
                    format!("the keys of {what} are {}", list_quoted(allowed)),
                ),
            };
            let message = format!("{} is not a key of {what}", quote(&key.text));
            context.problem(key.span.clone(), message, expected, hint);
        }
        Some(Self { span: node.span.clone(), entries, allowed })
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'n>> {
        debug_assert!(self.allowed.contains(&name), "`{name}` is missing from the list of keys");
        self.entries.iter().find(|(key, _)| key.text == name).map(|(key, node)| Field { key, node })
    }

    /// The value of a key that must be there.
    pub(super) fn require(
        &self,
        context: &mut Context<'_>,
        name: &str,
        what: &str,
        hint: &str,
    ) -> Option<Field<'n>> {
        let found = self.get(name);
        if found.is_none() {
            context.problem(
                self.span.clone(),
                format!("{what} has no `{name}`"),
                format!("`{name}`"),
                hint,
            );
        }
        found
    }
}

/// The entries of a mapping.
pub(super) fn mapping<'n>(
    context: &mut Context<'_>,
    node: &'n TreeNode,
    what: &str,
) -> Option<&'n [(TreeKey, TreeNode)]> {
    match &node.value {
        TreeValue::Map(entries) => Some(entries),
        _ => report_mismatch(
            context,
            node,
            &format!("{what} as a mapping"),
            "write `name: value` lines, indented below",
        ),
    }
}

/// Words in backticks with commas between.
pub(super) fn list_quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What stands there, in words.
fn describe_found(node: &TreeNode) -> String {
    match &node.value {
        TreeValue::List(_) => "a list".into(),
        TreeValue::Map(_) => "a mapping".into(),
        TreeValue::Scalar(scalar) if scalar.plain && is_null(&scalar.text) => "nothing".into(),
        TreeValue::Scalar(scalar) if scalar.plain && is_number(&scalar.text) => {
            format!("the number {}", scalar.shown())
        }
        TreeValue::Scalar(scalar) if scalar.plain && is_bool(&scalar.text) => {
            format!("the boolean {}", scalar.shown())
        }
        TreeValue::Scalar(scalar) => format!("the text {}", scalar.shown()),
    }
}

/// Reports a value of the wrong type.
fn report_mismatch<T>(
    context: &mut Context<'_>,
    node: &TreeNode,
    expected: &str,
    hint: &str,
) -> Option<T> {
    if !FieldPlace::of(node).is_some_and(|at| at.scalar.broken) {
        let message = format!("mismatched types: found {}", describe_found(node));
        context.problem(node.span.clone(), message, expected, hint);
    }
    None
}

/// YAML 1.2 core: null.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.2 core: booleans (`yes` and `no` are text).
pub(super) fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// YAML 1.2 core: integers and floats.
pub(super) fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |prefix, base| {
        text.strip_prefix(prefix)
            .is_some_and(|rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.parse::<f64>().is_ok();
    let special =
        matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    decimal || special || based("0x", 16) || based("0o", 8)
}

/// A text. A number or boolean counts only where it was substituted: who wrote it can quote it.
pub(super) fn text<'n>(
    context: &mut Context<'_>,
    node: &'n TreeNode,
    expected: &str,
) -> Option<FieldPlace<'n>> {
    let Some(at) = FieldPlace::of(node) else {
        return report_mismatch(context, node, expected, "put it in quotes if it is meant as text");
    };
    let typed = at.scalar.plain && (is_number(&at.scalar.text) || is_bool(&at.scalar.text));
    if at.scalar.broken {
        return None;
    }
    if at.scalar.plain && is_null(&at.scalar.text) || typed && !at.scalar.substituted() {
        let hint = if typed {
            "put it in quotes if it is meant as text"
        } else {
            "write a value, or remove the key"
        };
        return report_mismatch(context, node, expected, hint);
    }
    Some(at)
}

/// A scalar's text, whatever type it looks like.
pub(super) fn any_text<'n>(
    context: &mut Context<'_>,
    node: &'n TreeNode,
    expected: &str,
) -> Option<FieldPlace<'n>> {
    match FieldPlace::of(node) {
        Some(at) if at.scalar.broken => None,
        Some(at) if !(at.scalar.plain && is_null(&at.scalar.text)) => Some(at),
        _ => report_mismatch(context, node, expected, "write one value, or remove the key"),
    }
}

/// A whole number within bounds.
pub(super) fn number(
    context: &mut Context<'_>,
    field: Field<'_>,
    within: RangeInclusive<u32>,
) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", within.start(), within.end());
    let node = field.node;
    let hint = "write digits alone, without quotes and without a unit";
    let Some(at) = FieldPlace::of(node) else {
        return report_mismatch(context, node, &expected, hint);
    };
    let text = &at.scalar.text;
    if !at.scalar.plain && is_number(text) {
        return report_mismatch(
            context,
            node,
            &expected,
            "remove the quotes: in quotes it is a text",
        );
    }
    if !at.scalar.plain || !is_number(text) {
        return report_mismatch(context, node, &expected, hint);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Some(number) = unsigned.parse().ok().filter(|number| within.contains(number)) {
        return Some(number);
    }
    let name = &field.key.text;
    let whole = text.trim_start_matches(['+', '-']).chars().all(|c| c.is_ascii_digit());
    let below =
        text.starts_with('-') || unsigned.parse().is_ok_and(|number: u32| number < *within.start());
    let (message, hint) = match (whole, below) {
        (true, true) => ("is out of range", bound_hint("least", within.start())),
        (true, false) => ("is out of range", bound_hint("most", within.end())),
        (false, _) => ("is not a whole number", "round it, and write digits alone".to_owned()),
    };
    let hint = format!("{hint}, or leave out `{name}` for its default");
    context.problem(node.span.clone(), format!("`{name}` {message}"), expected, hint);
    None
}

/// What to write in place of a value out of bounds.
fn bound_hint(which: &str, bound: impl Display) -> String {
    format!("the {which} is `{bound}`: write that")
}

/// The same, never zero.
pub(super) fn count(
    context: &mut Context<'_>,
    field: Field<'_>,
    most: u32,
) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number(context, field, 1..=most)? as usize)
}

/// A duration with its unit.
pub(super) fn duration(
    context: &mut Context<'_>,
    field: Field<'_>,
    within: RangeInclusive<Duration>,
) -> Option<Duration> {
    let expected = "a duration such as `400ms`, `1s` or `5m`";
    let name = &field.key.text;
    let at = any_text(context, field.node, expected)?;
    let text = at.scalar.text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let zero = text == "0" && !within.contains(&Duration::ZERO);
    if is_number(text) && !text.starts_with('-') && !zero {
        let hint = if digits && !at.scalar.substituted() {
            format!("write `{text}s` or `{text}ms`")
        } else {
            UNITS.to_owned()
        };
        context.problem(at.span.clone(), format!("`{name}` has no unit"), expected, hint);
        return None;
    }
    match humantime::parse_duration(text) {
        Ok(duration) if within.contains(&duration) => Some(duration),
        Ok(duration) => {
            let least = format_bound(*within.start());
            let most = format_bound(*within.end());
            let message = if duration.is_zero() { "cannot be zero" } else { "is out of range" };
            let hint = if duration < *within.start() {
                bound_hint("least", &least)
            } else {
                bound_hint("most", &most)
            };
            let hint = format!("{hint}, or leave out `{name}` for its default");
            context.problem(
                at.span.clone(),
                format!("`{name}` {message}"),
                format!("from {least} to {most}"),
                hint,
            );
            None
        }
        Err(_) => {
            let message = format!("{} is not a duration", at.scalar.shown());
            context.problem(at.span.clone(), message, expected, UNITS);
            None
        }
    }
}

const UNITS: &str = "write whole numbers, each with its unit: `ms`, `s`, `m`, `h` or `d`; \
                     `1h 30m` is one and a half hours";

/// A bound as one would write it: in the largest unit that it is a whole number of.
fn format_bound(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.subsec_millis() {
        0 if seconds == 0 => "0s".into(),
        0 if seconds.is_multiple_of(24 * 60 * 60) => format!("{}d", seconds / (24 * 60 * 60)),
        0 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        0 => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// A number of bytes.
pub(super) fn size(context: &mut Context<'_>, field: Field<'_>, most: u32) -> Option<NonZeroUsize> {
    let expected = "a size such as `64KiB` or `4MiB`";
    let at = any_text(context, field.node, expected)?;
    let Ok(size) = at.scalar.text.parse::<bytesize::ByteSize>() else {
        let message = format!("{} is not a size", at.scalar.shown());
        let hint = "write a number and its unit: `B`, `KiB`, `MiB` or `GiB`";
        context.problem(at.span.clone(), message, expected, hint);
        return None;
    };
    let fits = u32::try_from(size.0).ok().filter(|size| *size <= most);
    let found = fits.and_then(|size| NonZeroUsize::new(size as usize));
    if found.is_none() {
        let most = bytesize::ByteSize(most.into()).to_string().replace(".0 ", "");
        let name = &field.key.text;
        let hint = if size.0 == 0 { bound_hint("least", "1B") } else { bound_hint("most", &most) };
        let hint = format!("{hint}, or leave out `{name}` for its default");
        context.problem(
            at.span.clone(),
            format!("`{name}` is out of range"),
            format!("from 1 byte to {most}"),
            hint,
        );
    }
    found
}

/// One of a few words.
pub(super) fn word(
    context: &mut Context<'_>,
    field: Field<'_>,
    words: &[&'static str],
) -> Option<&'static str> {
    let expected = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    let at = text(context, field.node, &expected)?;
    let found = words.iter().find(|word| **word == at.scalar.text).copied();
    if found.is_none() {
        let message = format!("{} is not a value of `{}`", at.scalar.shown(), field.key.text);
        let hint = match nearest(&at.scalar.text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {expected}, or leave out `{}` for its default", field.key.text),
        };
        context.problem(at.span.clone(), message, expected, hint);
    }
    found
}

/// A calendar day: `2026-06-01`.
pub(super) fn date(context: &mut Context<'_>, field: Field<'_>) -> Option<time::Date> {
    let expected = "a day such as `2026-06-01`";
    let at = any_text(context, field.node, expected)?;
    let format = time::macros::format_description!("[year]-[month]-[day]");
    let date = time::Date::parse(&at.scalar.text, format).ok();
    if date.is_none() {
        let message = format!("{} is not a day of the calendar", at.scalar.shown());
        let hint = "write year, month and day with all their digits, of a day that there is";
        context.problem(at.span.clone(), message, expected, hint);
    }
    date
}

/// How a name may look.
#[derive(Clone, Copy)]
pub(super) struct NameRule {
    /// What it names.
    pub(super) subject: &'static str,
    /// Whether a character may stand at the beginning.
    pub(super) first: fn(char) -> bool,
    /// Whether a character may stand after that.
    pub(super) rest: fn(char) -> bool,
    /// Both, in words.
    pub(super) expected: &'static str,
    /// A good one.
    pub(super) example: &'static str,
}

/// The longest name, in bytes.
const NAME_MAX_LEN: usize = 63;

/// Checks a name against its rule; `hidden` is shown for one that came from the environment.
pub(super) fn name(
    context: &mut Context<'_>,
    span: &Range<usize>,
    text: &str,
    hidden: Option<&str>,
    rule: NameRule,
) -> Option<Arc<str>> {
    if text.starts_with(rule.first) && text.chars().all(rule.rest) && text.len() <= NAME_MAX_LEN {
        return Some(text.into());
    }
    let what = rule.subject;
    let message = match text.len() {
        0 => format!("the name of a {what} is empty"),
        64.. => format!("the name of a {what} is longer than {NAME_MAX_LEN} characters"),
        _ => format!(
            "{} cannot be the name of a {what}",
            hidden.map_or_else(|| quote(text), str::to_owned)
        ),
    };
    let hint = match suggest_name(text, rule).filter(|_| hidden.is_none()) {
        Some(nearby) => format!("write `{nearby}`"),
        None => format!("choose a short one, such as `{}`", rule.example),
    };
    context.problem(span.clone(), message, rule.expected, hint);
    None
}

/// What a name would be with its signs and letters made to fit.
fn suggest_name(text: &str, rule: NameRule) -> Option<String> {
    let fitting = |c: char| if (rule.rest)(c) { c } else { c.to_ascii_lowercase() };
    let fitting = text.trim().chars().map(fitting).map(|c| if (rule.rest)(c) { c } else { '-' });
    let fitting: String = fitting.skip_while(|c| !(rule.first)(*c)).collect();
    let fitting = fitting.trim_end_matches('-');
    (1..=NAME_MAX_LEN).contains(&fitting.len()).then(|| fitting.to_owned())
}
