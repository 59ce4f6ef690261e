//! Finding a primary through sentinels: each sentinel is asked for the primary's address, and the
//! server there for its role. Their replies are bounded as a server's are, which is why the client
//! library's own search is not used.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, stream};
use redis::{Cmd, ConnectionAddr, FromRedisValue, RedisConnectionInfo};

use super::config::{BusConfig, RedisUrl};
use super::endpoint::Endpoint;
use super::fault::RedisFault;
use super::redis_server::REPLY_LIMITS;

/// The most sentinels that are asked at once.
const AT_ONCE: usize = 4;
/// The most primaries of one service that are tried for a sentinel: there should be one.
const PRIMARIES_MAX: usize = 4;

/// The primary that the sentinels name at present. A user in a sentinel's URL is a user of the
/// sentinels.
pub(super) async fn find_primary(
    settings: &BusConfig,
    sentinels: &[RedisUrl],
    service: &str,
) -> Result<Endpoint, RedisFault> {
    let user = sentinel_user(sentinels)?;
    let ask_one = |url: &RedisUrl| {
        ask_sentinel(settings.clone(), url.clone(), user.clone(), service.to_owned())
    };
    let requests: Vec<_> = sentinels.iter().map(ask_one).collect();
    let mut answers = stream::iter(requests).buffered(AT_ONCE);
    let mut primary_fault = None;
    let mut sentinel_fault = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Ok(primary)) => return Ok(primary),
            // A primary's fault tells more than a sentinel's.
            Ok(Err(fault)) => primary_fault = primary_fault.or(Some(fault)),
            Err(fault) => sentinel_fault = Some(fault),
        }
    }
    Err(primary_fault.or(sentinel_fault).unwrap_or(RedisFault::NoPrimary))
}

/// The user of the sentinels, taken from the first of their URLs that names one.
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

/// Asks one sentinel. The outer fault is the sentinel's, the inner one the primary's.
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

/// The address of the primary of a service, if the sentinel reports it as up.
fn primary_address(master: &HashMap<String, String>, service: &str) -> Option<(String, u16)> {
    let flags = master.get("flags")?;
    let is_up = flags.contains("master") && !flags.contains("s_down") && !flags.contains("o_down");
    if master.get("name")? != service || !is_up {
        return None;
    }
    Some((master.get("ip")?.clone(), master.get("port")?.parse().ok()?))
}

/// The server at an address, if its role is primary.
async fn confirm_primary(
    settings: &BusConfig,
    addr: ConnectionAddr,
) -> Result<Option<Endpoint>, RedisFault> {
    let server =
        settings.endpoint(addr, settings.with_credentials(RedisConnectionInfo::default())?)?;
    // `INFO` is among the permissions anyway; `ROLE` would be one more.
    let info: String = query(&server, redis::cmd("INFO").arg("replication")).await?;
    let is_primary = info.lines().any(|line| line.trim_end() == "role:master");
    Ok(is_primary.then_some(server))
}

/// Runs one command on a connection of its own. If the server sends more than was asked for, that
/// is the fault.
async fn query<T: FromRedisValue>(endpoint: &Endpoint, command: &Cmd) -> Result<T, RedisFault> {
    let excess = Arc::new(OnceLock::new());
    let reported = Arc::clone(&excess);
    let on_excess = move |cause| {
        let _ = reported.set(cause);
    };
    let answered = async {
        let mut connection = endpoint.connect(REPLY_LIMITS, |_| {}, on_excess).await?;
        Ok(command.query_async(&mut connection).await?)
    };
    answered.await.map_err(|fault| excess.get().copied().map_or(fault, RedisFault::ReplyExcess))
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
