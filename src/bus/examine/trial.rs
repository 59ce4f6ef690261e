//! Trying every script, on a domain that has a random name: whether they run here, and how long one
//! takes. All that they wrote is deleted in the end, whatever came of it, and would expire if that
//! failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::answers::answer;
use super::super::core::Core;
use super::super::endpoint::Connection;
use super::super::fault::Fault;
use super::super::names::Names;
use super::super::scripts::{LIMITS, Scripts};
use crate::coherence::{Answer, Call, Fence, Heartbeat, Name, Place, Scope, Stored};

/// Round trips that are timed.
const TIMED: usize = 21;
/// The dataset that is kept and read has no more bytes.
const DATASET_BYTES: u64 = 64;
/// What is left by a trial that could not end is gone after this.
const LEFT_MAX: Duration = Duration::from_mins(1);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// All scripts ran; the median of some heartbeats.
    Ran(Duration),
    /// One did not.
    Failed {
        /// `heartbeat`.
        script: &'static str,
        /// Why.
        fault: Fault,
    },
}

struct Trying<'a> {
    connection: &'a mut Connection,
    names: &'a Names,
    scripts: Scripts,
}

type Failed = (&'static str, Fault);

/// The median of some round trips, with a command that every user of ours may do.
pub(super) async fn round_trip(
    connection: &mut Connection,
    names: &Names,
) -> Result<Duration, Fault> {
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let began = Instant::now();
        redis::cmd("GET").arg(names.claim(&place())).exec_async(connection).await?;
        took.push(began.elapsed());
    }
    Ok(median(took))
}

/// Runs every script.
pub(super) async fn run(connection: &mut Connection, names: &Names) -> Trial {
    let mut trying = Trying { connection, names, scripts: Scripts::new(LIMITS) };
    let tried = trying.life().await;
    match (tried, trying.clean().await) {
        (Err((script, fault)), _) => Trial::Failed { script, fault },
        (Ok(_), Err(fault)) => Trial::Failed { script: "del", fault },
        (Ok(took), Ok(())) => Trial::Ran(took),
    }
}

fn place() -> Place {
    Place { key: "key".into(), plan: "plan".into() }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

impl Trying<'_> {
    async fn life(&mut self) -> Result<Duration, Failed> {
        let holder = Name("doctor".into());
        let beat = |applied| {
            let lease = Duration::from_secs(1);
            Call::Heartbeat(Heartbeat { name: holder.clone(), lease, applied, settles: false })
        };
        let Answer::Told(told) = self.ask("heartbeat", beat(None)).await? else {
            return odd("heartbeat");
        };
        self.expire().await.map_err(|fault| ("pexpire", fault))?;
        let fence = told.end;
        let scopes: Arc<[Scope]> =
            Arc::new([Scope::Key("other".into()), Scope::Tag("other".into())]);
        let Answer::Issued(issued) =
            self.ask("invalidate", Call::Invalidate { scopes, unless_above: None }).await?
        else {
            return odd("invalidate");
        };
        self.expire().await.map_err(|fault| ("pexpire", fault))?;
        if issued.token != (Fence { seq: 1, ..fence }) {
            return odd("invalidate");
        }
        self.datasets(issued.token, &holder).await?;
        let mut took = Vec::with_capacity(TIMED);
        for _ in 0..TIMED {
            let began = Instant::now();
            self.ask("heartbeat", beat(Some(issued.token))).await?;
            took.push(began.elapsed());
        }
        let progress =
            Call::Progress { token: issued.token, lapsed: false, settles: false, laggard: None };
        self.expect(
            "progress",
            progress,
            |it| matches!(it, Answer::Progress { behind, .. } if behind.is_empty()),
        )
        .await?;
        let read = Call::ReadLog { after: fence, max: 1 };
        self.expect(
            "read_log",
            read,
            |it| matches!(it, Answer::Log { entries, .. } if entries.len() == 1),
        )
        .await?;
        self.expect("deregister", Call::Deregister(holder), |it| *it == Answer::Done(true)).await?;
        Ok(median(took))
    }

    async fn datasets(&mut self, fence: Fence, holder: &Name) -> Result<(), Failed> {
        let done = |it: &Answer| *it == Answer::Done(true);
        let dataset = Stored { fence, tags: vec!["tag".into()], body: Arc::from(&b"{}"[..]) };
        let claim = Call::Claim {
            place: place(),
            holder: holder.clone(),
            fence,
            bytes_max: Some(DATASET_BYTES),
        };
        self.expect("claim", claim, done).await?;
        self.expect(
            "store",
            Call::Store { place: place(), dataset: dataset.clone(), age: Duration::ZERO },
            done,
        )
        .await?;
        let hit = |it: &Answer| matches!(it, Answer::Hit(fetched) if fetched.dataset == dataset);
        self.expect("fetch", Call::Fetch { place: place(), bytes_max: DATASET_BYTES }, hit).await?;
        self.expect("vouch", Call::Vouch { key: place().key, tags: vec![], fence }, done).await?;
        self.expect("release", Call::Release { place: place(), holder: holder.clone() }, done).await
    }

    async fn expect(
        &mut self,
        script: &'static str,
        call: Call,
        so: impl Fn(&Answer) -> bool,
    ) -> Result<(), Failed> {
        let answered = self.ask(script, call).await?;
        if so(&answered) { Ok(()) } else { odd(script) }
    }

    async fn ask(&mut self, script: &'static str, call: Call) -> Result<Answer, Failed> {
        let request = Core::request(call);
        let ask = self.scripts.ask(self.names, &request, LEFT_MAX);
        // By its digest, once it is known: as a sidecar does.
        let mut value = ask.by_digest().query_async(self.connection).await;
        if value.as_ref().is_err_and(|error: &redis::RedisError| error.code() == Some("NOSCRIPT")) {
            value = ask.by_text().query_async(self.connection).await;
        }
        value.map_err(Fault::from).and_then(answer).map_err(|fault| (script, fault))
    }

    async fn expire(&mut self) -> Result<(), Fault> {
        let mut pipeline = redis::pipe();
        for key in [self.names.meta(), self.names.log(), self.names.stamps()] {
            pipeline.pexpire(key, i64::try_from(LEFT_MAX.as_millis()).unwrap_or(i64::MAX)).ignore();
        }
        Ok(pipeline.exec_async(self.connection).await?)
    }

    async fn clean(&mut self) -> Result<(), Fault> {
        let (names, place) = (self.names, place());
        let all =
            [names.meta(), names.log(), names.stamps(), names.dataset(&place), names.claim(&place)];
        Ok(redis::cmd("DEL").arg(&all).exec_async(self.connection).await?)
    }
}

fn odd<T>(script: &'static str) -> Result<T, Failed> {
    Err((script, Fault::Unreadable))
}
