//! `PostgreSQL`, in each version that is there.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use bfb::identity::issue::Leaf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{POSTGRES, SILENCE, connection, handshake};
use crate::support::client::TEST_TIMEOUT;
use crate::support::pki::{PROFILE, Pki};
use crate::support::postgres::{
    CERTIFIED, MAPPED, PASSWORD, PASSWORDED, Postgres, PostgresSetup, PostgresVersion, TRUSTED,
    psql, psql_command,
};

/// What a client writes to ask whether there is TLS; the answer is one byte, `S` or `N`.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn with_tls() -> impl Iterator<Item = PostgresVersion> {
    PostgresVersion::all().into_iter().filter(|version| version.tls)
}

#[tokio::test]
async fn every_version_keeps_its_data_when_it_is_killed() {
    let pki = Pki::new();
    for version in PostgresVersion::all() {
        let name = version.name();
        let mut server = Postgres::start_with(&pki, PostgresSetup::of(version)).await;
        server.sql("create table orders (id int8, text text); insert into orders values (1, 'a')");
        server.kill();
        server.revive().await;
        assert_eq!(server.sql("select * from orders"), "1|a", "{name}");
    }
}

#[tokio::test]
async fn a_server_asks_for_a_client_certificate_or_does_not() {
    let pki = Pki::new();
    for version in with_tls() {
        for asks in [true, false] {
            let name = version.name();
            let setup = PostgresSetup { asks, ..PostgresSetup::of(version.clone()) };
            let server = Postgres::start_with(&pki, setup).await;
            let said = handshake(server.addr(), POSTGRES).await;
            assert!(said.contains(PROFILE), "{name}: {said}");
            assert_eq!(said.contains("Requested Signature Algorithms"), asks, "{name}");
        }
    }
}

#[tokio::test]
async fn each_role_comes_in_by_its_own_proof_only() {
    let pki = Pki::new();
    for version in with_tls() {
        let name = version.name();
        let server = Postgres::start_with(&pki, PostgresSetup::of(version)).await;
        let ask = |role: &str, more: &str| {
            let to = connection(server.addr(), &pki, role, more);
            psql(&to, "select current_user")
        };
        for role in [CERTIFIED, MAPPED] {
            assert_eq!(ask(role, "").as_deref(), Ok(role), "{name}");
            let without = ask(role, "sslcert=/none sslkey=/none").unwrap_err();
            assert!(without.contains("valid client certificate"), "{name}: {without}");
        }
        let nobody = "sslcert=/none sslkey=/none";
        assert_eq!(ask(TRUSTED, nobody).as_deref(), Ok(TRUSTED), "{name}");
        let password = format!("{nobody} password='{PASSWORD}' channel_binding=require");
        assert_eq!(ask(PASSWORDED, &password).as_deref(), Ok(PASSWORDED), "{name}");
        let wrong = ask(PASSWORDED, &format!("{nobody} password=wrong")).unwrap_err();
        assert!(wrong.contains("password authentication failed"), "{name}: {wrong}");
        let plain = ask(TRUSTED, "sslmode=disable").unwrap_err();
        assert!(plain.contains("no pg_hba.conf entry"), "{name}: {plain}");
    }
}

#[tokio::test]
async fn what_the_superuser_makes_every_role_may_read_and_none_may_change() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql("create table orders (id int8); insert into orders values (7)");
    let to = connection(server.addr(), &pki, CERTIFIED, "");
    assert_eq!(psql(&to, "select id from orders").as_deref(), Ok("7"));
    let refused = psql(&to, "delete from orders").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
}

#[tokio::test]
async fn new_connections_meet_the_new_certificate() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    assert!(handshake(server.addr(), POSTGRES).await.contains(PROFILE));
    let other = "spiffe://shop.example/ns/crm/sa/other";
    let pair = pki.authority.issue(&Leaf::new("other").uri(other)).unwrap();
    server.rotate(&pki, &pair).await;
    let said = handshake(server.addr(), POSTGRES).await;
    assert!(said.contains(other) && !said.contains(PROFILE), "{said}");
}

#[tokio::test]
async fn a_server_that_is_paused_says_nothing_until_it_goes_on() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.pause();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(&TLS_REQUEST).await.unwrap();
    let mut answer = [0];
    timeout(SILENCE, stream.read(&mut answer)).await.unwrap_err();
    server.resume();
    timeout(TEST_TIMEOUT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"S");
}

#[tokio::test]
async fn transactions_that_stay_open_are_counted() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    assert_eq!(server.connections("idle in transaction"), 0);
    let to = connection(server.addr(), &pki, TRUSTED, "");
    let mut open = psql_command(&to).spawn().unwrap();
    open.stdin.as_mut().unwrap().write_all(b"begin; select 1;\n").unwrap();
    wait_for_connections(&server, 1);
    drop(open.stdin.take());
    open.wait().unwrap();
    wait_for_connections(&server, 0);
}

fn wait_for_connections(server: &Postgres, count: usize) {
    let until = Instant::now() + TEST_TIMEOUT;
    while server.connections("idle in transaction") != count {
        assert!(Instant::now() < until, "there were never {count}");
    }
}

#[tokio::test]
async fn statements_and_their_parameters_are_in_the_log() {
    let pki = Pki::new();
    let setup = PostgresSetup::usual().with("log_statement=all");
    let server = Postgres::start_with(&pki, setup).await;
    let to = connection(server.addr(), &pki, TRUSTED, "");
    let said = psql(&to, "prepare by_key as select $1::text; execute by_key($$' or 1=1 --$$)");
    assert_eq!(said.as_deref(), Ok("' or 1=1 --"));
    server.process().logged("trusted LOG:  statement: execute by_key").await;
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_no_process_and_no_shared_memory() {
    let pki = Pki::new();
    let ends: [fn(&mut Postgres); 3] = [|server| server.pause(), |_| (), Postgres::kill];
    for end in ends {
        let mut server = Postgres::start(&pki).await;
        let pid = server.process().pid();
        assert_eq!(segments(pid), 1);
        end(&mut server);
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(segments(pid), 0);
    }
}

/// How many segments of shared memory there are that this process made.
fn segments(pid: u32) -> usize {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let makers = table.lines().filter_map(|line| line.split_whitespace().nth(4));
    makers.filter(|maker| *maker == pid.to_string()).count()
}
