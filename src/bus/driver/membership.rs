//! The driver's connections and domains: connecting, domains that come and go, leaving.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::super::clock;
use super::super::connection::Links;
use super::super::core::Domain;
use super::super::fault::Fault;
use super::super::frames::ReplyExcess;
use super::super::happening::What;
use super::{BACKOFF, Done, Driver, Known, LEAVE_MAX, SAY_AGAIN};
use crate::coherence::{Call, Event};

impl Driver {
    pub(super) fn connect(&mut self, after: Duration) {
        let (settings, outlet, domains) =
            (Arc::clone(&self.settings), self.outlet.clone(), self.all());
        self.tasks.spawn(async move {
            sleep(after).await;
            let connected = async {
                let links = Links::connect(&settings, &outlet).await?;
                for domain in &domains {
                    links.subscribe(&domain.names).await?;
                }
                Ok((links, domains))
            };
            Done::Connected(connected.await)
        });
    }

    pub(super) fn connected(&mut self, links: Links, subscribed: &[Arc<Domain>]) {
        self.set_links(Some(Arc::new(links)));
        self.silent = 0;
        for domain in self.all() {
            if subscribed.iter().any(|one| Arc::ptr_eq(one, &domain)) {
                self.handle(&domain, Event::LinkUp { ordered: true });
            } else {
                self.subscribe(&domain);
            }
        }
    }

    pub(super) fn refused(&mut self, fault: &Fault) {
        self.core.metrics.fault(fault);
        self.troubles.of_connection(fault, &self.core);
        self.connect_later();
    }

    /// The connections broke.
    pub(super) fn lost(&mut self) {
        let fault = self.note_outgrown().map_or(Fault::Lost, Fault::ReplyExcess);
        self.set_links(None);
        self.troubles.of_connection(&fault, &self.core);
        self.handle_all(&Event::LinkLost);
        self.connect_later();
    }

    /// Counts what a server sent beyond what was asked for, and says it, though not each time.
    pub(super) fn note_outgrown(&mut self) -> Option<ReplyExcess> {
        let cause = self.inbox.take_outgrown()?;
        let (fault, now) = (Fault::ReplyExcess(cause), clock::now());
        self.core.metrics.fault(&fault);
        let is_said =
            self.outgrown.is_some_and(|(said, at)| said == cause && now.since(at) < SAY_AGAIN);
        if !is_said {
            tracing::warn!(%fault, "is this a redis, and ours alone?");
            self.outgrown = Some((cause, now));
        }
        Some(cause)
    }

    pub(super) fn connect_later(&mut self) {
        // A fleet that lost one Redis together does not come back all at once.
        self.connect(self.backoff.mul_f64(0.5 + fastrand::f64() / 2.0));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    pub(super) fn set_links(&mut self, links: Option<Arc<Links>>) {
        self.core.metrics.connected.set(i64::from(links.is_some()));
        self.links.clone_from(&links);
        self.core.links.send_replace(links);
    }

    pub(super) fn subscribe(&mut self, domain: &Arc<Domain>) {
        let Some(links) = self.links.clone() else { return };
        let domain = Arc::clone(domain);
        self.tasks.spawn(async move {
            let subscribed = links.subscribe(&domain.names).await;
            Done::Subscribed(links, domain, subscribed)
        });
    }

    /// Looks which domains there are now.
    pub(super) fn follow_domains(&mut self) {
        let now = self.core.domains();
        let gone = |known: &Known| {
            now.get(&known.domain.name).is_none_or(|domain| !Arc::ptr_eq(domain, &known.domain))
        };
        let left: Vec<_> = self
            .domains
            .extract_if(.., |_, known| gone(known))
            .map(|(_, known)| known.domain)
            .collect();
        for domain in left {
            self.drop_domain(&domain);
        }
        for (name, domain) in now {
            if !self.domains.contains_key(&name) {
                self.channels
                    .insert(domain.names.news().into_bytes(), (Arc::clone(&domain), false));
                self.channels
                    .insert(domain.names.hints().into_bytes(), (Arc::clone(&domain), true));
                self.subscribe(&domain);
                self.domains.insert(name, Known::new(domain));
            }
        }
    }

    pub(super) fn drop_domain(&mut self, domain: &Arc<Domain>) {
        self.handle(domain, Event::Stop);
        self.core.metrics.forget(&domain.name);
        self.troubles.forget(&domain.name, &self.core);
        self.core.tell(domain, What::LeaseLost);
        let (news, hints) = (domain.names.news(), domain.names.hints());
        self.channels.remove(news.as_bytes());
        self.channels.remove(hints.as_bytes());
        if let Some(links) = self.links.clone() {
            let domain = Arc::clone(domain);
            self.tasks.spawn(async move {
                let _ = links.unsubscribe(&domain.names).await;
                Done::Left
            });
        }
    }

    pub(super) async fn leave(&mut self) {
        self.tasks.abort_all();
        for domain in self.all() {
            domain.sidecar_mut().handle(clock::now(), Event::Stop, &mut Vec::new());
            self.core.metrics.stand(&domain.name, false, 0);
        }
        let core = &self.core;
        let goodbyes = self.domains.values().map(|known| {
            let call = Call::Deregister(known.domain.member.clone());
            core.ask(&known.domain, call, Duration::ZERO, LEAVE_MAX)
        });
        let _ = timeout(LEAVE_MAX, join_all(goodbyes)).await;
        self.set_links(None);
    }
}
