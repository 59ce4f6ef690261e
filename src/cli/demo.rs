//! `bfb demo`: four upstreams over mutual TLS that can be told to fail, slow down or change while
//! they run, and a sidecar, or a fleet of them.
//!
//! Everything here is made at start, from a seed: an authority and its certificates, the data of a
//! thousand customers, and the domain file that puts them together. Nothing leaves loopback.

mod control;
mod data;
mod domain_file;
mod fleet;
mod money;
mod people;
mod pki;
mod private_redis;
mod suggestions;
mod upstream_response;
mod upstream_state;
mod upstreams;

use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Method;

use super::args::{AdminArgs, ListenArgs};
use super::client::{SidecarClient, problem_text};
use super::logging;
use super::{exit, out, pretty, serve};
use crate::admin::LogLevel;
use crate::bus::RedisServers;
use crate::cache::CacheConfig;
use crate::http::{AllowedHosts, ListenAddress, PortLimits};
use crate::identity::{IdentityConfig, IdentityPaths, TlsOptions};
use crate::serve::{ConsumersConfig, TelemetryConfig};
use crate::settings::{LogFilter, LogFormat, SocketMode};
use crate::sidecar::{DomainFileOptions, DomainsConfig, HttpConfig, Sidecar, SidecarConfig};
use crate::sources::SourcesConfig;
use crate::supervisor::Control;
use domain_file::write_domain;
use suggestions::{SidecarAddresses, suggest};
use upstreams::{DemoUpstreams, Ports};

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// Print the answer and exit; every port is then one that is free
    #[arg(long)]
    once: bool,
    /// Start so many sidecars on one Redis (from 1 to 20), and show an invalidation reaching all of
    /// them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    fleet: Option<u8>,
    /// The fleet's Redis; without it the demo starts a private one, which ends with it
    #[arg(long, value_name = "URL", requires = "fleet")]
    redis: Option<RedisServers>,
    /// What the data is made from: the same seed, the same customers
    #[arg(long, value_name = "N", default_value_t = 2026)]
    seed: u64,
    /// Where the demo's upstreams are told to fail, slow down or change
    #[arg(long, value_name = "PORT", default_value_t = 7079)]
    control: u16,
    /// Run nothing but the upstreams, for consumers elsewhere: at every address, on the ports 8441
    /// to 8444, with the certificates `DIR/profile/tls.crt` and so on (`k8s/overlays/try`)
    #[arg(long, value_name = "DIR", hide = true, conflicts_with_all = ["once", "fleet"])]
    upstreams: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// The log's level
    #[arg(long, env = "BFB_LOG", value_name = "LEVEL", default_value = "warn")]
    log: LogFilter,
}

/// The customer of the first answer.
const FIRST_PATH: &str = "/v2/customers/42";

type DemoError = Box<dyn std::error::Error>;

impl DemoCommand {
    pub(super) fn run(self) -> ExitCode {
        let handle = match logging::start(self.log.as_str(), LogFormat::Text) {
            Ok(handle) => handle,
            Err(error) => {
                out::error(error);
                return exit::wrong_input();
            }
        };
        if let Some(dir) = &self.upstreams {
            return super::block_on(self.run_upstreams(dir));
        }
        let apply = move |filter: &str| logging::apply(&handle, filter);
        super::block_on(async move {
            let upstreams =
                ScratchFolder::new().and_then(|dir| Ok((self.start_upstreams(dir.path())?, dir)));
            match upstreams {
                Ok((upstreams, _dir)) => {
                    let ended = self.run_demo(&upstreams, apply).await;
                    upstreams.shutdown().await;
                    ended
                }
                Err(error) => {
                    out::error(format!(
                        "{error}\nhint: `--control`, `--listen` and `--admin` name other ports"
                    ));
                    exit::unavailable()
                }
            }
        })
    }

    fn start_upstreams(&self, dir: &Path) -> std::io::Result<DemoUpstreams> {
        let control = if self.once { 0 } else { self.control };
        DemoUpstreams::start(dir, self.seed, Ports { control, ..Ports::default() })
    }

    /// The upstreams alone, until they are told to end.
    async fn run_upstreams(&self, dir: &Path) -> ExitCode {
        let control = Control::by_signals();
        // With the control at any port that is free, so are they all.
        let ports = match self.control {
            0 => Ports { control: 0, ..Ports::default() },
            control => Ports { control, ..Ports::OF_A_CLUSTER },
        };
        let started = DemoUpstreams::start_for_others(dir, self.seed, ports);
        let (upstreams, mut control) = match (started, control) {
            (Ok(upstreams), Ok(control)) => (upstreams, control),
            (Err(error), _) | (_, Err(error)) => {
                out::error(error);
                return exit::unavailable();
            }
        };
        let Ports { profile, favorites, reviews, orders, .. } = upstreams.ports;
        out::print(format!(
            "profile {profile}, favorites {favorites}, reviews {reviews}, orders {orders}"
        ));
        out::print(format!(
            "they are told to fail or to change at http://{}",
            upstreams.control_addr()
        ));
        control.stopped().await;
        upstreams.shutdown().await;
        exit::OK
    }

    async fn run_demo(
        &self,
        upstreams: &DemoUpstreams,
        apply: impl Fn(&str) + Clone + Send + 'static,
    ) -> ExitCode {
        let dir = upstreams.identity_dir().parent().unwrap_or(Path::new("."));
        let config = match write_domain(dir, &upstreams.hosts()) {
            Ok(file) => match self.fleet {
                Some(size) => return self.show_fleet(size, file, upstreams, apply).await,
                None => self.config(file, upstreams, true),
            },
            Err(error) => {
                out::error(error);
                return exit::unavailable();
            }
        };
        let sidecar =
            match Sidecar::start(config, LogLevel::new(self.log.as_str(), logging::check)).await {
                Ok(sidecar) => sidecar,
                Err(error) => {
                    let code = serve::report_start_error(&error);
                    out::note(
                        "hint: `--listen` and `--admin` name other ports; \
                     `--once` takes any that are free",
                    );
                    return code;
                }
            };
        let Some(address) = sidecar.addresses().next().cloned() else { return exit::FAILED };
        let admin = sidecar.admin_address().clone();
        let (stop, control) = Control::by_sender();
        let (sidecar, shown) = tokio::join!(sidecar.run(control, apply), async {
            let shown = self
                .show_first_answer(upstreams, &address, &admin)
                .await
                .inspect_err(|error| out::error(error));
            // Twice: the demo's consumer is gone already, there is nothing to drain for.
            let _ = stop.send(()).await;
            let _ = stop.send(()).await;
            shown
        });
        if sidecar.is_ok() && shown.is_ok() { exit::OK } else { exit::FAILED }
    }

    async fn show_first_answer(
        &self,
        upstreams: &DemoUpstreams,
        address: &ListenAddress,
        admin: &ListenAddress,
    ) -> Result<(), DemoError> {
        let listen = address.to_string().replace("127.0.0.1", "localhost");
        let client = SidecarClient::new(address)?;
        let answer = client.send(client.request(Method::GET, FIRST_PATH), "listen").await?;
        let mut text = format!(
            "GET http://{listen}{FIRST_PATH}\n{:?} {}\n",
            answer.version(),
            answer.status()
        );
        for (name, value) in answer.headers() {
            let _ = writeln!(text, "{name}: {}", value.to_str().unwrap_or("?"));
        }
        let status = answer.status();
        let body = answer.bytes().await?;
        if !status.is_success() {
            return Err(problem_text(status.as_u16(), &body).into());
        }
        out::print(format!("{text}\n{}\n", pretty::indent(&String::from_utf8_lossy(&body))));
        if self.once {
            return Ok(());
        }
        // Before the text below says how to end the demo.
        let mut control = Control::by_signals()?;
        let addresses = SidecarAddresses { listen, admin: admin.to_string() };
        let suggestions = suggest(
            &program_name(),
            upstreams.control_addr(),
            &addresses,
            upstreams.identity_dir(),
        );
        out::print(format!("{suggestions}\nCtrl-C ends it."));
        control.stopped().await;
        Ok(())
    }

    /// `usual`: at the ports that were given, or are the default.
    fn config(&self, file: PathBuf, upstreams: &DemoUpstreams, is_usual: bool) -> SidecarConfig {
        let (listen, ipv6_optional) = self.listen.addresses();
        let is_usual = is_usual && !self.once;
        let any = || ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        let identity = IdentityPaths { dir: upstreams.identity_dir().to_owned(), ca: None };
        SidecarConfig {
            domains: DomainsConfig { paths: vec![file], options: DomainFileOptions::default() },
            identity: IdentityConfig { paths: Some(identity), tls: TlsOptions::default() },
            sources: SourcesConfig::default(),
            // It shows what happens to the upstreams at once.
            cache: CacheConfig::none(),
            bus: None,
            http: HttpConfig {
                listen: if is_usual { listen } else { vec![any()] },
                ipv6_optional,
                socket_mode: SocketMode::default(),
                admin: if is_usual { self.admin.admin.clone() } else { any() },
                probes: None,
                allow_remote: false,
                limits: PortLimits::default(),
            },
            consumers: ConsumersConfig {
                hosts: AllowedHosts::default(),
                explain: false,
                honour_cache_control: true,
                requests_max: 1024,
            },
            telemetry: TelemetryConfig::default(),
            drain: Duration::from_secs(1),
        }
    }
}

/// How this program is called from here: by its name where the shell finds it, else by its path.
fn program_name() -> String {
    let (Ok(program), Ok(here)) = (std::env::current_exe(), std::env::current_dir()) else {
        return "bfb".to_owned();
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_in_path =
        std::env::split_paths(&folders).any(|folder| Some(folder.as_path()) == program.parent());
    if is_in_path {
        "bfb".to_owned()
    } else {
        program.strip_prefix(here).unwrap_or(&program).display().to_string()
    }
}

/// A folder for the demo's certificates and domain file, gone when it ends.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new() -> std::io::Result<Self> {
        let name = format!("bfb-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        // For its owner alone: its Redis listens on a socket in there.
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
