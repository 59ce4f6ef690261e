//! A caller and the flights of its key: which it joins or begins, how long it waits for whom.
//! Sharing never costs an answer: a caller who waits for others keeps enough of its own deadline to
//! collect for itself, and does so when that time has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::{JoinRule, Landing, Origin, Ticket, Waited};
use super::patience::Patience;
use super::read::Cache;
use super::served::ReadError;
use super::wish::Wish;
use crate::collect::CollectError;
use crate::domain::SourceIndex;

/// How often a caller whose flight was lost (a panic) is seated again.
const SEATINGS_MAX: usize = 2;

/// One caller: what it asks for, and how long it can wait for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'w> {
    pub(super) wish: &'w Wish,
    /// Only the sources will do, in a flight that begins after it came.
    pub(super) fresh: bool,
    pub(super) patience: Patience,
}

/// What came of a wait.
struct Outcome {
    waited: Waited,
    /// Others had begun what was waited for.
    joined: bool,
    /// Whom to name where nothing came.
    unanswered: Vec<SourceIndex>,
}

impl Caller<'_> {
    /// Which flights it may join: what a flight brings is as old as the flight is.
    fn rule(&self) -> JoinRule {
        if self.fresh {
            return JoinRule::NONE;
        }
        JoinRule::ANY.and_within(self.wish.max_age.unwrap_or(Duration::MAX))
    }
}

impl Cache {
    /// A flight that brings nothing too old for this caller: what another's flight found in Redis
    /// may be.
    pub(super) async fn fly_for(
        &self,
        key: &Arc<str>,
        caller: Caller<'_>,
    ) -> Result<(Arc<Landing>, bool), ReadError> {
        let (landing, joined) = self.fly_or_join(key, caller).await?;
        let found = landing.result.as_ref().ok().filter(|_| landing.from == Origin::Redis);
        if found.is_some_and(|kept| caller.wish.is_too_old(kept, Instant::now())) {
            return self.fly_or_join(key, Caller { fresh: true, ..caller }).await;
        }
        Ok((landing, joined))
    }

    async fn fly_or_join(
        &self,
        key: &Arc<str>,
        caller: Caller<'_>,
    ) -> Result<(Arc<Landing>, bool), ReadError> {
        for _ in 0..SEATINGS_MAX {
            let mut ticket = self.seated(key, &caller, caller.rule())?;
            let joined = ticket.joined;
            if joined {
                self.metrics().collapsed.inc();
            }
            let outcome = if joined && !ticket.waits_for_turn() {
                self.wait_beside_others(key, &caller, &mut ticket).await
            } else {
                let waited =
                    self.wait_for_turn(key, &mut ticket, caller.patience.begin_by, &caller).await;
                Outcome { waited, joined, unanswered: ticket.progress.unanswered.sources() }
            };
            match outcome.waited {
                Waited::Landed(landing) => return Ok((landing, outcome.joined)),
                Waited::Lost if Instant::now() < caller.patience.until => {}
                Waited::Lost | Waited::Not => {
                    let error = self.collector().late(&outcome.unanswered);
                    return Err(ReadError::Collect(error, None));
                }
            }
        }
        Err(ReadError::Collect(self.collector().late(&[]), None))
    }

    fn seated(
        &self,
        key: &Arc<str>,
        caller: &Caller<'_>,
        rule: JoinRule,
    ) -> Result<Ticket, ReadError> {
        let Some(ticket) = self.seat(key, caller, rule) else {
            self.metrics().flights_refused.inc();
            let detail = "as many collections run as may".to_owned();
            return Err(ReadError::Collect(CollectError::Overloaded { detail }, None));
        };
        Ok(ticket)
    }

    /// Waits for the caller's own flight. Where that has not begun by `begin_by`, when the caller
    /// needs the rest of its deadline for it, it begins then.
    async fn wait_for_turn(
        &self,
        key: &Arc<str>,
        ticket: &mut Ticket,
        begin_by: Instant,
        caller: &Caller<'_>,
    ) -> Waited {
        let mut at = if ticket.waits_for_turn() { begin_by } else { caller.patience.until };
        loop {
            match ticket.landing_by(at).await {
                Waited::Not if at < caller.patience.until => {}
                waited => return waited,
            }
            let again = self.press(key, ticket).unwrap_or(caller.patience.until);
            at = again.min(caller.patience.until);
        }
    }

    /// Waits for a flight that was under way when the caller came. Sharing it costs no answer: once
    /// the caller needs the rest of its deadline for a flight of its own, or once this one is late,
    /// it takes whichever of the two comes first.
    async fn wait_beside_others(
        &self,
        key: &Arc<str>,
        caller: &Caller<'_>,
        shared: &mut Ticket,
    ) -> Outcome {
        let patience = &caller.patience;
        let first = shared.landing_by(patience.share_until).await;
        let (is_late, is_over) = match &first {
            Waited::Landed(landing) => (landing.is_late(), true),
            Waited::Lost => (false, true),
            Waited::Not => (true, false),
        };
        let progress = shared.progress.clone();
        let of_shared =
            |waited| Outcome { waited, joined: true, unanswered: progress.unanswered.sources() };
        if !is_late || Instant::now() >= patience.until {
            return of_shared(first);
        }
        // One that others began for the same reason is as good.
        let rule = caller.rule().and_within(patience.young_enough());
        let Ok(mut own) = self.seated(key, caller, rule) else {
            return of_shared(if is_over {
                first
            } else {
                shared.landing_by(patience.until).await
            });
        };
        let (joined, progress) = (own.joined, own.progress.clone());
        if !joined {
            self.metrics().unshared.inc();
        }
        let own_landing = async {
            let waited = self.wait_for_turn(key, &mut own, Instant::now(), caller).await;
            Outcome { waited, joined, unanswered: progress.unanswered.sources() }
        };
        let shared_landing = async {
            match shared.landing_by(patience.until).await {
                Waited::Landed(landing) if !is_over && !landing.is_late() => {
                    Waited::Landed(landing)
                }
                // The caller's own says what becomes of it.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            waited = shared_landing => of_shared(waited),
            outcome = own_landing => outcome,
        }
    }
}
