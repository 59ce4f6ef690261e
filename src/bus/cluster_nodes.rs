//! The servers of a Redis Cluster, each reached for itself: one that is lost holds up no domain but
//! its own.
//!
//! A domain lives on one slot, so each call concerns one server. Which one, a server of the Cluster
//! says (`CLUSTER SLOTS`), or the one that was asked in vain (`MOVED`, and `ASK` for this once).
//! Connections are made when something is asked, and made again when something is asked after they
//! broke; before anything is asked of a domain, its channels are subscribed to on the same
//! connection. So whatever a server says of a domain comes in the order in which it happened there:
//! news, and the hints that other servers pass on. Where a slot has gone to another server, nothing
//! more is heard of the one before.

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

/// Servers that one call is sent to, one after the other.
const HOPS_MAX: usize = 4;
/// Servers that are asked at once who holds what.
const ASKED_AT_ONCE: usize = 4;
/// The time between two requests for the slot map, and between two attempts to reach one server.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Calls of the protocol in a row that a server leaves unanswered before its connections are given
/// up.
const SILENT_MAX: u32 = 2;

/// The servers.
pub(super) struct ClusterNodes {
    settings: BusConfig,
    seeds: Vec<RedisUrl>,
    push_sender: PushSender,
    /// Never held across a wait.
    state: Mutex<ClusterState>,
}

#[derive(Default)]
struct ClusterState {
    /// Who holds the slots of our domains.
    owners: HashMap<u16, NodeAddress>,
    /// Every server that was named when they were last asked.
    known_servers: Vec<NodeAddress>,
    asked_at: Option<Instant>,
    nodes: HashMap<NodeAddress, Arc<ClusterNode>>,
    /// The subscriptions of each domain, by the key of its log: published entries and hints.
    channels: HashMap<String, (String, String)>,
}

/// One server.
struct ClusterNode {
    /// Polled by whoever needs it, and left where it is by those who wait no longer.
    opening: Shared<BoxFuture<'static, Result<RedisServer, RedisFault>>>,
    opened_at: Instant,
    closed: CancellationToken,
    /// The channels of published entries that are subscribed to.
    subscribed: Mutex<HashSet<String>>,
    silent: AtomicU32,
}

impl fmt::Debug for ClusterNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nodes")
    }
}

impl ClusterNode {
    fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || matches!(self.opening.peek(), Some(Err(_)))
    }

    /// Of use to a call, if only to be told at once why it cannot be reached.
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
    /// Finds the Cluster through one of the servers that were named.
    pub(super) async fn connect(
        settings: &BusConfig,
        seeds: &[RedisUrl],
        outlet: &PushSender,
    ) -> Result<Self, RedisFault> {
        Ok(Self::find(settings, seeds, outlet).await?.0)
    }

    /// The same, with who holds what.
    pub(super) async fn find(
        settings: &BusConfig,
        seeds: &[RedisUrl],
        outlet: &PushSender,
    ) -> Result<(Self, Slots), RedisFault> {
        let (settings, seeds, outlet) = (settings.clone(), seeds.to_vec(), outlet.clone());
        let nodes = Self { settings, seeds, push_sender: outlet, state: Mutex::default() };
        let slots = nodes.refresh_slots().await?.ok_or(RedisFault::Lost)?;
        Ok((nodes, slots))
    }

    /// Subscribes to a domain's published entries and hints, from the next call for it on.
    pub(super) fn subscribe(&self, meta: &str, news: &str, hints: &str) {
        self.state().channels.insert(meta.to_owned(), (news.to_owned(), hints.to_owned()));
    }

    /// Hears them no more once the connections are made anew; until then what they bring is
    /// nobody's.
    pub(super) fn unsubscribe(&self, meta: &str) {
        self.state().channels.remove(meta);
    }

    /// Runs one script, within `bound`.
    pub(super) async fn run(
        &self,
        lane: ConnectionKind,
        ask: &ScriptInvocation<'_>,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        let answered = timeout(bound, self.run_redirected(lane, ask))
            .await
            .unwrap_or(Err(RedisFault::TimedOut));
        if lane == ConnectionKind::Protocol {
            self.note_silence(slot(ask.meta()), answered == Err(RedisFault::TimedOut));
        }
        answered
    }

    async fn run_redirected(
        &self,
        lane: ConnectionKind,
        ask: &ScriptInvocation<'_>,
    ) -> Result<ScriptReply, RedisFault> {
        let slot = slot(ask.meta());
        let (mut address, mut asking) = (self.owner(slot).await?, false);
        for _ in 0..HOPS_MAX {
            let node = self.node(&address)?;
            let server = match node.opening.clone().await {
                Ok(server) => server,
                Err(fault) => {
                    // Another may hold the slot by now: the next call goes there.
                    let _ = self.refresh_slots().await;
                    return Err(fault);
                }
            };
            let subscribed = if asking {
                Ok(())
            } else {
                self.ensure_subscribed(&node, &server, ask.meta()).await
            };
            let answered = match subscribed {
                Ok(()) => server.run(lane, ask, asking).await,
                Err(error) => Err(error),
            };
            let error = match answered {
                Ok(value) => return parse_reply(value),
                Err(error) => error,
            };
            let next = error.redirect_node().and_then(|(to, _)| NodeAddress::parse(to, &address));
            asking = next.is_some() && error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            address = match next {
                Some(next) => {
                    if !asking {
                        self.state().set_owner(slot, &next, &self.push_sender);
                    }
                    next
                }
                // Ended by what another call was told: that one knows the way.
                None if node.closed.is_cancelled() => self.owner(slot).await?,
                None => return Err(error.into()),
            };
        }
        Err(RedisFault::Refused("MOVED".to_owned()))
    }

    /// Subscribes to a domain's channels where that was not done on this connection yet.
    async fn ensure_subscribed(
        &self,
        node: &ClusterNode,
        server: &RedisServer,
        meta: &str,
    ) -> redis::RedisResult<()> {
        let Some((news, hints)) = self.state().channels.get(meta).cloned() else { return Ok(()) };
        if node.subscribed().contains(&news) {
            return Ok(());
        }
        self.push_sender.mark_gap();
        server.subscribe_to_shard(&news, &hints).await?;
        node.subscribed().insert(news);
        Ok(())
    }

    /// The server at an address, in whatever state.
    fn node(&self, address: &NodeAddress) -> Result<Arc<ClusterNode>, RedisFault> {
        let mut state = self.state();
        if let Some(node) = state.nodes.get(address).filter(|node| node.is_usable()) {
            return Ok(Arc::clone(node));
        }
        let endpoint = self.endpoint(address)?;
        let (outlet, ended) = (self.push_sender.clone(), CancellationToken::new());
        let end = ended.clone();
        let opening =
            async move { RedisServer::open(endpoint, &outlet, &end).await }.boxed().shared();
        let (since, heard, silent) = (Instant::now(), Mutex::default(), AtomicU32::new(0));
        let node = Arc::new(ClusterNode {
            opening,
            opened_at: since,
            closed: ended,
            subscribed: heard,
            silent,
        });
        state.nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    async fn owner(&self, slot: u16) -> Result<NodeAddress, RedisFault> {
        if let Some(owner) = self.state().owners.get(&slot) {
            return Ok(owner.clone());
        }
        self.state().asked_at = None;
        let slots = self.refresh_slots().await?.ok_or(RedisFault::Lost)?;
        let owner = slots
            .owner(slot)
            .cloned()
            .ok_or_else(|| RedisFault::Refused("CLUSTERDOWN".to_owned()))?;
        self.state().owners.insert(slot, owner.clone());
        Ok(owner)
    }

    /// Asks who holds what, unless that was just done.
    async fn refresh_slots(&self) -> Result<Option<Slots>, RedisFault> {
        let (open, known_servers) = {
            let mut state = self.state();
            if state.asked_at.is_some_and(|asked| asked.elapsed() < RETRY_PAUSE) {
                return Ok(None);
            }
            state.asked_at = Some(Instant::now());
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
            let outlet = self.push_sender.clone();
            let outgrown = move |cause| outlet.on_reply_excess(cause, false);
            let mut connection =
                self.endpoint(&at)?.connect(REPLY_LIMITS, |_| {}, outgrown).await?;
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

    /// The server at an address.
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
    /// Takes the slot map that a server sent.
    fn apply_slots(&mut self, slots: &Slots, push_sender: &PushSender) {
        self.known_servers = slots.servers();
        for slot in self.owners.keys().copied().collect::<Vec<_>>() {
            if let Some(owner) = slots.owner(slot) {
                self.set_owner(slot, owner, push_sender);
            }
        }
        self.nodes.retain(|_, node| !node.is_closed());
    }

    /// Another server holds a slot: the one before has no more to say of it.
    fn set_owner(&mut self, slot: u16, to: &NodeAddress, push_sender: &PushSender) {
        if let Some(before) = self.owners.insert(slot, to.clone()).filter(|before| before != to) {
            self.close_node(&before, push_sender);
        }
    }

    /// Ends the connections to a server, for all domains that have it in common.
    fn close_node(&mut self, address: &NodeAddress, push_sender: &PushSender) {
        if let Some(node) = self.nodes.remove(address) {
            node.closed.cancel();
            push_sender.mark_gap();
        }
    }
}
