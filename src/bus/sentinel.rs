//! Finding a primary through sentinels: each is asked whom it takes for the primary, and that one
//! whether it is. Their answers are bounded as a server's are, so the client library's own search
//! is not used.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, stream};
use redis::{Cmd, ConnectionAddr, FromRedisValue, RedisConnectionInfo};

use super::config::{BusConfig, RedisUrl};
use super::endpoint::Endpoint;
use super::fault::RedisFault;
use super::redis_server::REPLY_LIMITS;

/// Sentinels that are asked at once.
const AT_ONCE: usize = 4;
/// Primaries of one name that a sentinel may send us to: there should be one.
const PRIMARIES_MAX: usize = 4;

/// The primary that the sentinels name now. A user in a sentinel's URL is one of the sentinels'.
pub(super) async fn find_primary(
    settings: &BusConfig,
    sentinels: &[RedisUrl],
    service: &str,
) -> Result<Endpoint, RedisFault> {
    let user = sentinel_user(sentinels)?;
    let ask_one = |url: &RedisUrl| {
        ask_sentinel(settings.clone(), url.clone(), user.clone(), service.to_owned())
    };
    let questions: Vec<_> = sentinels.iter().map(ask_one).collect();
    let mut answers = stream::iter(questions).buffered(AT_ONCE);
    let (mut of_primary, mut of_sentinel) = (None, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Ok(primary)) => return Ok(primary),
            // What a primary says is more to the point than what a sentinel does.
            Ok(Err(fault)) => of_primary = of_primary.or(Some(fault)),
            Err(fault) => of_sentinel = Some(fault),
        }
    }
    Err(of_primary.or(of_sentinel).unwrap_or(RedisFault::NoPrimary))
}

/// The user of the sentinels, which one of their URLs names.
fn sentinel_user(sentinels: &[RedisUrl]) -> Result<RedisConnectionInfo, RedisFault> {
    let infos = sentinels.iter().map(RedisUrl::info).collect::<Result<Vec<_>, _>>()?;
    let named = infos
        .iter()
        .map(redis::ConnectionInfo::redis_settings)
        .find(|redis| redis.password().is_some());
    Ok(named.map_or_else(RedisConnectionInfo::default, |named| {
        let own = RedisConnectionInfo::default().set_password(named.password().unwrap_or_default());
        match named.username() {
            Some(user) => own.set_username(user),
            None => own,
        }
    }))
}

/// Asks one sentinel. The outer result is its own, the inner one the primary's.
async fn ask_sentinel(
    settings: BusConfig,
    url: RedisUrl,
    user: RedisConnectionInfo,
    service: String,
) -> Result<Result<Endpoint, RedisFault>, RedisFault> {
    let sentinel = settings.endpoint(url.info()?.addr().clone(), user)?;
    let masters: Vec<HashMap<String, String>> =
        query(&sentinel, redis::cmd("SENTINEL").arg("MASTERS")).await?;
    let primaries =
        masters.iter().filter_map(|master| primary_address(master, &service)).take(PRIMARIES_MAX);
    let mut fault = None;
    for (host, port) in primaries {
        let addr = if url.is_tls() {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        match confirm_primary(&settings, addr).await {
            Ok(Some(primary)) => return Ok(Ok(primary)),
            Ok(None) => {}
            Err(other) => fault = fault.or(Some(other)),
        }
    }
    fault.map_or(Err(RedisFault::NoPrimary), |fault| Ok(Err(fault)))
}

/// Where the primary of a service is, if a sentinel takes it for one that is up.
fn primary_address(master: &HashMap<String, String>, service: &str) -> Option<(String, u16)> {
    let flags = master.get("flags")?;
    let is_up = flags.contains("master") && !flags.contains("s_down") && !flags.contains("o_down");
    if master.get("name")? != service || !is_up {
        return None;
    }
    Some((master.get("ip")?.clone(), master.get("port")?.parse().ok()?))
}

/// The server at an address, if it takes itself for a primary.
async fn confirm_primary(
    settings: &BusConfig,
    addr: ConnectionAddr,
) -> Result<Option<Endpoint>, RedisFault> {
    let server =
        settings.endpoint(addr, settings.with_credentials(RedisConnectionInfo::default())?)?;
    // `INFO` is what its user may ask anyway; `ROLE` would be one more permission.
    let info: String = query(&server, redis::cmd("INFO").arg("replication")).await?;
    let is_primary = info.lines().any(|line| line.trim_end() == "role:master");
    Ok(is_primary.then_some(server))
}

/// Asks one thing on a connection of its own. What ends it for sending too much is said.
async fn query<T: FromRedisValue>(endpoint: &Endpoint, command: &Cmd) -> Result<T, RedisFault> {
    let cause = Arc::new(OnceLock::new());
    let shared = Arc::clone(&cause);
    let tell = move |cause| {
        let _ = shared.set(cause);
    };
    let answered = async {
        let mut connection = endpoint.connect(REPLY_LIMITS, |_| {}, tell).await?;
        Ok(command.query_async(&mut connection).await?)
    };
    answered.await.map_err(|fault| cause.get().copied().map_or(fault, RedisFault::ReplyExcess))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_is_down_or_of_another_service_is_none() {
        let address_of = |name: &str, flags: &str| {
            let fields = [("name", name), ("flags", flags), ("ip", "10.0.0.1"), ("port", "6379")];
            let master: HashMap<_, _> =
                fields.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
            primary_address(&master, "main")
        };
        assert_eq!(address_of("main", "master"), Some(("10.0.0.1".to_owned(), 6379)));
        for (name, flags) in [
            ("other", "master"),
            ("main", "slave"),
            ("main", "s_down,master"),
            ("main", "master,o_down"),
        ] {
            assert_eq!(address_of(name, flags), None, "{name} {flags}");
        }
    }
}
