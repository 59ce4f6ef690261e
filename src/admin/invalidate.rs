//! `POST /invalidate`: writes an invalidation to the fleet's log and, if the request says so, waits
//! until the fleet has acknowledged it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::AdminState;
use super::admin_problem::AdminProblem;
use super::api::{InvalidateRequest, InvalidateResponse, WaitLimit, WaitMode};
use crate::cache::InvalidationToken;
use crate::coherence::{InvalidationScope, SCOPES_MAX};
use crate::http::WaitNotice;

/// Invalidates what `request` names. `wait_notice` is notified when the wait for the fleet begins.
pub(super) async fn invalidate(
    state: &AdminState,
    request: &InvalidateRequest,
    wait_notice: &WaitNotice,
) -> Result<(StatusCode, InvalidateResponse), AdminProblem> {
    let began = Instant::now();
    let (scopes, limit) = check(request).map_err(|detail| AdminProblem::BadRequest { detail })?;
    let cache = state.find_cache(&request.domain)?;
    let sent = cache.bus().invalidate(scopes).await.map_err(|fault| {
        tracing::warn!(domain = request.domain, %fault, "an invalidation could not be written");
        AdminProblem::BusLost
    })?;
    let mut response = InvalidateResponse {
        token: InvalidationToken(sent.token()).to_string(),
        seq: sent.token().seq,
        acknowledged: false,
        sidecars: 0,
        silent: Vec::new(),
        took_ms: None,
    };
    if request.wait == WaitMode::Fleet {
        wait_notice.begin();
        let acknowledged = cache.bus().wait_for_fleet(&sent, limit).await;
        let acknowledged =
            acknowledged.map_err(|not_acknowledged| AdminProblem::NotAcknowledged {
                detail: not_acknowledged.to_string(),
                token: response.token.clone(),
                behind: not_acknowledged.laggards.iter().map(|name| name.0.to_string()).collect(),
            })?;
        response.acknowledged = true;
        response.sidecars = acknowledged.sidecars as u64;
        response.silent =
            acknowledged.silent_members.iter().map(|name| name.0.to_string()).collect();
    }
    response.took_ms = Some(whole_millis(began.elapsed()));
    Ok((if response.acknowledged { StatusCode::OK } else { StatusCode::ACCEPTED }, response))
}

/// The time in whole milliseconds.
pub(super) fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long to wait for the fleet if the request has no `timeout`.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// The longest `timeout` of a request.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// The time of a `timeout`; `None` if it is no time or longer than [`WAIT_MAX`].
fn wait_time(limit: &WaitLimit) -> Option<Duration> {
    let time = match limit {
        WaitLimit::Text(text) => humantime::parse_duration(text).ok(),
        WaitLimit::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
    };
    time.filter(|time| *time <= WAIT_MAX)
}

/// The scopes that a request names, and how long to wait for the fleet.
fn check(request: &InvalidateRequest) -> Result<(Arc<[InvalidationScope]>, Duration), String> {
    let kinds = [!request.keys.is_empty(), !request.tags.is_empty(), request.all];
    if kinds.iter().filter(|given| **given).count() != 1 {
        return Err("expected exactly one of `keys`, `tags` and `\"all\": true`".to_owned());
    }
    let count = request.keys.len() + request.tags.len();
    if count > SCOPES_MAX {
        return Err(format!(
            "expected at most {SCOPES_MAX} keys or tags in one request, met {count}"
        ));
    }
    let limit = request.timeout.as_ref().map_or(Some(DEFAULT_WAIT), wait_time);
    let limit = limit.ok_or("expected a time of at most 5m, such as `\"2s\"`, in `timeout`")?;
    let keys = request.keys.iter().cloned().map(InvalidationScope::Key);
    let tags = request.tags.iter().cloned().map(InvalidationScope::Tag);
    let all = request.all.then_some(InvalidationScope::All);
    Ok((keys.chain(tags).chain(all).collect(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_kind_of_scope_is_expected() {
        let scopes = |json: &str| {
            serde_json::from_str::<InvalidateRequest>(json)
                .map(|asked| check(&asked).map(|(s, _)| s.len()))
        };
        assert_eq!(scopes(r#"{"domain": "c", "keys": ["1", "2"]}"#).ok(), Some(Ok(2)));
        assert_eq!(
            scopes(r#"{"domain": "c", "all": true, "wait": "fleet", "timeout": "2s"}"#).ok(),
            Some(Ok(1))
        );
        for wrong in [r#"{"domain": "c"}"#, r#"{"domain": "c", "keys": ["1"], "all": true}"#] {
            assert!(scopes(wrong).is_ok_and(|scopes| scopes.is_err()), "{wrong}");
        }
        assert!(scopes(r#"{"domain": "c", "key": "1"}"#).is_err(), "an unknown member is refused");
    }
}
