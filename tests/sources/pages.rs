//! Pages of a list: the first one, all of them, or none.

use std::num::NonZeroU32;

use bfb::domain::Pages;
use bfb::sources::{Client, Reason, SourceAnswer, Validator};

use super::{
    TestRequest, default_request, fetch, fetch_error, http, known_part, part, setup, strong,
};
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn the_first_page_is_the_part_where_the_file_says_so() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("[1]").etag("\"a\"").header("link", "</2>; rel=next")]);
    let client = setup(upstream.origin()).with(|source| http(source).pages = Pages::First).client();
    assert_eq!(part(fetch(&client, "/").await.unwrap()), known_part("[1]", strong("\"a\"")));
    assert_eq!(upstream.received().len(), 1);
}

fn follow(upstream: &Upstream) -> Client {
    let max_pages = NonZeroU32::new(3).unwrap();
    setup(upstream.origin())
        .with(|source| http(source).pages = Pages::Follow { max_pages })
        .client()
}

#[tokio::test]
async fn pages_are_followed_and_joined_as_they_are_written() {
    let upstream = Upstream::plain().await;
    upstream.answers(
        "/a/o?p=1",
        [Reply::json("[1.10, {\"a\" :2}]").etag("\"a\"").header("link", "<?p=2>; rel=next")],
    );
    let absolute = format!("<{}a/o?p=3>; rel=\"next\"", upstream.origin());
    upstream.answers("/a/o?p=2", [Reply::json(" [ ] ").header("link", &absolute)]);
    upstream.answers("/a/o?p=3", [Reply::json("[3]").header("link", "<?p=1>; rel=first")]);
    let client = follow(&upstream);
    let whole = part(fetch(&client, "/a/o?p=1").await.unwrap());
    assert_eq!(whole, known_part("[1.10, {\"a\" :2},3]", Validator::None));
    let again = TestRequest { previous_part: Some(&whole), ..default_request() };
    assert!(matches!(again.of(&client, "/a/o?p=1").await.0, Ok(SourceAnswer::Unchanged)));
    upstream.answers("/a/o?p=3", [Reply::json("[4]")]);
    assert!(matches!(again.of(&client, "/a/o?p=1").await.0, Ok(SourceAnswer::Part(_))));
}

#[tokio::test]
async fn a_page_that_was_added_behind_an_unchanged_first_one_is_found() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("[1]").etag("\"a\"")]);
    let client = follow(&upstream);
    let first = part(fetch(&client, "/").await.unwrap());
    let again = TestRequest { previous_part: Some(&first), ..default_request() };
    assert!(matches!(again.of(&client, "/").await.0, Ok(SourceAnswer::Unchanged)));
    upstream.handles("/", |request| match request.header("if-none-match") {
        "" => Reply::json("[1]").etag("\"a\"").header("link", "</2>; rel=next"),
        _ => Reply::status(304).etag("\"a\""),
    });
    upstream.answers("/2", [Reply::json("[2]")]);
    assert_eq!(part(again.of(&client, "/").await.0.unwrap()), known_part("[1,2]", Validator::None));
    assert!(upstream.received().iter().all(|request| request.header("if-none-match").is_empty()));
}

#[tokio::test]
async fn one_page_keeps_its_validator() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("[1]").etag("\"a\"")]);
    assert_eq!(
        part(fetch(&follow(&upstream), "/").await.unwrap()),
        known_part("[1]", strong("\"a\""))
    );
}

#[tokio::test]
async fn pages_that_cannot_be_had_whole_are_a_failure() {
    let large = vec![b' '; 40 * 1024];
    let linked = |json: &str, next: &str| {
        Reply::json(json.to_owned()).header("link", &format!("<{next}>; rel=next"))
    };
    for (first, second, reason, words) in [
        (linked("[1]", "/"), Reply::status(500), Reason::Incomplete, "leads back"),
        (linked("[1]", "/2"), linked("[2]", "/"), Reason::Incomplete, "page 2 leads back"),
        (
            linked("[1]", "http://elsewhere.test/2"),
            Reply::status(500),
            Reason::Incomplete,
            "another server",
        ),
        (linked("[1]", "/2"), Reply::json("{}"), Reason::Incomplete, "page 2 is no array"),
        (linked("{}", "/2"), Reply::json("[]"), Reason::Incomplete, "page 1 is no array"),
        (linked("[1]", "/2"), Reply::status(404), Reason::Status, "answered 404"),
        (
            linked(&format!("[1{}]", " ".repeat(40 * 1024)), "/2"),
            Reply::json(large),
            Reason::TooLarge,
            "allowed are 64 KiB",
        ),
    ] {
        let upstream = Upstream::plain().await;
        upstream.answers("/", [first]);
        upstream.answers("/2", [second]);
        let failure = fetch_error(&follow(&upstream), "/").await;
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.detail.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn one_page_more_than_allowed_is_a_failure() {
    let upstream = Upstream::plain().await;
    upstream.handles("/", |request| {
        Reply::json("[1]")
            .header("link", &format!("<{}1>; rel=next", request.target.replace('/', "/?")))
    });
    let failure = fetch_error(&follow(&upstream), "/").await;
    assert!(failure.detail.contains("more than the 3 pages"), "{failure}");
    assert_eq!(upstream.received().len(), 3);
}
