//! The cache's counters in `GET /status`. They are read from the text of `/metrics`, so that both
//! routes agree, and so that a new tier appears without a change here.

use super::AdminState;
use super::api::{CacheCounts, CacheTierStatus};

/// The cache's counters since the start; `None` if the metrics cannot be encoded.
pub(super) fn cache_status(state: &AdminState) -> Option<CacheCounts> {
    let metrics = super::exposition::encode(&state.registry)?;
    let hits = tier_hits(&metrics);
    let misses = counter(&metrics, "bfb_cache_misses_total");
    let all_hits = hits.iter().map(|(_, hits)| hits).sum::<u64>();
    let reads = all_hits + misses;
    let tiers = hits.iter().map(|(tier, hits)| {
        let is_memory = *tier == "memory";
        CacheTierStatus {
            bytes: is_memory.then(|| state.memory.bytes()),
            capacity: is_memory.then(|| state.memory.capacity()),
            entries: is_memory.then(|| state.memory.entries()),
            hits: Some(*hits),
            percent: percent(*hits, reads),
            tier: Some((*tier).to_owned()),
        }
    });
    Some(CacheCounts {
        collapsed: Some(counter(&metrics, "bfb_cache_collapsed_total")),
        evicted: Some(counter(&metrics, "bfb_cache_evictions_total")),
        fenced: Some(counter(&metrics, "bfb_cache_fenced_total")),
        hit_percent: percent(all_hits, reads),
        misses: Some(misses),
        reads: Some(reads),
        stale_served: Some(counter(&metrics, "bfb_cache_stale_served_total")),
        tiers: tiers.collect(),
    })
}

/// `part` in percent of `whole`, with one digit after the point; `None` if `whole` is 0.
fn percent(part: u64, whole: u64) -> Option<f64> {
    let tenths =
        (u128::from(part) * 1000 + u128::from(whole) / 2).checked_div(u128::from(whole))?;
    u32::try_from(tenths).ok().map(|tenths| f64::from(tenths) / 10.0)
}

/// The tiers in the order in which a read looks them up.
const TIERS: [&str; 3] = ["memory", "redis", "store"];

/// The hits of each tier, in the order of [`TIERS`]. Other tiers come last, sorted by name.
fn tier_hits(metrics: &str) -> Vec<(&str, u64)> {
    let hits = metrics.lines().filter_map(|line| {
        let (tier, value) =
            line.strip_prefix("bfb_cache_hits_total{tier=\"")?.split_once("\"} ")?;
        Some((tier, value.parse().ok()?))
    });
    let mut tiers: Vec<_> = hits.collect();
    let place = |tier| TIERS.iter().position(|known| *known == tier).unwrap_or(TIERS.len());
    tiers.sort_unstable_by_key(|(tier, _)| (place(*tier), *tier));
    tiers
}

/// The value of the counter `name`; 0 if the metrics do not have it.
fn counter(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE bfb_cache_hits counter\nbfb_cache_hits_total{tier=\"tape\"} 2\n\
        bfb_cache_hits_total{tier=\"store\"} 1\nbfb_cache_hits_total{tier=\"redis\"} 0\n\
        bfb_cache_hits_total{tier=\"memory\"} 3\nbfb_cache_misses_total 12\n\
        bfb_cache_misses_total_more 7\n";

    #[test]
    fn every_tier_is_told_whatever_its_name_in_one_order() {
        assert_eq!(tier_hits(METRICS), [("memory", 3), ("redis", 0), ("store", 1), ("tape", 2)]);
        assert_eq!(
            (counter(METRICS, "bfb_cache_misses_total"), counter(METRICS, "bfb_other_total")),
            (12, 0)
        );
    }

    #[test]
    fn a_share_is_rounded_to_a_tenth_and_of_nothing_there_is_none() {
        assert_eq!(
            (percent(1, 3), percent(2, 3), percent(3, 3)),
            (Some(33.3), Some(66.7), Some(100.0))
        );
        assert_eq!((percent(0, 7), percent(0, 0)), (Some(0.0), None));
    }
}
