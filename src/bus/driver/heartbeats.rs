//! The driver's heartbeats: sent together, and what their replies, or their silence, say of the
//! connections.

use std::sync::Arc;
use std::time::Duration;

use super::super::connection::Links;
use super::super::core::{Core, Domain};
use super::super::fault::Fault;
use super::{BACKOFF, Done, Driver};
use crate::coherence::{Answer, Call, Event, Heartbeat, Moment};

/// Round trips of heartbeats that stay unanswered before the connections are given up.
const SILENT_MAX: usize = 2;

/// A heartbeat's reply, with when it was sent.
pub(super) type Beat = (Arc<Domain>, Moment, Result<Answer, Fault>);

impl Driver {
    /// Heartbeats of all domains that are due share a round trip. On a Cluster each goes for
    /// itself: one server that is lost must not hold up what the others say.
    pub(super) fn send_beats(&mut self) {
        let mut beats = std::mem::take(&mut self.beats);
        let each = if self.links.as_ref().is_some_and(|links| links.are_of_many()) {
            1
        } else {
            beats.len()
        };
        while !beats.is_empty() {
            let rest = beats.split_off(each);
            self.send(beats);
            beats = rest;
        }
    }

    fn send(&mut self, beats: Vec<(Arc<Domain>, Moment, Heartbeat)>) {
        let (core, links) = (Arc::clone(&self.core), self.links.clone());
        self.tasks.spawn(async move {
            let asked: Vec<_> = beats
                .iter()
                .map(|(_, _, beat)| Core::request(Call::Heartbeat(beat.clone())))
                .collect();
            let ask = |(beat, request): (&(Arc<Domain>, _, _), _)| {
                core.scripts.ask(&beat.0.names, request, Duration::ZERO)
            };
            let asks: Vec<_> = beats.iter().zip(&asked).map(ask).collect();
            let answers = match &links {
                Some(links) => links.run_all(&asks, core.patience()).await,
                None => asks.iter().map(|_| Err(Fault::Lost)).collect(),
            };
            let told = beats
                .into_iter()
                .zip(answers)
                .map(|((domain, sent, _), answer)| (domain, sent, answer));
            Done::Beats(links, told.collect())
        });
    }

    /// Heartbeats came back, or did not.
    pub(super) fn beaten(&mut self, links: Option<&Arc<Links>>, beats: Vec<Beat>) {
        let many = links.is_some_and(|links| links.are_of_many());
        let unheard = |answer: &_| match answer {
            Err(Fault::Slow) => true,
            // A server of many may be lost. If all are, they may be others by now.
            Err(Fault::Lost) => many,
            _ => false,
        };
        let unheard = beats.iter().all(|(_, _, answer)| unheard(answer));
        let silent_max = if many { SILENT_MAX * self.domains.len() } else { SILENT_MAX };
        let deposed = beats
            .iter()
            .any(|(_, _, answer)| matches!(answer, Err(Fault::Refused(code)) if must_leave(code)));
        self.silent = if unheard { self.silent + 1 } else { 0 };
        // Not as soon as there is a connection: one that breaks at once is no reason to hurry.
        if beats.iter().any(|(_, _, answer)| answer.is_ok()) {
            self.backoff = BACKOFF.0;
        }
        if let Some(links) = links
            .filter(|links| self.is_current(Some(links)) && (deposed || self.silent >= silent_max))
        {
            links.end();
        }
        for (domain, sent, answer) in beats {
            let fault = match &answer {
                Ok(Answer::Newer(protocol)) => Some(Fault::Newer(*protocol)),
                Ok(_) => None,
                Err(fault) => Some(fault.clone()),
            };
            // A failure tells the pace that nothing is out any more, and nothing else.
            let answer = answer.unwrap_or(Answer::Miss);
            self.note_heartbeat(&domain, fault);
            self.handle(&domain, Event::Heartbeat { sent, answer });
        }
    }

    /// Says what keeps a domain's heartbeats from being answered, as it begins and as it ends.
    fn note_heartbeat(&mut self, domain: &Arc<Domain>, fault: Option<Fault>) {
        let Some(known) = self.domains.get_mut(&domain.name) else { return };
        known.silent = if fault == Some(Fault::Slow) { known.silent + 1 } else { 0 };
        let Some(fault) = fault else { return self.troubles.answered(domain, &self.core) };
        self.core.metrics.fault(&fault);
        let is_passing = fault == Fault::Lost || fault == Fault::Slow && known.silent < SILENT_MAX;
        if !is_passing {
            self.troubles.of_domain(domain, &fault, &self.core);
        }
    }
}

/// A server that became a replica, or a user that has become another.
fn must_leave(code: &str) -> bool {
    matches!(code, "READONLY" | "NOAUTH")
}
