//! Tokens under load: readers send the token of the next invalidation, over and over, until it is
//! applied.
//!
//! A hit promises that the token's entry is applied, so it may hold nothing older. If a read
//! checked the dataset before the token instead of after it, only an invalidation that is applied
//! between the two checks would show that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::{PATH, member, until_lease};
use crate::cache::write;
use crate::support::redis::Redis;
use crate::support::upstream::{Reply, Upstream};
use crate::support::wire::{self, Wire};

const READERS: usize = 8;
const INVALIDATIONS: u64 = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_with_a_token_is_never_older_than_the_token() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let number = Arc::new(AtomicU64::new(0));
    let written = Arc::clone(&number);
    upstream.handles("/42", move |_| {
        Reply::json(format!("{{\"n\":{}}}", written.load(Ordering::SeqCst)))
    });
    let writer = member(&redis, &upstream, &[]).await;
    let read = member(&redis, &upstream, &[]).await;
    for sidecar in [&writer, &read] {
        until_lease(sidecar, true).await;
    }
    let first =
        writer.send_admin(write("/invalidate", &super::customer_invalidation())).await.json();
    let (epoch, seq) = first["token"].as_str().unwrap().split_once('-').unwrap();
    let epoch = epoch.to_owned();
    let before = seq.parse::<u64>().unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let number = Arc::clone(&number);
        let epoch = epoch.clone();
        let mut wire = Wire::open_patiently(read.listen()).await.unwrap();
        readers.spawn(async move {
            let mut hits = 0;
            let mut next = 1;
            while next <= INVALIDATIONS {
                let number_of_token = next;
                let token = format!("bfb-after: {epoch}-{}\r\n", before + number_of_token);
                wire.ask(&wire::get(PATH, &token)).await.unwrap();
                let answer = wire.answer().await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                // A written number is invalidated next, so the next request carries that token.
                next = number.load(Ordering::SeqCst).max(next);
                let status = answer.header("cache-status");
                if status.starts_with("bfb; hit") {
                    let got = super::n(&answer.text());
                    assert!(
                        got >= number_of_token,
                        "{got} with the token of {number_of_token}: {status}"
                    );
                    (hits, next) = (hits + 1, next.max(number_of_token + 1));
                }
            }
            hits
        });
    }
    for n in 1..=INVALIDATIONS {
        number.store(n, Ordering::SeqCst);
        let sent =
            writer.send_admin(write("/invalidate", &super::customer_invalidation())).await.json();
        assert_eq!(sent["token"], format!("{epoch}-{}", before + n));
    }
    let hits: u64 = readers.join_all().await.into_iter().sum();
    assert!(hits > 0, "no token was ever applied");
}
