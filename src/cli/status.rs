//! `bfb status`: the state of the sidecar beside us.

mod text;

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::args::{AdminArgs, OutputFormat};
use super::client::{SidecarClient, problem_text};
use super::{exit, out};

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
                Ok(status) if self.format == OutputFormat::Json => {
                    out::print_json(serde_json::to_string_pretty(&status).unwrap_or_default())
                }
                Ok(status) => out::print(text::text(&status).trim_end()),
                Err(failed) => failed,
            }
        })
    }
}

/// `GET /status`, or the exit code after saying why not.
pub(super) async fn fetch(admin: &AdminArgs) -> Result<Value, ExitCode> {
    let unavailable = |error: &dyn std::fmt::Display| {
        out::error(error);
        exit::unavailable()
    };
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
