//! What keeps a bus from its Redis: said once as it begins, with its cause, and once as it ends,
//! however often it is met meanwhile. The connections have one trouble at a time, and each domain
//! has one of its own, since a server may refuse one domain and not another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::core::{BusCore, BusDomain};
use super::super::events::BusEventKind;
use super::super::fault::RedisFault;

/// Causes that are told apart within one trouble; what differs further is not said.
const CAUSES_MAX: usize = 16;

/// What keeps the bus from Redis now.
#[derive(Debug, Default)]
pub(super) struct FaultLog {
    connection: OngoingFault,
    domains: BTreeMap<Arc<str>, OngoingFault>,
    /// A heartbeat was answered since the connections last had trouble, and that has been said.
    is_working: bool,
}

/// One Redis fault, from its first failure to recovery.
#[derive(Debug, Default)]
struct OngoingFault {
    cause: Option<RedisFault>,
    /// Every cause that was logged since it began.
    logged: Vec<RedisFault>,
}

impl OngoingFault {
    /// Records a cause and returns whether it is to be logged.
    fn note(&mut self, fault: &RedisFault) -> bool {
        self.cause = Some(fault.clone());
        // The text of a TLS error may hold the time.
        let is_same = |logged: &RedisFault| {
            logged == fault || matches!((logged, fault), (RedisFault::Tls(_), RedisFault::Tls(_)))
        };
        let is_new = !self.logged.iter().any(is_same) && self.logged.len() < CAUSES_MAX;
        if is_new {
            self.logged.push(fault.clone());
        }
        is_new
    }
}

impl FaultLog {
    /// The connections broke, or cannot be made.
    pub(super) fn on_connection_fault(&mut self, fault: &RedisFault, core: &BusCore) {
        self.is_working = false;
        // Connections of no use are ended by us: why they were of none is the cause, not that they
        // have ended.
        let is_known = self.connection.cause.is_some() || !self.domains.is_empty();
        if (*fault != RedisFault::Lost || !is_known) && self.connection.note(fault) {
            tracing::warn!(%fault, "trouble with redis");
            core.send_connection_event(BusEventKind::Disconnected(fault.clone()));
        }
        self.publish_current(core);
    }

    /// A domain's heartbeat was not answered as it should be.
    pub(super) fn on_domain_fault(
        &mut self,
        domain: &BusDomain,
        fault: &RedisFault,
        core: &BusCore,
    ) {
        let trouble = self.domains.entry(Arc::clone(&domain.name)).or_default();
        if trouble.note(fault) {
            tracing::warn!(domain = &*domain.name, %fault, "trouble with redis");
            core.send_event(domain, BusEventKind::Disconnected(fault.clone()));
        }
        self.publish_current(core);
    }

    /// A domain's heartbeat was answered: its trouble has ended, and that of the connections.
    pub(super) fn on_heartbeat_answered(&mut self, domain: &BusDomain, core: &BusCore) {
        let had_trouble = self.domains.remove(&domain.name).is_some();
        self.connection = OngoingFault::default();
        if !std::mem::replace(&mut self.is_working, true) {
            tracing::info!("connected to redis: heartbeats are answered");
            core.send_connection_event(BusEventKind::Connected);
        } else if had_trouble {
            tracing::info!(domain = &*domain.name, "connected to redis: heartbeats are answered");
            core.send_event(domain, BusEventKind::Connected);
        }
        self.publish_current(core);
    }

    /// A domain is not served any more.
    pub(super) fn forget(&mut self, domain: &str, core: &BusCore) {
        self.domains.remove(domain);
        self.publish_current(core);
    }

    fn publish_current(&self, core: &BusCore) {
        let of_domain = || self.domains.values().find_map(|trouble| trouble.cause.clone());
        let cause = self.connection.cause.clone().or_else(of_domain);
        *core.current_fault.lock() = cause;
    }
}
