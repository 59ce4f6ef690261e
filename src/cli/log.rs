//! `bfb log`: the log level of the sidecar beside us, shown or changed for a time.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;

use super::args::AdminArgs;
use super::client::{SidecarClient, problem_text, read_answer};
use super::terminal::escape;
use super::{exit, out};
use crate::admin::api::{CurrentLogLevel, LogChange};

#[derive(Debug, Args)]
pub(super) struct LogCommand {
    #[command(flatten)]
    admin: AdminArgs,
    /// The level, or a filter such as `info,bfb::sources=debug`; without it, shows the one that
    /// holds
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// How long it holds, such as `1m`; without it, until the next change
    #[arg(long, value_name = "TIME", requires = "level")]
    r#for: Option<String>,
}

impl LogCommand {
    pub(super) fn run(self) -> ExitCode {
        super::block_on(async move {
            match self.send_request().await {
                Ok((200, body)) => match read_answer(&body) {
                    Ok(current) => out::print(text(&current)),
                    Err(error) => {
                        out::error(error);
                        exit::FAILED
                    }
                },
                Ok((status, body)) => {
                    out::error(problem_text(status, &body));
                    if status == 400 { exit::wrong_input() } else { exit::FAILED }
                }
                Err(error) => {
                    out::error(error);
                    exit::unavailable()
                }
            }
        })
    }

    async fn send_request(&self) -> Result<(u16, bytes::Bytes), Box<dyn std::error::Error>> {
        let client = SidecarClient::new(&self.admin.admin)?;
        let request = match &self.level {
            None => client.request(Method::GET, "/log"),
            Some(level) => {
                let change = LogChange { level: level.clone(), r#for: self.r#for.clone() };
                client.request(Method::PUT, "/log").json(&change)
            }
        };
        let answer = client.send(request, "admin").await?;
        Ok((answer.status().as_u16(), answer.bytes().await?))
    }
}

fn text(current: &CurrentLogLevel) -> String {
    let name = escape(&current.level);
    match current.seconds_left {
        Some(seconds) => format!("{name} (for {seconds} s more)"),
        None => name.into_owned(),
    }
}
