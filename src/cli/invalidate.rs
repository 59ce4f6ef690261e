//! `bfb invalidate`: what was read before now is out of date.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::args::{AdminArgs, OutputFormat};
use super::client::{ProblemReport, SidecarClient, problem_text, read_answer};
use super::terminal::escape;
use super::{exit, out};
use crate::admin::api::{InvalidateRequest, InvalidateResponse, WaitLimit, WaitMode};
use crate::coherence::SCOPES_MAX;
use crate::settings::parse_time;

/// Keys or tags of one request, in JSON: a sidecar takes 64 KiB with all that is around them.
const PART_BYTES_MAX: usize = 60 * 1024;

#[derive(Debug, Args)]
pub(super) struct InvalidateCommand {
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
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    timeout: Duration,
    /// Print the script with which any program can invalidate, with one `EVAL`
    #[arg(long)]
    print_script: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
    #[command(flatten)]
    admin: AdminArgs,
}

impl InvalidateCommand {
    pub(super) fn run(self) -> ExitCode {
        if self.print_script {
            return out::print(crate::bus::invalidate_script().trim_end());
        }
        super::block_on(async move {
            match self.send_all().await {
                Ok((status, body)) => self.report(status, &body),
                Err(error) => {
                    out::error(error);
                    exit::unavailable()
                }
            }
        })
    }

    fn report(&self, status: u16, body: &[u8]) -> ExitCode {
        let done = matches!(status, 200 | 202);
        let exit_code = match (self.format, done) {
            (OutputFormat::Json, _) => {
                // All members, also those that this release does not know.
                let answer: Value = serde_json::from_slice(body).unwrap_or_default();
                out::print_json(serde_json::to_string_pretty(&answer).unwrap_or_default())
            }
            (OutputFormat::Text, true) => match read_answer(body) {
                Ok(response) => out::print(acknowledgement_text(&response)),
                Err(error) => {
                    out::error(error);
                    exit::FAILED
                }
            },
            (OutputFormat::Text, false) => exit::FAILED,
        };
        if !done {
            out::error(problem_text(status, body));
            let behind = behind_text(&ProblemReport::from_body(body));
            if !behind.is_empty() {
                out::note(behind.trim_end());
            }
        }
        match status {
            200 | 202 => exit_code,
            400 => exit::wrong_input(),
            503 => exit::unavailable(),
            _ => exit::FAILED,
        }
    }

    /// Sends it, in as many invalidations as it takes; the answer is that of the last, or of the
    /// first that failed.
    async fn send_all(&self) -> Result<(u16, bytes::Bytes), Box<dyn std::error::Error>> {
        let client = SidecarClient::new(&self.admin.admin)?;
        let (kind, names) =
            if self.tag.is_empty() { ("keys", &self.keys) } else { ("tags", &self.tag) };
        let request = |timeout: Duration| InvalidateRequest {
            domain: self.domain.clone(),
            wait: if self.wait { WaitMode::Fleet } else { WaitMode::None },
            timeout: Some(WaitLimit::Text(humantime::format_duration(timeout).to_string())),
            ..InvalidateRequest::default()
        };
        if self.all {
            let everything = InvalidateRequest { all: true, ..request(self.timeout) };
            return send(&client, &everything).await;
        }
        let until = Instant::now() + self.timeout;
        let mut done = 0;
        let mut answer = (0, bytes::Bytes::new());
        for part in split_names(names) {
            let left = until.saturating_duration_since(Instant::now());
            let scopes = part.iter().map(|name| name.as_str().into()).collect();
            let part_request = if self.tag.is_empty() {
                InvalidateRequest { keys: scopes, ..request(left) }
            } else {
                InvalidateRequest { tags: scopes, ..request(left) }
            };
            answer = send(&client, &part_request).await?;
            if !matches!(answer.0, 200 | 202) {
                if done > 0 {
                    out::note(format!(
                        "the first {done} of {} {kind} are invalidated, the others are not",
                        names.len()
                    ));
                }
                break;
            }
            done += part.len();
        }
        Ok(answer)
    }
}

async fn send(
    client: &SidecarClient,
    request: &InvalidateRequest,
) -> Result<(u16, bytes::Bytes), Box<dyn std::error::Error>> {
    let request = client.request(Method::POST, "/invalidate").json(request);
    let answer = client.send(request, "admin").await?;
    Ok((answer.status().as_u16(), answer.bytes().await?))
}

/// Keys or tags in pieces that each fit into one request.
fn split_names(names: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |name: &&String| {
            // In JSON, with a comma.
            bytes += Value::from(name.as_str()).to_string().len() + 1;
            bytes <= PART_BYTES_MAX
        };
        let count = rest.iter().take(SCOPES_MAX).take_while(fits).count().max(1).min(rest.len());
        let (part, others) = rest.split_at(count);
        rest = others;
        Some(part).filter(|part| !part.is_empty())
    })
}

/// Who acknowledged, and how long it took.
pub(super) fn acknowledgement_text(response: &InvalidateResponse) -> String {
    let token = &response.token;
    if !response.acknowledged {
        return format!("sent; nobody waited for the fleet (`--wait` does)\ntoken {token}");
    }
    let silent = &response.silent;
    let took = response.took_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string());
    let acknowledgers = match (response.sidecars, silent.len()) {
        (0, _) => "the passing of a whole lease".to_owned(),
        (1, 0) => "the one sidecar".to_owned(),
        (all, 0) => format!("all {all} sidecars"),
        (all, silent) => {
            let silent = silent as u64;
            format!("{} of {} sidecars", all.saturating_sub(silent), all.max(silent))
        }
    };
    let mut text = format!("acknowledged by {acknowledgers} in {took} ms\n");
    for name in silent {
        let _ = writeln!(text, "silent: {}; whatever it holds, its lease is over", escape(name));
    }
    text + "token " + token
}

/// Who did not acknowledge in time, and what that means; nothing for any other problem.
fn behind_text(problem: &ProblemReport) -> String {
    let Some(token) = &problem.token else { return String::new() };
    let mut text = String::new();
    for name in &problem.behind {
        let _ = writeln!(text, "  behind: {}", escape(name));
    }
    text + "hint: the invalidation stands, nobody serves older data beyond its lease; \
            `--timeout` waits longer\ntoken "
        + token
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_one_request_goes_in_several() {
        let sizes = |names: &[String]| split_names(names).map(<[String]>::len).collect::<Vec<_>>();
        let names = |how_many: usize, bytes: usize| vec!["n".repeat(bytes); how_many];
        assert_eq!(sizes(&names(0, 1)), [] as [usize; 0]);
        assert_eq!(sizes(&names(2_500, 2)), [1_000, 1_000, 500]);
        assert_eq!(sizes(&names(240, 509)), [120, 120]);
        assert_eq!(sizes(&names(2, 100_000)), [1, 1], "one that is too long is refused for itself");
        assert_eq!(sizes(&vec!["\u{1}".repeat(509); 40]), [20, 20], "as long as it is in JSON");
    }

    #[test]
    fn it_says_how_many_acknowledged_and_who_was_silent() {
        let done = |sidecars: u64, silent: &[&str]| {
            let silent = silent.iter().map(|name| (*name).to_owned()).collect();
            InvalidateResponse {
                token: "t-7".to_owned(),
                seq: 7,
                acknowledged: true,
                sidecars,
                silent,
                took_ms: Some(3),
            }
        };
        assert_eq!(
            acknowledgement_text(&done(1, &[])),
            "acknowledged by the one sidecar in 3 ms\ntoken t-7"
        );
        assert_eq!(
            acknowledgement_text(&done(5, &[])),
            "acknowledged by all 5 sidecars in 3 ms\ntoken t-7"
        );
        let silent = acknowledgement_text(&done(5, &["web-1"]));
        assert!(
            silent.starts_with("acknowledged by 4 of 5 sidecars in 3 ms\nsilent: web-1;"),
            "{silent}"
        );
        assert_eq!(behind_text(&ProblemReport::from_body(br#"{"type": "urn:bfb:bus-lost"}"#)), "");
    }
}
