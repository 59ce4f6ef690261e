//! Commands that need no sidecar: `check`, `schema`, `completions`, and `serve` where it must
//! refuse.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{run, run_with};
use crate::support::pki::Pki;

const GOOD: &str = "domain: customer\nsources:\n  profile:\n    url: https://profile.crm/{key}\n\
                    versions:\n  v1:\n    path: /v1/customers/{key}\n";
/// Three problems: an unknown key, a bad duration, a broken shape.
const BROKEN: &str = "domain: customer\ndeadline: soon\nsources:\n  profile:\n\
                      \x20   url: https://profile.crm/{key}\n    retris: 1\n\
                      versions:\n  v1:\n    path: /v1/customers/{key}\n    shape: '.profile | '\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn check_says_ok_to_what_is_right() {
    let dir =
        folder(&[("customer.yaml", GOOD), (".hidden.yaml", BROKEN), ("readme.md", "no domain")]);
    let output = run(&["check", text(dir.path())]).await.with_code(0);
    assert_eq!((output.out.as_str(), output.err.as_str()), ("ok\n", ""));
    run(&["check", text(&dir.path().join("customer.yaml"))]).await.with_code(0);
}

#[tokio::test]
async fn check_says_every_problem_at_once_with_its_place() {
    let dir = folder(&[("customer.yaml", BROKEN)]);
    let file = dir.path().join("customer.yaml");
    let output = run(&["check", text(&file)]).await.with_code(64);
    assert_eq!(output.out, "");
    for place in ["customer.yaml:2:", "customer.yaml:6:", "customer.yaml:10:"] {
        output.says(place);
    }
    output.says("hint");
    output.says("retris: 1");
    output.says("3 problems");
    let output = run(&["check", "--format", "json", text(&file)]).await.with_code(64);
    let problems: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(problems.as_array().unwrap().len(), 3, "{problems}");
}

/// A domain file whose shape has `program` as its third line.
fn with_program(program: &str) -> String {
    format!("{GOOD}    shape: |\n      # what follows is jq\n      .profile |\n      {program}\n")
}

#[tokio::test]
async fn what_fails_at_every_read_is_refused_before_the_first_one_at_its_own_line() {
    for (program, column, reason) in [
        ("test(\"(\")", 12, "unclosed group"),
        ("test(\"^(?!x)\")", 12, "look-around"),
        ("gsub(\"(.)(?=.*\\\\1)\"; \"\")", 12, "is not supported"),
        ("match(\"o.B\"; \"q\")", 20, "not a flag"),
        ("match([\"foo\", \"iq\"])", 21, "not a flag"),
        ("[1, 2] | limit(-1; .[])", 23, "negative"),
        ("\"\\ud83d\"", 8, "surrogates"),
        ("INDX(.id)", 7, "did you mean `INDEX`?"),
    ] {
        let dir = folder(&[("customer.yaml", &with_program(program))]);
        let output = run(&["check", text(dir.path())]).await.with_code(64);
        output.says(&format!("customer.yaml:11:{column}"));
        output.says(reason);
        output.says("hint");
    }
    for program in [
        "match(\"o.B\"; \"m\")",
        "match([\"foo\", \"ig\"])",
        "[INDEX(.[]; .id), IN(.05), \"\\ud83d\\ude04\"]",
    ] {
        let dir = folder(&[("customer.yaml", &with_program(program))]);
        assert_eq!(run(&["check", text(dir.path())]).await.with_code(0).out, "ok\n", "{program}");
    }
}

#[tokio::test]
async fn check_looks_at_all_files_of_a_folder_together() {
    let dir = folder(&[("one.yaml", GOOD), ("two.yml", GOOD)]);
    run(&["check", text(dir.path())]).await.with_code(64).says("customer");
    run(&["check", text(&dir.path().join("none.yaml"))]).await.with_code(64);
    run(&["check", text(folder(&[]).path())]).await.with_code(64);
}

#[tokio::test]
async fn check_knows_the_environment() {
    let dir = folder(&[("customer.yaml", &GOOD.replace("profile.crm", "${PROFILE_HOST}"))]);
    run(&["check", text(dir.path())]).await.with_code(64).says("PROFILE_HOST");
    run_with(&["check", text(dir.path())], &[("PROFILE_HOST", "profile.crm")]).await.with_code(0);
    let insecure = folder(&[("customer.yaml", &GOOD.replace("https", "http"))]);
    run(&["check", text(insecure.path())]).await.with_code(64);
    run(&["check", "--insecure-upstreams", text(insecure.path())]).await.with_code(0);
    run_with(&["check", text(insecure.path())], &[("BFB_INSECURE_UPSTREAMS", "true")])
        .await
        .with_code(0);
}

#[tokio::test]
async fn the_example_is_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/customer/customer.yaml");
    assert_eq!(run(&["check", example]).await.with_code(0).out, "ok\n");
}

#[tokio::test]
async fn schema_prints_a_json_schema() {
    let output = run(&["schema"]).await.with_code(0);
    let schema: Value = serde_json::from_str(&output.out).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"), "{schema}");
    assert!(jsonschema::validator_for(&schema).is_ok());
    assert!(schema["properties"]["sources"].is_object());
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]).await.with_code(0);
        assert!(output.out.contains("insecure-upstreams"), "{shell}");
    }
    run(&["completions", "cmd"]).await.with_code(64);
}

#[tokio::test]
async fn a_wrong_usage_is_64_and_help_is_0() {
    for args in [
        &["serve"][..],
        &["frobnicate"],
        &["serve", "x", "--no-such-flag"],
        &["check"],
        &[],
        &["get", "customer"],
    ] {
        let output = run(args).await.with_code(64);
        assert!(!output.err.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["help", "check"]] {
        let output = run(args).await.with_code(0);
        assert!(!output.out.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn serve_refuses_what_is_wrong_with_64_and_what_is_missing_with_69() {
    let pki = Pki::new();
    let good = folder(&[("customer.yaml", GOOD)]);
    let broken = folder(&[("customer.yaml", BROKEN)]);
    let good = text(good.path());
    let broken = text(broken.path());
    let identity = text(pki.dir());
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let serve = async |args: &[&str]| run(&[&["serve"], &free[..], args].concat()).await;
    serve(&[broken, "--identity", identity]).await.with_code(64).says("retris");
    serve(&[good]).await.with_code(64).says("--identity");
    serve(&[good, "--identity", identity, "--listen", "nonsense"]).await.with_code(64);
    serve(&[good, "--identity", identity, "--drain", "soon"]).await.with_code(64);
    serve(&[good, "--identity", identity, "--log", "loud=very=much"]).await.with_code(64);
    serve(&[good, "--identity", identity, "--listen", "0.0.0.0:0"])
        .await
        .with_code(64)
        .says("--allow-remote");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    serve(&[good, "--identity", identity, "--listen", &address]).await.with_code(69).says(&address);
}

#[tokio::test]
async fn a_file_of_a_flag_that_is_not_there_is_69_and_one_that_is_wrong_is_64() {
    let pki = Pki::new();
    let dir = folder(&[
        ("customer.yaml", GOOD),
        ("nonsense", "no key"),
        ("tls.crt", ""),
        ("tls.key", ""),
        ("ca.crt", ""),
    ]);
    let file = dir.path().join("customer.yaml");
    let good = text(&file);
    let identity = text(pki.dir());
    let nonsense = dir.path().join("nonsense");
    let nonsense = text(&nonsense);
    let wrong = text(dir.path());
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--identity", identity];
    let redis = ["--redis", "redis://127.0.0.1:1"];
    let serve = async |args: &[&str]| run(&[&["serve", good], &free[..], args].concat()).await;
    let nowhere = "/no/such/file";
    for flag in ["--ca", "--replay"] {
        serve(&[flag, nowhere]).await.with_code(69).says(nowhere);
        serve(&[flag, nonsense]).await.with_code(64).says(nonsense);
    }
    for flag in ["--redis-auth", "--redis-ca", "--redis-identity", "--seal-key"] {
        serve(&[&redis[..], &[flag, nowhere]].concat()).await.with_code(69).says(nowhere);
    }
    serve(&[&redis[..], &["--seal-key", nonsense]].concat()).await.with_code(64).says(nonsense);
    serve(&["--record", nonsense]).await.with_code(64).says(nonsense);
    for (dir, code) in [(nowhere, 69), (wrong, 64)] {
        run(&["serve", good, "--identity", dir]).await.with_code(code).says(dir);
        run(&["get", "customer", "42", "--domain", good, "--identity", dir])
            .await
            .with_code(code)
            .says(dir);
    }
    run(&["get", "customer", "42", "--domain", good, "--replay", nowhere])
        .await
        .with_code(69)
        .says(nowhere);
    for (file, code) in [(nowhere, 69), (nonsense, 64)] {
        if cfg!(feature = "webhook") {
            run(&["webhook", "--kubeconfig", file]).await.with_code(code).says(file);
        }
    }
}

#[tokio::test]
async fn a_folder_where_a_file_is_expected_cannot_be_had_and_is_69() {
    let dir = folder(&[("customer.yaml", GOOD)]);
    let file = dir.path().join("customer.yaml");
    let good = text(&file);
    let dir = text(dir.path());
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let serve = async |args: &[&str]| run(&[&["serve", good], &free[..], args].concat()).await;
    for name in ["tls.crt", "tls.key", "ca.crt", "crl.pem"] {
        let pki = Pki::new();
        let identity = text(pki.dir());
        let taken = pki.dir().join(name);
        let _ = std::fs::remove_file(&taken);
        std::fs::create_dir(&taken).unwrap();
        let args = ["get", "customer", "42", "--domain", good, "--identity", identity];
        serve(&["--identity", identity]).await.with_code(69).says(text(&taken));
        run(&args).await.with_code(69).says(text(&taken));
        run(&["doctor", good, "--identity", identity]).await.with_code(69).says(text(&taken));
    }
    let pki = Pki::new();
    let identity = ["--identity", text(pki.dir())];
    serve(&[&identity[..], &["--ca", dir]].concat()).await.with_code(69).says(dir);
    let redis = ["--redis", "redis://127.0.0.1:1", "--seal-key", dir];
    serve(&[&identity[..], &redis].concat()).await.with_code(69).says(dir);
    if cfg!(feature = "webhook") {
        run(&["webhook", "--kubeconfig", dir]).await.with_code(69).says(dir);
    }
    std::fs::write(pki.dir().join("crl.pem"), vec![b'x'; 3 << 20]).unwrap();
    serve(&identity).await.with_code(64).says("larger than 2 MiB");
}

#[tokio::test]
async fn a_folder_to_record_into_that_is_open_to_others_is_refused_and_stays_as_it_is() {
    let dir = folder(&[("customer.yaml", GOOD)]);
    let file = dir.path().join("customer.yaml");
    let wide = dir.path().join("wide");
    fs::create_dir(&wide).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let pki = Pki::new();
    let upstreams = ["--identity", text(pki.dir()), "--record"];
    for wider in [0o755, 0o750, 0o1777, 0o701] {
        fs::set_permissions(&wide, fs::Permissions::from_mode(wider)).unwrap();
        for command in
            [&["serve", text(&file)][..], &["get", "customer", "42", "--domain", text(&file)]]
        {
            let output = run(&[command, &upstreams, &[text(&wide)]].concat()).await.with_code(64);
            output.says(&format!("is open to others (mode {wider:04o})"));
            output.says("chmod 700");
        }
        assert_eq!(mode(&wide), wider, "it is somebody's");
    }
    let new = dir.path().join("new/deeper");
    run(&[&["get", "customer", "42", "--domain", text(&file)], &upstreams[..], &[text(&new)]]
        .concat())
    .await
    .with_code(1);
    assert_eq!((mode(&new), mode(new.parent().unwrap())), (0o700, 0o700));
}
