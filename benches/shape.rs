//! The cost of a shape over a typical dataset (1.3 KB, 20 orders): `cargo bench --bench shape [--
//! name…]`.
//!
//! It prints the best of several rounds, because machines are shared; nothing here asserts a time.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, clippy::pedantic)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bfb::shape::{Budget, Program};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPES: [(&str, &str); 8] = [
    ("identity", "."),
    (
        "pick",
        "{id: .profile.id, name: .profile.name, favorites, orders: [.orders[] | {id, total}]}",
    ),
    (
        "group",
        ".orders | group_by(.state) | \
         map({state: .[0].state, n: length, sum: (map(.total) | add)})",
    ),
    ("sum", ".orders | map(.total) | add"),
    ("tags", "[.profile.segment, (.orders[].state)]"),
    (
        "change",
        ". + {n: (.orders | length), open: [.orders[] | select(.state == \"open\") | .id], \
         last: (.orders | max_by(.at) | .at)} | del(.profile.email)",
    ),
    ("text", ".orders | map(\"\\(.id):\\(.total)\") | join(\",\")"),
    ("regex", ".orders | map(select(.at | test(\"-0[1-9]$\"))) | length"),
];

fn main() {
    let selected: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let input = input();
    for (name, text) in SHAPES {
        if !selected.is_empty() && !selected.iter().any(|one| one == name) {
            continue;
        }
        let program = Program::compile(text).unwrap();
        let round = || {
            let began = Instant::now();
            for _ in 0..200 {
                std::hint::black_box(program.run(input.as_bytes(), Budget::default()).unwrap());
            }
            began.elapsed() / 200
        };
        let best = (0..50).map(|_| round()).min().unwrap_or(Duration::MAX);
        println!("  {name:<10} {:8.2} us a run", best.as_secs_f64() * 1e6);
    }
}

fn input() -> String {
    let mut text = String::from(
        r#"{"profile":{"id":42,"name":"Ada Lovelace","segment":"gold","email":"ada@example.com"},"#,
    );
    text.push_str(r#""favorites":[7,8,9],"orders":["#);
    for n in 0..20 {
        let comma = if n == 0 { "" } else { "," };
        let id = 1000 + n;
        let euros = n * 3;
        let cents = n * 7 % 100;
        let day = n + 1;
        write!(text, r#"{comma}{{"id":{id},"total":{euros}.{cents:02},"#).unwrap();
        write!(text, r#""state":"open","at":"2026-01-{day:02}"}}"#).unwrap();
    }
    text + "]}"
}
