//! Runs every script (the heartbeat several times, for its duration), on a domain that has a random
//! name, to learn whether each runs on this server and how long a heartbeat takes. All keys that
//! they write are deleted in the end, also after a failure, and expire if that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::core::BusCore;
use super::super::endpoint::RedisConnection;
use super::super::fault::RedisFault;
use super::super::redis_names::RedisNames;
use super::super::replies::parse_reply;
use super::super::scripts::{LIMITS, Scripts};
use crate::coherence::{
    DatasetPlace, Fence, Heartbeat, InvalidationScope, MemberName, ScriptCall, ScriptReply,
    TierDataset,
};

/// How many round trips are timed.
const TIMED: usize = 21;
/// The most bytes of the dataset that is stored and fetched.
const DATASET_BYTES: u64 = 64;
/// The time to live of keys that a probe could not delete.
const LEFTOVERS_TTL: Duration = Duration::from_mins(1);

/// The result of running the scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptProbe {
    /// All scripts ran; the median duration of several heartbeats.
    Ran(Duration),
    /// One script failed.
    Failed {
        /// Its name, as in `heartbeat`.
        script: &'static str,
        /// The fault.
        fault: RedisFault,
    },
}

struct ScriptProber<'a> {
    connection: &'a mut RedisConnection,
    names: &'a RedisNames,
    scripts: Scripts,
}

type ScriptFailure = (&'static str, RedisFault);

/// The median duration of several round trips, with a command that every user of a sidecar may run.
pub(super) async fn round_trip(
    connection: &mut RedisConnection,
    names: &RedisNames,
) -> Result<Duration, RedisFault> {
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let began = Instant::now();
        redis::cmd("GET").arg(names.claim(&place())).exec_async(connection).await?;
        took.push(began.elapsed());
    }
    Ok(median(took))
}

/// Runs every script.
pub(super) async fn run(connection: &mut RedisConnection, names: &RedisNames) -> ScriptProbe {
    let mut prober = ScriptProber { connection, names, scripts: Scripts::new(LIMITS) };
    let ran = prober.run_scripts().await;
    match (ran, prober.clean().await) {
        (Err((script, fault)), _) => ScriptProbe::Failed { script, fault },
        (Ok(_), Err(fault)) => ScriptProbe::Failed { script: "del", fault },
        (Ok(took), Ok(())) => ScriptProbe::Ran(took),
    }
}

fn place() -> DatasetPlace {
    DatasetPlace { key: "key".into(), plan: "plan".into() }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

impl ScriptProber<'_> {
    async fn run_scripts(&mut self) -> Result<Duration, ScriptFailure> {
        let holder = MemberName("doctor".into());
        let beat = |applied| {
            let lease = Duration::from_secs(1);
            ScriptCall::Heartbeat(Heartbeat {
                name: holder.clone(),
                lease,
                applied,
                marks_settled: false,
                store: None,
            })
        };
        let ScriptReply::Heartbeat(reply) = self.ask("heartbeat", beat(None)).await? else {
            return unreadable("heartbeat");
        };
        self.expire().await.map_err(|fault| ("pexpire", fault))?;
        let fence = reply.log_end;
        let scopes: Arc<[InvalidationScope]> = Arc::new([
            InvalidationScope::Key("other".into()),
            InvalidationScope::Tag("other".into()),
        ]);
        let ScriptReply::Issued(issued) =
            self.ask("invalidate", ScriptCall::Invalidate { scopes, unless_above: None }).await?
        else {
            return unreadable("invalidate");
        };
        self.expire().await.map_err(|fault| ("pexpire", fault))?;
        if issued.token != (Fence { seq: 1, ..fence }) {
            return unreadable("invalidate");
        }
        self.run_dataset_scripts(issued.token, &holder).await?;
        let mut took = Vec::with_capacity(TIMED);
        for _ in 0..TIMED {
            let began = Instant::now();
            self.ask("heartbeat", beat(Some(issued.token))).await?;
            took.push(began.elapsed());
        }
        let progress = ScriptCall::Progress {
            token: issued.token,
            lease_has_passed: false,
            marks_settled: false,
            laggard: None,
        };
        self.expect(
            "progress",
            progress,
            |it| matches!(it, ScriptReply::Progress { laggards, .. } if laggards.is_empty()),
        )
        .await?;
        let read = ScriptCall::ReadLog { after: fence, max: 1 };
        self.expect(
            "read_log",
            read,
            |it| matches!(it, ScriptReply::Log { entries, .. } if entries.len() == 1),
        )
        .await?;
        self.expect("deregister", ScriptCall::Deregister(holder), |it| {
            *it == ScriptReply::Done(true)
        })
        .await?;
        Ok(median(took))
    }

    async fn run_dataset_scripts(
        &mut self,
        fence: Fence,
        holder: &MemberName,
    ) -> Result<(), ScriptFailure> {
        let done = |it: &ScriptReply| *it == ScriptReply::Done(true);
        let dataset = TierDataset { fence, tags: vec!["tag".into()], body: Arc::from(&b"{}"[..]) };
        let claim = ScriptCall::Claim {
            place: place(),
            holder: holder.clone(),
            fence,
            bytes_max: Some(DATASET_BYTES),
        };
        self.expect("claim", claim, done).await?;
        self.expect(
            "store",
            ScriptCall::Store { place: place(), dataset: dataset.clone(), age: Duration::ZERO },
            done,
        )
        .await?;
        let hit = |it: &ScriptReply| match it {
            ScriptReply::Hit(fetched) => fetched.dataset == dataset,
            _ => false,
        };
        self.expect("fetch", ScriptCall::Fetch { place: place(), bytes_max: DATASET_BYTES }, hit)
            .await?;
        self.expect("release", ScriptCall::Release { place: place(), holder: holder.clone() }, done)
            .await
    }

    async fn expect(
        &mut self,
        script: &'static str,
        call: ScriptCall,
        is_expected: impl Fn(&ScriptReply) -> bool,
    ) -> Result<(), ScriptFailure> {
        let answered = self.ask(script, call).await?;
        if is_expected(&answered) { Ok(()) } else { unreadable(script) }
    }

    async fn ask(
        &mut self,
        script: &'static str,
        call: ScriptCall,
    ) -> Result<ScriptReply, ScriptFailure> {
        let request = BusCore::new_request(call);
        let invocation = self.scripts.prepare(self.names, &request, LEFTOVERS_TTL);
        // By its digest, and by its text where Redis does not know it: as a sidecar does.
        let mut value = invocation.evalsha().query_async(self.connection).await;
        if value.as_ref().is_err_and(|error: &redis::RedisError| error.code() == Some("NOSCRIPT")) {
            value = invocation.eval().query_async(self.connection).await;
        }
        value.map_err(RedisFault::from).and_then(parse_reply).map_err(|fault| (script, fault))
    }

    async fn expire(&mut self) -> Result<(), RedisFault> {
        let mut pipeline = redis::pipe();
        for key in [self.names.meta(), self.names.log(), self.names.stamps()] {
            pipeline
                .pexpire(key, i64::try_from(LEFTOVERS_TTL.as_millis()).unwrap_or(i64::MAX))
                .ignore();
        }
        Ok(pipeline.exec_async(self.connection).await?)
    }

    async fn clean(&mut self) -> Result<(), RedisFault> {
        let names = self.names;
        let place = place();
        let all =
            [names.meta(), names.log(), names.stamps(), names.dataset(&place), names.claim(&place)];
        Ok(redis::cmd("DEL").arg(&all).exec_async(self.connection).await?)
    }
}

fn unreadable<T>(script: &'static str) -> Result<T, ScriptFailure> {
    Err((script, RedisFault::Unreadable))
}
