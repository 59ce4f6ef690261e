//! A caller and the flights of its key: which it joins or begins, how long it waits for whom. Sharing
//! never costs an answer: a caller who waits for others keeps enough of its own deadline to collect
//! for itself, and does so when that time has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::{JoinRule, Landing, Origin, Ticket, Waited};
use super::patience::Patience;
use super::read::Cache;
use super::served::ReadError;
use super::wish::Wish;
use crate::collect::CollectError;

/// How often a caller whose flight was lost (a panic) is seated again.
const SEATINGS_MAX: usize = 2;

impl Cache {
    /// A flight that brings nothing too old for this caller: what another's flight found in Redis may be.
    pub(super) async fn fly_for(
        &self,
        key: &Arc<str>,
        wish: &Wish,
        fresh: bool,
        patience: &Patience,
    ) -> Result<(Arc<Landing>, bool), ReadError> {
        let (landing, joined) = self.fly_or_join(key, wish, fresh, patience).await?;
        let found = landing.result.as_ref().ok().filter(|_| landing.from == Origin::Redis);
        if found.is_some_and(|kept| wish.is_too_old(kept, Instant::now())) {
            return self.fly_or_join(key, wish, true, patience).await;
        }
        Ok((landing, joined))
    }

    async fn fly_or_join(
        &self,
        key: &Arc<str>,
        wish: &Wish,
        fresh: bool,
        patience: &Patience,
    ) -> Result<(Arc<Landing>, bool), ReadError> {
        // What a flight brings is as old as the flight is.
        let rule = if fresh { JoinRule::NONE } else { JoinRule::ANY.and_within(wish.max_age.unwrap_or(Duration::MAX)) };
        for _ in 0..SEATINGS_MAX {
            let mut ticket = self.seated(key, wish, rule, fresh)?;
            let mut joined = ticket.joined;
            let waited = if ticket.waits_for_turn() {
                self.wait_for_turn(key, &mut ticket, patience).await
            } else if joined {
                let waited = self.wait_beside_others(key, wish, rule, &mut ticket, patience).await?;
                joined = waited.1;
                waited.0
            } else {
                ticket.landing_by(patience.until).await
            };
            match waited {
                Waited::Landed(landing) => return Ok((landing, joined)),
                Waited::Lost if Instant::now() < patience.until => {}
                Waited::Lost | Waited::Not => {
                    let error = self.collector().late(&ticket.progress.unanswered.sources());
                    return Err(ReadError::Collect(error, None));
                }
            }
        }
        Err(ReadError::Collect(self.collector().late(&[]), None))
    }

    fn seated(&self, key: &Arc<str>, wish: &Wish, rule: JoinRule, fresh: bool) -> Result<Ticket, ReadError> {
        let Some(ticket) = self.seat(key, wish, rule, fresh) else {
            self.metrics().flights_refused.inc();
            let detail = "as many collections run as may".to_owned();
            return Err(ReadError::Collect(CollectError::Overloaded { detail }, None));
        };
        if ticket.joined {
            self.metrics().collapsed.inc();
        }
        Ok(ticket)
    }

    /// Waits in a flight that has not begun: once the caller needs the rest of its deadline for it, it begins.
    async fn wait_for_turn(&self, key: &Arc<str>, ticket: &mut Ticket, patience: &Patience) -> Waited {
        match ticket.landing_by(patience.begin_by).await {
            Waited::Not => {
                self.press(key, ticket);
                ticket.landing_by(patience.until).await
            }
            waited => waited,
        }
    }

    /// Waits for a flight that was under way when the caller came. Sharing it costs no answer: once the caller needs the rest
    /// of its deadline for a flight of its own, or once this one is late, it takes whichever of the two comes first. Says too
    /// whether others began what was waited for.
    async fn wait_beside_others(
        &self,
        key: &Arc<str>,
        wish: &Wish,
        rule: JoinRule,
        ticket: &mut Ticket,
        patience: &Patience,
    ) -> Result<(Waited, bool), ReadError> {
        let waited = ticket.landing_by(patience.share_until).await;
        let is_late = match &waited {
            Waited::Landed(landing) => landing.is_late(),
            Waited::Lost => false,
            Waited::Not => true,
        };
        if !is_late || Instant::now() >= patience.until {
            return Ok((waited, true));
        }
        self.metrics().unshared.inc();
        // One that others began for the same reason is as good.
        let rule = rule.and_within(patience.young_enough());
        let mut own = self.seated(key, wish, rule, false)?;
        if own.waits_for_turn() {
            self.press(key, &own);
        }
        let is_joined = own.joined;
        let own_landing = own.landing_by(patience.until);
        if matches!(waited, Waited::Landed(_)) {
            return Ok((own_landing.await, is_joined));
        }
        let shared_landing = async {
            match ticket.landing_by(patience.until).await {
                Waited::Landed(landing) if landing.result.is_ok() => Waited::Landed(landing),
                _ => std::future::pending().await,
            }
        };
        Ok(tokio::select! {
            biased;
            waited = shared_landing => (waited, true),
            waited = own_landing => (waited, is_joined),
        })
    }
}
