//! The commands: their output, and their exit codes: 0, 1 failed, 64 the input is wrong, 69 a
//! service or file that the command needs is missing.

mod files;
mod missing_features;
mod sidecar_commands;
mod terminal;
mod variables;

use std::process::{Command, Output, Stdio};

use crate::support::client::TEST_TIMEOUT;
use crate::support::sidecar::bfb;

/// The output of a command.
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `bfb` with these arguments.
pub(crate) async fn run(args: &[&str]) -> CommandOutput {
    run_with(args, &[]).await
}

/// The same with environment variables.
async fn run_with(args: &[&str], variables: &[(&str, &str)]) -> CommandOutput {
    let mut command = bfb();
    command
        .args(args)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Ok(ended) = tokio::time::timeout(TEST_TIMEOUT, ended).await else {
        Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
        panic!("`bfb {}` does not end", args.join(" "));
    };
    let Output { status, stdout, stderr } = ended.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandOutput { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl CommandOutput {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
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
