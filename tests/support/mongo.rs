//! A server of a test's own that speaks `MongoDB`'s protocol over TLS, on a loopback port, that can
//! be killed, paused and started again. It stops when it is dropped. No `mongod` can be had from a
//! registry, so it is one of two others ([`MongoKind`]).
//!
//! `SecantusDB` is under the GPL: it runs as a process of its own, and nothing here is linked with
//! it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bfb::identity::issue::{Leaf, Usage};
use tempfile::TempDir;

use super::pki::{Asks, Pki, profile};
use super::port::free;
use super::postgres_versions::{copy_folder, quick_folder};
use super::process::Process;

/// The user that may read every database.
pub(crate) const READER: &str = "reader";
/// The user that may read and write every database.
pub(crate) const WRITER: &str = "writer";
/// The user of [`Mongo::script`].
const ROOT: &str = "root";
/// The password of these users (SCRAM-SHA-256).
pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";

/// How often another port is tried where another process took it first.
const PORTS_MAX: usize = 8;

/// What each of them says once it can be asked.
const READY: &str = "listening on ";

/// The users of a new server, as a script: the one of `MONGODB-X509` has the common name of ours.
const USERS: &str = r#"
roles = {"reader": "readAnyDatabase", "writer": "readWriteAnyDatabase", "root": "root"}
for user, role in roles.items():
    client.admin.command("createUser", user, pwd=PASSWORD, roles=[role])
reads = {"role": "readAnyDatabase", "db": "admin"}
client["$external"].command("createUser", "CN=web", mechanisms=["MONGODB-X509"], roles=[reads])
"#;

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MongoKind {
    /// `SecantusDB`: a replica set of one member, with users, transactions and sessions.
    Secantus,
    /// `mongo-java-server`: a server without a replica set, in memory, which asks for no client
    /// certificate and knows no users, sessions or views.
    Java,
}

impl MongoKind {
    /// Those that are installed.
    pub(crate) fn all() -> Vec<Self> {
        [Self::Secantus, Self::Java].into_iter().filter(|kind| kind.is_there()).collect()
    }

    /// Whether it is installed; says so where it is not.
    #[allow(clippy::print_stderr, reason = "a test that looks at nothing should say so")]
    fn is_there(self) -> bool {
        // The installation writes this file last.
        let is_there = self.folder().with_extension("installed").is_file();
        if !is_there {
            eprintln!("passed over: there is no {self:?} (hint: `sh tests/database-servers.sh`)");
        }
        is_there
    }

    /// Where `tests/database-servers.sh` installs it.
    fn folder(self) -> PathBuf {
        let name = match self {
            Self::Secantus => "mongo-pypi",
            Self::Java => "mongo-maven",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/databases").join(name)
    }
}

/// What a server is like.
#[derive(Debug, Clone)]
pub(crate) struct MongoSetup {
    pub(crate) kind: MongoKind,
    /// Whether it asks for a client certificate.
    pub(crate) asks: Asks,
    /// Whether only its users may do anything.
    pub(crate) auth: bool,
    /// The certificate that it shows.
    pub(crate) leaf: Leaf,
}

impl MongoSetup {
    /// `SecantusDB` without users, which demands a client certificate and shows [`profile`].
    pub(crate) fn usual() -> Self {
        Self { kind: MongoKind::Secantus, asks: Asks::Always, auth: false, leaf: profile() }
    }

    /// One of this kind that asks for as much as it can.
    pub(crate) fn of(kind: MongoKind) -> Self {
        let asks = match kind {
            MongoKind::Secantus => Asks::Always,
            MongoKind::Java => Asks::Never,
        };
        Self { kind, asks, ..Self::usual() }
    }

    fn command(&self, home: &Path, addr: SocketAddr) -> Command {
        let folder = self.kind.folder();
        let port = addr.port().to_string();
        match self.kind {
            MongoKind::Secantus => {
                // With `configureFailPoint`, by which a script makes it slow or fail.
                let mut command = Command::new(folder.join("bin/secantusd-py"));
                command.arg("--enable-test-commands");
                command.args(["--port", &port, "--storage-path"]).arg(home.join("data"));
                command.arg("--tls-cert-file").arg(home.join("tls.crt"));
                command.arg("--tls-key-file").arg(home.join("tls.key"));
                if self.asks != Asks::Never {
                    command.arg("--tls-ca-file").arg(home.join("ca.crt"));
                }
                if self.asks == Asks::Always {
                    command.arg("--tls-require-client-cert");
                }
                if self.auth {
                    command.arg("--auth");
                }
                command
            }
            MongoKind::Java => {
                assert!(self.asks == Asks::Never && !self.auth, "it has nothing of the kind");
                let mut command = Command::new("java");
                command.arg("-cp").arg(format!("{0}/*:{0}", folder.display()));
                command.args(["MongoServerMain", &port]).arg(home);
                command
            }
        }
    }
}

/// The server.
pub(crate) struct Mongo {
    process: Process,
    addr: SocketAddr,
    setup: MongoSetup,
    dir: TempDir,
}

impl Mongo {
    /// The usual one, without data; none where it is not installed.
    pub(crate) async fn start(pki: &Pki) -> Option<Self> {
        Self::start_with(pki, MongoSetup::usual()).await
    }

    /// One that is like this, without data; none where it is not installed.
    pub(crate) async fn start_with(pki: &Pki, setup: MongoSetup) -> Option<Self> {
        if !setup.kind.is_there() {
            return None;
        }
        let data = match setup.kind {
            MongoKind::Secantus => Some(template().await),
            MongoKind::Java => None,
        };
        Some(Self::start_from(pki, setup, data.as_deref()).await)
    }

    async fn start_from(pki: &Pki, setup: MongoSetup, data: Option<&Path>) -> Self {
        let dir = quick_folder();
        if let Some(data) = data {
            copy_folder(data, &dir.path().join("data"));
        }
        let shown = pki.authority.issue(&setup.leaf).unwrap();
        shown.write(dir.path(), pki.authority.ca_pem()).unwrap();
        let known = Leaf::new("administrator").usage(Usage::Client);
        let known = pki.authority.issue(&known).unwrap();
        let pair = known.cert_pem + &known.key_pem;
        fs::write(dir.path().join("administrator.pem"), pair).unwrap();
        for _ in 0..PORTS_MAX {
            let addr = free();
            if let Some(process) = launch(setup.command(dir.path(), addr)).await {
                return Self { process, addr, setup, dir };
            }
        }
        panic!("no port for a server of MongoDB's protocol");
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs a script of `pymongo` as the administrator, with `client`, its database `shop` as `db`,
    /// and `bson`: what it prints.
    pub(crate) async fn script(&self, script: &str) -> String {
        let dir = self.dir.path().display();
        let options =
            format!("tlsCAFile={dir}/ca.crt&tlsCertificateKeyFile={dir}/administrator.pem");
        let user = if self.setup.auth { format!("{ROOT}:{PASSWORD}@") } else { String::new() };
        let url = format!("mongodb://{user}{}/?tls=true&{options}", self.addr);
        match pymongo(&url, script).await {
            Ok(printed) => printed,
            Err(said) => panic!("{said}\nthe server: {}", self.process.log()),
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.join();
    }

    /// Starts it again after [`Self::kill`], with its data if it is not one in memory.
    pub(crate) async fn revive(&mut self) {
        let started = launch(self.setup.command(self.dir.path(), self.addr)).await;
        self.process = started.expect("its port is still free");
    }

    /// Stops its process in the middle of its work; its sockets stay open.
    pub(crate) fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.process.resume();
    }
}

/// Runs a script of `pymongo` (it comes with `SecantusDB`) at the server of a URL, with `client`,
/// its database `shop` as `db`, and `bson`: what it prints, or what it says of an error.
pub(crate) async fn pymongo(url: &str, script: &str) -> Result<String, String> {
    let url = url.to_owned();
    let script = format!(
        "import sys, bson, datetime\nfrom pymongo import MongoClient\nPASSWORD = '{PASSWORD}'\n\
         client = MongoClient(sys.argv[1])\ndb = client.shop\n\
         {script}"
    );
    let run = move || {
        let mut child = Command::new(MongoKind::Secantus.folder().join("bin/python"))
            .args(["-", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Nothing if the server ended instead of listening.
async fn launch(command: Command) -> Option<Process> {
    let process = Process::start(command);
    if process.logged_before_its_end(READY).await {
        return Some(process);
    }
    let log = process.log();
    assert!(log.contains("Address already in use"), "the server does not start: {log}");
    None
}

/// A folder of data with the users, made once and kept.
async fn template() -> PathBuf {
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = MAKING.lock().await;
    let installed = fs::read_to_string(MongoKind::Secantus.folder().with_extension("installed"));
    let mut content = DefaultHasher::new();
    (installed.unwrap(), USERS, PASSWORD).hash(&mut content);
    let kept = format!("mongo-{:016x}", content.finish());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(kept);
    if kept.is_dir() {
        return kept;
    }
    let pki = Pki::new();
    let mut server = Mongo::start_from(&pki, MongoSetup::usual(), None).await;
    server.script(USERS).await;
    server.process.signal("TERM");
    server.process.join();
    // Another process may make the same at the same time: whichever is first stays.
    let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy_folder(&server.dir.path().join("data"), &made.path().join("data"));
    if let Err(error) = fs::rename(made.path().join("data"), &kept) {
        assert!(kept.is_dir(), "{error}");
    }
    kept
}
