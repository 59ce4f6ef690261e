//! New files become a new identity; broken ones change nothing.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bfb::identity::issue::{Leaf, Validity};
use bfb::identity::{Identity, IdentityMetrics, follow_files};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::recorder::Recorder;
use super::{Client, TLS13, ping};
use crate::support::client::TEST_TIMEOUT;
use crate::support::pki::{Asks, Pki, expected, profile};

/// The identity of a folder, followed.
struct FollowedIdentity {
    current: watch::Receiver<Arc<Identity>>,
    metrics: IdentityMetrics,
    _task: JoinSet<()>,
}

impl FollowedIdentity {
    fn of(pki: &Pki) -> Self {
        let (sender, current) = watch::channel(pki.identity());
        let metrics = IdentityMetrics::default();
        let mut task = JoinSet::new();
        task.spawn(follow_files(pki.paths(), sender, metrics.clone()));
        Self { current, metrics, _task: task }
    }

    async fn next(&mut self) -> Arc<Identity> {
        timeout(TEST_TIMEOUT, self.current.changed()).await.expect("a new identity").unwrap();
        self.current.borrow_and_update().clone()
    }

    /// Once so many broken states were reported.
    async fn failures(&self, count: u64) {
        let reported = async {
            while self.metrics.reloads().1 < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TEST_TIMEOUT, reported).await.expect("the broken files to be reported");
    }
}

#[tokio::test]
async fn new_files_are_an_identity_and_live_connections_go_on() {
    let pki = Pki::new();
    let mut server = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    let mut followed = FollowedIdentity::of(&pki);
    let old = followed.current.borrow().clone();
    let mut live = TokioIo::new(
        Client::with(old.clone(), expected(), TLS13).open(server.uri()).await.unwrap(),
    );
    ping(&mut live).await.unwrap();

    pki.rotate();
    let new = followed.next().await;
    assert_eq!(new.generation, old.generation + 1);
    assert_ne!(new.certificate.fingerprint, old.certificate.fingerprint);
    assert!(!Client::with(new, expected(), TLS13).visit(server.uri()).await.unwrap());
    let new_client = server.next_connection().await.client.unwrap();
    ping(&mut live).await.unwrap();
    drop(live);
    assert_ne!(server.next_connection().await.client.unwrap(), new_client);
    assert_eq!(followed.metrics.reloads(), (1, 0));
}

#[tokio::test]
async fn the_symlink_swap_of_a_kubelet_is_noticed_each_time() {
    let pki = Pki::new();
    pki.rotate_like_kubernetes(1);
    let mut followed = FollowedIdentity::of(&pki);
    for revision in 2..5 {
        pki.rotate_like_kubernetes(revision);
        assert_eq!(followed.next().await.generation, u64::from(revision) - 1);
    }
    assert_eq!(followed.metrics.reloads(), (3, 0));
}

#[tokio::test]
async fn broken_files_are_reported_and_the_old_identity_stays_until_they_are_mended() {
    let pki = Pki::new();
    let mut followed = FollowedIdentity::of(&pki);
    let good = pki.client();
    let breaks: [(&str, String); 5] = [
        ("tls.key", pki.client().key_pem),
        ("tls.crt", good.cert_pem[..good.cert_pem.len() / 2].to_owned()),
        (
            "tls.crt",
            pki.authority.issue(&Leaf::new("web").valid(Validity::expired())).unwrap().cert_pem,
        ),
        ("ca.crt", String::new()),
        ("crl.pem", "-----BEGIN X509 CRL-----\n".to_owned()),
    ];
    for (count, (file, text)) in (1..).zip(breaks) {
        fs::write(pki.dir().join(file), text).unwrap();
        followed.failures(count).await;
        assert!(!followed.current.has_changed().unwrap(), "{file}");
        let _ = fs::remove_file(pki.dir().join("crl.pem"));
        pki.rotate();
        assert_eq!(followed.next().await.generation, count);
    }
    assert_eq!(followed.metrics.reloads(), (5, 5));
}

#[tokio::test]
async fn a_server_that_is_revoked_while_we_run_is_sent_nothing_more() {
    let pki = Pki::new();
    let leaf = pki.authority.issue(&profile()).unwrap();
    let mut server = Recorder::start(pki.server_with(&leaf, Asks::Always)).await;
    let mut followed = FollowedIdentity::of(&pki);
    let before = followed.current.borrow().clone();
    assert!(!Client::with(before, expected(), TLS13).visit(server.uri()).await.unwrap());
    server.next_connection().await;
    fs::write(pki.dir().join("crl.pem"), pki.authority.revoke(&[&leaf]).unwrap()).unwrap();
    let client = Client::with(followed.next().await, expected(), TLS13);
    let error = client.open(server.uri()).await.unwrap_err();
    assert!(error.detail.contains("was revoked (`crl.pem`)"), "{error}");
    assert_eq!(client.metrics.failures("revoked"), 1);
    assert!(server.next_connection().await.bytes.is_empty());
    fs::write(pki.dir().join("crl.pem"), pki.stranger.revoke(&[&leaf]).unwrap()).unwrap();
    let client = Client::with(followed.next().await, expected(), TLS13);
    assert!(
        client.open(server.uri()).await.is_ok(),
        "a list of another authority says nothing of it"
    );
}
