//! Untrusted text cannot control a terminal: control characters and marks of writing direction are
//! shown as escapes, and output that does not go to a terminal stays as it is.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{run, run_with};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// An override of writing direction, a mark of it, and a control sequence in one character.
const EVIL: &str = "\u{202e}\u{200f}\u{9b}";

struct World {
    sidecar: Sidecar,
    _upstream: Upstream,
    data: String,
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let upstream = mutual(&pki).await;
        let data = format!("{{\"name{EVIL}\":\"{EVIL}\",\"price\":1.10}}");
        let part = data.clone();
        upstream.handles("/part", move |_| Reply::json(part.clone()));
        let domain = DomainFile::of("customer")
            .source("part", &upstream, "/part", &[])
            .version("v1", &["path: /v1/customers/{key}", "shape: .part"]);
        let setup = Setup::of(&[&domain]).identity(&pki);
        let other = DomainFile::of("other").source("part", &upstream, "/part", &[]);
        std::fs::write(setup.dir().join(format!("domains/{EVIL}.yaml")), other.text()).unwrap();
        Self { sidecar: setup.start().await, _upstream: upstream, data }
    }

    fn flags(&self) -> [String; 4] {
        let (listen, admin) =
            (self.sidecar.listen().to_string(), self.sidecar.admin_address().to_string());
        ["--listen".to_owned(), listen, "--admin".to_owned(), admin]
    }

    fn get(&self, args: &[&'static str]) -> Vec<String> {
        ["get", "customer", "42"]
            .iter()
            .chain(args)
            .map(|arg| (*arg).to_owned())
            .chain(self.flags())
            .collect()
    }
}

async fn at_terminal(args: &[String]) -> String {
    at_terminal_with(0, args).await
}

/// The output of the program on a terminal, which `script` (util-linux) provides; the program must
/// end with this exit code.
async fn at_terminal_with(code: i32, args: &[String]) -> String {
    let quoted = args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("{} {quoted}", env!("CARGO_BIN_EXE_bfb")), "/dev/null"])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn as_strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[track_caller]
fn is_shown(text: &str) {
    let steers = text.chars().find(|c| EVIL.contains(*c));
    assert_eq!(steers, None, "{text:?}");
}

#[tokio::test]
async fn data_is_escaped_at_a_terminal_as_json_escapes_it_and_goes_elsewhere_as_it_is() {
    let world = World::new().await;
    let data: Value = serde_json::from_str(&world.data).unwrap();
    let piped = run(&as_strs(&world.get(&[]))).await.with_code(0);
    assert_eq!(piped.out, format!("{}\n", world.data), "byte for byte");
    let shown = at_terminal(&world.get(&[])).await;
    is_shown(&shown);
    assert!(shown.contains(r#""name\u202e\u200f\u009b": "\u202e\u200f\u009b""#), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), data, "the same JSON");

    let whole = at_terminal(&world.get(&["--format", "json"])).await;
    is_shown(&whole);
    assert_eq!(serde_json::from_str::<Value>(&whole).unwrap()["body"], data);
    let piped = run(&as_strs(&world.get(&["--format", "json"]))).await.with_code(0);
    assert!(piped.out.contains(&format!("\"name{EVIL}\": \"{EVIL}\"")), "{}", piped.out);
}

#[tokio::test]
async fn status_and_log_show_what_they_are_told_as_escapes() {
    let world = World::new().await;
    let admin = world.sidecar.admin_address().to_string();
    let status = run(&["status", "--admin", &admin]).await.with_code(0);
    is_shown(&status.out);
    status.says(r"\u{202e}\u{200f}\u{9b}.yaml");
    let json = ["status", "--format", "json", "--admin", &admin].map(str::to_owned);
    is_shown(&at_terminal(&json).await);
    let piped = run(&as_strs(&json)).await.with_code(0);
    assert!(piped.out.contains(&format!("{EVIL}.yaml")), "{}", piped.out);
    let filter = format!("[{{a={EVIL}}}]=info");
    let log = run(&["log", "--level", &filter, "--admin", &admin]).await.with_code(0);
    is_shown(&log.out);
    log.says(r"[{a=\u{202e}\u{200f}\u{9b}}]=info");
}

#[tokio::test]
async fn errors_show_names_of_others_as_escapes() {
    let world = World::new().await;
    let flags = world.flags();
    let flags = as_strs(&flags);
    let evil = format!("customer{EVIL}");
    let output = run(&[&["get", &evil, "42"], &flags[..]].concat()).await.with_code(64);
    is_shown(&output.err);
    output.says(r"no domain `customer\u{202e}\u{200f}\u{9b}`");
    let output = run(&["invalidate", &evil, "42", "--admin", flags[3]]).await.with_code(64);
    is_shown(&output.err);
    let wrong = run_with(&["status"], &[("BFB_ADMIN", &format!("unix:/nowhere{EVIL}"))])
        .await
        .with_code(69);
    is_shown(&wrong.err);
    let wrong = run_with(&["status"], &[("BFB_ADMIN", EVIL)]).await.with_code(64);
    is_shown(&wrong.err);
    wrong.says("BFB_ADMIN");
}

#[tokio::test]
async fn problems_of_a_file_are_drawn_without_what_it_would_do_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("customer.yaml");
    std::fs::write(&file, format!("domain: \"cust{EVIL}\"\n\"sour{EVIL}\": 1 # {EVIL}\n")).unwrap();
    let file = file.to_str().unwrap();
    let output = run(&["check", file]).await.with_code(64);
    is_shown(&output.err);
    output.says("sour");
    let output = run(&["serve", file]).await.with_code(64);
    is_shown(&output.err);
    let clearing = dir.path().join("a\x1b[2J.yaml");
    std::fs::write(&clearing, "domain: [").unwrap();
    let drawn = at_terminal_with(64, &["check".to_owned(), clearing.display().to_string()]).await;
    assert!(drawn.contains("a\u{fffd}[2J.yaml"), "{drawn:?}");
    assert!(!drawn.contains("\x1b[2J"), "{drawn:?}");
    let manifest = format!(
        "apiVersion: v1\nkind: \"Pod{EVIL}\"\nmetadata: {{name: a, annotations: {{bfb.dev/{EVIL}: \
         x}}}}\n"
    );
    std::fs::write(file, manifest).unwrap();
    is_shown(&run(&["inject", "-f", file]).await.err);
}

#[tokio::test]
async fn a_manifest_is_escaped_at_a_terminal_and_goes_elsewhere_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pod.yaml");
    let manifest = format!("# {EVIL}\x1b[2J\nkind: Pod\napiVersion: v1\nmetadata: {{name: a}}\n");
    std::fs::write(&file, &manifest).unwrap();
    let args = ["inject", "-f", file.to_str().unwrap()];
    assert_eq!(run(&args).await.with_code(0).out, manifest, "byte for byte");
    let shown = at_terminal(&args.map(str::to_owned)).await;
    is_shown(&shown);
    assert!(shown.contains(r"# \u{202e}\u{200f}\u{9b}\u{1b}[2J"), "{shown:?}");
    assert!(shown.contains("kind: Pod\r\n"), "lines stay lines: {shown:?}");
}
