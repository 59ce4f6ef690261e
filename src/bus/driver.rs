//! The one task of the bus: it feeds the state machines of all domains with what happens, and does
//! what they say.
//!
//! Everything that waits for Redis runs beside it in a set that it owns; it never waits itself.
//! When it is told to stop, it gives up every lease, and then deregisters.

mod heartbeats;
mod membership;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use self::heartbeats::Beat;
use self::trouble::Troubles;
use super::clock;
use super::connection::Links;
use super::core::{Ahead, Core, Domain};
use super::fault::Fault;
use super::format;
use super::frames::ReplyExcess;
use super::happening::What;
use super::inbox::{Inbox, Message, Outlet, inbox};
use super::settings::Settings;
use crate::coherence::{Action, Answer, Call, Event, Fence, Heartbeat, Moment, Published, Scope};

/// Messages taken in one turn.
const BATCH: usize = 256;
/// Entries that one reading of the log asks for.
const PAGE_MAX: usize = 1_024;
/// Hints that are being handled; a further one is dropped, as one that nobody heard.
const HINTS_MAX: usize = 64;
/// Between two looks at the leases, for the metrics.
const LOOK: Duration = Duration::from_millis(250);
/// Between two times that the same excess of a server is said.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Between two tries to connect, at first and at the most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// What deregistering may take.
const LEAVE_MAX: Duration = Duration::from_millis(500);

/// The task: [`Driver::run`] is to be spawned by who owns the bus.
#[derive(Debug)]
pub struct Driver {
    core: Arc<Core>,
    settings: Arc<Settings>,
    outlet: Outlet,
    inbox: Inbox,
    ahead: Ahead,
    links: Option<Arc<Links>>,
    tasks: JoinSet<Done>,
    domains: BTreeMap<Arc<str>, Known>,
    /// Which domain a channel is of, and whether it carries hints.
    channels: HashMap<Vec<u8>, (Arc<Domain>, bool)>,
    beats: Vec<(Arc<Domain>, Moment, Heartbeat)>,
    hints: usize,
    silent: usize,
    backoff: Duration,
    /// What a server sent beyond what was asked for, and when that was last said.
    outgrown: Option<(ReplyExcess, Moment)>,
    troubles: Troubles,
}

/// A domain, and what was last said of it.
#[derive(Debug)]
struct Known {
    domain: Arc<Domain>,
    held: bool,
    looked: Moment,
    /// Heartbeats in a row that stayed unanswered.
    silent: usize,
}

/// What ran beside.
#[derive(Debug)]
enum Done {
    Connected(Result<(Links, Vec<Arc<Domain>>), Fault>),
    Subscribed(Arc<Links>, Arc<Domain>, Result<(), Fault>),
    Beats(Option<Arc<Links>>, Vec<Beat>),
    Log(Arc<Domain>, Result<Answer, Fault>),
    Hinted(Arc<Domain>, Result<Answer, Fault>),
    Left,
}

impl Driver {
    pub(super) fn new(core: Arc<Core>, settings: Settings, ahead: Ahead) -> Self {
        let (outlet, inbox) = inbox();
        Self {
            core,
            settings: Arc::new(settings),
            outlet,
            inbox,
            ahead,
            links: None,
            tasks: JoinSet::new(),
            domains: BTreeMap::new(),
            channels: HashMap::new(),
            beats: Vec::new(),
            hints: 0,
            silent: 0,
            backoff: BACKOFF.0,
            outgrown: None,
            troubles: Troubles::default(),
        }
    }

    /// Runs until `stop`; then gives up the leases and leaves the registry.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        self.follow_domains();
        self.connect(Duration::ZERO);
        loop {
            self.tick();
            self.send_beats();
            let due = self.look();
            let links = self.links.clone();
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.core.changed.notified() => self.follow_domains(),
                Some(done) = self.tasks.join_next() => self.done(done),
                () = ended(links.as_deref()) => self.lost(),
                message = self.inbox.next() => self.hear(message),
                Some((domain, published)) = self.ahead.recv() => self.apply_ahead(&domain, published),
                () = sleep(due) => {}
            }
        }
        self.leave().await;
    }

    /// Hands an event to a domain's state machine, and does what it says.
    fn handle(&mut self, domain: &Arc<Domain>, event: Event) {
        let (now, mut actions) = (clock::now(), Vec::new());
        domain.sidecar_mut().handle(now, event, &mut actions);
        for action in actions {
            if let Some(action) = self.core.memory(domain, action) {
                self.act(domain, now, action);
            }
        }
    }

    fn handle_all(&mut self, event: &Event) {
        for domain in self.all() {
            self.handle(&domain, event.clone());
        }
    }

    fn all(&self) -> Vec<Arc<Domain>> {
        self.domains.values().map(|known| Arc::clone(&known.domain)).collect()
    }

    fn act(&mut self, domain: &Arc<Domain>, now: Moment, action: Action) {
        match action {
            Action::Heartbeat(beat) => self.beats.push((Arc::clone(domain), now, beat)),
            Action::ReadLog(after) => self.read_log(domain, after),
            Action::Invalidate { scopes, unless_above } => {
                self.pass_on(domain, scopes, unless_above);
            }
            Action::Deregister(name) => {
                let (core, domain) = (Arc::clone(&self.core), Arc::clone(domain));
                self.tasks.spawn(async move {
                    let _ =
                        core.ask(&domain, Call::Deregister(name), Duration::ZERO, LEAVE_MAX).await;
                    Done::Left
                });
            }
            Action::Applied(_) | Action::EmptyMemory(_) => {}
        }
    }

    fn read_log(&mut self, domain: &Arc<Domain>, after: Fence) {
        self.core.metrics.caught_up(&domain.name);
        let (core, domain) = (Arc::clone(&self.core), Arc::clone(domain));
        self.tasks.spawn(async move {
            let call = Call::ReadLog { after, max: PAGE_MAX };
            let answered = core.ask(&domain, call, Duration::ZERO, core.patience()).await;
            Done::Log(domain, answered)
        });
    }

    /// Runs the script for a hint.
    fn pass_on(&mut self, domain: &Arc<Domain>, scopes: Arc<[Scope]>, unless_above: Option<Fence>) {
        if self.hints >= HINTS_MAX {
            self.core.metrics.hints_dropped.inc();
            return;
        }
        self.hints += 1;
        let (core, domain) = (Arc::clone(&self.core), Arc::clone(domain));
        self.tasks.spawn(async move {
            let call = Call::Invalidate { scopes, unless_above };
            let answered = core.ask(&domain, call, Duration::ZERO, core.patience()).await;
            Done::Hinted(domain, answered)
        });
    }

    /// Hands time to those that wait for it.
    fn tick(&mut self) {
        let now = clock::now();
        for domain in self.all() {
            let due = domain.sidecar().wakes_at() <= now;
            if due {
                self.handle(&domain, Event::Tick);
            }
        }
    }

    /// Looks at leases and lag; says when to look again.
    fn look(&mut self) -> Duration {
        let (core, now) = (Arc::clone(&self.core), clock::now());
        let mut due = now.after(LOOK);
        for known in self.domains.values_mut() {
            let sidecar = known.domain.sidecar();
            let (held, lag) = (sidecar.may_serve(now), sidecar.lag());
            due = due.min(sidecar.wakes_at());
            due = due.min(sidecar.lease_until().filter(|_| held).unwrap_or(due));
            drop(sidecar);
            core.metrics.stand(&known.domain.name, held, lag);
            known.count_bypass(&core, now);
            known.say(&core, held);
        }
        due.since(now)
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Connected(Ok((links, subscribed)))) => self.connected(links, &subscribed),
            Ok(Done::Connected(Err(fault))) => self.refused(&fault),
            Ok(Done::Subscribed(links, domain, subscribed)) if self.is_current(Some(&links)) => {
                match subscribed {
                    Ok(()) => self.handle(&domain, Event::LinkUp { ordered: true }),
                    Err(_) => links.end(),
                }
            }
            Ok(Done::Beats(links, beats)) => self.beaten(links.as_ref(), beats),
            Ok(Done::Log(domain, Ok(answer))) => self.handle(&domain, Event::Log(answer)),
            Ok(Done::Log(domain, Err(Fault::Newer(protocol)))) => {
                self.handle(&domain, Event::Log(Answer::Newer(protocol)));
            }
            Ok(Done::Hinted(domain, answered)) => {
                self.hints -= 1;
                match answered {
                    Ok(_) => self.core.tell(&domain, What::Hinted),
                    Err(_) => drop(self.core.metrics.hints_dropped.inc()),
                }
            }
            // A reading of the log that failed is made again when it is overdue.
            Ok(Done::Log(..) | Done::Subscribed(..) | Done::Left) => {}
            Err(error) => tracing::error!(%error, "a task of the bus ended unexpectedly"),
        }
    }

    fn is_current(&self, links: Option<&Arc<Links>>) -> bool {
        matches!((links, &self.links), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }

    /// Takes what pub/sub brought.
    fn hear(&mut self, first: Option<Message>) {
        if first.is_none() {
            self.note_outgrown();
        }
        let mut next = first;
        for _ in 0..BATCH {
            if self.inbox.take_gap() {
                self.core.metrics.gaps.inc();
                self.core.metrics.queue_full.inc_by(self.inbox.take_full());
                self.note_outgrown();
                self.handle_all(&Event::Missed);
            }
            let Some(message) = next.take().or_else(|| self.inbox.try_next()) else { return };
            self.dispatch(&message);
        }
    }

    fn dispatch(&mut self, message: &Message) {
        let Some((domain, hints)) = self.channels.get(&message.channel).cloned() else { return };
        if !hints {
            let news = message.payload.as_deref().and_then(format::news);
            return self.handle(&domain, news.map_or(Event::Missed, Event::Published));
        }
        let hint = message.payload.as_deref().map_or_else(|| Some(format::all()), format::hint);
        let Some(scopes) = hint else {
            self.core.metrics.hints_dropped.inc();
            return;
        };
        self.handle(&domain, Event::Hint(scopes));
    }

    fn apply_ahead(&mut self, domain: &Arc<Domain>, published: Published) {
        // Only to one that knows the log already: another epoch's name is a heartbeat's to tell.
        if domain.sidecar().applied().is_some_and(|applied| applied.epoch == published.epoch) {
            self.handle(domain, Event::Published(published));
        }
    }
}

impl Known {
    fn new(domain: Arc<Domain>) -> Self {
        Self { domain, held: false, looked: clock::now(), silent: 0 }
    }

    /// Counts the time since the last look where the lease was not held then. A lease's end is
    /// looked at when it comes.
    fn count_bypass(&mut self, core: &Core, now: Moment) {
        let looked = std::mem::replace(&mut self.looked, now);
        if !self.held {
            core.metrics.bypassed(&self.domain.name, now.since(looked));
        }
    }

    /// Says what is new.
    fn say(&mut self, core: &Core, held: bool) {
        let domain = &self.domain.name;
        if std::mem::replace(&mut self.held, held) != held {
            tracing::info!(domain = &**domain, held, "lease");
            core.tell(&self.domain, if held { What::LeaseHeld } else { What::LeaseLost });
            if !held {
                core.metrics.lease_lost(domain);
            }
        }
    }
}

async fn ended(links: Option<&Links>) {
    match links {
        Some(links) => links.ended().await,
        None => std::future::pending().await,
    }
}
