//! Writes JSON values as text: as YAML blocks, and as entries of flow collections in the style of
//! their neighbours.
//!
//! A text that YAML 1.1 or 1.2 could parse as another value is quoted, as a JSON string, which is
//! YAML too.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The indentation of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockStyle {
    /// The number of columns before each line.
    pub(super) indent: usize,
    /// Whether the dashes of a list are in the column of its key, and not two columns further in.
    pub(super) dashes_below_key: bool,
}

impl BlockStyle {
    fn deeper(self, by: usize) -> Self {
        Self { indent: self.indent + by, ..self }
    }

    /// The lines of members of a mapping, at least one for each.
    pub(super) fn members<'v>(
        self,
        members: impl IntoIterator<Item = (&'v str, &'v Value)>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, value) in members {
            let key = format!("{}{}:", " ".repeat(self.indent), yaml_string(key));
            match value {
                Value::Object(object) if !object.is_empty() => {
                    lines.push(key);
                    lines.extend(self.deeper(2).members(ordered_members(object)));
                }
                Value::Array(list) if !list.is_empty() => {
                    lines.push(key);
                    lines
                        .extend(self.deeper(if self.dashes_below_key { 0 } else { 2 }).items(list));
                }
                other => lines.push(format!("{key} {}", yaml_scalar(other))),
            }
        }
        lines
    }

    /// The lines of items of a list, at least one for each.
    pub(super) fn items(self, items: &[Value]) -> Vec<String> {
        let mut lines = Vec::new();
        for item in items {
            let inside = self.deeper(2);
            let block = match item {
                Value::Object(object) if !object.is_empty() => {
                    inside.members(ordered_members(object))
                }
                Value::Array(list) if !list.is_empty() => inside.items(list),
                other => vec![format!("{}{}", " ".repeat(inside.indent), yaml_scalar(other))],
            };
            for (index, mut line) in block.into_iter().enumerate() {
                if index == 0 {
                    line.replace_range(self.indent..=self.indent, "-");
                }
                lines.push(line);
            }
        }
        lines
    }
}

/// The style of a flow collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FlowStyle {
    /// `{"a":1,"b":2}`
    Tight,
    /// `{"a": 1, "b": 2}`
    Line,
    /// One entry on each line.
    Lines {
        /// The line ending.
        newline: &'static str,
        /// The blanks before an entry.
        indent: String,
        /// The blanks that each level of nesting adds.
        unit: String,
    },
}

impl FlowStyle {
    /// The separator of two entries.
    pub(super) fn separator(&self) -> String {
        match self {
            Self::Tight => ",".to_owned(),
            Self::Line => ", ".to_owned(),
            Self::Lines { newline, indent, .. } => format!(",{newline}{indent}"),
        }
    }

    /// The text of a member of an object.
    pub(super) fn member(&self, key: &str, value: &Value) -> String {
        let colon = if *self == Self::Tight { ":" } else { ": " };
        format!("{}{colon}{}", json_string(key), self.value(value))
    }

    /// The text of a value.
    pub(super) fn value(&self, value: &Value) -> String {
        match value {
            Value::Object(object) if !object.is_empty() => self.bracketed(
                '{',
                ordered_members(object).map(|(key, value)| self.deeper().member(key, value)),
                '}',
            ),
            Value::Array(list) if !list.is_empty() => {
                self.bracketed('[', list.iter().map(|item| self.deeper().value(item)), ']')
            }
            other => other.to_string(),
        }
    }

    fn bracketed(&self, open: char, entries: impl Iterator<Item = String>, close: char) -> String {
        let deeper = self.deeper();
        let inside = entries.collect::<Vec<_>>().join(&deeper.separator());
        match (self, &deeper) {
            (Self::Lines { newline, indent, .. }, Self::Lines { indent: inner, .. }) => {
                format!("{open}{newline}{inner}{inside}{newline}{indent}{close}")
            }
            _ => format!("{open}{inside}{close}"),
        }
    }

    fn deeper(&self) -> Self {
        match self {
            Self::Lines { newline, indent, unit } => {
                Self::Lines { newline, indent: format!("{indent}{unit}"), unit: unit.clone() }
            }
            other => other.clone(),
        }
    }
}

/// The members of an object: first the fields that people look for, then the others by alphabet.
fn ordered_members(object: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    const FIRST: [&str; 5] = ["name", "image", "restartPolicy", "args", "env"];
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut members: Vec<_> = object.iter().map(|(key, value)| (key.as_str(), value)).collect();
    members
        .sort_by(|(one, _), (other, _)| rank(one).cmp(&rank(other)).then_with(|| one.cmp(other)));
    members.into_iter()
}

fn yaml_scalar(value: &Value) -> String {
    match value {
        Value::String(string) => yaml_string(string),
        other => other.to_string(),
    }
}

/// A YAML string: plain if no YAML parser could take it for another value, else quoted.
fn yaml_string(string: &str) -> String {
    const WORDS: [&str; 12] =
        ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "none"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    let fits = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && string.chars().all(is_plain)
        && !string.ends_with(':')
        && !WORDS.contains(&string.to_ascii_lowercase().as_str());
    if fits { string.to_owned() } else { json_string(string) }
}

/// A JSON string, with control characters and byte order marks escaped.
fn json_string(string: &str) -> String {
    let json = Value::String(string.to_owned()).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        ) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_could_be_something_else_is_quoted() {
        for plain in ["bfb", "/etc/bfb", "unix:/run/x.sock", "POD_NAME", "a.b/c:1.2"] {
            assert_eq!(yaml_string(plain), plain);
        }
        for word in [
            "true",
            "Yes",
            "n",
            "null",
            "~",
            "",
            "65532",
            "0.0.0.0:7072",
            "50m",
            "a: b",
            "a #b",
            "- a",
            "a:",
            "é",
        ] {
            assert_eq!(yaml_string(word), format!("\"{word}\""));
        }
        assert_eq!(yaml_string("a\"\n\u{85}"), "\"a\\\"\\n\\u0085\"");
    }

    #[test]
    fn a_block_is_indented_as_its_neighbours_are() {
        let value = json!([{"name": "a", "z": {"b": [1, "x"], "c": {}}}, [["d"]]]);
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let block = BlockStyle { indent: 2, dashes_below_key: true };
        assert_eq!(
            block.items(list).join("\n"),
            "  - name: a\n    z:\n      b:\n      - 1\n      - x\n      c: {}\n  - - - d"
        );
        let wide = BlockStyle { dashes_below_key: false, ..block };
        assert_eq!(
            wide.items(&list[..1]).join("\n"),
            "  - name: a\n    z:\n      b:\n        - 1\n        - x\n      c: {}"
        );
    }

    #[test]
    fn brackets_are_filled_in_their_own_style() {
        let value = json!({"name": "a", "b": [1, {}]});
        assert_eq!(FlowStyle::Tight.value(&value), r#"{"name":"a","b":[1,{}]}"#);
        assert_eq!(FlowStyle::Line.value(&value), r#"{"name": "a", "b": [1, {}]}"#);
        let lines = FlowStyle::Lines { newline: "\n", indent: " ".into(), unit: "\t".into() };
        assert_eq!(
            lines.value(&value),
            "{\n \t\"name\": \"a\",\n \t\"b\": [\n \t\t1,\n \t\t{}\n \t]\n }"
        );
    }
}
