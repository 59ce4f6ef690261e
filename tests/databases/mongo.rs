//! The servers that speak `MongoDB`'s protocol.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SILENCE, handshake};
use crate::support::client::TEST_TIMEOUT;
use crate::support::mongo::{Mongo, MongoKind, MongoSetup, PASSWORD, READER, WRITER, pymongo};
use crate::support::pki::{Asks, PROFILE, Pki};

/// The URL of a client that knows our authority.
fn url(server: &Mongo, pki: &Pki, user: &str, options: &[&str]) -> String {
    let authority = format!("tlsCAFile={}/ca.crt", pki.dir().display());
    let options = [&["tls=true", &authority], options].concat().join("&");
    format!("mongodb://{user}{}/?{options}", server.addr())
}

/// Our pair in one file, as `pymongo` wants it.
fn pair(pki: &Pki) -> String {
    let path = pki.dir().join("pair.pem");
    let client = pki.client();
    std::fs::write(&path, client.cert_pem + &client.key_pem).unwrap();
    format!("tlsCertificateKeyFile={}", path.display())
}

#[tokio::test]
async fn each_of_them_finds_sorts_limits_and_aggregates() {
    let pki = Pki::new();
    for kind in MongoKind::all() {
        let server = Mongo::start_with(&pki, MongoSetup::of(kind)).await.unwrap();
        let printed = server
            .script(
                "db.orders.insert_many([\n\
                   {'_id': i, 'customer': str(i % 2), 'cents': bson.Int64(2**53 + i)}\n\
                   for i in range(6)])\n\
                 print(list(db.orders.find({'customer': '1'}, {'cents': 1}).sort('_id', -1)\n\
                   .limit(2)))\n\
                 print(list(db.orders.aggregate([\n\
                   {'$match': {'$expr': {'$eq': ['$customer', {'$literal': '0'}]}}},\n\
                   {'$group': {'_id': '$customer', 'count': {'$sum': 1}}}])))",
            )
            .await;
        assert_eq!(
            printed,
            "[{'_id': 5, 'cents': 9007199254740997}, {'_id': 3, 'cents': 9007199254740995}]\n\
             [{'_id': '0', 'count': 3}]",
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_server_demands_a_client_certificate_or_asks_for_one_or_does_neither() {
    let pki = Pki::new();
    for asks in [Asks::Always, Asks::Optionally, Asks::Never] {
        let setup = MongoSetup { asks, ..MongoSetup::usual() };
        let Some(server) = Mongo::start_with(&pki, setup).await else { return };
        let said = handshake(server.addr(), &[]).await;
        assert!(said.contains(PROFILE), "{said}");
        let asked = said.contains("Requested Signature Algorithms");
        assert_eq!(asked, asks != Asks::Never, "{asks:?}");
        let count = "print(db.orders.count_documents({}))";
        let with = pymongo(&url(&server, &pki, "", &[&pair(&pki)]), count).await;
        assert_eq!(with.as_deref(), Ok("0"), "{asks:?}");
        let without = url(&server, &pki, "", &["serverSelectionTimeoutMS=500"]);
        let without = pymongo(&without, count).await;
        assert_eq!(without.is_ok(), asks != Asks::Always, "{asks:?}: {without:?}");
    }
}

#[tokio::test]
async fn the_one_in_memory_shows_its_certificate_and_asks_for_none() {
    let pki = Pki::new();
    let setup = MongoSetup::of(MongoKind::Java);
    let Some(server) = Mongo::start_with(&pki, setup).await else { return };
    let said = handshake(server.addr(), &[]).await;
    assert!(said.contains(PROFILE), "{said}");
    assert!(!said.contains("Requested Signature Algorithms"), "{said}");
}

#[tokio::test]
async fn its_users_come_in_by_password_or_certificate_and_may_do_what_they_may() {
    let pki = Pki::new();
    let setup = MongoSetup { auth: true, ..MongoSetup::usual() };
    let Some(server) = Mongo::start_with(&pki, setup).await else { return };
    let pair = pair(&pki);
    let by_password =
        |user: &str, password: &str| url(&server, &pki, &format!("{user}:{password}@"), &[&pair]);
    let insert = "db.orders.insert_one({'_id': 1})";
    let find = "print(db.orders.find_one())";
    let nobody = pymongo(&url(&server, &pki, "", &[&pair]), find).await.unwrap_err();
    assert!(nobody.contains("requires authentication"), "{nobody}");
    let wrong = pymongo(&by_password(READER, "wrong"), find).await.unwrap_err();
    assert!(wrong.contains("authentication failed"), "{wrong}");
    let refused = pymongo(&by_password(READER, PASSWORD), insert).await.unwrap_err();
    assert!(refused.contains("not authorized"), "{refused}");
    pymongo(&by_password(WRITER, PASSWORD), insert).await.unwrap();
    let read = pymongo(&by_password(READER, PASSWORD), find).await;
    assert_eq!(read.as_deref(), Ok("{'_id': 1}"));
    let by_certificate = url(&server, &pki, "", &[&pair, "authMechanism=MONGODB-X509"]);
    assert_eq!(pymongo(&by_certificate, find).await.as_deref(), Ok("{'_id': 1}"));
    assert_eq!(server.script(find).await, "{'_id': 1}");
}

#[tokio::test]
async fn a_script_makes_a_server_fail() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    let printed = server
        .script(
            "client.admin.command('configureFailPoint', 'failCommand', mode={'times': 1},\n\
               data={'failCommands': ['find'], 'errorCode': 50})\n\
             for _ in range(2):\n  \
               try: print(db.orders.find_one())\n  \
               except Exception as error: print(error.code)",
        )
        .await;
    assert_eq!(printed, "50\nNone");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_kill() {
    let pki = Pki::new();
    let Some(mut server) = Mongo::start(&pki).await else { return };
    server.script("db.orders.insert_one({'_id': 1})").await;
    server.kill();
    server.revive().await;
    assert_eq!(server.script("print(db.orders.find_one())").await, "{'_id': 1}");
}

#[tokio::test]
async fn a_server_that_is_paused_says_nothing_until_it_goes_on() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.pause();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    // What is no TLS ends the connection.
    stream.write_all(&[0; 64]).await.unwrap();
    let mut answer = [0];
    timeout(SILENCE, stream.read(&mut answer)).await.unwrap_err();
    server.resume();
    let _ended = timeout(TEST_TIMEOUT, stream.read(&mut answer)).await.unwrap();
}
