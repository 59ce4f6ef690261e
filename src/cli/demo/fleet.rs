//! `bfb demo --fleet N`: sidecars that share one Redis, and one invalidation that reaches all of
//! them.
//!
//! What it shows is asked over the sidecars' own ports, as anybody would, and checked: an answer
//! that is older than the acknowledgement ends the demo with an error.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::next::{At, try_fleet};
use super::redis::PrivateRedis;
use super::{Demo, FIRST, Failure, own_name};
use crate::admin::LogLevel;
use crate::bus;
use crate::cache::Size;
use crate::cli::local::{Local, problem_text};
use crate::cli::{exit, invalidate, logging, out, serve};
use crate::serve::Address;
use crate::sidecar::{Caching, Config, Sidecar, ToldTo};

use super::upstreams::Upstreams;

/// Short, so that what waits for one is seen in a demo.
const LEASE: Duration = Duration::from_secs(1);
/// Who shares the demo's cache. The same in each run, so that runs on one Redis leave no more
/// behind than one does.
const NAMESPACE: &str = "demo";
/// What memory each sidecar gets.
const MEMORY: Size = Size(16 * 1024 * 1024);
/// How long a fleet may take to form.
const FORMS: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);

/// One sidecar of the fleet, as others see it.
struct Member {
    listen: Address,
    consumers: Local,
    admin: Local,
    admin_address: Address,
}

/// What a read came to.
struct Read {
    cache_status: String,
    etag: String,
}

impl Read {
    /// Enough of it to tell two apart at a glance.
    fn short_etag(&self) -> String {
        format!("{}…", self.etag.trim_matches('"').chars().take(8).collect::<String>())
    }
}

/// Why the demo did not go well.
enum Trouble {
    /// Something that it needs is not there.
    Missing(Failure),
    /// It did not show what it promises.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Demo {
    /// Shows `size` sidecars; their domain file is `file`.
    pub(super) async fn show_fleet(
        &self,
        size: u8,
        file: PathBuf,
        upstreams: &Upstreams,
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
        let (mut sidecars, mut members) = (Vec::new(), Vec::new());
        for index in 1..=size {
            let Some(config) = self.member_config(index, file.clone(), upstreams, redis.as_ref())
            else {
                return exit::FAILED;
            };
            let sidecar =
                match Sidecar::start(config, LogLevel::new(&self.log, logging::check)).await {
                    Ok(sidecar) => sidecar,
                    Err(error) => return serve::refuse(&error),
                };
            match Member::of(&sidecar) {
                Ok(member) => members.push(member),
                Err(error) => {
                    out::error(error);
                    return exit::unavailable();
                }
            }
            sidecars.push(sidecar);
        }
        let (stops, runs): (Vec<_>, Vec<_>) =
            sidecars.into_iter().map(|sidecar| run(sidecar, apply.clone())).unzip();
        let (ended, shown) = tokio::join!(join_all(runs), async {
            let shown = self.show_members(&members, upstreams, redis.as_ref()).await;
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
            Err(Trouble::Missing(error)) => {
                out::error(error);
                exit::unavailable()
            }
            Err(Trouble::Failed(error)) => {
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
        upstreams: &Upstreams,
        redis: Option<&PrivateRedis>,
    ) -> Option<Config> {
        let own =
            redis.and_then(|redis| format!("unix://{}", redis.socket().display()).parse().ok());
        let mut settings = bus::Settings::new(self.redis.clone().or(own)?, LEASE);
        settings.label = format!("demo-{index}");
        NAMESPACE.clone_into(&mut settings.namespace);
        let mut config = self.config(file, upstreams, index == 1);
        config.bus = Some(settings);
        config.caching = Caching { memory: MEMORY, off: false, ..Caching::none() };
        Some(config)
    }

    async fn show_members(
        &self,
        members: &[Member],
        upstreams: &Upstreams,
        redis: Option<&PrivateRedis>,
    ) -> Result<(), Trouble> {
        // Before anything is said, so that nobody who reads it is too early.
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shown = async {
            out::say(introduced(members, redis));
            show_an_invalidation(members, upstreams).await?;
            if !self.once {
                let at: Vec<_> = members.iter().take(2).map(Member::at).collect();
                let socket = redis.map(PrivateRedis::socket);
                let next = try_fleet(&own_name(), upstreams.control_addr(), &at, socket);
                out::say(format!("\n{next}\nCtrl-C ends it."));
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        tokio::select! {
            shown = shown => shown,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }
}

/// Everybody reads and keeps; the source changes; an invalidation is acknowledged; everybody reads
/// what is new.
async fn show_an_invalidation(members: &[Member], upstreams: &Upstreams) -> Result<(), Trouble> {
    let formed = timeout(FORMS, join_all(members.iter().map(Member::until_lease))).await;
    if formed.is_err() {
        let trouble = members[0]
            .status()
            .await
            .ok()
            .and_then(|s| s["fleet"]["trouble"].as_str().map(str::to_owned));
        let why = trouble.unwrap_or_else(|| "the fleet did not form".to_owned());
        return Err(Trouble::Missing(format!("{why}\nhint: `--redis` says where it is").into()));
    }
    // Only once its log is older than a lease is it known that its registry names everybody;
    // before, each acknowledgement waits for one.
    sleep(LEASE).await;
    let mut told = "everybody reads customer 42, twice\n".to_owned();
    for (index, member) in members.iter().enumerate() {
        let (first, again) = (member.read().await?, member.read().await?);
        let _ = writeln!(
            told,
            "  {:>2}  {:<33} ETag {}",
            index + 1,
            first.cache_status,
            first.short_etag()
        );
        let _ = writeln!(told, "      {:<33} ETag {}", again.cache_status, again.short_etag());
    }
    out::say(told);
    let before = members[0].read().await?.etag;
    let control = Local::new(&Address::Tcp(upstreams.control_addr()))?;
    control.send(control.request(Method::POST, "/favorites/change/42"), "control").await?;
    let acknowledged = members[0].invalidate().await?;
    let bfb = own_name();
    out::say(format!(
        "customer 42 likes something new, and sidecar 1 is told so\n  $ {bfb} invalidate --wait \
         customer 42\n{}\n",
        indented(&invalidate::text(&acknowledged))
    ));
    let mut told = "everybody reads customer 42 again\n".to_owned();
    let mut old = 0;
    for (index, member) in members.iter().enumerate() {
        let read = member.read().await?;
        let word = if read.etag == before { "OLD" } else { "new" };
        old += usize::from(read.etag == before);
        let (status, etag) = (&read.cache_status, read.short_etag());
        let _ = writeln!(told, "  {:>2}  {status:<33} ETag {etag}  {word}", index + 1);
    }
    out::say(told.trim_end());
    if old == 0 {
        Ok(())
    } else {
        Err(format!("{old} sidecars served what was read before the acknowledgement").into())
    }
}

fn introduced(members: &[Member], redis: Option<&PrivateRedis>) -> String {
    let whose = redis.map_or_else(
        || "the one given".to_owned(),
        |redis| format!("a private one, unix://{}", redis.socket().display()),
    );
    let mut text = format!("{} sidecars on one Redis ({whose})\n", members.len());
    for (index, member) in members.iter().enumerate() {
        let at = member.at();
        let _ =
            writeln!(text, "  {:>2}  consumers {:<24}  admin {}", index + 1, at.listen, at.admin);
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

type Running = std::pin::Pin<Box<dyn Future<Output = Result<(), crate::sidecar::RunError>>>>;

fn run(sidecar: Sidecar, apply: impl Fn(&str) + Send + 'static) -> (mpsc::Sender<()>, Running) {
    let (stop, told) = mpsc::channel(2);
    let told_to = ToldTo { stop: told, reload: Arc::new(Notify::new()) };
    (stop, Box::pin(sidecar.run(told_to, apply)))
}

impl Member {
    fn of(sidecar: &Sidecar) -> Result<Self, Failure> {
        let listen = sidecar.addresses().next().ok_or("a sidecar has no address")?.clone();
        let admin_address = sidecar.admin_address().clone();
        let (consumers, admin) = (Local::new(&listen)?, Local::new(&admin_address)?);
        Ok(Self { listen, consumers, admin, admin_address })
    }

    fn at(&self) -> At {
        let usual = |address: &Address| address.to_string().replace("127.0.0.1", "localhost");
        At { listen: usual(&self.listen), admin: usual(&self.admin_address) }
    }

    async fn status(&self) -> Result<Value, Failure> {
        let answer = self.admin.send(self.admin.request(Method::GET, "/status"), "admin").await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    async fn until_lease(&self) {
        while self
            .status()
            .await
            .map_or(true, |status| status["fleet"]["domains"][0]["lease_held"] != true)
        {
            sleep(LOOK).await;
        }
    }

    async fn read(&self) -> Result<Read, Failure> {
        let answer =
            self.consumers.send(self.consumers.request(Method::GET, FIRST), "listen").await?;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let (cache_status, etag) = (header("cache-status"), header("etag"));
        let status = answer.status();
        if status.is_success() {
            return Ok(Read { cache_status, etag });
        }
        Err(problem_text(status.as_u16(), &answer.bytes().await?).into())
    }

    async fn invalidate(&self) -> Result<Value, Failure> {
        let asked = json!({"domain": "customer", "keys": ["42"], "wait": "fleet"});
        let answer = self
            .admin
            .send(self.admin.request(Method::POST, "/invalidate").json(&asked), "admin")
            .await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        if status != 200 {
            return Err(problem_text(status.as_u16(), &body).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
