//! A crowd of hostile connections to one port, and the honest requests that have to be answered
//! beside it.
//!
//! A connection that is ended comes back at once, so more connections than a port has places also
//! push one another out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use super::client::TEST_TIMEOUT;
use super::wire;

/// The most connections of a crowd: more than the 1 024 places of a port.
const CROWD_MAX: usize = 1_500;
/// How often a connection of a crowd sends its next bytes.
const PACE: Duration = Duration::from_millis(500);
/// How long one that was ended waits before it comes back; else the test is about the machine's
/// speed.
const BACK_AFTER: Duration = Duration::from_secs(1);
/// How long an honest caller waits: a kubelet's probe of a careful pod.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// How often an honest caller asks, so that there is time for the crowd to come back again and
/// again.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Crowds come one after the other: each needs the files and the CPU of the machine.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// The behaviour of one connection of a crowd.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Sent at once.
    pub(crate) opening: Vec<u8>,
    /// Sent again and again, slowly. Empty: nothing more is sent.
    pub(crate) then: Vec<u8>,
    /// Whether answers are read. A connection that does not read does not notice its end either.
    pub(crate) reads: bool,
}

impl Script {
    pub(crate) fn new(opening: impl Into<Vec<u8>>, then: impl Into<Vec<u8>>) -> Self {
        Self { opening: opening.into(), then: then.into(), reads: true }
    }

    async fn run(&self, to: SocketAddr, connected: &AtomicUsize) {
        let Ok(mut stream) = TcpStream::connect(to).await else { return };
        if stream.write_all(&self.opening).await.is_err() {
            return;
        }
        connected.fetch_add(1, Ordering::SeqCst);
        let mut came = [0; 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut came), if self.reads => {
                    if !read.is_ok_and(|bytes| bytes > 0) {
                        return;
                    }
                }
                () = tokio::time::sleep(PACE) => {
                    if stream.write_all(&self.then).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Connections that stay until this is dropped.
pub(crate) struct Crowd {
    _connections: JoinSet<()>,
    _turn: SemaphorePermit<'static>,
}

impl Crowd {
    /// As many as this process may have, up to 1 500, which take turns in these scripts; returns
    /// once all are connected.
    pub(crate) async fn at(to: SocketAddr, scripts: &[Script]) -> Self {
        let turn = ONE_AT_A_TIME.acquire().await.unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let mut connections = JoinSet::new();
        let size = CROWD_MAX.min(open_files_max() / 8);
        for script in scripts.iter().cycle().take(size) {
            let script = script.clone();
            let connected = connected.clone();
            connections.spawn(async move {
                loop {
                    script.run(to, &connected).await;
                    tokio::time::sleep(BACK_AFTER).await;
                }
            });
        }
        let all = async {
            while connected.load(Ordering::SeqCst) < size {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, all).await.is_ok(),
            "the crowd never came together"
        );
        Self { _connections: connections, _turn: turn }
    }
}

/// How many files a process may have open here; the other tests of this process need some too.
pub(crate) fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}

/// Sends so many requests, each on a connection of its own as a kubelet does, and returns the
/// errors. It begins once the crowd has been accepted as far as that goes, so that a first request
/// is answered.
pub(crate) async fn probe(to: SocketAddr, path: &str, times: usize) -> Vec<String> {
    let request = wire::get(path, "connection: close\r\n");
    let first = async { while wire::once(to, &request, PROBE_MAX).await.is_err() {} };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, first).await.is_ok(),
        "nobody is answered beside the crowd"
    );
    let mut failed = Vec::new();
    for _ in 0..times {
        tokio::time::sleep(PROBE_EVERY).await;
        match wire::once(to, &request, PROBE_MAX).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}
