//! The commands: what they print, and their exit codes: 0, 1 failed, 64 the input is wrong, 69
//! something needed is not there.

mod absent;
mod beside;
mod files;
mod terminal;
mod variables;

use std::process::{Command, Output, Stdio};

use crate::support::client::PATIENCE;
use crate::support::sidecar::bfb;

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `bfb` with these arguments.
pub(crate) async fn run(args: &[&str]) -> Said {
    run_with(args, &[]).await
}

/// The same with variables of the environment.
async fn run_with(args: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = bfb();
    command
        .args(args)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Ok(ended) = tokio::time::timeout(PATIENCE, ended).await else {
        Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
        panic!("`bfb {}` does not end", args.join(" "));
    };
    let Output { status, stdout, stderr } = ended.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Said {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        assert!(
            self.out.contains(text) || self.err.contains(text),
            "no `{text}`\nout: {}\nerr: {}",
            self.out,
            self.err
        );
    }
}
