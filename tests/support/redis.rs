//! A `redis-server` of a test's own, on a loopback port, that can be killed, paused, flushed and
//! started again with or without its data. It stops when it is dropped. `BFB_TEST_REDIS_SERVER`
//! names another program, of another version.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use bfb::bus::RedisKind;
use tempfile::TempDir;

use super::client::TEST_TIMEOUT;

pub(crate) use super::port::free;

/// The permissions of the user `bfb`: those of `docs/redis.md`, and no more.
fn rules(options: &[String]) -> String {
    let cluster = options.iter().any(|option| option == "--cluster-enabled");
    format!("on >secret {}", bfb::bus::acl_rules("default", kind(cluster)))
}

/// The kind of Redis, as a sidecar names it.
pub(crate) fn kind(cluster: bool) -> RedisKind {
    match cluster {
        false => RedisKind::One,
        true if version() >= SEVEN => RedisKind::Cluster,
        true => RedisKind::OldCluster,
    }
}

/// How often another port is tried where another process took it first.
const PORTS_MAX: usize = 8;

/// The server.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
    options: Vec<String>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// A server without data.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A Cluster of one server that holds every slot.
    pub(crate) fn start_cluster() -> Self {
        let redis = Self::start_node(&[]);
        redis.take_slots(0..16_384);
        let until = Instant::now() + TEST_TIMEOUT;
        while !redis.command::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            assert!(Instant::now() < until, "the cluster never came up");
        }
        redis
    }

    /// A server of a Cluster; it holds no slots and has met no other node.
    pub(crate) fn start_node(options: &[&str]) -> Self {
        let bus = free().port().to_string();
        // Before 7.0 the bus has the port above the server's by 10000.
        let bus = if version() >= SEVEN { &["--cluster-port", &bus][..] } else { &[] };
        Self::start_with(&[&["--cluster-enabled", "yes"], bus, options].concat())
    }

    /// Makes these slots of a Cluster its own.
    pub(crate) fn take_slots(&self, slots: std::ops::Range<u16>) {
        let slots = slots.map(|slot| slot.to_string());
        redis::cmd("CLUSTER")
            .arg("ADDSLOTS")
            .arg(slots.collect::<Vec<_>>())
            .exec(&mut self.control())
            .unwrap();
    }

    /// A server that has everything that `primary` has, and that `primary` counts among its
    /// replicas.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let addr = primary.addr;
        let replica =
            Self::start_with(&["--replicaof", &addr.ip().to_string(), &addr.port().to_string()]);
        let until = Instant::now() + TEST_TIMEOUT;
        while !replica.command::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        {
            assert!(Instant::now() < until, "it never had everything");
            std::thread::yield_now();
        }
        // The replica is done before its primary has seen that the process that sent the data ended
        // (`wait_bgsave`).
        let counted: i64 = primary.command(&["WAIT", "1", &TEST_TIMEOUT.as_millis().to_string()]);
        assert!(counted >= 1, "its primary never counted it");
        replica
    }

    /// A sentinel that watches `primary` under the name `main`; `more` are lines of its
    /// configuration.
    pub(crate) fn sentinel_of(primary: SocketAddr, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addr = free();
        let file = dir.path().join("sentinel.conf");
        let host = primary.ip();
        let port = primary.port();
        let lines = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor main {host} {port} 1\n",
            addr.port()
        );
        let lines = more.iter().fold(lines, |lines, line| lines + line + "\n");
        std::fs::write(&file, lines).unwrap();
        let mut command = Command::new(program());
        command.arg(&file).arg("--sentinel");
        Self { child: ready(&mut command).expect("a sentinel"), addr, dir, options: vec![] }
    }

    /// A server without data, with more options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..PORTS_MAX {
            let addr = free();
            if let Some(child) = launch(addr, &dir, &options) {
                return Self { child, addr, dir, options };
            }
        }
        panic!("no port for a redis-server");
    }

    /// Where its bus listens, if it is a node of a Cluster.
    pub(crate) fn cluster_port(&self) -> u16 {
        let given = self.options.iter().position(|option| option == "--cluster-port");
        given.map_or_else(|| self.addr.port() + 10_000, |at| self.options[at + 1].parse().unwrap())
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of its administrator, who has all permissions.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// A connection of the administrator's.
    pub(crate) fn control(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Does one command as the administrator.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, args) = words.split_first().unwrap();
        redis::cmd(name).arg(args).query(&mut self.control()).unwrap()
    }

    /// Deletes everything.
    pub(crate) fn flush(&self) {
        self.command::<()>(&["FLUSHALL"]);
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Self::kill`], with the data that it had saved.
    pub(crate) fn revive(&mut self) {
        self.child = launch(self.addr, &self.dir, &self.options).expect("its port is still free");
    }

    /// Ends it and starts it again with all its data.
    pub(crate) fn restart_with_data(&mut self) {
        self.command::<()>(&["SAVE"]);
        self.kill();
        self.revive();
    }

    /// Ends it and starts it again empty.
    pub(crate) fn restart_without_data(&mut self) {
        self.kill();
        self.lose();
        self.revive();
    }

    /// Deletes the data that it had saved.
    pub(crate) fn lose(&self) {
        // It may never have saved anything.
        let _ = std::fs::remove_file(self.dir.path().join("dump.rdb"));
    }

    /// Stops its process in the middle of its work; its sockets stay open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done =
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

/// The server's program.
fn program() -> OsString {
    std::env::var_os("BFB_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// The first that has sharded pub/sub.
pub(crate) const SEVEN: (u32, u32) = (7, 0);

/// Which one it is: `Redis server v=7.0.15 …`, `Valkey server v=9.1.2 …`.
pub(crate) fn version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = Command::new(program())
            .arg("--version")
            .output()
            .expect("`redis-server` (tests/deps.sh)");
        let said = String::from_utf8(output.stdout).unwrap();
        let mut numbers =
            said.split_once("v=").unwrap().1.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    })
}

fn launch(addr: SocketAddr, dir: &TempDir, options: &[String]) -> Option<Child> {
    let mut command = Command::new(program());
    if version() >= SEVEN {
        command.args(["--enable-debug-command", "yes"]);
    }
    command
        .args(["--port", &addr.port().to_string(), "--bind", &addr.ip().to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--user", "bfb"])
        .args(rules(options).split_whitespace())
        .args(options)
        .arg("--dir")
        .arg(dir.path());
    ready(&mut command)
}

/// Nothing if the server ended instead of listening.
fn ready(command: &mut Command) -> Option<Child> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("`redis-server` is installed (tests/deps.sh)");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said =
        |line: &str| line.contains("eady to accept connections") || line.contains("Sentinel ID is");
    let ready = lines.any(|line| line.is_ok_and(|line| said(&line)));
    // Later output would fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    if ready {
        return Some(child);
    }
    child.wait().unwrap();
    None
}
