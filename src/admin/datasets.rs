//! `GET /datasets/{domain}/{key}`: where a dataset lives, how old it is and whether it is believed;
//! its data only on demand.

use tokio::time::Instant;

use super::AdminState;
use super::admin_problem::AdminProblem;
use super::api::{
    DatasetPart, DatasetStatus, DatasetTags, EntryStatus, RedisTierStatus, TierStatus,
    UnreadableStatus,
};
use crate::cache::{Cache, CacheEntry, EntryContent, InvalidationToken};
use crate::domain::decode_key;
use crate::sources::Validator;

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
        memory: cache.inspect_memory(&key).map(|(kept, believed)| {
            TierStatus::Entry(Box::new(entry_status(cache, &kept, believed, data)))
        }),
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
        Err(fault) => return Some(TierStatus::Trouble { trouble: fault.to_string() }),
    };
    let fence = InvalidationToken(stored.fence).to_string();
    let Some(kept) = stored.entry.as_deref() else {
        return Some(TierStatus::Unreadable(UnreadableStatus {
            bytes: stored.bytes,
            fence,
            readable: false,
            seq: stored.fence.seq,
            ttl_seconds: stored.left.as_secs(),
        }));
    };
    Some(TierStatus::Entry(Box::new(EntryStatus {
        bytes: stored.bytes,
        fence: Some(fence),
        readable: true,
        seq: Some(stored.fence.seq),
        ..entry_status(cache, kept, true, data)
    })))
}

fn entry_status(cache: &Cache, kept: &CacheEntry, is_valid: bool, data: bool) -> EntryStatus {
    let domain = cache.domain();
    let now = Instant::now();
    let fence = kept.fence().map(|mark| mark.fence());
    let status = EntryStatus {
        age_seconds: kept.age(now).as_secs(),
        believed: is_valid,
        bytes: kept.weight(),
        dataset: None,
        fence: fence.map(|fence| InvalidationToken(fence).to_string()),
        not_found: false,
        parts: None,
        readable: false,
        rounds: None,
        seq: fence.map(|fence| fence.seq),
        tags: DatasetTags::Count(kept.tags().len()),
        ttl_seconds: kept.ttl_seconds(&domain.cache, now),
        data: None,
    };
    let EntryContent::Dataset(dataset) = &kept.content else {
        return EntryStatus { not_found: true, ..status };
    };
    let parts = domain.sources.iter().zip(dataset.parts());
    let parts = parts.map(|(source, (bytes, validator))| part(&source.name, bytes, &validator));
    let status = EntryStatus {
        dataset: Some(dataset.id().to_string()),
        parts: Some(parts.collect()),
        rounds: Some(dataset.rounds()),
        ..status
    };
    if !data {
        return status;
    }
    EntryStatus {
        tags: DatasetTags::Names(kept.tags().iter().map(ToString::to_string).collect()),
        data: serde_json::from_slice(&dataset.body()).ok(),
        ..status
    }
}

fn part(source: &str, bytes: usize, validator: &Validator) -> DatasetPart {
    let (kind, etag) = match validator {
        Validator::Strong(etag) => ("strong", etag.to_str().ok()),
        Validator::Weak(etag) => ("weak", etag.to_str().ok()),
        Validator::None => ("none", None),
    };
    DatasetPart { bytes, etag: etag.map(str::to_owned), source: source.to_owned(), validator: kind }
}
