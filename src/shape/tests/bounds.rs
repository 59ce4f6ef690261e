//! A run holds no more than it reserved, and not much less; and ordinary programs keep working.

use std::cell::Cell;

use super::{outcome, refusal};
use crate::shape::{Budget, MEMORY_STEP_BYTES, Program};

/// The most bytes that a run held, and how many were reserved for it.
fn held_and_asked(program: &str, input: &str) -> (u64, u64) {
    let compiled = Program::compile(program).unwrap();
    let asked = Cell::new(0);
    let grant = |bytes| {
        asked.set(asked.get() + bytes);
        true
    };
    let budget = Budget { steps: 2_000_000, memory: Some(&grant), ..Budget::default() };
    let counted = allocation_counter::measure(|| drop(compiled.run(input.as_bytes(), budget)));
    (counted.bytes_max, asked.get())
}

fn list(items: usize, item: impl Fn(usize) -> String) -> String {
    format!("[{}]", (0..items).map(item).collect::<Vec<_>>().join(","))
}

/// Inputs of some tens of kilobytes, or `scale` times that, each of another form.
fn inputs(scale: usize) -> Vec<(&'static str, String)> {
    let list = |items: usize, item: &dyn Fn(usize) -> String| list(scale * items, item);
    vec![
        ("objects of one member", list(2000, &|n| format!("{{\"a\":{n}}}"))),
        (
            "records",
            list(400, &|n| {
                format!("{{\"id\":{n},\"total\":{n}.25,\"state\":\"open\",\"at\":\"2026-01-{n}\"}}")
            }),
        ),
        ("objects of nothing", list(4000, &|_| "{}".to_owned())),
        ("arrays of nothing", list(4000, &|_| "[]".to_owned())),
        ("integers", list(6000, &|n| n.to_string())),
        ("fractions", list(4000, &|n| format!("{n}.5"))),
        ("digits", list(400, &|n| "9".repeat(40 + n % 7))),
        ("words", list(4000, &|n| format!("\"{n}\""))),
        ("escapes", list(1000, &|n| format!("\"\\n{n}\\u00e9\""))),
        (
            "one object",
            format!(
                "{{{}}}",
                (0..scale * 2_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")
            ),
        ),
        ("repeated keys", list(200, &|n| format!("{{\"a\":{n},\"a\":[{n}],\"a\":1}}"))),
        ("one text", format!("\"{}\"", "x".repeat(scale * 40_000))),
        ("one text with escapes", format!("\"{}\"", "\\n".repeat(scale * 20_000))),
        ("one number", "7".repeat(scale * 40_000)),
        ("a little", "{\"p\":[1,2,3]}".to_owned()),
    ]
}

const PROGRAMS: &[&str] = &[
    ".",
    "length",
    "[., .]",
    "tojson",
    "tojson | fromjson",
    "[.[]?]",
    "[.[]? | {a: .}]",
    "map([.])?",
    "map({a: ., b: [.]})?",
    "to_entries?",
    "with_entries(.value |= [.])?",
    "[..]",
    "walk(.)",
    "sort?",
    "group_by(.)?",
    "unique?",
    "[paths]",
    "del(.[0], .[1])?",
    "map_values([.])?",
    "reduce .[]? as $x ({}; .[$x | tojson] = $x)",
    "reduce .[]? as $x ([]; . + [$x])",
    "map(tostring)? | join(\",\")",
    "map(tojson)? | @csv",
    "tojson | explode | implode",
    "tojson | split(\",\")",
    "tojson | ascii_upcase | @base64 | @base64d",
    "tojson | @uri | @urid",
    "tojson | [., .] | @sh",
    "tojson[0:100000] | [match(\"[0-9]+\"; \"g\").string]",
    "tojson[0:100000] | gsub(\"(?<d>[0-9])\"; \"<\\(.d)>\")",
    "tojson[0:100000] | [splits(\"[,:]\")]",
    "[limit(100; .[]?)] | [combinations?]",
    "[limit(1000; tostream)]",
    "fromstream(tostream)",
    "INDEX(.[]?; tojson)",
    "map(IN(1, 2))?",
    "flatten",
    "tojson[0:100000] | [gsub(\"[0-9]\"; \"a\", \"b\", \"c\")]",
    "tojson[0:100000] | [capture(\"(?<d>[0-9])(?<e>x)?\"; \"g\")]",
    "tojson | @base32 | @base32d",
    ". as [$a] ?// {$a} ?// $a | [$a]",
    "\"a\\(.)b\\(.)c\"",
    "[range(30000) | tostring]",
    "[range(30000) | {a: .}] | length",
    "[range(100000) | []] | transpose",
    "[range(100000)] | del(.[0:], .[1:], .[2:])",
];

#[test]
fn a_run_holds_no_more_than_was_asked_for_it() {
    let mut more = Vec::new();
    for (name, input) in inputs(2) {
        for program in PROGRAMS {
            let (held, asked) = held_and_asked(program, &input);
            if held > asked {
                more.push(format!(
                    "{program} over {name}: {held} bytes were held, {asked} asked for"
                ));
            }
        }
    }
    assert!(more.is_empty(), "{}", more.join("\n"));
}

#[test]
fn what_is_asked_for_is_no_more_than_three_times_what_is_held() {
    let mut more = Vec::new();
    for (name, input) in inputs(10) {
        for program in [
            ".",
            "length",
            "[.[]? | {a: .}]",
            "to_entries?",
            "tojson",
            "sort?",
            "map(tostring)? | join(\",\")",
        ] {
            let (held, asked) = held_and_asked(program, &input);
            if asked > 3 * held + MEMORY_STEP_BYTES {
                more.push(format!(
                    "{program} over {name}: {held} bytes were held, {asked} asked for"
                ));
            }
        }
    }
    assert!(more.is_empty(), "{}", more.join("\n"));
}

#[test]
fn a_tree_takes_a_few_times_its_text() {
    for (name, most) in [
        ("objects of one member", 16),
        ("records", 5),
        ("integers", 10),
        ("words", 14),
        ("one text", 4),
    ] {
        let (_, input) = inputs(10).into_iter().find(|(known, _)| *known == name).unwrap();
        let (held, _) = held_and_asked("[0, .][0]", &input);
        let times = held / input.len() as u64;
        assert!(times <= most, "{name}: the tree takes {times} times its text");
    }
}

#[test]
fn what_is_no_longer_needed_is_given_back_while_a_run_goes_on() {
    let input = format!("{{\"p\":1,\"rest\":{}}}", list(20_000, |n| format!("{{\"a\":{n}}}")));
    let (whole, _) = held_and_asked("[range(20000) | [.]] as $new | .rest | length", &input);
    let (part, _) = held_and_asked(".p | [range(20000) | [.]] | length", &input);
    assert!(part < whole * 3 / 4, "{part} bytes were held without the input, {whole} with it");
}

#[test]
fn honest_searches_of_honest_texts_keep_working() {
    let field = "Lorem ipsum dolor sit amet, ada.lovelace+orders@example.com, \
                 consectetur 2026-01-31T10:20:30Z elit; "
        .repeat(10);
    let input = list(3_000, |_| format!("\"{field}\""));
    let pattern = [
        r"(?i)^(?:[a-z0-9.,;:+@ -]|\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}Z)*",
        r"(?:ada|grace|alan|edsger|barbara)[.]\\w+(?:[+]\\w+)?",
        r"@(?:example|example-shop|orders)[.](?:com|org|net)\\b",
    ]
    .concat();
    let program = format!("map(select(test(\"{pattern}\"))) | length");
    let budget = Budget { steps: 40_000_000, memory_bytes: 64 << 20, ..Budget::default() };
    assert_eq!(outcome(&program, &input, budget), ("ok", "3000".to_owned()));
}

#[test]
fn a_search_holds_no_more_than_was_asked_for_it() {
    let mut more = Vec::new();
    for (text, pattern) in [
        ("\"a\" * 600 + \"b\"", "\"()\" * 2040 + \"a*b\""),
        ("\"a\" * 600 + \"b\"", "\"()\" * 1000 + \"(?:a?){1000}\""),
        ("\"a\" * 600 + \"b\"", "\"()\" * 31 + \"(?:a?){500}b\""),
        ("\"a\" * 1000", "\"(?:(){500}a)*\""),
        ("\"a\" * 1000", "\"(?:(?:|x){300}a)*(b?)\""),
        ("\"a\"", "\"a?\" * 2000"),
        ("\"a\"", "\"(?:a|b)\" * 580"),
        ("\"a\"", "\"[ab]?\" * 60 + \"(?i:ab)\" * 500"),
        ("\"a\"", "\"\\\\w\\\\pL\" * 30"),
        ("\"a\"", "\"(?i)\\\\pL\" * 60"),
        ("\"a\"", "\"(?i)[\\\\W\\\\w]\" * 20"),
        ("\"a\"", "\"(?i)\\\\P{Lu}\" * 60"),
        ("\"a\"", "\"(?i)\\\\p{Cn}\" * 60"),
        ("\"é\" * 1000", "\"\\\\b(\\\\w+)\\\\b\""),
    ] {
        for search in [
            "[match($re; \"g\").length] | length",
            "test($re; \"n\")",
            "test($re)",
            "[.[0:5] | match($re; \"l\")]",
        ] {
            let program = format!("({pattern}) as $re | {text} | {search}");
            let (held, asked) = held_and_asked(&program, "null");
            if held > asked {
                more.push(format!("{program}: {held} bytes were held, {asked} asked for"));
            }
        }
    }
    assert!(more.is_empty(), "{}", more.join("\n"));
}

/// The least steps with which a program ends.
fn steps(program: &str, input: &str) -> u64 {
    let program = Program::compile(program).unwrap();
    let (mut ends, mut stops) = (1_u64 << 24, 0);
    while stops + 1 < ends {
        let steps = stops.midpoint(ends);
        match program.run(input.as_bytes(), Budget { steps, ..Budget::default() }) {
            Ok(_) => ends = steps,
            Err(_) => stops = steps,
        }
    }
    assert!(ends < 1 << 24, "it does not end");
    ends
}

/// What is charged, a program and its input that do it, another pair that does not, and the least
/// bytes of work between the two.
type ChargedCase<'c> = (&'c str, (&'c str, &'c str), (&'c str, &'c str), u64);

fn assert_charged((what, more, less, least_bytes): ChargedCase<'_>) {
    let more = steps(more.0, more.1);
    let less = steps(less.0, less.1);
    let least = least_bytes / 64;
    assert!(
        more >= less + least,
        "{what}: {more} steps, {less} without; expected {least} more at least"
    );
}

#[test]
fn what_data_decides_about_is_charged() {
    let numbers = list(100_000, |n| n.to_string());
    let escapes = format!("\"{}\"", "\\n".repeat(200_000));
    // As many as an index holds before it doubles, and one less.
    let keyed = |members: usize| {
        let member = |n: usize| format!("\"{}{n:02}\":1", "x".repeat(10_000));
        format!("{{{}}}", (0..members).map(member).collect::<Vec<_>>().join(","))
    };
    let names = |head: &str| {
        (0..14).map(|n| format!("\"{}{n:02}\":{n}", head.repeat(10_000))).collect::<Vec<_>>()
    };
    let few = format!("{{{}}}", names("x").join(","));
    let cases: [ChargedCase<'_>; 5] = [
        (
            "items of another type",
            ("contains([\"x\"]) | 0", &numbers),
            ("0", &numbers),
            100_000 * 16,
        ),
        (
            "keys that are hashed again",
            (".new = 1 | 0", &keyed(28)),
            (".new = 1 | 0", &keyed(27)),
            280_000,
        ),
        (
            "keys that begin alike",
            ("has(\"x\" * 10000 + \"aa\") | 0", &few),
            ("0", &few),
            14 * 10_000,
        ),
        ("escapes", ("0", &escapes), ("0", &format!("\"{}\"", "ab".repeat(200_000))), 400_000),
        (
            "the digits of a date",
            ("\"2026-01-01T00:00:00.\" + \"0\" * 1000000 + \"Z\" | fromdate", "0"),
            ("\"2026-01-01T00:00:00.\" + \"0\" * 1000000 + \"Z\" | 0", "0"),
            1_000_000,
        ),
    ];
    cases.into_iter().for_each(assert_charged);
}

#[test]
fn what_bindings_paths_and_indexes_take_is_charged() {
    let bound = |binding: &str| format!("def f(g): {binding} [range(20000) | g]; f(1) | length");
    let built = |members: usize| {
        let members: Vec<_> = (0..members).map(|n| format!("k{n}: (1, empty)")).collect();
        format!("[range(100) | {{{}}}] | length", members.join(", "))
    };
    let bound_by_others = |names: usize| {
        let names: Vec<_> = (0..names).map(|n| format!("$a{n}")).collect();
        let others = "{(\"a\", \"b\"): $b} | 0";
        format!("[range(1000) | {{}} as [{}] ?// {others}] | length", names.join(", "))
    };
    let along = |keys: usize| {
        format!("[range({keys}) | \"a\"] as $p | [range(1000) | null | getpath($p)] | length")
    };
    let cases: [ChargedCase<'_>; 4] = [
        (
            "the way to a filter",
            (&bound(&"1 as $x | ".repeat(40)), "0"),
            (&bound(""), "0"),
            2 * 20_000 * 40,
        ),
        (
            "the names of other patterns",
            (&bound_by_others(200), "0"),
            (&bound_by_others(1), "0"),
            2 * 1000 * 199 * 64,
        ),
        ("the way along a path", (&along(200), "0"), (&along(1), "0"), 1000 * 199 * 16),
        (
            "the index of an object under construction",
            (&built(61), "0"),
            (&built(60), "0"),
            100 * 61 * (32 + 48),
        ),
    ];
    cases.into_iter().for_each(assert_charged);
}

#[test]
fn members_that_nest_in_their_own_keys_are_resolved_once() {
    let mut program = "1".to_owned();
    for _ in 0..60 {
        program = format!("{{\"\\({program})\"}}");
    }
    // Each level would double the time of the one before.
    Program::compile(&program).unwrap();
    assert_eq!(
        outcome("{\"\\(\"a\", \"b\")\"}", "{\"a\":1,\"b\":2}", Budget::default()).0,
        "failed"
    );
    assert_eq!(
        outcome("[{\"\\(\"a\", \"b\")\"}] | length", "{\"a\":1,\"b\":2}", Budget::default()).1,
        "4"
    );
    assert_eq!(
        outcome(". as {a: $k} | {\"\\($k)\"}", "{\"a\":\"a\"}", Budget::default()).1,
        "{\"a\":\"a\"}"
    );
    assert!(refusal("{\"\\($nothing)\"}").message.contains("nothing"));
}
