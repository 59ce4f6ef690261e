//! A fleet as the trials run it: nodes, writers, Redis, the source of truth, and an oracle that
//! watches every step.
//!
//! What is sent is left in `out`: the model checker and the simulation each have a network of their
//! own.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::node::{Flight, Kept, Node, Reading, Step};
use super::source::{Key, Source, Version, key_name};

/// What must never be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// Memory answered with something older than an acknowledged invalidation.
    StaleFromMemory,
    /// A flight did.
    StaleFromFlight,
    /// A dataset was put into memory although an invalidation of it was acknowledged, or applied
    /// here.
    StaleIntoMemory,
    /// Redis took a dataset although the script of an invalidation of it had run.
    StaleIntoRedis,
    /// A hint was heard, and nothing was invalidated.
    HintLost,
    /// A dataset of another plan was served.
    OtherPlan,
}

/// Everything but the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Fleet {
    /// The nodes' clocks, then the writers'.
    pub(super) clocks: Vec<Duration>,
    pub(super) source: Source,
    pub(super) nodes: Vec<Node>,
    pub(super) writers: Vec<Writer>,
    pub(super) server: Server,
    pub(super) life: Life,
    /// A primary that was deposed and does not know it yet.
    pub(super) deposed: Option<(Server, Life)>,
    /// The name of the next epoch; every fault that can end one changes it.
    pub(super) era: u128,
    pub(super) out: Vec<Message>,
    pub(super) wrong: Option<Wrong>,
}

/// Somebody who writes at the source and invalidates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) state: Writing,
    pub(super) witness: Witness,
    pub(super) guards: Guards,
}

/// How far a writer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Writing {
    Idle,
    Sent(Moment),
    Waiting(Invalidation),
}

/// Who talks to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    Node(usize),
    Writer(usize),
}

/// What a call was for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum About {
    Heartbeat,
    Log,
    Fetch(Key, u8, FlightId),
    Claim(Key, u8, FlightId),
    Invalidation,
    Progress(Fence),
    Hint(Key, Version),
    Nothing,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    Request { from: Who, sent: Moment, about: About, call: Call },
    Answer { to: Who, sent: Moment, about: About, answer: Answer },
    Published { to: usize, published: Published },
    Hint { to: usize, key: Key, version: Version },
}

impl Fleet {
    pub(super) fn clock(&self, who: Who) -> Moment {
        let index = match who {
            Who::Node(index) => index,
            Who::Writer(index) => self.nodes.len() + index,
        };
        Moment::from_origin(self.clocks[index])
    }

    fn send(&mut self, from: Who, about: About, call: Call) {
        let sent = self.clock(from);
        self.out.push(Message::Request { from, sent, about, call });
    }

    fn blame(&mut self, wrong: Wrong, is: bool) {
        if is {
            self.wrong = self.wrong.or(Some(wrong));
        }
    }

    /// Something happens to a node.
    pub(super) fn tell(&mut self, node: usize, event: Event) {
        let now = self.clock(Who::Node(node));
        let mut actions = Vec::new();
        self.nodes[node].sidecar.handle(now, event, &mut actions);
        for action in actions {
            let (about, call) = match action {
                Action::Heartbeat(beat) => (About::Heartbeat, Call::Heartbeat(beat)),
                Action::ReadLog(after) => (About::Log, Call::ReadLog { after, max: 2 }),
                Action::Deregister(name) => (About::Nothing, Call::Deregister(name)),
                Action::Applied(entry) => {
                    self.note_applied(node, entry.seq);
                    continue;
                }
                Action::Invalidate { .. } | Action::EmptyMemory(_) => continue,
            };
            self.send(Who::Node(node), about, call);
        }
    }

    fn note_applied(&mut self, node: usize, seq: Seq) {
        let Some(at) = self.nodes[node].sidecar.applied() else { return };
        let about = self.source.issued.get(&Fence { seq, ..at }).cloned().unwrap_or_default();
        for (key, version) in (0..).zip(about) {
            let known = self.nodes[node].known.entry(key).or_default();
            *known = version.unwrap_or(0).max(*known);
        }
    }

    /// Redis runs the script of a request; its answer goes out, and what it publishes.
    pub(super) fn serve(&mut self, request: Message, deposed: bool) {
        let Message::Request { from, sent, about, call } = request else { return };
        let run = Request { protocol: PROTOCOL, fresh: Epoch(self.era), call };
        let outcome = match &mut self.deposed {
            Some((server, life)) if deposed => server.run(*life, &run),
            _ => self.server.run(self.life, &run),
        };
        if let (Call::Invalidate { scopes, .. }, Answer::Issued(issued)) =
            (&run.call, &outcome.answer)
        {
            if outcome.published.is_some() {
                self.source.script(issued.token, scopes);
            }
        }
        if let (Call::Store { dataset, .. }, Answer::Done(true), About::Fetch(key, ..)) =
            (&run.call, &outcome.answer, &about)
        {
            let (version, _) = super::source::version_in(&dataset.body);
            let stale = version < self.source.scripted[usize::from(*key)];
            self.blame(Wrong::StaleIntoRedis, stale && !deposed);
        }
        if let About::Hint(key, version) = about {
            let lost = self.source.scripted[usize::from(key)] < version;
            return self.publish_and_blame(outcome.published, lost);
        }
        let needed = !matches!(run.call, Call::Store { .. } | Call::Deregister(_))
            && about != About::Nothing;
        if needed {
            self.out.push(Message::Answer { to: from, sent, about, answer: outcome.answer });
        }
        self.publish_and_blame(outcome.published, false);
    }

    fn publish_and_blame(&mut self, published: Option<Published>, lost: bool) {
        self.blame(Wrong::HintLost, lost);
        let Some(published) = published else { return };
        for to in (0..self.nodes.len()).filter(|&to| self.nodes[to].alive) {
            self.out.push(Message::Published { to, published: published.clone() });
        }
    }

    /// A message arrives at its process.
    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Request { .. } => self.serve(message, false),
            Message::Published { to, published } => self.tell(to, Event::Published(published)),
            Message::Hint { to, key, version } => self.hear_hint(to, key, version),
            Message::Answer { to: Who::Node(to), sent, about, answer } => match about {
                About::Heartbeat => self.tell(to, Event::Heartbeat { sent, answer }),
                About::Log => self.tell(to, Event::Log(answer)),
                About::Fetch(key, plan, id) => self.fetched(to, (key, plan, id), sent, answer),
                About::Claim(key, plan, id) => self.claimed(to, (key, plan, id), sent, answer),
                _ => {}
            },
            Message::Answer { to: Who::Writer(to), sent, about, answer } => {
                self.answer_writer(to, sent, &about, &answer)
            }
        }
    }

    fn hear_hint(&mut self, to: usize, key: Key, version: Version) {
        let now = self.clock(Who::Node(to));
        let mut actions = Vec::new();
        self.nodes[to].sidecar.handle(
            now,
            Event::Hint(Arc::new([Scope::Key(key_name(key))])),
            &mut actions,
        );
        for action in actions {
            if let Action::Invalidate { scopes, unless_above } = action {
                self.send(
                    Who::Node(to),
                    About::Hint(key, version),
                    Call::Invalidate { scopes, unless_above },
                );
            }
        }
    }

    /// A request comes to a node; whether memory answered it.
    pub(super) fn read(&mut self, node: usize, key: Key) -> bool {
        let need = self.source.acknowledged[usize::from(key)];
        let now = self.clock(Who::Node(node));
        let reading = self.nodes[node].read(key, need, now);
        match reading {
            Reading::Served(Kept { version, plan, .. }) => {
                self.blame(Wrong::StaleFromMemory, version < need);
                self.blame(Wrong::OtherPlan, plan != self.nodes[node].plan);
            }
            Reading::Joined => {}
            Reading::Began(id) => {
                let at = (key, self.nodes[node].plan);
                if let Some(flight) =
                    self.nodes[node].air.iter().position(|flight| flight.is(at, id))
                {
                    self.ask(node, flight);
                }
            }
        }
        matches!(reading, Reading::Served(_))
    }

    /// Sends what a flight that has just begun, or come to its next step, asks of Redis.
    fn ask(&mut self, node: usize, flight: usize) {
        self.nodes[node].air[flight].asked = self.clock(Who::Node(node));
        let Flight { key, plan, id, ref step, .. } = self.nodes[node].air[flight];
        let place = Node::place(key, plan);
        match *step {
            Step::Asking(_) => self.send(
                Who::Node(node),
                About::Fetch(key, plan, id),
                Call::Fetch { place, bytes_max: u64::MAX },
            ),
            Step::Claiming(start) => match start.fence() {
                None => self.nodes[node].air[flight].step = Step::Collecting(start),
                Some(fence) => {
                    let holder = self.nodes[node].name.clone();
                    let bytes_max = Some(u64::MAX);
                    let claim = Call::Claim { place, holder, fence, bytes_max };
                    self.send(Who::Node(node), About::Claim(key, plan, id), claim);
                }
            },
            _ => {}
        }
    }

    /// The flight that asked at that moment.
    fn flight(
        &self,
        node: usize,
        (key, plan, id): (Key, u8, FlightId),
        sent: Moment,
    ) -> Option<usize> {
        self.nodes[node]
            .air
            .iter()
            .position(|flight| flight.is((key, plan), id) && flight.asked == sent)
    }

    fn fetched(&mut self, node: usize, which: (Key, u8, FlightId), sent: Moment, answer: Answer) {
        let Some(flight) = self.flight(node, which, sent) else { return };
        let Step::Asking(start) = self.nodes[node].air[flight].step else { return };
        self.nodes[node].air[flight].step = match answer {
            Answer::Hit(fetched) => Step::Fetched(start, fetched),
            Answer::Miss if self.nodes[node].claims => Step::Claiming(start),
            _ => Step::Collecting(start),
        };
        self.ask(node, flight);
    }

    fn claimed(&mut self, node: usize, which: (Key, u8, FlightId), sent: Moment, answer: Answer) {
        let Some(flight) = self.flight(node, which, sent) else { return };
        let Step::Claiming(start) = self.nodes[node].air[flight].step else { return };
        self.nodes[node].air[flight].step = match answer {
            Answer::Hit(fetched) => Step::Fetched(start, fetched),
            Answer::Held(_) => Step::Asking(start),
            _ => Step::Collecting(start),
        };
        self.ask(node, flight);
    }

    /// The callers of a flight that waits can wait no longer.
    pub(super) fn press(&mut self, node: usize, flight: usize) {
        self.nodes[node].press(flight);
        if matches!(self.nodes[node].air[flight].step, Step::Asking(_)) {
            self.ask(node, flight);
        }
    }

    /// A flight reads the source.
    pub(super) fn collect(&mut self, node: usize, flight: usize) {
        let flight = &mut self.nodes[node].air[flight];
        if let Step::Collecting(start) = flight.step {
            flight.step = Step::Collected(start, self.source.versions[usize::from(flight.key)]);
        }
    }

    /// A flight answers its callers and leaves what it may.
    pub(super) fn land(&mut self, node: usize, flight: usize) {
        let now = self.clock(Who::Node(node));
        let before: Vec<_> =
            self.nodes[node].air.iter().map(|flight| flight.step == Step::Waiting).collect();
        let flight = self.nodes[node].end(flight, now);
        let (version, plan) = match &flight.step {
            Step::Collected(_, version) => (*version, flight.plan),
            Step::Fetched(_, fetched) => super::source::version_in(&fetched.dataset.body),
            _ => return,
        };
        self.blame(Wrong::StaleFromFlight, version < flight.need);
        self.blame(Wrong::OtherPlan, plan != flight.plan);
        if self.nodes[node].keep(&flight, now).is_some() {
            let known = self.nodes[node].known.get(&flight.key).copied().unwrap_or(0);
            let newest = known.max(self.source.acknowledged[usize::from(flight.key)]);
            self.blame(Wrong::StaleIntoMemory, version < newest);
        }
        if let Some(dataset) = flight.offer().filter(|_| self.nodes[node].asks_redis) {
            let about = About::Fetch(flight.key, flight.plan, flight.id);
            let place = Node::place(flight.key, flight.plan);
            self.send(
                Who::Node(node),
                about,
                Call::Store { place: place.clone(), dataset, age: Duration::ZERO },
            );
            if self.nodes[node].claims {
                let holder = self.nodes[node].name.clone();
                self.send(Who::Node(node), About::Nothing, Call::Release { place, holder });
            }
        }
        if before.contains(&true) {
            (0..self.nodes[node].air.len()).for_each(|next| self.ask_if_new(node, next, &flight));
        }
    }

    fn ask_if_new(&mut self, node: usize, next: usize, ended: &Flight) {
        let flight = &self.nodes[node].air[next];
        let same_key = (flight.key, flight.plan) == (ended.key, ended.plan);
        if same_key && matches!(flight.step, Step::Asking(_)) {
            self.ask(node, next);
        }
    }

    /// Somebody writes at the source and sends the script.
    pub(super) fn write(&mut self, writer: usize, key: Key, scopes: Arc<[Scope]>) {
        self.source.write(key);
        self.invalidate(writer, scopes);
    }

    /// Somebody sends the script, perhaps again.
    pub(super) fn invalidate(&mut self, writer: usize, scopes: Arc<[Scope]>) {
        let now = self.clock(Who::Writer(writer));
        self.writers[writer].state = Writing::Sent(now);
        self.send(
            Who::Writer(writer),
            About::Invalidation,
            Call::Invalidate { scopes, unless_above: None },
        );
    }

    /// A writer asks how far its invalidation is.
    pub(super) fn question(&mut self, writer: usize) {
        let now = self.clock(Who::Writer(writer));
        let Writer { state: Writing::Waiting(invalidation), witness, .. } = &self.writers[writer]
        else {
            return;
        };
        let call = invalidation.question(witness, now);
        let token = invalidation.token();
        self.send(Who::Writer(writer), About::Progress(token), call);
    }

    fn answer_writer(&mut self, to: usize, sent: Moment, about: &About, answer: &Answer) {
        let now = self.clock(Who::Writer(to));
        let writer = &mut self.writers[to];
        match (&mut writer.state, about, answer) {
            (Writing::Sent(at), About::Invalidation, Answer::Issued(issued)) if *at == sent => {
                let invalidation =
                    Invalidation::new(issued, &mut writer.witness, now, writer.guards);
                writer.state = Writing::Waiting(invalidation);
            }
            (Writing::Waiting(invalidation), About::Progress(token), answer)
                if *token == invalidation.token() =>
            {
                invalidation.hear(answer);
            }
            _ => {}
        }
        self.look(to);
    }

    /// A writer looks whether its invalidation is acknowledged.
    pub(super) fn look(&mut self, writer: usize) {
        let now = self.clock(Who::Writer(writer));
        let Writer { state: Writing::Waiting(invalidation), witness, .. } = &self.writers[writer]
        else {
            return;
        };
        let (state, token) = (invalidation.state(witness, now), invalidation.token());
        let last = invalidation.question(witness, now);
        if matches!(state, State::Waiting(_)) {
            return;
        }
        self.source.acknowledge(token);
        self.writers[writer].state = Writing::Idle;
        if matches!(state, State::Lapsed(_)) {
            self.send(Who::Writer(writer), About::Nothing, last);
        }
    }

    /// Redis is another server now: with `data`, or without any.
    pub(super) fn restart(&mut self, data: Server) {
        self.server = data;
        self.life = Life(self.life.0 + 1);
        self.era += 1;
    }
}
