//! The meaning of an answer: a part, the known part again, a missing thing, or a failure with its
//! reason.

use bfb::domain::Missing;
use bfb::sources::{Reason, SourceAnswer, Validator};
use http::HeaderValue;

use super::{TestRequest, default_request, fetch, fetch_error, known_part, part, setup, strong};
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn a_part_is_its_bytes_and_its_validator() {
    let upstream = Upstream::plain().await;
    upstream.answers("/strong", [Reply::json(" {\"total\": 1.10}\n").etag("\"7\"")]);
    upstream.answers("/weak", [Reply::json("[]").etag("W/\"7\"")]);
    upstream.answers(
        "/none",
        [Reply::json("null").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
    );
    let client = setup(upstream.origin()).client();
    assert_eq!(
        part(fetch(&client, "/strong").await.unwrap()),
        known_part("{\"total\": 1.10}", strong("\"7\""))
    );
    let weak = Validator::Weak(HeaderValue::from_static("W/\"7\""));
    assert_eq!(part(fetch(&client, "/weak").await.unwrap()), known_part("[]", weak));
    assert_eq!(part(fetch(&client, "/none").await.unwrap()), known_part("null", Validator::None));
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_part_and_changes_nothing_about_it() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("\u{feff}{\"a\": 1}"), Reply::json("{\"a\": 1}")]);
    upstream.answers("/wrong", [Reply::json("\u{feff}[secret]")]);
    let client = setup(upstream.origin()).client();
    let first = part(fetch(&client, "/").await.unwrap());
    assert_eq!(first, known_part("{\"a\": 1}", Validator::None));
    let again = TestRequest { previous_part: Some(&first), ..default_request() };
    assert!(matches!(again.of(&client, "/").await.0, Ok(SourceAnswer::Unchanged)));
    let failure = fetch_error(&client, "/wrong").await;
    assert!(failure.detail.contains("byte order mark"), "{failure}");
}

#[tokio::test]
async fn anything_but_a_200_with_json_fails_with_its_reason() {
    let upstream = Upstream::plain().await;
    let bomb = Reply::json(vec![0_u8; 1024]).header("content-encoding", "gzip");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let next =
        Reply::json("[1]").header("link", "</b>; rel=prev, </c>; title=x; rel=\"last Next\"");
    for (reply, reason, words) in [
        (Reply::status(503), Reason::Status, "answered 503, expected 200"),
        (Reply::status(404), Reason::Status, "answered 404"),
        (Reply::status(304), Reason::Status, "without a condition"),
        (Reply::status(204), Reason::Incomplete, "answered 204"),
        (Reply::json("[1]").header("link", "<"), Reason::Incomplete, "cannot be read"),
        (
            Reply::status(206).header("content-range", "bytes 0-1/9"),
            Reason::Incomplete,
            "answered 206",
        ),
        (Reply::status(302).header("location", "/elsewhere"), Reason::Incomplete, "never followed"),
        (next, Reason::Incomplete, "next page"),
        (Reply::json("<p>secret</p>").typed("text/html"), Reason::NotJson, "`text/html`"),
        (Reply::json("{\"a\":secret}"), Reason::NotJson, "line 1 column 6"),
        (Reply::json(b"\"\xff\"".to_vec()), Reason::NotJson, "UTF-8"),
        (Reply::json(""), Reason::NotJson, "not JSON"),
        (Reply::json(deep), Reason::NotJson, "nested deeper than 128 levels"),
        (bomb, Reason::NotJson, "`gzip`"),
        (Reply::json("[1]").typed("application/json; charset=latin1"), Reason::NotJson, "charset"),
        (
            Reply::json(vec![b' '; 64 * 1024 + 1]),
            Reason::TooLarge,
            "announced 65537 bytes, allowed are 64 KiB",
        ),
        (Reply::json("").endless(), Reason::TooLarge, "so far, allowed are 64 KiB"),
        (Reply::json("1").header("x-long", &"x".repeat(40_000)), Reason::TooLarge, "headers"),
        (Reply::json("1").header("x-long", &"x".repeat(100_000)), Reason::TooLarge, "headers"),
        (Reply::json("[1,").cut(), Reason::Incomplete, "ended early, after 3 bytes"),
        (
            Reply::json("[1,").header("content-length", "9").cut(),
            Reason::Incomplete,
            "ended early, after 3 bytes",
        ),
    ] {
        let client = setup(upstream.origin()).client();
        upstream.answers("/secret", [reply]);
        let failure = fetch_error(&client, "/secret").await;
        assert_eq!(failure.reason, reason, "{words}: {failure}");
        assert!(failure.detail.contains(words), "{words}: {failure}");
        assert!(!failure.detail.contains("secret"), "{failure}");
        assert_eq!(&*failure.source_name, "orders");
    }
    assert!(
        upstream.received().iter().all(|request| request.target == "/secret"),
        "nothing was followed"
    );
}

#[tokio::test]
async fn what_is_no_http_is_said_to_be_none() {
    for (bytes, reason) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), Reason::Status),
        (String::new(), Reason::Status),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[1,"
                .into(),
            Reason::Incomplete,
        ),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1_000)), Reason::TooLarge),
    ] {
        let upstream = Upstream::raw(bytes.clone()).await;
        let client = setup(upstream.origin()).client();
        let failure = fetch_error(&client, "/").await;
        assert_eq!(failure.reason, reason, "{bytes:.40}: {failure}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_connect_failure() {
    let closed_port = Upstream::plain().await.origin();
    let client = setup(closed_port).with(|source| source.retries = 2).client();
    let (answer, attempts) = default_request().of(&client, "/").await;
    let failure = answer.unwrap_err();
    assert_eq!((failure.reason, failure.retry, attempts.len()), (Reason::Connect, true, 3));
}

#[tokio::test]
async fn an_https_source_without_an_identity_is_not_asked() {
    let upstream = Upstream::plain().await;
    let origin = upstream.origin().to_string().replace("http://", "https://");
    let failure = fetch_error(&setup(origin.parse().unwrap()).client(), "/").await;
    assert_eq!((failure.reason, upstream.connections()), (Reason::Tls, 0));
}

#[tokio::test]
async fn a_404_means_what_the_file_says() {
    let upstream = Upstream::plain().await;
    let nothing =
        setup(upstream.origin()).with(|source| source.missing = Missing::NotFound).client();
    assert!(matches!(fetch(&nothing, "/").await, Ok(SourceAnswer::NotFound)));
    let value = setup(upstream.origin())
        .with(|source| source.missing = Missing::Value("[]".into()))
        .client();
    let empty = part(fetch(&value, "/").await.unwrap());
    assert_eq!(empty, known_part("[]", Validator::None));
    let again = TestRequest { previous_part: Some(&empty), ..default_request() };
    assert!(matches!(again.of(&value, "/").await.0, Ok(SourceAnswer::Unchanged)));
    let other = known_part("[1]", strong("\"1\""));
    let again = TestRequest { previous_part: Some(&other), ..default_request() };
    assert_eq!(part(again.of(&value, "/").await.0.unwrap()), empty);
}

#[tokio::test]
async fn a_strong_tag_is_asked_for_and_a_304_confirms_it() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("1").etag("\"a\"")]);
    let client = setup(upstream.origin()).client();
    let part = part(fetch(&client, "/").await.unwrap());
    let (answer, attempts) =
        TestRequest { previous_part: Some(&part), ..default_request() }.of(&client, "/").await;
    assert!(matches!(answer, Ok(SourceAnswer::Unchanged)));
    assert_eq!(attempts[0].status, Some(304));
    assert_eq!(upstream.received()[1].header("if-none-match"), "\"a\"");
}

#[tokio::test]
async fn a_weak_tag_is_never_asked_for_and_the_bytes_decide() {
    let upstream = Upstream::plain().await;
    upstream.answers(
        "/",
        [
            Reply::json("1").etag("W/\"a\""),
            Reply::json("1").etag("W/\"b\""),
            Reply::json("2").etag("W/\"a\""),
        ],
    );
    let client = setup(upstream.origin()).client();
    let first = part(fetch(&client, "/").await.unwrap());
    let again = TestRequest { previous_part: Some(&first), ..default_request() };
    assert!(matches!(again.of(&client, "/").await.0, Ok(SourceAnswer::Unchanged)));
    assert!(matches!(again.of(&client, "/").await.0, Ok(SourceAnswer::Part(_))));
    assert!(upstream.received().iter().all(|request| request.header("if-none-match").is_empty()));
}

#[tokio::test]
async fn a_200_is_unchanged_only_if_bytes_and_strong_tags_agree() {
    let upstream = Upstream::plain().await;
    let client = setup(upstream.origin()).client();
    let first = known_part("1", strong("\"a\""));
    for (reply, unchanged) in [
        (Reply::json("1"), true),
        (Reply::json("1").etag("\"b\""), false),
        (Reply::json("2"), false),
        (Reply::json("1 ").etag("W/\"b\""), true),
    ] {
        upstream.answers("/", [reply]);
        let answer = TestRequest { previous_part: Some(&first), ..default_request() }
            .of(&client, "/")
            .await
            .0;
        assert_eq!(matches!(answer, Ok(SourceAnswer::Unchanged)), unchanged, "{answer:?}");
    }
}

#[tokio::test]
async fn a_304_for_another_tag_is_asked_again_without_a_condition() {
    let upstream = Upstream::plain().await;
    upstream.handles("/", |request| match request.header("if-none-match") {
        "" => Reply::json("2").etag("\"b\""),
        _ => Reply::status(304).etag("\"b\""),
    });
    let client = setup(upstream.origin()).client();
    let first = known_part("1", strong("\"a\""));
    let (answer, attempts) =
        TestRequest { previous_part: Some(&first), ..default_request() }.of(&client, "/").await;
    assert_eq!(part(answer.unwrap()), known_part("2", strong("\"b\"")));
    assert_eq!(attempts.len(), 2);
}
