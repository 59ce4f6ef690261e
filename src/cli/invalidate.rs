//! `bfb invalidate`: what was read before now is out of date.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::args::{AdminPort, Format};
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
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
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
                Ok((200 | 202, body)) => out::say(self.text(&serde_json::from_slice(&body).unwrap_or_default())),
                Ok((status, body)) => {
                    eprintln!("error: {}", problem_text(status, &body));
                    if status == 400 { exit::wrong_input() } else { exit::FAILED }
                }
                Err(error) => {
                    eprintln!("error: {error}");
                    exit::unavailable()
                }
            }
        })
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

    fn text(&self, done: &Value) -> String {
        if self.format == Format::Json {
            return serde_json::to_string_pretty(done).unwrap_or_default();
        }
        let token = done["token"].as_str().unwrap_or_default();
        if done["acknowledged"] == true {
            let plural = if done["sidecars"] == 1 { "sidecar" } else { "sidecars" };
            format!("acknowledged by {} {plural} in {} ms\ntoken {token}", done["sidecars"], done["took_ms"])
        } else {
            format!("sent; nobody waited for the fleet (`--wait` does)\ntoken {token}")
        }
    }
}
