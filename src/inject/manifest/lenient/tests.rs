//! Text that Kubernetes takes and YAML 1.2 does not is parsed and rewritten.

use std::path::Path;

use serde_json::{Value, json};

use super::super::documents;
use super::*;

/// The values of a manifest, or its first problem.
fn parse(text: &str) -> Result<Value, String> {
    let problem = |problems: Vec<crate::diagnostics::Problem>| problems[0].message.clone();
    documents(Path::new("m.yaml"), text).map(Value::from).map_err(problem)
}

/// The same text with the blanks that YAML 1.2 requires.
#[track_caller]
fn is_read_as(text: &str, strict: &str) {
    assert_eq!(parse(text), parse(strict), "{text}");
    assert!(parse(strict).is_ok(), "{strict}");
}

#[test]
fn indentation_within_brackets_means_nothing() {
    let strict = "spec:\n  args: [\n    a,\n    'b c'\n    ]\n  c: 1\n";
    for text in [
        "spec:\n  args: [\n    a,\n    'b c'\n  ]\n  c: 1\n",
        "spec:\n  args: [\n    a,\n    'b c'\n]\n  c: 1\n",
        "spec:\n  args: [\na,\n'b\n c'\n]\n  c: 1\n",
        "spec:\n  args: [ # why\n# not\n  a\n, b\n  ]\n  c: 1\n"
            .replace("b\n  ]", "'b c']")
            .as_str(),
        "spec:\r\n  args: [\r\n  a,\r\n  'b c'\r\n]\r\n  c: 1\r\n",
    ] {
        is_read_as(text, strict);
    }
    // From a sample of Istio.
    let sample = "spec:\n  containers:\n  - name: a\n    args: [\n      \"x\"\n    ]\n\
                  \x20 - name: b\n    args: [\n    \"y\"\n  ]\n";
    let both = json!([{"spec": {"containers": [{"name": "a", "args": ["x"]},
        {"name": "b", "args": ["y"]}]}}]);
    assert_eq!(parse(sample), Ok(both));
    is_read_as("a: {\nb:\n1,\nc: {\nd: 2\n}}\ne: 3\n", "a: {b: 1, c: {d: 2}}\ne: 3\n");
}

#[test]
fn indentation_within_quotes_means_nothing() {
    let strict = "spec:\n  a: \"x\n     y\n\n     z\\\n     \\\"]\"\n  b: 1\n";
    is_read_as("spec:\n  a: \"x\ny\n\nz\\\n\\\"]\"\n  b: 1\n", strict);
    is_read_as("spec:\n  a: \"x\n  y\n  \n z\\\n\t\\\"]\"\n  b: 1\n", strict);
    is_read_as("spec:\n  a: 'it''s\n''x'''\n  b: 1\n", "spec:\n  a: 'it''s\n   ''x'''\n  b: 1\n");
    is_read_as("spec:\n  a: [\"x\n  y\", z]\n", "spec:\n  a: [\"x y\", z]\n");
}

#[test]
fn a_comment_may_touch_what_is_before_it_and_a_tab_a_colon() {
    is_read_as("a: \"x\"#c\nb: [1,#d\n  2]\n", "a: \"x\" #c\nb: [1, #d\n  2]\n");
    is_read_as("a:\tb\nc:\t\td\ne: {f:\tg}\n", "a: b\nc: d\ne: {f: g}\n");
    is_read_as("a:\tb\nc: [\nd\n]\ne:\tf\n", "a: b\nc: [d]\ne: f\n");
    // A `#` that begins a comment in neither grammar stays text.
    assert_eq!(parse("a: b#c\nd: \"e\"#f\n"), Ok(json!([{"a": "b#c", "d": "e"}])));
}

#[test]
fn what_kubernetes_refuses_is_refused() {
    for text in [
        "a:\n    - 1\n  - 2\n",
        "a: 1\n  b: 2\n",
        "a:\n\tb: 1\n",
        "a: [\n1\nb: 2\n",
        "a: [\n---\n]\n",
        "spec:\n  a: \"x\n---\ny\"\n",
        "spec:\n  a: \"x\n... y\"\n",
        "spec:\n  a: \"x\ny\n",
        "a:\t- b\n",
        "a:\tb: c\n",
        "spec:\n  a: [\n%x\n]\n",
    ] {
        assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
    }
}

#[test]
fn every_place_is_one_of_the_text_as_it_was_written() {
    let text = "a: [\nb,\nc]\nd:\te\nf: \"g\"#h\n";
    let mut lenient = LenientText::new(text);
    let at = |what: &str| text.find(what).expect("it is there");
    assert!(lenient.repair(at("b"), IN_BRACKETS[1]) && lenient.repair(at("c"), IN_BRACKETS[1]));
    assert!(lenient.repair(at("e"), TAB) && lenient.repair(at("#h"), COMMENT));
    assert!(!lenient.repair(at("b"), IN_BRACKETS[1]), "once is enough");
    let padded = lenient.padded();
    assert_eq!(padded, "a: [\n b,\n c]\nd: e\nf: \"g\" #h\n");
    for (place, c) in padded.char_indices() {
        let original = lenient.original_offset(place);
        let character = text[original..].chars().next();
        assert!(character == Some(c) || c == ' ', "{place}: {c:?} is {character:?}");
    }
    assert_eq!(lenient.original_offset(padded.len()), text.len());
}

#[test]
fn what_is_read_over_and_over_is_bounded() {
    let many = format!("a:\n- [\n{}]\n", "1,\n".repeat(20_000));
    let mut lenient = LenientText::new(&many);
    assert!(lenient.repairs_left.saturating_mul(many.len()) <= READ_MAX_BYTES);
    lenient.repairs_left = 1;
    assert!(lenient.repair(8, IN_BRACKETS[1]) && !lenient.repair(11, IN_BRACKETS[1]));
    assert!(remedy(IN_BRACKETS[0]).is_some() && remedy("something else").is_none());
}
