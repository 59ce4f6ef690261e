//! The requests that a consumer may send: methods, paths, and headers, with a meaning or without
//! one.

use http::Method;

use super::{over_one, setup_over_one};
use crate::support::client::{Connection, Endpoint, HttpVersion, ask, get, once, with_header};
use crate::support::upstream::Reply;

#[tokio::test]
async fn other_methods_are_405_with_allow_and_no_source_is_asked() {
    let (sidecar, upstream) = over_one("").await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "get"] {
        let got = sidecar
            .send(ask(Method::from_bytes(method.as_bytes()).unwrap(), "/v2/customers/42"))
            .await;
        got.problem("method-not-allowed", 405);
        let mut allowed: Vec<_> = got.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD"], "{method}");
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_query_string_is_reserved() {
    let (sidecar, upstream) = over_one("").await;
    for query in ["?", "?x", "?x=1", "?fields=id"] {
        sidecar.get(&format!("/v2/customers/42{query}")).await.problem("bad-request", 400);
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_trailing_slashes_are_no_such_path() {
    let (sidecar, upstream) = over_one("").await;
    let paths = [
        "/",
        "/v2",
        "/v2/customers",
        "/v2/customers/",
        "/v2/customers/42/",
        "/v2/customers//42",
        "//v2/customers/42",
        "/v3/customers/42",
        "/V2/customers/42",
        "/v2/customers/42/orders",
        "/v2%2Fcustomers/42",
        "/openapi.json/",
        "/metrics",
        "/readyz",
        "/status",
        "/v2/../v2/customers/42",
    ];
    for path in paths {
        sidecar.get(path).await.problem("no-such-path", 404);
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn what_other_servers_negotiate_is_ignored() {
    let (sidecar, _upstream) = over_one("").await;
    let plain = sidecar.get("/v2/customers/42").await;
    let ignored = [
        ("range", "bytes=0-3"),
        ("accept", "text/html"),
        ("accept", "application/xml;q=1, */*;q=0"),
        ("accept-encoding", "gzip, br, zstd"),
        ("accept-encoding", "identity;q=0"),
        ("accept-language", "de"),
        ("if-modified-since", "Sun, 01 Mar 2099 00:00:00 GMT"),
        ("if-range", "\"x\""),
        ("if-match", "\"x\""),
        ("expect", "anything"),
        ("te", "trailers"),
        ("cache-control", "min-fresh=3, stale-if-error=9, max-stale"),
        ("cache-control", "no-store"),
        ("cache-control", "max-age=5"),
        ("pragma", "no-cache"),
        ("bfb-after", "01-2"),
    ];
    for (name, value) in ignored {
        let got = sidecar.send(with_header(get("/v2/customers/42"), name, value)).await;
        assert_eq!((got.status, &got.body), (200, &plain.body), "{name}: {value}");
        for header in ["content-encoding", "content-range", "accept-ranges", "vary"] {
            assert!(!got.headers.contains_key(header), "{header} for {name}: {value}");
        }
    }
}

#[tokio::test]
async fn a_body_is_ignored_and_the_connection_goes_on() {
    let (sidecar, _upstream) = over_one("").await;
    let requests = concat!(
        "GET /v2/customers/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "GET /v2/customers/2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \
         chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /v2/customers/3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let answers = sidecar.raw(requests).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches(r#"{"part":{"id":42}}"#).count(), 3, "{answers}");
}

#[tokio::test]
async fn an_upgrade_to_http_2_is_ignored() {
    let (sidecar, _upstream) = over_one("").await;
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    let head = "GET /v2/customers/42 HTTP/1.1\r\nHost: localhost";
    let upgrade = format!(
        "{head}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n{settings}\r\n\r\n"
    );
    let answer = sidecar.raw(upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let socket = format!("{head}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n");
    assert!(sidecar.raw(socket).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge() {
    let (sidecar, _upstream) = over_one("").await;
    let got =
        once(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2, get("/v2/customers/42")).await;
    assert_eq!(got.version, http::Version::HTTP_2);
    got.dataset();
    assert!(!got.header("etag").is_empty() && !got.header("bfb-dataset").is_empty(), "{got:?}");
    once(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2, get("/nowhere"))
        .await
        .problem("no-such-path", 404);
}

#[tokio::test]
async fn http_1_0_is_answered() {
    let (sidecar, _upstream) = over_one("").await;
    let answer = sidecar.raw("GET /v2/customers/42 HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with(r#"{"part":{"id":42}}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn no_answer_ever_has_a_cors_header() {
    let (sidecar, _upstream) = over_one("").await;
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        for path in ["/v2/customers/42", "/openapi.json", "/nowhere"] {
            let request = with_header(ask(method.clone(), path), "origin", "https://example.com");
            let got =
                sidecar.send(with_header(request, "access-control-request-method", "GET")).await;
            let cors = got.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
            assert_eq!(cors, None, "{method} {path}: {got:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_sidecar_serves_on() {
    let (sidecar, upstream) = over_one("").await;
    let hostile: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /v2/customers/42 HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /v2/customers/42\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
          Content-Length: 2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for request in hostile {
        let got = sidecar.raw(request).await;
        let http_1 = !request.starts_with(b"PRI");
        assert_eq!(
            got.starts_with("HTTP/1.1 400 "),
            http_1,
            "{}: {got}",
            String::from_utf8_lossy(request)
        );
    }
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_refused() {
    let (setup, upstream) = setup_over_one("").await;
    let sidecar = setup.start().await;
    let many = "X-Many: 1\r\n".repeat(200);
    let large = format!("X: {}\r\n", "x".repeat(64 * 1024));
    for headers in [many, large] {
        let request = format!(
            "GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"
        );
        let got = sidecar.raw(request).await;
        assert!(got.starts_with("HTTP/1.1 431 "), "{got}");
    }
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_consumer_that_goes_away_leaves_the_sidecar_as_it_was() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let (sidecar, upstream) = over_one("").await;
        upstream.answers("/part", [Reply::never()]);
        let mut consumer = Connection::open(&Endpoint::Tcp(sidecar.listen()), http).await.unwrap();
        tokio::select! {
            answer = consumer.send(get("/v2/customers/42")) => {
                panic!("an answer out of nothing: {answer:?}")
            }
            seen = upstream.requests(1) => assert_eq!(seen.len(), 1),
        }
        drop(consumer);
        if http == HttpVersion::Http2 {
            // A reset stream cannot be mistaken for anything else: a flight that ran for it alone
            // is cancelled.
            upstream.closed(1).await;
        }
        upstream.answers("/part", [Reply::json("1")]);
        sidecar.get("/v2/customers/43").await.dataset();
    }
}
