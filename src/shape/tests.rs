//! The corpora: the results of ordinary programs are exact to the byte, and hostile programs end
//! soon, on a small stack.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Budget, CompileError, MEMORY_STEP_BYTES, Program, RunErrorKind};

const AS_IN_JQ: &str = include_str!("corpus/jq.txt");
const FRIENDLY: &str = include_str!("corpus/friendly.txt");
const HOSTILE: &str = include_str!("corpus/hostile.txt");
const BYTES: &str = include_str!("corpus/bytes.txt");
const SECRETS: &str = include_str!("corpus/secrets.txt");
const INPUT: &str = r#"{"a":1,"b":{"c":[1,2,{"d":"x"}]}}"#;

/// The message of a program whose budget of steps ran out.
const NO_STEPS: &str = "more steps than";

/// The outcome of a program: its output, or its error.
fn outcome(program: &str, input: &str, budget: Budget<'_>) -> (&'static str, String) {
    match Program::compile(program) {
        Err(error) => ("refused", error.message),
        Ok(program) => match program.run(input.as_bytes(), budget) {
            Ok(output) => ("ok", String::from_utf8(output).unwrap()),
            Err(error) if STOPS.iter().any(|stop| error.message.contains(stop)) => {
                ("stopped", error.message)
            }
            Err(error) => ("failed", error.message),
        },
    }
}

const STOPS: [&str; 8] = [
    NO_STEPS,
    "more memory than",
    "more bytes than",
    "longer than",
    "nested more than 256 deep",
    "path of more than 256",
    "too deeply",
    "more than 64 regular",
];

/// Runs `f` on a thread with a stack of that many bytes; panics if it does not end in time.
fn on_stack<T: Send + 'static>(
    bytes: usize,
    what: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(bytes);
    thread.spawn(move || drop(done.send(f()))).unwrap();
    // A watchdog's patience: debug builds on a busy machine are many times slower than the promised
    // limit.
    ended
        .recv_timeout(Duration::from_mins(1))
        .unwrap_or_else(|_| panic!("did not end, or panicked: {what}"))
}

/// A tenth of a run's default budget, for debug builds.
const SMALL: Budget<'static> = Budget {
    steps: 1_000_000,
    output_bytes: 1 << 20,
    memory_bytes: 16 << 20,
    until: None,
    cancelled: None,
    memory: None,
};

fn eval(program: &str, input: &str) -> String {
    outcome(program, input, Budget::default()).1
}

fn refusal(program: &str) -> CompileError {
    Program::compile(program).map(drop).unwrap_err()
}

#[test]
fn friendly_programs_yield_what_jq_users_expect() {
    assert!(yield_what_is_expected(FRIENDLY) >= 25);
}

#[test]
fn programs_yield_what_jq_yields_in_its_order() {
    assert!(yield_what_is_expected(AS_IN_JQ) >= 25);
}

/// Runs each program of a corpus; how many there are.
fn yield_what_is_expected(corpus: &str) -> usize {
    let mut lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    let mut wrong = Vec::new();
    while let Some(program) = lines.next() {
        let (input, expected) = (lines.next().unwrap(), lines.next().unwrap());
        let got = eval(program, input);
        let fits = expected.strip_prefix('!').map_or(got == expected, |error| got.contains(error));
        if !fits {
            wrong.push(format!("{program}\n   gave {got}\ninstead {expected}"));
        }
        assert!(lines.next().is_none_or(str::is_empty), "entries are three lines: {program}");
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

#[test]
fn hostile_programs_end_soon_on_a_small_stack() {
    assert!(as_expected(HOSTILE, SMALL.steps) >= 40);
}

#[test]
fn an_operation_on_many_bytes_is_charged_for_them() {
    assert!(as_expected(BYTES, 200_000) >= 40);
}

/// Runs each program of a corpus on a small stack, for so many steps; how many there are.
fn as_expected(corpus: &str, steps: u64) -> usize {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in corpus.lines().filter(|line| !line.starts_with('#')) {
        let (expected, program) = line.split_once(' ').unwrap();
        let owned = program.to_owned();
        let (got, said) =
            on_stack(1 << 20, program, move || outcome(&owned, INPUT, Budget { steps, ..SMALL }));
        let fits = if expected == "no-steps" { said.contains(NO_STEPS) } else { got == expected };
        if !fits {
            let said: String = said.chars().take(100).collect();
            wrong.push(format!("{program}\n    expected {expected}, was {got}: {said}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

fn nested(open: &str, middle: &str, close: &str, n: usize) -> String {
    open.repeat(n) + middle + &close.repeat(n)
}

fn chain(part: &str, between: &str, n: usize) -> String {
    vec![part; n].join(between)
}

/// A program of `n` definitions, each of which calls the one before it.
fn defs(n: usize) -> String {
    let def = |i: usize| format!("def f{}: [f{i}]; ", i + 1);
    format!("def f0: 1; {} f{n}", (0..n).map(def).collect::<String>())
}

#[test]
fn programs_that_nest_without_end_are_refused_or_run_on_a_small_stack() {
    let programs = [
        nested("(", "1", ")", 100_000),
        nested("(", "1", ")", 30_000),
        nested("[", "", "]", 30_000),
        nested("{a:", "1", "}", 10_000),
        nested("\"\\(", "1", ")\"", 10_000),
        "(".repeat(60_000),
        nested(".[", "0", "]", 20_000),
        nested("if . then ", "1", " end", 3_000),
        nested("map(", ".", ")", 10_000),
        nested("def f: ", "1; f", "; f", 5_000),
        nested("try ", "error", "", 12_000),
        nested("label $a | ", "1", "", 5_000),
        nested("reduce . as $x (0; ", "1", ")", 3_000),
        nested(". as [", "$x", "] | $x", 5_000),
        nested(". as {a: ", "$x", "} | $x", 5_000),
        nested("- ", "1", "", 30_000),
        nested(". as $x | ", "1", "", 6_000),
        chain(".a", " | ", 12_000),
        chain("1", "+", 30_000),
        chain("1", ",", 30_000),
        chain("1", " // ", 12_000),
        chain("a", " |= ", 10_000),
        chain("1", " as $x | ", 6_000),
        chain("1 as $x | 2", ", ", 4_000),
        chain("1", " == ", 10_000),
        format!(". as {} | $x", chain("$x", " ?// ", 8_000)),
        format!(
            ". as {} | 1",
            (0..6_000).map(|n| format!("$x{n}")).collect::<Vec<_>>().join(" ?// ")
        ),
        format!(". as {} | $x", chain("[$x, {$y, $z: [$w]}]", " ?// ", 2_000)),
        nested(". as [$x, {$y: ", "$x", "}] | $x", 2_000),
        nested("reduce . as $x ?// [$x] (0; ", "1", ")", 2_000),
        nested("{(\"a\"): ", "1", "}", 5_000),
        nested("\"\\([", "1", "])\"", 5_000),
        nested("def f($x): x; ", "1", "", 4_000),
        format!("\"{}\"", "\\ud83d\\ude04".repeat(5_000)),
        format!("\"{}\"", "\\ud83d".repeat(10_000)),
        format!("\"{}\"", "\\(1)".repeat(15_000)),
        format!("\"{}\"", "\\(1,2)".repeat(10_000)),
        (0..2_500).map(|n| format!("test(\"(?i)\\\\pL{{2}}{n}\")")).collect::<Vec<_>>().join(","),
        ".5".repeat(30_000),
        "1.".repeat(30_000),
        "#\\\n".repeat(20_000),
        chain("[.]", "|", 4_000),
        ".a".repeat(30_000),
        ".[]?".repeat(15_000),
        ".[0:]".repeat(12_000),
        format!(".{}", "?".repeat(60_000)),
        defs(100),
        defs(200),
        defs(250),
        defs(2_000),
        "x".repeat(70_000),
        "\"".repeat(60_001),
        "#".repeat(60_000),
        String::new(),
    ];
    for program in programs {
        let what: String = program.chars().take(60).collect();
        on_stack(1 << 20, &what, move || outcome(&program, INPUT, SMALL));
    }
}

#[test]
fn what_people_nest_runs_on_a_small_stack() {
    let deep_input = "[".repeat(120) + "1" + &"]".repeat(120);
    let programs = [
        ("[".repeat(40) + "." + &"]".repeat(40) + " | flatten | length", "1".to_owned(), "1"),
        (
            "map(".repeat(8) + ". + 1" + &")".repeat(8),
            "[".repeat(8) + "1" + &"]".repeat(8),
            "[[[[[[[[2]]]]]]]]",
        ),
        ("{a: ".repeat(30) + "1" + &"}".repeat(30) + " | [..] | length", "null".to_owned(), "31"),
        ("[..] | length".to_owned(), deep_input.clone(), "121"),
        (
            "walk(if type == \"number\" then . + 1 else . end) | flatten".to_owned(),
            deep_input.clone(),
            "[2]",
        ),
        ("[paths] | length".to_owned(), deep_input.clone(), "120"),
        ("(.. | numbers) |= 5 | flatten".to_owned(), deep_input, "[5]"),
        (vec![". + 1"; 200].join(" | "), "0".to_owned(), "200"),
        (vec!["."; 200].join(" + "), "1".to_owned(), "200"),
        (vec![".[]"; 20].join(" | "), "[".repeat(20) + "1" + &"]".repeat(20), "1"),
    ];
    for (program, input, expected) in programs {
        let what: String = program.chars().take(60).collect();
        let (got, said) =
            on_stack(2 << 20, &what, move || outcome(&program, &input, Budget::default()));
        assert_eq!((got, said.as_str()), ("ok", expected), "{what}");
    }
}

#[test]
fn an_input_that_is_not_json_or_too_deep_is_refused() {
    let program = Program::compile(".").unwrap();
    for input in ["", "{", "NaN", "1 2", "# c\n1", "b\"x\"", &"[".repeat(100_000)] {
        assert_eq!(
            program.run(input.as_bytes(), SMALL).unwrap_err().message,
            "the input is not JSON"
        );
    }
}

#[test]
fn errors_hold_no_data() {
    const SECRET: &str = "s3cr3t";
    let input = format!(
        r#"{{"s":"{SECRET}","n":1234567890123,"o":{{"{SECRET}":"{SECRET}"}},
            "a":["{SECRET}",["{SECRET}"]],"z":0,"b":true,"t":"x"}}"#
    );
    let mut failed = 0;
    for program in SECRETS.lines().filter(|line| !line.starts_with('#')) {
        let (kind, said) = outcome(program, &input, SMALL);
        if kind != "ok" {
            assert!(!said.contains(SECRET) && !said.contains("123456789"), "{program}: {said}");
            failed += 1;
        }
    }
    assert!(failed > 80, "only {failed} of these fail");
}

/// Texts that people write that are no programs, or none that a shape may have.
const NO_PROGRAMS: &[&str] = &[
    "{a: foo(1)}",
    "lenght",
    "[.[] | $x]",
    ".a | break $out",
    ".a | map",
    "sub(\"a\", \"b\")",
    "\"é\" | now",
    "env",
    "input",
    "halt",
    "while(.; .)",
    "$ENV.HOME",
    "[.[] | recurse(.a)]",
    "gamma",
    "[.[] | strflocaltime(\"%Y\")]",
    "_strindices(\"a\")",
    "test(\"(\")",
    "[.a, .b] | gsub(\"(?=u)\"; \"u\")",
    "match([\"a++\", \"g\"])",
    "split(\", \"; \"gq\")",
    "scan(\"a\", 1)",
    "test(\"a{500}{500}\")",
    "limit(-1; .[])",
    "{(0): 1}",
    "@nope",
    "@nope \"x\"",
    "a::b",
    "__x",
    "$__prog_args",
    "\"\\ud83d\"",
    "1 == 2 == 3",
    "{a: .b",
    "[1, 2",
    "(1",
    "\"a",
    ".a | | .b",
    ".a |",
    "",
    "{a: 1} }",
    "if . then 1 else 2",
    "if . then 1",
    "if . 1",
    ". as $x",
    ". as 1 | 2",
    "1 2",
    ".a . b c",
    "\"a\\q\"",
    "\"\\u12\"",
    "1e",
    ".[1;2]",
    "{1: 2}",
    "{(.a)}",
    "f(1, 2",
    "reduce .[] as $x (0)",
    "reduce . (0; 1)",
    "foreach .[] as $x (0)",
    "def f: f; 1",
    "def __f: 1; 1",
    "def f(1): 1; 1",
    "def 1: 1; 1",
    "label x | 1",
    "import \"a\" as a; 1",
    "ä",
    "^",
    "&",
];

#[test]
fn a_refusal_says_where_what_and_what_to_do() {
    let shown = |program: &str| {
        let CompileError { at, message, expected, hint } = refusal(program);
        format!(
            "{program}\n  at `{}`: {message}\n  expected {expected}\n  hint: {hint}\n",
            &program[at]
        )
    };
    let all: Vec<_> = NO_PROGRAMS.iter().map(|program| shown(program)).collect();
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(refusal(".a | f").at, 5..6);
    assert_eq!(refusal("def f: f; 1").at, 7..8);
}

#[test]
fn a_program_past_a_bound_is_told_the_bound() {
    let names: Vec<_> = (0..300).map(|n| format!(". as $x{n} | ")).collect();
    for (program, expected) in [
        ("#".repeat(70_000), "at most 65536"),
        ("(".repeat(300), "at most 200 open brackets"),
        ("- ".repeat(5_000) + "1", "at most 256 levels"),
        ("- ".repeat(400) + "1", "at most 256 levels"),
        (names.concat() + ".", "at most 256"),
        (format!(". as {} | 1", vec!["$x"; 300].join(" ?// ")), "at most 256"),
    ] {
        let error = refusal(&program);
        assert!(error.expected.starts_with(expected) && !error.hint.is_empty(), "{error:?}");
    }
}

#[test]
fn a_program_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Program>();
}

#[test]
fn a_run_ends_when_its_time_is_over_when_nobody_waits_and_when_there_is_no_memory() {
    let ever = Program::compile("try last(range(1e18)) catch 1").unwrap();
    let stopped = |budget: Budget<'_>| ever.run(b"null", budget).unwrap_err().kind;
    let endless = Budget { steps: u64::MAX, ..SMALL };
    assert_eq!(stopped(SMALL), RunErrorKind::Program);
    assert_eq!(stopped(Budget { until: Some(Instant::now()), ..endless }), RunErrorKind::TimedOut);
    let later = Instant::now() + Duration::from_millis(20);
    assert_eq!(stopped(Budget { until: Some(later), ..endless }), RunErrorKind::TimedOut);
    assert!(Instant::now() >= later);
    assert_eq!(
        stopped(Budget { cancelled: Some(&AtomicBool::new(true)), ..endless }),
        RunErrorKind::Cancelled
    );

    let large = Program::compile("[range(100000)]").unwrap();
    let asked = Cell::new(0);
    let memory = |most: u64| {
        asked.set(0);
        let grant = |bytes| {
            assert_eq!(bytes % MEMORY_STEP_BYTES, 0);
            asked.set(asked.get() + bytes);
            asked.get() <= most
        };
        large.run(b"null", Budget { memory: Some(&grant), ..SMALL }).map(|out| out.len())
    };
    assert!(memory(u64::MAX).is_ok() && asked.get() > 100_000 * 16);
    assert_eq!(memory(asked.get() - 1).unwrap_err().kind, RunErrorKind::MemoryRefused);
}

#[test]
fn output_is_bounded() {
    let program = Program::compile("[range(1000)]").unwrap();
    let budget = |output_bytes| Budget { output_bytes, ..SMALL };
    let bytes = program.run(b"null", budget(1 << 20)).unwrap().len();
    assert_eq!(program.run(b"null", budget(bytes)).map(|out| out.len()), Ok(bytes));
    assert!(program.run(b"null", budget(bytes - 1)).unwrap_err().message.contains("more bytes"));
    assert!(Program::compile(".").unwrap().run(b"\"abc\"", budget(4)).is_err());
}

mod bounds;
mod jq_suite;
mod oracle;
mod random;
