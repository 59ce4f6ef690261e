//! The real binary as a process: observed by its log, controlled by signals, and killed when it is
//! dropped. Waiting is on events: a log line, the end of the process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use super::client::TEST_TIMEOUT;

/// The most lines of log that are kept; more is a fault of the test.
const LOG_LINES_MAX: usize = 200_000;

/// A process that runs.
pub(crate) struct Process {
    pid: u32,
    log: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Reads its log, and ends after it and all that write to the same log.
    reader: Option<JoinHandle<()>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that was waited for has no id any more.
        if self.runs() {
            self.signal("KILL");
        }
    }
}

impl Process {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (log, log_read) = watch::channel(Vec::new());
        let (exit, exit_read) = watch::channel(None);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.send_modify(|lines: &mut Vec<String>| lines.push(line));
                assert!(log.borrow().len() < LOG_LINES_MAX, "the process logs without bound");
            }
            exit.send_replace(Some(child.wait().unwrap()));
        });
        Self { pid, log: log_read, exit: exit_read, reader: Some(reader) }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub(crate) fn runs(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// The first TCP address that it logs with this message.
    pub(crate) async fn address(&self, message: &str) -> SocketAddr {
        self.logged(message).await;
        let lines = self.lines();
        let mut addresses = lines
            .iter()
            .filter(|line| line["message"] == message)
            .filter_map(|line| line["address"].as_str());
        addresses.find_map(|address| address.parse().ok()).unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(sent.success() || !self.runs() || name == "KILL");
    }

    /// Blocks until it, and every process of its own that writes to its log, has ended.
    pub(crate) fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Waits for its end.
    pub(crate) async fn exit_status(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(TEST_TIMEOUT, exit.wait_for(Option::is_some)).await;
        let status = *ended.unwrap_or_else(|_| panic!("the process did not end")).unwrap();
        status.unwrap()
    }

    /// Stops it in the middle of its work.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        wait_until_stopped(self.pid);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Waits until a line of the log holds `text`.
    pub(crate) async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until `times` lines of the log hold `text`.
    pub(crate) async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let count = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(text)).count();
        let waited =
            tokio::time::timeout(TEST_TIMEOUT, log.wait_for(|lines| count(lines) >= times)).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "`{text}` was not logged {times} times:\n{}",
            self.log()
        );
    }

    /// Waits until a line of the log holds `text`: false if it ended before.
    pub(crate) async fn logged_before_its_end(&self, text: &str) -> bool {
        let mut log = self.log.clone();
        let waited = tokio::time::timeout(
            TEST_TIMEOUT,
            log.wait_for(|lines| lines.iter().any(|line| line.contains(text))),
        );
        let waited = waited.await;
        waited.unwrap_or_else(|_| panic!("`{text}` was not logged:\n{}", self.log())).is_ok()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// The log's lines, parsed.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.log.borrow();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that its resident memory ever was, in KiB.
    pub(crate) fn peak_resident_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// The processor time that its threads of now have had.
    pub(crate) fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        // The first figure; a thread may have ended since its name was read.
        let stats = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        stats
            .map(|stat| {
                Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
            })
            .sum()
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Blocks until each thread of a process that was sent a `STOP` has stopped, or it has ended: its
/// threads run on for a moment after the signal was sent.
pub(crate) fn wait_until_stopped(pid: u32) {
    let until = Instant::now() + TEST_TIMEOUT;
    let stopped = || {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
        let stats =
            threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        let mut states = stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next());
        states.all(|state| "TZX".contains(state))
    };
    while !stopped() {
        assert!(Instant::now() < until, "the process never stopped");
        std::thread::yield_now();
    }
}

/// The sum of the samples of a metric that carry these labels; `None` where there is none.
pub(crate) fn metric(metrics: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let values = metrics.lines().filter_map(sample).filter(|(sample, having, _)| {
        *sample == name && labels.iter().all(|(label, value)| having.get(label) == Some(value))
    });
    values.map(|(_, _, value)| value).reduce(|sum, value| sum + value)
}

/// A line of the exposition format: (name, labels, value).
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (named, value) = line.rsplit_once(' ')?;
    let (name, labels) = named.split_once('{').unwrap_or((named, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let labels = labels.map(|(label, value)| (label, value.trim_matches('"'))).collect();
    Some((name, labels, value.parse().ok()?))
}
