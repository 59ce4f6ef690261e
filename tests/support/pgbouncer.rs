//! A `pgbouncer` of a test's own before a [`Postgres`], in transaction mode, that can be killed,
//! paused and started again. It speaks TLS both ways where the server has it, else to its clients
//! only, and lets the roles of `postgres` in as the server does (it
//! has no maps: `MAPPED` cannot come in). It stops when it is dropped.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use bfb::identity::issue::{Leaf, Usage};
use tempfile::TempDir;

use super::account;
use super::pki::Pki;
use super::port::free;
use super::postgres::{CERTIFIED, PASSWORD, PASSWORDED, Postgres, TRUSTED};
use super::process::Process;

/// Debian's.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// How often another port is tried where another process took it first.
const PORTS_MAX: usize = 8;

/// What it says once it can be asked.
const READY: &str = "process up";

/// The pooler.
pub(crate) struct PgBouncer {
    process: Process,
    addr: SocketAddr,
    dir: TempDir,
}

impl PgBouncer {
    /// One that shows the certificate of this leaf, and shares `connections` connections to the
    /// server among the clients of a role.
    pub(crate) async fn start(pki: &Pki, server: &Postgres, leaf: &Leaf, connections: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shown = pki.authority.issue(leaf).unwrap();
        shown.write(dir.path(), pki.authority.ca_pem()).unwrap();
        // It shows the server the certificate that the server maps to the role.
        let known = pki.authority.issue(&Leaf::new(CERTIFIED).usage(Usage::Client)).unwrap();
        let server_side = dir.path().join("server");
        known.write(&server_side, pki.authority.ca_pem()).unwrap();
        fs::write(dir.path().join("hba.conf"), hba()).unwrap();
        fs::write(dir.path().join("users.txt"), users()).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        for _ in 0..PORTS_MAX {
            let addr = free();
            let settings = settings(dir.path(), addr, server, connections);
            fs::write(dir.path().join("pgbouncer.ini"), settings).unwrap();
            account::give(dir.path());
            if let Some(process) = launch(dir.path()).await {
                return Self { process, addr, dir };
            }
        }
        panic!("no port for a `pgbouncer`");
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process, which is one.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.join();
    }

    /// Starts it again after [`Self::kill`].
    pub(crate) async fn revive(&mut self) {
        self.process = launch(self.dir.path()).await.expect("its port is still free");
    }
}

/// Nothing if it ended instead of listening.
async fn launch(dir: &Path) -> Option<Process> {
    let mut command = Command::new(PROGRAM);
    command.current_dir(dir).arg(dir.join("pgbouncer.ini"));
    account::lower(&mut command);
    let process = Process::start(command);
    process.logged_before_its_end(READY).await.then_some(process)
}

fn settings(dir: &Path, addr: SocketAddr, server: &Postgres, connections: u32) -> String {
    let (dir, host, port) = (dir.display(), server.addr().ip(), server.addr().port());
    let to_server = if server.has_tls() {
        format!(
            "server_tls_sslmode = verify-full\nserver_tls_ca_file = {dir}/server/ca.crt\n\
             server_tls_cert_file = {dir}/server/tls.crt\n\
             server_tls_key_file = {dir}/server/tls.key\n"
        )
    } else {
        "server_tls_sslmode = disable\n".to_owned()
    };
    format!(
        "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = {}\n\
         listen_port = {}\nunix_socket_dir =\nauth_type = hba\nauth_hba_file = {dir}/hba.conf\n\
         auth_file = {dir}/users.txt\npool_mode = transaction\n\
         default_pool_size = {connections}\nserver_login_retry = 0.1\n\
         client_tls_sslmode = require\n\
         client_tls_ca_file = {dir}/ca.crt\nclient_tls_cert_file = {dir}/tls.crt\n\
         client_tls_key_file = {dir}/tls.key\n{to_server}",
        addr.ip(),
        addr.port()
    )
}

/// Which role comes in how.
fn hba() -> String {
    format!(
        "hostssl all {CERTIFIED} 127.0.0.1/32 cert\n\
         hostssl all {PASSWORDED} 127.0.0.1/32 scram-sha-256\n\
         hostssl all {TRUSTED} 127.0.0.1/32 trust\n"
    )
}

/// The roles that it knows, with their passwords.
fn users() -> String {
    let user = |name: &str, password: &str| format!("\"{name}\" \"{password}\"\n");
    [user(CERTIFIED, ""), user(PASSWORDED, PASSWORD), user(TRUSTED, "")].concat()
}
