//! Databases as sources; and the servers that these tests meet: that each is what they take it for.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::pki::Pki;

mod bounds;
mod connections;
mod groups;
mod instant;
mod mongo;
mod mongo_connections;
mod mongo_parts;
#[cfg(feature = "mongodb")]
mod mongo_queries;
mod mongo_types;
mod parts;
mod pgbouncer;
mod postgres;
mod types;

/// Far longer than an answer of a server that runs.
const SILENCE: Duration = Duration::from_millis(300);
/// How a client of `PostgreSQL` begins a handshake.
const POSTGRES: &[&str] = &["-starttls", "postgres"];

/// A connection string of libpq: the sidecar's identity, and the server's certificate verified.
fn connection(server: SocketAddr, pki: &Pki, role: &str, more: &str) -> String {
    let (host, port, identity) = (server.ip(), server.port(), pki.dir().display());
    format!(
        "host={host} port={port} user={role} dbname=postgres sslmode=verify-full \
         sslrootcert={identity}/ca.crt sslcert={identity}/tls.crt sslkey={identity}/tls.key {more}"
    )
}

/// The handshake as `openssl s_client` tells it, without a client certificate, and the server's
/// certificate as text.
async fn handshake(server: SocketAddr, options: &'static [&str]) -> String {
    let run = move || {
        let client = Command::new("openssl")
            .args(["s_client", "-connect", &server.to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let met = String::from_utf8(client.stdout).unwrap();
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-ext", "subjectAltName"]);
        format!("{met}{}", run_with(command, &met))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// What a program says of its input.
fn run_with(mut command: Command, input: &str) -> String {
    use std::io::Write as _;

    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It may have read enough before the end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}
