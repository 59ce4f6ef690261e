//! `GET /datasets/{domain}/{key}`: where a dataset lives, how old it is and whether it is believed; its data only on demand.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Told;
use crate::cache::{Cache, Content, Kept};
use crate::domain::Domain;
use crate::serve::problem::Problem;
use crate::sources::{Part, Validator};

/// `path` is what follows `/datasets/`; `data`: the operator asks for personal data.
pub(super) async fn of(told: &Told, path: &str, data: bool) -> Result<Value, Problem> {
    let (domain, key) = path.split_once('/').ok_or(Problem::NoSuchPath)?;
    let table = told.table.borrow().clone();
    let cache = table.cache(domain).ok_or(Problem::NoSuchPath)?;
    let key = percent_decode_str(key).decode_utf8().map_err(|_| Problem::NoSuchPath)?;
    let domain = cache.collector().domain();
    let memory = cache.peek(&key).map(|(kept, believed)| kept_json(domain, &kept, believed, data));
    Ok(json!({
        "domain": *domain.name,
        "plan": domain.plan.to_string(),
        "memory": memory,
        "redis": redis_json(cache, &key, data).await,
        "applied": cache.bus().fence().map(|fence| crate::cache::Token(fence).to_string()),
        "lease_held": cache.bus().lease_held(),
    }))
}

/// `null` where there is no Redis, or nothing in it; what it holds is what it vouches for.
async fn redis_json(cache: &Cache, key: &str, data: bool) -> Value {
    if cache.bus().is_alone() {
        return Value::Null;
    }
    match cache.peek_into_redis(key).await {
        Err(fault) => json!({"trouble": fault.to_string()}),
        Ok(None) => Value::Null,
        Ok(Some(there)) => {
            let kept = there.kept.as_ref();
            let mut json =
                kept.map_or_else(|| json!({}), |kept| kept_json(cache.collector().domain(), kept, true, data));
            json["readable"] = kept.is_some().into();
            json["bytes"] = there.bytes.into();
            json["ttl_seconds"] = there.left.as_secs().into();
            json["fence"] = crate::cache::Token(there.fence).to_string().into();
            json
        }
    }
}

fn kept_json(domain: &Domain, kept: &Kept, believed: bool, data: bool) -> Value {
    let now = Instant::now();
    let mut json = json!({
        "believed": believed,
        "age_seconds": kept.age(now).as_secs(),
        "ttl_seconds": kept.ttl_seconds(now),
        "fence": kept.mark.map(|mark| crate::cache::Token(mark.fence()).to_string()),
        "tags": kept.tags.len(),
        "bytes": kept.weight(),
    });
    match &kept.content {
        Content::NotFound => json["not_found"] = true.into(),
        Content::Dataset(dataset) => {
            json["dataset"] = dataset.id.to_string().into();
            json["rounds"] = dataset.rounds.into();
            let parts =
                domain.sources.iter().zip(dataset.parts.iter()).map(|(source, part)| part_json(&source.name, part));
            json["parts"] = parts.collect();
            if data {
                json["data"] = serde_json::from_slice(&dataset.body).unwrap_or_default();
                json["tags"] = kept.tags.iter().map(ToString::to_string).collect();
            }
        }
    }
    json
}

/// An `ETag` names a state, not the data.
fn part_json(source: &str, part: &Part) -> Value {
    let (kind, etag) = match &part.validator {
        Validator::Strong(etag) => ("strong", etag.to_str().ok()),
        Validator::Weak(etag) => ("weak", etag.to_str().ok()),
        Validator::None => ("none", None),
    };
    json!({"source": source, "bytes": part.json.len(), "validator": kind, "etag": etag})
}
