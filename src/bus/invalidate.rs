//! Invalidating, and waiting until the fleet has acknowledged it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, sleep};

use super::acknowledgement::{Acknowledgement, NotAcknowledged, SentInvalidation};
use super::clock;
use super::core::{BusCore, BusDomain, PendingInvalidation};
use super::events::BusEventKind;
use super::fault::RedisFault;
use crate::coherence::{
    Fence, Invalidation, InvalidationScope, InvalidationState, IssuedInvalidation, LogEntry,
    MemberName, PublishedEntries, SCOPES_BYTES_MAX, SCOPES_MAX, ScriptCall, ScriptReply,
    are_valid_scopes,
};

/// How long the script is tried. It may run twice, if only its answer was lost: that harms nothing.
const ISSUE_MAX: Duration = Duration::from_secs(2);
/// One try.
const TRY_MAX: Duration = Duration::from_millis(500);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The time between two requests to Redis, at first and at the most.
const PROGRESS_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Pause for each sidecar that Redis looked at, or has to look at: so much longer than that takes
/// it that it is busy with others most of the time.
const PAUSE_PER_SIDECAR: Duration = Duration::from_micros(20);

/// Appends one entry to the domain's log. Callers of one moment share an entry.
pub(super) async fn issue(
    core: &BusCore,
    domain: &Arc<BusDomain>,
    scopes: Arc<[InvalidationScope]>,
) -> Result<SentInvalidation, RedisFault> {
    if core.is_standalone {
        return issue_standalone(core, domain, scopes);
    }
    let deadline = Instant::now() + ISSUE_MAX;
    loop {
        let (sender, mut receiver) = oneshot::channel();
        domain.pending.lock().push_back((Arc::clone(&scopes), sender));
        loop {
            issue_batch(core, domain, deadline).await;
            match receiver.try_recv() {
                Ok(sent) => return sent,
                Err(_) if Instant::now() >= deadline => return Err(RedisFault::TimedOut),
                // It did not fit into an entry with those before it, which is gone now.
                Err(TryRecvError::Empty) => {}
                // The caller that held the batch lock was cancelled.
                Err(TryRecvError::Closed) => break,
            }
        }
    }
}

/// Takes the turn, and with it everybody who waits by then and whose scopes fit into one entry
/// together.
async fn issue_batch(core: &BusCore, domain: &Arc<BusDomain>, deadline: Instant) {
    let _turn = domain.batch_lock.lock().await;
    let batch = take_batch(&mut domain.pending.lock());
    if batch.is_empty() {
        return;
    }
    let scopes = merge_scopes(batch.iter().map(|(scopes, _)| scopes));
    let sent = issue_until(core, domain, scopes, deadline).await;
    for (_, caller) in batch {
        let _ = caller.send(sent.clone());
    }
}

/// Takes out those of the front that fit into one entry of the log: at least one, whose own scopes
/// may be too many for it.
fn take_batch(pending: &mut VecDeque<PendingInvalidation>) -> Vec<PendingInvalidation> {
    let (mut scopes, mut bytes) = (0, 0);
    let fits = |(named, _): &&PendingInvalidation| {
        scopes += named.len();
        bytes += named.iter().map(InvalidationScope::bytes).sum::<usize>();
        scopes <= SCOPES_MAX && bytes <= SCOPES_BYTES_MAX
    };
    let fitting = pending.iter().take_while(fits).count().max(1).min(pending.len());
    pending.drain(..fitting).collect()
}

/// The scopes of one entry. What is too much for one means all of the domain.
fn merge_scopes<'s>(
    batch: impl Iterator<Item = &'s Arc<[InvalidationScope]>>,
) -> Arc<[InvalidationScope]> {
    let scopes: Arc<[InvalidationScope]> =
        batch.flat_map(|scopes| scopes.iter().cloned()).collect();
    if are_valid_scopes(&scopes) { scopes } else { Arc::new([InvalidationScope::All]) }
}

async fn issue_until(
    core: &BusCore,
    domain: &Arc<BusDomain>,
    scopes: Arc<[InvalidationScope]>,
    deadline: Instant,
) -> Result<SentInvalidation, RedisFault> {
    loop {
        let call = ScriptCall::Invalidate { scopes: Arc::clone(&scopes), unless_above: None };
        match core.call(domain, call, Duration::ZERO, TRY_MAX).await {
            Ok(ScriptReply::Issued(issued)) => {
                let sent = SentInvalidation { issued, answered_at: clock::now() };
                apply_locally(core, domain, &sent, scopes);
                return Ok(sent);
            }
            Err(fault) if fault.is_transient() && Instant::now() + RETRY_PAUSE < deadline => {
                sleep(RETRY_PAUSE).await;
            }
            // Why there is no connection says more to who reads the log.
            Err(RedisFault::Lost) => return Err(core.current_fault().unwrap_or(RedisFault::Lost)),
            Err(fault) => return Err(fault),
            Ok(_) => return Err(RedisFault::Unreadable),
        }
    }
}

/// The process's own sidecar need not wait for its message.
fn apply_locally(
    core: &BusCore,
    domain: &Arc<BusDomain>,
    sent: &SentInvalidation,
    scopes: Arc<[InvalidationScope]>,
) {
    let Fence { epoch, seq } = sent.token();
    let published = PublishedEntries { epoch, entries: vec![LogEntry { seq, scopes }] };
    // If there is no room, the message comes all the same.
    let _ = core.local_invalidations.try_send((Arc::clone(domain), published));
}

fn issue_standalone(
    core: &BusCore,
    domain: &BusDomain,
    scopes: Arc<[InvalidationScope]>,
) -> Result<SentInvalidation, RedisFault> {
    let token = domain
        .replica_mut()
        .invalidate_standalone(Arc::clone(&scopes))
        .ok_or(RedisFault::DomainGone)?;
    core.metrics.count_applied(&domain.name);
    core.send_event(domain, BusEventKind::InvalidationApplied(LogEntry { seq: token.seq, scopes }));
    let issued = IssuedInvalidation {
        token,
        longest_lease: Duration::ZERO,
        settled: true,
        registered_members: 1,
    };
    Ok(SentInvalidation { issued, answered_at: clock::now() })
}

/// Waits until the fleet has acknowledged, at most for `limit`.
pub(super) async fn wait_for_fleet(
    core: &BusCore,
    domain: &BusDomain,
    sent: &SentInvalidation,
    limit: Duration,
) -> Result<Acknowledgement, NotAcknowledged> {
    let silent_members = if core.is_standalone {
        Vec::new()
    } else {
        wait_acknowledged(core, domain, sent, limit).await?
    };
    let took = clock::now().since(sent.answered_at);
    core.metrics.observe_acknowledged(took);
    Ok(Acknowledgement { token: sent.token(), sidecars: sent.sidecars(), silent_members, took })
}

async fn wait_acknowledged(
    core: &BusCore,
    domain: &BusDomain,
    sent: &SentInvalidation,
    limit: Duration,
) -> Result<Vec<MemberName>, NotAcknowledged> {
    let deadline = clock::now().after(limit);
    let mut invalidation =
        Invalidation::new(&sent.issued, domain.replica_mut().epoch_age(), sent.answered_at);
    // None of a large fleet has reported yet: at first it would be looked at in vain.
    let (mut pause, mut looked_at) = (Duration::ZERO, sent.sidecars());
    let (mut of_all, mut after_lease) = (false, false);
    loop {
        let now = clock::now();
        let until = match invalidation.state_at(domain.replica_mut().epoch_age(), now) {
            InvalidationState::Reported => return Ok(Vec::new()),
            // Those who were silent are named, and removed, by a question that was put after the
            // lease.
            InvalidationState::Lapsed(silent) if after_lease => return Ok(silent),
            InvalidationState::Waiting(_) if now >= deadline && of_all => {
                let (token, sidecars) = (sent.token(), sent.sidecars());
                return Err(NotAcknowledged {
                    token,
                    sidecars,
                    laggards: invalidation.laggards().to_vec(),
                });
            }
            InvalidationState::Waiting(until) => until,
            InvalidationState::Lapsed(_) => now,
        };
        let rest = until.min(deadline).since(now);
        let wait =
            pause.max(PAUSE_PER_SIDECAR * u32::try_from(looked_at).unwrap_or(u32::MAX)).min(rest);
        if wait >= PROGRESS_PAUSE.0 {
            sleep(wait).await;
        }
        let now = clock::now();
        after_lease = now >= until;
        of_all = after_lease || now >= deadline;
        let call = if of_all {
            invalidation.progress_call_of_all(domain.replica_mut().epoch_age(), now)
        } else {
            invalidation.progress_call(domain.replica_mut().epoch_age(), now)
        };
        if let Ok(answer) = core.call(domain, call, Duration::ZERO, core.reply_timeout()).await {
            invalidation.on_reply(&answer);
        }
        pause = (pause * 2).clamp(PROGRESS_PAUSE.0, PROGRESS_PAUSE.1);
        looked_at = invalidation.laggards().len();
    }
}
