//! What keeps a bus from its Redis: said once as it begins, with its cause, and once as it ends, however
//! often it is met meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::super::core::Core;
use super::super::fault::Fault;
use super::super::happening::What;

/// Causes that are told apart within one trouble; what differs further is not said.
const CAUSES_MAX: usize = 16;

/// What keeps the bus from Redis now.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Why there are no connections, or none of use.
    connection: Option<Fault>,
    /// Why a domain's heartbeats are not answered.
    domains: BTreeMap<Arc<str>, Fault>,
    /// Every cause that was said since the trouble began.
    said: Vec<Fault>,
    /// Heartbeats were answered since the last trouble: that has been said.
    works: bool,
}

impl Troubles {
    /// The connections broke, or cannot be made.
    pub(super) fn of_connection(&mut self, fault: Fault, core: &Core) {
        // Why it was of no use says more than that it has gone since.
        if fault != Fault::Lost || self.connection.is_none() && self.domains.is_empty() {
            self.domains.clear();
            self.connection = Some(fault);
        }
        self.tell(core);
    }

    /// A domain's heartbeat was refused.
    pub(super) fn of_domain(&mut self, domain: &Arc<str>, fault: &Fault, core: &Core) {
        if self.domains.get(domain) != Some(fault) {
            self.domains.insert(Arc::clone(domain), fault.clone());
        }
        self.tell(core);
    }

    /// A domain's heartbeat was answered; once all are, the trouble has ended.
    pub(super) fn answered(&mut self, domain: &Arc<str>, core: &Core) {
        self.connection = None;
        self.domains.remove(domain);
        if self.domains.is_empty() && !self.works {
            self.said.clear();
            self.works = true;
            tracing::info!("connected to redis: heartbeats are answered");
            core.tell_of_links(What::Connected);
        }
        self.show(core);
    }

    /// A domain is not served any more.
    pub(super) fn forget(&mut self, domain: &str, core: &Core) {
        self.domains.remove(domain);
        self.show(core);
    }

    fn cause(&self) -> Option<&Fault> {
        self.connection.as_ref().or_else(|| self.domains.values().next())
    }

    fn tell(&mut self, core: &Core) {
        self.works = false;
        self.show(core);
        let Some(fault) = self.cause().cloned() else { return };
        if self.said.contains(&fault) || self.said.len() >= CAUSES_MAX {
            return;
        }
        tracing::warn!(%fault, "trouble with redis");
        core.tell_of_links(What::Disconnected(fault.clone()));
        self.said.push(fault);
    }

    fn show(&self, core: &Core) {
        *core.trouble.lock().unwrap_or_else(PoisonError::into_inner) = self.cause().cloned();
    }
}
