//! `bfb status`: the state of the sidecar beside us.

mod text;

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::args::{AdminArgs, OutputFormat};
use super::client::{SidecarClient, problem_text};
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
            match fetch(&self.admin).await {
                // As it came, with what this release does not know.
                Ok(status) if self.format == OutputFormat::Json => {
                    out::print_json(serde_json::to_string_pretty(&status).unwrap_or_default())
                }
                Ok(status) => match read(status) {
                    Ok(status) => out::print(text::text(&status).trim_end()),
                    Err(failed) => failed,
                },
                Err(failed) => failed,
            }
        })
    }
}

/// What `GET /status` says, or the exit code after saying why not.
pub(super) async fn fetch_status(admin: &AdminArgs) -> Result<Status, ExitCode> {
    read(fetch(admin).await?)
}

fn read(status: Value) -> Result<Status, ExitCode> {
    serde_json::from_value(status).map_err(|error| unavailable(&error))
}

fn unavailable(error: &dyn std::fmt::Display) -> ExitCode {
    out::error(error);
    exit::unavailable()
}

/// The JSON of `GET /status`.
async fn fetch(admin: &AdminArgs) -> Result<Value, ExitCode> {
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
    serde_json::from_slice(&body).map_err(|error| unavailable(&error))
}
