//! A process of a test's own, with its log in a file. It ends when it is dropped, and also when the
//! test's process ends in any way: a guard beside it reads a pipe whose other end only the test's
//! process holds.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::until;

/// Starts the program that its arguments from the third on name, prints its process id, and kills
/// it once standard input ends. Its first argument is the log, its second a folder to remove after
/// the program has ended.
const GUARD: &str = r#"
log=$1 folder=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
child=$!
echo "$child"
exec 2>/dev/null
( read -r _; kill -KILL "$child" ) <&3 >/dev/null &
guard=$!
wait "$child"
code=$?
kill "$guard"
[ -z "$folder" ] || rm -rf "$folder"
exit "$code"
"#;

/// The number of log lines that are shown after a failure.
const SHOWN_LINES: usize = 40;

/// The process.
pub(crate) struct Process {
    name: String,
    guard: Child,
    pid: u32,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

impl Process {
    /// Starts `program` with these arguments and this environment alone, its log in `dir` under its
    /// name.
    pub(crate) fn start(
        name: &str,
        dir: &Path,
        program: impl AsRef<OsStr>,
        args: &[String],
        env: &[(&str, &str)],
    ) -> Self {
        Self::start_sweeping(name, dir, program, args, env, Path::new(""))
    }

    /// The same; `folder` is removed after the process has ended.
    pub(crate) fn start_sweeping(
        name: &str,
        dir: &Path,
        program: impl AsRef<OsStr>,
        args: &[String],
        env: &[(&str, &str)],
        folder: &Path,
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .envs(env.iter().copied())
            .args(["-c", GUARD, "guard"])
            .arg(&log)
            .arg(folder)
            .arg(program)
            .args(args);
        let mut guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("{name} did not start"));
        Self { name: name.to_owned(), guard, pid, log }
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .stderr(Stdio::null())
            .status();
        assert!(sent.unwrap().success(), "{} runs no more:\n{}", self.name, self.tail());
    }

    /// Kills the process as a crash would, and waits for its end.
    pub(crate) async fn kill(mut self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Waits for its end: the exit code, or 128 and the signal.
    pub(crate) async fn ended(&mut self) -> i32 {
        let what = format!("{} ends", self.name);
        let guard = &mut self.guard;
        until(&what, async || guard.try_wait().unwrap().and_then(|status| status.code())).await
    }

    /// Whether the process is running.
    pub(crate) fn runs(&mut self) -> bool {
        self.guard.try_wait().unwrap().is_none()
    }

    /// Waits until its log holds `text`.
    pub(crate) async fn logged(&self, text: &str) {
        until(&format!("{} logs `{text}`", self.name), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}
