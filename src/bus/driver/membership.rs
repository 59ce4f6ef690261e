//! The driver's connections and domains: connecting, domains that come and go, leaving.

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
        let (settings, push_sender, domains) =
            (Arc::clone(&self.settings), self.push_sender.clone(), self.all_domains());
        self.tasks.spawn(async move {
            sleep(after).await;
            let connected = async {
                let links = RedisConnections::connect(&settings, &push_sender).await?;
                for domain in &domains {
                    links.subscribe(&domain.names).await?;
                }
                Ok((links, domains))
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

    /// Counts what a server sent beyond what was asked for, and says it, though not each time.
    pub(super) fn note_reply_excess(&mut self) -> Option<ReplyExcess> {
        let cause = self.push_receiver.take_reply_excess()?;
        let (fault, now) = (RedisFault::ReplyExcess(cause), clock::now());
        self.core.metrics.count_fault(&fault);
        let is_logged = self
            .last_excess
            .is_some_and(|(said, at)| said == cause && now.since(at) < EXCESS_LOG_INTERVAL);
        if !is_logged {
            tracing::warn!(%fault, "is this a redis, and ours alone?");
            self.last_excess = Some((cause, now));
        }
        Some(cause)
    }

    pub(super) fn connect_after_backoff(&mut self) {
        // A fleet that lost one Redis together does not come back all at once.
        self.connect(self.backoff.mul_f64(0.5 + fastrand::f64() / 2.0));
        self.backoff = (self.backoff * 2).min(RECONNECT_BACKOFF.1);
    }

    pub(super) fn set_connections(&mut self, connections: Option<Arc<RedisConnections>>) {
        self.core.metrics.connected.set(i64::from(connections.is_some()));
        self.connections.clone_from(&connections);
        self.core.connections.send_replace(connections);
    }

    pub(super) fn subscribe(&mut self, domain: &Arc<BusDomain>) {
        let Some(links) = self.connections.clone() else { return };
        let domain = Arc::clone(domain);
        self.tasks.spawn(async move {
            let subscribed = links.subscribe(&domain.names).await;
            TaskResult::Subscribed(links, domain, subscribed)
        });
    }

    /// Looks which domains there are now.
    pub(super) fn update_domains(&mut self) {
        let now = self.core.domains();
        let is_removed = |known: &DomainState| {
            now.get(&known.domain.name).is_none_or(|domain| !Arc::ptr_eq(domain, &known.domain))
        };
        let removed: Vec<_> = self
            .domains
            .extract_if(.., |_, known| is_removed(known))
            .map(|(_, known)| known.domain)
            .collect();
        for domain in removed {
            self.drop_domain(&domain);
        }
        for (name, domain) in now {
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
        let (news, hints) = (domain.names.invalidations_channel(), domain.names.hints_channel());
        self.channels.remove(news.as_bytes());
        self.channels.remove(hints.as_bytes());
        if let Some(links) = self.connections.clone() {
            let domain = Arc::clone(domain);
            self.tasks.spawn(async move {
                let _ = links.unsubscribe(&domain.names).await;
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
        let deregistrations = self.domains.values().map(|known| {
            let call = ScriptCall::Deregister(known.domain.member.clone());
            core.call(&known.domain, call, Duration::ZERO, DEREGISTER_MAX)
        });
        let _ = timeout(DEREGISTER_MAX, join_all(deregistrations)).await;
        self.set_connections(None);
    }
}
