//! The connections to Redis: to one server that a URL or the sentinels name, or to the servers of a
//! Cluster. With one server a broken connection closes all of them, and the driver connects anew;
//! on a Cluster each server is reconnected by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use futures_util::future::join_all;

use super::cluster_nodes::ClusterNodes;
use super::config::{BusConfig, RedisServers, RedisUrl};
use super::endpoint::{CONNECT_MAX, Endpoint};
use super::fault::RedisFault;
use super::push_channel::PushSender;
use super::redis_names::RedisNames;
use super::redis_server::{ConnectionKind, RedisServer};
use super::replies::parse_reply;
use super::scripts::ScriptInvocation;
use super::sentinel::find_primary;
use crate::coherence::ScriptReply;

/// One set of connections. They are made together; a new attempt makes a new set.
#[derive(Debug)]
pub(super) struct RedisConnections {
    topology: RedisTopology,
    closed: CancellationToken,
}

#[derive(Debug)]
enum RedisTopology {
    One(Box<RedisServer>),
    Many(Box<ClusterNodes>),
}

/// The connections that stand at present, shared; none while the bus is not connected.
pub(super) type CurrentConnections = Option<Arc<RedisConnections>>;

impl RedisConnections {
    /// Connects. Published messages go to `push_sender`.
    pub(super) async fn connect(
        settings: &BusConfig,
        push_sender: &PushSender,
    ) -> Result<Self, RedisFault> {
        timeout(CONNECT_MAX, Self::open(settings, push_sender))
            .await
            .unwrap_or(Err(RedisFault::TimedOut))
    }

    async fn open(settings: &BusConfig, push_sender: &PushSender) -> Result<Self, RedisFault> {
        let closed = CancellationToken::new();
        let topology = match &settings.servers {
            RedisServers::One(url) => RedisTopology::One(Box::new(
                RedisServer::open(single_endpoint(settings, url)?, push_sender, &closed).await?,
            )),
            RedisServers::Sentinel { sentinels, service } => {
                let primary = find_primary(settings, sentinels, service).await?;
                RedisTopology::One(Box::new(
                    RedisServer::open(primary, push_sender, &closed).await?,
                ))
            }
            RedisServers::Cluster(seeds) => RedisTopology::Many(Box::new(
                ClusterNodes::connect(settings, seeds, push_sender).await?,
            )),
        };
        Ok(Self { topology, closed })
    }

    /// Whether this is a Cluster, of which each server may be lost by itself.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.topology, RedisTopology::Many(_))
    }

    /// Closes the connections.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Returns once one of the connections has ended.
    pub(super) async fn wait_closed(&self) {
        self.closed.cancelled().await;
    }

    /// Subscribes to a domain's published entries and hints. On a Cluster the subscription stands
    /// before the next call for the domain is sent, so before anything is answered.
    pub(super) async fn subscribe(&self, names: &RedisNames) -> Result<(), RedisFault> {
        let invalidations = names.invalidations_channel();
        let hints = names.hints_channel();
        match &self.topology {
            RedisTopology::One(server) => {
                let subscribed =
                    timeout(CONNECT_MAX, server.subscribe(&invalidations, &hints)).await;
                Ok(subscribed.map_err(|_| RedisFault::TimedOut)??)
            }
            RedisTopology::Many(nodes) => {
                nodes.subscribe(&names.meta(), &invalidations, &hints);
                Ok(())
            }
        }
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, names: &RedisNames) -> Result<(), RedisFault> {
        match &self.topology {
            RedisTopology::One(server) => {
                let unsubscribed = timeout(
                    CONNECT_MAX,
                    server.unsubscribe(&names.invalidations_channel(), &names.hints_channel()),
                )
                .await;
                Ok(unsubscribed.map_err(|_| RedisFault::TimedOut)??)
            }
            RedisTopology::Many(nodes) => {
                nodes.unsubscribe(&names.meta());
                Ok(())
            }
        }
    }

    /// Runs one script, within `bound`.
    pub(super) async fn run(
        &self,
        kind: ConnectionKind,
        invocation: &ScriptInvocation<'_>,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        match &self.topology {
            RedisTopology::One(server) => {
                let answered = timeout(bound, server.run(kind, invocation, false)).await;
                parse_reply(answered.map_err(|_| RedisFault::TimedOut)??)
            }
            RedisTopology::Many(nodes) => nodes.run(kind, invocation, bound).await,
        }
    }

    /// Runs several scripts in one round trip; on a Cluster, concurrently.
    pub(super) async fn run_all(
        &self,
        invocations: &[ScriptInvocation<'_>],
        bound: Duration,
    ) -> Vec<Result<ScriptReply, RedisFault>> {
        match &self.topology {
            RedisTopology::One(server) => {
                let answered = timeout(bound, server.run_all(invocations))
                    .await
                    .unwrap_or(Err(RedisFault::TimedOut));
                answered.unwrap_or_else(|fault| {
                    invocations.iter().map(|_| Err(fault.clone())).collect()
                })
            }
            RedisTopology::Many(nodes) => {
                let runs = invocations
                    .iter()
                    .map(|invocation| nodes.run(ConnectionKind::Protocol, invocation, bound));
                join_all(runs).await
            }
        }
    }
}

/// The endpoint of the one server that a URL names.
pub(super) fn single_endpoint(
    settings: &BusConfig,
    url: &RedisUrl,
) -> Result<Endpoint, RedisFault> {
    let info = url.info()?;
    let redis = settings.with_credentials(info.redis_settings().clone())?;
    settings.endpoint(info.addr().clone(), redis)
}
