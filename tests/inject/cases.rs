//! A manifest for each case: its rewritten text, or the problems for which it is refused.

use std::fmt::Write as _;

use super::{data, holds, inject};

#[test]
fn every_case_comes_out_as_it_did() {
    let cases = data("cases");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for (name, text, args) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = inject(&args, &text);
        assert_eq!(output.code, Some(0), "{name}: {}", output.err);
        let out = output.out;
        insta::assert_snapshot!(
            format!("case-{name}"),
            format!("{}{}", output.err, marked(&text, &out))
        );
        holds(&name, &args, &text, &out);
    }
}

#[test]
fn every_refusal_says_where_it_stands_and_what_to_do() {
    for (name, text, args) in data("refused") {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = inject(&args, &text);
        assert_eq!((output.code, output.out.as_str()), (Some(64), ""), "{name}: {}", output.err);
        insta::assert_snapshot!(format!("refused-{name}"), output.err);
    }
}

/// `after` with `+` before each line that was not there, and between them, with `-`, the lines that
/// are not there any more.
fn marked(before: &str, after: &str) -> String {
    let old: Vec<_> = before.lines().collect();
    let new: Vec<_> = after.lines().collect();
    // `same[o][n]`: the most lines that `old[o..]` and `new[n..]` have in common, in their order.
    let mut same = vec![vec![0; new.len() + 1]; old.len() + 1];
    for o in (0..old.len()).rev() {
        for n in (0..new.len()).rev() {
            let skip = same[o + 1][n].max(same[o][n + 1]);
            same[o][n] = if old[o] == new[n] { skip.max(same[o + 1][n + 1] + 1) } else { skip };
        }
    }
    let mut o = 0;
    let mut n = 0;
    let mut marked = String::new();
    while o < old.len() || n < new.len() {
        let (mark, line) = if o < old.len() && n < new.len() && old[o] == new[n] {
            (o, n) = (o + 1, n + 1);
            (' ', old[o - 1])
        } else if o < old.len() && (n == new.len() || same[o + 1][n] >= same[o][n + 1]) {
            o += 1;
            ('-', old[o - 1])
        } else {
            n += 1;
            ('+', new[n - 1])
        };
        let _ = writeln!(marked, "{mark} {line}");
    }
    marked
}
