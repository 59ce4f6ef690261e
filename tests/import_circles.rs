//! Checks that the files of a module import each other in one direction: a reader who follows the
//! imports of a file never comes back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Files of a module that import each other in a circle, by one of them, each with its reason.
const CIRCLES: [(&str, &str); 2] = [
    ("shape/eval", "a recursive evaluator: each kind of expression evaluates its parts"),
    ("shape/value", "values hold numbers, texts and objects, and those are charged as values"),
];

/// The files that each file imports, by their paths below `src` without `.rs` and `mod.rs`.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_file_imports_itself_through_others_of_its_module() {
    let imports = imports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(imports["cache/fetcher"].contains("cache/flight"), "{:?}", imports["cache/fetcher"]);
    let is_allowed =
        |circle: &BTreeSet<String>| CIRCLES.iter().any(|(file, _)| circle.contains(*file));
    let wrong: Vec<_> =
        circles(&imports).into_iter().filter(|circle| !is_allowed(circle)).collect();
    assert!(wrong.is_empty(), "files that import each other in a circle: {wrong:#?}");
}

#[test]
fn every_exception_is_a_circle() {
    let circles = circles(&imports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    for (file, _) in CIRCLES {
        assert!(circles.iter().any(|circle| circle.contains(file)), "`{file}` is in no circle");
    }
}

#[test]
fn a_circle_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    file("bus/mod.rs", "mod core;\npub use core::Core;\n");
    file("bus/core.rs", "use super::driver::{\n    log::Line,\n    Driver,\n};\n");
    file("bus/driver.rs", "mod log;\n// use super::core::Core;\n");
    file("bus/driver/log.rs", "fn f(_: super::super::core::Core) {}\n");
    file("cache/core.rs", "use crate::bus::core::Core;\nuse self::x::Y;\n");
    let circle = ["bus/core", "bus/driver/log"].map(str::to_owned);
    assert_eq!(circles(&imports(dir.path())), BTreeSet::from([circle.into()]));
}

/// The sets of files that import each other, each set once.
fn circles(imports: &Imports) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<_, _> =
        imports.keys().map(|file| (file, reachable(imports, file))).collect();
    let circle = |file: &String| {
        let is_mutual = |other: &&String| reached[other].contains(file);
        reached[file].iter().filter(is_mutual).cloned().collect::<BTreeSet<_>>()
    };
    imports.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The files that are reached from `file` by one import or several.
fn reachable(imports: &Imports, file: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&String> = imports[file].iter().collect();
    while let Some(next) = pending.pop() {
        if reached.insert(next.clone()) {
            pending.extend(&imports[next]);
        }
    }
    reached
}

fn imports(src: &Path) -> Imports {
    let mut texts = BTreeMap::new();
    read_files(src, src, &mut texts);
    let names: BTreeSet<String> = texts.keys().cloned().collect();
    let of_file = |(file, text): (&String, &String)| {
        let paths = named_paths(file, text);
        let files = paths.iter().filter_map(|path| longest_file(path, &names));
        // A folder's own file and the files below it are one unit for their importers.
        let others = files.filter(|other| other != file && !file.starts_with(&format!("{other}/")));
        (file.clone(), others.collect())
    };
    texts.iter().map(of_file).collect()
}

/// The texts of all files in folders below `src`, without tests and comments.
fn read_files(src: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if stem != "tests" {
                read_files(src, &path, texts);
            }
        } else if path.extension().is_some_and(|it| it == "rs") && stem != "tests" {
            let file = path.with_extension("").strip_prefix(src).unwrap().to_owned();
            let file = file.to_str().unwrap().trim_end_matches("/mod").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            texts.insert(file, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths within its own module that a file names, from the module's name on.
fn named_paths(file: &str, text: &str) -> Vec<String> {
    let module = file.split('/').next().unwrap_or_default();
    let mut paths = Vec::new();
    let starts = [format!("crate::{module}::"), "super::".to_owned(), "self::".to_owned()];
    for start in &starts {
        for (at, _) in text.match_indices(start.as_str()) {
            let is_whole =
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if !is_whole {
                continue;
            }
            let mut base: Vec<&str> = file.split('/').collect();
            let mut rest = &text[at..];
            if let Some(below) = rest.strip_prefix(&starts[0]) {
                base.truncate(1);
                rest = below;
            }
            rest = rest.strip_prefix("self::").unwrap_or(rest);
            while let Some(above) = rest.strip_prefix("super::") {
                base.pop();
                rest = above;
            }
            paths.extend(tails(rest).iter().map(|tail| format!("{}/{tail}", base.join("/"))));
        }
    }
    paths
}

/// The tails of an import: `a::b` is `a/b`, and `a::{b, c::d}` is `a/b` and `a/c/d`.
fn tails(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    let head = head.replace("::", "/");
    let Some(list) = rest.strip_prefix('{').and_then(|list| list.split('}').next()) else {
        return vec![head];
    };
    list.split(',').map(|item| format!("{head}{}", item.trim().replace("::", "/"))).collect()
}

/// The file that a path names, or that has the item that it names.
fn longest_file(path: &str, files: &BTreeSet<String>) -> Option<String> {
    let mut path = path;
    // The module's own file holds what all of its files share.
    while path.contains('/') {
        if files.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once('/')?.0;
    }
    None
}
