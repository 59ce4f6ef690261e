//! `bfb get DOMAIN KEY`: one dataset, from the sidecar beside us, or collected here and now.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::StatusCode;
use reqwest::Method;
use serde_json::Value;

use super::args::{AdminArgs, ListenArgs, OutputFormat, UpstreamArgs};
use super::client::{DatasetResponse, ProblemReport, SidecarClient, problem_text};
use super::terminal::escape;
use super::waterfall::Waterfall;
use super::{exit, local_collect, out, pretty, status};
use crate::admin::api::Status;
use crate::domain::encode_key;

#[derive(Debug, Args)]
pub(super) struct GetCommand {
    /// The domain
    domain: String,
    /// The key
    key: String,
    /// Collect here, by this domain file, instead of asking the sidecar
    #[arg(long = "domain", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The version; without it, the last one that is not deprecated
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// Draw where the time went
    #[arg(long)]
    explain: bool,
    /// Ask the sources again, whatever a cache holds
    #[arg(long)]
    no_cache: bool,
    /// How it is printed: the data as it is, or with `json` one object with `status`, `headers`,
    /// `explain` and `body`
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    upstreams: UpstreamArgs,
}

impl GetCommand {
    pub(super) fn run(self) -> ExitCode {
        super::block_on(async move {
            let response = match self.file.clone() {
                // No URL can name these: a client takes them out, or another path for them.
                _ if matches!(self.key.as_str(), "" | "." | "..") => Ok(DatasetResponse::bad_key()),
                None => self.ask_sidecar().await,
                Some(file) => {
                    let dataset = local_collect::DatasetRequest {
                        domain: &self.domain,
                        key: &self.key,
                        version: self.version.as_deref(),
                    };
                    local_collect::collect(file, &self.upstreams, &dataset).await
                }
            };
            match response {
                Ok(response) => self.print_response(&response),
                Err(code) => code,
            }
        })
    }

    async fn ask_sidecar(&self) -> Result<DatasetResponse, ExitCode> {
        let path = self.path_of_version(&status::fetch_status(&self.admin).await?)?;
        let path = path.replace("{key}", &encode_key(&self.key).to_string());
        let (addresses, _) = self.listen.addresses();
        let unavailable = |error: &dyn std::fmt::Display| {
            out::error(error);
            exit::unavailable()
        };
        let Some(address) = addresses.first() else { return Err(exit::wrong_input()) };
        let client = SidecarClient::new(address).map_err(|error| unavailable(&error))?;
        let mut request = client.request(Method::GET, &path).header("bfb-explain", "1");
        if self.no_cache {
            request = request.header("cache-control", "no-cache");
        }
        let answer = client.send(request, "listen").await.map_err(|error| unavailable(&error))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let body = answer.bytes().await.map_err(|error| unavailable(&error))?;
        Ok(DatasetResponse { status, headers, body })
    }

    fn path_of_version(&self, status: &Status) -> Result<String, ExitCode> {
        let is_asked = |name: &Option<String>, asked: &str| name.as_deref() == Some(asked);
        let domains = &status.domains;
        let Some(domain) = domains.iter().find(|domain| is_asked(&domain.name, &self.domain))
        else {
            out::error(format!(
                "the sidecar serves no domain `{}`; it serves {}",
                self.domain,
                quote_names(domains.iter().map(|domain| domain.name.as_deref()))
            ));
            return Err(exit::wrong_input());
        };
        let versions = &domain.versions;
        let chosen = match &self.version {
            Some(name) => versions.iter().find(|version| is_asked(&version.name, name)),
            None => {
                versions.iter().rfind(|version| version.deprecated.is_none()).or(versions.last())
            }
        };
        let Some(path) = chosen.and_then(|version| version.path.clone()) else {
            let version = self.version.as_deref().unwrap_or_default();
            let existing = quote_names(versions.iter().map(|version| version.name.as_deref()));
            out::error(format!(
                "domain `{}` has no version `{version}`; it has {existing}",
                self.domain
            ));
            return Err(exit::wrong_input());
        };
        Ok(path)
    }

    fn print_response(&self, response: &DatasetResponse) -> ExitCode {
        let waterfall = Waterfall::from_headers(&response.headers);
        let exit_code = match self.format {
            OutputFormat::Json => out::print_json(self.as_json(response, waterfall.as_ref())),
            OutputFormat::Text => {
                let exit_code = if response.status.is_success() {
                    // A person gets it indented; a pipe gets the bytes.
                    if std::io::stdout().is_terminal() {
                        out::print_json(pretty::indent(&String::from_utf8_lossy(&response.body)))
                    } else {
                        out::print_json(&response.body)
                    }
                } else {
                    print_problem(response);
                    exit::FAILED
                };
                // The data may be piped elsewhere: the drawing is for the person.
                match waterfall {
                    _ if !self.explain => {}
                    Some(waterfall) if waterfall.has_bars() => {
                        out::note(waterfall.draw(terminal_width(), &summary(response)).trim_end());
                    }
                    _ => out::note(format!(
                        "\n{}\nno source was asked{}",
                        summary(response),
                        age(response)
                    )),
                }
                exit_code
            }
        };
        match response.status {
            status if status.is_success() => exit_code,
            // What was asked for is wrong: the key, say.
            StatusCode::BAD_REQUEST => exit::wrong_input(),
            _ => exit::FAILED,
        }
    }

    fn as_json(&self, response: &DatasetResponse, waterfall: Option<&Waterfall>) -> String {
        let headers: serde_json::Map<String, Value> = response
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), Value::from(value.to_str().ok()?))))
            .collect();
        let output = GetOutput {
            status: response.status.as_u16(),
            headers,
            explain: waterfall.filter(|_| self.explain).map(Waterfall::as_json),
            body: serde_json::from_slice(&response.body).ok(),
        };
        pretty::indent(&serde_json::to_string(&output).unwrap_or_default())
    }
}

/// `--format json`. The data goes in as it came: numbers stay as they are written.
#[derive(serde::Serialize)]
struct GetOutput<'a> {
    status: u16,
    headers: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Value>,
    body: Option<&'a serde_json::value::RawValue>,
}

fn quote_names<'a>(names: impl Iterator<Item = Option<&'a str>>) -> String {
    let names: Vec<_> = names.flatten().map(|name| format!("`{}`", escape(name))).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn print_problem(response: &DatasetResponse) {
    out::error(problem_text(response.status.as_u16(), &response.body));
    let problem = ProblemReport::from_body(&response.body);
    for failed in &problem.failed {
        let detail = failed.detail.as_deref().unwrap_or_default();
        out::note(format!(
            "  {}: {}: {}",
            escape(&failed.source),
            escape(&failed.reason),
            escape(detail)
        ));
    }
    if let Some(trace) = &problem.trace_id {
        out::note(format!("  trace {}", escape(trace)));
    }
}

fn summary(response: &DatasetResponse) -> String {
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
    let mut words = vec![response.status.as_u16().to_string()];
    words.extend(header("cache-status").map(str::to_owned));
    words.extend(header("bfb-dataset").map(|id| format!("dataset {id}")));
    words.join("  ")
}

/// How old the dataset is, if it is one.
fn age(response: &DatasetResponse) -> String {
    let age = response.headers.get("age").and_then(|value| value.to_str().ok());
    age.map(|age| format!(": it is {age} s old")).unwrap_or_default()
}

/// The columns of the terminal that the drawing goes to, where there is one.
fn terminal_width() -> usize {
    const USUAL: usize = 80;
    terminal_size::terminal_size_of(std::io::stderr())
        .map_or(USUAL, |(width, _)| usize::from(width.0))
}
