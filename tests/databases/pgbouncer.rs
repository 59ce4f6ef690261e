//! `pgbouncer` in transaction mode, before each version of `PostgreSQL` that is there.

use std::io::{BufRead as _, BufReader, Write as _};

use super::{POSTGRES, connection, handshake};
use crate::support::pgbouncer::PgBouncer;
use crate::support::pki::{PROFILE, Pki, profile};
use crate::support::postgres::{
    CERTIFIED, PASSWORD, PASSWORDED, Postgres, PostgresSetup, PostgresVersion, TRUSTED, psql,
    psql_command,
};

#[tokio::test]
async fn the_roles_come_in_through_it_before_every_version() {
    let pki = Pki::new();
    for version in PostgresVersion::all() {
        let name = version.name();
        let tls = version.tls;
        let server = Postgres::start_with(&pki, PostgresSetup::of(version)).await;
        let pooler = PgBouncer::start(&pki, &server, &profile(), 2).await;
        let ask = |role: &str, more: &str| {
            let to = connection(pooler.addr(), &pki, role, more);
            psql(&to, "select current_user")
        };
        if tls {
            assert_eq!(ask(CERTIFIED, "").as_deref(), Ok(CERTIFIED), "{name}");
            ask(CERTIFIED, "sslcert=/none sslkey=/none").unwrap_err();
        }
        assert_eq!(ask(TRUSTED, "").as_deref(), Ok(TRUSTED), "{name}");
        let password = format!("password='{PASSWORD}'");
        assert_eq!(ask(PASSWORDED, &password).as_deref(), Ok(PASSWORDED), "{name}");
        let wrong = ask(PASSWORDED, "password=wrong").unwrap_err();
        assert!(wrong.contains("authentication failed"), "{name}: {wrong}");
    }
}

#[tokio::test]
async fn it_shows_its_certificate_and_asks_for_one() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let pooler = PgBouncer::start(&pki, &server, &profile(), 2).await;
    let said = handshake(pooler.addr(), POSTGRES).await;
    assert!(said.contains(PROFILE) && said.contains("Requested Signature Algorithms"), "{said}");
}

#[tokio::test]
async fn a_session_has_a_connection_to_the_server_for_a_transaction_only() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let pooler = PgBouncer::start(&pki, &server, &profile(), 1).await;
    let to = connection(pooler.addr(), &pki, TRUSTED, "");
    let mut sessions = [psql_command(&to), psql_command(&to)].map(|mut psql| psql.spawn().unwrap());
    let mut pids = sessions.iter_mut().map(|session| {
        let input = session.stdin.as_mut().unwrap();
        input.write_all(b"select pg_backend_pid();\n").unwrap();
        let mut line = String::new();
        BufReader::new(session.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    });
    // Both are still open.
    assert_eq!(pids.next(), pids.next());
    drop(pids);
    for mut session in sessions {
        drop(session.stdin.take());
        session.wait().unwrap();
    }
}

#[tokio::test]
async fn it_comes_back_at_its_port_and_finds_a_server_that_was_killed() {
    let pki = Pki::new();
    let mut server = Postgres::start(&pki).await;
    let mut pooler = PgBouncer::start(&pki, &server, &profile(), 2).await;
    let to = connection(pooler.addr(), &pki, TRUSTED, "");
    pooler.kill();
    psql(&to, "select 1").unwrap_err();
    pooler.revive().await;
    assert_eq!(psql(&to, "select 1").as_deref(), Ok("1"));
    server.kill();
    server.revive().await;
    pooler.process().logged("server conn crashed").await;
    assert_eq!(psql(&to, "select 1").as_deref(), Ok("1"));
}
