//! Checks the width of lines, and names: files are named for their content, and a type's name has
//! one meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The widest line, in characters.
const COLUMNS_MAX: usize = 100;

/// File names that do not describe the file.
const EMPTY_NAMES: [&str; 6] = ["words", "misc", "util", "utils", "helpers", "common"];

/// Type names that two modules define, each with its reason.
const DEFINED_TWICE: [(&str, &str); 0] = [];

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let mut wide = Vec::new();
    for file in rust_files(&["src", "tests", "benches", "fuzz"]) {
        let text = fs::read_to_string(&file).unwrap();
        for (line, columns) in wide_lines(&text) {
            wide.push(format!("{}:{line}: {columns} columns", file.display()));
        }
    }
    assert!(wide.is_empty(), "lines over {COLUMNS_MAX} columns:\n{}", wide.join("\n"));
}

#[test]
fn the_name_of_a_file_says_what_is_in_it() {
    let says_nothing = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        EMPTY_NAMES.contains(&name)
    };
    let files = rust_files(&["src", "tests", "benches"]);
    let found: Vec<_> = files.into_iter().filter(says_nothing).collect();
    assert!(found.is_empty(), "files named for nothing: {found:?}");
}

#[test]
fn a_name_of_a_type_has_one_meaning() {
    let mut modules: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in rust_files(&["src"]) {
        let text = fs::read_to_string(&file).unwrap();
        for name in defined_types(&text) {
            modules.entry(name).or_default().insert(file.clone());
        }
    }
    let allowed = |name: &str| DEFINED_TWICE.iter().any(|(allowed, _)| *allowed == name);
    let is_twice = |(name, at): &(&String, &BTreeSet<PathBuf>)| at.len() > 1 && !allowed(name);
    let twice: Vec<_> = modules.iter().filter(is_twice).collect();
    assert!(twice.is_empty(), "type names that several modules define: {twice:#?}");
}

#[test]
fn the_rules_can_be_broken() {
    assert_eq!(wide_lines(&format!("a\n{}\nb", "ä".repeat(101))), [(2, 101)]);
    assert_eq!(wide_lines(&"ä".repeat(100)), []);
    let text = "pub(super) struct Entry<'a> {\nenum Kind {\n    type Error = Kind;\n\
                pub type Map = u8;\n";
    assert_eq!(defined_types(text), ["Entry", "Kind", "Map"]);
}

/// The lines that are too wide, with their numbers and widths.
fn wide_lines(text: &str) -> Vec<(usize, usize)> {
    let widths = text.lines().map(|line| line.chars().count());
    (1..).zip(widths).filter(|(_, columns)| *columns > COLUMNS_MAX).collect()
}

/// The types that a file defines at the top level of a module. Deeper ones are local, or the
/// associated type of an implementation.
fn defined_types(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.strip_prefix("pub").unwrap_or(line);
        let line = line
            .split_once(") ")
            .map_or(line, |(scope, rest)| if scope.starts_with('(') { rest } else { line });
        let mut words = line.split_whitespace();
        let kinds = ["struct", "enum", "trait", "type", "union"];
        words.next().filter(|word| kinds.contains(word))?;
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        Some(words.next()?.chars().take_while(|c| is_part(*c)).collect::<String>())
    };
    text.lines().filter(|line| !line.starts_with(' ')).filter_map(name).collect()
}

/// All Rust files in these folders of the crate, but for those that a build makes.
fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
