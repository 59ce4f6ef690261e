//! `POST /invalidate`: datasets that were read before now are out of date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::admin_problem::AdminProblem;
use crate::cache::InvalidationToken;
use crate::coherence::{InvalidationScope, SCOPES_MAX};
use crate::http::WaitNotice;

/// What is asked: exactly one of `keys`, `tags` and `all`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvalidateRequest {
    domain: String,
    #[serde(default)]
    keys: Vec<Arc<str>>,
    #[serde(default)]
    tags: Vec<Arc<str>>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    wait: WaitMode,
    /// How long to wait for the fleet: `"2s"`, or seconds as a number.
    #[serde(default)]
    timeout: Option<WaitLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WaitLimit {
    Text(String),
    Seconds(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WaitMode {
    /// Until the fleet has acknowledged it.
    Fleet,
    /// Not at all.
    #[default]
    None,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub(super) struct InvalidateResponse {
    token: String,
    seq: u64,
    acknowledged: bool,
    sidecars: usize,
    silent: Vec<String>,
    /// From the request to its answer: all that the caller waited, for the log and for the fleet.
    took_ms: u64,
}

/// `waits` is told where the caller is kept waiting for the fleet.
pub(super) async fn invalidate(
    state: &AdminState,
    request: &InvalidateRequest,
    wait_notice: &WaitNotice,
) -> Result<(StatusCode, InvalidateResponse), AdminProblem> {
    let began = Instant::now();
    let (scopes, limit) = request.check().map_err(|detail| AdminProblem::BadRequest { detail })?;
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
        took_ms: 0,
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
        response.sidecars = acknowledged.sidecars;
        response.silent =
            acknowledged.silent_members.iter().map(|name| name.0.to_string()).collect();
    }
    response.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((if response.acknowledged { StatusCode::OK } else { StatusCode::ACCEPTED }, response))
}

/// How long to wait where the request does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// How long anybody may wait.
const WAIT_MAX: Duration = Duration::from_mins(5);

impl WaitLimit {
    fn duration(&self) -> Option<Duration> {
        let limit = match self {
            Self::Text(text) => humantime::parse_duration(text).ok(),
            Self::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        };
        limit.filter(|limit| *limit <= WAIT_MAX)
    }
}

impl InvalidateRequest {
    /// What it names, and how long to wait.
    fn check(&self) -> Result<(Arc<[InvalidationScope]>, Duration), String> {
        let kinds = [!self.keys.is_empty(), !self.tags.is_empty(), self.all];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err("expected exactly one of `keys`, `tags` and `\"all\": true`".to_owned());
        }
        if self.keys.len() + self.tags.len() > SCOPES_MAX {
            let count = self.keys.len() + self.tags.len();
            return Err(format!(
                "expected at most {SCOPES_MAX} keys or tags in one request, met {count}"
            ));
        }
        let limit = self.timeout.as_ref().map_or(Some(DEFAULT_WAIT), WaitLimit::duration);
        let limit = limit.ok_or("expected a time of at most 5m, such as `\"2s\"`, in `timeout`")?;
        let keys = self.keys.iter().cloned().map(InvalidationScope::Key);
        let tags = self.tags.iter().cloned().map(InvalidationScope::Tag);
        Ok((keys.chain(tags).chain(self.all.then_some(InvalidationScope::All)).collect(), limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_kind_of_scope_is_expected() {
        let scopes = |json: &str| {
            serde_json::from_str::<InvalidateRequest>(json)
                .map(|asked| asked.check().map(|(s, _)| s.len()))
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
