//! Converts a tree to JSON as Kubernetes does: resolves aliases and merge keys, and types plain
//! scalars as `kubectl` does (YAML 1.1: `yes` is true, `0644` is octal).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::ManifestError;
use super::tree::ManifestDocument;
use crate::diagnostics::yaml::{YamlKind, YamlNode};

/// The deepest nesting of values once aliases are resolved.
const DEPTH_MAX: usize = 256;
/// The most values of a document once aliases are resolved.
const VALUES_MAX: usize = 1_000_000;
/// The most bytes of text of a document once aliases are resolved: a file has room for many aliases
/// of one long text.
const TEXT_MAX_BYTES: usize = 64 << 20;

/// The value of a document; `null` for an empty one.
pub(super) fn to_json(document: &ManifestDocument) -> Result<Value, ManifestError> {
    let mut resolver = AliasResolver {
        anchors: document.anchors(),
        values_left: VALUES_MAX,
        text_bytes_left: TEXT_MAX_BYTES,
    };
    document.root.as_ref().map_or(Ok(Value::Null), |root| resolver.value(root, 0))
}

struct AliasResolver<'d> {
    anchors: HashMap<usize, &'d YamlNode>,
    /// The rest of [`VALUES_MAX`].
    values_left: usize,
    /// The rest of [`TEXT_MAX_BYTES`], for texts and keys.
    text_bytes_left: usize,
}

impl<'d> AliasResolver<'d> {
    fn value(&mut self, node: &'d YamlNode, depth: usize) -> Result<Value, ManifestError> {
        const EXPAND: &str = "write out what the aliases stand for, and only what is needed";
        let refuse =
            |why, expected, hint| Err(ManifestError::at(node.span.clone(), why, expected, hint));
        if depth > DEPTH_MAX {
            return refuse("aliases make this too deep", "at most 256 levels", EXPAND);
        }
        let Some(left) = self.values_left.checked_sub(1) else {
            return refuse("aliases make this too large", "at most 1000000 values", EXPAND);
        };
        self.values_left = left;
        let Some(text_left) = self.text_bytes_left.checked_sub(text_bytes(node)) else {
            return refuse("aliases make this too large", "at most 64 MiB of text", EXPAND);
        };
        self.text_bytes_left = text_left;
        match &node.kind {
            YamlKind::Scalar { text, plain, .. } => Ok(scalar(text, *plain, node.tag.as_deref())),
            YamlKind::List { items, .. } => {
                items.iter().map(|item| self.value(item, depth + 1)).collect()
            }
            YamlKind::Map { entries, .. } => self.map(entries, depth).map(Value::Object),
            YamlKind::Alias(anchor) => match self.anchors.get(anchor).copied() {
                Some(target) => self.value(target, depth + 1),
                None => refuse(
                    "this alias names nothing",
                    "an anchor before it",
                    "write the value itself",
                ),
            },
        }
    }

    fn map(
        &mut self,
        entries: &'d [(YamlNode, YamlNode)],
        depth: usize,
    ) -> Result<Map<String, Value>, ManifestError> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.text() else {
                let why = "a list or mapping cannot be a key";
                let hint = "write `key: value`, with a word for the key";
                return Err(ManifestError::at(key.span.clone(), why, "a name", hint));
            };
            if is_merge(key) {
                merged.push((key, self.value(value, depth + 1)?));
            } else {
                map.insert(name.to_owned(), self.value(value, depth + 1)?);
            }
        }
        for (key, from) in merged {
            let maps = match from {
                Value::Array(maps) => maps,
                one => vec![one],
            };
            for from in maps {
                let Value::Object(from) = from else {
                    let why = "only a mapping can be merged";
                    let hint = "write the entries out";
                    return Err(ManifestError::at(
                        key.span.clone(),
                        why,
                        "an alias of a mapping",
                        hint,
                    ));
                };
                for (name, value) in from {
                    map.entry(name).or_insert(value);
                }
            }
        }
        Ok(map)
    }
}

/// The bytes of a node's text: its own, or those of its keys.
fn text_bytes(node: &YamlNode) -> usize {
    let length = |node: &YamlNode| node.text().map_or(0, str::len);
    match &node.kind {
        YamlKind::Map { entries, .. } => entries.iter().map(|(key, _)| length(key)).sum(),
        _ => length(node),
    }
}

/// Whether a key is the merge key `<<`, which adds the entries of another mapping.
pub(super) fn is_merge(key: &YamlNode) -> bool {
    matches!(&key.kind, YamlKind::Scalar { text, plain: true, .. } if text == "<<")
}

fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Value {
    if !plain || tag.is_some() {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Value::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Value::Bool(false)
        }
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let based = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let based = based.into_iter().find_map(|(prefix, base)| {
        let rest = digits.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        rest.bytes()
            .all(|byte| byte.is_ascii_alphanumeric())
            .then(|| i64::from_str_radix(rest, base).ok())?
    });
    if let Some(number) = based {
        return Some(Value::from(if text.starts_with('-') { -number } else { number }));
    }
    let plain = text.trim_start_matches('+');
    if let Ok(number) = plain.parse::<i64>() {
        return Some(Value::from(number));
    }
    if let Ok(number) = plain.parse::<u64>() {
        return Some(Value::from(number));
    }
    let float = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number = plain.parse::<f64>().ok().filter(|_| float)?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_typed_as_kubectl_types_them() {
        for (text, value) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("0644", json!(420)),
            ("0x1f", json!(31)),
            ("-7", json!(-7)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("0", json!(0)),
            ("089", json!(89)),
            ("1.2.3", json!("1.2.3")),
            ("100m", json!("100m")),
            ("2024-01-01", json!("2024-01-01")),
            (".", json!(".")),
            ("-", json!("-")),
            ("0x", json!("0x")),
        ] {
            assert_eq!(scalar(text, true, None), value, "{text}");
            assert_eq!(scalar(text, false, None), json!(text));
        }
    }
}
