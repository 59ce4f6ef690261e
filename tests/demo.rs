//! `bfb demo`: what a newcomer meets first.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use http::Method;
use serde_json::Value;

use crate::support::client::{Got, Http, To, ask, get, once};
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
    let ran = tokio::task::spawn_blocking(|| bfb().args(["demo", "--once"]).output().unwrap()).await.unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.starts_with("GET http://"), "{said}");
    assert!(said.contains("/v2/customers/42") && said.contains("200"), "{said}");
    let json = &said[said.find("\n{").unwrap()..];
    is_a_complete_customer(&serde_json::Deserializer::from_str(json).into_iter().next().unwrap().unwrap());
}

#[tokio::test]
async fn the_same_seed_shows_the_same_customer() {
    let customer = |seed: &'static str| async move {
        let run = move || bfb().args(["demo", "--once", "--seed", seed]).output().unwrap();
        let said = String::from_utf8(tokio::task::spawn_blocking(run).await.unwrap().stdout).unwrap();
        said[said.find("\n{").unwrap()..].to_owned()
    };
    let (one, again, other) = tokio::join!(customer("7"), customer("7"), customer("8"));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

/// A demo that stays up.
struct Demo {
    child: Child,
    listen: SocketAddr,
    control: SocketAddr,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    async fn start() -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--control", "0"];
        let mut child = bfb().arg("demo").args(ports).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            for line in lines.by_ref().map_while(Result::ok) {
                said += &line;
                said.push('\n');
                if line.contains("Ctrl-C") {
                    break;
                }
            }
            said
        });
        let said = said.await.unwrap();
        let (listen, control) = (address(&said, "/v2/customers/42"), address(&said, "/orders/fail"));
        Self { child, listen, control }
    }

    async fn get(&self, path: &str) -> Got {
        once(&To::Tcp(self.listen), Http::One, get(path)).await
    }

    async fn tell(&self, order: &str) {
        let told = once(&To::Tcp(self.control), Http::One, ask(Method::POST, order)).await;
        assert_eq!(told.status, 200, "{told:?}");
    }
}

/// The address in the first URL that ends so.
fn address(said: &str, path: &str) -> SocketAddr {
    let end = said.find(path).unwrap_or_else(|| panic!("no {path}: {said}"));
    let begin = said[..end].rfind("http://").unwrap() + "http://".len();
    said[begin..end].replace("localhost", "127.0.0.1").parse().unwrap()
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
        assert_eq!(got.failed("source-failed", 502), [("orders".to_owned(), "status".to_owned())]);
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
    assert_eq!(got.failed("deadline", 504), [("reviews".to_owned(), "timeout".to_owned())]);
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
        bfb().args(["demo", "--control", "0", "--admin", "127.0.0.1:0", "--listen", &address]).output().unwrap()
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(ran.status.code(), Some(69), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("hint: "), "{ran:?}");
}
