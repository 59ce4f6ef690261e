//! Reads a server's version and configuration, as far as our user may: from `INFO`, which every
//! sidecar needs, and from `CONFIG GET`, which no sidecar needs and which a managed Redis refuses.

use std::collections::HashMap;
use std::time::Duration;

use super::super::endpoint::RedisConnection;
use super::super::fault::RedisFault;

/// The version and configuration of one server.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a line of `INFO`, and none depends on another"
)]
pub struct RedisServerInfo {
    /// `Redis` or `Valkey`.
    pub product: &'static str,
    /// `7.0.15`.
    pub version: String,
    /// The version of Redis that it is compatible with: major, minor.
    pub compatible: (u32, u32),
    /// Whether it is a primary and takes writes.
    pub is_primary: bool,
    /// Whether it is part of a Cluster.
    pub is_cluster: bool,
    /// The current life of the server, as the scripts see it.
    pub life: Option<String>,
    /// How many replicas are connected.
    pub replicas: u64,
    /// `noeviction`, `volatile-lru`, `allkeys-lru`.
    pub eviction: Option<String>,
    /// The most bytes of memory, at which it evicts or refuses; 0 is without a limit.
    pub memory_max: Option<u64>,
    /// The bytes of memory that are used.
    pub memory: Option<u64>,
    /// Whether it writes an append-only file.
    pub appends: bool,
    /// Whether the last snapshot failed.
    pub snapshot_failed: bool,
    /// The reply to `CONFIG GET`; `None`: it is refused.
    pub config: Option<RedisServerConfig>,
}

/// The settings that only `CONFIG GET` shows.
#[derive(Debug, Clone, Default)]
pub struct RedisServerConfig {
    /// `min-replicas-to-write`.
    pub min_replicas: Option<u64>,
    /// `min-replicas-max-lag`.
    pub min_replicas_max_lag: Option<Duration>,
    /// `cluster-node-timeout`.
    pub node_timeout: Option<Duration>,
    /// `cluster-require-full-coverage`.
    pub full_coverage: Option<bool>,
    /// `client-output-buffer-limit` of subscribers.
    pub subscriber_limit: Option<BufferLimit>,
    /// `timeout`: the idle time after which connections are closed.
    pub idle: Option<Duration>,
    /// `appendfsync`.
    pub append_sync: Option<String>,
}

/// The output buffer of a subscriber that does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimit {
    /// With more bytes its connection is closed at once; 0 is without a limit.
    pub hard: u64,
    /// With more bytes its connection is closed after [`Self::soft_for`]; 0 is without a limit.
    pub soft: u64,
    /// How long it may have more bytes than [`Self::soft`].
    pub soft_for: Duration,
}

impl RedisServerInfo {
    /// Whether a Cluster of this version has sharded pub/sub.
    pub(super) const fn is_sharded(&self) -> bool {
        self.compatible.0 >= 7
    }

    fn read(info: &HashMap<&str, &str>) -> Self {
        let text = |name: &str| info.get(name).map(|text| (*text).to_owned());
        let number = |name: &str| info.get(name).and_then(|text| text.parse().ok());
        let compatible = info.get("redis_version").copied().unwrap_or_default();
        let mut parts = compatible.split('.').map(|part| part.parse().unwrap_or_default());
        let valkey = text("valkey_version");
        Self {
            product: if valkey.is_some() { "Valkey" } else { "Redis" },
            version: valkey.unwrap_or_else(|| compatible.to_owned()),
            compatible: (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()),
            is_primary: info.get("role").is_none_or(|role| *role == "master"),
            is_cluster: info.get("cluster_enabled") == Some(&"1"),
            life: text("run_id")
                .zip(text("master_replid"))
                .map(|(run, data)| format!("{run}/{data}")),
            replicas: number("connected_slaves").unwrap_or_default(),
            eviction: text("maxmemory_policy"),
            memory_max: number("maxmemory"),
            memory: number("used_memory"),
            appends: info.get("aof_enabled") == Some(&"1"),
            snapshot_failed: info
                .get("rdb_last_bgsave_status")
                .is_some_and(|status| *status != "ok"),
            config: None,
        }
    }
}

/// Reads them from the server; `None`: our user may not run `INFO`.
pub(super) async fn query(
    connection: &mut RedisConnection,
) -> Result<Option<RedisServerInfo>, RedisFault> {
    let info: String =
        match redis::cmd("INFO").query_async(connection).await.map_err(RedisFault::from) {
            Ok(info) => info,
            Err(fault) if fault.is_no_permission() => return Ok(None),
            Err(fault) => return Err(fault),
        };
    let lines: HashMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let mut info = RedisServerInfo::read(&lines);
    info.config = config(connection).await;
    Ok(Some(info))
}

async fn config(connection: &mut RedisConnection) -> Option<RedisServerConfig> {
    let mut get = async |name: &'static str| {
        let reply = redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
        reply.map(|mut found: HashMap<String, String>| found.remove(name)).ok()
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    let seconds = |text: Option<String>| number(text).map(Duration::from_secs);
    Some(RedisServerConfig {
        min_replicas: number(get("min-replicas-to-write").await?),
        min_replicas_max_lag: seconds(get("min-replicas-max-lag").await?),
        node_timeout: number(get("cluster-node-timeout").await?).map(Duration::from_millis),
        full_coverage: get("cluster-require-full-coverage").await?.map(|text| text == "yes"),
        subscriber_limit: get("client-output-buffer-limit")
            .await?
            .and_then(|text| subscriber_limit(&text)),
        idle: seconds(get("timeout").await?),
        append_sync: get("appendfsync").await?,
    })
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`
fn subscriber_limit(text: &str) -> Option<BufferLimit> {
    let mut numbers =
        text.split_once("pubsub ")?.1.split_whitespace().map(|word| word.parse().ok());
    let hard = numbers.next()??;
    let soft = numbers.next()??;
    let soft_for = Duration::from_secs(numbers.next()??);
    Some(BufferLimit { hard, soft, soft_for })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_what_its_information_says() {
        let valkey = [
            ("redis_version", "7.2.4"),
            ("valkey_version", "9.1.2"),
            ("run_id", "a"),
            ("master_replid", "b"),
            ("role", "slave"),
            ("maxmemory", "0"),
            ("rdb_last_bgsave_status", "err"),
        ];
        let facts = RedisServerInfo::read(&valkey.into_iter().collect());
        assert_eq!((facts.product, &*facts.version, facts.compatible), ("Valkey", "9.1.2", (7, 2)));
        assert_eq!(
            (facts.life.as_deref(), facts.memory_max, facts.eviction),
            (Some("a/b"), Some(0), None)
        );
        assert!(!facts.is_primary && facts.snapshot_failed);
        let redis = RedisServerInfo::read(&HashMap::from([("redis_version", "6.2.14")]));
        assert_eq!((redis.product, &*redis.version, redis.compatible), ("Redis", "6.2.14", (6, 2)));
        assert!(redis.is_primary && !redis.is_sharded() && redis.life.is_none());
    }

    #[test]
    fn the_limit_of_subscribers_is_found_among_the_others() {
        let all = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        let limit =
            BufferLimit { hard: 33_554_432, soft: 8_388_608, soft_for: Duration::from_mins(1) };
        assert_eq!(subscriber_limit(all), Some(limit));
        assert_eq!(subscriber_limit("normal 0 0 0"), None);
    }
}
