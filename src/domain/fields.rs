//! Reading typed values out of the tree: each reader gives a value, or reports what is wrong and gives none.

use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::context::{At, Context};
use super::problem::{nearest, quote};
use super::tree::{Key, Node, Value};

/// A mapping whose keys are known.
pub(super) struct Fields<'n> {
    /// Where the mapping stands.
    pub(super) span: Range<usize>,
    entries: &'n [(Key, Node)],
    allowed: &'static [&'static str],
}

/// A key that is there, and its value.
#[derive(Clone, Copy)]
pub(super) struct Field<'n> {
    /// The key.
    pub(super) key: &'n Key,
    /// Its value.
    pub(super) node: &'n Node,
}

impl<'n> Fields<'n> {
    /// Takes `node` as a mapping with these keys; any other key is reported.
    pub(super) fn of(
        context: &mut Context<'_>,
        node: &'n Node,
        what: &str,
        allowed: &'static [&'static str],
    ) -> Option<Self> {
        let entries = mapping(context, node, what)?;
        for (key, _) in entries.iter().filter(|(key, _)| !allowed.contains(&key.text.as_str())) {
            let full = context.full();
            let problem = context.problem(key.span.clone(), format!("{} is not a key of {what}", quote(&key.text)));
            match nearest(&key.text, allowed.iter().copied().filter(|_| !full)) {
                Some(near) => problem.expected(format!("`{near}`")).hint(format!("did you mean `{near}`?")),
                None => problem.hint(format!("the keys of {what} are {}", list(allowed))),
            };
        }
        Some(Self { span: node.span.clone(), entries, allowed })
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'n>> {
        debug_assert!(self.allowed.contains(&name), "`{name}` is missing from the list of keys");
        self.entries.iter().find(|(key, _)| key.text == name).map(|(key, node)| Field { key, node })
    }

    /// The value of a key that must be there.
    pub(super) fn need(&self, context: &mut Context<'_>, name: &str, what: &str, hint: &str) -> Option<Field<'n>> {
        let found = self.get(name);
        if found.is_none() {
            let problem = context.problem(self.span.clone(), format!("{what} has no `{name}`"));
            problem.expected(format!("`{name}`")).hint(hint);
        }
        found
    }
}

/// The entries of a mapping.
pub(super) fn mapping<'n>(context: &mut Context<'_>, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => mismatch(context, node, &format!("{what} as a mapping"), None),
    }
}

/// Words in backticks with commas between.
pub(super) fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What stands there, in words.
fn found(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
        Value::Scalar(scalar) if scalar.plain && is_null(&scalar.text) => "nothing".into(),
        Value::Scalar(scalar) if scalar.plain && is_number(&scalar.text) => format!("the number {}", scalar.shown()),
        Value::Scalar(scalar) if scalar.plain && is_bool(&scalar.text) => format!("the boolean {}", scalar.shown()),
        Value::Scalar(scalar) => format!("the text {}", scalar.shown()),
    }
}

/// Reports a value of the wrong type.
fn mismatch<T>(context: &mut Context<'_>, node: &Node, expected: &str, hint: Option<&str>) -> Option<T> {
    if !At::of(node).is_some_and(|at| at.scalar.broken) {
        let message = format!("mismatched types: found {}", found(node));
        let problem = context.problem(node.span.clone(), message).expected(expected);
        hint.map(|hint| problem.hint(hint));
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
        text.strip_prefix(prefix).is_some_and(|rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok();
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    decimal || special || based("0x", 16) || based("0o", 8)
}

/// A text. A number or boolean counts only where it was substituted: who wrote it can quote it.
pub(super) fn text<'n>(context: &mut Context<'_>, node: &'n Node, expected: &str) -> Option<At<'n>> {
    let Some(at) = At::of(node) else {
        return mismatch(context, node, expected, Some("put it in quotes if it is meant as text"));
    };
    let typed = at.scalar.plain && (is_number(&at.scalar.text) || is_bool(&at.scalar.text));
    if at.scalar.broken {
        return None;
    }
    if at.scalar.plain && is_null(&at.scalar.text) || typed && !at.scalar.substituted() {
        let hint = typed.then_some("put it in quotes if it is meant as text");
        return mismatch(context, node, expected, hint);
    }
    Some(at)
}

/// A scalar's text, whatever type it looks like.
pub(super) fn any_text<'n>(context: &mut Context<'_>, node: &'n Node, expected: &str) -> Option<At<'n>> {
    match At::of(node) {
        Some(at) if at.scalar.broken => None,
        Some(at) if !(at.scalar.plain && is_null(&at.scalar.text)) => Some(at),
        _ => mismatch(context, node, expected, None),
    }
}

/// A whole number within bounds.
pub(super) fn number(context: &mut Context<'_>, field: Field<'_>, within: RangeInclusive<u32>) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", within.start(), within.end());
    let node = field.node;
    let Some(at) = At::of(node) else { return mismatch(context, node, &expected, None) };
    let text = &at.scalar.text;
    if !at.scalar.plain && is_number(text) {
        return mismatch(context, node, &expected, Some("remove the quotes: in quotes it is a text"));
    }
    if !at.scalar.plain || !is_number(text) {
        return mismatch(context, node, &expected, None);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Some(number) = unsigned.parse().ok().filter(|number| within.contains(number)) {
        return Some(number);
    }
    let name = &field.key.text;
    let whole = text.trim_start_matches(['+', '-']).chars().all(|c| c.is_ascii_digit());
    let message = if whole { "is out of range" } else { "is not a whole number" };
    context.problem(node.span.clone(), format!("`{name}` {message}")).expected(expected);
    None
}

/// The same, never zero.
pub(super) fn count(context: &mut Context<'_>, field: Field<'_>, most: u32) -> Option<NonZeroUsize> {
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
    let zero = text == "0" && !within.contains(&Duration::ZERO);
    if is_number(text) && !zero {
        let problem = context.problem(at.span.clone(), format!("`{name}` has no unit"));
        let hint =
            if at.scalar.substituted() { "write a unit".into() } else { format!("write `{text}s` or `{text}ms`") };
        problem.expected(expected).hint(hint);
        return None;
    }
    match humantime::parse_duration(text) {
        Ok(duration) if within.contains(&duration) => Some(duration),
        Ok(duration) => {
            let (least, most) =
                (humantime::format_duration(*within.start()), humantime::format_duration(*within.end()));
            let message = if duration.is_zero() { "cannot be zero" } else { "is out of range" };
            let problem = context.problem(at.span.clone(), format!("`{name}` {message}"));
            problem.expected(format!("from {least} to {most}"));
            None
        }
        Err(_) => {
            let shown = at.scalar.shown();
            context.problem(at.span.clone(), format!("{shown} is not a duration")).expected(expected);
            None
        }
    }
}

/// A number of bytes.
pub(super) fn size(context: &mut Context<'_>, field: Field<'_>, most: u32) -> Option<NonZeroUsize> {
    let expected = "a size such as `64KiB` or `4MiB`";
    let at = any_text(context, field.node, expected)?;
    let Ok(size) = at.scalar.text.parse::<bytesize::ByteSize>() else {
        let shown = at.scalar.shown();
        context.problem(at.span.clone(), format!("{shown} is not a size")).expected(expected);
        return None;
    };
    let fits = u32::try_from(size.0).ok().filter(|size| *size <= most);
    let found = fits.and_then(|size| NonZeroUsize::new(size as usize));
    if found.is_none() {
        let most = bytesize::ByteSize(most.into());
        let problem = context.problem(at.span.clone(), format!("`{}` is out of range", field.key.text));
        problem.expected(format!("from 1 byte to {most}"));
    }
    found
}

/// One of a few words.
pub(super) fn word(context: &mut Context<'_>, field: Field<'_>, words: &[&'static str]) -> Option<&'static str> {
    let expected = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    let at = text(context, field.node, &expected)?;
    let found = words.iter().find(|word| **word == at.scalar.text).copied();
    if found.is_none() {
        let message = format!("{} is not a value of `{}`", at.scalar.shown(), field.key.text);
        let problem = context.problem(at.span.clone(), message).expected(expected);
        if let Some(near) = nearest(&at.scalar.text, words.iter().copied()) {
            problem.hint(format!("did you mean `{near}`?"));
        }
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
        let shown = at.scalar.shown();
        context.problem(at.span.clone(), format!("{shown} is not a day of the calendar")).expected(expected);
    }
    date
}

/// How a name may look.
#[derive(Clone, Copy)]
pub(super) struct NameRule {
    /// What it names.
    pub(super) what: &'static str,
    /// Whether a character may stand at the beginning.
    pub(super) first: fn(char) -> bool,
    /// Whether a character may stand after that.
    pub(super) then: fn(char) -> bool,
    /// Both, in words.
    pub(super) expected: &'static str,
}

/// Checks a name against its rule.
pub(super) fn name(context: &mut Context<'_>, span: &Range<usize>, text: &str, rule: NameRule) -> Option<Arc<str>> {
    const LONGEST: usize = 63;
    if text.starts_with(rule.first) && text.chars().all(rule.then) && text.len() <= LONGEST {
        return Some(text.into());
    }
    let what = rule.what;
    let message = match text.len() {
        0 => format!("the name of a {what} is empty"),
        64.. => format!("the name of a {what} is longer than {LONGEST} characters"),
        _ => format!("{} cannot be the name of a {what}", quote(text)),
    };
    context.problem(span.clone(), message).expected(rule.expected);
    None
}
