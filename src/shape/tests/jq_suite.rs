//! jq's own tests, where the folder is there: each is run as a shape and falls into one class, and
//! the counts of the classes are held.
//!
//! The folder is the one that `BFB_JQ_TESTS` names, or `../shared/peers/jq` beside the crate. It is
//! no part of this repository: the tests are jq's, and their licence is beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{SMALL, outcome};
use crate::shape::{Budget, CompileError, Program};

/// The refusals that the docs list, with their reasons.
const DOCS: &str = include_str!("../../../docs/jq.md");
const FILES: [&str; 7] = [
    "jq.test",
    "man.test",
    "manonig.test",
    "onig.test",
    "base64.test",
    "uri.test",
    "optional.test",
];

/// How many of the 879 fall into each class.
const COUNTS: [(Class, usize); 7] = [
    (Class::Same, 728),
    (Class::RefusedByBoth, 19),
    (Class::RefusedByName, 53),
    (Class::ErrorText, 52),
    (Class::ExactIntegers, 4),
    (Class::Stopped, 20),
    (Class::NotJson, 3),
];

/// One test of jq's.
struct Case {
    program: String,
    /// `None` where the program must not compile.
    run: Option<(String, Vec<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Every output is jq's, in jq's order.
    Same,
    /// Neither compiles it.
    RefusedByBoth,
    /// It is refused by name, for a reason that the docs list.
    RefusedByName,
    /// Only the text of an error differs that the program catches.
    ErrorText,
    /// An integer beyond 2^53 stays exact.
    ExactIntegers,
    /// A bound of a run stops it.
    Stopped,
    /// The test's input is no JSON: no source can send it.
    NotJson,
    Different,
    Failing,
    /// It is refused without a reason that the docs list.
    Mistyped,
}

fn folder() -> PathBuf {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/peers/jq").into();
    std::env::var_os("BFB_JQ_TESTS").unwrap_or_else(beside).into()
}

/// The tests of a file, read as jq's own runner reads them.
fn cases(text: &str) -> Vec<Case> {
    let separates =
        |line: &&str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    let mut cases = Vec::new();
    let mut lines = text.lines().peekable();
    loop {
        while lines.next_if(separates).is_some() {}
        let Some(first) = lines.next() else { return cases };
        let must_fail = first.starts_with("%%FAIL");
        let program = if must_fail { lines.next().unwrap() } else { first }.to_owned();
        let input = if must_fail { String::new() } else { lines.next().unwrap().to_owned() };
        let outputs =
            std::iter::from_fn(|| lines.next_if(|line| !separates(line)).map(str::to_owned))
                .collect();
        cases.push(Case { program, run: (!must_fail).then_some((input, outputs)) });
    }
}

fn class(case: &Case) -> Class {
    let wrapped = format!(".s | [{}]", case.program);
    // Imports must stand at the beginning.
    let loads =
        ["import ", "include ", "module "].iter().any(|word| case.program.starts_with(word));
    let program = if loads { &case.program } else { &wrapped };
    let Some((input, outputs)) = &case.run else {
        let refused =
            Program::compile(&case.program).is_err() && Program::compile(program).is_err();
        return if refused { Class::RefusedByBoth } else { Class::Different };
    };
    if let Err(error) = Program::compile(program) {
        return if is_named(&error) { Class::RefusedByName } else { Class::Mistyped };
    }
    let input = input.trim_start_matches('\u{feff}');
    if outcome(".", input, SMALL).1 == "the input is not JSON" {
        return Class::NotJson;
    }
    let input = format!("{{\"s\":{input}}}");
    let expected = format!("[{}]", outputs.join(","));
    let (kind, said) = outcome(program, &input, Budget { steps: 3_000_000, ..SMALL });
    match kind {
        "stopped" => Class::Stopped,
        "ok" => compared(&case.program, &said, &expected),
        // Programs that end with an error in jq as well, after these outputs.
        _ => match outcome(&format!(".s | [({})?]", case.program), &input, SMALL) {
            ("ok", until_then) if equal(&until_then, &expected) && ends_with_an_error(case) => {
                Class::Same
            }
            _ => Class::Failing,
        },
    }
}

/// Whether jq itself ends with an error after the outputs of this test, which the outputs do not
/// show.
fn ends_with_an_error(case: &Case) -> bool {
    case.program.ends_with("?// {a:$a} ?// {a:$a} | $a")
        || case.program.starts_with(".[]|(try . catch (if .==\"ho\"")
        || case.program.contains("catch \"caught outside")
}

fn is_named(error: &CompileError) -> bool {
    let reasons = [
        "a shape cannot load modules",
        "calls itself, which may not end",
        "does not take a negative number",
    ];
    let is_listed = match error.message.split_once("not available in shapes: ") {
        Some((_, reason)) => DOCS.contains(reason),
        None => {
            reasons.iter().any(|reason| error.message.contains(reason) && DOCS.contains(reason))
        }
    };
    is_listed && !error.hint.is_empty()
}

fn equal(ours: &str, theirs: &str) -> bool {
    outcome(".[0] == .[1]", &format!("[{ours},{theirs}]"), SMALL).1 == "true"
}

fn compared(program: &str, ours: &str, theirs: &str) -> Class {
    if equal(ours, theirs) {
        return Class::Same;
    }
    if [". - 10", ".[0] - 10", ".x - 10", ".[] as $n | $n+0 | [., tostring, . == $n]"]
        .contains(&program)
    {
        return Class::ExactIntegers;
    }
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    match (parse(ours), parse(theirs)) {
        (Some(ours), Some(theirs))
            if program.contains("catch") && differ_in_errors(&ours, &theirs) =>
        {
            Class::ErrorText
        }
        _ => Class::Different,
    }
}

/// How our own errors begin: a text that differs otherwise is data.
const ERRORS: [&str; 10] = [
    "cannot ",
    "invalid path expression",
    "an array index is out of bounds",
    "the depth to flatten",
    "nth does not",
    "implode needs",
    "limit does not",
    "skip does not",
    "a slice can only",
    "boolean has no",
];

/// Whether both have the same structure, and only error texts differ.
fn differ_in_errors(ours: &serde_json::Value, theirs: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object, String};
    match (ours, theirs) {
        (String(x), String(y)) => x == y || ERRORS.iter().any(|error| x.starts_with(error)),
        (Array(x), Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| differ_in_errors(x, y))
        }
        (Object(x), Object(y)) => {
            x.len() == y.len()
                && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| differ_in_errors(x, y)))
        }
        (x, y) => x == y,
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
fn jqs_own_tests_are_as_in_jq_or_fall_into_a_class_that_the_docs_name() {
    let folder = folder();
    if !folder.join("jq.test").is_file() {
        eprintln!(
            "skipped: jq's own tests are not in {}; `BFB_JQ_TESTS` names their folder",
            folder.display()
        );
        return;
    }
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for case in cases(&text) {
            let class = class(&case);
            *counts.entry(class).or_insert(0) += 1;
            if class >= Class::Different {
                wrong.push(format!("{class:?} in {file}: {}{}", case.program, both(&case)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{counts:?}", wrong.join("\n"));
    let counts: Vec<_> = counts.into_iter().collect();
    assert_eq!(counts, COUNTS);
}

/// Our outcome of a test, and jq's.
fn both(case: &Case) -> String {
    let (input, outputs) = case.run.clone().unwrap_or_default();
    let actual =
        outcome(&format!(".s | [{}]", case.program), &format!("{{\"s\":{input}}}"), SMALL).1;
    format!("\n    over {input}\n    ours {actual}\n    jq   {outputs:?}")
}
