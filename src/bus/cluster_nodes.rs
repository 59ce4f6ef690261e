//! The servers of a Redis Cluster, each with connections of its own: a server that is lost holds up
//! only the domains whose slots it holds.
//!
//! A domain lives on one slot, so each call concerns one server. The slot map of any server names
//! it (`CLUSTER SLOTS`), or else the redirect of a server that does not hold the slot (`MOVED`, and
//! `ASK` for one call). Connections are made for the first call that needs them, and made again for
//! the first call after they broke. Before a domain's first call its channels are subscribed to on
//! the same connection, so that replies, published entries and the hints that other servers pass on
//! arrive in the order in which they happened on that server. Where a slot has moved to another
//! server, the connections to the one before are closed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::{StreamExt as _, stream};
use parking_lot::{Mutex, MutexGuard};
use redis::{ErrorKind, ServerErrorKind};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster_slots::{NodeAddress, Slots, slot};
use super::config::{BusConfig, RedisUrl};
use super::endpoint::{CONNECT_MAX, Endpoint};
use super::fault::RedisFault;
use super::push_channel::PushSender;
use super::redis_server::{ConnectionKind, REPLY_LIMITS, RedisServer};
use super::replies::parse_reply;
use super::scripts::ScriptInvocation;
use crate::coherence::ScriptReply;

/// The most servers that one call is sent to, one after the other.
const HOPS_MAX: usize = 4;
/// The most servers that are asked at once for the slot map.
const ASKED_AT_ONCE: usize = 4;
/// The time between two requests for the slot map, and between two attempts to reach one server.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Calls of the protocol in a row that a server leaves unanswered before its connections are given
/// up.
const SILENT_MAX: u32 = 2;

/// The servers of a Cluster, and the connections to them.
pub(super) struct ClusterNodes {
    settings: BusConfig,
    seeds: Vec<RedisUrl>,
    push_sender: PushSender,
    /// The lock is never held across an `.await`.
    state: Mutex<ClusterState>,
}

#[derive(Default)]
struct ClusterState {
    /// The servers that hold the slots of our domains.
    owners: HashMap<u16, NodeAddress>,
    /// Every server that the last slot map named.
    known_servers: Vec<NodeAddress>,
    slots_requested_at: Option<Instant>,
    nodes: HashMap<NodeAddress, Arc<ClusterNode>>,
    /// The subscriptions of each domain, by the key of its log: published entries and hints.
    channels: HashMap<String, (String, String)>,
}

/// The connections to one server.
struct ClusterNode {
    /// Polled by every call that needs the server; a call that is cancelled leaves it for the
    /// others.
    opening: Shared<BoxFuture<'static, Result<RedisServer, RedisFault>>>,
    opened_at: Instant,
    closed: CancellationToken,
    /// The channels of published entries that are subscribed to.
    subscribed: Mutex<HashSet<String>>,
    silent: AtomicU32,
}

impl fmt::Debug for ClusterNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterNodes")
    }
}

impl ClusterNode {
    fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || matches!(self.opening.peek(), Some(Err(_)))
    }

    /// Whether a call may use it, if only to get the fault of a recent failed attempt at once.
    fn is_usable(&self) -> bool {
        !self.closed.is_cancelled() && (!self.is_closed() || self.opened_at.elapsed() < RETRY_PAUSE)
    }

    fn opened_server(&self) -> Option<&RedisServer> {
        self.opening
            .peek()
            .and_then(|opened| opened.as_ref().ok())
            .filter(|_| !self.closed.is_cancelled())
    }

    fn subscribed(&self) -> MutexGuard<'_, HashSet<String>> {
        self.subscribed.lock()
    }
}

impl ClusterNodes {
    /// Finds the Cluster through one of the servers that the URL names.
    pub(super) async fn connect(
        settings: &BusConfig,
        seeds: &[RedisUrl],
        push_sender: &PushSender,
    ) -> Result<Self, RedisFault> {
        Ok(Self::find(settings, seeds, push_sender).await?.0)
    }

    /// The same, with the slot map.
    pub(super) async fn find(
        settings: &BusConfig,
        seeds: &[RedisUrl],
        push_sender: &PushSender,
    ) -> Result<(Self, Slots), RedisFault> {
        let nodes = Self {
            settings: settings.clone(),
            seeds: seeds.to_vec(),
            push_sender: push_sender.clone(),
            state: Mutex::default(),
        };
        let slots = nodes.refresh_slots().await?.ok_or(RedisFault::Lost)?;
        Ok((nodes, slots))
    }

    /// Subscribes to a domain's published entries and hints, from the next call for it on.
    pub(super) fn subscribe(&self, meta: &str, invalidations: &str, hints: &str) {
        self.state().channels.insert(meta.to_owned(), (invalidations.to_owned(), hints.to_owned()));
    }

    /// Subscribes to them no more once the connections are made anew; until then the driver ignores
    /// their messages.
    pub(super) fn unsubscribe(&self, meta: &str) {
        self.state().channels.remove(meta);
    }

    /// Runs one script, within `bound`.
    pub(super) async fn run(
        &self,
        kind: ConnectionKind,
        invocation: &ScriptInvocation<'_>,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        let answered = timeout(bound, self.run_redirected(kind, invocation))
            .await
            .unwrap_or(Err(RedisFault::TimedOut));
        if kind == ConnectionKind::Protocol {
            self.note_silence(slot(invocation.meta()), answered == Err(RedisFault::TimedOut));
        }
        answered
    }

    async fn run_redirected(
        &self,
        kind: ConnectionKind,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<ScriptReply, RedisFault> {
        let slot = slot(invocation.meta());
        let mut address = self.owner(slot).await?;
        let mut after_ask = false;
        for _ in 0..HOPS_MAX {
            let node = self.node(&address)?;
            let server = match node.opening.clone().await {
                Ok(server) => server,
                Err(fault) => {
                    // Another server may hold the slot by now: the next call goes there.
                    let _ = self.refresh_slots().await;
                    return Err(fault);
                }
            };
            let subscribed = if after_ask {
                Ok(())
            } else {
                self.ensure_subscribed(&node, &server, invocation.meta()).await
            };
            let answered = match subscribed {
                Ok(()) => server.run(kind, invocation, after_ask).await,
                Err(error) => Err(error),
            };
            let error = match answered {
                Ok(value) => return parse_reply(value),
                Err(error) => error,
            };
            let next = error.redirect_node().and_then(|(to, _)| NodeAddress::parse(to, &address));
            after_ask = next.is_some() && error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            address = match next {
                Some(next) => {
                    if !after_ask {
                        self.state().set_owner(slot, &next, &self.push_sender);
                    }
                    next
                }
                // Another call closed these connections after a redirect, and has recorded the new
                // owner.
                None if node.closed.is_cancelled() => self.owner(slot).await?,
                None => return Err(error.into()),
            };
        }
        Err(RedisFault::Refused("MOVED".to_owned()))
    }

    /// Subscribes to a domain's channels, unless this connection has already done so.
    async fn ensure_subscribed(
        &self,
        node: &ClusterNode,
        server: &RedisServer,
        meta: &str,
    ) -> redis::RedisResult<()> {
        let Some((invalidations, hints)) = self.state().channels.get(meta).cloned() else {
            return Ok(());
        };
        if node.subscribed().contains(&invalidations) {
            return Ok(());
        }
        self.push_sender.mark_gap();
        server.subscribe_to_shard(&invalidations, &hints).await?;
        node.subscribed().insert(invalidations);
        Ok(())
    }

    /// The connections to the server at an address: those that stand, or new ones that are opened
    /// by the first call.
    fn node(&self, address: &NodeAddress) -> Result<Arc<ClusterNode>, RedisFault> {
        let mut state = self.state();
        if let Some(node) = state.nodes.get(address).filter(|node| node.is_usable()) {
            return Ok(Arc::clone(node));
        }
        let endpoint = self.endpoint(address)?;
        let push_sender = self.push_sender.clone();
        let closed = CancellationToken::new();
        let opening = {
            let closed = closed.clone();
            async move { RedisServer::open(endpoint, &push_sender, &closed).await }
        };
        let node = Arc::new(ClusterNode {
            opening: opening.boxed().shared(),
            opened_at: Instant::now(),
            closed,
            subscribed: Mutex::default(),
            silent: AtomicU32::new(0),
        });
        state.nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    async fn owner(&self, slot: u16) -> Result<NodeAddress, RedisFault> {
        if let Some(owner) = self.state().owners.get(&slot) {
            return Ok(owner.clone());
        }
        self.state().slots_requested_at = None;
        let slots = self.refresh_slots().await?.ok_or(RedisFault::Lost)?;
        let owner = slots
            .owner(slot)
            .cloned()
            .ok_or_else(|| RedisFault::Refused("CLUSTERDOWN".to_owned()))?;
        self.state().owners.insert(slot, owner.clone());
        Ok(owner)
    }

    /// Requests the slot map, unless that was just done.
    async fn refresh_slots(&self) -> Result<Option<Slots>, RedisFault> {
        let (open, known_servers) = {
            let mut state = self.state();
            if state.slots_requested_at.is_some_and(|at| at.elapsed() < RETRY_PAUSE) {
                return Ok(None);
            }
            state.slots_requested_at = Some(Instant::now());
            let open = state
                .nodes
                .iter()
                .filter_map(|(at, node)| Some((at.clone(), node.opened_server()?.clone())));
            (open.collect::<Vec<_>>(), state.known_servers.clone())
        };
        let slots = match self.ask_connected(open).await {
            Some(slots) => slots,
            None => self.ask_unconnected(known_servers).await?,
        };
        self.state().apply_slots(&slots, &self.push_sender);
        Ok(Some(slots))
    }

    async fn ask_connected(&self, open: Vec<(NodeAddress, RedisServer)>) -> Option<Slots> {
        let ask = |(at, server): (NodeAddress, RedisServer)| async move {
            let reply = timeout(CONNECT_MAX, server.send(&Slots::command())).await.ok()?.ok()?;
            Slots::read(reply, &at)
        };
        let mut replies = stream::iter(open).map(ask).buffer_unordered(ASKED_AT_ONCE);
        while let Some(slots) = replies.next().await {
            if slots.is_some() {
                return slots;
            }
        }
        None
    }

    async fn ask_unconnected(&self, known: Vec<NodeAddress>) -> Result<Slots, RedisFault> {
        let seeds = self.seeds.iter().filter_map(|seed| NodeAddress::from_url(&seed.info().ok()?));
        let all: Vec<NodeAddress> = seeds.chain(known).collect();
        let ask = |at: NodeAddress| async move {
            let push_sender = self.push_sender.clone();
            let on_excess = move |cause| push_sender.on_reply_excess(cause, false);
            let mut connection =
                self.endpoint(&at)?.connect(REPLY_LIMITS, |_| {}, on_excess).await?;
            let reply = timeout(CONNECT_MAX, Slots::command().query_async(&mut connection)).await;
            let reply = reply.map_err(|_| RedisFault::TimedOut)??;
            Slots::read(reply, &at).ok_or(RedisFault::Unreadable)
        };
        let mut replies = stream::iter(all).map(ask).buffer_unordered(ASKED_AT_ONCE);
        let mut first = None;
        while let Some(slots) = replies.next().await {
            match slots {
                Ok(slots) => return Ok(slots),
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        Err(first.unwrap_or(RedisFault::Lost))
    }

    /// The endpoint of the server at an address.
    pub(super) fn endpoint(&self, address: &NodeAddress) -> Result<Endpoint, RedisFault> {
        let seed = self.seeds.first().ok_or(RedisFault::Lost)?;
        let redis = self.settings.with_credentials(seed.info()?.redis_settings().clone())?;
        self.settings.endpoint(address.to_addr(seed.is_tls()), redis)
    }

    fn note_silence(&self, slot: u16, silent: bool) {
        let mut state = self.state();
        let Some(owner) = state.owners.get(&slot).cloned() else { return };
        let Some(node) = state.nodes.get(&owner) else { return };
        if !silent {
            node.silent.store(0, Ordering::Relaxed);
        } else if node.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            state.close_node(&owner, &self.push_sender);
        }
    }

    fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock()
    }
}

impl ClusterState {
    /// Applies the slot map that a server sent.
    fn apply_slots(&mut self, slots: &Slots, push_sender: &PushSender) {
        self.known_servers = slots.servers();
        for slot in self.owners.keys().copied().collect::<Vec<_>>() {
            if let Some(owner) = slots.owner(slot) {
                self.set_owner(slot, owner, push_sender);
            }
        }
        self.nodes.retain(|_, node| !node.is_closed());
    }

    /// Records the server that holds a slot. The connections to the one before are closed, since
    /// its messages about the slot no longer count.
    fn set_owner(&mut self, slot: u16, to: &NodeAddress, push_sender: &PushSender) {
        if let Some(before) = self.owners.insert(slot, to.clone()).filter(|before| before != to) {
            self.close_node(&before, push_sender);
        }
    }

    /// Closes the connections to a server, for all domains on it.
    fn close_node(&mut self, address: &NodeAddress, push_sender: &PushSender) {
        if let Some(node) = self.nodes.remove(address) {
            node.closed.cancel();
            push_sender.mark_gap();
        }
    }
}
