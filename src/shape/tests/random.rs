//! Random programs: none panics or hangs.

use proptest::prelude::*;

use super::{INPUT, SMALL, outcome};
use crate::shape::Budget;

const LEAVES: &[&str] = &[
    ".",
    "..",
    ".a",
    ".b.c",
    ".[]",
    ".[]?",
    ".[0]",
    ".[-1:]",
    "1",
    "-2.5",
    "1e300",
    "1.10",
    "null",
    "true",
    "\"x\"",
    "[]",
    "{}",
    "empty",
    "error",
    "length",
    "keys",
    "add",
    "tojson",
    "tostring",
    "tonumber",
    "fromjson",
    "reverse",
    "sort",
    "unique",
    "flatten",
    "to_entries",
    "from_entries",
    "paths",
    "first",
    "last",
    "not",
    "type",
    "floor",
    "sqrt",
    "explode",
    "implode",
    "@csv",
    "@base64",
    "@base64d",
    "@sh",
    "@uri",
    "@html",
    "transpose",
    "combinations",
    "nan",
    "infinite",
    "ascii_downcase",
    "todate",
    "gmtime",
    "mktime",
    "strftime(\"%c %j\")",
    "any",
    "all",
    "min",
    "max",
    "$v",
    "break $l",
    "toboolean",
    "trim",
    "abs",
    "$__loc__",
    "tostream",
    "@base32",
    "@base32d",
    "$__x",
];
const OPERATORS: &[&str] = &[
    "|", ",", "+", "-", "*", "/", "%", "//", "and", "or", "==", "<", "|=", "=", "+=", "//=", "*=",
];
const WITH_ONE: &[&str] = &[
    "map",
    "select",
    "sort_by",
    "group_by",
    "unique_by",
    "min_by",
    "max_by",
    "path",
    "paths",
    "del",
    "walk",
    "first",
    "last",
    "isempty",
    "any",
    "all",
    "has",
    "contains",
    "inside",
    "indices",
    "index",
    "split",
    "join",
    "test",
    "scan",
    "capture",
    "splits",
    "getpath",
    "delpaths",
    "with_entries",
    "map_values",
    "add",
    "range",
    "ltrimstr",
    "startswith",
    "flatten",
    "error",
    "to_entries",
    "pick",
    "in",
    "match",
    "nth",
    "IN",
    "INDEX",
    "bsearch",
    "fromstream",
    "truncate_stream",
    "combinations",
];
const WITH_TWO: &[&str] = &[
    "limit", "skip", "range", "setpath", "sub", "gsub", "pow", "any", "test", "split", "JOIN",
    "IN", "INDEX",
];

fn program() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(6, 64, 4, |inner| {
        let binary = prop::sample::select(OPERATORS);
        let call = prop::sample::select(WITH_ONE);
        let call2 = prop::sample::select(WITH_TWO);
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(l, op, r)| format!("({l} {op} {r})")),
            (call, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (call2, inner.clone(), inner.clone()).prop_map(|(f, a, b)| format!("{f}({a}; {b})")),
            inner.clone().prop_map(|a| format!("[{a}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{x: {a}, ({b}): 1}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]?")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(.[{a}:{b}])")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("(try {a} catch ({b}))").replace("try ", "try . | ")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} as $v | {b})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("({a} as [$v, {{a: $w}}] | {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(
                "({a} as [$v, $w] ?// {{a: $v}} ?// $v | [$v, $w, {b}])"
            )),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("\"\\({a})\\({b})\" | gsub(\"(?<x>.)\"; {c})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("reduce ({a}) as $v (.; {b})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("[foreach ({a}) as $v (0; {b}; [., $v])]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("if {a} then {b} else {c} end")),
            inner.clone().prop_map(|a| format!("(label $l | {a})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("(def f(g; $v): g | {a}; f({b}; 1))")),
            inner.clone().prop_map(|a| format!("\"a\\({a})b\"")),
            inner.prop_map(|a| format!("@json \"\\({a})\"")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn programs_never_panic(body in program()) {
        let program = format!("null as $v | label $l | {body}");
        let budget = Budget { steps: 50_000, ..SMALL };
        for input in [INPUT, "[[1,2],[\"a\",null],{\"a\":[]}]", "\"a,b\"", "0"] {
            let (kind, said) = outcome(&program, input, budget);
            prop_assert!(kind != "failed" || !said.contains("internal"), "{}: {}", program, said);
            if kind == "ok" {
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&said).is_ok();
                prop_assert!(is_json, "{}: {}", program, said);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z.|,(){}\\[\\]\"\\\\$@:;?/*+=<> 0-9#é-]{0,60}") {
        if let Err(error) = crate::shape::Program::compile(&text) {
            let is_place = text.get(error.at.clone()).is_some();
            prop_assert!(is_place, "{:?} is no place in {:?}", error.at, text);
        }
    }
}
