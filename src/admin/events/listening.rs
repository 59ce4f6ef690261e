//! One listener: what two channels bring, told in the order in which it happened.

use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::words::{self, Event};
use super::{Asked, Place};
use crate::admin::{Phase, Reloads, Told};
use crate::{bus, cache};

/// How long a stream says nothing; then it shows that it lives.
const SILENCE: Duration = Duration::from_secs(5);
/// Events that are ready go out together up to about this size.
const FRAME_BYTES: usize = 16 * 1024;
/// Events looked at in one turn.
const EVENTS_AT_ONCE: usize = 256;

/// One listener.
pub(super) struct Listening {
    _place: Place,
    missed: Counter,
    asked: Asked,
    fleet: Ahead<bus::Happening>,
    fills: Ahead<cache::CollectionEvent>,
    phase: watch::Receiver<Phase>,
    reloads: watch::Receiver<Reloads>,
    seen: Reloads,
    first: Option<Event>,
    /// When it last said something.
    spoke: Instant,
    ended: bool,
}

/// A channel with what came of it and was not told yet: at most one, so that what two channels
/// bring is told in order.
struct Ahead<T> {
    channel: broadcast::Receiver<T>,
    came: Option<T>,
    missed: u64,
}

impl<T: Clone> Ahead<T> {
    fn of(channel: broadcast::Receiver<T>) -> Self {
        Self { channel, came: None, missed: 0 }
    }

    /// Takes what is there.
    fn look(&mut self) {
        while self.came.is_none() {
            match self.channel.try_recv() {
                Ok(happening) => self.came = Some(happening),
                Err(TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Waits until something is there; false if nothing will be any more.
    async fn wait(&mut self) -> bool {
        match self.channel.recv().await {
            Ok(happening) => self.came = Some(happening),
            Err(RecvError::Lagged(missed)) => self.missed += missed,
            Err(RecvError::Closed) => return false,
        }
        true
    }
}

impl Listening {
    /// Listens from now on.
    pub(super) fn to(told: &Told, place: Place, asked: Asked) -> Self {
        Self {
            missed: told.listeners.missed.clone(),
            fleet: Ahead::of(told.bus.subscribe()),
            fills: Ahead::of(told.happenings.subscribe()),
            phase: told.health.follow(),
            seen: told.reloads.borrow().clone(),
            reloads: told.reloads.clone(),
            first: Some(words::listening(told, asked.keys)),
            spoke: Instant::now(),
            ended: false,
            asked,
            _place: place,
        }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut frame = String::new();
        if let Some(first) = self.first.take() {
            first.write(&mut frame);
        }
        loop {
            let drained = self.take_ready(&mut frame);
            if *self.phase.borrow_and_update() == Phase::Draining {
                self.ended = true;
                words::ends().write(&mut frame);
            }
            if !frame.is_empty() {
                self.spoke = Instant::now();
                return Some(frame.into());
            }
            if !drained {
                tokio::task::yield_now().await;
                continue;
            }
            let goes_on = tokio::select! {
                changed = self.phase.changed() => changed.is_ok(),
                changed = self.reloads.changed() => changed.is_ok(),
                there = self.fleet.wait() => there,
                there = self.fills.wait() => there,
                () = sleep_until(self.spoke + SILENCE) => {
                    frame.push_str(": alive\n\n");
                    true
                }
            };
            if !goes_on {
                return None;
            }
        }
    }

    /// Writes what is ready, and says whether that was all.
    fn take_ready(&mut self, frame: &mut String) -> bool {
        for _ in 0..EVENTS_AT_ONCE {
            if frame.len() >= FRAME_BYTES {
                return false;
            }
            let Some(events) = self.ready() else { return true };
            for event in events {
                event.write(frame);
            }
        }
        false
    }

    /// What is to be told next, the oldest first: nothing, where it does not concern this listener.
    /// `None`: there is no more.
    fn ready(&mut self) -> Option<Vec<Event>> {
        self.fleet.look();
        self.fills.look();
        let mut events = Vec::new();
        let missed =
            std::mem::take(&mut self.fleet.missed) + std::mem::take(&mut self.fills.missed);
        if missed > 0 {
            self.missed.inc_by(missed);
            events.push(words::missed(missed));
        }
        events.extend(self.reloaded());
        match (self.fleet.came.take(), self.fills.came.take()) {
            (Some(fleet), Some(fill)) if fill.at < fleet.at => {
                self.fleet.came = Some(fleet);
                events.extend(self.of_fill(&fill));
            }
            (Some(fleet), fill) => {
                self.fills.came = fill;
                events.extend(self.of_fleet(&fleet));
            }
            (None, Some(fill)) => events.extend(self.of_fill(&fill)),
            (None, None) if events.is_empty() => return None,
            (None, None) => {}
        }
        Some(events)
    }

    fn reloaded(&mut self) -> Vec<Event> {
        let now = self.reloads.borrow_and_update();
        if (now.done, now.failed) == (self.seen.done, self.seen.failed) {
            return Vec::new();
        }
        let events = words::reloaded(&self.seen, &now);
        self.seen = now.clone();
        events
    }

    fn of_fleet(&self, happening: &bus::Happening) -> Option<Event> {
        let concerns = happening.domain.as_deref().is_none_or(|domain| self.concerns(domain));
        concerns.then(|| words::of_fleet(happening, self.asked.keys))
    }

    fn of_fill(&self, happening: &cache::CollectionEvent) -> Option<Event> {
        self.concerns(&happening.domain).then(|| words::of_fill(happening, self.asked.keys))
    }

    fn concerns(&self, domain: &str) -> bool {
        self.asked.domain.as_deref().is_none_or(|asked| asked == domain)
    }
}
