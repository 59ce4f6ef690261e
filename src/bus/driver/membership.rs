//! The driver's connections and domains: connecting, domains that are added and removed, leaving
//! the fleet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::super::clock;
use super::super::connections::RedisConnections;
use super::super::core::BusDomain;
use super::super::events::BusEventKind;
use super::super::fault::RedisFault;
use super::super::resp_frames::ReplyExcess;
use super::{
    DEREGISTER_MAX, DomainState, Driver, EXCESS_LOG_INTERVAL, RECONNECT_BACKOFF, TaskResult,
};
use crate::coherence::{ReplicaEvent, ScriptCall};

impl Driver {
    pub(super) fn connect(&mut self, after: Duration) {
        let settings = Arc::clone(&self.settings);
        let push_sender = self.push_sender.clone();
        let domains = self.all_domains();
        self.tasks.spawn(async move {
            sleep(after).await;
            let connected = async {
                let connections = RedisConnections::connect(&settings, &push_sender).await?;
                for domain in &domains {
                    connections.subscribe(&domain.names).await?;
                }
                Ok((connections, domains))
            };
            TaskResult::Connected(connected.await)
        });
    }

    pub(super) fn on_connected(
        &mut self,
        connections: RedisConnections,
        subscribed: &[Arc<BusDomain>],
    ) {
        self.set_connections(Some(Arc::new(connections)));
        self.silent_rounds = 0;
        for domain in self.all_domains() {
            if subscribed.iter().any(|one| Arc::ptr_eq(one, &domain)) {
                self.handle(&domain, ReplicaEvent::LinkUp { ordered: true });
            } else {
                self.subscribe(&domain);
            }
        }
    }

    pub(super) fn on_connect_failed(&mut self, fault: &RedisFault) {
        self.core.metrics.count_fault(fault);
        self.faults.on_connection_fault(fault, &self.core);
        self.connect_after_backoff();
    }

    /// The connections broke.
    pub(super) fn on_connections_lost(&mut self) {
        let fault = self.note_reply_excess().map_or(RedisFault::Lost, RedisFault::ReplyExcess);
        self.set_connections(None);
        self.faults.on_connection_fault(&fault, &self.core);
        self.handle_all(&ReplicaEvent::LinkLost);
        self.connect_after_backoff();
    }

    /// Counts the excess of a server, and logs it unless the same was logged within
    /// [`EXCESS_LOG_INTERVAL`].
    pub(super) fn note_reply_excess(&mut self) -> Option<ReplyExcess> {
        let cause = self.push_receiver.take_reply_excess()?;
        let fault = RedisFault::ReplyExcess(cause);
        let now = clock::now();
        self.core.metrics.count_fault(&fault);
        let is_logged = self
            .last_excess
            .is_some_and(|(logged, at)| logged == cause && now.since(at) < EXCESS_LOG_INTERVAL);
        if !is_logged {
            tracing::warn!(%fault, "redis sent too much: is it a redis, and not shared?");
            self.last_excess = Some((cause, now));
        }
        Some(cause)
    }

    pub(super) fn connect_after_backoff(&mut self) {
        // Half of the backoff is random, so that a fleet that lost its Redis does not reconnect all
        // at once.
        self.connect(self.backoff.mul_f64(0.5 + fastrand::f64() / 2.0));
        self.backoff = (self.backoff * 2).min(RECONNECT_BACKOFF.1);
    }

    pub(super) fn set_connections(&mut self, connections: Option<Arc<RedisConnections>>) {
        self.core.metrics.connected.set(i64::from(connections.is_some()));
        self.connections.clone_from(&connections);
        self.core.connections.send_replace(connections);
    }

    pub(super) fn subscribe(&mut self, domain: &Arc<BusDomain>) {
        let Some(connections) = self.connections.clone() else { return };
        let domain = Arc::clone(domain);
        self.tasks.spawn(async move {
            let subscribed = connections.subscribe(&domain.names).await;
            TaskResult::Subscribed(connections, domain, subscribed)
        });
    }

    /// Takes over the current domains: drops those that were removed and subscribes to new ones.
    pub(super) fn update_domains(&mut self) {
        let current = self.core.domains();
        let is_removed = |state: &DomainState| {
            current.get(&state.domain.name).is_none_or(|domain| !Arc::ptr_eq(domain, &state.domain))
        };
        let removed: Vec<_> = self
            .domains
            .extract_if(.., |_, state| is_removed(state))
            .map(|(_, state)| state.domain)
            .collect();
        for domain in removed {
            self.drop_domain(&domain);
        }
        for (name, domain) in current {
            if !self.domains.contains_key(&name) {
                self.channels.insert(
                    domain.names.invalidations_channel().into_bytes(),
                    (Arc::clone(&domain), false),
                );
                self.channels
                    .insert(domain.names.hints_channel().into_bytes(), (Arc::clone(&domain), true));
                self.subscribe(&domain);
                self.domains.insert(name, DomainState::new(domain));
            }
        }
    }

    pub(super) fn drop_domain(&mut self, domain: &Arc<BusDomain>) {
        self.handle(domain, ReplicaEvent::Stop);
        self.core.metrics.remove_domain(&domain.name);
        self.faults.forget(&domain.name, &self.core);
        self.core.send_event(domain, BusEventKind::LeaseLost);
        self.channels.remove(domain.names.invalidations_channel().as_bytes());
        self.channels.remove(domain.names.hints_channel().as_bytes());
        if let Some(connections) = self.connections.clone() {
            let domain = Arc::clone(domain);
            self.tasks.spawn(async move {
                let _ = connections.unsubscribe(&domain.names).await;
                TaskResult::Deregistered
            });
        }
    }

    pub(super) async fn leave_fleet(&mut self) {
        self.tasks.abort_all();
        for domain in self.all_domains() {
            domain.replica_mut().handle(clock::now(), ReplicaEvent::Stop, &mut Vec::new());
            self.core.metrics.set_domain_gauges(&domain.name, false, 0);
        }
        let core = &self.core;
        let deregistrations = self.domains.values().map(|state| {
            let call = ScriptCall::Deregister(state.domain.member.clone());
            core.call(&state.domain, call, Duration::ZERO, DEREGISTER_MAX)
        });
        let _ = timeout(DEREGISTER_MAX, join_all(deregistrations)).await;
        self.set_connections(None);
    }
}
