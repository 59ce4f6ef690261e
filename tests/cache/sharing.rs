//! Sharing never costs an answer: a request that waits for another's flight keeps enough of the
//! deadline to collect for itself.
//!
//! Before any collection has ended, half of the deadline is kept beside a flight that runs, and
//! three quarters for one that has not begun; so the first look of a test at a source that hangs
//! takes that long.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{PATH, cache_status, file, get_with_cache_control, over_one, with_memory};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Reply, Upstream};

/// An answer takes at most this long. A busy machine may use most of it for an answer that has
/// already arrived.
const DEADLINE: &str = "deadline: 4s";

async fn impatient(first: Vec<Reply>) -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    upstream.answers("/42", first.into_iter().chain([Reply::json("1")]));
    (with_memory(&file(&upstream, "{ttl: 60s}").head(DEADLINE)).start().await, upstream)
}

#[tokio::test]
async fn who_joins_a_flight_that_hangs_is_answered_by_one_of_its_own() {
    // The second flight lasts until all five have come to it, also where a busy machine lets one
    // send its request later than another.
    let slow = Reply::json("1").after(Duration::from_millis(700));
    let (sidecar, upstream) = impatient(vec![Reply::never(), slow]).await;
    let (first, others) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        join_all((0..5).map(|_| sidecar.get(PATH))).await
    });
    assert!(others.iter().all(|got| got.text() == r#"{"part":1}"#), "{others:?}");
    assert_eq!(
        first.failed_sources("deadline", 504),
        [("part".to_owned(), "timeout".to_owned())],
        "its own source hung"
    );
    assert_eq!(upstream.received().len(), 2, "one more flight for all of them");
    let count = async |name| sidecar.metric(name, &[]).await;
    assert_eq!(count("bfb_cache_unshared_total").await, Some(1.0), "one of them began it");
    assert_eq!(
        count("bfb_cache_collapsed_total").await,
        Some(5.0),
        "each of them joined one, then another"
    );
}

#[tokio::test]
async fn no_cache_callers_beyond_the_flights_that_may_run_are_answered() {
    let (sidecar, upstream) = impatient(vec![Reply::never(); 4]).await;
    let answers = join_all((0..7).map(|_| get_with_cache_control(&sidecar, "no-cache"))).await;
    let answered = answers.iter().filter(|got| got.status == 200).count();
    assert_eq!((answered, upstream.received().len()), (3, 5), "four hung for four callers");
}

#[tokio::test]
async fn a_flight_that_began_before_is_no_answer_to_max_age_0() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe()), Reply::json("2")]);
    let (first, (fresh, joined)) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        let fresh = get_with_cache_control(&sidecar, "max-age=0").await;
        tokio::join!(async { fresh }, async {
            let joined = get_with_cache_control(&sidecar, "max-age=3600").await;
            gate.send_replace(true);
            joined
        })
    });
    assert_eq!((first.text(), fresh.text()), (r#"{"part":1}"#, r#"{"part":2}"#));
    assert!(
        cache_status(&joined).starts_with("bfb; hit;"),
        "what came for `max-age=0` is kept: {}",
        cache_status(&joined)
    );
}

#[tokio::test]
async fn a_flight_that_is_young_enough_is_joined_by_who_says_a_max_age() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe())]);
    let (_, joined) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        let (joined, ()) = tokio::join!(get_with_cache_control(&sidecar, "max-age=3600"), async {
            sidecar.until_joined(1.0).await;
            gate.send_replace(true);
        });
        joined
    });
    assert_eq!(
        (joined.text(), cache_status(&joined)),
        (r#"{"part":1}"#, "bfb; fwd=miss; collapsed")
    );
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn collections_that_take_most_of_the_deadline_still_answer_everybody() {
    let upstream = Upstream::plain().await;
    // A busy machine has a second and a half for the time that the second round of these adds.
    upstream.answers("/42", [Reply::json("1").after(Duration::from_secs(7))]);
    let sidecar = with_memory(&file(&upstream, "{ttl: 0s}").head("deadline: 10s")).start().await;
    assert_eq!(
        sidecar.get(PATH).await.status,
        200,
        "it is known by now how long a collection takes"
    );
    let answers = join_all((0..7).map(|_| get_with_cache_control(&sidecar, "no-cache"))).await;
    assert!(answers.iter().all(|got| got.status == 200), "{answers:?}");
}
