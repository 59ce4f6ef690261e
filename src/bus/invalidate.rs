//! Invalidating, and waiting until the fleet has acknowledged it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, sleep};

use super::clock;
use super::core::{Core, Domain, Waiting};
use super::fault::Fault;
use super::guards::guards;
use super::happening::What;
use crate::coherence::{
    Answer, Call, Entry, Fence, Invalidation, Issued, Moment, Name, Published, SCOPES_BYTES_MAX,
    SCOPES_MAX, Scope, State, are_scopes,
};

/// How long the script is tried. It may run twice, if only its answer was lost: that harms nothing.
const ISSUE_MAX: Duration = Duration::from_secs(2);
/// One try.
const TRY_MAX: Duration = Duration::from_millis(500);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// Between two questions to Redis, at first and at the most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Pause for each sidecar that Redis looked at, or has to look at: so much longer than that takes
/// it that it is busy with others most of the time.
const PAUSE_EACH: Duration = Duration::from_micros(20);

/// An invalidation that is in the log.
#[derive(Debug, Clone)]
pub struct Sent {
    issued: Issued,
    answered: Moment,
}

/// The fleet has acknowledged an invalidation: no sidecar serves what was read before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The invalidation.
    pub token: Fence,
    /// How many sidecars were registered when it was issued.
    pub sidecars: usize,
    /// Those that said nothing: the time that they could hold a lease was waited for.
    pub silent: Vec<Name>,
    /// Since the invalidation was in the log.
    pub took: Duration,
}

/// The time that the caller gave was over first. The invalidation stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_words(*sidecars, behind.len()))]
pub struct NotAcknowledged {
    /// The invalidation.
    pub token: Fence,
    /// How many sidecars were registered when it was issued.
    pub sidecars: usize,
    /// Who had not reported. Nobody, where it is not known that the registry names everybody: then
    /// a whole lease is waited.
    pub behind: Vec<Name>,
}

fn in_words(sidecars: usize, behind: usize) -> String {
    match behind {
        0 => "it is not known yet whether everybody has heard, so the whole lease has to pass"
            .to_owned(),
        _ => format!("{behind} of {} sidecars had not reported", sidecars.max(behind)),
    }
}

impl Sent {
    /// What it is known by.
    pub const fn token(&self) -> Fence {
        self.issued.token
    }

    /// How many sidecars were registered.
    pub const fn sidecars(&self) -> usize {
        self.issued.registered
    }
}

/// Appends one entry to the domain's log. Callers of one moment share an entry.
pub(super) async fn issue(
    core: &Core,
    domain: &Arc<Domain>,
    scopes: Arc<[Scope]>,
) -> Result<Sent, Fault> {
    if core.alone {
        return alone(core, domain, scopes);
    }
    let deadline = Instant::now() + ISSUE_MAX;
    loop {
        let (done, mut told) = oneshot::channel();
        domain
            .burst
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back((Arc::clone(&scopes), done));
        loop {
            lead(core, domain, deadline).await;
            match told.try_recv() {
                Ok(sent) => return sent,
                Err(_) if Instant::now() >= deadline => return Err(Fault::Slow),
                // It did not fit into an entry with those before it, which is gone now.
                Err(TryRecvError::Empty) => {}
                // Whoever had the turn was cancelled with it.
                Err(TryRecvError::Closed) => break,
            }
        }
    }
}

/// Takes the turn, and with it everybody who waits by then and whose scopes fit into one entry
/// together.
async fn lead(core: &Core, domain: &Arc<Domain>, deadline: Instant) {
    let _turn = domain.turn.lock().await;
    let burst = next_entry(&mut domain.burst.lock().unwrap_or_else(PoisonError::into_inner));
    if burst.is_empty() {
        return;
    }
    let scopes = merged(burst.iter().map(|(scopes, _)| scopes));
    let sent = try_until(core, domain, scopes, deadline).await;
    for (_, caller) in burst {
        let _ = caller.send(sent.clone());
    }
}

/// Takes out those of the front that fit into one entry of the log: at least one, whose own scopes
/// may be too many for it.
fn next_entry(burst: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut scopes, mut bytes) = (0, 0);
    let fits = |(named, _): &&Waiting| {
        scopes += named.len();
        bytes += named.iter().map(Scope::bytes).sum::<usize>();
        scopes <= SCOPES_MAX && bytes <= SCOPES_BYTES_MAX
    };
    let together = burst.iter().take_while(fits).count().max(1).min(burst.len());
    burst.drain(..together).collect()
}

/// The scopes of one entry. What is too much for one means all of the domain.
fn merged<'s>(burst: impl Iterator<Item = &'s Arc<[Scope]>>) -> Arc<[Scope]> {
    let scopes: Arc<[Scope]> = burst.flat_map(|scopes| scopes.iter().cloned()).collect();
    if are_scopes(&scopes) { scopes } else { Arc::new([Scope::All]) }
}

async fn try_until(
    core: &Core,
    domain: &Arc<Domain>,
    scopes: Arc<[Scope]>,
    deadline: Instant,
) -> Result<Sent, Fault> {
    loop {
        let call = Call::Invalidate { scopes: Arc::clone(&scopes), unless_above: None };
        match core.ask(domain, call, Duration::ZERO, TRY_MAX).await {
            Ok(Answer::Issued(issued)) => {
                let sent = Sent { issued, answered: clock::now() };
                apply_ahead(core, domain, &sent, scopes);
                return Ok(sent);
            }
            Err(fault) if fault.passes() && Instant::now() + TRY_AGAIN < deadline => {
                sleep(TRY_AGAIN).await;
            }
            // Why there is no connection says more to who reads the log.
            Err(Fault::Lost) => return Err(core.cause().unwrap_or(Fault::Lost)),
            Err(fault) => return Err(fault),
            Ok(_) => return Err(Fault::Unreadable),
        }
    }
}

/// The process's own sidecar need not wait for its message.
fn apply_ahead(core: &Core, domain: &Arc<Domain>, sent: &Sent, scopes: Arc<[Scope]>) {
    let Fence { epoch, seq } = sent.token();
    let published = Published { epoch, entries: vec![Entry { seq, scopes }] };
    // If there is no room, the message comes all the same.
    let _ = core.ahead.try_send((Arc::clone(domain), published));
}

fn alone(core: &Core, domain: &Domain, scopes: Arc<[Scope]>) -> Result<Sent, Fault> {
    let token = domain.sidecar_mut().invalidate_alone(Arc::clone(&scopes)).ok_or(Fault::Gone)?;
    core.metrics.applied(&domain.name);
    core.tell(domain, What::Applied(Entry { seq: token.seq, scopes }));
    let issued = Issued { token, longest: Duration::ZERO, settled: true, registered: 1 };
    Ok(Sent { issued, answered: clock::now() })
}

/// Waits until the fleet has acknowledged, at most for `limit`.
pub(super) async fn wait(
    core: &Core,
    domain: &Domain,
    sent: &Sent,
    limit: Duration,
) -> Result<Acknowledgement, NotAcknowledged> {
    let silent =
        if core.alone { Vec::new() } else { acknowledged(core, domain, sent, limit).await? };
    let took = clock::now().since(sent.answered);
    core.metrics.acknowledged(took);
    Ok(Acknowledgement { token: sent.token(), sidecars: sent.sidecars(), silent, took })
}

async fn acknowledged(
    core: &Core,
    domain: &Domain,
    sent: &Sent,
    limit: Duration,
) -> Result<Vec<Name>, NotAcknowledged> {
    let deadline = clock::now().after(limit);
    let mut invalidation =
        Invalidation::new(&sent.issued, domain.sidecar_mut().witness(), sent.answered, guards());
    // None of a large fleet has reported yet: at first it would be looked at in vain.
    let (mut pause, mut looked_at) = (Duration::ZERO, sent.sidecars());
    let (mut of_all, mut after_lease) = (false, false);
    loop {
        let now = clock::now();
        let until = match invalidation.state(domain.sidecar_mut().witness(), now) {
            State::Reported => return Ok(Vec::new()),
            // Those who were silent are named, and removed, by a question that was put after the
            // lease.
            State::Lapsed(silent) if after_lease => return Ok(silent),
            State::Waiting(_) if now >= deadline && of_all => {
                let (token, sidecars) = (sent.token(), sent.sidecars());
                return Err(NotAcknowledged {
                    token,
                    sidecars,
                    behind: invalidation.behind().to_vec(),
                });
            }
            State::Waiting(until) => until,
            State::Lapsed(_) => now,
        };
        let rest = until.min(deadline).since(now);
        let wait = pause.max(PAUSE_EACH * u32::try_from(looked_at).unwrap_or(u32::MAX)).min(rest);
        if wait >= PAUSE.0 {
            sleep(wait).await;
        }
        let now = clock::now();
        after_lease = now >= until;
        of_all = after_lease || now >= deadline;
        let question = if of_all {
            invalidation.question_of_all(domain.sidecar_mut().witness(), now)
        } else {
            invalidation.question(domain.sidecar_mut().witness(), now)
        };
        if let Ok(answer) = core.ask(domain, question, Duration::ZERO, core.patience()).await {
            invalidation.hear(&answer);
        }
        pause = (pause * 2).clamp(PAUSE.0, PAUSE.1);
        looked_at = invalidation.behind().len();
    }
}
