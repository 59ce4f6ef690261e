//! Writes values as YAML in a random layout: with comments, blank lines, flow collections and odd
//! indentation.

use serde_json::{Map, Value};

use super::Choices;

/// A random layout of `value`.
pub(super) fn random_layout(value: &Value, choices: &mut Choices) -> String {
    let mut writer = LayoutWriter {
        dashes_below_key: choices.yes(),
        comments: choices.yes(),
        lines: Vec::new(),
    };
    let Value::Object(object) = value else { panic!("no object: {value}") };
    if choices.yes() {
        writer.lines.push("---".to_owned());
    }
    writer.map(object, 0, "", choices);
    let newline = if choices.below(4) == 1 { "\r\n" } else { "\n" };
    let end = if choices.below(4) == 1 { "" } else { newline };
    format!("{}{end}", writer.lines.join(newline))
}

struct LayoutWriter {
    dashes_below_key: bool,
    comments: bool,
    lines: Vec<String>,
}

impl LayoutWriter {
    /// Writes a block mapping, with `first` before its first key.
    fn map(
        &mut self,
        object: &Map<String, Value>,
        indent: usize,
        first: &str,
        choices: &mut Choices,
    ) {
        let mut members: Vec<_> = object.iter().collect();
        let turn = choices.below(members.len().max(1));
        members.rotate_left(turn);
        for (nth, (key, value)) in members.into_iter().enumerate() {
            let before = if nth == 0 && !first.is_empty() {
                first.to_owned()
            } else {
                self.add_comments(indent, choices);
                " ".repeat(indent)
            };
            let key = if choices.below(4) == 1 { format!("\"{key}\"") } else { key.clone() };
            self.value(&format!("{before}{key}:"), value, indent, false, choices);
        }
    }

    /// Writes a value after a key (`in_list`: after a dash) at `indent`.
    fn value(
        &mut self,
        before: &str,
        value: &Value,
        indent: usize,
        in_list: bool,
        choices: &mut Choices,
    ) {
        let step = 1 + choices.below(4);
        let tail = if self.comments && choices.yes() { "  # a comment" } else { "" };
        match value {
            Value::Object(object) if object.is_empty() => {
                self.lines.push(format!(
                    "{before} {}{tail}",
                    ["{}", "{ }", ""][choices.below(if in_list { 2 } else { 3 })]
                ));
            }
            Value::Array(list) if list.is_empty() => {
                self.lines.push(format!(
                    "{before} {}{tail}",
                    ["[]", "[ ]", ""][choices.below(if in_list { 2 } else { 3 })]
                ));
            }
            Value::Object(_) | Value::Array(_) if choices.below(8) == 1 => {
                self.lines.push(format!("{before} {}{tail}", flow(value, choices)));
            }
            Value::Object(object) if in_list => {
                let gap = " ".repeat(step);
                self.map(object, indent + 1 + step, &format!("{before}{gap}"), choices);
            }
            Value::Object(object) => {
                self.lines.push(format!("{before}{tail}"));
                self.map(object, indent + step, "", choices);
            }
            Value::Array(list) => {
                self.lines.push(format!("{before}{tail}"));
                let indent = if self.dashes_below_key && !in_list { indent } else { indent + step };
                for item in list {
                    self.add_comments(indent, choices);
                    self.value(&format!("{}-", " ".repeat(indent)), item, indent, true, choices);
                }
            }
            Value::String(text) if text.ends_with('\n') && choices.yes() => {
                self.lines.push(format!("{before} |"));
                self.lines.push(format!("{}{}", " ".repeat(indent + 1 + step), text.trim_end()));
            }
            scalar => self.lines.push(format!("{before} {scalar}{tail}")),
        }
    }

    /// Writes comments and blank lines.
    fn add_comments(&mut self, indent: usize, choices: &mut Choices) {
        if self.comments && choices.below(4) == 1 {
            let indent = if choices.yes() { indent } else { choices.below(8) };
            self.lines.push(format!("{}# - key: value", " ".repeat(indent)));
        }
        if self.comments && choices.below(6) == 1 {
            self.lines.push(String::new());
        }
    }
}

/// A value as a flow collection on one line.
fn flow(value: &Value, choices: &mut Choices) -> String {
    let blank = if choices.yes() { " " } else { "" };
    let tail = if choices.below(4) == 1 { "," } else { "" };
    match value {
        Value::Object(object) if !object.is_empty() => {
            let members: Vec<_> = object
                .iter()
                .map(|(key, value)| format!("\"{key}\": {}", flow(value, choices)))
                .collect();
            format!("{{{blank}{}{tail}{blank}}}", members.join(", "))
        }
        Value::Array(list) if !list.is_empty() => {
            let items: Vec<_> = list.iter().map(|item| flow(item, choices)).collect();
            format!("[{blank}{}{tail}{blank}]", items.join(&format!(",{blank}")))
        }
        other => other.to_string(),
    }
}
