//! Checking any domain file takes time and memory in proportion to its size.

use std::cell::Cell;
use std::fmt::Write as _;

use super::*;
use crate::diagnostics::cpu_cost::assert_linear;

/// `count` texts of one shape, joined.
fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut all, nth| {
        let _ = write!(all, "{}", one(nth));
        all
    })
}

/// A good file with `missing` of its source.
fn with_missing(missing: &str) -> String {
    format!(
        "domain: c\nsources:\n  a: {{url: 'https://a/{{key}}', missing: \
         {missing}}}\nversions:\n  v1: {{path: '/v1/{{key}}'}}\n"
    )
}

fn check(text: &str) {
    let _ = parse(Path::new("f.yaml"), text, world());
}

#[test]
fn a_mapping_of_any_number_of_keys_on_one_line_is_read_in_time_linear_in_it() {
    assert_linear(
        "flow mapping",
        3_000,
        |keys| with_missing(&format!("{{{}}}", many(keys, |n| format!("k{n}: 1, ")))),
        check,
    );
    assert!(
        parse(
            Path::new("f"),
            &with_missing(&format!("{{{}}}", many(20_000, |n| format!("k{n}: 1, ")))),
            world()
        )
        .is_ok()
    );
    assert_linear(
        "keys without values",
        3_000,
        |keys| with_missing(&format!("{{{}}}", many(keys, |n| format!("k{n}, ")))),
        check,
    );
    assert_linear(
        "pairs in a list",
        3_000,
        |keys| with_missing(&format!("[{}]", many(keys, |n| format!("k{n}: 1, ")))),
        check,
    );
    assert_linear(
        "letters of two bytes",
        3_000,
        |keys| with_missing(&format!("{{{}}}", many(keys, |n| format!("ä{n}: é, ")))),
        check,
    );
    assert_linear(
        "lists within",
        2_000,
        |keys| with_missing(&format!("[{}]", many(keys, |_| "[[1], {a: 1}], ".to_owned()))),
        check,
    );
}

#[test]
fn unknown_and_doubled_keys_are_counted_once_there_are_many() {
    assert_linear("unknown keys", 2_000, |keys| many(keys, |n| format!("domein{n}: 1\n")), check);
    assert_linear(
        "unknown keys on a line",
        2_000,
        |keys| format!("{{{}}}", many(keys, |n| format!("domein{n}: 1, "))),
        check,
    );
    assert_linear(
        "doubled keys",
        2_000,
        |keys| format!("{{{}}}", "domain: 1, ".repeat(keys)),
        check,
    );
    let problems = parse(Path::new("f"), &format!("{{{}}}", "domain: 1, ".repeat(50_000)), world())
        .unwrap_err();
    assert_eq!(problems.len(), 101);
    assert!(
        problems[100].message.ends_with("more problems are not shown"),
        "{}",
        problems[100].message
    );
    assert!(render(&problems, false).len() < 100_000, "{}", render(&problems, false).len());
}

#[test]
fn anchors_aliases_tags_and_documents_are_refused_however_many_there_are() {
    assert_linear(
        "aliases",
        2_000,
        |count| with_missing(&format!("[&a x, {}]", "*a, ".repeat(count))),
        check,
    );
    assert_linear(
        "anchors",
        2_000,
        |count| with_missing(&format!("[{}]", many(count, |n| format!("&a{n} x, ")))),
        check,
    );
    assert_linear(
        "tags",
        2_000,
        |count| with_missing(&format!("[{}]", "!a x, ".repeat(count))),
        check,
    );
    assert_linear("documents", 5_000, |count| "--- 1\n".repeat(count), check);
    assert_linear(
        "a prefix of tags",
        500,
        |count| {
            format!("%TAG !a! {}\n---\n[{}]\n", "x".repeat(20 * count), "!a!x 1, ".repeat(count))
        },
        check,
    );
    let long = format!("\u{feff}%TAG !a! {}\n--- !a!x 1\n", "x".repeat(1000));
    let shown = shown(&long);
    assert!(
        shown.contains("the prefix of a tag is too long") && !shown.contains("more problems"),
        "{shown}"
    );
}

#[test]
fn depth_and_long_texts_cost_what_they_are_long() {
    assert_linear("brackets", 5_000, |count| "[".repeat(count), check);
    assert_linear("dashes", 5_000, |count| "- ".repeat(count), check);
    assert_linear(
        "a long text",
        50_000,
        |count| with_missing(&format!("'{}'", "x".repeat(count))),
        check,
    );
    assert_linear(
        "a long line that is wrong",
        50_000,
        |count| format!("domain: {}\n\t: x", "x".repeat(count)),
        check,
    );
    assert_linear("comments", 5_000, |count| "# x\n".repeat(count), check);
    assert_linear(
        "blank lines",
        50_000,
        |count| format!("domain: c\n{}\t x", "\n".repeat(count)),
        check,
    );
    assert_linear(
        "quotes",
        5_000,
        |count| with_missing(&format!("[{}]", "\"\\u00e4\", ".repeat(count))),
        check,
    );
}

#[test]
fn braces_that_resemble_references_cost_what_they_are_long() {
    let word = "x".repeat(40);
    assert_linear(
        "near names",
        500,
        |count| with_missing(&format!("'{}'", format!("{{{word}.b}}").repeat(count))),
        check,
    );
    assert_linear(
        "variables that never close",
        500,
        |count| with_missing(&format!("'{}'", "${a${b}".repeat(count))),
        check,
    );
    assert_linear(
        "braces",
        5_000,
        |count| with_missing(&format!("'{}'", "${".repeat(count))),
        check,
    );
    let sources = |count: usize| {
        let urls = many(30, |nth| {
            let others = "{b.c}".repeat(count);
            format!("  s{nth}: {{url: 'https://a/{others}'}}\n")
        });
        format!(
            "domain: c\nsources:\n{urls}  b: {{url: 'https://b/{{key}}'}}\nversions:\n  v1: \
             {{path: '/v1/{{key}}'}}\n"
        )
    };
    assert_linear("references", 100, sources, check);
}

#[test]
fn a_variable_that_is_named_often_is_read_once_and_put_in_within_a_bound() {
    let read = Cell::new(0);
    let large = "x".repeat(100_000);
    let variable = |name: &str| (name == "A_FILE").then(|| "/run/a".to_owned());
    let read_counted = |_: &Path| {
        read.set(read.get() + 1);
        Ok(large.clone())
    };
    let world = World { variable: &variable, read: &read_counted, ..world() };
    let text = with_missing(&format!("[{}]", "'${A}', ".repeat(5_000)));
    let problems = parse(Path::new("f"), &text, world).unwrap_err();
    assert_eq!(read.get(), 1);
    assert_eq!(problems[0].message, "the substituted text is too large");
    assert_eq!(problems[0].expected, "at most 1 MiB with all that is put in, and 4 MiB in a file");
}
