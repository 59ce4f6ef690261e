//! `bfb doctor`, the real binary: its findings for good and for bad upstreams, and that none of
//! them is sent a request unless it is proven mutual.

mod database;
mod identity;
mod mongo;
mod redis;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bfb::identity::issue::{Leaf, Validity};
use http::Uri;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::pki::{Asks, CLIENT, PROFILE, Pki, profile};
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = r#"{"account_id": 7, "name": "Ada Secret"}"#;
const KEY: &str = "420042";

/// A folder with a domain file, and our identity.
struct Patient {
    pki: Pki,
    dir: TempDir,
}

impl Patient {
    fn new() -> Self {
        Self { pki: Pki::new(), dir: tempfile::tempdir().unwrap() }
    }

    async fn upstream(&self, leaf: &Leaf, asks: Asks) -> Upstream {
        Upstream::tls(Arc::new(self.pki.server(leaf, asks))).await
    }

    /// The domain file of these sources; `more` are further lines of it.
    fn file(&self, sources: &[(&str, Uri, &str)], more: &str) -> PathBuf {
        let mut text = format!("domain: customer\nkey: '[0-9]+'\n{more}sources:\n");
        for (name, origin, path) in sources {
            let server = if origin.scheme_str() == Some("https") {
                format!("    server: {PROFILE}\n")
            } else {
                String::new()
            };
            let origin = origin.to_string();
            let origin = origin.trim_end_matches('/');
            write!(text, "  {name}:\n    url: {origin}{path}\n{server}").unwrap();
        }
        text += "versions:\n  v1:\n    path: /v1/customers/{key}\n";
        let file = self.dir.path().join("customer.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Runs `bfb doctor` with our identity.
    async fn doctor(&self, file: PathBuf, args: &[&str]) -> Output {
        let identity = self.pki.dir().to_str().unwrap();
        doctor(file, &[&["--identity", identity], args].concat()).await
    }

    /// Its report on its one source, and the exit code.
    async fn found(&self, origin: Uri, args: &[&str]) -> (Value, i32) {
        let file = self.file(&[("profile", origin, "/customers/{key}")], "");
        let (report, code) =
            parsed(&self.doctor(file, &[args, &["--format", "json"]].concat()).await);
        (report["domains"][0]["sources"][0].clone(), code)
    }
}

async fn doctor(file: PathBuf, args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bfb"));
        command
            .env_clear()
            .env("COLUMNS", "70")
            .arg("doctor")
            .arg(file)
            .args(args)
            .output()
            .unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn parsed(output: &Output) -> (Value, i32) {
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Level and name of each finding.
fn findings(source: &Value) -> Vec<String> {
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = source["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| format!("{} {}", word(finding, "level"), word(finding, "name")))
        .collect()
}

fn good() -> Reply {
    Reply::json(SECRET).etag("\"a\"")
}

#[tokio::test]
async fn an_upstream_that_is_well_has_no_findings() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    upstream.answers("/customers/420042", [good()]);
    let (source, code) = patient.found(upstream.origin(), &["--key", KEY]).await;
    assert_eq!((findings(&source), code), (vec![], 0));
    let (connection, answer) = (&source["connection"], &source["answer"]);
    assert_eq!(connection["certificate"]["names"][0], PROFILE);
    assert_eq!(
        (&connection["protocol"], &connection["key_exchange"]),
        (&"TLS 1.3".into(), &"X25519MLKEM768".into())
    );
    assert_eq!(
        (&connection["asks_for_certificate"], &connection["without_certificate"]),
        (&true.into(), &"refused".into())
    );
    assert_eq!(
        (&answer["status"], &answer["etag"], &answer["not_modified"]),
        (&200.into(), &"strong".into(), &true.into())
    );
    for time in [
        &connection["connect_ms"],
        &connection["handshake_ms"],
        &answer["first_ms"],
        &answer["warm_ms"],
    ] {
        assert!(time.as_f64().unwrap() > 0.0);
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_asked() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    let (source, code) = patient.found(upstream.origin(), &[]).await;
    assert_eq!((findings(&source), code, &source["answer"]), (vec![], 0, &Value::Null));
    assert!(upstream.connections() >= 3, "looked at, tried without a certificate, and with ours");
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn who_is_not_proven_mutual_is_an_error_and_is_sent_nothing() {
    let patient = Patient::new();
    let other = Leaf::new("other").uri("spiffe://shop.example/ns/crm/sa/other");
    let expired = profile().valid(Validity::expired());
    let servers = [
        ("not-mutual", "does not ask", patient.pki.server(&profile(), Asks::Never)),
        ("tls", "sa/other", patient.pki.server(&other, Asks::Always)),
        ("tls", "expired", patient.pki.server(&expired, Asks::Always)),
        ("tls", "", patient.pki.stranger(&profile())),
        ("tls", "refused our certificate", patient.pki.server(&profile(), Asks::TrustingOthers)),
    ];
    for (name, words, server) in servers {
        for args in [&["--key", KEY][..], &[]] {
            let upstream = Upstream::tls(Arc::new(server.clone())).await;
            upstream.answers("/customers/420042", [good()]);
            let (source, code) = patient.found(upstream.origin(), args).await;
            assert_eq!((findings(&source), code), (vec![format!("error {name}")], 1), "{words}");
            let found = source["findings"][0]["met"].as_str().unwrap();
            assert!(found.contains(words), "{found}");
            assert!(upstream.received().is_empty(), "{words}");
        }
    }
}

#[tokio::test]
async fn a_wrong_identity_does_not_hide_that_nothing_is_asked_for() {
    let patient = Patient::new();
    let upstream = patient.upstream(&Leaf::new("other").dns("other"), Asks::Never).await;
    let (source, code) = patient.found(upstream.origin(), &[]).await;
    assert_eq!(
        (findings(&source), code),
        (vec!["error tls".to_owned(), "error not-mutual".to_owned()], 1)
    );
}

#[tokio::test]
async fn a_certificate_that_is_asked_for_but_not_demanded_is_a_warning() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Optionally).await;
    let (source, code) = patient.found(upstream.origin(), &[]).await;
    assert_eq!((findings(&source), code), (vec!["warning certificate-optional".to_owned()], 0));
    assert_eq!(source["connection"]["without_certificate"], "accepted");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_an_error() {
    let patient = Patient::new();
    let (source, code) =
        patient.found("https://127.0.0.1:1".parse().unwrap(), &["--key", KEY]).await;
    assert_eq!((findings(&source), code), (vec!["error unreachable".to_owned()], 1));
    assert_eq!(source["connection"], Value::Null);
}

#[tokio::test]
async fn a_certificate_in_the_last_third_of_its_life_is_a_warning() {
    let patient = Patient::new();
    let ends = profile()
        .valid(Validity { not_before: Validity::expired().not_before, ..Validity::days(8) });
    let upstream = patient.upstream(&ends, Asks::Always).await;
    let (source, code) = patient.found(upstream.origin(), &[]).await;
    assert_eq!((findings(&source), code), (vec!["warning expires-soon".to_owned()], 0));
    assert!(source["findings"][0]["met"].as_str().unwrap().contains("ends in 7 days"), "{source}");
}

#[tokio::test]
async fn an_answer_that_is_no_part_is_an_error_with_its_reason() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    for (reply, reason, timeout) in [
        (Reply::status(503), "status", "1m"),
        (Reply::status(404), "status", "1m"),
        (Reply::json("{").etag("\"a\""), "not-json", "1m"),
        // Within four seconds it is connected, on a busy machine too.
        (Reply::never(), "timeout", "4s"),
    ] {
        upstream.answers("/customers/420042", [reply]);
        let (source, code) =
            patient.found(upstream.origin(), &["--key", KEY, "--timeout", timeout]).await;
        assert_eq!((findings(&source), code), (vec![format!("error {reason}")], 1));
        assert_eq!(source["answer"], Value::Null);
    }
}

#[tokio::test]
async fn a_source_with_a_next_page_whose_file_says_nothing_of_pages_is_warned_of() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    for link in
        ["<?page=2>; rel=next", "<?p=1>; rel=first, <?p=2>; title=\"a,b\"; REL=\"last Next\""]
    {
        upstream.answers("/customers/420042", [good().header("link", link)]);
        let (source, code) = patient.found(upstream.origin(), &["--key", KEY]).await;
        assert_eq!(
            (findings(&source), code),
            (vec!["error incomplete".to_owned(), "warning pages".to_owned()], 1)
        );
        let warning = &source["findings"][1];
        assert!(warning["expected"].as_str().unwrap().contains("`pages: follow`"), "{warning}");
    }
    // An answer that is incomplete for another reason gets no warning about pages.
    upstream.answers("/customers/420042", [Reply::status(204)]);
    let (source, _) = patient.found(upstream.origin(), &["--key", KEY]).await;
    assert_eq!(findings(&source), ["error incomplete"]);
}

#[tokio::test]
async fn certificates_dated_before_1970_are_words_and_no_panic() {
    let patient = Patient::new();
    let not_before = SystemTime::UNIX_EPOCH - Duration::from_hours(24 * 3_653);
    let hour = Duration::from_hours(1);
    let write_identity = |not_after| {
        let leaf = Leaf::new("web").uri(CLIENT).valid(Validity { not_before, not_after });
        let issued = patient.pki.authority.issue(&leaf).unwrap();
        issued.write(patient.pki.dir(), patient.pki.authority.ca_pem()).unwrap();
    };
    write_identity(SystemTime::now() + hour);
    for not_after in [SystemTime::now() + hour, not_before + hour] {
        let valid = Validity { not_before, not_after };
        let upstream = patient.upstream(&profile().valid(valid), Asks::Always).await;
        let (source, code) = patient.found(upstream.origin(), &[]).await;
        assert_eq!((findings(&source), code), (vec!["error tls".to_owned()], 1));
        assert_eq!(source["connection"]["certificate"]["not_before"], "1960-01-01T00:00:00Z");
        let found = source["findings"][0]["met"].as_str().unwrap();
        assert!(found.contains("dated before 1970"), "{found}");
    }
    write_identity(not_before + hour);
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    let file = patient.file(&[("profile", upstream.origin(), "/customers/{key}")], "");
    let refused = patient.doctor(file, &[]).await;
    assert!(text(&refused).contains("expired at 1960-01-01T01:00:00Z"), "{}", text(&refused));
    assert_ne!(refused.status.code(), Some(101), "it panicked");
}

#[tokio::test]
async fn a_snapshot_of_followed_pages_needs_no_validator_and_says_so() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    for path in ["/a/420042", "/b/420042"] {
        upstream.answers(path, [Reply::json("[1]").etag("\"a\"")]);
    }
    let sources = [
        ("a", upstream.origin(), "/a/{key}\n    pages: follow"),
        ("b", upstream.origin(), "/b/{key}"),
    ];
    let file = patient.file(&sources, "atomicity: snapshot\n");
    let (report, code) = parsed(&patient.doctor(file, &["--key", KEY, "--format", "json"]).await);
    let found = report["domains"][0]["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(findings)
        .collect::<Vec<_>>();
    assert_eq!((found, code), (vec![vec!["note followed-pages".to_owned()], vec![]], 0));
}

#[tokio::test]
async fn a_list_of_revoked_certificates_is_honoured() {
    let patient = Patient::new();
    let leaf = patient.pki.authority.issue(&profile()).unwrap();
    let upstream = Upstream::tls(Arc::new(patient.pki.server_with(&leaf, Asks::Always))).await;
    let list = patient.pki.authority.revoke(&[&leaf]).unwrap();
    std::fs::write(patient.pki.dir().join("crl.pem"), list).unwrap();
    let (source, code) = patient.found(upstream.origin(), &["--key", KEY]).await;
    assert_eq!((findings(&source), code), (vec!["error tls".to_owned()], 1));
    assert!(source["findings"][0]["met"].as_str().unwrap().contains("was revoked"), "{source}");
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn an_answer_slower_than_the_deadline_is_an_error() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    upstream.answers("/customers/420042", [good().after(Duration::from_millis(60))]);
    let file =
        patient.file(&[("profile", upstream.origin(), "/customers/{key}")], "deadline: 50ms\n");
    let (report, code) = parsed(&patient.doctor(file, &["--key", KEY, "--format", "json"]).await);
    assert_eq!(
        (findings(&report["domains"][0]["sources"][0]), code),
        (vec!["error too-slow".to_owned()], 1)
    );
}

#[tokio::test]
async fn what_weakens_a_snapshot_is_noted_and_no_store_is_a_warning() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let replies = [
        ("weak", Reply::json("1").etag("W/\"a\""), "note weak-validator"),
        ("none", Reply::json("1"), "note no-validator"),
        ("date", Reply::json("1").header(modified.0, modified.1), "note no-validator"),
        ("aged", good().header("age", "3"), "warning cached"),
        ("kept", good().header("cache-control", "private, No-Store"), "warning no-store"),
    ];
    let mut sources = vec![];
    for (name, reply, _) in &replies {
        let path = format!("/{name}/420042");
        upstream.answers(&path, [reply.clone()]);
        sources.push((*name, upstream.origin(), format!("/{name}/{{key}}")));
    }
    let sources: Vec<_> =
        sources.iter().map(|(name, origin, path)| (*name, origin.clone(), path.as_str())).collect();
    for (atomicity, all) in [("snapshot", true), ("complete", false)] {
        let file = patient.file(&sources, &format!("atomicity: {atomicity}\n"));
        let (report, code) =
            parsed(&patient.doctor(file, &["--key", KEY, "--format", "json"]).await);
        assert_eq!((code, &report["ok"]), (0, &true.into()), "{report}");
        for ((name, _, finding), source) in
            replies.iter().zip(report["domains"][0]["sources"].as_array().unwrap())
        {
            let expected =
                if all || *name == "kept" { vec![(*finding).to_owned()] } else { vec![] };
            assert_eq!(findings(source), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_source_is_asked_once_its_needs_are_there() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    upstream.answers("/customers/420042", [good()]);
    upstream.answers("/accounts/7/orders", [Reply::json("[]").etag("\"o\"")]);
    let orders = ("orders", upstream.origin(), "/accounts/{profile.account_id}/orders");
    let file = patient.file(&[orders, ("profile", upstream.origin(), "/customers/{key}")], "");
    let (report, code) =
        parsed(&patient.doctor(file.clone(), &["--key", KEY, "--format", "json"]).await);
    let sources = &report["domains"][0]["sources"];
    assert_eq!(
        (code, &sources[0]["name"], &sources[0]["answer"]["status"]),
        (0, &"orders".into(), &200.into())
    );

    upstream.answers("/customers/420042", [Reply::status(500)]);
    let (report, code) = parsed(&patient.doctor(file, &["--key", KEY, "--format", "json"]).await);
    let sources = &report["domains"][0]["sources"];
    assert_eq!((findings(&sources[0]), code), (vec!["warning not-asked".to_owned()], 1));
    assert_eq!(findings(&sources[1]), ["error status"]);
}

#[tokio::test]
async fn a_plain_source_is_a_warning() {
    let patient = Patient::new();
    let upstream = Upstream::plain().await;
    upstream.answers("/customers/420042", [good()]);
    let (source, code) =
        patient.found(upstream.origin(), &["--insecure-upstreams", "--key", KEY]).await;
    assert_eq!((findings(&source), code), (vec!["warning plain".to_owned()], 0));
    assert_eq!(
        (&source["answer"]["http"], &source["connection"]["protocol"]),
        (&"HTTP/1.1".into(), &Value::Null)
    );
}

#[tokio::test]
async fn neither_data_nor_the_key_is_printed() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    let without_id = format!("{{\"account_id\": null, \"name\": {SECRET:?}}}");
    upstream.answers("/customers/420042", [Reply::json(without_id)]);
    let orders = ("orders", upstream.origin(), "/accounts/{profile.account_id}/orders");
    let file = patient.file(&[("profile", upstream.origin(), "/customers/{key}"), orders], "");
    for format in ["text", "json"] {
        let output = patient.doctor(file.clone(), &["--key", KEY, "--format", format]).await;
        let text = text(&output);
        assert!(text.contains("profile.account_id") && output.status.code() == Some(1), "{text}");
        assert!(!text.contains("Secret") && !text.contains(KEY), "{text}");
    }
}

#[tokio::test]
async fn the_report_for_people_is_a_table_and_what_was_found() {
    let patient = Patient::new();
    let well = patient.upstream(&profile(), Asks::Always).await;
    well.answers("/customers/420042", [good().header("cache-control", "no-store")]);
    well.answers("/accounts/7/orders", [Reply::json("[]").etag("W/\"o\"")]);
    let silent = patient.upstream(&profile(), Asks::Never).await;
    let sources = [
        ("profile", well.origin(), "/customers/{key}"),
        ("orders", well.origin(), "/accounts/{profile.account_id}/orders"),
        ("reviews", silent.origin(), "/customers/{key}/reviews"),
        ("nobody", "https://127.0.0.1:1".parse().unwrap(), "/customers/{key}"),
    ];
    let file = patient.file(&sources, "atomicity: snapshot\n");
    let output = patient.doctor(file, &["--key", KEY]).await;
    assert_eq!(output.status.code(), Some(1));
    let drawn = text(&output);
    assert!(drawn.lines().next().unwrap().starts_with("our identity"), "no colours in a pipe");
    // Values that differ from run to run: ports, times, dates, the folder.
    insta::with_settings!({filters => vec![
        (r"127\.0\.0\.1:[0-9]{2,5}", "127.0.0.1:PORT"),
        (r"[0-9]+\.[0-9] ms", "TIME"),
        (r"([^ \n]) {2,}", "$1  "),
        (r"[0-9-]+T[0-9:]+Z", "MOMENT"),
        (r"customer \S+/customer.yaml", "customer FOLDER/customer.yaml"),
    ]}, { insta::assert_snapshot!(drawn) });
}
