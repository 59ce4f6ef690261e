//! `bfb tail`: what happens in the sidecar beside us, one line an event, until it ends or Ctrl-C
//! does.

mod event_line;
mod event_parser;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{AdminArgs, OutputFormat};
use super::client::{SidecarClient, problem_text};
use super::{exit, out};
use crate::admin::api::{AdminEvent, EventKind};
use event_line::EventLines;
use event_parser::EventParser;

#[derive(Debug, Args)]
pub(super) struct TailCommand {
    #[command(flatten)]
    admin: AdminArgs,
    /// With keys and tags (they are personal data)
    #[arg(long)]
    keys: bool,
    /// Only what happens to this domain, and to what all domains share
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// How it is printed: a line for people, or one JSON object a line
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

/// A sidecar shows that it lives every five seconds; one that has said nothing for this long is
/// gone.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Why no more events come.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("the sidecar at `{0}` drains: it tells no more")]
    Drains(String),
    #[error("the sidecar at `{0}` is gone: {1}")]
    Gone(String, String),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl TailCommand {
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
                exit_code = self.print_events() => exit_code,
            }
        })
    }

    async fn print_events(&self) -> ExitCode {
        let unavailable = |error: &dyn std::fmt::Display| {
            out::error(error);
            exit::unavailable()
        };
        let client = match SidecarClient::streaming(&self.admin.admin, SILENCE_MAX) {
            Ok(local) => local,
            Err(error) => return unavailable(&error),
        };
        let answer = match client.send(client.request(Method::GET, &self.path()), "admin").await {
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
            StreamEnd::Output(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
            end @ StreamEnd::Output(_) => {
                out::error(end);
                exit::FAILED
            }
            end @ (StreamEnd::Drains(_) | StreamEnd::Gone(..)) => unavailable(&end),
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
    async fn follow(&self, mut answer: Response) -> StreamEnd {
        let address = || self.admin.admin.to_string();
        let mut events = EventParser::default();
        let mut lines = EventLines::default();
        loop {
            let bytes = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    return StreamEnd::Gone(address(), "it closed the connection".to_owned());
                }
                Err(error) => return StreamEnd::Gone(address(), super::client::root_cause(&error)),
            };
            let Ok(completed) = events.push(&bytes) else {
                return StreamEnd::Gone(address(), "it sent an event that is too long".to_owned());
            };
            for data in completed {
                let event = AdminEvent::from_data(&data);
                let written = match self.format {
                    OutputFormat::Json => out::write_json(data),
                    OutputFormat::Text => out::write_line(lines.line_of(&event, &data)),
                };
                if let Err(error) = written {
                    return StreamEnd::Output(error);
                }
                if matches!(event.kind, Some(EventKind::Ends { .. })) {
                    return StreamEnd::Drains(address());
                }
            }
        }
    }
}
