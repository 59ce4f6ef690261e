//! The driver's heartbeats: sent together, and what their replies, or their silence, say of the
//! connections.

use std::sync::Arc;
use std::time::Duration;

use super::super::connections::RedisConnections;
use super::super::core::{BusCore, BusDomain};
use super::super::fault::RedisFault;
use super::{Driver, RECONNECT_BACKOFF, TaskResult};
use crate::coherence::{Heartbeat, Moment, ReplicaEvent, ScriptCall, ScriptReply};

/// Round trips of heartbeats that stay unanswered before the connections are given up.
const SILENT_MAX: usize = 2;

/// A heartbeat's reply, with when it was sent.
pub(super) type HeartbeatResult = (Arc<BusDomain>, Moment, Result<ScriptReply, RedisFault>);

impl Driver {
    /// Heartbeats of all domains that are due share a round trip. On a Cluster each goes for
    /// itself: one server that is lost must not hold up what the others say.
    pub(super) fn send_heartbeats(&mut self) {
        let mut beats = std::mem::take(&mut self.due_heartbeats);
        let each = if self.connections.as_ref().is_some_and(|links| links.is_cluster()) {
            1
        } else {
            beats.len()
        };
        while !beats.is_empty() {
            let rest = beats.split_off(each);
            self.send_batch(beats);
            beats = rest;
        }
    }

    fn send_batch(&mut self, beats: Vec<(Arc<BusDomain>, Moment, Heartbeat)>) {
        let (core, connections) = (Arc::clone(&self.core), self.connections.clone());
        self.tasks.spawn(async move {
            let requests: Vec<_> = beats
                .iter()
                .map(|(_, _, beat)| BusCore::new_request(ScriptCall::Heartbeat(beat.clone())))
                .collect();
            let ask = |(beat, request): (&(Arc<BusDomain>, _, _), _)| {
                core.scripts.prepare(&beat.0.names, request, Duration::ZERO)
            };
            let invocations: Vec<_> = beats.iter().zip(&requests).map(ask).collect();
            let answers = match &connections {
                Some(links) => links.run_all(&invocations, core.reply_timeout()).await,
                None => invocations.iter().map(|_| Err(RedisFault::Lost)).collect(),
            };
            let results = beats
                .into_iter()
                .zip(answers)
                .map(|((domain, sent, _), answer)| (domain, sent, answer));
            TaskResult::HeartbeatReplies(connections, results.collect())
        });
    }

    /// Heartbeats came back, or did not.
    pub(super) fn on_heartbeats(
        &mut self,
        connections: Option<&Arc<RedisConnections>>,
        beats: Vec<HeartbeatResult>,
    ) {
        let is_cluster = connections.is_some_and(|links| links.is_cluster());
        let is_unanswered = |answer: &_| match answer {
            Err(RedisFault::TimedOut) => true,
            // A server of many may be lost. If all are, they may be others by now.
            Err(RedisFault::Lost) => is_cluster,
            _ => false,
        };
        let is_silent = beats.iter().all(|(_, _, answer)| is_unanswered(answer));
        let silent_max = if is_cluster { SILENT_MAX * self.domains.len() } else { SILENT_MAX };
        let must_reconnect = beats.iter().any(|(_, _, answer)| match answer {
            Err(RedisFault::Refused(code)) => requires_reconnect(code),
            _ => false,
        });
        self.silent_rounds = if is_silent { self.silent_rounds + 1 } else { 0 };
        // Not as soon as there is a connection: one that breaks at once is no reason to hurry.
        if beats.iter().any(|(_, _, answer)| answer.is_ok()) {
            self.backoff = RECONNECT_BACKOFF.0;
        }
        if let Some(links) = connections.filter(|links| {
            self.is_current(Some(links)) && (must_reconnect || self.silent_rounds >= silent_max)
        }) {
            links.close();
        }
        for (domain, sent, answer) in beats {
            let fault = match &answer {
                Ok(ScriptReply::NewerProtocol(protocol)) => {
                    Some(RedisFault::NewerProtocol(*protocol))
                }
                Ok(_) => None,
                Err(fault) => Some(fault.clone()),
            };
            // A failure tells the pace that nothing is out any more, and nothing else.
            let answer = answer.unwrap_or(ScriptReply::Miss);
            self.note_heartbeat_fault(&domain, fault);
            self.handle(&domain, ReplicaEvent::Heartbeat { sent, answer });
        }
    }

    /// Says what keeps a domain's heartbeats from being answered, as it begins and as it ends.
    fn note_heartbeat_fault(&mut self, domain: &Arc<BusDomain>, fault: Option<RedisFault>) {
        let Some(state) = self.domains.get_mut(&domain.name) else { return };
        state.silent_heartbeats =
            if fault == Some(RedisFault::TimedOut) { state.silent_heartbeats + 1 } else { 0 };
        let Some(fault) = fault else {
            return self.faults.on_heartbeat_answered(domain, &self.core);
        };
        self.core.metrics.count_fault(&fault);
        let is_passing = fault == RedisFault::Lost
            || fault == RedisFault::TimedOut && state.silent_heartbeats < SILENT_MAX;
        if !is_passing {
            self.faults.on_domain_fault(domain, &fault, &self.core);
        }
    }
}

/// A server that became a replica, or a user that has become another.
fn requires_reconnect(code: &str) -> bool {
    matches!(code, "READONLY" | "NOAUTH")
}
