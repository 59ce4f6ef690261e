//! The real binary as a sidecar: given domains to serve, and asked over its real sockets, on ports
//! that are free.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::client::{
    self, ClientRequest, ClientResponse, Consumer, Endpoint, HttpVersion, TEST_TIMEOUT, get,
};
use super::domain::DomainFile;
use super::pki::Pki;
use super::process::{Process, metric};

/// Variables that make a machine look as an empty image does: it has no list of authorities.
pub(crate) const NO_AUTHORITIES: [(&str, &str); 2] =
    [("SSL_CERT_FILE", "/nonexistent/file"), ("SSL_CERT_DIR", "/nonexistent/folder")];

/// Between two looks at a sidecar.
const LOOK: Duration = Duration::from_millis(10);

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
    /// `bfb serve` on a folder with these domains. It stores nothing unless `--memory` is given:
    /// most tests are about collecting.
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

    /// Runs it in the cgroup whose `cgroup.procs` this is.
    pub(crate) fn in_cgroup(self, processes: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command.env_clear().stdin(Stdio::null());
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(processes);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Self { command, ..self }
    }

    /// Where files of the test can lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and returns once it is ready.
    pub(crate) async fn start(self) -> Sidecar {
        let Self { dir, command } = self;
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut sidecar =
            Sidecar { dir, process: Process::start(command), listen: nowhere, admin: nowhere };
        sidecar.learn_addresses().await;
        sidecar
    }

    /// Starts it with its admin port elsewhere than a [`Sidecar`] looks for it. Its folder lasts as
    /// long as the test holds it.
    pub(crate) fn start_with_admin(self, address: &str) -> (TempDir, Process) {
        let mut args: Vec<_> = self.command.get_args().map(OsStr::to_owned).collect();
        let admin = args.iter().position(|arg| arg == "--admin").unwrap();
        args[admin + 1] = address.into();
        let mut command = program(Path::new(self.command.get_program()));
        command.args(args);
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        (self.dir, Process::start(command))
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
    process: Process,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Deref for Sidecar {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Sidecar {
    async fn learn_addresses(&mut self) {
        self.listen = self.address("answering consumers").await;
        self.admin = self.address("admin port").await;
        let mut admin = Consumer::new(Endpoint::Tcp(self.admin), HttpVersion::Http1);
        let ready = async { while admin.get("/readyz").await.unwrap().status != 200 {} };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, ready).await.is_ok(),
            "the sidecar never became ready"
        );
    }

    /// Where consumers ask.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators ask.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
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
    pub(crate) async fn get(&self, path: &str) -> ClientResponse {
        self.send(get(path)).await
    }

    /// Any request as a consumer.
    pub(crate) async fn send(&self, request: ClientRequest) -> ClientResponse {
        client::once(&Endpoint::Tcp(self.listen), HttpVersion::Http1, request).await
    }

    /// Sends these bytes on a consumer's connection, and returns all that came until its end.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        client::raw(self.listen, bytes.as_ref()).await
    }

    /// A consumer that keeps its connection.
    pub(crate) fn consumer(&self, http: HttpVersion) -> Consumer {
        Consumer::new(Endpoint::Tcp(self.listen), http)
    }

    /// `GET path` on the admin port.
    pub(crate) async fn admin(&self, path: &str) -> ClientResponse {
        self.send_admin(get(path)).await
    }

    pub(crate) async fn send_admin(&self, request: ClientRequest) -> ClientResponse {
        client::once(&Endpoint::Tcp(self.admin), HttpVersion::Http1, request).await
    }

    /// Waits until a metric without labels has come to `value`.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        let so = async {
            // A sidecar that is looked at without a pause gets little else done.
            while self.metric(name, &[]).await != Some(value) {
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, so).await.is_ok(),
            "`{name}` never came to {value}"
        );
    }

    /// Waits until so many callers have joined a flight that was there before they came.
    pub(crate) async fn until_joined(&self, callers: f64) {
        self.until_metric("bfb_cache_collapsed_total", callers).await;
    }

    /// The sum of a metric's samples that carry these labels; `None` where there is none.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metric(self.admin("/metrics").await.text(), name, labels)
    }
}
