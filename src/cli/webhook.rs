//! `bfb webhook`: flags in, a running admission webhook, an exit code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args;
use super::environment::{self, Variables};
use super::inject::pair;
use super::logging::{self, LogFormat};
use super::{exit, out, serve};
use crate::inject::Defaults;
use crate::inject::webhook::{
    LeaseCandidate, Webhook as Running, WebhookConfig, WebhookStartError,
};

#[derive(Debug, Args)]
pub(super) struct WebhookCommand {
    /// Where API servers ask, over HTTPS
    #[arg(long, env = "BFB_LISTEN", value_name = "IP:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Our certificate: a folder with `tls.crt`, `tls.key` and, if there is one, `ca.crt`; re-read
    /// when it changes. Without it, the webhook makes its own, keeps it in the Secret `bfb-webhook`
    /// and turns it over
    #[arg(long, env = "BFB_IDENTITY", value_name = "DIR")]
    identity: Option<PathBuf>,
    /// The `MutatingWebhookConfiguration` whose `caBundle` is kept right
    #[arg(long, env = "BFB_CONFIGURATION", value_name = "NAME", default_value = "bfb")]
    configuration: String,
    /// The cluster; without it, the one that this is a pod of, by its service account
    #[arg(long, env = "BFB_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The sidecars' image, where a pod's `bfb.dev/image` names none
    #[arg(long, env = "BFB_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    /// An annotation (without `bfb.dev/`) for every pod that has no such one of its own, such as
    /// `memory=128MiB`; may be given several times
    #[arg(long, env = "BFB_SET", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = pair)]
    set: Vec<(String, String)>,
    /// How long the end may take
    #[arg(long, env = "BFB_DRAIN", value_name = "TIME", default_value = "25s", value_parser = args::time)]
    drain: Duration,
    /// The log's level, or a filter such as `info,bfb::inject=debug`
    #[arg(long, env = "BFB_LOG", value_name = "LEVEL", default_value = "info", value_parser = args::log_filter)]
    log: String,
    /// The log's format
    #[arg(long, env = "BFB_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// For tests: how long a certificate of our own lasts
    #[arg(long, env = "BFB_CERTIFICATE_LIFETIME", hide = true, default_value = "30d", value_parser = lifetime)]
    certificate_lifetime: Duration,
    /// For tests: how long other replicas wait for a leader that is silent
    #[arg(long, env = "BFB_LEADER_LEASE", hide = true, default_value = "15s", value_parser = lease)]
    leader_lease: Duration,
    /// For tests: how often the leader looks for pods without their sidecar
    #[arg(long, env = "BFB_WATCHDOG_EVERY", hide = true, default_value = "1m", value_parser = lease)]
    watchdog_every: Duration,
}

fn within(text: &str, from: Duration, to: Duration, expected: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).ok().filter(|span| (from..=to).contains(span));
    span.ok_or_else(|| expected.to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    within(text, Duration::from_secs(3), YEAR, "expected a time from 3s to 365d, such as `30d`")
}

fn lease(text: &str) -> Result<Duration, String> {
    within(
        text,
        Duration::from_millis(500),
        Duration::from_hours(1),
        "expected a time from 500ms to 1h, such as `15s`",
    )
}

impl WebhookCommand {
    pub(super) fn run(self, variables: &Variables) -> ExitCode {
        if let Err(error) = logging::start(&self.log, self.log_format) {
            out::error(error);
            return exit::wrong_input();
        }
        environment::warn_of_unknown_variables();
        let identity = self.identity.clone();
        let config = match self.config() {
            Ok(config) => config,
            Err(wrong) => {
                for wrong in wrong {
                    out::error(variables.name_in(&wrong));
                }
                return exit::wrong_input();
            }
        };
        super::block_on(async move {
            // Before the port is open, so that no signal is lost.
            match stop_signals() {
                Ok(stops) => match Running::start(config).await {
                    Ok(webhook) => run_webhook(webhook, stops).await,
                    Err(error) => report_start_error(&error, identity.as_deref(), variables),
                },
                Err(error) => {
                    out::error(format!("signals cannot be caught: {error}"));
                    exit::unavailable()
                }
            }
        })
    }

    fn config(self) -> Result<WebhookConfig, Vec<String>> {
        let image = self.image.map(|image| ("image".to_owned(), image));
        let set: Vec<_> = image.into_iter().chain(self.set).collect();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let pod = variable("POD_NAME")
            .or_else(|| variable("HOSTNAME"))
            .unwrap_or_else(|| "bfb-webhook".to_owned());
        Ok(WebhookConfig {
            listen: self.listen,
            kubeconfig: self.kubeconfig,
            namespace: variable("POD_NAMESPACE"),
            configuration: self.configuration,
            identity_dir: self.identity,
            defaults: Defaults::new(&[], &set)?,
            // A pod that was started again under its name is another one.
            candidate: LeaseCandidate {
                name: format!("{pod}_{:08x}", fastrand::u32(..)),
                duration: self.leader_lease,
            },
            certificate_lifetime: self.certificate_lifetime,
            watchdog_interval: self.watchdog_every,
            drain: self.drain,
            limits: serve::port_limits(1),
        })
    }
}

async fn run_webhook(webhook: Running, mut stops: mpsc::Receiver<()>) -> ExitCode {
    tracing::info!(address = %webhook.address(), "answering API servers");
    let (first_stop, again) = tokio::sync::oneshot::channel();
    let stop = async {
        stops.recv().await;
        // Nobody listens any more where a part has ended by itself.
        let _ = first_stop.send(stops);
    };
    let second_stop = async {
        match again.await {
            Ok(mut stops) => drop(stops.recv().await),
            Err(_) => std::future::pending::<()>().await,
        }
    };
    match webhook.run(stop, second_stop).await {
        Ok(()) => exit::OK,
        Err(error) => {
            tracing::error!(%error, "stopped");
            exit::FAILED
        }
    }
}

fn report_start_error(
    error: &WebhookStartError,
    identity: Option<&Path>,
    variables: &Variables,
) -> ExitCode {
    use crate::inject::webhook::ClusterConnectError;

    let text = match (error, identity) {
        (WebhookStartError::Identity(error), Some(dir)) => {
            format!("`--identity {}` cannot be used: {error}", dir.display())
        }
        _ => error.to_string(),
    };
    out::error(variables.name_in(&text));
    match error {
        WebhookStartError::Connect(ClusterConnectError::Kubeconfig { is_missing, .. }) => {
            exit::of_file(*is_missing)
        }
        WebhookStartError::Identity(error) => exit::of_file(error.is_missing),
        // Neither a kubeconfig nor a pod: a flag is missing.
        WebhookStartError::Connect(ClusterConnectError::NoPod(_)) => exit::wrong_input(),
        WebhookStartError::Connect(ClusterConnectError::Client(_))
        | WebhookStartError::Cluster(_)
        | WebhookStartError::TooOld(_)
        | WebhookStartError::Bind(_) => exit::unavailable(),
        WebhookStartError::Tls(_) => exit::FAILED,
    }
}

/// A word for each SIGTERM and SIGINT; the first two are heard.
fn stop_signals() -> std::io::Result<mpsc::Receiver<()>> {
    let [mut term, mut int] = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let (stop, stops) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = term.recv() => {}
                Some(()) = int.recv() => {}
                () = stop.closed() => return,
            }
            let _ = stop.try_send(());
        }
    });
    Ok(stops)
}
