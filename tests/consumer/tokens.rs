//! A token in a source's header: it is replaced while the sidecar runs, and the datasets stay.

use std::fs;

use crate::support::domain::DomainFile;
use crate::support::sidecar::Setup;
use crate::support::upstream::{Reply, Upstream};

const IN_FORCE: &str = "the domain files have changed and are in force";

#[tokio::test]
async fn a_new_token_goes_out_with_the_next_request_and_empties_no_cache() {
    let upstream = Upstream::plain().await;
    upstream.handles("/part", |_| Reply::json("1"));
    let domain = DomainFile::of("customer").head("cache: {ttl: 1h}").source(
        "part",
        &upstream,
        "/part?key={key}",
        &["headers: {authorization: 'Bearer ${TOKEN}'}"],
    );
    let setup = Setup::of(&[&domain]).insecure().env("BFB_MEMORY", "1MiB");
    let token = setup.dir().join("token");
    fs::write(&token, "one\n").unwrap();
    let sidecar = setup.env("TOKEN_FILE", token.to_str().unwrap()).start().await;
    let plan = async || sidecar.admin("/status").await.json()["domains"][0]["plan"].clone();
    let before = plan().await;
    sidecar.get("/v2/customers/1").await.dataset();
    let new = sidecar.dir().join("new-token");
    fs::write(&new, "two\n").unwrap();
    fs::rename(new, token).unwrap();
    sidecar.logged(IN_FORCE).await;
    assert!(before.is_string() && plan().await == before, "{before}");
    let hit = sidecar.get("/v2/customers/1").await;
    hit.dataset();
    assert!(hit.header("cache-status").contains("hit"), "{hit:?}");
    sidecar.get("/v2/customers/2").await.dataset();
    let tokens: Vec<_> = upstream
        .received()
        .iter()
        .map(|request| request.header("authorization").to_owned())
        .collect();
    assert_eq!(tokens, ["Bearer one", "Bearer two"]);
}
