//! `GET /log` and `PUT /log`: the level of the log, and its change while the process runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{CurrentLogLevel, LogChange};
use crate::diagnostics::quote;

/// The level of the log. Clones share it.
#[derive(Debug, Clone)]
pub struct LogLevel {
    default_level: Arc<str>,
    requested: watch::Sender<RequestedLevel>,
    check: fn(&str) -> Result<(), String>,
}

#[derive(Debug, Clone)]
struct RequestedLevel {
    level: String,
    until: Option<Instant>,
}

/// The longest time for which a change of the level holds.
const LEVEL_TIME_MAX: Duration = Duration::from_hours(24);

impl LogLevel {
    /// Starts with `default_level`, which holds again once a change has expired. `check` refuses a
    /// filter that is not valid.
    pub fn new(default_level: &str, check: fn(&str) -> Result<(), String>) -> Self {
        let requested =
            watch::Sender::new(RequestedLevel { level: default_level.to_owned(), until: None });
        Self { default_level: default_level.into(), requested, check }
    }

    /// The current level.
    pub fn current(&self) -> CurrentLogLevel {
        let requested = self.requested.borrow();
        let left =
            requested.until.map(|until| until.saturating_duration_since(Instant::now()).as_secs());
        CurrentLogLevel { level: requested.level.clone(), seconds_left: left }
    }

    /// Changes the level; the error is a text for the caller.
    pub fn change(&self, change: LogChange) -> Result<CurrentLogLevel, String> {
        (self.check)(&change.level)?;
        let time = change.r#for.as_deref().map(parse_time).transpose()?;
        let until = time.map(|time| Instant::now() + time);
        self.requested.send_replace(RequestedLevel { level: change.level, until });
        Ok(self.current())
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("expected a time such as `1m`, met {}", quote(text)))?;
    if time > LEVEL_TIME_MAX { Err("expected at most 24h".to_owned()) } else { Ok(time) }
}

/// Calls `apply` with each new level, and restores the default level when a change expires.
pub async fn follow(level: LogLevel, apply: impl Fn(&str) + Send) {
    let mut requested = level.requested.subscribe();
    loop {
        let until = requested.borrow().until;
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = requested.changed() => {
                if changed.is_err() {
                    return;
                }
                apply(&requested.borrow_and_update().level);
            }
            () = over => {
                let usual = level.default_level.to_string();
                level.requested.send_replace(RequestedLevel { level: usual, until: None });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_time_returns_to_the_usual_one() {
        let level = LogLevel::new("info", |_| Ok(()));
        let (tx, mut applied) = tokio::sync::mpsc::unbounded_channel();
        let following =
            tokio::spawn(follow(level.clone(), move |level| tx.send(level.to_owned()).unwrap()));
        tokio::task::yield_now().await;
        let change = LogChange { level: "debug".to_owned(), r#for: Some("1m".to_owned()) };
        assert_eq!(level.change(change).unwrap().seconds_left, Some(60));
        assert_eq!(applied.recv().await.unwrap(), "debug");
        assert_eq!(applied.recv().await.unwrap(), "info");
        assert_eq!(level.current().level, "info");
        following.abort();
    }

    #[test]
    fn a_wrong_level_or_time_changes_nothing() {
        let level =
            LogLevel::new(
                "info",
                |text| if text == "loud" { Err("no".to_owned()) } else { Ok(()) },
            );
        let change = |text: &str, time: &str| LogChange {
            level: text.to_owned(),
            r#for: Some(time.to_owned()),
        };
        assert!(level.change(change("loud", "1m")).is_err());
        assert!(level.change(change("debug", "soon")).is_err());
        assert!(level.change(change("debug", "25h")).is_err());
        assert_eq!(level.current().level, "info");
    }
}
