//! Every hazard as it is shown: the snapshots are the promise.

use insta::assert_snapshot;

use super::*;

#[test]
fn every_problem_of_a_file_is_shown_at_once() {
    let text = r"domain: Customer
key: '[0-9'
sources:
  profile:
    url: http://profile.crm/{orders.id}
    retries: '3'
    tiemout: 1s
  orders:
    url: https://orders.shop/{profile.id}?{key}=1
    concurrency: 0
deadline: 2
versions:
  v1:
    path: /v1/{key}/
    shape: .a @
    sunset: 2026-13-01
";
    let problems = parse(Path::new("customer.yaml"), text, world()).unwrap_err();
    assert_eq!(problems.len(), 12, "{}", render(&problems, false));
    assert_snapshot!(render(&problems, false));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_hazard_has_a_text_of_its_own() {
    let cases = [
        ("a tab as indentation", shown("domain: c\nsources:\n\ta: 1\n")),
        ("a tab after deeper lines", shown("domain: c\nsources:\n  a:\n    url: x\n\tb: 1\n")),
        ("a tab that the parser lets pass", shown("\tdomain: c\n\tkey: 1\n")),
        ("a tab after a colon", shown("domain:\tc\n")),
        ("a line without a colon", shown("domain: c\nsources\nversions: {}\n")),
        ("a wrong indentation", shown("domain: c\n  key: x\n")),
        ("a pattern without quotes", top("key: [0-9]{1,18}")),
        ("a reference without quotes", source("url: {b.id}/a")),
        ("a shape without quotes", versions("v1:\n  path: /v1/{key}\n  shape: {id: .a}")),
        ("a syntax error", shown("domain: [c\nsources: }\n")),
        (
            "other syntax errors",
            [
                "a: 'b",
                "a: \"\\q\"",
                "a: [b",
                "a: b]",
                ": : :",
                "%YAML 9\n",
                "a: |\n  b\n c",
                "- a\nb: c",
                "a: @b",
                "a:\n  - b\n c: d",
                "\u{1}",
            ]
            .map(|text| shown(&format!("{text}\n")))
            .join("\n"),
        ),
        ("an empty file", shown("# nothing\n")),
        ("a file that is a list", shown("- a\n")),
        ("a second document", shown("domain: a\n---\ndomain: b\n")),
        ("an anchor and an alias", source("url: &u https://a/{key}\nmissing: *u")),
        ("a tag", source("url: https://a/\nmissing: !!str 7")),
        ("a duplicate key", source("url: https://a/\nretries: 1\nretries: 2")),
        ("an unknown key with a near one", source("url: https://a/\nmax-body: 1MiB")),
        ("an unknown key far from all", top("colour: red")),
        ("a quoted number", source("url: https://a/\nretries: \"3\"")),
        ("a number out of range", source("url: https://a/\nretries: 11")),
        ("a number below its range", top("atomicity: snapshot\nrounds: -1")),
        ("a number with a fraction", source("url: https://a/\nconcurrency: 1.5")),
        ("a list for a text", source("url: [https://a/]")),
        ("a number for a text", top("key: 7")),
        ("a key without a value", source("url: https://a/\nmissing:")),
        ("a duration without a unit", top("deadline: 5")),
        ("a deadline of zero", top("deadline: 0s")),
        ("a deadline too long", top("deadline: 6m")),
        ("a duration that is none", top("cache: {ttl: soon}")),
        ("a duration without one of its units", top("deadline: 1h 5")),
        ("a ttl too long", top("cache: {ttl: 400d, missing_ttl: 1.5, stale_if_error: -3s}")),
        ("a size that is too large", source("url: https://a/\nmax_body: 2GiB")),
        ("a size of zero", source("url: https://a/\nmax_body: 0")),
        ("a size that is none", source("url: https://a/\nmax_body: much")),
        ("an unset variable", source("url: https://${NOWHERE}/x/${ALSO_NOT}/{key}")),
        (
            "an unset variable in a block",
            versions("v1:\n  path: /v1/{key}\n  shape: |\n    .a |\n    ${NOWHERE}"),
        ),
        ("a variable whose file is gone", source("url: https://a/\nheaders: {x: '${GONE}'}")),
        (
            "variables that are the sidecar's own",
            source(
                "url: https://a/${BFB_REDIS}\nheaders: {x: '${OTEL_EXPORTER_OTLP_HEADERS:-none}'}",
            ),
        ),
        ("a variable without a name", source("url: https://a/\nheaders: {x: '${1A}'}")),
        ("a variable that is not closed", source("url: https://${HOST/")),
        ("a secret is not shown", source("url: ${TOKEN}\nretries: ${TOKEN}\ntimeout: ${TOKEN}")),
        ("a secret is not a source", source("url: \"https://a/{${TOKEN}.id}\"")),
        ("a secret is not a name", shown("domain: ${TOKEN}!\n")),
        (
            "near misses of not-found",
            ["not_found", "notfound", "Not Found", "'not-found '", "not-fund", "${NEARLY}"]
                .map(|text| source(&format!("url: https://a/\nmissing: {text}")))
                .join("\n"),
        ),
        (
            "references in headers",
            source(
                "url: https://a/\nheaders:\n  x-k: 'a {key}'\n  x-b: '{b.id}'\n  x-json: \
                 '{\"a\": 1}'",
            ),
        ),
        (
            "a reference without quotes in a header",
            source("url: https://a/\nheaders:\n  x-k: {key}"),
        ),
        (
            "references in missing",
            source(
                "url: https://a/\nmissing: {id: '{key}', '{key}': 1, a: ['{b.id}', '{\"k\": 1}']}",
            ),
        ),
        ("a reference without quotes in missing", source("url: https://a/\nmissing: {key}")),
        ("a missing number that is none", source("url: https://a/\nmissing: .inf")),
        (
            "a cycle",
            shown(
                "domain: c\nsources:\n  a: {url: 'https://a/{b.id}'}\n  b: \
                 {url: 'https://b/{c.id}'}\n  c: {url: 'https://c/{a.id}'}\nversions: \
                 {v1: {path: '/v1/{key}'}}\n",
            ),
        ),
        ("a source that needs itself", source("url: https://a/{a.id}")),
        ("a source that does not exist", source("url: https://a/{bb.id}")),
        ("a source far from all", source("url: https://a/{elsewhere.id}")),
        ("a member of the key", source("url: https://a/{key.id}")),
        ("a stray brace and a stray percent", source("url: https://a/}x%y")),
        ("a source without a member", source("url: https://a/{b}")),
        (
            "a source named key",
            shown(
                "domain: c\nsources:\n  key: {url: https://a/}\nversions: \
                 {v1: {path: '/v1/{key}'}}\n",
            ),
        ),
        ("plain http", source("url: http://a/{key}")),
        ("another scheme", source("url: ftp://a/{key}")),
        ("a password in a url", source("url: https://user:pass@a/{key}")),
        ("a fragment", source("url: https://a/{key}#top")),
        ("a reference in the host", source("url: https://{key}.shop/")),
        ("a reference in a query name", source("url: https://a/?{key}=1")),
        ("doubled braces", source("url: https://a/{{key}}")),
        ("a space in a url", source("url: https://a/b c/ü")),
        ("a port that is none", source("url: https://a:0/")),
        ("a url without a host", source("url: https:///x")),
        ("a dot segment", source("url: https://a/../{key}")),
        ("a dot segment behind an escape", source("url: https://a/x%2F%2e%2e/{key}")),
        (
            "headers that are ours",
            source(
                "url: https://a/\nheaders:\n  Host: x\n  if-none-match: x\n  'a b': x\n  x-ok: \
                 \"a\\nb\"",
            ),
        ),
        ("an identity with a port", source("url: https://a/\nserver: spiffe://a:1/b")),
        ("an identity that is a url", source("url: https://a/\nserver: https://a/")),
        ("max pages without follow", source("url: https://a/\nmax_pages: 3")),
        ("postgres is not yet there", source("postgres: ${HOST}\nquery: select 1\nmissing: null")),
        ("mongodb without a collection", source("mongodb: ${HOST}\nheaders: {}")),
        ("no source and no version", shown("domain: c\nsources: {}\nversions: {}\n")),
        ("a version without a path", versions("v1: {shape: .}")),
        ("overlapping paths", versions("v1: {path: '/a/{key}/b'}\nv2: {path: '/a/c/{key}'}")),
        ("a path that hides openapi", versions("v1: {path: '/{key}'}")),
        ("a path with a partial key", versions("v1: {path: '/a/x-{key}'}")),
        (
            "other paths",
            versions(
                "v1: {path: a}\nv2: {path: '/a/../{key}'}\nv3: {path: '/a/{key}?x=1'}\nv4: \
                 {path: '/a b/{key}'}",
            ),
        ),
        ("a path without a key", versions("v1: {path: /a}")),
        (
            "sunset before deprecated",
            versions("v1:\n  path: /v1/{key}\n  deprecated: 2027-06-01\n  sunset: 2026-06-01"),
        ),
        ("a successor that does not exist", versions("v1:\n  path: /v1/{key}\n  successor: v2")),
        (
            "a successor far from the others",
            versions("v1:\n  path: /v1/{key}\n  successor: second\nv22: {path: '/v22/{key}'}"),
        ),
        (
            "bad names",
            shown(
                "domain: Kunde\nsources:\n  'a b': {url: 'https://a/{key}'}\n  '': \
                 {url: 'https://b/'}\nversions: {é: {path: '/v1/{key}'}}\n",
            ),
        ),
        (
            "days that are none",
            versions("v1:\n  path: /v1/{key}\n  deprecated: 2026-02-30\n  sunset: tomorrow"),
        ),
        ("a schema that is gone", versions("v1:\n  path: /v1/{key}\n  schema: nowhere.json")),
        (
            "schemas elsewhere",
            versions(
                "v1:\n  path: /v1/{key}\n  schema: ../list.json\nv2:\n  path: /v2/{key}\n  schema: \
                 /run/token",
            ),
        ),
        ("a schema that is a list", versions("v1:\n  path: /v1/{key}\n  schema: list.json")),
        ("a schema that is not json", versions("v1:\n  path: /v1/{key}\n  schema: broken.json")),
        (
            "a jq error at its line",
            versions(
                "v1:\n  path: /v1/{key}\n  shape: |\n    .a\n      | .b\n      | @ # here\n    | \
                 .c",
            ),
        ),
        (
            "a jq error in a folded block",
            versions("v1:\n  path: /v1/{key}\n  shape: >-\n\n    .a\n    | @"),
        ),
        ("a jq error in quotes", versions("v1:\n  path: /v1/{key}\n  shape: \"\\\"ä\\\" | @\"")),
        ("a jq error after a variable", top("cache: {tags: '[${HOST}, @]'}")),
        ("rounds without snapshot", top("rounds: 4")),
        ("rounds out of range", top("atomicity: snapshot\nrounds: 1")),
        ("an atomicity that is none", top("atomicity: snapshots")),
        ("an empty pattern", top("key: ''")),
        ("a pattern with an error", top("key: 'a{2,1}'")),
        ("a pattern that would escape its anchors", top("key: 'a)(b'")),
        ("a pattern that is too large", top("key: '(a{1000}){1000}'")),
    ];
    let all: Vec<_> =
        cases.iter().map(|(hazard, shown)| format!("## {hazard}\n\n{shown}")).collect();
    assert_snapshot!(all.join("\n"));
}
