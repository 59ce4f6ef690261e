//! `bfb invalidate`: what was read before now is out of date.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::args::{self, AdminPort, Format};
use super::local::{Local, problem_text};
use super::{exit, out};

#[derive(Debug, Args)]
pub(super) struct Invalidate {
    /// The domain
    #[arg(required_unless_present = "print_script", default_value = "", hide_default_value = true)]
    domain: String,
    /// The keys
    #[arg(value_name = "KEY", required_unless_present_any = ["tag", "all", "print_script"])]
    keys: Vec<String>,
    /// Every dataset that carries this tag; may be given several times
    #[arg(long, value_name = "TAG", conflicts_with = "keys")]
    tag: Vec<String>,
    /// Every dataset of the domain
    #[arg(long, conflicts_with_all = ["keys", "tag"])]
    all: bool,
    /// Wait until the fleet has acknowledged it
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = args::time)]
    timeout: Duration,
    /// Print the script with which any program can invalidate, with one `EVAL`
    #[arg(long)]
    print_script: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    admin: AdminPort,
}

impl Invalidate {
    pub(super) fn run(self) -> ExitCode {
        if self.print_script {
            return out::say(crate::bus::invalidate_script().trim_end());
        }
        super::block_on(async move {
            match self.exchange().await {
                Ok((status, body)) => self.report(status, &body),
                Err(error) => {
                    eprintln!("error: {error}");
                    exit::unavailable()
                }
            }
        })
    }

    fn report(&self, status: u16, body: &[u8]) -> ExitCode {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let done = matches!(status, 200 | 202);
        let said = match (self.format, done) {
            (Format::Json, _) => out::say(serde_json::to_string_pretty(&answer).unwrap_or_default()),
            (Format::Text, true) => out::say(text(&answer)),
            (Format::Text, false) => exit::FAILED,
        };
        if !done {
            eprintln!("error: {}", problem_text(status, body));
            eprint!("{}", behind(&answer));
        }
        match status {
            200 | 202 => said,
            400 => exit::wrong_input(),
            503 => exit::unavailable(),
            _ => exit::FAILED,
        }
    }

    async fn exchange(&self) -> Result<(u16, bytes::Bytes), Box<dyn std::error::Error>> {
        let local = Local::new(&self.admin.admin)?;
        let mut asked = json!({
            "domain": self.domain,
            "wait": if self.wait { "fleet" } else { "none" },
            "timeout": humantime::format_duration(self.timeout).to_string(),
        });
        if self.all {
            asked["all"] = true.into();
        } else if self.tag.is_empty() {
            asked["keys"] = self.keys.clone().into();
        } else {
            asked["tags"] = self.tag.clone().into();
        }
        let answer = local.send(local.request(Method::POST, "/invalidate").json(&asked), "admin").await?;
        Ok((answer.status().as_u16(), answer.bytes().await?))
    }
}

/// Who acknowledged, and how long it took.
pub(super) fn text(done: &Value) -> String {
    let token = done["token"].as_str().unwrap_or_default();
    if done["acknowledged"] != true {
        return format!("sent; nobody waited for the fleet (`--wait` does)\ntoken {token}");
    }
    let (sidecars, silent, took) =
        (done["sidecars"].as_u64().unwrap_or_default(), names(&done["silent"]), &done["took_ms"]);
    let who = match (sidecars, silent.len()) {
        (0, _) => "the passing of a whole lease".to_owned(),
        (1, 0) => "the one sidecar".to_owned(),
        (all, 0) => format!("all {all} sidecars"),
        (all, silent) => {
            let silent = silent as u64;
            format!("{} of {} sidecars", all.saturating_sub(silent), all.max(silent))
        }
    };
    let mut text = format!("acknowledged by {who} in {took} ms\n");
    for name in silent {
        let _ = writeln!(text, "silent: {name}; whatever it holds, its lease is over");
    }
    text + "token " + token
}

/// Who did not acknowledge in time, and what that means; nothing for any other problem.
fn behind(problem: &Value) -> String {
    let Some(token) = problem["token"].as_str() else { return String::new() };
    let mut text = String::new();
    for name in names(&problem["behind"]) {
        let _ = writeln!(text, "  behind: {name}");
    }
    text + "hint: the invalidation stands, nobody serves older data beyond its lease; `--timeout` waits longer\ntoken "
        + token
        + "\n"
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_many_acknowledged_and_who_was_silent() {
        let done = |sidecars: u64, silent: &[&str]| json!({"token": "t-7", "acknowledged": true, "sidecars": sidecars, "silent": silent, "took_ms": 3});
        assert_eq!(text(&done(1, &[])), "acknowledged by the one sidecar in 3 ms\ntoken t-7");
        assert_eq!(text(&done(5, &[])), "acknowledged by all 5 sidecars in 3 ms\ntoken t-7");
        let silent = text(&done(5, &["web-1"]));
        assert!(silent.starts_with("acknowledged by 4 of 5 sidecars in 3 ms\nsilent: web-1;"), "{silent}");
        assert_eq!(behind(&json!({"type": "urn:bfb:bus-lost"})), "");
    }
}
