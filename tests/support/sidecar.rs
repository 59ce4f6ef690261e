//! The real binary as a process: told what to serve, asked over its real sockets, and heard by its log.
//!
//! It listens on ports that are free, and is killed when it is dropped. Waiting is on events: a log line, a probe's answer, the
//! end of the process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::client::{self, Asked, Consumer, Got, Http, PATIENCE, To, get};
use super::domain::DomainFile;
use super::pki::Pki;

/// The most lines of log that are kept; more is a fault of the test.
const LOG_LINES_MAX: usize = 200_000;

/// Variables that make a machine look as an empty image does: it has no list of authorities.
pub(crate) const NO_AUTHORITIES: [(&str, &str); 2] =
    [("SSL_CERT_FILE", "/nonexistent/file"), ("SSL_CERT_DIR", "/nonexistent/folder")];

/// The program under test, with an environment of its own.
pub(crate) fn bfb() -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_bfb")))
}

/// Another build of it.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null());
    command
}

/// A sidecar before its start.
pub(crate) struct Setup {
    dir: TempDir,
    command: Command,
}

impl Setup {
    /// `bfb serve` on a folder with these domains. It keeps nothing unless `--memory` is given: most tests are about what it
    /// collects.
    pub(crate) fn of(domains: &[&DomainFile]) -> Self {
        Self::of_command(bfb(), domains)
    }

    /// The same of another build of the program.
    pub(crate) fn of_program(path: &Path, domains: &[&DomainFile]) -> Self {
        Self::of_command(program(path), domains)
    }

    fn of_command(mut command: Command, domains: &[&DomainFile]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("domains")).unwrap();
        for domain in domains {
            fs::write(file_of(dir.path(), &domain.name), domain.text()).unwrap();
        }
        command.arg("serve").arg(dir.path().join("domains"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.env("BFB_MEMORY", "0");
        Self { dir, command }
    }

    pub(crate) fn identity(self, pki: &Pki) -> Self {
        self.arg("--identity").arg(pki.dir())
    }

    /// Allows `http://` upstreams.
    pub(crate) fn insecure(self) -> Self {
        self.arg("--insecure-upstreams")
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where files of the test can lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and returns once it is ready.
    pub(crate) async fn start(self) -> Sidecar {
        let Self { dir, mut command } = self;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (log, log_read) = watch::channel(Vec::new());
        let (exit, exit_read) = watch::channel(None);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.send_modify(|lines: &mut Vec<String>| lines.push(line));
                assert!(log.borrow().len() < LOG_LINES_MAX, "the sidecar logs without bound");
            }
            exit.send_replace(Some(child.wait().unwrap()));
        });
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut sidecar = Sidecar { dir, pid, listen: nowhere, admin: nowhere, log: log_read, exit: exit_read };
        sidecar.learn_addresses().await;
        sidecar
    }

    /// Runs it where it must refuse to start.
    pub(crate) async fn refused(self) -> Output {
        let mut command = self.command;
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        drop(self.dir);
        ran
    }
}

fn file_of(dir: &Path, domain: &str) -> PathBuf {
    dir.join("domains").join(format!("{domain}.yaml"))
}

/// A sidecar that runs.
pub(crate) struct Sidecar {
    dir: TempDir,
    pid: u32,
    listen: SocketAddr,
    admin: SocketAddr,
    log: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // A process that was waited for has no id any more.
        if self.exit.borrow().is_none() {
            self.signal("KILL");
        }
    }
}

impl Sidecar {
    async fn learn_addresses(&mut self) {
        self.listen = self.address("answering consumers").await;
        self.admin = self.address("admin port").await;
        let mut admin = Consumer::new(To::Tcp(self.admin), Http::One);
        let ready = async { while admin.get("/readyz").await.unwrap().status != 200 {} };
        assert!(tokio::time::timeout(PATIENCE, ready).await.is_ok(), "the sidecar never became ready");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where consumers ask.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators ask.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The first TCP address that it logs with this message.
    pub(crate) async fn address(&self, message: &str) -> SocketAddr {
        self.logged(message).await;
        let lines = self.lines();
        let mut addresses =
            lines.iter().filter(|line| line["message"] == message).filter_map(|line| line["address"].as_str());
        addresses.find_map(|address| address.parse().ok()).unwrap()
    }

    /// Where files of the test can lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file of a domain.
    pub(crate) fn file(&self, domain: &str) -> PathBuf {
        file_of(self.dir(), domain)
    }

    /// Puts `text` in the place of a domain's file at once.
    pub(crate) fn replace(&self, domain: &str, text: &str) {
        let new = self.dir().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(domain)).unwrap();
    }

    /// `GET path` as a consumer.
    pub(crate) async fn get(&self, path: &str) -> Got {
        self.send(get(path)).await
    }

    /// Any request as a consumer.
    pub(crate) async fn send(&self, request: Asked) -> Got {
        client::once(&To::Tcp(self.listen), Http::One, request).await
    }

    /// These bytes as a consumer's connection; what came until its end.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        client::raw(self.listen, bytes.as_ref()).await
    }

    /// A consumer that keeps its connection.
    pub(crate) fn consumer(&self, http: Http) -> Consumer {
        Consumer::new(To::Tcp(self.listen), http)
    }

    /// `GET path` on the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Got {
        self.send_admin(get(path)).await
    }

    pub(crate) async fn send_admin(&self, request: Asked) -> Got {
        client::once(&To::Tcp(self.admin), Http::One, request).await
    }

    /// The sum of a metric's samples that carry these labels; `None` where there is none.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let metrics = self.admin("/metrics").await;
        let samples = metrics.text().lines().filter_map(sample);
        let values = samples.filter(|(sample, having, _)| {
            *sample == name && labels.iter().all(|(label, value)| having.get(label) == Some(value))
        });
        values.map(|(_, _, value)| value).reduce(|sum, value| sum + value)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        assert!(sent.success() || self.exit.borrow().is_some() || name == "KILL");
    }

    /// Waits for its end.
    pub(crate) async fn exit_status(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(PATIENCE, exit.wait_for(Option::is_some)).await;
        let status = *ended.unwrap_or_else(|_| panic!("the sidecar did not end")).unwrap();
        status.unwrap()
    }

    /// Waits until a line of the log holds `text`.
    pub(crate) async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until `times` lines of the log hold `text`.
    pub(crate) async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let count = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(text)).count();
        let waited = tokio::time::timeout(PATIENCE, log.wait_for(|lines| count(lines) >= times)).await;
        assert!(matches!(waited, Ok(Ok(_))), "`{text}` was not logged {times} times:\n{}", self.log());
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// The log's lines, parsed.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.log.borrow();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
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
