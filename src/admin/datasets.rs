//! `GET /datasets/{domain}/{key}`: where a dataset lives, how old it is and whether it is believed;
//! its data only on demand.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::AdminState;
use super::admin_problem::AdminProblem;
use crate::cache::{Cache, CacheEntry, EntryContent, InvalidationToken};
use crate::domain::decode_key;
use crate::sources::Validator;

/// Where a dataset lives.
#[derive(Debug, Serialize)]
pub(super) struct DatasetStatus {
    domain: String,
    plan: String,
    memory: Option<TierStatus>,
    #[serde(skip_serializing_if = "RedisTierStatus::is_absent")]
    redis: RedisTierStatus,
    /// There is none in this release.
    store: Option<TierStatus>,
    applied: Option<String>,
    lease_held: bool,
}

/// What Redis holds, where there is one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum RedisTierStatus {
    /// A fleet of one.
    Absent,
    /// What it holds, if anything.
    Present(Option<TierStatus>),
}

impl RedisTierStatus {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What one tier holds. The data goes out as it came: numbers stay as they are written.
#[derive(Debug, Serialize)]
struct TierStatus {
    #[serde(flatten)]
    facts: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// `path` is what follows `/datasets/`; `data`: the operator asks for personal data.
pub(super) async fn find_dataset(
    state: &AdminState,
    path: &str,
    data: bool,
) -> Result<DatasetStatus, AdminProblem> {
    let nothing = |detail: &str| AdminProblem::NoSuchRoute { detail: detail.to_owned() };
    let (domain, key) =
        path.split_once('/').ok_or_else(|| nothing("expected `/datasets/DOMAIN/KEY`"))?;
    let cache = state.cache(domain);
    let cache = &cache.ok_or_else(|| nothing("this sidecar serves no such domain"))?;
    let domain = cache.domain();
    let key = decode_key(key, domain).map_err(|detail| AdminProblem::BadKey { detail })?;
    Ok(DatasetStatus {
        domain: domain.name.to_string(),
        plan: domain.plan.to_string(),
        memory: cache
            .inspect_memory(&key)
            .map(|(kept, believed)| describe_tier(cache, &kept, believed, data)),
        redis: redis_tier(cache, &key, data).await,
        store: None,
        applied: cache.bus().applied_fence().map(|fence| InvalidationToken(fence).to_string()),
        lease_held: cache.bus().has_lease(),
    })
}

/// What Redis holds is what it vouches for.
async fn redis_tier(cache: &Cache, key: &str, data: bool) -> RedisTierStatus {
    if cache.bus().is_standalone() {
        return RedisTierStatus::Absent;
    }
    RedisTierStatus::Present(read_redis_tier(cache, key, data).await)
}

async fn read_redis_tier(cache: &Cache, key: &str, data: bool) -> Option<TierStatus> {
    let stored = match cache.inspect_redis(key).await {
        Ok(there) => there?,
        Err(fault) => {
            return Some(TierStatus { facts: json!({"trouble": fault.to_string()}), data: None });
        }
    };
    let nothing = || TierStatus { facts: json!({}), data: None };
    let kept = stored.entry.as_deref();
    let mut tier = kept.map_or_else(nothing, |kept| describe_tier(cache, kept, true, data));
    tier.facts["readable"] = kept.is_some().into();
    tier.facts["bytes"] = stored.bytes.into();
    if kept.is_none() {
        tier.facts["ttl_seconds"] = stored.left.as_secs().into();
    }
    tier.facts["fence"] = InvalidationToken(stored.fence).to_string().into();
    tier.facts["seq"] = stored.fence.seq.into();
    Some(tier)
}

fn describe_tier(cache: &Cache, kept: &CacheEntry, is_valid: bool, data: bool) -> TierStatus {
    let (domain, now) = (cache.domain(), Instant::now());
    let mut facts = json!({
        "believed": is_valid,
        "age_seconds": kept.age(now).as_secs(),
        "ttl_seconds": kept.ttl_seconds(&domain.cache, now),
        "fence": kept.fence().map(|mark| InvalidationToken(mark.fence()).to_string()),
        "seq": kept.fence().map(|mark| mark.fence().seq),
        "tags": kept.tags().len(),
        "bytes": kept.weight(),
    });
    let EntryContent::Dataset(dataset) = &kept.content else {
        facts["not_found"] = true.into();
        return TierStatus { facts, data: None };
    };
    facts["dataset"] = dataset.id().to_string().into();
    facts["rounds"] = dataset.rounds().into();
    let parts = domain.sources.iter().zip(dataset.parts());
    facts["parts"] = parts
        .map(|(source, (bytes, validator))| part_json(&source.name, bytes, &validator))
        .collect();
    if !data {
        return TierStatus { facts, data: None };
    }
    facts["tags"] = kept.tags().iter().map(ToString::to_string).collect();
    TierStatus { facts, data: serde_json::from_slice(&dataset.body()).ok() }
}

/// An `ETag` names a state, not the data.
fn part_json(source: &str, bytes: usize, validator: &Validator) -> Value {
    let (kind, etag) = match validator {
        Validator::Strong(etag) => ("strong", etag.to_str().ok()),
        Validator::Weak(etag) => ("weak", etag.to_str().ok()),
        Validator::None => ("none", None),
    };
    json!({"source": source, "bytes": bytes, "validator": kind, "etag": etag})
}
