//! Rewriting a manifest takes time and memory in proportion to its size, whatever it holds.

use std::path::Path;

use serde_json::{Value, json};

use crate::diagnostics::cpu_cost::assert_linear;
use crate::inject::Defaults;
use crate::inject::manifest::{RewriteMode, RewrittenManifest, rewrite};

fn injected(text: &str) -> Result<RewrittenManifest, Vec<crate::diagnostics::Problem>> {
    let set = [("unix-socket".to_owned(), "true".to_owned())];
    rewrite(
        Path::new("manifest.yaml"),
        text,
        RewriteMode::Inject(&Defaults::new(&["customer".to_owned()], &set).unwrap()),
    )
}

#[track_caller]
fn succeeds(text: &str) {
    injected(text).unwrap_or_else(|problems| panic!("{problems:?}"));
}

fn is_refused(text: &str) {
    let problems = injected(text).unwrap_err();
    assert!(problems.len() <= 101, "{}", problems.len());
}

fn pod(spec: &Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "spec": spec})
}

fn containers(count: usize) -> Value {
    let containers: Vec<_> =
        (0..count).map(|nth| json!({"name": format!("c{nth}"), "volumeMounts": []})).collect();
    json!({"containers": containers})
}

#[test]
fn containers_and_pods_of_any_number_cost_what_they_are_many() {
    let block = |count: usize| {
        let containers = "  - name: c\n    image: x\n".repeat(count);
        format!("kind: Pod\napiVersion: v1\nspec:\n  containers:\n{containers}")
    };
    assert_linear("blocks", 100, block, succeeds);
    assert_linear("one line", 100, |count| pod(&containers(count)).to_string(), succeeds);
    let pretty = |count: usize| serde_json::to_string_pretty(&pod(&containers(count))).unwrap();
    assert_linear("many lines", 100, pretty, succeeds);
    let crowded = |count: usize| {
        let mut spec = containers(count);
        for nth in 0..20 * count {
            spec[format!("k{nth}")] = json!(1);
        }
        pod(&spec).to_string()
    };
    assert_linear("beside many keys", 50, crowded, succeeds);
    assert_linear(
        "pods",
        50,
        |count| {
            json!({"kind": "PodList", "apiVersion": "v1",
                "items": vec![pod(&containers(1)); count]})
            .to_string()
        },
        succeeds,
    );
    assert_linear(
        "documents",
        50,
        |count| format!("---\n{}\n", pod(&containers(1))).repeat(count),
        succeeds,
    );
    assert_linear(
        "uninjected",
        100,
        |count| injected(&pod(&containers(count)).to_string()).unwrap().text,
        |text: &str| {
            rewrite(Path::new("manifest.yaml"), text, RewriteMode::Uninject).unwrap();
        },
    );
}

#[test]
fn problems_are_counted_once_there_are_many() {
    let astray = |count: usize| {
        let labels: serde_json::Map<_, _> =
            (0..count).map(|nth| (format!("bfb.dev/{nth}"), json!("x"))).collect();
        let mut pod = pod(&containers(1));
        pod["metadata"] = json!({"labels": labels});
        pod.to_string()
    };
    assert_linear("astray", 500, astray, is_refused);
    let doubled = |count: usize| {
        pod(&containers(1)).to_string().replacen('{', &format!("{{{}", "\"a\":1,".repeat(count)), 1)
    };
    assert_linear("doubled", 500, doubled, is_refused);
    let bad = json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"annotations": {"bfb.dev/log": "loud"}}, "spec": {}});
    assert_linear("documents", 200, |count| format!("---\n{bad}\n").repeat(count), is_refused);
    let problems = injected(&doubled(1_000)).unwrap_err();
    assert_eq!(problems.last().unwrap().message, "899 more problems are not shown");
    let unknown = json!({"kind": "Rollout",
        "spec": {"template": {"metadata": {"annotations": {"bfb.dev/inject": "a"}}}}});
    assert_linear(
        "unknown kinds",
        200,
        |count| format!("---\n{unknown}\n").repeat(count),
        |text: &str| {
            assert!(injected(text).unwrap().unknown_kinds.len() <= 101);
        },
    );
}

#[test]
fn a_long_text_is_not_multiplied_by_its_aliases() {
    let text = format!(
        "kind: Pod\napiVersion: v1\nlong: &a {}\nmany: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(100)
    );
    let problems = injected(&text).unwrap_err();
    assert_eq!(
        (problems[0].message.as_str(), problems[0].expected.as_str()),
        ("aliases make this too large", "at most 64 MiB of text")
    );
    let text = format!(
        "kind: Pod\napiVersion: v1\nlong: &a {{{}: 1}}\nmany: [{}]\n",
        "x".repeat(1000),
        "*a, ".repeat(100_000)
    );
    assert_eq!(injected(&text).unwrap_err()[0].message, "aliases make this too large");
}

#[test]
fn documents_and_tags_are_bounded() {
    let message = |text: &str| injected(text).unwrap_err()[0].message.clone();
    assert_eq!(message(&"---\n".repeat(100_001)), "this is one document too many");
    assert_eq!(
        message(&format!("%TAG !a! {}\n--- !a!x 1\n", "x".repeat(1000))),
        "the prefix of a tag is too long"
    );
    let tags =
        |count: usize| format!("a: [{}]\n", format!("!{} 1, ", "x".repeat(200)).repeat(count));
    assert_linear("tags", 500, tags, |text: &str| drop(injected(text)));
    assert_linear(
        "anchors",
        1_000,
        |count| format!("a: [{}]\n", "&a 1, *a, ".repeat(count)),
        |text: &str| drop(injected(text)),
    );
}
