//! `bfb webhook`: flags in, a running admission webhook, an exit code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::environment::{self, Variables};
use super::inject::pair;
use super::logging;
use super::{exit, out, serve};
use crate::inject::Defaults;
use crate::inject::webhook::{
    LeaseCandidate, Webhook as Running, WebhookConfig, WebhookStartError,
};
use crate::settings::{
    CertificateLifetime, DrainTime, LeaderLease, LogFilter, LogFormat, WatchdogInterval,
};
use crate::supervisor::Control;

#[derive(Debug, Args)]
pub(super) struct WebhookCommand {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    identity: Option<PathBuf>,
    #[arg(long)]
    configuration: String,
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[arg(long)]
    image: Option<String>,
    #[arg(long, value_delimiter = '\n', value_parser = pair)]
    set: Vec<(String, String)>,
    #[arg(long)]
    drain: DrainTime,
    #[arg(long)]
    log: LogFilter,
    #[arg(long, value_enum)]
    log_format: LogFormat,
    #[arg(long, hide = true)]
    certificate_lifetime: CertificateLifetime,
    #[arg(long, hide = true)]
    leader_lease: LeaderLease,
    #[arg(long, hide = true)]
    watchdog_every: WatchdogInterval,
}

impl WebhookCommand {
    pub(super) fn run(self, variables: &Variables) -> ExitCode {
        if let Err(error) = logging::start(self.log.as_str(), self.log_format) {
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
            match Control::by_signals() {
                Ok(control) => match Running::start(config).await {
                    Ok(webhook) => run_webhook(webhook, control).await,
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
                duration: self.leader_lease.duration(),
            },
            certificate_lifetime: self.certificate_lifetime.duration(),
            watchdog_interval: self.watchdog_every.duration(),
            drain: self.drain.duration(),
            limits: serve::port_limits(1),
        })
    }
}

async fn run_webhook(webhook: Running, control: Control) -> ExitCode {
    tracing::info!(address = %webhook.address(), "answering API servers");
    match webhook.run(control).await {
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
