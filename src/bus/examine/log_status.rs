//! Reads the state of a domain's log from Redis.

use std::collections::HashMap;
use std::time::Duration;

use super::super::endpoint::RedisConnection;
use super::super::fault::RedisFault;
use super::super::redis_names::RedisNames;
use super::server_info::RedisServerInfo;

/// The state of the log of one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Its protocol.
    pub protocol: u32,
    /// Whether it is of the server's current life; `None`: that is not known.
    pub is_alive: Option<bool>,
    /// The name of its epoch.
    pub epoch: String,
    /// Its last entry.
    pub seq: u64,
    /// Whether its registry is known to be complete.
    pub settled: bool,
    /// How many stamps of keys and tags it has.
    pub stamps: u64,
    /// The registered sidecars.
    pub registered: Vec<RegisteredMember>,
}

/// A sidecar in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredMember {
    /// Its name.
    pub name: String,
    /// The log's `seq` in its last heartbeat reply.
    pub told_seq: u64,
    /// The `seq` that it reported as applied.
    pub reported_seq: u64,
    /// Its lease: how long it may serve without a reply from Redis.
    pub lease: Duration,
}

/// Reads the state of a domain's log; `None`: there is no log.
pub(super) async fn read(
    connection: &mut RedisConnection,
    names: &RedisNames,
    server: Option<&RedisServerInfo>,
) -> Result<Option<LogStatus>, RedisFault> {
    let meta: HashMap<String, String> =
        redis::cmd("HGETALL").arg(names.meta()).query_async(connection).await?;
    if meta.is_empty() {
        return Ok(None);
    }
    let life = server.and_then(|server| server.life.as_deref());
    LogStatus::read(&meta, life).map(Some).ok_or(RedisFault::Unreadable)
}

impl LogStatus {
    /// Parses the fields of the log's hash; `life` is the server's current life.
    pub fn read(meta: &HashMap<String, String>, life: Option<&str>) -> Option<Self> {
        let number = |name: &str| meta.get(name)?.parse().ok();
        let mut registered: Vec<_> = meta
            .iter()
            .filter_map(|(field, value)| registration(field.strip_prefix("r:")?, value))
            .collect();
        registered.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Some(Self {
            protocol: meta.get("protocol")?.parse().ok()?,
            is_alive: life.map(|life| meta.get("life").is_some_and(|of| of == life)),
            epoch: meta.get("epoch")?.clone(),
            seq: number("seq")?,
            settled: meta.get("settled")? == "1",
            stamps: number("stamps")?,
            registered,
        })
    }
}

fn registration(name: &str, value: &str) -> Option<RegisteredMember> {
    let mut numbers = value.split(' ').map(|number| number.parse().ok());
    let told_seq = numbers.next()??;
    let reported_seq = numbers.next()??;
    let lease = Duration::from_millis(numbers.next()??);
    Some(RegisteredMember { name: name.to_owned(), told_seq, reported_seq, lease })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_as_the_scripts_write_it() {
        let fields = [
            ("protocol", "1"),
            ("life", "a/b"),
            ("epoch", "ff"),
            ("seq", "7"),
            ("settled", "1"),
            ("leases", "3000=2"),
            ("stamps", "3"),
            ("r:bob", "7 6 3000"),
            ("r:ann", "7 7 5000"),
            ("r:later", "?"),
            ("later", "more"),
        ];
        let meta: HashMap<_, _> =
            fields.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let read = LogStatus::read(&meta, Some("a/b")).unwrap();
        assert_eq!((read.protocol, read.seq, read.settled, read.stamps), (1, 7, true, 3));
        assert_eq!(read.is_alive, Some(true));
        let [ann, bob] = read.registered.as_slice() else { panic!("{read:?}") };
        assert_eq!((&*ann.name, ann.reported_seq, ann.lease), ("ann", 7, Duration::from_secs(5)));
        assert_eq!((&*bob.name, bob.told_seq, bob.reported_seq), ("bob", 7, 6));
        assert_eq!(LogStatus::read(&meta, Some("c/d")).unwrap().is_alive, Some(false));
        assert_eq!(LogStatus::read(&HashMap::new(), None), None);
    }
}
