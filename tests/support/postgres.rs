//! A `postgres` server of a test's own, on a loopback port, that can be killed, paused and started
//! again with its data, and that changes its certificate while it runs. It stops when it is
//! dropped.
//!
//! Its roles are named for what lets them in: [`CERTIFIED`], [`MAPPED`], [`PASSWORDED`],
//! [`TRUSTED`]. The superuser `postgres` comes by the Unix socket only. What the superuser makes,
//! every role may read.
//!
//! `BFB_TEST_POSTGRES_BIN` names the folder with the programs of another version.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use bfb::identity::issue::{IssuedCertificate, Leaf};
use tempfile::TempDir;

use super::account;
use super::pki::{Pki, profile};
use super::port::free;
use super::postgres_versions::{Programs, copy_folder, quick_folder, template};
use super::process::{Process, wait_until_stopped};

pub(crate) use super::postgres_versions::{
    CERTIFIED, MAPPED, PASSWORD, PASSWORDED, PostgresVersion, TRUSTED,
};

/// How often another port is tried where another process took it first.
const PORTS_MAX: usize = 8;

/// What it says once it can be asked.
const READY: &str = "database system is ready to accept connections";

/// What a server is like.
#[derive(Debug, Clone)]
pub(crate) struct PostgresSetup {
    /// Its programs.
    pub(crate) version: PostgresVersion,
    /// Whether it asks for a client certificate; where not, [`CERTIFIED`] and [`MAPPED`]
    /// cannot come in.
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
        let certified =
            format!("{host} all {CERTIFIED} all cert\n{host} all {MAPPED} all cert map=identities");
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
            // In files of its data, which go with it.
            "dynamic_shared_memory_type=mmap".to_owned(),
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
    programs: Programs,
    dir: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It gives its shared memory back only where it ends by itself.
        if self.process.runs() {
            self.resume();
            self.process.signal("QUIT");
            self.process.join();
        } else {
            give_back_shared_memory(&self.dir.path().join("data"));
        }
    }
}

impl Postgres {
    /// The usual one, without data.
    pub(crate) async fn start(pki: &Pki) -> Self {
        Self::start_with(pki, PostgresSetup::usual()).await
    }

    /// One that is like this, without data.
    pub(crate) async fn start_with(pki: &Pki, setup: PostgresSetup) -> Self {
        let dir = quick_folder();
        let home = dir.path();
        let data = home.join("data");
        let programs = setup.version.programs();
        copy_folder(&template(&setup.version), &data);
        fs::write(data.join("pg_hba.conf"), setup.hba()).unwrap();
        fs::write(data.join("pg_ident.conf"), format!("identities {CERTIFIED} {MAPPED}\n"))
            .unwrap();
        let shown = pki.authority.issue(&setup.leaf).unwrap();
        shown.write(home, pki.authority.ca_pem()).unwrap();
        account::give(home);
        for _ in 0..PORTS_MAX {
            let addr = free();
            if let Some(process) = launch(&programs, home, &setup, addr).await {
                return Self { process, addr, setup, programs, dir };
            }
        }
        panic!("no port for a `postgres`");
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it has TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.setup.version.tls
    }

    /// The folder of its Unix socket, by which every role comes in without a proof.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process, the parent of all others.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Runs a script as the superuser, statement by statement: what it answers, a line a row, the
    /// columns divided by `|`.
    pub(crate) fn sql(&self, script: &str) -> String {
        let (host, port) = (self.socket_dir(), self.addr.port());
        let to = format!("host={} port={port} user=postgres dbname=postgres", host.display());
        match psql(&to, script) {
            Ok(rows) => rows,
            Err(said) => panic!("psql: {said}\nthe server: {}", self.process.log()),
        }
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
        self.process.pause();
        for child in children(self.process.pid()) {
            signal(child, "KILL");
        }
        self.process.signal("KILL");
        self.process.join();
    }

    /// Starts it again after [`Self::kill`], with its data.
    pub(crate) async fn revive(&mut self) {
        let started = launch(&self.programs, self.dir.path(), &self.setup, self.addr).await;
        self.process = started.expect("its port is still free");
    }

    /// Stops all its processes in the middle of their work; their sockets stay open.
    pub(crate) fn pause(&self) {
        self.process.pause();
        for child in children(self.process.pid()) {
            signal(child, "STOP");
            wait_until_stopped(child);
        }
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        for child in children(self.process.pid()) {
            signal(child, "CONT");
        }
        self.process.resume();
    }

    /// Shows another certificate to the connections that come from now on.
    pub(crate) async fn rotate(&self, pki: &Pki, pair: &IssuedCertificate) {
        const REREAD: &str = "received SIGHUP, reloading configuration files";
        let home = self.dir.path();
        pair.write(home, pki.authority.ca_pem()).unwrap();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            account::give(&home.join(name));
        }
        let before = self.process.log().matches(REREAD).count();
        self.process.signal("HUP");
        // It accepts no connection between that line and the end of the reading.
        self.process.logged_times(REREAD, before + 1).await;
    }
}

/// Runs a script at the server of a connection string of libpq, with Debian's client: the rows, or
/// what it says of an error.
pub(crate) fn psql(to: &str, script: &str) -> Result<String, String> {
    let mut child = psql_command(to).spawn().expect("`psql` is installed (tests/deps.sh)");
    // It reads on while it answers, or fails and closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The client that runs what it reads, in a session that lasts as long as its input.
pub(crate) fn psql_command(to: &str) -> Command {
    let mut command = Command::new(PostgresVersion::usual().bin.join("psql"));
    command
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
        .args(["--set", "ON_ERROR_STOP=1", "--file", "-", "--dbname", to])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Nothing if the server ended instead of listening.
async fn launch(
    programs: &Programs,
    home: &Path,
    setup: &PostgresSetup,
    addr: SocketAddr,
) -> Option<Process> {
    let mut command = programs.command("postgres");
    command.current_dir(home).arg("-D").arg(home.join("data"));
    setup.all_settings(home, addr).into_iter().for_each(|setting| {
        command.arg("-c").arg(setting);
    });
    let process = Process::start(command);
    if process.logged_before_its_end(READY).await {
        return Some(process);
    }
    let log = process.log();
    assert!(log.contains("Address already in use"), "`postgres` does not start: {log}");
    None
}

/// Gives back the segment of a server that was killed: its number is the last one of the seventh
/// line of a file that only a server that was killed leaves behind.
fn give_back_shared_memory(data: &Path) {
    let Ok(left) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let segment = left.lines().nth(6).and_then(|line| line.split_whitespace().last());
    if let Some(segment) = segment {
        Command::new("ipcrm").args(["-m", segment]).stderr(Stdio::null()).status().unwrap();
    }
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
