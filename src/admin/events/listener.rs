//! A listener of `GET /events`: it merges the events of the bus and of the cache in the order of
//! their times.

use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::conversion;
use super::{EventQuery, ListenerSlot};
use crate::admin::api::{AdminEvent, ReloadStatus};
use crate::admin::{AdminState, Phase};
use crate::{bus, cache};

/// How long a stream is silent before it sends a comment, by which the listener knows that the
/// sidecar lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Events that are ready are written into one frame up to about this size.
const FRAME_BYTES: usize = 16 * 1024;
/// The most events that are handled before the task yields.
const EVENTS_AT_ONCE: usize = 256;

/// One listener.
pub(super) struct EventListener {
    _slot: ListenerSlot,
    missed: Counter,
    query: EventQuery,
    fleet: PeekableReceiver<bus::BusEvent>,
    fills: PeekableReceiver<cache::CollectionEvent>,
    phase: watch::Receiver<Phase>,
    reloads: watch::Receiver<ReloadStatus>,
    reported_reloads: ReloadStatus,
    greeting: Option<AdminEvent>,
    /// When the last frame was written.
    last_sent: Instant,
    has_ended: bool,
}

/// A channel whose next event can be looked at, so that the older event of two channels is written
/// first.
struct PeekableReceiver<T> {
    channel: broadcast::Receiver<T>,
    next: Option<T>,
    missed: u64,
}

impl<T: Clone> PeekableReceiver<T> {
    fn new(channel: broadcast::Receiver<T>) -> Self {
        Self { channel, next: None, missed: 0 }
    }

    /// Receives the next event, if one is ready and none is held.
    fn peek(&mut self) {
        while self.next.is_none() {
            match self.channel.try_recv() {
                Ok(event) => self.next = Some(event),
                Err(TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Waits for the next event; false if the channel is closed.
    async fn wait(&mut self) -> bool {
        match self.channel.recv().await {
            Ok(event) => self.next = Some(event),
            Err(RecvError::Lagged(missed)) => self.missed += missed,
            Err(RecvError::Closed) => return false,
        }
        true
    }
}

impl EventListener {
    /// A listener of the events from now on.
    pub(super) fn new(state: &AdminState, slot: ListenerSlot, query: EventQuery) -> Self {
        Self {
            missed: state.listeners.missed.clone(),
            fleet: PeekableReceiver::new(state.bus.subscribe()),
            fills: PeekableReceiver::new(state.collection_events.subscribe()),
            phase: state.health.subscribe(),
            reported_reloads: state.reloads.borrow().clone(),
            reloads: state.reloads.clone(),
            greeting: Some(conversion::listening_event(state, query.keys)),
            last_sent: Instant::now(),
            has_ended: false,
            query,
            _slot: slot,
        }
    }

    /// The next frame of the stream; `None` at its end.
    pub(super) async fn next_frame(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut frame = String::new();
        if let Some(first) = self.greeting.take() {
            conversion::write(&first, &mut frame);
        }
        loop {
            let drained = self.write_ready(&mut frame);
            if *self.phase.borrow_and_update() == Phase::Draining {
                self.has_ended = true;
                conversion::write(&conversion::end_event(), &mut frame);
            }
            if !frame.is_empty() {
                self.last_sent = Instant::now();
                return Some(frame.into());
            }
            if !drained {
                tokio::task::yield_now().await;
                continue;
            }
            let goes_on = tokio::select! {
                changed = self.phase.changed() => changed.is_ok(),
                changed = self.reloads.changed() => changed.is_ok(),
                is_open = self.fleet.wait() => is_open,
                is_open = self.fills.wait() => is_open,
                () = sleep_until(self.last_sent + KEEPALIVE_INTERVAL) => {
                    frame.push_str(": alive\n\n");
                    true
                }
            };
            if !goes_on {
                return None;
            }
        }
    }

    /// Writes the events that are ready; false if more may be ready.
    fn write_ready(&mut self, frame: &mut String) -> bool {
        for _ in 0..EVENTS_AT_ONCE {
            if frame.len() >= FRAME_BYTES {
                return false;
            }
            let Some(events) = self.next_events() else { return true };
            for event in events {
                conversion::write(&event, frame);
            }
        }
        false
    }

    /// Takes the oldest event; the list is empty if this listener did not ask for it. `None`: no
    /// event is ready.
    fn next_events(&mut self) -> Option<Vec<AdminEvent>> {
        self.fleet.peek();
        self.fills.peek();
        let mut events = Vec::new();
        let missed =
            std::mem::take(&mut self.fleet.missed) + std::mem::take(&mut self.fills.missed);
        if missed > 0 {
            self.missed.inc_by(missed);
            events.push(conversion::missed_event(missed));
        }
        events.extend(self.reload_events());
        match (self.fleet.next.take(), self.fills.next.take()) {
            (Some(fleet), Some(fill)) if fill.at < fleet.at => {
                self.fleet.next = Some(fleet);
                events.extend(self.fill_event(&fill));
            }
            (Some(fleet), fill) => {
                self.fills.next = fill;
                events.extend(self.fleet_event(&fleet));
            }
            (None, Some(fill)) => events.extend(self.fill_event(&fill)),
            (None, None) if events.is_empty() => return None,
            (None, None) => {}
        }
        Some(events)
    }

    fn reload_events(&mut self) -> Vec<AdminEvent> {
        let now = self.reloads.borrow_and_update();
        if (now.done, now.failed) == (self.reported_reloads.done, self.reported_reloads.failed) {
            return Vec::new();
        }
        let events = conversion::reload_events(&self.reported_reloads, &now);
        self.reported_reloads = now.clone();
        events
    }

    fn fleet_event(&self, event: &bus::BusEvent) -> Option<AdminEvent> {
        let is_wanted = event.domain.as_deref().is_none_or(|domain| self.is_for_domain(domain));
        is_wanted.then(|| conversion::fleet_event(event, self.query.keys))
    }

    fn fill_event(&self, event: &cache::CollectionEvent) -> Option<AdminEvent> {
        self.is_for_domain(&event.domain).then(|| conversion::fill_event(event, self.query.keys))
    }

    fn is_for_domain(&self, domain: &str) -> bool {
        self.query.domain.as_deref().is_none_or(|asked| asked == domain)
    }
}
