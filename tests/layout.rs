//! Checks the layout that `src/lib.rs` draws: imports go down the list only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the top down; those of one row stand on one line.
const ROWS: [&[&str]; 15] = [
    &["main", "cli"],
    &["sidecar"],
    &["inject"],
    &["supervisor"],
    &["serve", "admin"],
    &["cache"],
    &["bus"],
    &["collect"],
    &["sources"],
    &["identity"],
    &["http"],
    &["coherence"],
    &["domain", "shape"],
    &["settings"],
    &["resources", "log_filter", "diagnostics"],
];

/// Imports within a row.
const WITHIN_A_ROW: [(&str, &str); 1] = [("main", "cli")];

/// Imports that go down the list and are forbidden all the same.
const ABSENT: [(&str, &str); 22] = [
    ("cache", "sources"),
    // The code that serves connections depends on no handler and on no answer of one.
    ("http", "coherence"),
    ("http", "domain"),
    ("http", "shape"),
    ("inject", "serve"),
    ("coherence", "domain"),
    ("coherence", "resources"),
    ("domain", "resources"),
    ("shape", "resources"),
    ("coherence", "diagnostics"),
    ("shape", "diagnostics"),
    ("coherence", "settings"),
    ("domain", "settings"),
    ("shape", "settings"),
    // The table of settings is text: of the other modules it needs only the rules for log filters.
    ("settings", "resources"),
    // `inject` is about pods, and has no dataset.
    ("inject", "cache"),
    ("inject", "bus"),
    ("inject", "collect"),
    ("inject", "sources"),
    ("inject", "coherence"),
    ("inject", "shape"),
    ("inject", "domain"),
];

#[test]
fn imports_go_down_the_layout_only() {
    let wrong: Vec<_> = imports().into_iter().filter(|(from, to)| !allowed(from, to)).collect();
    assert!(wrong.is_empty(), "imports against the layout: {wrong:?}");
}

#[test]
fn every_module_stands_in_the_layout() {
    let modules: BTreeSet<_> = ROWS.iter().flat_map(|row| row.iter().copied()).collect();
    for (from, _) in imports() {
        assert!(modules.contains(from.as_str()), "`{from}` is not in the layout");
    }
}

#[test]
fn the_rules_can_be_broken() {
    assert!(allowed("serve", "collect") && allowed("admin", "http"));
    assert!(
        !allowed("collect", "serve") && !allowed("admin", "serve") && !allowed("cache", "sources")
    );
    assert!(
        !allowed("domain", "shape")
            && !allowed("shape", "domain")
            && !allowed("diagnostics", "domain")
            && !allowed("coherence", "domain")
    );
}

fn allowed(from: &str, to: &str) -> bool {
    let row = |module: &str| ROWS.iter().position(|row| row.contains(&module));
    let pair = (from, to);
    from == to
        || WITHIN_A_ROW.contains(&pair)
        || (!ABSENT.contains(&pair)
            && matches!((row(from), row(to)), (Some(from), Some(to)) if from < to))
}

/// Every `crate::module` in the code, with the module that contains it.
fn imports() -> BTreeSet<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for file in files(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let module =
            relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                found.extend(named(rest).into_iter().map(|to| (module.clone(), to)));
            }
        }
    }
    found
}

/// The modules named after `crate::`: one, or the heads of a `{…}` list on the same line.
fn named(rest: &str) -> Vec<String> {
    let head = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    match rest.strip_prefix('{') {
        None => vec![head(rest)],
        Some(list) => {
            let mut depth = 0;
            let mut heads = Vec::new();
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => heads.push(head(std::mem::take(&mut item).trim())),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            heads.push(head(item.trim()));
            heads
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
