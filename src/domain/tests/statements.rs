//! Statements of PostgreSQL sources: which references are found, and what is refused.

use super::*;

/// A file with a PostgreSQL source of this statement.
fn file(query: &str) -> String {
    let query = query.replace('\n', "\n      ");
    format!(
        "domain: c\nsources:\n  profile: {{url: 'https://a/{{key}}'}}\n  b:\n    postgres: \
         postgres://u:s3cret@db.shop/shop\n    query: |\n      {query}\nversions:\n  v1: {{path: \
         '/v1/{{key}}'}}\n"
    )
}

fn statement(query: &str) -> PostgresQuery {
    let domain = good(&file(query));
    let SourceKind::Postgres(postgres) = &domain.sources[1].kind else { panic!() };
    postgres.query.clone()
}

/// The messages of a statement's problems, each with the text at its place.
fn problems(query: &str) -> Vec<(String, String)> {
    let text = file(query);
    let problems = parse(Path::new("customer.yaml"), &text, world()).unwrap_err();
    problems.iter().map(|it| (it.message.clone(), text[it.span.clone()].to_owned())).collect()
}

fn part(path: &[&str]) -> Reference {
    let path = path.iter().map(ToString::to_string).collect();
    Reference::Part { source: SourceIndex(0), path }
}

#[test]
fn a_reference_is_a_parameter_wherever_it_is_code() {
    let found = statement("select * from t where a={key}and b = {profile.x.id}::int\nor c = {key}");
    assert_eq!(&*found.text, "select * from t where a= $1 and b =  $2 ::int\nor c =  $3");
    assert_eq!(found.parameters, [Reference::Key, part(&["x", "id"]), Reference::Key]);
}

#[test]
fn what_is_no_code_is_left_as_it_is() {
    for text in [
        "select '{\"a\": 1}', '{1,2}', 'it''s {x}', E'\\'{', \"a {q}\", $$ {c} $$, $t$ $$ {d} $t$",
        "select 1 -- {a}; '\n, 2 /* {q} ' /* ; */ ( */",
        "with x as (select 1) select * from x",
        "values (1, 'a'), (2, 'b');",
        "(select 1) union (select 2)",
        "select update, a$1b, 1e5, U&'d\\0061t', B'01' from t where (delete) for update",
        "select 1 where (update is null) and (delete) is null",
        "select E'a'\n  'b\\'c {x}', 'a'\n 'b\\'",
        "SELECT E'\\\\', 'a\\' , ('b')",
    ] {
        let expected = text.trim_end_matches(';');
        assert_eq!(&*statement(text).text, expected, "{text}");
    }
}

#[test]
fn whatever_else_looks_like_a_reference_is_a_problem_at_its_place() {
    for (query, message, place) in [
        ("select '{key}'", "a reference cannot stand in quotes", "{key}"),
        ("select \"a{profile.id}\"", "a reference cannot stand in quotes", "{profile.id}"),
        ("select E'\\'{key}'", "a reference cannot stand in quotes", "{key}"),
        ("select $a$ {key} $a$", "a reference cannot stand in a dollar quote", "{key}"),
        ("select 1 -- {key}", "a reference cannot stand in a comment", "{key}"),
        ("select /* /* */ {key} */ 1", "a reference cannot stand in a comment", "{key}"),
        ("select {profil.id}", "there is no source `profil`", "{profil.id}"),
        ("select {profile}", "a source's whole part is no scalar", "{profile}"),
        ("select {key", "`{` is not closed", "{"),
        ("select $1", "a parameter has no value", "$1"),
        ("select }", "this sign means nothing here", "}"),
    ] {
        let found = problems(query);
        assert_eq!(found, [(message.to_owned(), place.to_owned())], "{query}");
    }
}

#[test]
fn only_one_statement_that_reads_is_taken() {
    for (query, message, place) in [
        ("select 1; drop table t", "the statement ends before its text does", ";"),
        ("delete from t", "the statement is none that reads", "delete"),
        ("explain select 1", "the statement is none that reads", "explain"),
        (
            "with x as (delete from t returning *) select * from x",
            "this statement writes",
            "delete",
        ),
        ("with x as ( /* a */ INSERT into t select 1) select 1", "this statement writes", "INSERT"),
        ("select 1) as x; drop table t; --", "this parenthesis closes none", ")"),
        ("select (1", "this parenthesis is not closed", "("),
        ("with a as (select 1) delete from t where id = 1", "this statement writes", "delete"),
        ("with a as (update t set x = 1 returning 1) select 1", "this statement writes", "update"),
        ("select * into t from u", "this statement writes", "into"),
        ("select 10$1", "a parameter has no value", "$1"),
        ("select 'a", "this quote is not closed", "'"),
        ("select 'it''s", "this quote is not closed", "'"),
        ("select $a$ $b$", "this dollar quote is not closed", "$a$"),
        ("select /* /* */", "this comment is not closed", "/*"),
        ("-- nothing", "there is no statement", "-- nothing"),
    ] {
        let found = problems(query);
        assert_eq!(found[0], (message.to_owned(), place.to_owned()), "{query}: {found:?}");
    }
}

#[test]
fn the_sources_of_a_statement_are_needed_before_it() {
    let domain = good(&file("select {profile.id}"));
    assert_eq!(domain.sources[1].needs, [SourceIndex(0)]);
    let text = file("select {b.id}");
    assert!(shown(&text).contains("wait for each other: `b -> b`"), "{}", shown(&text));
}

#[test]
fn the_password_is_in_no_plan_and_in_no_text() {
    let one = good(&file("select 1"));
    let other = good(&file("select 1").replace("s3cret", "n3w"));
    assert_eq!(one.plan, other.plan);
    assert_ne!(one.sources, other.sources);
    assert!(!format!("{one:?}").contains("s3cret"));
    assert_eq!(one.sources[1].address(), "postgres://db.shop:5432/shop");
    for (from, to) in [("u:", "v:"), ("/shop", "/other"), ("db.shop", "db2.shop")] {
        assert_ne!(one.plan, good(&file("select 1").replacen(from, to, 1)).plan, "{from}");
    }
}

#[test]
fn a_url_is_read_with_all_that_can_stand_in_it() {
    let database = |url: &str| {
        let text = file("select 1").replace("postgres://u:s3cret@db.shop/shop", url);
        let domain = good(&text);
        let SourceKind::Postgres(postgres) = &domain.sources[1].kind else { panic!() };
        postgres.database.clone()
    };
    let found = database("postgresql://a%40b:p%3A%2F@[2001:DB8::1]:6432/my%20db?sslmode=require");
    assert_eq!((&*found.user, &*found.name), ("a@b", "my db"));
    assert_eq!(found.password, Some(Password("p:/".into())));
    assert_eq!((&*found.host, found.port), ("2001:db8::1", 6432));
    assert_eq!(found.server, ServerIdentity::of_host("2001:db8::1"));
    assert_eq!(found.to_string(), "postgres://[2001:db8::1]:6432/my db");
}

#[test]
fn the_problems_of_a_database_source_say_what_to_do() {
    let with = |from: &str, to: &str| shown(&file("select 1").replace(from, to));
    insta::assert_snapshot!(
        [
            with("u:s3cret@", ""),
            with("/shop\n", "/\n"),
            with("/shop\n", "/shop?sslmode=prefer&pool=4\n"),
            with("/shop\n", "/shop?sslmode=disable\n"),
            with("db.shop", "db.shop,db2.shop"),
            with("s3cret@", "s3c@et/x@"),
            with("    query: |\n      select 1\n", "    headers: {a: b}\n"),
            with("    query:", "    mutual: unproven\n    rows: some\n    query:"),
            with("    query:", "    url: https://a/\n    query:"),
            source("url: https://a/\nmutual: no\nrows: one"),
            source("query: select 1"),
        ]
        .join("\n")
    );
}
