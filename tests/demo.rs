//! `bfb demo`, the first command that a newcomer runs.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use http::Method;
use serde_json::Value;

use crate::support::client::{ClientResponse, Endpoint, HttpVersion, TEST_TIMEOUT, ask, get, once};
use crate::support::redis::Redis;
use crate::support::sidecar::bfb;

const SOURCES: [&str; 4] = ["profile", "favorites", "reviews", "orders"];

fn is_a_complete_customer(customer: &Value) {
    for name in SOURCES {
        assert!(!customer[name].is_null(), "no {name}: {customer}");
    }
    assert_eq!(customer.as_object().unwrap().len(), SOURCES.len());
    assert!(!customer["orders"].as_array().unwrap().is_empty(), "{customer}");
}

#[tokio::test]
async fn once_prints_a_complete_customer_and_ends_with_zero() {
    let ran = tokio::task::spawn_blocking(|| bfb().args(["demo", "--once"]).output().unwrap())
        .await
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.starts_with("GET http://"), "{text}");
    assert!(text.contains("/v2/customers/42") && text.contains("200"), "{text}");
    let json = &text[text.find("\n{").unwrap()..];
    is_a_complete_customer(
        &serde_json::Deserializer::from_str(json).into_iter().next().unwrap().unwrap(),
    );
}

#[tokio::test]
async fn the_same_seed_shows_the_same_customer() {
    let customer = |seed: &'static str| async move {
        let run = move || bfb().args(["demo", "--once", "--seed", seed]).output().unwrap();
        let text =
            String::from_utf8(tokio::task::spawn_blocking(run).await.unwrap().stdout).unwrap();
        text[text.find("\n{").unwrap()..].to_owned()
    };
    let (one, again, other) = tokio::join!(customer("7"), customer("7"), customer("8"));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

/// The program with a `PATH`: a demo of a fleet starts a `redis-server`.
fn with_path() -> Command {
    let mut command = bfb();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

async fn once_with(mut command: Command, args: &[&str]) -> Output {
    command.args(["demo", "--once"]).args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A demo that keeps running.
struct Demo {
    child: Child,
    listen: SocketAddr,
    control: SocketAddr,
    output: String,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(args: &[&str]) -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--control", "0"];
        let mut command = with_path();
        let mut child = command
            .arg("demo")
            .args(ports)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let output = tokio::task::spawn_blocking(move || {
            let mut output = String::new();
            for line in lines.by_ref().map_while(Result::ok) {
                output += &line;
                output.push('\n');
                if line.contains("Ctrl-C") {
                    break;
                }
            }
            output
        });
        let output = output.await.unwrap();
        let changes = if args.contains(&"--fleet") { "/favorites/change" } else { "/orders/fail" };
        let listen = address(&output, "/v2/customers/42");
        let control = address(&output, changes);
        Self { child, listen, control, output }
    }

    async fn get(&self, path: &str) -> ClientResponse {
        once(&Endpoint::Tcp(self.listen), HttpVersion::Http1, get(path)).await
    }

    async fn tell(&self, order: &str) {
        let answer =
            once(&Endpoint::Tcp(self.control), HttpVersion::Http1, ask(Method::POST, order)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// The address in the first URL that ends so.
fn address(output: &str, path: &str) -> SocketAddr {
    let end = output.find(path).unwrap_or_else(|| panic!("no {path}: {output}"));
    let begin = output[..end].rfind("http://").unwrap() + "http://".len();
    output[begin..end].replace("localhost", "127.0.0.1").parse().unwrap()
}

#[tokio::test]
async fn an_upstream_told_to_fail_is_one_problem_without_data_and_recovers() {
    let demo = Demo::start().await;
    let whole = demo.get("/v2/customers/42").await;
    is_a_complete_customer(&whole.dataset());
    let name = whole.dataset()["profile"]["name"].as_str().unwrap().to_owned();
    for status in [503, 404] {
        demo.tell(&format!("/orders/fail?status={status}")).await;
        let got = demo.get("/v2/customers/42").await;
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("orders".to_owned(), "status".to_owned())]
        );
        assert!(!got.text().contains(&name), "{got:?}");
        demo.tell("/orders/recover").await;
        is_a_complete_customer(&demo.get("/v2/customers/42").await.dataset());
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_is_a_problem_that_names_it() {
    let demo = Demo::start().await;
    demo.tell("/reviews/hang").await;
    let got = demo.get("/v2/customers/42").await;
    assert_eq!(got.failed_sources("deadline", 504), [("reviews".to_owned(), "timeout".to_owned())]);
    demo.tell("/reviews/recover").await;
    is_a_complete_customer(&demo.get("/v2/customers/42").await.dataset());
}

#[tokio::test]
async fn a_change_shows_in_the_next_answer_and_v1_is_deprecated() {
    let demo = Demo::start().await;
    let before = demo.get("/v2/customers/42").await;
    demo.tell("/favorites/change/42").await;
    let after = demo.get("/v2/customers/42").await;
    assert_ne!(before.dataset()["favorites"], after.dataset()["favorites"]);
    assert_eq!(before.dataset()["profile"], after.dataset()["profile"]);
    let old = demo.get("/v1/customers/42").await;
    old.dataset();
    assert_eq!(old.header("deprecation"), "@1780272000");
    demo.get("/v2/customers/1001").await.problem("not-found", 404);
    demo.get("/v2/customers/x").await.problem("bad-key", 400);
}

#[tokio::test]
async fn a_signal_ends_the_demo_with_zero() {
    for signal in ["INT", "TERM"] {
        let mut demo = Demo::start().await;
        let pid = demo.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || demo.child.wait().unwrap()).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_69_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = move || {
        bfb()
            .args(["demo", "--control", "0", "--admin", "127.0.0.1:0", "--listen", &address])
            .output()
            .unwrap()
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(ran.status.code(), Some(69), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("hint: "), "{ran:?}");
}

#[tokio::test]
async fn a_fleet_shows_an_invalidation_reaching_all_of_it_and_takes_its_redis_along() {
    let ran = once_with(with_path(), &["--fleet", "3"]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let output = String::from_utf8(ran.stdout).unwrap();
    assert!(output.starts_with("3 sidecars on one Redis (a private one, "), "{output}");
    assert!(output.contains("acknowledged by all 3 sidecars in "), "{output}");
    let (before, after) = output.split_once("acknowledged by").unwrap();
    let etags = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| {
                Some(line.split_once("ETag ")?.1.split_whitespace().next()?.to_owned())
            })
            .collect()
    };
    let old = etags(before);
    let new = etags(after);
    assert_eq!((old.len(), new.len()), (6, 3), "{output}");
    assert!(
        old.iter().all(|etag| *etag == old[0]) && new.iter().all(|etag| *etag == new[0]),
        "{output}"
    );
    assert_ne!(old[0], new[0], "{output}");
    assert!(before.matches("detail=memory").count() >= 3, "{output}");
    assert!(!runs(&socket(&output)), "its redis runs on");
}

#[tokio::test]
async fn a_fleet_on_a_redis_that_is_given_leaves_it_running() {
    let redis = Redis::start();
    let ran = once_with(bfb(), &["--fleet", "2", "--redis", &redis.url()]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(
        String::from_utf8_lossy(&ran.stdout).contains("acknowledged by all 2 sidecars"),
        "{ran:?}"
    );
    assert_eq!(redis.command::<i64>(&["EXISTS", "bfb:{demo/customer}:meta"]), 1, "it was this one");
}

#[tokio::test]
async fn a_fleet_needs_a_redis_and_says_how_to_get_one() {
    // Without a `PATH` no `redis-server` is found.
    let ran = once_with(bfb(), &["--fleet", "2"]).await;
    assert_eq!(ran.status.code(), Some(69), "{ran:?}");
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains("hint: `apt-get install redis-server`"),
        "{ran:?}"
    );
    let ran = once_with(bfb(), &["--fleet", "1", "--redis", "redis://127.0.0.1:1"]).await;
    assert_eq!(ran.status.code(), Some(69), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("hint: `--redis`"), "{ran:?}");
    for wrong in [&["--fleet", "0"][..], &["--fleet", "21"], &["--redis", "redis://localhost"]] {
        assert_eq!(once_with(bfb(), wrong).await.status.code(), Some(64), "{wrong:?}");
    }
}

#[tokio::test]
async fn however_a_fleet_ends_its_redis_ends_with_it() {
    for (signal, code) in [("INT", Some(0)), ("KILL", None)] {
        let mut demo = Demo::start_with(&["--fleet", "2"]).await;
        let socket = socket(&demo.output);
        assert!(runs(&socket), "{}", demo.output);
        is_a_complete_customer(&demo.get("/v2/customers/42").await.dataset());
        let pid = demo.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || demo.child.wait().unwrap()).await.unwrap();
        assert_eq!(ended.code(), code, "{signal}");
        let ending = async {
            while runs(&socket) {
                tokio::task::yield_now().await;
            }
        };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, ending).await.is_ok(),
            "after {signal} its redis runs on"
        );
        // A killed process removes nothing.
        let _ = std::fs::remove_dir_all(std::path::Path::new(&socket).parent().unwrap());
    }
}

/// The socket of the demo's own Redis.
fn socket(output: &str) -> String {
    let begin =
        output.find("unix://").unwrap_or_else(|| panic!("no socket: {output}")) + "unix://".len();
    output[begin..].split(')').next().unwrap().to_owned()
}

/// Whether a process has this socket in its command line, as a `redis-server` does.
fn runs(socket: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut lines =
        processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(socket))
}
