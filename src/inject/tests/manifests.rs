//! Manifests in any layout: injection changes no byte of the original, a second injection changes
//! nothing, and uninjection restores the original.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::layout::random_layout;
use super::{Choices, choices, defaults, pod};
use crate::inject::Defaults;
use crate::inject::manifest::{PodOutcome, RewriteMode, documents, rewrite};

fn file() -> &'static Path {
    Path::new("manifest.yaml")
}

/// Whether `part` is a subsequence of `whole`.
fn is_subsequence(part: &str, whole: &str) -> bool {
    let mut whole = whole.bytes();
    part.bytes().all(|byte| whole.any(|other| other == byte))
}

/// Asserts that a text is refused, or that the promises hold for it. Returns whether any pod was
/// injected.
fn holds(text: &str, defaults: &Defaults) -> bool {
    let once = match rewrite(file(), text, RewriteMode::Inject(defaults)) {
        Ok(once) => once,
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(!crate::diagnostics::render(&problems, false).is_empty());
            return false;
        }
    };
    let any = once.pods.iter().any(|pod| matches!(pod.outcome, PodOutcome::Injected(_)));
    if !any {
        assert_eq!(once.text, text, "nothing was injected");
        return false;
    }
    assert!(is_subsequence(text, &once.text), "something is gone:\n{text}\n---\n{}", once.text);
    let twice = rewrite(file(), &once.text, RewriteMode::Inject(defaults)).unwrap();
    assert_eq!(twice.text, once.text, "a second time");
    let left = documents(file(), text).unwrap().len();
    assert_eq!(documents(file(), &once.text).unwrap().len(), left);
    true
}

/// The text after an injection and an uninjection.
fn back(text: &str, defaults: &Defaults) -> String {
    let once = rewrite(file(), text, RewriteMode::Inject(defaults)).unwrap().text;
    rewrite(file(), &once, RewriteMode::Uninject)
        .unwrap_or_else(|problems| panic!("{problems:?}\n{once}"))
        .text
}

proptest! {
    #[test]
    fn any_layout_of_a_pod_keeps_its_bytes_and_comes_back(bytes in choices()) {
        let mut choices = Choices::of(bytes);
        let mut object = pod(&mut choices);
        if choices.yes() {
            object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "spec": {"template": object}});
        } else {
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("Pod");
        }
        if choices.below(3) == 1 {
            object = json!({"apiVersion": "v1", "kind": "List",
                "items": [object, {"kind": "Other"}]});
        }
        let defaults = defaults(&mut choices);
        let text = random_layout(&object, &mut choices);
        let refused = || rewrite(file(), &text, RewriteMode::Inject(&defaults)).err();
        prop_assert!(holds(&text, &defaults), "refused: {:?}\n{}", refused(), text);
        prop_assert_eq!(back(&text, &defaults), text);
    }

    /// Damaged manifests: with lines removed, doubled or moved, or with changed bytes.
    #[test]
    fn damaged_manifests_are_refused_or_right(
        which in any::<usize>(),
        damage in proptest::collection::vec(any::<(u8, u16, u8)>(), 1..6),
    ) {
        let texts = cases();
        let mut text = fs::read_to_string(&texts[which % texts.len()]).unwrap();
        for (kind, place, with) in damage {
            text = damaged(&text, kind, usize::from(place), usize::from(with));
        }
        let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap();
        if holds(&text, &defaults) {
            prop_assert_eq!(back(&text, &defaults), text);
        }
    }
}

/// The manifests of the tests and of the fuzzer's corpus.
fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/inject/cases", "tests/inject/refused", "fuzz/corpus/manifest"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn damaged(text: &str, kind: u8, place: usize, with: usize) -> String {
    const SNIPPETS: [&str; 16] = [
        " ", "\n", "-", ": ", "#", "{", "}", "[", "]", "&a ", "*a", "!t ", "\"", "  ", "|\n",
        "---\n",
    ];
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let count = lines.len();
    if count == 0 {
        return SNIPPETS[with % SNIPPETS.len()].to_owned();
    }
    match kind % 5 {
        0 => drop(lines.remove(place % count)),
        1 => lines.insert(with % count, lines[place % count].clone()),
        2 => lines.swap(place % count, with % count),
        3 => {
            let mut text = text.to_owned();
            text.insert_str(
                text.floor_char_boundary(place % text.len()),
                SNIPPETS[with % SNIPPETS.len()],
            );
            return text;
        }
        _ => {
            let at = text.floor_char_boundary(place % text.len());
            let mut chars = text[at..].chars();
            chars.next();
            return format!("{}{}", &text[..at], chars.as_str());
        }
    }
    lines.concat()
}

#[test]
fn the_corpus_of_the_fuzzer_is_refused_or_right() {
    let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap();
    let mut injected = 0;
    for file in cases() {
        let text = fs::read_to_string(&file).unwrap();
        if holds(&text, &defaults) {
            assert_eq!(back(&text, &defaults), text, "{file:?}");
            injected += 1;
        }
    }
    assert!(injected >= 40, "{injected}");
}

#[test]
fn aliases_that_grow_without_end_are_refused() {
    let mut text = "kind: Pod\na0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        writeln!(text, "a{level}: &a{level} [{}]", vec![format!("*a{before}"); 9].join(", "))
            .unwrap();
    }
    let problems = rewrite(file(), &text, RewriteMode::Uninject).unwrap_err();
    assert_eq!(problems[0].message, "aliases make this too large");
}

#[test]
fn a_large_manifest_of_others_is_passed_in_little_time() {
    let mut text = "apiVersion: v1\nkind: Large\nspec:\n".to_owned();
    for nth in 0..20_000 {
        writeln!(text, "  property-{nth}: {{type: object, properties: {{a: {{type: string}}}}}}")
            .unwrap();
    }
    let began = std::time::Instant::now();
    assert_eq!(
        rewrite(file(), &text, RewriteMode::Inject(&Defaults::default())).unwrap().text,
        text
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
