//! How Redis is reached: one server that a URL names or that sentinels name, or the servers of a
//! Cluster. Whoever finds the connections to one server broken ends them all; on a Cluster each
//! server is found again for itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use futures_util::future::join_all;

use super::answers::answer;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::inbox::Outlet;
use super::names::Names;
use super::nodes::Nodes;
use super::scripts::Ask;
use super::sentinel::primary;
use super::server::{CONNECT_MAX, Lane, Server};
use super::settings::{ConnectionUrl, Servers, Settings};
use crate::coherence::Answer;

/// The connections of one time.
#[derive(Debug)]
pub(super) struct Links {
    reached: Reached,
    broken: CancellationToken,
}

#[derive(Debug)]
enum Reached {
    One(Box<Server>),
    Many(Box<Nodes>),
}

/// Connections of one time, shared.
pub(super) type Shared = Option<Arc<Links>>;

impl Links {
    /// Connects. What is published goes to `outlet`.
    pub(super) async fn connect(settings: &Settings, outlet: &Outlet) -> Result<Self, Fault> {
        timeout(CONNECT_MAX, Self::connected(settings, outlet)).await.unwrap_or(Err(Fault::Slow))
    }

    async fn connected(settings: &Settings, outlet: &Outlet) -> Result<Self, Fault> {
        let broken = CancellationToken::new();
        let reached = match &settings.place {
            Servers::One(url) => {
                Reached::One(Box::new(Server::open(one(settings, url)?, outlet, &broken).await?))
            }
            Servers::Sentinel { sentinels, service } => {
                let primary = primary(settings, sentinels, service).await?;
                Reached::One(Box::new(Server::open(primary, outlet, &broken).await?))
            }
            Servers::Cluster(seeds) => {
                Reached::Many(Box::new(Nodes::connect(settings, seeds, outlet).await?))
            }
        };
        Ok(Self { reached, broken })
    }

    /// Whether there are several servers, each of which may be lost for itself.
    pub(super) fn are_of_many(&self) -> bool {
        matches!(self.reached, Reached::Many(_))
    }

    /// Ends them.
    pub(super) fn end(&self) {
        self.broken.cancel();
    }

    /// Returns once one of them has ended.
    pub(super) async fn ended(&self) {
        self.broken.cancelled().await;
    }

    /// Subscribes to a domain's news and hints. On a Cluster the subscription stands before the
    /// next call for the domain is sent, so before anything is answered.
    pub(super) async fn subscribe(&self, names: &Names) -> Result<(), Fault> {
        let (news, hints) = (names.news(), names.hints());
        match &self.reached {
            Reached::One(server) => {
                let subscribed = timeout(CONNECT_MAX, server.subscribe(&news, &hints)).await;
                Ok(subscribed.map_err(|_| Fault::Slow)??)
            }
            Reached::Many(nodes) => {
                nodes.subscribe(&names.meta(), &news, &hints);
                Ok(())
            }
        }
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, names: &Names) -> Result<(), Fault> {
        match &self.reached {
            Reached::One(server) => {
                let unsubscribed =
                    timeout(CONNECT_MAX, server.unsubscribe(&names.news(), &names.hints())).await;
                Ok(unsubscribed.map_err(|_| Fault::Slow)??)
            }
            Reached::Many(nodes) => {
                nodes.unsubscribe(&names.meta());
                Ok(())
            }
        }
    }

    /// Runs one script, within `bound`.
    pub(super) async fn run(
        &self,
        lane: Lane,
        ask: &Ask<'_>,
        bound: Duration,
    ) -> Result<Answer, Fault> {
        match &self.reached {
            Reached::One(server) => {
                let answered = timeout(bound, server.run(lane, ask, false)).await;
                answer(answered.map_err(|_| Fault::Slow)??)
            }
            Reached::Many(nodes) => nodes.run(lane, ask, bound).await,
        }
    }

    /// Runs many in one round trip; on a Cluster, beside each other.
    pub(super) async fn run_all(
        &self,
        asks: &[Ask<'_>],
        bound: Duration,
    ) -> Vec<Result<Answer, Fault>> {
        match &self.reached {
            Reached::One(server) => {
                let answered =
                    timeout(bound, server.run_all(asks)).await.unwrap_or(Err(Fault::Slow));
                answered.unwrap_or_else(|fault| asks.iter().map(|_| Err(fault.clone())).collect())
            }
            Reached::Many(nodes) => {
                join_all(asks.iter().map(|ask| nodes.run(Lane::Protocol, ask, bound))).await
            }
        }
    }
}

/// The one server.
pub(super) fn one(settings: &Settings, url: &ConnectionUrl) -> Result<Endpoint, Fault> {
    let info = url.info()?;
    let redis = settings.authorise(info.redis_settings().clone())?;
    settings.endpoint(info.addr().clone(), redis)
}
