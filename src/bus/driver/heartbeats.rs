//! The driver's heartbeats: they are sent together, and their replies, or missing replies, show
//! whether the connections are of use.

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
    /// Sends the heartbeats that are due, of all domains in one round trip. On a Cluster each is
    /// sent by itself, so that a server that is lost does not hold up the replies of the others.
    pub(super) fn send_heartbeats(&mut self) {
        let mut beats = std::mem::take(&mut self.due_heartbeats);
        let each = if self.connections.as_ref().is_some_and(|current| current.is_cluster()) {
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
        let core = Arc::clone(&self.core);
        let connections = self.connections.clone();
        self.tasks.spawn(async move {
            let requests: Vec<_> = beats
                .iter()
                .map(|(_, _, beat)| BusCore::new_request(ScriptCall::Heartbeat(beat.clone())))
                .collect();
            let prepare = |(beat, request): (&(Arc<BusDomain>, _, _), _)| {
                core.scripts.prepare(&beat.0.names, request, Duration::ZERO)
            };
            let invocations: Vec<_> = beats.iter().zip(&requests).map(prepare).collect();
            let answers = match &connections {
                Some(connections) => connections.run_all(&invocations, core.reply_timeout()).await,
                None => invocations.iter().map(|_| Err(RedisFault::Lost)).collect(),
            };
            let results = beats
                .into_iter()
                .zip(answers)
                .map(|((domain, sent, _), answer)| (domain, sent, answer));
            TaskResult::HeartbeatReplies(connections, results.collect())
        });
    }

    /// Takes the replies of heartbeats, or the faults in their place.
    pub(super) fn on_heartbeats(
        &mut self,
        connections: Option<&Arc<RedisConnections>>,
        beats: Vec<HeartbeatResult>,
    ) {
        let is_cluster = connections.is_some_and(|current| current.is_cluster());
        let is_unanswered = |answer: &_| match answer {
            Err(RedisFault::TimedOut) => true,
            // One server of a Cluster may be lost. If all are, the Cluster may have other servers
            // by now.
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
        // Reset by a reply, not by a connection: connections that break at once keep the backoff.
        if beats.iter().any(|(_, _, answer)| answer.is_ok()) {
            self.backoff = RECONNECT_BACKOFF.0;
        }
        if let Some(connections) = connections.filter(|connections| {
            self.is_current(Some(connections))
                && (must_reconnect || self.silent_rounds >= silent_max)
        }) {
            connections.close();
        }
        for (domain, sent, answer) in beats {
            let fault = match &answer {
                Ok(ScriptReply::NewerProtocol(protocol)) => {
                    Some(RedisFault::NewerProtocol(*protocol))
                }
                Ok(_) => None,
                Err(fault) => Some(fault.clone()),
            };
            // A fault only tells the schedule that no heartbeat is in flight any more.
            let answer = answer.unwrap_or(ScriptReply::Miss);
            self.note_heartbeat_fault(&domain, fault);
            self.handle(&domain, ReplicaEvent::Heartbeat { sent, answer });
        }
    }

    /// Counts the fault of a domain's heartbeat, and logs it as it begins and as it ends.
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

/// Whether the connections are to be made anew: the server became a replica, or our user was
/// changed.
fn requires_reconnect(code: &str) -> bool {
    matches!(code, "READONLY" | "NOAUTH")
}
