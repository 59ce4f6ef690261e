//! The allowed values of `Host`: loopback on TCP, any on a Unix socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{over_one, setup_over_one};
use crate::support::client::{ClientResponse, Endpoint, HttpVersion, get, once, with_header};
use crate::support::sidecar::{Setup, Sidecar};

async fn ask_as(sidecar: &Sidecar, host: &str) -> ClientResponse {
    sidecar.send(with_header(get("/v2/customers/42"), "host", host)).await
}

#[tokio::test]
async fn loopback_by_any_name_is_answered() {
    let (sidecar, _upstream) = over_one("").await;
    for host in [
        "localhost",
        "LOCALHOST:7070",
        "127.0.0.1",
        "127.0.0.1:7070",
        "127.8.9.10",
        "[::1]",
        "[::1]:7070",
    ] {
        assert_eq!(ask_as(&sidecar, host).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn any_other_name_is_misdirected_and_no_source_is_asked() {
    let (sidecar, upstream) = over_one("").await;
    for host in [
        "example.com",
        "localhost.example.com",
        "10.0.0.1",
        "bfb",
        "[::2]:7070",
        "0.0.0.0",
        "127.0.0.1.nip.io",
    ] {
        ask_as(&sidecar, host).await.problem("misdirected", 421);
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn the_paths_of_others_are_misdirected_too() {
    let (sidecar, _upstream) = over_one("").await;
    for path in ["/openapi.json", "/nowhere", "/v2/customers/42?x=1"] {
        sidecar
            .send(with_header(get(path), "host", "example.com"))
            .await
            .problem("misdirected", 421);
    }
}

#[tokio::test]
async fn an_absolute_target_counts_for_more_than_host() {
    let (sidecar, _upstream) = over_one("").await;
    let ask = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    let refused = sidecar.raw(ask("http://example.com/v2/customers/42", "localhost")).await;
    assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
    let answered = sidecar.raw(ask("http://localhost/v2/customers/42", "example.com")).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
}

#[tokio::test]
async fn no_host_or_two_are_never_answered_with_data() {
    let (sidecar, upstream) = over_one("").await;
    let requests = [
        "GET /v2/customers/42 HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /v2/customers/42 HTTP/1.0\r\n\r\n",
        "GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\nConnection: \
         close\r\n\r\n",
        "GET /v2/customers/42 HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        let got = sidecar.raw(request).await;
        let status: u16 =
            got.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        assert!([400, 421].contains(&status), "{request}: {got}");
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn the_authority_of_http_2_is_looked_at_like_host() {
    let (sidecar, _upstream) = over_one("").await;
    let to = Endpoint::Tcp(sidecar.listen());
    let ask = |host: &str| with_header(get("/v2/customers/42"), "host", host);
    once(&to, HttpVersion::Http2, ask("example.com")).await.problem("misdirected", 421);
    once(&to, HttpVersion::Http2, ask("localhost:7070")).await.dataset();
}

#[tokio::test]
async fn an_allowed_host_is_answered() {
    let (setup, _upstream) = setup_over_one("").await;
    let sidecar = setup.args(&["--allow-host", "bfb.local", "--allow-host", "Other"]).start().await;
    for host in ["bfb.local", "BFB.local:7070", "other"] {
        assert_eq!(ask_as(&sidecar, host).await.status, 200, "{host}");
    }
    ask_as(&sidecar, "sub.bfb.local").await.problem("misdirected", 421);
}

#[tokio::test]
async fn on_a_unix_socket_host_is_not_looked_at() {
    let (setup, _upstream) = setup_over_one("").await;
    let path = setup.dir().join("bfb.sock");
    let sidecar = setup.arg("--listen").arg(format!("unix:{}", path.display())).start().await;
    sidecar.logged("unix:").await;
    let to = Endpoint::Unix(path.clone());
    for host in ["example.com", "localhost", "anything at all"] {
        once(&to, HttpVersion::Http1, with_header(get("/v2/customers/42"), "host", host))
            .await
            .dataset();
    }
    once(&to, HttpVersion::Http2, with_header(get("/v2/customers/42"), "host", "example.com"))
        .await
        .dataset();
    assert_eq!(mode_of(&path), 0o660);
    sidecar.get("/v2/customers/42").await.dataset();
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_admin_ports_socket_is_for_its_owner_alone_whatever_consumers_get() {
    let (setup, _upstream) = setup_over_one("").await;
    let consumers = setup.dir().join("bfb.sock");
    let admin = setup.dir().join("admin.sock");
    let address = |path: &Path| format!("unix:{}", path.display());
    let setup = setup.args(&["--socket-mode", "0666", "--listen", &address(&consumers)]);
    let (_dir, process) = setup.start_with_admin(&address(&admin));
    process.logged("admin port").await;
    assert_eq!((mode_of(&consumers), mode_of(&admin)), (0o666, 0o600));
    let status = once(&Endpoint::Unix(admin), HttpVersion::Http1, get("/status")).await;
    assert_eq!(status.status, 200);
}

#[tokio::test]
async fn a_socket_that_a_crash_left_behind_is_replaced_and_a_file_is_not() {
    let (setup, _upstream) = setup_over_one("").await;
    let path = setup.dir().join("bfb.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let flags = [format!("unix:{}", path.display()), "--socket-mode".to_owned(), "0600".to_owned()];
    let sidecar = flags.iter().fold(setup.arg("--listen"), Setup::arg).start().await;
    sidecar.logged("unix:").await;
    once(&Endpoint::Unix(path.clone()), HttpVersion::Http1, get("/v2/customers/42"))
        .await
        .dataset();
    assert_eq!(mode_of(&path), 0o600);
    let (setup, _upstream) = setup_over_one("").await;
    let file = setup.dir().join("precious");
    std::fs::write(&file, "data").unwrap();
    let refused = setup.arg("--listen").arg(format!("unix:{}", file.display())).refused().await;
    assert_eq!(refused.status.code(), Some(69));
}

#[tokio::test]
async fn the_ipv6_loopback_is_answered_where_there_is_one() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let (setup, _upstream) = setup_over_one("").await;
    let sidecar = setup.args(&["--listen", "[::1]:0"]).start().await;
    let address = sidecar.lines().iter().find_map(|line| {
        let address =
            line["address"].as_str().filter(|_| line["message"] == "answering consumers")?;
        address.starts_with("[::1]").then(|| address.parse::<SocketAddr>().unwrap())
    });
    once(
        &Endpoint::Tcp(address.unwrap()),
        HttpVersion::Http1,
        with_header(get("/v2/customers/42"), "host", "[::1]"),
    )
    .await
    .dataset();
}

#[tokio::test]
async fn an_address_that_others_reach_needs_to_be_allowed() {
    let (setup, _upstream) = setup_over_one("").await;
    let refused = setup.args(&["--listen", "0.0.0.0:0"]).refused().await;
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--allow-remote"), "{refused:?}");
    let (setup, _upstream) = setup_over_one("").await;
    let sidecar = setup.args(&["--listen", "0.0.0.0:0", "--allow-remote"]).start().await;
    // The rule for `Host` applies all the same.
    ask_as(&sidecar, "10.0.0.1").await.problem("misdirected", 421);
}
