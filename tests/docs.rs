//! The documents: no link is dead, every page is reached from the README, the README is short, and
//! lines are no longer than a screen is wide.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// README.md: so many lines, of so many columns.
const README_LINES_MAX: usize = 150;
const COLUMNS_MAX: usize = 120;

/// The first segments of paths in backticks, such as `src/lib.rs`.
const FOLDERS: [&str; 8] =
    ["src/", "tests/", "docs/", "k8s/", "examples/", "benches/", "fuzz/", ".ci/"];

#[test]
fn no_link_is_dead() {
    let pages = Pages::read();
    let dead: Vec<_> = pages.0.keys().flat_map(|path| pages.dead_links_of(path)).collect();
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_page_is_reached_from_the_readme() {
    assert_eq!(Pages::read().unreached(), Vec::<PathBuf>::new());
}

#[test]
fn the_readme_is_short_and_has_the_commands_of_the_tests() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= README_LINES_MAX, "{} lines", readme.lines().count());
    let wide: Vec<_> = readme.lines().filter(|line| columns(line) > COLUMNS_MAX).collect();
    assert!(wide.is_empty(), "wider than {COLUMNS_MAX} columns: {wide:#?}");
    let commands = fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in commands.lines().filter(|line| line.starts_with("make ")) {
        assert!(readme.contains(&format!("\n$ {command} ")), "the README has no `{command}`");
    }
}

#[test]
fn prose_is_no_wider_than_a_screen() {
    let pages = Pages::read();
    let wide: Vec<_> = pages
        .0
        .iter()
        .filter(|(path, _)| !path.starts_with("src"))
        .flat_map(|(path, text)| wide_lines(text).into_iter().map(move |line| (path, line)))
        .collect();
    assert!(wide.is_empty(), "wider than {COLUMNS_MAX} columns: {wide:#?}");
}

#[test]
fn the_checks_can_fail() {
    let page = "# One page\n## Of jq's `tags`\n[a](docs/b.md) [b](#one-page) [c](docs/b.md#two) \
                [d](#of-jqs-tags) [e](docs/none.md) [f](#none) [g](docs/b.md#none) \
                [h](https://example.com/x) `src/lib.rs` `src/none.rs` `[i](none.md)`\n\
                ```text\n[j](none.md) `src/none.rs`\n```\n";
    let pages = Pages(BTreeMap::from([
        (PathBuf::from("README.md"), page.to_owned()),
        (PathBuf::from("docs/b.md"), "## Two\n[up](../README.md) [out](../../x)\n".to_owned()),
        (PathBuf::from("docs/c.md"), "[b](b.md)\n".to_owned()),
    ]));
    assert_eq!(
        pages.dead_links_of(Path::new("README.md")),
        [
            "README.md: docs/none.md: there is no such file",
            "README.md: #none: there is no such heading",
            "README.md: docs/b.md#none: there is no such heading",
            "README.md: `src/none.rs`: there is no such file",
        ]
    );
    assert_eq!(
        pages.dead_links_of(Path::new("docs/b.md")),
        ["docs/b.md: ../../x: there is no such file"]
    );
    assert_eq!(pages.unreached(), [PathBuf::from("docs/c.md")]);

    let long = "word ".repeat(30);
    assert_eq!(wide_lines(&long).len(), 1);
    assert!(wide_lines(&format!("| {long} |\n```text\n{long}\n```\n")).is_empty());
}

#[test]
fn two_headings_of_one_text_are_told_apart_as_github_does() {
    assert_eq!(anchors("# A b\n## A b\n### `C`, d?\n"), ["a-b", "a-b-1", "c-d"]);
}

/// Documents by their path in the repository.
struct Pages(BTreeMap<PathBuf, String>);

impl Pages {
    fn read() -> Self {
        let mut paths: Vec<PathBuf> = [
            "README.md",
            "CHANGELOG.md",
            "SECURITY.md",
            "k8s/README.md",
            "src/serve/problems.md",
            "examples/customer/README.md",
            "examples/consumers/README.md",
        ]
        .map(PathBuf::from)
        .into();
        for entry in fs::read_dir(root().join("docs")).unwrap() {
            let path = Path::new("docs").join(entry.unwrap().file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
        let read = |path: PathBuf| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        };
        Self(paths.into_iter().map(read).collect())
    }

    /// The links and paths of a page whose targets do not exist, in the order of the page.
    fn dead_links_of(&self, path: &Path) -> Vec<String> {
        let text = &self.0[path];
        let dead_link = |link: &String| {
            let why = self.why_dead(path, link)?;
            Some(format!("{}: {link}: {why}", path.display()))
        };
        let dead_path = |named: &String| {
            let is_there = root().join(named).exists();
            (!is_there).then(|| format!("{}: `{named}`: there is no such file", path.display()))
        };
        let links = links(text);
        let paths = paths_in_code(text);
        links.iter().filter_map(dead_link).chain(paths.iter().filter_map(dead_path)).collect()
    }

    fn why_dead(&self, path: &Path, link: &str) -> Option<&'static str> {
        if link.contains("://") {
            return None;
        }
        let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
        let target = if file.is_empty() { Some(path.to_owned()) } else { beside(path, file) };
        let Some(target) = target.filter(|it| self.0.contains_key(it) || root().join(it).exists())
        else {
            return Some("there is no such file");
        };
        let has_anchor = |anchor: &str| {
            let text = self.0.get(&target);
            text.is_some_and(|text| anchors(text).iter().any(|one| one == anchor))
        };
        anchor.filter(|anchor| !has_anchor(anchor)).map(|_| "there is no such heading")
    }

    /// The pages of `docs/` to which no links lead from the README.
    fn unreached(&self) -> Vec<PathBuf> {
        let mut reached = BTreeSet::new();
        let mut next = vec![PathBuf::from("README.md")];
        while let Some(path) = next.pop() {
            let Some(text) = self.0.get(&path) else { continue };
            if reached.insert(path.clone()) {
                let files = links(text)
                    .into_iter()
                    .filter_map(|link| beside(&path, link.split('#').next().unwrap_or_default()));
                next.extend(files);
            }
        }
        let of_docs = self.0.keys().filter(|path| path.starts_with("docs"));
        of_docs.filter(|path| !reached.contains(*path)).cloned().collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file that `link` names on the page `path`; `None` where that is outside the repository.
fn beside(path: &Path, link: &str) -> Option<PathBuf> {
    let mut found = path.parent()?.to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => {
                if !found.pop() {
                    return None;
                }
            }
            Component::Normal(name) => found.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(found)
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// A line in pieces: text and the contents of `` `…` `` take turns, text first.
fn pieces(line: &str) -> impl Iterator<Item = (bool, &str)> {
    line.split('`').enumerate().map(|(at, piece)| (at % 2 == 1, piece))
}

/// The targets of `[…](…)`.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // The text of a link may be code; its target is not.
        let shown: String = pieces(line).map(|(code, it)| if code { "code" } else { it }).collect();
        let targets = shown.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(targets.map(|(target, _)| target.to_owned()));
    }
    found
}

/// The texts in backticks that look like a path of this repository.
fn paths_in_code(text: &str) -> Vec<String> {
    let codes = prose(text).flat_map(pieces).filter(|(is_code, _)| *is_code);
    codes
        .map(|(_, code)| code)
        .filter(|code| FOLDERS.iter().any(|folder| code.starts_with(folder)))
        .map(|code| code.split([' ', ':']).next().unwrap_or_default().to_owned())
        .collect()
}

/// The anchors that GitHub makes of a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let anchor: String = words
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let is_same = |one: &&String| one.strip_prefix(&*anchor).is_some_and(is_count);
        match found.iter().filter(is_same).count() {
            0 => found.push(anchor),
            count => found.push(format!("{anchor}-{count}")),
        }
    }
    found
}

/// Nothing, or `-1`, `-2` …
fn is_count(text: &str) -> bool {
    text.is_empty() || text.strip_prefix('-').is_some_and(|rest| rest.parse::<usize>().is_ok())
}

fn columns(line: &str) -> usize {
    line.chars().count()
}

/// The lines that are too wide, but for tables, code and generated comments.
fn wide_lines(text: &str) -> Vec<&str> {
    prose(text)
        .filter(|line| !line.starts_with('|') && !line.starts_with("<!--"))
        .filter(|line| columns(line) > COLUMNS_MAX)
        .collect()
}
