//! A `postgres` server of a test's own, on a loopback port, that can be killed, paused and started
//! again with its data, and that changes its certificate while it runs. It stops when it is dropped.
//!
//! Its roles are named for what lets them in: [`CERTIFIED`], [`PASSWORDED`], [`TRUSTED`]. The
//! superuser `postgres` comes by the Unix socket only. What the superuser makes, every role may
//! read.
//!
//! `BFB_TEST_POSTGRES_BIN` names the folder with the programs of another version.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bfb::identity::issue::{IssuedCertificate, Leaf};
use tempfile::TempDir;

use super::account;
use super::pki::{Pki, profile};
use super::port::free;
use super::process::Process;

/// The role that must show a client certificate of the authority, with the common name `web`.
pub(crate) const CERTIFIED: &str = "certified";
/// The role that must know [`PASSWORD`] (SCRAM-SHA-256).
pub(crate) const PASSWORDED: &str = "passworded";
/// The password of [`PASSWORDED`].
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The role of which nothing is demanded but TLS, where the server has TLS.
pub(crate) const TRUSTED: &str = "trusted";

/// How often another port is tried where another process took it first.
const PORTS_MAX: usize = 8;

/// The state of [`template`]: another number makes them anew.
const TEMPLATE: u32 = 1;

/// What it says once it can be asked.
const READY: &str = "database system is ready to accept connections";

/// The programs of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresVersion {
    /// The folder that holds them.
    bin: PathBuf,
    /// Whether they were built with TLS.
    pub(crate) tls: bool,
}

impl PostgresVersion {
    /// Debian's newest, or the one that the environment names.
    pub(crate) fn usual() -> Self {
        let named = std::env::var_os("BFB_TEST_POSTGRES_BIN").map(PathBuf::from);
        let bin = named.or_else(|| found(Path::new("/usr/lib/postgresql"), "bin").pop());
        Self { bin: bin.expect("`postgres` is installed (tests/deps.sh)"), tls: true }
    }

    /// Every one that is there: the usual one, and those of `tests/database-servers.sh`.
    pub(crate) fn all() -> Vec<Self> {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/databases");
        let npm = servers.join("postgres-npm/node_modules/@embedded-postgres");
        let npm = found(&npm, "native/bin").into_iter().map(|bin| Self { bin, tls: true });
        let pypi = servers.join("postgres-pypi/lib");
        let pypi = found(&pypi, "site-packages/embedded_postgres/pginstall/bin");
        let pypi = pypi.into_iter().map(|bin| Self { bin, tls: false });
        [Self::usual()].into_iter().chain(npm).chain(pypi).collect()
    }

    /// What it calls itself: `postgres (PostgreSQL) 18.4`.
    pub(crate) fn name(&self) -> String {
        let output = Command::new(self.bin.join("postgres")).arg("--version").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The folder of its programs, or of copies in `dir` where the servers' user cannot reach them.
    fn reachable(&self, dir: &Path) -> PathBuf {
        if account::can_run(&self.bin.join("postgres")) {
            return self.bin.clone();
        }
        // As far up as the libraries are that both registries bring along.
        let whole = self.bin.ancestors().nth(3).unwrap();
        let copy = dir.join("programs");
        copy_folder(whole, &copy);
        copy.join(self.bin.strip_prefix(whole).unwrap())
    }
}

/// The folders `parent/*/rest` that are there, in the order of their names.
fn found(parent: &Path, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return vec![] };
    let folders = entries.map(|entry| entry.unwrap().path().join(rest));
    let mut folders: Vec<_> = folders.filter(|folder| folder.is_dir()).collect();
    folders.sort();
    folders
}

/// Copies a folder with all that is in it.
fn copy_folder(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(done.success(), "{} cannot be copied", from.display());
}

/// What a server is like.
#[derive(Debug, Clone)]
pub(crate) struct PostgresSetup {
    /// Its programs.
    pub(crate) version: PostgresVersion,
    /// Whether it asks for a client certificate; where not, [`CERTIFIED`] cannot come in.
    pub(crate) asks: bool,
    /// The certificate that it shows.
    pub(crate) leaf: Leaf,
    /// More settings, such as `log_statement=all`.
    pub(crate) settings: Vec<String>,
}

impl PostgresSetup {
    /// The usual version, which asks and shows [`profile`].
    pub(crate) fn usual() -> Self {
        Self {
            version: PostgresVersion::usual(),
            asks: true,
            leaf: profile(),
            settings: Vec::new(),
        }
    }

    /// The same with another version.
    pub(crate) fn of(version: PostgresVersion) -> Self {
        Self { version, ..Self::usual() }
    }

    /// With this setting too.
    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Which role comes in how.
    fn hba(&self) -> String {
        let host = if self.version.tls { "hostssl" } else { "host" };
        let certified = format!("{host} all {CERTIFIED} all cert map=identities");
        let lines = [
            "local all all trust",
            if self.version.tls && self.asks { &certified } else { "" },
            &format!("{host} all {PASSWORDED} all scram-sha-256"),
            &format!("{host} all {TRUSTED} all trust"),
        ];
        lines.map(|line| line.to_owned() + "\n").concat()
    }

    /// All settings, `name=value` each.
    fn all_settings(&self, home: &Path, addr: SocketAddr) -> Vec<String> {
        let home = home.display();
        let mut settings = vec![
            format!("listen_addresses={}", addr.ip()),
            format!("port={}", addr.port()),
            format!("unix_socket_directories={home}"),
            // A killed process loses nothing without these: only a machine without power does.
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "log_line_prefix=%u ".to_owned(),
        ];
        if self.version.tls {
            settings.extend([
                "ssl=on".to_owned(),
                format!("ssl_cert_file={home}/tls.crt"),
                format!("ssl_key_file={home}/tls.key"),
            ]);
        }
        if self.version.tls && self.asks {
            settings.push(format!("ssl_ca_file={home}/ca.crt"));
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }
}

/// The server.
pub(crate) struct Postgres {
    process: Process,
    addr: SocketAddr,
    setup: PostgresSetup,
    /// The folder of its programs.
    bin: PathBuf,
    dir: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It gives its shared memory back only where it ends by itself.
        self.resume();
        self.process.signal("QUIT");
        self.process.join();
    }
}

impl Postgres {
    /// The usual one, without data.
    pub(crate) async fn start(pki: &Pki) -> Self {
        Self::start_with(pki, PostgresSetup::usual()).await
    }

    /// One that is like this, without data.
    pub(crate) async fn start_with(pki: &Pki, setup: PostgresSetup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let bin = setup.version.reachable(dir.path());
        let home = home_in(dir.path());
        let data = home.join("data");
        fs::create_dir(&home).unwrap();
        copy_folder(&template(&setup.version), &data);
        fs::write(data.join("pg_hba.conf"), setup.hba()).unwrap();
        fs::write(data.join("pg_ident.conf"), format!("identities web {CERTIFIED}\n")).unwrap();
        let shown = pki.authority.issue(&setup.leaf).unwrap();
        shown.write(&home, pki.authority.ca_pem()).unwrap();
        account::give(&home);
        for _ in 0..PORTS_MAX {
            let addr = free();
            if let Some(process) = launch(&bin, &home, &setup, addr).await {
                return Self { process, addr, setup, bin, dir };
            }
        }
        panic!("no port for a `postgres`");
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The folder of its Unix socket, by which every role comes in without a proof.
    pub(crate) fn socket_dir(&self) -> PathBuf {
        home_in(self.dir.path())
    }

    /// Its process, the parent of all others.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Runs a script as the superuser, statement by statement: what it answers, a line a row, the
    /// columns divided by `|`.
    pub(crate) fn sql(&self, script: &str) -> String {
        let own = self.bin.join("psql");
        let psql = if own.is_file() { own } else { PostgresVersion::usual().bin.join("psql") };
        let mut child = Command::new(psql)
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set", "ON_ERROR_STOP=1", "--username", "postgres", "--file", "-"])
            .args(["--port", &self.addr.port().to_string(), "--host"])
            .arg(self.socket_dir())
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It reads all of the script before it writes more than a pipe holds, or fails.
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {said}\nthe server: {}", self.process.log());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// How many connections of clients are in this state of `pg_stat_activity`, such as `idle in
    /// transaction`, aborted ones with it.
    pub(crate) fn connections(&self, state: &str) -> usize {
        let counted = self.sql(&format!(
            "select count(*) from pg_stat_activity \
             where state like '{state}%' and pid <> pg_backend_pid()"
        ));
        counted.parse().unwrap()
    }

    /// Ends it with all its processes as a power cut would.
    pub(crate) fn kill(&mut self) {
        // A process that is stopped starts no other while these are counted.
        self.process.signal("STOP");
        for child in children(self.process.pid()) {
            signal(child, "KILL");
        }
        self.process.signal("KILL");
        self.process.join();
    }

    /// Starts it again after [`Self::kill`], with its data.
    pub(crate) async fn revive(&mut self) {
        let started = launch(&self.bin, &self.socket_dir(), &self.setup, self.addr).await;
        self.process = started.expect("its port is still free");
    }

    /// Stops all its processes in the middle of their work; their sockets stay open.
    pub(crate) fn pause(&self) {
        self.process.signal("STOP");
        children(self.process.pid()).into_iter().for_each(|child| signal(child, "STOP"));
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        children(self.process.pid()).into_iter().for_each(|child| signal(child, "CONT"));
        self.process.signal("CONT");
    }

    /// Shows another certificate to the connections that come from now on.
    pub(crate) async fn rotate(&self, pki: &Pki, pair: &IssuedCertificate) {
        const REREAD: &str = "received SIGHUP, reloading configuration files";
        let home = self.socket_dir();
        pair.write(&home, pki.authority.ca_pem()).unwrap();
        ["tls.crt", "tls.key", "ca.crt"].iter().for_each(|name| account::give(&home.join(name)));
        let before = self.process.log().matches(REREAD).count();
        self.process.signal("HUP");
        // It accepts no connection between that line and the end of the reading.
        self.process.logged_times(REREAD, before + 1).await;
    }
}

/// The folder of a server's data, files and socket: its user's own.
fn home_in(dir: &Path) -> PathBuf {
    dir.join("home")
}

/// Nothing if the server ended instead of listening.
async fn launch(
    bin: &Path,
    home: &Path,
    setup: &PostgresSetup,
    addr: SocketAddr,
) -> Option<Process> {
    let mut command = Command::new(bin.join("postgres"));
    command.current_dir(home).arg("-D").arg(home.join("data"));
    setup.all_settings(home, addr).into_iter().for_each(|setting| {
        command.arg("-c").arg(setting);
    });
    account::lower(&mut command);
    let process = Process::start(command);
    if process.logged_before_its_end(READY).await {
        return Some(process);
    }
    let log = process.log();
    assert!(log.contains("Address already in use"), "`postgres` does not start: {log}");
    None
}

/// A folder of data with the roles, made once for each version.
fn template(version: &PostgresVersion) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock();
    let name = version.name().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{TEMPLATE}"));
    if kept.is_dir() {
        return kept;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    let bin = version.reachable(dir.path());
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    account::give(&data);
    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8"])
        .args(["--locale", "C", "--wal-segsize", "1", "--no-sync", "--pgdata"])
        .arg(&data)
        .current_dir(&data);
    run(initdb, "");
    let mut single = Command::new(bin.join("postgres"));
    single.args(["--single", "-D"]).arg(&data).arg("postgres").current_dir(&data);
    run(single, &roles());
    // Another process may make the same at the same time: whichever is first stays.
    let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy_folder(&data, &made.path().join("data"));
    if let Err(error) = fs::rename(made.path().join("data"), &kept) {
        assert!(kept.is_dir(), "{error}");
    }
    kept
}

/// The statements of a new server, a line each.
fn roles() -> String {
    let lines = [
        &format!("create role {CERTIFIED} login"),
        &format!("create role {PASSWORDED} login password '{PASSWORD}'"),
        &format!("create role {TRUSTED} login"),
        "alter default privileges grant select on tables to public",
    ];
    lines.map(|line| format!("{line};\n")).concat()
}

/// Runs a program as the servers' user.
fn run(mut command: Command, input: &str) {
    account::lower(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{command:?}: {said}");
}

/// The processes that this one started.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// The second figure after the name, which is in parentheses.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal to a process that may have ended already.
fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    let sent = kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
    sent.unwrap();
}
