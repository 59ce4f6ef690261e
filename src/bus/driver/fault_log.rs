//! Logs Redis faults: each once as it begins, with its cause, and once as it ends, however often it
//! recurs meanwhile. The connections have one fault at a time, and each domain has one of its own,
//! since a server may refuse the scripts of one domain and not of another. The counter of faults is
//! `bfb_redis_faults_total`; `bus/mod.rs` tells what follows when Redis refuses a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::core::{BusCore, BusDomain};
use super::super::events::BusEventKind;
use super::super::fault::RedisFault;

/// The most causes of one ongoing fault that are logged; further ones are not.
const CAUSES_MAX: usize = 16;

/// The Redis faults that are ongoing, and whether their end was logged.
#[derive(Debug, Default)]
pub(super) struct FaultLog {
    connection: OngoingFault,
    domains: BTreeMap<Arc<str>, OngoingFault>,
    /// A heartbeat was answered since the last fault of the connections, and that was logged.
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
        // The bus closes connections that are of no use: the cause is why they were of none, not
        // that they were closed.
        let is_known = self.connection.cause.is_some() || !self.domains.is_empty();
        if (*fault != RedisFault::Lost || !is_known) && self.connection.note(fault) {
            tracing::warn!(%fault, "trouble with redis");
            core.send_connection_event(BusEventKind::Disconnected(fault.clone()));
        }
        self.publish_current(core);
    }

    /// A domain's heartbeat failed: no reply, or Redis refused the script.
    pub(super) fn on_domain_fault(
        &mut self,
        domain: &BusDomain,
        fault: &RedisFault,
        core: &BusCore,
    ) {
        let ongoing = self.domains.entry(Arc::clone(&domain.name)).or_default();
        if ongoing.note(fault) {
            tracing::warn!(domain = &*domain.name, %fault, "trouble with redis");
            core.send_event(domain, BusEventKind::Disconnected(fault.clone()));
        }
        self.publish_current(core);
    }

    /// A domain's heartbeat was answered: its fault has ended, and that of the connections.
    pub(super) fn on_heartbeat_answered(&mut self, domain: &BusDomain, core: &BusCore) {
        let had_fault = self.domains.remove(&domain.name).is_some();
        self.connection = OngoingFault::default();
        if !std::mem::replace(&mut self.is_working, true) {
            tracing::info!("connected to redis: heartbeats are answered");
            core.send_connection_event(BusEventKind::Connected);
        } else if had_fault {
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
        let of_domain = || self.domains.values().find_map(|ongoing| ongoing.cause.clone());
        let cause = self.connection.cause.clone().or_else(of_domain);
        *core.current_fault.lock() = cause;
    }
}
