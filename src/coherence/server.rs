//! What each Redis script does, as a pure function on one life's data: the reference that the Lua
//! scripts are held to.
//!
//! One call is one atomic step. There is no clock: what expires in Redis (datasets, claims) is
//! dropped from outside by [`Server::expire`], which may happen at any time, since nothing that
//! keeps a promise depends on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::calls::{Answer, Call, Fetched, Heartbeat, Issued, Request, Stored, Told};
use super::guards::{Guard, Guards};
use super::stamps::Stamps;
use super::words::{
    Entry, Epoch, Fence, LEASE_MAX, Life, Name, Place, Published, Scope, Seq, are_tags,
};

/// What Redis keeps of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    limits: Limits,
    log: Option<Log>,
    datasets: BTreeMap<Place, Stored>,
    claims: BTreeMap<Place, Claim>,
    guards: Guards,
}

/// How much Redis keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Entries of the stream.
    pub entries_max: usize,
    /// Stamps of keys and tags.
    pub stamps_max: usize,
}

/// The meta hash with what lives and dies with it. The stream and the stamps are keys of their own
/// in Redis; a new epoch deletes both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Log {
    protocol: u32,
    life: Life,
    epoch: Epoch,
    seq: Seq,
    settled: bool,
    registry: BTreeMap<Name, Registration>,
    stream: VecDeque<Entry>,
    stamps: Stamps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Registration {
    /// What its last heartbeat was told.
    told: Seq,
    /// The most that it reported as applied, in this epoch.
    reported: Seq,
    lease: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Claim {
    holder: Name,
    fence: Fence,
}

/// What a call led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For the caller.
    pub answer: Answer,
    /// For every subscriber.
    pub published: Option<Published>,
}

impl Server {
    /// A server without data.
    pub fn new(limits: Limits, guards: Guards) -> Self {
        Self { limits, log: None, datasets: BTreeMap::new(), claims: BTreeMap::new(), guards }
    }

    /// Runs one script in this life of the server.
    pub fn run(&mut self, life: Life, request: &Request) -> Outcome {
        let quiet = |answer| Outcome { answer, published: None };
        if let Some(log) = self.log.as_ref().filter(|log| log.protocol > request.protocol) {
            return quiet(Answer::Newer(log.protocol));
        }
        if !self.is_of(life) || self.has_lost_entries(&request.call) {
            if !request.call.may_begin() {
                return quiet(Answer::OtherLife);
            }
            self.log = Some(self.begin(life, request));
        }
        let Some(log) = self.log.as_mut() else { return quiet(Answer::OtherLife) };
        match &request.call {
            Call::Invalidate { scopes, unless_above } => {
                if log.already_stamped(scopes, *unless_above) {
                    quiet(Answer::Issued(log.issued()))
                } else {
                    log.invalidate(scopes.clone(), self.limits)
                }
            }
            Call::Heartbeat(beat) => quiet(Answer::Told(log.heartbeat(beat))),
            Call::Deregister(name) => quiet(Answer::Done(log.registry.remove(name).is_some())),
            Call::Progress { token, lapsed, settles, laggard } => {
                quiet(log.progress(*token, *lapsed, *settles, laggard.as_ref(), self.guards))
            }
            Call::ReadLog { after, max } => quiet(log.read(*after, *max)),
            Call::Vouch { key, tags, fence } => {
                quiet(Answer::Done(log.believes(*fence, key, tags)))
            }
            Call::Store { place, dataset, .. } => quiet(Answer::Done(self.store(place, dataset))),
            Call::Fetch { place, bytes_max } => quiet(self.fetch(place, *bytes_max)),
            Call::Claim { place, holder, fence, bytes_max } => {
                quiet(self.claim(place, holder, *fence, *bytes_max))
            }
            Call::Release { place, holder } => quiet(Answer::Done(self.release(place, holder))),
        }
    }

    /// Drops the claim on a place, as its time to live would.
    pub fn expire(&mut self, place: &Place) {
        self.claims.remove(place);
    }

    fn is_of(&self, life: Life) -> bool {
        self.log.as_ref().is_some_and(|log| log.life == life || !self.guards.hold(Guard::Life))
    }

    /// Whether a sidecar has applied, in this epoch, what the log does not have: the log is
    /// damaged.
    fn has_lost_entries(&self, call: &Call) -> bool {
        let Call::Heartbeat(Heartbeat { applied: Some(applied), .. }) = call else { return false };
        self.log.as_ref().is_some_and(|log| log.epoch == applied.epoch && log.seq < applied.seq)
    }

    fn begin(&self, life: Life, request: &Request) -> Log {
        Log {
            protocol: request.protocol,
            life,
            epoch: request.fresh,
            seq: 0,
            settled: false,
            registry: BTreeMap::new(),
            stream: VecDeque::new(),
            stamps: Stamps::new(self.limits.stamps_max, 0, self.guards),
        }
    }

    fn store(&mut self, place: &Place, dataset: &Stored) -> bool {
        let Some(log) = &self.log else { return false };
        if !are_tags(&dataset.tags) {
            return false;
        }
        let refuses = self.guards.hold(Guard::WriteFence);
        if refuses && !log.believes(dataset.fence, &place.key, &dataset.tags) {
            return false;
        }
        self.datasets.insert(self.filed(place), dataset.clone());
        true
    }

    fn fetch(&self, place: &Place, bytes_max: u64) -> Answer {
        let (Some(log), Some(dataset)) = (&self.log, self.datasets.get(&self.filed(place))) else {
            return Answer::Miss;
        };
        let looks = self.guards.hold(Guard::ReadStamp);
        if looks && !log.believes(dataset.fence, &place.key, &dataset.tags) {
            return Answer::Miss;
        }
        let bytes = u64::try_from(dataset.body.len()).unwrap_or(u64::MAX);
        if bytes > bytes_max {
            return Answer::Large(bytes);
        }
        Answer::Hit(Fetched { vouched: log.end(), left: Duration::ZERO, dataset: dataset.clone() })
    }

    /// Grants the claim if nobody else holds it, or if what its holder collects is outdated
    /// already; unless the dataset is there.
    fn claim(
        &mut self,
        place: &Place,
        holder: &Name,
        fence: Fence,
        bytes_max: Option<u64>,
    ) -> Answer {
        let Some(log) = self.log.as_ref().filter(|log| log.epoch == fence.epoch) else {
            return Answer::OtherLife;
        };
        let is_holder = self.claims.get(place).is_some_and(|claim| claim.holder == *holder);
        if let Some(bytes_max) = bytes_max.filter(|_| !is_holder)
            && let there @ (Answer::Hit(_) | Answer::Large(_)) = self.fetch(place, bytes_max)
        {
            return there;
        }
        if let Some(claim) = self.claims.get(place) {
            let is_in_log = claim.fence.epoch == log.epoch && claim.fence.seq <= log.seq;
            let alive = is_in_log && log.stamps.believe_in_the_air(claim.fence.seq, &place.key);
            if alive && claim.holder != *holder {
                return Answer::Held(claim.holder.clone());
            }
        }
        self.claims.insert(place.clone(), Claim { holder: holder.clone(), fence });
        Answer::Done(true)
    }

    fn release(&mut self, place: &Place, holder: &Name) -> bool {
        let held = self.claims.get(place).is_some_and(|claim| claim.holder == *holder);
        if held {
            self.claims.remove(place);
        }
        held
    }

    fn filed(&self, place: &Place) -> Place {
        if self.guards.hold(Guard::Plan) {
            return place.clone();
        }
        Place { key: place.key.clone(), plan: "".into() }
    }
}

impl Log {
    fn end(&self) -> Fence {
        Fence { epoch: self.epoch, seq: self.seq }
    }

    fn longest(&self) -> Duration {
        let leases = self.registry.values().map(|registration| registration.lease);
        leases.filter(|lease| *lease <= LEASE_MAX).max().unwrap_or_default()
    }

    fn issued(&self) -> Issued {
        let registered = self.registry.len();
        Issued { token: self.end(), longest: self.longest(), settled: self.settled, registered }
    }

    fn heartbeat(&mut self, beat: &Heartbeat) -> Told {
        let applied = beat.applied.filter(|applied| applied.epoch == self.epoch);
        self.settled |= beat.settles && applied.is_some();
        let reported = applied.map_or(0, |applied| applied.seq);
        let before = self.registry.get(&beat.name).map_or(0, |registration| registration.reported);
        let registration =
            Registration { told: self.seq, reported: reported.max(before), lease: beat.lease };
        self.registry.insert(beat.name.clone(), registration);
        Told { end: self.end(), longest: self.longest(), settled: self.settled }
    }

    fn already_stamped(&self, scopes: &[Scope], unless_above: Option<Fence>) -> bool {
        unless_above.is_some_and(|bound| {
            bound.epoch == self.epoch
                && scopes.iter().all(|scope| self.stamps.newer_than(bound.seq, scope))
        })
    }

    fn invalidate(&mut self, scopes: Arc<[Scope]>, limits: Limits) -> Outcome {
        self.seq += 1;
        for scope in scopes.iter() {
            self.stamps.stamp(scope, self.seq);
        }
        let entry = Entry { seq: self.seq, scopes };
        self.stream.push_back(entry.clone());
        while self.stream.len() > limits.entries_max {
            self.stream.pop_front();
        }
        let published = Published { epoch: self.epoch, entries: vec![entry] };
        Outcome { answer: Answer::Issued(self.issued()), published: Some(published) }
    }

    fn progress(
        &mut self,
        token: Fence,
        lapsed: bool,
        settles: bool,
        laggard: Option<&Name>,
        guards: Guards,
    ) -> Answer {
        if token.epoch != self.epoch && guards.hold(Guard::Over) {
            return Answer::OtherLife;
        }
        self.settled |= settles;
        let lags =
            |name: &&Name| self.registry.get(*name).is_some_and(|of| of.reported < token.seq);
        if let Some(name) = laggard.filter(|name| !lapsed && lags(name)) {
            return Answer::Progress { settled: self.settled, behind: vec![name.clone()] };
        }
        let behind = self.registry.iter().filter(|(_, of)| of.reported < token.seq);
        let behind = behind.map(|(name, _)| name.clone()).collect();
        if lapsed {
            let told = guards.hold(Guard::Silent);
            self.registry
                .retain(|_, of| if told { of.told >= token.seq } else { of.reported >= token.seq });
        }
        Answer::Progress { settled: self.settled, behind }
    }

    fn read(&self, after: Fence, max: usize) -> Answer {
        if after.epoch != self.epoch {
            return Answer::OtherLife;
        }
        let later = || self.stream.iter().filter(|entry| entry.seq > after.seq);
        let next = later().next().map_or(Seq::MAX, |entry| entry.seq);
        if after.seq < self.seq && next > after.seq + 1 {
            return Answer::TooOld(self.end());
        }
        let entries = later().take(max).cloned();
        Answer::Log { epoch: self.epoch, entries: entries.collect() }
    }

    fn believes(&self, fence: Fence, key: &str, tags: &[Arc<str>]) -> bool {
        let is_in_log = fence.epoch == self.epoch && fence.seq <= self.seq;
        is_in_log && are_tags(tags) && self.stamps.believe(fence.seq, key, tags)
    }
}
