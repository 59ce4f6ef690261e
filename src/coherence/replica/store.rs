//! A replica that has a store: what the store gave is judged, and the store is kept up to date.

use std::sync::Arc;

use super::super::calls::{ScriptReply, StoreReport};
use super::super::entry_fence::EntryFence;
use super::super::guards::Guard;
use super::super::protocol::{
    DatasetPlace, Fence, InvalidationScope, LogEntry, Moment, SCOPES_MAX, Seq,
};
use super::super::store_calls::{
    MarkMove, StampReceipt, Stamping, StoreCall, StoreDataset, StoreFence, StoreReading,
    StoreReply, stampable_scopes,
};
use super::super::store_view::{AwaitedStep, StoreStep, StoreView};
use super::{Replica, StartPoint};

/// What the store gave.
impl Replica {
    /// The reading of a place by a flight that begins now.
    pub fn store_read(&self, place: DatasetPlace) -> StoreCall {
        StoreCall::Read { place: Some(place), told: self.told() }
    }

    /// The fence in the store of a flight that reads its sources from now on: the newest that the
    /// store gave. `None`: what the flight collects is not kept in the store.
    pub fn store_fence(&self) -> Option<StoreFence> {
        self.store.as_ref().and_then(|store| store.fence)
    }

    /// Takes what a reading says of the store, whoever asked for it.
    pub fn on_store_reading(&mut self, reading: &StoreReading) {
        let applied = self.applied();
        let Some(store) = &mut self.store else { return };
        store.see_fence(reading);
        let Some(mark) = reading.mark.filter(|mark| is_of(*mark, applied)) else { return };
        store.see_mark(mark.seq);
        self.report_mark();
    }

    /// The dataset that a flight's reading gave, if it may be handed out at `now`, a moment no
    /// earlier than the reading came. `is_shared`: a caller joined the flight after it had begun,
    /// which needed the lease.
    pub fn believed_dataset<'a>(
        &self,
        start: StartPoint,
        key: &str,
        reading: &'a StoreReading,
        is_shared: bool,
        now: Moment,
    ) -> Option<&'a StoreDataset> {
        let dataset = reading.dataset.as_ref()?;
        let tags = &dataset.tags;
        let owes = self.store.as_ref().is_some_and(|store| store.owes(key, tags));
        let mark = reading.mark.filter(|mark| self.epoch == Some(mark.epoch)).map(|mark| mark.seq);
        let has_lease = self.may_serve(now) || Guard::D7Joined.prescribes(is_shared, false);
        let is_current = if self.epoch.is_some() && has_lease {
            let is_valid = mark.is_some_and(|mark| self.stamps.is_valid(mark, key, tags));
            Guard::D7Mark.requires(is_valid)
        } else {
            let is_outdated = self.stamps.is_outdated(mark.unwrap_or(0), key, tags);
            Guard::D7OwnEntries.requires(!is_outdated)
        };
        let knew_all = start.generation == self.generation && start.debts_paid == self.debts_paid();
        (is_current && !owes && Guard::D9AskedSince.requires(knew_all)).then_some(dataset)
    }

    /// Whether a dataset that may be handed out may be kept in memory as well, and the entry fence
    /// that it shall carry.
    pub fn may_store_believed(
        &self,
        start: StartPoint,
        key: &str,
        reading: &StoreReading,
        now: Moment,
    ) -> Option<EntryFence> {
        let dataset = self.believed_dataset(start, key, reading, true, now)?;
        let fence = self.fence_of_reading(start, reading)?;
        self.entry_fence(start, fence, key, &dataset.tags, now)
    }

    /// The fence under which memory and Redis may take what a flight read in the store: the mark
    /// that was read with it. A mark beyond what is applied here is none to rely on.
    pub fn fence_of_reading(&self, start: StartPoint, reading: &StoreReading) -> Option<Fence> {
        let mark = reading.mark.filter(|mark| start.epoch == Some(mark.epoch))?;
        let seq = mark.seq.min(self.follower.applied());
        Some(Guard::D7Mark.prescribes(Fence { seq, ..mark }, Fence { seq: start.seq, ..mark }))
    }
}

/// Keeping the store up to date.
impl Replica {
    /// The next step towards a store that holds all that is applied here, if one is due at `now`.
    /// Its reply is handed to [`Self::on_store_reply`] or to [`Self::on_store_log`].
    pub fn store_step(&mut self, now: Moment) -> Option<StoreStep> {
        let step = self.due_store_step(now)?;
        let generation = self.generation;
        let store = self.store.as_mut()?;
        store.next = None;
        store.awaited = Some(AwaitedStep { sent: now, generation, step: step.clone() });
        Some(step)
    }

    /// When the next step may be due.
    pub fn next_store_wake(&self) -> Moment {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_stopped) else {
            return Moment::NEVER;
        };
        if let Some(awaited) = &store.awaited {
            return awaited.sent.after(self.config.retry_interval);
        }
        let is_owed = store.has_gone_back || store.is_in_debt() || store.next.is_some();
        match store.behind_since {
            _ if is_owed || store.is_carry_due => Moment::default(),
            Some(since) => since.after(self.config.store_patience),
            None => Moment::NEVER,
        }
    }

    /// Takes the store's reply to a step that was taken at `sent`.
    pub fn on_store_reply(&mut self, now: Moment, sent: Moment, reply: &StoreReply) {
        if matches!(reply, StoreReply::NewerProtocol(_) | StoreReply::Refused) {
            // The step is taken again as if it had not been answered.
            return;
        }
        let Some(awaited) = self.take_awaited(sent) else { return };
        match reply {
            StoreReply::Reading(reading) => {
                self.on_store_reading(reading);
                let is_behind = self.is_store_behind();
                self.change_store(|store| store.is_carry_due = is_behind);
            }
            StoreReply::Stamped(receipt) => self.on_stamped(now, &awaited, *receipt),
            StoreReply::OtherLife => self.change_store(|store| store.has_gone_back = true),
            _ => {}
        }
        self.observe_store(now);
    }

    /// Takes Redis's reply to a reading of the log that was a step, taken at `sent`.
    pub fn on_store_log(&mut self, now: Moment, sent: Moment, reply: &ScriptReply) {
        let Some(AwaitedStep { step: StoreStep::ReadLog(after), .. }) = self.take_awaited(sent)
        else {
            return;
        };
        let Some((scopes, to)) = carried(after, reply).filter(|_| is_of(after, self.applied()))
        else {
            return self.change_store(|store| store.pause_carry(now));
        };
        let mark_move = Some(MarkMove { epoch: after.epoch, from: after.seq, to });
        let stamping = Stamping { scopes, mark_move, told: self.told() };
        self.change_store(|store| {
            store.next = Some(StoreStep::Call(StoreCall::Stamp(stamping)));
        });
        self.observe_store(now);
    }

    /// The store has gone back, as a reading of a flight shows.
    pub fn on_store_gone_back(&mut self) {
        self.change_store(|store| store.has_gone_back = true);
    }

    /// A flight could not use what it read, because the mark was behind: who finds that carries.
    pub fn on_store_found_behind(&mut self) {
        let is_behind = self.is_store_behind();
        self.change_store(|store| store.is_carry_due |= is_behind);
    }

    /// How many times a debt was paid.
    pub(super) fn debts_paid(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.debts_paid)
    }

    /// Up to where the store is known to hold the stamps of the replica's epoch.
    pub fn store_mark(&self) -> Option<Fence> {
        let (store, applied) = (self.store.as_ref()?, self.applied()?);
        store.mark.map(|seq| Fence { seq, ..applied })
    }

    /// Whether something that was applied here is not known to be stamped.
    pub fn owes_store(&self) -> bool {
        self.store.as_ref().is_some_and(StoreView::is_in_debt) || self.is_store_behind()
    }

    /// The report of a heartbeat.
    pub(super) fn store_report(&self) -> Option<StoreReport> {
        let id = self.store.as_ref()?.id.clone();
        Some(StoreReport { id, mark: self.store_mark() })
    }

    /// Takes what Redis says of the store's mark. It is none beyond the log's end.
    pub(super) fn take_told_mark(&mut self, told: Option<Seq>, log_end: Seq) {
        if let Some(told) = told.filter(|told| *told <= log_end) {
            self.change_store(|store| store.told = store.told.max(told));
        }
    }

    /// The epoch that is followed is over: what was applied in it and not seen stamped is owed.
    pub(super) fn leave_epoch(&mut self) {
        let Some(store) = &mut self.store else { return };
        let above = store.mark.unwrap_or(0);
        let applied = Guard::D9Owed.prescribes(self.stamps.applied_after(above), Vec::new());
        store.enter_epoch(applied, self.generation + 1);
    }

    /// Notes since when the mark is behind.
    pub(super) fn observe_store(&mut self, now: Moment) {
        let is_behind = self.is_store_behind();
        self.change_store(|store| {
            store.behind_since = is_behind.then(|| store.behind_since.unwrap_or(now));
            store.is_carry_due &= is_behind;
        });
    }

    fn due_store_step(&self, now: Moment) -> Option<StoreStep> {
        let store = self.store.as_ref()?;
        if now < self.next_store_wake() {
            return None;
        }
        if let Some(next) = &store.next {
            return Some(next.clone());
        }
        let told = self.told();
        if store.has_gone_back || store.is_in_debt() {
            let scopes = stampable_scopes(store.debt());
            let stamping = Stamping { scopes, mark_move: None, told };
            return Some(StoreStep::Call(StoreCall::Stamp(stamping)));
        }
        if !store.is_carry_due {
            return Some(StoreStep::Call(StoreCall::Read { place: None, told }));
        }
        self.carry_step()
    }

    /// The stamping that carries what is applied above the mark; where that is not known here, the
    /// reading of the log before it.
    fn carry_step(&self) -> Option<StoreStep> {
        let applied = self.applied()?;
        let from = self.store.as_ref()?.mark.unwrap_or(0);
        let Some(scopes) = self.stamps.scopes_after(from).filter(|it| it.len() <= SCOPES_MAX)
        else {
            return Some(StoreStep::ReadLog(Fence { seq: from, ..applied }));
        };
        let mark_move = Some(MarkMove { epoch: applied.epoch, from, to: applied.seq });
        let stamping = Stamping { scopes: stampable_scopes(&scopes), mark_move, told: self.told() };
        Some(StoreStep::Call(StoreCall::Stamp(stamping)))
    }

    fn on_stamped(&mut self, now: Moment, awaited: &AwaitedStep, receipt: StampReceipt) {
        let applied = self.applied();
        let StoreStep::Call(StoreCall::Stamp(stamping)) = &awaited.step else { return };
        self.change_store(|store| {
            if stamping.mark_move.is_none() {
                store.has_gone_back = false;
                store.pay_debt(awaited.generation);
            }
            let before = store.mark;
            if let Some(mark) = receipt.mark.filter(|mark| is_of(*mark, applied)) {
                store.see_mark(mark.seq);
            }
            if store.mark == before {
                store.pause_carry(now);
            }
        });
        self.report_mark();
    }

    fn take_awaited(&mut self, sent: Moment) -> Option<AwaitedStep> {
        self.store.as_mut()?.awaited.take_if(|awaited| awaited.sent == sent)
    }

    fn change_store(&mut self, change: impl FnOnce(&mut StoreView)) {
        if let Some(store) = &mut self.store {
            change(store);
        }
    }

    /// Requests a heartbeat if Redis was told less than the mark: somebody may wait for it.
    fn report_mark(&mut self) {
        if self.store.as_ref().is_some_and(|store| store.mark > Some(store.told)) {
            self.schedule.request_heartbeat();
        }
    }

    fn is_store_behind(&self) -> bool {
        let Some((store, applied)) = self.store.as_ref().zip(self.applied()) else { return false };
        store.mark.is_none_or(|mark| mark < applied.seq)
    }

    /// The epoch that is followed, with the highest mark of it that Redis was told or that was seen
    /// here.
    fn told(&self) -> Option<Fence> {
        let (store, applied) = (self.store.as_ref()?, self.applied()?);
        Some(Fence { seq: store.told.max(store.mark.unwrap_or(0)), ..applied })
    }
}

fn is_of(mark: Fence, applied: Option<Fence>) -> bool {
    applied.is_some_and(|applied| applied.epoch == mark.epoch)
}

/// What the log's entries after a place name, and up to where: as many entries as one stamping may
/// have names of.
fn carried(after: Fence, reply: &ScriptReply) -> Option<(Arc<[InvalidationScope]>, Seq)> {
    match reply {
        ScriptReply::Log { epoch, entries } if *epoch == after.epoch => {
            let mut names = 0;
            let fits = |entry: &&LogEntry| {
                names += entry.scopes.len();
                names <= SCOPES_MAX
            };
            let entries: Vec<_> = entries.iter().take_while(fits).collect();
            let scopes = entries.iter().flat_map(|entry| entry.scopes.iter());
            Some((stampable_scopes(scopes), entries.last()?.seq))
        }
        ScriptReply::LogTruncated(end) if end.epoch == after.epoch => {
            let all = Guard::D3LogTooOld.prescribes(vec![InvalidationScope::All], Vec::new());
            Some((all.into(), end.seq))
        }
        _ => None,
    }
}
