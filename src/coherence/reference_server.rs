//! The reference of the Redis scripts: what each does, as a pure function on the data of one life.
//! The Lua scripts are tested against it.
//!
//! One call is one atomic step. There is no clock: a test expires claims by
//! [`ReferenceServer::expire_claim`] at any time, since no promise depends on when a claim or a
//! dataset expires.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::calls::{
    FetchedDataset, Heartbeat, HeartbeatReply, IssuedInvalidation, ScriptCall, ScriptReply,
    ScriptRequest, StoreReport, TierDataset,
};
use super::guards::Guard;
use super::protocol::{
    DatasetPlace, Epoch, Fence, InvalidationScope, LEASE_MAX, LogEntry, MemberName,
    PublishedEntries, Seq, ServerLife, are_valid_tags,
};
use super::stamps::Stamps;
use super::store_calls::{StoreId, StoreMark};

/// The data of one domain in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReferenceServer {
    limits: LogLimits,
    log: Option<ReferenceLog>,
    datasets: BTreeMap<DatasetPlace, TierDataset>,
    claims: BTreeMap<DatasetPlace, ReferenceClaim>,
}

/// The bounds of a log in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogLimits {
    /// The most entries of the stream.
    pub entries_max: usize,
    /// The most stamps of keys and tags.
    pub stamps_max: usize,
}

/// The log: the meta hash, the stream and the stamps. The latter two are keys of their own in
/// Redis; a new epoch deletes both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReferenceLog {
    protocol: u32,
    life: ServerLife,
    epoch: Epoch,
    seq: Seq,
    settled: bool,
    registry: BTreeMap<MemberName, Registration>,
    /// For each store that a heartbeat of this epoch named, the highest mark of this epoch.
    stores: BTreeMap<StoreId, Seq>,
    stream: VecDeque<LogEntry>,
    stamps: Stamps,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Registration {
    /// The `seq` in the reply to its last heartbeat.
    told_seq: Seq,
    /// The highest `seq` that it reported as applied in this epoch.
    reported_seq: Seq,
    lease: Duration,
    store: Option<StoreId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReferenceClaim {
    holder: MemberName,
    fence: Fence,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptOutcome {
    /// The reply to the caller.
    pub answer: ScriptReply,
    /// The message to every subscriber.
    pub published: Option<PublishedEntries>,
}

impl ReferenceServer {
    /// A server without data.
    pub fn new(limits: LogLimits) -> Self {
        Self { limits, log: None, datasets: BTreeMap::new(), claims: BTreeMap::new() }
    }

    /// Runs one script in this life of the server.
    pub fn run(&mut self, life: ServerLife, request: &ScriptRequest) -> ScriptOutcome {
        let unpublished = |answer| ScriptOutcome { answer, published: None };
        if let Some(log) = self.log.as_ref().filter(|log| log.protocol > request.protocol) {
            return unpublished(ScriptReply::NewerProtocol(log.protocol));
        }
        if !self.is_of_life(life) || self.has_lost_entries(&request.call) {
            if !request.call.may_begin_epoch() {
                return unpublished(ScriptReply::OtherLife);
            }
            self.log = Some(self.begin_epoch(life, request));
        }
        let Some(log) = self.log.as_mut() else { return unpublished(ScriptReply::OtherLife) };
        match &request.call {
            ScriptCall::Invalidate { scopes, unless_above } => {
                if log.are_stamped_above(scopes, *unless_above) {
                    unpublished(ScriptReply::Issued(log.issued_reply()))
                } else {
                    log.invalidate(scopes.clone(), self.limits)
                }
            }
            ScriptCall::Heartbeat(beat) => unpublished(ScriptReply::Heartbeat(log.register(beat))),
            ScriptCall::Deregister(name) => {
                let was_registered = log.registry.remove(name).is_some();
                log.drop_unnamed_stores();
                unpublished(ScriptReply::Done(was_registered))
            }
            ScriptCall::Progress { token, lease_has_passed, marks_settled, laggard } => {
                unpublished(log.progress_reply(
                    *token,
                    *lease_has_passed,
                    *marks_settled,
                    laggard.as_ref(),
                ))
            }
            ScriptCall::ReadLog { after, max } => unpublished(log.read_entries(*after, *max)),
            ScriptCall::Store { place, dataset, .. } => {
                unpublished(ScriptReply::Done(self.store(place, dataset)))
            }
            ScriptCall::Fetch { place, bytes_max } => unpublished(self.fetch(place, *bytes_max)),
            ScriptCall::Claim { place, holder, fence, bytes_max } => {
                unpublished(self.claim(place, holder, *fence, *bytes_max))
            }
            ScriptCall::Release { place, holder } => {
                unpublished(ScriptReply::Done(self.release(place, holder)))
            }
        }
    }

    /// Drops the claim on a place, as its time to live would.
    pub fn expire_claim(&mut self, place: &DatasetPlace) {
        self.claims.remove(place);
    }

    /// Drops a store from the registry, as its owner does who has taken it away from every sidecar.
    pub fn forget_store(&mut self, store: &StoreId) {
        if let Some(log) = &mut self.log {
            log.stores.remove(store);
        }
    }

    fn is_of_life(&self, life: ServerLife) -> bool {
        self.log.as_ref().is_some_and(|log| Guard::R1Life.requires(log.life == life))
    }

    /// Whether a sidecar reports an entry of this epoch that the log does not have: then the log is
    /// damaged.
    fn has_lost_entries(&self, call: &ScriptCall) -> bool {
        let ScriptCall::Heartbeat(Heartbeat { applied: Some(applied), .. }) = call else {
            return false;
        };
        self.log.as_ref().is_some_and(|log| log.epoch == applied.epoch && log.seq < applied.seq)
    }

    fn begin_epoch(&self, life: ServerLife, request: &ScriptRequest) -> ReferenceLog {
        ReferenceLog {
            protocol: request.protocol,
            life,
            epoch: request.fresh_epoch,
            seq: 0,
            settled: false,
            registry: BTreeMap::new(),
            stores: BTreeMap::new(),
            stream: VecDeque::new(),
            stamps: Stamps::new(self.limits.stamps_max, 0),
        }
    }

    fn store(&mut self, place: &DatasetPlace, dataset: &TierDataset) -> bool {
        let Some(log) = &self.log else { return false };
        if !are_valid_tags(&dataset.tags) {
            return false;
        }
        let is_valid = log.is_valid(dataset.fence, &place.key, &dataset.tags);
        if !Guard::R3WriteFence.requires(is_valid) {
            return false;
        }
        self.datasets.insert(Self::stored_place(place), dataset.clone());
        true
    }

    fn fetch(&self, place: &DatasetPlace, bytes_max: u64) -> ScriptReply {
        let (Some(log), Some(dataset)) = (&self.log, self.datasets.get(&Self::stored_place(place)))
        else {
            return ScriptReply::Miss;
        };
        let is_valid = log.is_valid(dataset.fence, &place.key, &dataset.tags);
        if !Guard::R3ReadStamp.requires(is_valid) {
            return ScriptReply::Miss;
        }
        let bytes = u64::try_from(dataset.body.len()).unwrap_or(u64::MAX);
        if bytes > bytes_max {
            return ScriptReply::Large(bytes);
        }
        ScriptReply::Hit(FetchedDataset {
            valid_up_to: log.log_end(),
            ttl_left: Duration::ZERO,
            dataset: dataset.clone(),
        })
    }

    /// Grants the claim if no other flight holds it, or if the holder's flight is outdated already;
    /// if the dataset is there, answers with that.
    fn claim(
        &mut self,
        place: &DatasetPlace,
        holder: &MemberName,
        fence: Fence,
        bytes_max: Option<u64>,
    ) -> ScriptReply {
        let Some(log) = self.log.as_ref().filter(|log| log.epoch == fence.epoch) else {
            return ScriptReply::OtherLife;
        };
        let is_holder = self.claims.get(place).is_some_and(|claim| claim.holder == *holder);
        if let Some(bytes_max) = bytes_max.filter(|_| !is_holder)
            && let existing @ (ScriptReply::Hit(_) | ScriptReply::Large(_)) =
                self.fetch(place, bytes_max)
        {
            return existing;
        }
        if let Some(claim) = self.claims.get(place) {
            let is_in_log = claim.fence.epoch == log.epoch && claim.fence.seq <= log.seq;
            let is_alive = is_in_log && log.stamps.is_flight_valid(claim.fence.seq, &place.key);
            if is_alive && claim.holder != *holder {
                return ScriptReply::HeldBy(claim.holder.clone());
            }
        }
        self.claims.insert(place.clone(), ReferenceClaim { holder: holder.clone(), fence });
        ScriptReply::Done(true)
    }

    fn release(&mut self, place: &DatasetPlace, holder: &MemberName) -> bool {
        let held = self.claims.get(place).is_some_and(|claim| claim.holder == *holder);
        if held {
            self.claims.remove(place);
        }
        held
    }

    /// The key under which Redis keeps a dataset.
    fn stored_place(place: &DatasetPlace) -> DatasetPlace {
        let plan = Guard::R3Plan.prescribes(place.plan.clone(), "".into());
        DatasetPlace { key: place.key.clone(), plan }
    }
}

impl ReferenceLog {
    fn log_end(&self) -> Fence {
        Fence { epoch: self.epoch, seq: self.seq }
    }

    fn longest_lease(&self) -> Duration {
        let leases = self.registry.values().map(|registration| registration.lease);
        leases.filter(|lease| *lease <= LEASE_MAX).max().unwrap_or_default()
    }

    fn issued_reply(&self) -> IssuedInvalidation {
        let registered = self.registry.len();
        IssuedInvalidation {
            token: self.log_end(),
            longest_lease: self.longest_lease(),
            settled: self.settled,
            registered_members: registered,
            stores: self.store_marks(),
        }
    }

    fn register(&mut self, beat: &Heartbeat) -> HeartbeatReply {
        let applied = beat.applied.filter(|applied| applied.epoch == self.epoch);
        self.settled |= beat.marks_settled && applied.is_some();
        let reported = applied.map_or(0, |applied| applied.seq);
        let reported_before =
            self.registry.get(&beat.name).map_or(0, |registration| registration.reported_seq);
        let registration = Registration {
            told_seq: self.seq,
            reported_seq: reported.max(reported_before),
            lease: beat.lease,
            store: beat.store.as_ref().map(|store| store.id.clone()),
        };
        self.registry.insert(beat.name.clone(), registration);
        HeartbeatReply {
            log_end: self.log_end(),
            longest_lease: self.longest_lease(),
            settled: self.settled,
            store_mark: beat.store.as_ref().map(|store| self.register_store(store)),
        }
    }

    /// Notes a store, and the highest mark of this epoch that was told of it. A mark beyond the
    /// log's end is no mark.
    fn register_store(&mut self, report: &StoreReport) -> Seq {
        let is_mark = |mark: &Fence| mark.epoch == self.epoch && mark.seq <= self.seq;
        let told = report.mark.filter(is_mark).map_or(0, |mark| mark.seq);
        let mark = self.stores.entry(report.id.clone()).or_default();
        *mark = told.max(*mark);
        *mark
    }

    fn store_marks(&self) -> Vec<StoreMark> {
        let marks = self.stores.iter();
        marks.map(|(id, &mark)| StoreMark { id: id.clone(), mark }).collect()
    }

    /// Without the rule that stores stay: drops those that no registration names.
    fn drop_unnamed_stores(&mut self) {
        let registry = &self.registry;
        self.stores.retain(|id, _| {
            let is_named = registry.values().any(|member| member.store.as_ref() == Some(id));
            Guard::D8StoresStay.prescribes(true, is_named)
        });
    }

    fn are_stamped_above(&self, scopes: &[InvalidationScope], unless_above: Option<Fence>) -> bool {
        unless_above.is_some_and(|bound| {
            bound.epoch == self.epoch
                && scopes.iter().all(|scope| self.stamps.is_stamped_after(bound.seq, scope))
        })
    }

    fn invalidate(&mut self, scopes: Arc<[InvalidationScope]>, limits: LogLimits) -> ScriptOutcome {
        self.seq += 1;
        for scope in scopes.iter() {
            self.stamps.stamp(scope, self.seq);
        }
        let entry = LogEntry { seq: self.seq, scopes };
        self.stream.push_back(entry.clone());
        while self.stream.len() > limits.entries_max {
            self.stream.pop_front();
        }
        let published = PublishedEntries { epoch: self.epoch, entries: vec![entry] };
        ScriptOutcome {
            answer: ScriptReply::Issued(self.issued_reply()),
            published: Some(published),
        }
    }

    fn progress_reply(
        &mut self,
        token: Fence,
        lease_has_passed: bool,
        marks_settled: bool,
        laggard: Option<&MemberName>,
    ) -> ScriptReply {
        if !Guard::A1OwnEpoch.requires(token.epoch == self.epoch) {
            return ScriptReply::OtherLife;
        }
        self.settled |= marks_settled;
        let lags = |name: &&MemberName| {
            self.registry.get(*name).is_some_and(|member| member.reported_seq < token.seq)
        };
        if let Some(name) = laggard.filter(|name| !lease_has_passed && lags(name)) {
            return ScriptReply::Progress {
                settled: self.settled,
                laggards: vec![name.clone()],
                stores: self.store_marks(),
            };
        }
        let laggards = self.registry.iter().filter(|(_, member)| member.reported_seq < token.seq);
        let laggards = laggards.map(|(name, _)| name.clone()).collect();
        if lease_has_passed {
            self.registry.retain(|_, member| {
                let kept_seq =
                    Guard::A2SilentToldLess.prescribes(member.told_seq, member.reported_seq);
                kept_seq >= token.seq
            });
            self.drop_unnamed_stores();
        }
        ScriptReply::Progress { settled: self.settled, laggards, stores: self.store_marks() }
    }

    fn read_entries(&self, after: Fence, max: usize) -> ScriptReply {
        if after.epoch != self.epoch {
            return ScriptReply::OtherLife;
        }
        let later = || self.stream.iter().filter(|entry| entry.seq > after.seq);
        let next = later().next().map_or(Seq::MAX, |entry| entry.seq);
        if after.seq < self.seq && next > after.seq + 1 {
            return ScriptReply::LogTruncated(self.log_end());
        }
        let entries = later().take(max).cloned();
        ScriptReply::Log { epoch: self.epoch, entries: entries.collect() }
    }

    fn is_valid(&self, fence: Fence, key: &str, tags: &[Arc<str>]) -> bool {
        let is_in_log = fence.epoch == self.epoch && fence.seq <= self.seq;
        is_in_log && are_valid_tags(tags) && self.stamps.is_valid(fence.seq, key, tags)
    }
}
