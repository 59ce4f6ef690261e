//! What keeps a bus from its Redis: said once as it begins, with its cause, and once as it ends,
//! however often it is met meanwhile. The connections have one trouble at a time, and each domain
//! has one of its own, since a server may refuse one domain and not another.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::super::core::{Core, Domain};
use super::super::fault::Fault;
use super::super::happening::What;

/// Causes that are told apart within one trouble; what differs further is not said.
const CAUSES_MAX: usize = 16;

/// What keeps the bus from Redis now.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    connection: Trouble,
    domains: BTreeMap<Arc<str>, Trouble>,
    /// A heartbeat was answered since the connections last had trouble, and that has been said.
    works: bool,
}

/// One trouble.
#[derive(Debug, Default)]
struct Trouble {
    cause: Option<Fault>,
    /// Every cause that was said since it began.
    said: Vec<Fault>,
}

impl Trouble {
    /// Takes a cause; whether it is to be said.
    fn take(&mut self, fault: &Fault) -> bool {
        self.cause = Some(fault.clone());
        // The text of a TLS error may hold the time.
        let is_same =
            |said: &Fault| said == fault || matches!((said, fault), (Fault::Tls(_), Fault::Tls(_)));
        let is_new = !self.said.iter().any(is_same) && self.said.len() < CAUSES_MAX;
        if is_new {
            self.said.push(fault.clone());
        }
        is_new
    }
}

impl Troubles {
    /// The connections broke, or cannot be made.
    pub(super) fn of_connection(&mut self, fault: &Fault, core: &Core) {
        self.works = false;
        // Connections of no use are ended by us: why they were of none is the cause, not that they
        // have ended.
        let is_known = self.connection.cause.is_some() || !self.domains.is_empty();
        if (*fault != Fault::Lost || !is_known) && self.connection.take(fault) {
            tracing::warn!(%fault, "trouble with redis");
            core.tell_of_links(What::Disconnected(fault.clone()));
        }
        self.show(core);
    }

    /// A domain's heartbeat was not answered as it should be.
    pub(super) fn of_domain(&mut self, domain: &Domain, fault: &Fault, core: &Core) {
        let trouble = self.domains.entry(Arc::clone(&domain.name)).or_default();
        if trouble.take(fault) {
            tracing::warn!(domain = &*domain.name, %fault, "trouble with redis");
            core.tell(domain, What::Disconnected(fault.clone()));
        }
        self.show(core);
    }

    /// A domain's heartbeat was answered: its trouble has ended, and that of the connections.
    pub(super) fn answered(&mut self, domain: &Domain, core: &Core) {
        let had_trouble = self.domains.remove(&domain.name).is_some();
        self.connection = Trouble::default();
        if !std::mem::replace(&mut self.works, true) {
            tracing::info!("connected to redis: heartbeats are answered");
            core.tell_of_links(What::Connected);
        } else if had_trouble {
            tracing::info!(domain = &*domain.name, "connected to redis: heartbeats are answered");
            core.tell(domain, What::Connected);
        }
        self.show(core);
    }

    /// A domain is not served any more.
    pub(super) fn forget(&mut self, domain: &str, core: &Core) {
        self.domains.remove(domain);
        self.show(core);
    }

    fn show(&self, core: &Core) {
        let of_domain = || self.domains.values().find_map(|trouble| trouble.cause.clone());
        let cause = self.connection.cause.clone().or_else(of_domain);
        *core.trouble.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }
}
