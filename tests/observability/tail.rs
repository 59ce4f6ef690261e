//! `bfb tail`: a line an event, until the sidecar ends (69) or Ctrl-C does (0).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{PATH, invalidate, single_sidecar};
use crate::cache::{counting, file};
use crate::commands::run;
use crate::support::client::TEST_TIMEOUT;
use crate::support::sidecar::{Sidecar, bfb};
use crate::support::upstream::{Reply, Upstream};

/// A running `bfb tail`.
struct Tail {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tail {
    /// Starts it, and returns once it listens.
    async fn of(admin: &str, args: &[&str]) -> Self {
        let mut command = bfb();
        command.args(["tail", "--admin", admin]).args(args).env("TZ", "UTC");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut tail = Self { child, lines };
        let first = tail.line().await;
        assert!(first.contains("listening"), "{first}");
        tail
    }

    async fn beside(sidecar: &Sidecar, args: &[&str]) -> Self {
        Self::of(&sidecar.admin_address().to_string(), args).await
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(TEST_TIMEOUT, self.lines.recv()).await;
        line.expect("a line in time").expect("it ended")
    }

    async fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            (self.child.wait().unwrap().code(), text)
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn a_line_says_when_whose_and_what() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    upstream.answers("/42", [Reply::json("1"), Reply::status(500)]);
    let mut plain = Tail::beside(&sidecar, &[]).await;
    let mut keys = Tail::beside(&sidecar, &["--keys"]).await;
    sidecar.get(PATH).await.dataset();
    invalidate(&sidecar, "keys", &json!(["42"])).await;
    sidecar.get(PATH).await.problem("source-failed", 502);
    for (tail, key, named) in [(&mut plain, "", "1 key"), (&mut keys, "key 42, ", "key 42")] {
        let [filled, invalidated, failed] =
            [tail.line().await, tail.line().await, tail.line().await];
        let (time, rest) = filled.split_once(' ').unwrap();
        assert!(
            time.len() == 12 && time.matches(':').count() == 2 && time.contains('.'),
            "{filled}"
        );
        assert!(rest.starts_with(&format!("customer filled       {key}10 B in ")), "{filled}");
        assert!(
            invalidated.ends_with(&format!(" customer invalidated  {named}, seq 1")),
            "{invalidated}"
        );
        assert!(
            failed.contains(&format!(
                "failed       {key}part: status: answered 500, expected 200, in "
            )),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn json_is_one_object_a_line() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    counting(&upstream, "/42");
    let mut tail = Tail::beside(&sidecar, &["--format", "json", "--domain", "customer"]).await;
    sidecar.get(PATH).await.dataset();
    let event: Value = serde_json::from_str(&tail.line().await).unwrap();
    assert_eq!(
        (&event["event"], &event["domain"], &event["key"]),
        (&json!("filled"), &json!("customer"), &Value::Null)
    );
}

#[tokio::test]
async fn it_ends_with_69_when_the_sidecar_does_and_says_how() {
    for (signal, says) in [("TERM", "drains"), ("KILL", "is gone")] {
        let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
        let tail = Tail::beside(&sidecar, &[]).await;
        sidecar.signal(signal);
        let (code, stderr) = tail.ended().await;
        assert_eq!(code, Some(69), "{stderr}");
        assert!(
            stderr.contains(says) && stderr.contains(&sidecar.admin_address().to_string()),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn ctrl_c_ends_it_with_zero() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    let tail = Tail::beside(&sidecar, &[]).await;
    let pid = tail.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert_eq!(tail.ended().await, (Some(0), String::new()));
}

#[tokio::test]
async fn what_is_not_there_is_69_and_an_unknown_domain_64() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    run(&["tail", "--admin", "unix:/no/such/socket"]).await.with_code(69).says("/no/such/socket");
    let admin = sidecar.admin_address().to_string();
    run(&["tail", "--admin", &admin, "--domain", "custmer"]).await.with_code(64).says("`customer`");
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_reads_along_over_a_unix_socket_too() {
    let upstream = Upstream::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let domain = dir.path().join("customer.yaml");
    std::fs::write(&domain, file(&upstream, "{ttl: 60s}").text()).unwrap();
    let socket = format!("unix:{}", dir.path().join("admin.sock").display());
    let mut command = bfb();
    command.arg("serve").arg(&domain).args([
        "--insecure-upstreams",
        "--memory",
        "1MiB",
        "--listen",
        "127.0.0.1:0",
    ]);
    let mut sidecar =
        Ends(command.args(["--admin", &socket]).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(sidecar.0.stderr.take().unwrap()).lines();
    let (up, is_up) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = up.send(lines.any(|line| line.is_ok_and(|line| line.contains("admin port"))));
        lines.for_each(drop);
    });
    assert!(is_up.await.unwrap());
    let mut tail = Tail::of(&socket, &[]).await;
    run(&["invalidate", "customer", "--all", "--admin", &socket]).await.with_code(0);
    assert!(tail.line().await.ends_with("invalidated  all, seq 1"));
    drop(sidecar);
    assert_eq!(tail.ended().await.0, Some(69));
}
