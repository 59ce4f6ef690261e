//! Issuing an invalidation, and waiting until the fleet has acknowledged it.

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

/// How long the script is tried. It may run twice, if only its reply was lost; that harms nothing.
const ISSUE_MAX: Duration = Duration::from_secs(2);
/// The longest that one try takes.
const TRY_MAX: Duration = Duration::from_millis(500);
/// The pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The time between two requests to Redis, at first and at the most.
const PROGRESS_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// The pause for each registration that Redis has to check. It is much longer than the check takes,
/// so that Redis spends most of its time on other calls.
const PAUSE_PER_SIDECAR: Duration = Duration::from_micros(20);

/// Appends one entry to the domain's log. Callers that come while a batch is sent share the next
/// entry.
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
                // It did not fit into the entry of those before it, which has been sent by now.
                Err(TryRecvError::Empty) => {}
                // The caller that held the batch lock was cancelled.
                Err(TryRecvError::Closed) => break,
            }
        }
    }
}

/// Takes the batch lock, and sends the pending invalidations whose scopes fit into one entry
/// together.
async fn issue_batch(core: &BusCore, domain: &Arc<BusDomain>, deadline: Instant) {
    let _guard = domain.batch_lock.lock().await;
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

/// Takes out the first pending invalidations that fit into one entry of the log: at least one,
/// whose own scopes may be too many for an entry.
fn take_batch(pending: &mut VecDeque<PendingInvalidation>) -> Vec<PendingInvalidation> {
    let mut scopes = 0;
    let mut bytes = 0;
    let fits = |(named, _): &&PendingInvalidation| {
        scopes += named.len();
        bytes += named.iter().map(InvalidationScope::bytes).sum::<usize>();
        scopes <= SCOPES_MAX && bytes <= SCOPES_BYTES_MAX
    };
    let fitting = pending.iter().take_while(fits).count().max(1).min(pending.len());
    pending.drain(..fitting).collect()
}

/// The scopes of one entry. Scopes that are too many for an entry become all of the domain.
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
            // The reason for which there is no connection tells the caller more.
            Err(RedisFault::Lost) => return Err(core.current_fault().unwrap_or(RedisFault::Lost)),
            Err(fault) => return Err(fault),
            Ok(_) => return Err(RedisFault::Unreadable),
        }
    }
}

/// Hands the entry to this process's own replica, which then need not wait for the message.
fn apply_locally(
    core: &BusCore,
    domain: &Arc<BusDomain>,
    sent: &SentInvalidation,
    scopes: Arc<[InvalidationScope]>,
) {
    let Fence { epoch, seq } = sent.token();
    let published = PublishedEntries { epoch, entries: vec![LogEntry { seq, scopes }] };
    // If there is no room, the replica gets the entry by its message.
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
        stores: Vec::new(),
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
    // In a large fleet no sidecar has reported yet, so the first check waits for its size.
    let mut pause = Duration::ZERO;
    let mut registrations_to_check = sent.sidecars();
    let mut asks_about_all = false;
    let mut after_lease = false;
    loop {
        let now = clock::now();
        let until = match invalidation.state_at(domain.replica_mut().epoch_age(), now) {
            InvalidationState::Reported => return Ok(Vec::new()),
            // A call that is made after the lease has passed names the silent members, and removes
            // them.
            InvalidationState::Lapsed(silent) if after_lease => return Ok(silent),
            InvalidationState::Waiting(_)
            | InvalidationState::Unstamped(_)
            | InvalidationState::Over
                if now >= deadline && asks_about_all =>
            {
                return Err(NotAcknowledged {
                    token: sent.token(),
                    sidecars: sent.sidecars(),
                    laggards: invalidation.laggards().to_vec(),
                });
            }
            InvalidationState::Waiting(until) => until,
            InvalidationState::Lapsed(_)
            | InvalidationState::Unstamped(_)
            | InvalidationState::Over => now,
        };
        let rest = until.min(deadline).since(now);
        let registrations = u32::try_from(registrations_to_check).unwrap_or(u32::MAX);
        let wait = pause.max(PAUSE_PER_SIDECAR * registrations).min(rest);
        if wait >= PROGRESS_PAUSE.0 {
            sleep(wait).await;
        }
        let now = clock::now();
        after_lease = now >= until;
        asks_about_all = after_lease || now >= deadline;
        let call = if asks_about_all {
            invalidation.progress_call_of_all(domain.replica_mut().epoch_age(), now)
        } else {
            invalidation.progress_call(domain.replica_mut().epoch_age(), now)
        };
        if let Ok(answer) = core.call(domain, call, Duration::ZERO, core.reply_timeout()).await {
            invalidation.on_reply(&answer);
        }
        pause = (pause * 2).clamp(PROGRESS_PAUSE.0, PROGRESS_PAUSE.1);
        registrations_to_check = invalidation.laggards().len();
    }
}
