//! `bfb demo --fleet N`: sidecars that share one Redis, and one invalidation that reaches all of
//! them.
//!
//! Its steps use the sidecars' own ports, as any consumer would, and are checked: an answer
//! that is older than the acknowledgement ends the demo with an error.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::private_redis::PrivateRedis;
use super::suggestions::{SidecarAddresses, suggest_for_fleet};
use super::{DemoCommand, DemoError, FIRST_PATH, program_name};
use crate::admin::LogLevel;
use crate::admin::api::{InvalidateRequest, InvalidateResponse, Status, WaitMode};
use crate::bus;
use crate::cache::CacheConfig;
use crate::cli::client::{SidecarClient, problem_text, read_answer};
use crate::cli::{exit, invalidate, logging, out, serve};
use crate::http::ListenAddress;
use crate::settings::MemorySize;
use crate::sidecar::{Sidecar, SidecarConfig};
use crate::supervisor::Control;

use super::upstreams::DemoUpstreams;

/// Short, so that the demo can show a lease that runs out.
const LEASE: Duration = Duration::from_secs(1);
/// The namespace of the demo's cache. The same in each run, so that runs on one Redis leave no more
/// behind than one does.
const NAMESPACE: &str = "demo";
/// The memory of each sidecar.
const MEMORY: MemorySize = MemorySize(16 * 1024 * 1024);
/// How long a fleet may take to form.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One sidecar of the fleet, as others see it.
struct FleetMember {
    listen: ListenAddress,
    consumers: SidecarClient,
    admin: SidecarClient,
    admin_address: ListenAddress,
}

/// The result of a read.
struct ReadResult {
    cache_status: String,
    etag: String,
}

impl ReadResult {
    /// Enough of it to tell two apart at a glance.
    fn short_etag(&self) -> String {
        format!("{}…", self.etag.trim_matches('"').chars().take(8).collect::<String>())
    }
}

/// Why the demo did not go well.
enum FleetDemoError {
    /// Something that it needs is not there.
    Missing(DemoError),
    /// A step of the demo failed its check.
    Failed(DemoError),
}

impl<E: Into<DemoError>> From<E> for FleetDemoError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl DemoCommand {
    /// Shows `size` sidecars; their domain file is `file`.
    pub(super) async fn show_fleet(
        &self,
        size: u8,
        file: PathBuf,
        upstreams: &DemoUpstreams,
        apply: impl Fn(&str) + Clone + Send + 'static,
    ) -> ExitCode {
        let redis = match self.redis {
            Some(_) => None,
            None => match PrivateRedis::start(file.parent().unwrap_or(Path::new("."))).await {
                Ok(redis) => Some(redis),
                Err(error) => {
                    out::error(error);
                    return exit::unavailable();
                }
            },
        };
        let mut sidecars = Vec::new();
        let mut members = Vec::new();
        for index in 1..=size {
            let Some(config) = self.member_config(index, file.clone(), upstreams, redis.as_ref())
            else {
                return exit::FAILED;
            };
            let sidecar = match Sidecar::start(
                config,
                LogLevel::new(self.log.as_str(), logging::check),
            )
            .await
            {
                Ok(sidecar) => sidecar,
                Err(error) => return serve::report_start_error(&error),
            };
            match FleetMember::of(&sidecar) {
                Ok(member) => members.push(member),
                Err(error) => {
                    out::error(error);
                    return exit::unavailable();
                }
            }
            sidecars.push(sidecar);
        }
        let (stops, runs): (Vec<_>, Vec<_>) =
            sidecars.into_iter().map(|sidecar| start_run(sidecar, apply.clone())).unzip();
        let (ended, shown) = tokio::join!(join_all(runs), async {
            let shown = self.show_fleet_until_stopped(&members, upstreams, redis.as_ref()).await;
            for stop in &stops {
                // Twice: the demo's consumers are gone already, there is nothing to drain for.
                let _ = stop.send(()).await;
                let _ = stop.send(()).await;
            }
            shown
        });
        match shown {
            Ok(()) if ended.iter().all(Result::is_ok) => exit::OK,
            Ok(()) => exit::FAILED,
            Err(FleetDemoError::Missing(error)) => {
                out::error(error);
                exit::unavailable()
            }
            Err(FleetDemoError::Failed(error)) => {
                out::error(error);
                exit::FAILED
            }
        }
    }

    /// The first is where a sidecar usually is, so that commands find it; the others are wherever
    /// there is room.
    fn member_config(
        &self,
        index: u8,
        file: PathBuf,
        upstreams: &DemoUpstreams,
        redis: Option<&PrivateRedis>,
    ) -> Option<SidecarConfig> {
        let private =
            redis.and_then(|redis| format!("unix://{}", redis.socket().display()).parse().ok());
        let mut settings = bus::BusConfig::new(self.redis.clone().or(private)?, LEASE);
        settings.label = format!("demo-{index}");
        NAMESPACE.clone_into(&mut settings.namespace);
        let mut config = self.config(file, upstreams, index == 1);
        config.bus = Some(settings);
        config.cache = CacheConfig { memory: MEMORY, off: false, ..CacheConfig::none() };
        Some(config)
    }

    async fn show_fleet_until_stopped(
        &self,
        members: &[FleetMember],
        upstreams: &DemoUpstreams,
        redis: Option<&PrivateRedis>,
    ) -> Result<(), FleetDemoError> {
        // Before anything is printed: whoever reads the addresses can use them at once.
        let mut control = Control::by_signals()?;
        let shown = async {
            out::print(introduction(members, redis));
            show_an_invalidation(members, upstreams).await?;
            if !self.once {
                let addresses: Vec<_> =
                    members.iter().take(2).map(FleetMember::addresses).collect();
                let socket = redis.map(PrivateRedis::socket);
                let suggestions = suggest_for_fleet(
                    &program_name(),
                    upstreams.control_addr(),
                    &addresses,
                    socket,
                );
                out::print(format!("\n{suggestions}\nCtrl-C ends it."));
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        tokio::select! {
            shown = shown => shown,
            () = control.stopped() => Ok(()),
        }
    }
}

/// Everybody reads and keeps; the source changes; an invalidation is acknowledged; everybody reads
/// what is new.
async fn show_an_invalidation(
    members: &[FleetMember],
    upstreams: &DemoUpstreams,
) -> Result<(), FleetDemoError> {
    let formed =
        timeout(FORM_TIMEOUT, join_all(members.iter().map(FleetMember::wait_for_lease))).await;
    if formed.is_err() {
        let trouble = members[0].status().await.ok().and_then(|status| status.fleet.trouble);
        let reason = trouble.unwrap_or_else(|| "the fleet did not form".to_owned());
        return Err(FleetDemoError::Missing(
            format!("{reason}\nhint: `--redis` says where it is").into(),
        ));
    }
    // Only once its log is older than a lease is it known that its registry names everybody;
    // before, each acknowledgement waits for one.
    sleep(LEASE).await;
    let mut text = "everybody reads customer 42, twice\n".to_owned();
    for (index, member) in members.iter().enumerate() {
        let first = member.read().await?;
        let again = member.read().await?;
        let _ = writeln!(
            text,
            "  {:>2}  {:<33} ETag {}",
            index + 1,
            first.cache_status,
            first.short_etag()
        );
        let _ = writeln!(text, "      {:<33} ETag {}", again.cache_status, again.short_etag());
    }
    out::print(text);
    let before = members[0].read().await?.etag;
    let control = SidecarClient::new(&ListenAddress::Tcp(upstreams.control_addr()))?;
    control.send(control.request(Method::POST, "/favorites/change/42"), "control").await?;
    let acknowledged = members[0].invalidate().await?;
    let bfb = program_name();
    out::print(format!(
        "customer 42 likes something new, and sidecar 1 is told so\n  $ {bfb} invalidate --wait \
         customer 42\n{}\n",
        indent(&invalidate::acknowledgement_text(&acknowledged))
    ));
    let mut text = "everybody reads customer 42 again\n".to_owned();
    let mut stale = 0;
    for (index, member) in members.iter().enumerate() {
        let read = member.read().await?;
        let word = if read.etag == before { "OLD" } else { "new" };
        stale += usize::from(read.etag == before);
        let status = &read.cache_status;
        let etag = read.short_etag();
        let _ = writeln!(text, "  {:>2}  {status:<33} ETag {etag}  {word}", index + 1);
    }
    out::print(text.trim_end());
    if stale == 0 {
        Ok(())
    } else {
        Err(format!("{stale} sidecars served what was read before the acknowledgement").into())
    }
}

fn introduction(members: &[FleetMember], redis: Option<&PrivateRedis>) -> String {
    let redis_text = redis.map_or_else(
        || "the one given".to_owned(),
        |redis| format!("a private one, unix://{}", redis.socket().display()),
    );
    let mut text = format!("{} sidecars on one Redis ({redis_text})\n", members.len());
    for (index, member) in members.iter().enumerate() {
        let addresses = member.addresses();
        let _ = writeln!(
            text,
            "  {:>2}  consumers {:<24}  admin {}",
            index + 1,
            addresses.listen,
            addresses.admin
        );
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

type SidecarRun =
    std::pin::Pin<Box<dyn Future<Output = Result<(), crate::sidecar::SidecarRunError>>>>;

fn start_run(
    sidecar: Sidecar,
    apply: impl Fn(&str) + Send + 'static,
) -> (mpsc::Sender<()>, SidecarRun) {
    let (stop, control) = Control::by_sender();
    (stop, Box::pin(sidecar.run(control, apply)))
}

impl FleetMember {
    fn of(sidecar: &Sidecar) -> Result<Self, DemoError> {
        let listen = sidecar.addresses().next().ok_or("a sidecar has no address")?.clone();
        let admin_address = sidecar.admin_address().clone();
        let consumers = SidecarClient::new(&listen)?;
        let admin = SidecarClient::new(&admin_address)?;
        Ok(Self { listen, consumers, admin, admin_address })
    }

    fn addresses(&self) -> SidecarAddresses {
        let usual = |address: &ListenAddress| address.to_string().replace("127.0.0.1", "localhost");
        SidecarAddresses { listen: usual(&self.listen), admin: usual(&self.admin_address) }
    }

    async fn status(&self) -> Result<Status, DemoError> {
        let answer = self.admin.send(self.admin.request(Method::GET, "/status"), "admin").await?;
        Ok(read_answer(&answer.bytes().await?)?)
    }

    async fn wait_for_lease(&self) {
        let holds_lease = |status: Status| status.fleet.domains.first().map(|d| d.lease_held);
        while self.status().await.ok().and_then(holds_lease) != Some(true) {
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn read(&self) -> Result<ReadResult, DemoError> {
        let answer =
            self.consumers.send(self.consumers.request(Method::GET, FIRST_PATH), "listen").await?;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let cache_status = header("cache-status");
        let etag = header("etag");
        let status = answer.status();
        if status.is_success() {
            return Ok(ReadResult { cache_status, etag });
        }
        Err(problem_text(status.as_u16(), &answer.bytes().await?).into())
    }

    async fn invalidate(&self) -> Result<InvalidateResponse, DemoError> {
        let request = InvalidateRequest {
            domain: "customer".to_owned(),
            keys: vec!["42".into()],
            wait: WaitMode::Fleet,
            ..InvalidateRequest::default()
        };
        let answer = self
            .admin
            .send(self.admin.request(Method::POST, "/invalidate").json(&request), "admin")
            .await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if status != 200 {
            return Err(problem_text(status.as_u16(), &body).into());
        }
        Ok(read_answer(&body)?)
    }
}
