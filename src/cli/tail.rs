//! `bfb tail`: what happens in the sidecar beside us, one line an event, until it ends or Ctrl-C
//! does.

mod line;
mod stream;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{AdminPort, Format};
use super::local::{Local, problem_text};
use super::{exit, out};
use line::Lines;
use stream::Events;

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    admin: AdminPort,
    /// With keys and tags (they are personal data)
    #[arg(long)]
    keys: bool,
    /// Only what happens to this domain, and to what all domains share
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// How it is printed: a line for people, or one JSON object a line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A sidecar shows that it lives every five seconds; one that has said nothing for this long is
/// gone.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Why no more events come.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the sidecar at `{0}` drains: it tells no more")]
    Drains(String),
    #[error("the sidecar at `{0}` is gone: {1}")]
    Gone(String, String),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl Tail {
    pub(super) fn run(self) -> ExitCode {
        super::block_on(async move {
            let mut interrupt = match signal(SignalKind::interrupt()) {
                Ok(interrupt) => interrupt,
                Err(error) => {
                    out::error(format!("signals cannot be caught: {error}"));
                    return exit::unavailable();
                }
            };
            tokio::select! {
                _ = interrupt.recv() => exit::OK,
                ended = self.listen() => ended,
            }
        })
    }

    async fn listen(&self) -> ExitCode {
        let unavailable = |error: &dyn std::fmt::Display| {
            out::error(error);
            exit::unavailable()
        };
        let local = match Local::endless(&self.admin.admin, SILENCE_MAX) {
            Ok(local) => local,
            Err(error) => return unavailable(&error),
        };
        let answer = match local.send(local.request(Method::GET, &self.path()), "admin").await {
            Ok(answer) => answer,
            Err(error) => return unavailable(&error),
        };
        let status = answer.status().as_u16();
        if status != 200 {
            out::error(problem_text(status, &answer.bytes().await.unwrap_or_default()));
            return if status == 400 { exit::wrong_input() } else { exit::FAILED };
        }
        match self.follow(answer).await {
            // Whoever read along has seen enough.
            End::Output(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
            end @ End::Output(_) => {
                out::error(end);
                exit::FAILED
            }
            end @ (End::Drains(_) | End::Gone(..)) => unavailable(&end),
        }
    }

    fn path(&self) -> String {
        let keys = self.keys.then(|| "keys=1".to_owned());
        let domain = self
            .domain
            .as_ref()
            .map(|name| format!("domain={}", utf8_percent_encode(name, NON_ALPHANUMERIC)));
        let query: Vec<_> = keys.into_iter().chain(domain).collect();
        format!("/events?{}", query.join("&"))
    }

    /// Prints what comes until no more does.
    async fn follow(&self, mut answer: Response) -> End {
        let address = || self.admin.admin.to_string();
        let (mut events, mut lines) = (Events::default(), Lines::default());
        loop {
            let bytes = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return End::Gone(address(), "it closed the connection".to_owned()),
                Err(error) => return End::Gone(address(), super::local::root_cause(&error)),
            };
            let Ok(came) = events.take(&bytes) else {
                return End::Gone(address(), "it sent an event that is too long".to_owned());
            };
            for data in came {
                let event: Value = serde_json::from_str(&data).unwrap_or_default();
                let written = match self.format {
                    Format::Json => out::write_json(data),
                    Format::Text => out::write_line(lines.of(&event)),
                };
                if let Err(error) = written {
                    return End::Output(error);
                }
                if event["event"] == "ends" {
                    return End::Drains(address());
                }
            }
        }
    }
}
