//! `bfb status`: the state of the sidecar beside us.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::Value;

use super::args::{AdminPort, Format};
use super::local::{Local, problem_text};
use super::{exit, out};

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    admin: AdminPort,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Status {
    pub(super) fn run(self) -> ExitCode {
        super::block_on(async move {
            match fetch(&self.admin).await {
                Ok(status) if self.format == Format::Json => {
                    out::say(serde_json::to_string_pretty(&status).unwrap_or_default())
                }
                Ok(status) => out::say(text(&status).trim_end()),
                Err(failed) => failed,
            }
        })
    }
}

/// `GET /status`, or the exit code after saying why not.
pub(super) async fn fetch(admin: &AdminPort) -> Result<Value, ExitCode> {
    let unavailable = |error: &dyn std::fmt::Display| {
        eprintln!("error: {error}");
        exit::unavailable()
    };
    let local = Local::new(&admin.admin).map_err(|error| unavailable(&error))?;
    let answer = local.send(local.request(Method::GET, "/status"), "admin").await.map_err(|e| unavailable(&e))?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(|error| unavailable(&error))?;
    if status != 200 {
        return Err(unavailable(&problem_text(status, &body)));
    }
    serde_json::from_slice(&body).map_err(|error| unavailable(&error))
}

fn text(status: &Value) -> String {
    let mut text = format!(
        "bfb {} (pid {}), {}, {} in flight, log `{}`\n",
        word(status, "version"),
        word(status, "pid"),
        word(status, "phase"),
        word(status, "in_flight"),
        word(&status["log"], "level"),
    );
    let fleet = &status["fleet"];
    if fleet["alone"] == true {
        text += "a fleet of one\n";
    } else {
        let connected = if fleet["connected"] == true { "connected" } else { "not connected" };
        let _ = writeln!(text, "member of a fleet, Redis {connected}");
        for domain in fleet["domains"].as_array().into_iter().flatten() {
            let lease = match domain["lease_left_ms"].as_u64() {
                Some(ms) if domain["lease_held"] == true => format!("lease held, {ms} ms left"),
                _ => "lease not held".to_owned(),
            };
            let (name, applied, lag) = (word(domain, "domain"), word(domain, "applied"), word(domain, "lag"));
            let _ = writeln!(text, "  {name}: {lease}, applied {applied}, {lag} behind");
        }
    }
    let memory = &status["memory"];
    let size = |name: &str| bytesize::ByteSize::b(memory[name].as_u64().unwrap_or_default());
    let (entries, bytes, capacity) = (word(memory, "entries"), size("bytes"), size("capacity"));
    let _ = writeln!(text, "memory {entries} datasets, {bytes} of {capacity}");
    if let Some(identity) = status.get("identity").filter(|identity| !identity.is_null()) {
        let (names, not_after) = (word(identity, "names"), word(identity, "not_after"));
        let _ = writeln!(text, "identity {names}, valid until {not_after}");
    }
    for domain in status["domains"].as_array().into_iter().flatten() {
        domain_text(&mut text, domain);
    }
    for trouble in status["trouble"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "\ntrouble: {trouble}");
    }
    text
}

fn domain_text(text: &mut String, domain: &Value) {
    let (name, plan, file) = (word(domain, "name"), word(domain, "plan"), word(domain, "file"));
    let _ = writeln!(text, "\n{name}  plan {plan}  {file}");
    for version in domain["versions"].as_array().into_iter().flatten() {
        let (name, path) = (word(version, "name"), word(version, "path"));
        let deprecated = version["deprecated"].as_str().map(|date| format!("  deprecated {date}"));
        let _ = writeln!(text, "  {name}  {path}{}", deprecated.unwrap_or_default());
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["  SOURCE", "BREAKER", "IN FLIGHT", "LAST FAILURE", "SERVER"]);
    for source in domain["sources"].as_array().into_iter().flatten() {
        let state = &source["state"];
        table.add_row([
            format!("  {}", word(source, "name")),
            word(state, "breaker"),
            word(state, "in_flight"),
            last_failure(&state["last_failure"]),
            word(source, "server"),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
}

fn word(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn last_failure(failure: &Value) -> String {
    match (failure["reason"].as_str(), failure["seconds_ago"].as_u64()) {
        (Some(reason), Some(seconds)) => format!("{reason} ({seconds} s ago)"),
        _ => "-".to_owned(),
    }
}
