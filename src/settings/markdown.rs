//! The tables of the documentation, as Markdown.

use std::fmt::Write as _;

use super::setting::{Flag, Setting};

/// The flags of a command, with their variables and defaults.
pub(super) fn flags<'a>(settings: impl Iterator<Item = &'a Setting>) -> String {
    let mut table = String::from("| flag | variable | default | |\n| --- | --- | --- | --- |\n");
    for setting in settings {
        let (Some(flag), Some(variable)) = (setting.flag, setting.variable()) else { continue };
        let _ = writeln!(
            table,
            "| `--{}` | `{variable}` | {} | {} |",
            with_value_name(setting.name, flag),
            default(&flag.default.text()),
            setting.flag_description()
        );
    }
    table
}

fn with_value_name(name: &str, flag: Flag) -> String {
    // A name of several words repeats the flag's, as `clap` makes it.
    let value_name = flag.value_name.filter(|value_name| !value_name.contains('_'));
    value_name.map_or_else(|| name.to_owned(), |value_name| format!("{name} {value_name}"))
}

/// The annotations of a pod, with the flags and variables that they become.
pub(super) fn annotations<'a>(settings: impl Iterator<Item = &'a Setting>) -> String {
    let mut table = String::from(
        "| annotation | flag | variable | default | |\n| --- | --- | --- | --- | --- |\n",
    );
    for setting in settings {
        let Some(annotation) = setting.annotation else { continue };
        let name = format!("{} {}", setting.annotation_name(), annotation.value_name);
        let flag = setting.flag.map(|_| format!("--{}", setting.name));
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {} |",
            name.trim_end(),
            code(&flag.unwrap_or_default()),
            code(&setting.variable().unwrap_or_default()),
            default(&setting.annotation_default()),
            setting.annotation_description()
        );
    }
    table
}

/// A default: a value as code, words as they are.
fn default(text: &str) -> String {
    let is_prose = text.contains(['`', ' ']) || text == "none";
    if is_prose { text.to_owned() } else { code(text) }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}
