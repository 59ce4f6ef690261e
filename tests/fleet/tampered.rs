//! A sidecar checks datasets of Redis against its own domain file and the entries that it has
//! applied.

use super::redis_tier::until_kept;
use super::{PATH, fleet, invalidate, n};
use crate::cache::{cache_status, get_with_cache_control};
use crate::support::client::TEST_TIMEOUT;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

/// Longer than a busy machine pauses a sidecar.
const LONG: [&str; 2] = ["--lease", "30s"];

fn dataset_key(redis: &Redis) -> String {
    let keys: Vec<String> = redis.command(&["KEYS", "*:dataset:*"]);
    keys.into_iter().next().unwrap()
}

/// Requests the dataset from Redis until the metric counts its rejection. A read may take 50 ms, so
/// on a busy machine the first ones may fail.
async fn until_judged(sidecar: &Sidecar, metric: &str) {
    let judged = async {
        while sidecar.metric(metric, &[]).await < Some(1.0) {
            get_with_cache_control(sidecar, "only-if-cached").await.problem("not-cached", 504);
        }
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, judged).await.is_ok(), "`{metric}` never counted");
}

#[tokio::test]
async fn what_an_applied_invalidation_outdates_is_not_served_though_redis_vouches_for_it() {
    let (redis, _upstream, members) = fleet(1, &LONG).await;
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    let key = dataset_key(&redis);
    let dump: Vec<u8> = redis.command(&["DUMP", &key]);
    invalidate(&members[0], "fleet").await;
    redis.command::<()>(&["DEL", &key]);
    redis::cmd("RESTORE").arg(&key).arg(50_000).arg(dump).exec(&mut redis.control()).unwrap();
    let meta = "bfb:{default/customer}:meta";
    let stamps = "bfb:{default/customer}:stamps";
    redis.command::<()>(&["ZREM", stamps, "k42"]);
    redis.command::<()>(&["HINCRBY", meta, "stamps", "-1"]);
    until_judged(&members[0], "bfb_redis_outdated_total").await;
    let got = members[0].get(PATH).await;
    assert_eq!((n(got.text()), cache_status(&got)), (2, "bfb; fwd=miss; stored"));
}

#[tokio::test]
async fn an_expiry_beyond_the_dataset_s_own_ttl_is_none() {
    let (redis, upstream, members) = fleet(2, &LONG).await;
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    redis.command::<()>(&["PEXPIRE", &dataset_key(&redis), "315360000000"]);
    until_judged(&members[1], "bfb_redis_unreadable_total").await;
    assert_eq!(n(members[1].get(PATH).await.text()), 2);
    assert_eq!(upstream.received().len(), 2);
}
