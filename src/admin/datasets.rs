//! `GET /datasets/{domain}/{key}`: which tiers hold a dataset, how old it is and whether it is
//! valid. The data and the tags are personal data: they are written only with `?data=1`.

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

/// Looks a dataset up in all tiers. `path` is `{domain}/{key}`; with `data`, the answer holds
/// personal data.
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
        memory: cache.inspect_memory(&key).map(|(entry, is_valid)| {
            TierStatus::Entry(Box::new(entry_status(cache, &entry, is_valid, data)))
        }),
        redis: redis_tier(cache, &key, data).await,
        store: None,
        applied: cache.bus().applied_fence().map(|fence| InvalidationToken(fence).to_string()),
        lease_held: cache.bus().has_lease(),
    })
}

async fn redis_tier(cache: &Cache, key: &str, data: bool) -> RedisTierStatus {
    if cache.bus().is_standalone() {
        return RedisTierStatus::Absent;
    }
    RedisTierStatus::Present(read_redis_tier(cache, key, data).await)
}

/// Redis confirms an entry as valid when it returns it: an entry that is no longer valid is absent.
async fn read_redis_tier(cache: &Cache, key: &str, data: bool) -> Option<TierStatus> {
    let stored = match cache.inspect_redis(key).await {
        Ok(stored) => stored?,
        Err(fault) => return Some(TierStatus::Trouble { trouble: fault.to_string() }),
    };
    let fence = InvalidationToken(stored.fence).to_string();
    let Some(entry) = stored.entry.as_deref() else {
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
        ..entry_status(cache, entry, true, data)
    })))
}

fn entry_status(cache: &Cache, entry: &CacheEntry, is_valid: bool, data: bool) -> EntryStatus {
    let domain = cache.domain();
    let now = Instant::now();
    let fence = entry.fence().map(|entry_fence| entry_fence.fence());
    let status = EntryStatus {
        age_seconds: entry.age(now).as_secs(),
        believed: is_valid,
        bytes: entry.weight(),
        dataset: None,
        fence: fence.map(|fence| InvalidationToken(fence).to_string()),
        not_found: false,
        parts: None,
        readable: false,
        rounds: None,
        seq: fence.map(|fence| fence.seq),
        tags: DatasetTags::Count(entry.tags().len()),
        ttl_seconds: entry.ttl_seconds(&domain.cache, now),
        data: None,
    };
    let EntryContent::Dataset(dataset) = &entry.content else {
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
        tags: DatasetTags::Names(entry.tags().iter().map(ToString::to_string).collect()),
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
