//! `bfb inject` as a process: the rewritten manifests are compared with snapshots, and validated by
//! the schemas of Kubernetes and the *restricted* Pod Security Standard. For each of them,
//! injection changes no byte of the original, a second injection changes nothing, and `--uninject`
//! restores the original.

mod annotations;
mod cases;
mod command;
mod pod;
mod public;
pub(crate) mod restricted;
#[cfg(feature = "webhook")]
mod reviews;
mod running_sidecar;
pub(crate) mod schemas;
mod shutdown;
#[cfg(feature = "webhook")]
mod webhook;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bfb::inject::manifest;
use serde_json::Value;

use crate::support::sidecar::bfb;

/// The exit code and the output of `bfb inject`.
struct InjectOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `bfb inject -f -` on `text`.
fn inject(args: &[&str], text: &str) -> InjectOutput {
    let mut command = bfb();
    command.args(["inject", "-f", "-"]).args(args);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // Invalid arguments are refused before standard input is read.
    if let Err(error) = writing.join().unwrap() {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{output:?}");
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    InjectOutput { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The rewritten text. Asserts that the command succeeds.
#[track_caller]
pub(crate) fn injected(args: &[&str], text: &str) -> String {
    let output = inject(args, text);
    assert_eq!(output.code, Some(0), "{}", output.err);
    output.out
}

/// Test data, sorted: each with its name, its text, and the arguments in its first line
/// (`# bfb inject …`).
fn data(folder: &str) -> Vec<(String, String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject").join(folder);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "yaml" || it == "json"));
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default().trim_start_matches('\u{feff}');
        let args = first.strip_prefix("# bfb inject").unwrap_or_default().split_whitespace();
        let args = args.map(str::to_owned).collect();
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), text, args)
    };
    files.into_iter().map(read).collect()
}

/// The documents of a manifest.
#[track_caller]
pub(crate) fn documents(text: &str) -> Vec<Value> {
    manifest::documents(Path::new("result"), text).unwrap()
}

/// Asserts every promise for an injected manifest.
#[track_caller]
fn holds(name: &str, args: &[&str], before: &str, after: &str) {
    assert!(
        is_subsequence(before.as_bytes(), after.as_bytes()),
        "{name}: something that was there is not there"
    );
    assert_eq!(injected(args, after), after, "{name}: a second time changed it");
    assert_eq!(injected(&["--uninject"], after), before, "{name}: uninjected is not what it was");
    for (nth, document) in documents(after).iter().enumerate() {
        schemas::assert_valid(&format!("{name}, document {nth}"), document);
        restricted::assert_restricted(&format!("{name}, document {nth}"), document);
    }
}

/// Whether `part` is a subsequence of `whole`.
fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}
