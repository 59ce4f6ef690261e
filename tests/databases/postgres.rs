//! `PostgreSQL`, in each version that is there.

use std::process::{Command, Stdio};

use bfb::identity::issue::Leaf;

use crate::support::pki::{PROFILE, Pki, profile};
use crate::support::postgres::{Postgres, PostgresSetup, PostgresVersion};

/// The handshake as `openssl s_client` tells it, without a client certificate.
async fn handshake(server: &Postgres) -> String {
    let connect = server.addr().to_string();
    let run = move || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres", "-connect", &connect]);
        command.args(["-showcerts"]).stdin(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn with_tls() -> impl Iterator<Item = PostgresVersion> {
    PostgresVersion::all().into_iter().filter(|version| version.tls)
}

#[tokio::test]
async fn every_version_answers_sql_and_keeps_its_data_when_it_is_killed() {
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
            let said = handshake(&server).await;
            assert!(said.contains("BEGIN CERTIFICATE"), "{name}: {said}");
            assert_eq!(said.contains("Acceptable client certificate CA names"), asks, "{name}");
        }
    }
}
