//! A Redis of the demo's own: on a socket in its folder, without persistence, gone when the demo
//! is, however that ends.
//!
//! It runs in a process group of its own, so that the Ctrl-C that ends the demo does not end it
//! first; a shell beside it ends it when the demo's end of a pipe is closed, by a kill too.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// How long it may take to start, and to end.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to look.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The longest path of a socket (`sun_path`).
const SOCKET_PATH_MAX: usize = 107;
/// Waits for the end of its input, then ends the server.
const GUARD: &str = r#""$@" & server=$!; read -r _; kill "$server"; wait "$server""#;

/// The server.
#[derive(Debug)]
pub(super) struct PrivateRedis {
    guard: Child,
    socket: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateRedisError {
    /// The program is not there.
    #[error(
        "there is no `redis-server` on this machine\n\
         hint: `apt-get install redis-server` installs one, `--redis URL` names another"
    )]
    Missing,
    /// A socket cannot have so long a path.
    #[error(
        "`{}` is too long for a socket's path\n\
         hint: `TMPDIR` names another folder for temporary files",
        .0.display()
    )]
    LongPath(PathBuf),
    /// It did not come up.
    #[error("redis did not start: {0}")]
    Start(String),
}

impl PrivateRedis {
    /// Starts one whose files are in `dir`, and waits until it takes connections.
    pub(super) async fn start(dir: &Path) -> Result<Self, PrivateRedisError> {
        let program = find("redis-server").ok_or(PrivateRedisError::Missing)?;
        let socket = dir.join("redis.sock");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(PrivateRedisError::LongPath(socket));
        }
        let log = dir.join("redis.log");
        let guard = spawn(&program, &socket, &log)
            .map_err(|error| PrivateRedisError::Start(error.to_string()))?;
        let redis = Self { guard, socket };
        let accepts_connections = async {
            while UnixStream::connect(&redis.socket).await.is_err() {
                sleep(POLL_INTERVAL).await;
            }
        };
        match timeout(START_TIMEOUT, accepts_connections).await {
            Ok(()) => Ok(redis),
            Err(_) => Err(PrivateRedisError::Start(last_line(&log))),
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until && matches!(self.guard.try_wait(), Ok(None)) {
            std::thread::sleep(POLL_INTERVAL);
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn spawn(program: &Path, socket: &Path, log: &Path) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args([OsStr::new("-c"), OsStr::new(GUARD), OsStr::new("sh"), program.as_os_str()]);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocketperm", "700"]);
    command.arg("--unixsocket").arg(socket).arg("--logfile").arg(log);
    command.arg("--dir").arg(log.parent().unwrap_or(Path::new(".")));
    command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Where the shell would find a program.
fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}
