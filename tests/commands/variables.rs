//! The variables behind the flags: an empty one is unset, an error names the variable and not the
//! flag, an unknown one is ignored with a warning.

use super::{CommandOutput, run, run_with};
use crate::support::domain::DomainFile;
use crate::support::sidecar::Setup;

/// A usage of each command that ends by itself with any variables.
const SERVE: &[&str] = &["serve", "/no/such/file.yaml"];
const WEBHOOK: &[&str] = &["webhook"];
/// Variables of hidden flags, which no help lists.
const HIDDEN: [&str; 3] = ["BFB_CERTIFICATE_LIFETIME", "BFB_LEADER_LEASE", "BFB_WATCHDOG_EVERY"];

/// The variables of a command, as its help lists them.
async fn variables(command: &str) -> Vec<String> {
    let help = run(&[command, "--help"]).await.with_code(0).out;
    let listed = help.split("[env:").skip(1).filter_map(|text| text.split(['=', ']']).next());
    let mut names: Vec<_> = listed.map(|name| name.trim().to_owned()).collect();
    if command == "webhook" {
        names.extend(HIDDEN.map(str::to_owned));
    }
    assert!(names.len() > 10 && names.iter().all(|name| name.starts_with("BFB_")), "{names:?}");
    names
}

fn commands() -> Vec<&'static [&'static str]> {
    if cfg!(feature = "webhook") { vec![SERVE, WEBHOOK] } else { vec![SERVE] }
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset_for_every_flag() {
    for usage in commands() {
        let unset = run(usage).await.with_code(64);
        let names = variables(usage[0]).await;
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        let empty = run_with(usage, &all).await.with_code(64);
        assert_eq!(empty.err, unset.err, "all of {names:?} at once");
    }
    run_with(&["get", "customer", "42"], &[("BFB_LISTEN", ""), ("BFB_ADMIN", "")])
        .await
        .with_code(69);
    run_with(&["check", "/no/such"], &[("BFB_INSECURE_UPSTREAMS", "")])
        .await
        .with_code(64)
        .says("/no/such");
}

#[tokio::test]
async fn the_help_lists_a_variable_that_is_empty() {
    let help = run_with(&["serve", "--help"], &[("BFB_LEASE", "")]).await.with_code(0);
    help.says("[env: BFB_LEASE=]");
}

#[tokio::test]
async fn a_wrong_variable_is_named_and_not_its_flag() {
    let mut refused = 0;
    for usage in commands() {
        let unset = run(usage).await.with_code(64);
        for name in variables(usage[0]).await {
            let output = run_with(usage, &[(&name, "!wrong!")]).await;
            // `!wrong!` is a valid path, name or key; it is not used before the rest is right.
            if output.err == unset.err {
                continue;
            }
            refused += 1;
            let flag = format!("--{}", name["BFB_".len()..].to_lowercase().replace('_', "-"));
            assert!(output.err.contains(&name), "{name}: {}", output.err);
            let named = [format!("'{flag} "), format!("'{flag}'"), format!("`{flag}`")];
            assert!(!named.iter().any(|flag| output.err.contains(flag)), "{name}: {}", output.err);
        }
    }
    assert!(refused >= 20, "{refused} variables can be wrong");
}

/// The errors of `serve` with these variables and flags.
async fn serve(variables: &[(&str, &str)], flags: &[&str]) -> CommandOutput {
    run_with(&[SERVE, flags].concat(), variables).await.with_code(64)
}

#[tokio::test]
async fn what_a_variable_needs_or_excludes_is_said_of_the_variable() {
    let output = serve(&[("BFB_SEAL_KEY", "/key")], &[]).await;
    assert!(
        output.err.contains("`BFB_SEAL_KEY` is set") && output.err.contains("--redis"),
        "{}",
        output.err
    );
    let output = serve(&[("BFB_RECORD", "/a"), ("BFB_REPLAY", "/b")], &[]).await;
    assert!(output.err.contains("'BFB_RECORD' cannot be used with 'BFB_REPLAY'"), "{}", output.err);
    let output = serve(&[("BFB_REPLAY", "/b")], &["--record", "/a"]).await;
    assert!(
        output.err.contains("'--record <DIR>' cannot be used with 'BFB_REPLAY'"),
        "{}",
        output.err
    );
}

#[tokio::test]
async fn a_wrong_flag_is_named_as_the_flag_whatever_its_variable_says() {
    let output = serve(&[("BFB_LEASE", "3s"), ("BFB_DRAIN", "5s")], &["--lease", "soon"]).await;
    assert!(
        output.err.contains("'--lease <TIME>'") && !output.err.contains("BFB_"),
        "{}",
        output.err
    );
    let output = serve(&[("BFB_LEASE", "soon")], &["--no-such-flag"]).await;
    assert!(
        output.err.contains("--no-such-flag") && !output.err.contains("BFB_"),
        "{}",
        output.err
    );
}

#[tokio::test]
async fn what_is_found_wrong_after_parsing_names_the_variable_too() {
    let limits = [("BFB_MEMORY", "1GiB"), ("BFB_MEMORY_LIMIT", "128MiB")];
    let output = serve(&limits, &[]).await;
    assert!(output.err.contains("`BFB_MEMORY=1024MiB` does not fit"), "{}", output.err);
    assert!(
        output.err.contains("`BFB_MEMORY_LIMIT=") && !output.err.contains("--memory"),
        "{}",
        output.err
    );
    let domain = DomainFile::of("customer").source_at("part", "http://localhost:1/part", &[]);
    let setup = Setup::of(&[&domain]).insecure().env("BFB_PROBES", "");
    let refused = setup.env("BFB_REPLAY", "/no/such/folder").refused().await;
    let output = String::from_utf8(refused.stderr).unwrap();
    assert!(output.contains("`BFB_REPLAY=/no/such/folder` is no folder"), "{output}");
    let setup = Setup::of(&[&domain]).insecure().env("BFB_IDENTITY", "/no/such/folder");
    let output = String::from_utf8(setup.refused().await.stderr).unwrap();
    assert!(output.contains("`BFB_IDENTITY=/no/such/folder` cannot be used"), "{output}");
    let setup = Setup::of(&[&domain]).insecure().args(&["--redis", "redis://127.0.0.1:1"]);
    let output =
        String::from_utf8(setup.env("BFB_SEAL_KEY", "/no/key").refused().await.stderr).unwrap();
    assert!(output.contains("`BFB_SEAL_KEY=/no/key` cannot be used"), "{output}");
}

#[tokio::test]
async fn a_refused_url_does_not_show_its_password() {
    for (variables, flags) in [
        (vec![("BFB_REDIS", "redis//user:secret@redis")], vec![]),
        (vec![], vec!["--redis", "redis//user:secret@redis"]),
    ] {
        let output = serve(&variables, &flags).await;
        assert!(
            output.err.contains("redis://HOST:PORT") && !output.err.contains("secret"),
            "{}",
            output.err
        );
    }
}

#[tokio::test]
async fn a_variable_that_no_flag_knows_is_ignored_with_a_warning() {
    // The variables that Kubernetes sets for a Service named `bfb`.
    let domain = DomainFile::of("customer").source_at("part", "http://localhost:1/part", &[]);
    let setup = Setup::of(&[&domain]).insecure().env("BFB_PORT", "tcp://10.0.0.1:7070");
    let sidecar = setup.env("BFB_SERVICE_HOST", "").start().await;
    let lines = sidecar.lines();
    let warned: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(warned[0]["name"], "BFB_PORT", "an empty one is unset");
}
