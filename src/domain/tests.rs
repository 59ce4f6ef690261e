//! The checker as a whole: files that pass, and every problem as it is shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::diagnostics::{Problem, render};

/// DESIGN's example, but for its sources in databases.
const EXAMPLE: &str = r"domain: customer
key: '[0-9]{1,18}'
sources:
  profile:
    url: https://profile.crm:8443/customers/{key}
    server: spiffe://shop.example/ns/crm/sa/profile
    missing: not-found
  favorites:
    url: https://favorites.shop:8443/customers/{key}/favorites
    missing: []
    headers: {accept-language: en}
  orders:
    url: https://orders.shop:8443/accounts/{profile.account_id}/orders
    timeout: 400ms
    retries: 2
    concurrency: 64
    max_body: 4MiB
atomicity: snapshot
deadline: 1s
versions:
  v1:
    path: /v1/customers/{key}
    shape: |
      {id: .profile.id, name: .profile.name, favorites, orders: [.orders[] | {id, total}]}
    deprecated: 2026-06-01
    sunset: 2027-06-01
    successor: v2
  v2:
    path: /v2/customers/{key}
    schema: customer.v2.json
cache:
  ttl: 60s
  missing_ttl: 5s
  stale_if_error: 0s
  tags: '[.profile.segment]'
";

fn variable(name: &str) -> Option<String> {
    let known = BTreeMap::from([
        ("HOST", "profile.crm"),
        ("N", "7"),
        ("EMPTY", ""),
        ("EVIL", "a\nretries: 9"),
        ("NEARLY", "not_found"),
        ("TOKEN_FILE", "/run/token"),
        ("GONE_FILE", "/run/gone"),
    ]);
    known.get(name).map(|value| (*value).to_owned())
}

fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/run/token") => Ok("s3cret\n".into()),
        Some("customer.v2.json") => Ok("{\"type\": \"object\"}".into()),
        Some("list.json") => Ok("[]".into()),
        Some("broken.json") => Ok("{".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Stands in for the compiler: refuses `@`, at its place.
fn program(text: &str) -> Result<(), ProgramProblem> {
    text.find('@').map_or(Ok(()), |at| {
        let message = "unexpected `@`".into();
        let expected = "a term".into();
        let hint = "remove it".into();
        Err(ProgramProblem { at: at..at + 1, message, expected, hint })
    })
}

fn world() -> World<'static> {
    World {
        variable: &variable,
        read: &read,
        program: &program,
        allow_http: false,
        allow_https: true,
    }
}

fn good(text: &str) -> Domain {
    parse(Path::new("customer.yaml"), text, world())
        .unwrap_or_else(|problems| panic!("{}", render(&problems, false)))
}

/// The problems of a file as they are shown.
fn shown(text: &str) -> String {
    let problems = parse(Path::new("customer.yaml"), text, world()).unwrap_err();
    for problem in &problems {
        assert!(is_whole(problem), "{problem:?}");
    }
    render(&problems, false)
}

/// Whether a problem is complete: the value found, the value expected, and a next step that does
/// not repeat them.
fn is_whole(problem: &Problem) -> bool {
    let texts = [&problem.message, &problem.expected, &problem.hint];
    texts.iter().all(|text| !text.trim().is_empty() && !text.ends_with('.'))
        && problem.expected != problem.hint
}

/// The problems of a file with one source that has `lines`.
fn source(lines: &str) -> String {
    let lines = lines.replace('\n', "\n    ");
    shown(&format!(
        "domain: c\nsources:\n  a:\n    {lines}\n  b: {{url: https://b/}}\nversions:\n  v1: \
         {{path: '/v1/{{key}}'}}\n"
    ))
}

/// The problems of a file with these versions.
fn versions(lines: &str) -> String {
    let lines = lines.replace('\n', "\n  ");
    shown(&format!(
        "domain: c\nsources:\n  a: {{url: 'https://a/{{key}}'}}\nversions:\n  {lines}\n"
    ))
}

/// The problems of a file with this at its end.
fn top(lines: &str) -> String {
    shown(&format!(
        "domain: c\nsources:\n  a: {{url: 'https://a/{{key}}'}}\nversions:\n  v1: {{path: \
         '/v1/{{key}}'}}\n{lines}\n"
    ))
}

mod bounds;
mod collections;
mod passes;
mod shown_problems;
#[cfg(feature = "postgres")]
mod statements;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_makes_it_panic_and_every_place_is_in_the_text(
        text in prop_oneof![
            any::<String>(),
            "[ \t\n\r:\\-{}\\[\\]|>'\"&*!#%a$ä€.]{0,80}",
            (0..EXAMPLE.len(), 0..40_usize, "[ \t\n:{}'\"|ä$\u{feff}]{0,4}").prop_map(
                |(at, cut, put)| {
                    let mut text = EXAMPLE.to_owned();
                    let end = (at + cut).min(text.len());
                    text.replace_range(at..end, &put);
                    text
                },
            ),
        ]
    ) {
        if let Err(problems) = parse(Path::new("f.yaml"), &text, world()) {
            prop_assert!(!problems.is_empty());
            for problem in &problems {
                prop_assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
                prop_assert!(problem.line >= 1 && problem.column >= 1);
                prop_assert!(is_whole(problem), "{problem:?}");
            }
            prop_assert!(!render(&problems, false).is_empty());
        }
    }
}
