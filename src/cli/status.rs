//! `bfb status`: the state of the sidecar beside us.

mod text;

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{AdminArgs, OutputFormat};
use super::client::{SidecarClient, problem_text, read_answer};
use super::{exit, out};
use crate::admin::api::Status;

#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    admin: AdminArgs,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

impl StatusCommand {
    pub(super) fn run(self) -> ExitCode {
        super::block_on(async move {
            let printed = match self.format {
                // All members, also those that this release does not know.
                OutputFormat::Json => fetch::<Value>(&self.admin).await.map(|status| {
                    out::print_json(serde_json::to_string_pretty(&status).unwrap_or_default())
                }),
                OutputFormat::Text => fetch_status(&self.admin)
                    .await
                    .map(|status| out::print(text::text(&status).trim_end())),
            };
            printed.unwrap_or_else(|failed| failed)
        })
    }
}

/// The sidecar's state. An error is printed and becomes the exit code.
pub(super) async fn fetch_status(admin: &AdminArgs) -> Result<Status, ExitCode> {
    fetch(admin).await
}

fn unavailable(error: &dyn std::fmt::Display) -> ExitCode {
    out::error(error);
    exit::unavailable()
}

/// The answer to `GET /status`. An error is printed and becomes the exit code.
async fn fetch<T: DeserializeOwned>(admin: &AdminArgs) -> Result<T, ExitCode> {
    let client = SidecarClient::new(&admin.admin).map_err(|error| unavailable(&error))?;
    let answer = client
        .send(client.request(Method::GET, "/status"), "admin")
        .await
        .map_err(|e| unavailable(&e))?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(|error| unavailable(&error))?;
    if status != 200 {
        return Err(unavailable(&problem_text(status, &body)));
    }
    read_answer(&body).map_err(|error| unavailable(&error))
}
