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
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::{StreamExt as _, stream};
use redis::{ErrorKind, ServerErrorKind};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::answer;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::inbox::Outlet;
use super::scripts::Ask;
use super::server::{ANSWERS, CONNECT_MAX, Lane, Server};
use super::settings::{ConnectionUrl, Settings};
use super::slots::{Address, Slots, slot};
use crate::coherence::Answer;

/// Servers that one call is sent to, one after the other.
const HOPS_MAX: usize = 4;
/// Servers that are asked at once who holds what.
const ASKED_AT_ONCE: usize = 4;
/// Between two questions who holds what, and between two tries to reach one server.
const PAUSE: Duration = Duration::from_millis(50);
/// Calls of the protocol in a row that a server leaves unanswered before its connections are given
/// up.
const SILENT_MAX: u32 = 2;

/// The servers.
pub(super) struct Nodes {
    settings: Settings,
    seeds: Vec<ConnectionUrl>,
    outlet: Outlet,
    /// Never held across a wait.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who holds the slots of our domains.
    owners: HashMap<u16, Address>,
    /// Every server that was named when they were last asked.
    known: Vec<Address>,
    asked: Option<Instant>,
    nodes: HashMap<Address, Arc<Node>>,
    /// What to hear of a domain, by the key of its log: news and hints.
    channels: HashMap<String, (String, String)>,
}

/// One server.
struct Node {
    /// Polled by whoever needs it, and left where it is by those who wait no longer.
    opening: Shared<BoxFuture<'static, Result<Server, Fault>>>,
    since: Instant,
    ended: CancellationToken,
    /// The channels of news that are heard.
    heard: Mutex<HashSet<String>>,
    silent: AtomicU32,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nodes")
    }
}

impl Node {
    fn is_over(&self) -> bool {
        self.ended.is_cancelled() || matches!(self.opening.peek(), Some(Err(_)))
    }

    /// Of use to a call, if only to be told at once why it cannot be reached.
    fn is_of_use(&self) -> bool {
        !self.ended.is_cancelled() && (!self.is_over() || self.since.elapsed() < PAUSE)
    }

    fn open(&self) -> Option<&Server> {
        self.opening
            .peek()
            .and_then(|opened| opened.as_ref().ok())
            .filter(|_| !self.ended.is_cancelled())
    }

    fn heard(&self) -> MutexGuard<'_, HashSet<String>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    /// Finds the Cluster through one of the servers that were named.
    pub(super) async fn connect(
        settings: &Settings,
        seeds: &[ConnectionUrl],
        outlet: &Outlet,
    ) -> Result<Self, Fault> {
        Ok(Self::find(settings, seeds, outlet).await?.0)
    }

    /// The same, with who holds what.
    pub(super) async fn find(
        settings: &Settings,
        seeds: &[ConnectionUrl],
        outlet: &Outlet,
    ) -> Result<(Self, Slots), Fault> {
        let (settings, seeds, outlet) = (settings.clone(), seeds.to_vec(), outlet.clone());
        let nodes = Self { settings, seeds, outlet, state: Mutex::default() };
        let slots = nodes.learn().await?.ok_or(Fault::Lost)?;
        Ok((nodes, slots))
    }

    /// Hears a domain's news and hints, from the next call for it on.
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
        lane: Lane,
        ask: &Ask<'_>,
        bound: Duration,
    ) -> Result<Answer, Fault> {
        let answered = timeout(bound, self.answered(lane, ask)).await.unwrap_or(Err(Fault::Slow));
        if lane == Lane::Protocol {
            self.note_silence(slot(ask.meta()), answered == Err(Fault::Slow));
        }
        answered
    }

    async fn answered(&self, lane: Lane, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let slot = slot(ask.meta());
        let (mut address, mut asking) = (self.owner(slot).await?, false);
        for _ in 0..HOPS_MAX {
            let node = self.node(&address)?;
            let server = match node.opening.clone().await {
                Ok(server) => server,
                Err(fault) => {
                    // Another may hold the slot by now: the next call goes there.
                    let _ = self.learn().await;
                    return Err(fault);
                }
            };
            let subscribed =
                if asking { Ok(()) } else { self.hear(&node, &server, ask.meta()).await };
            let answered = match subscribed {
                Ok(()) => server.run(lane, ask, asking).await,
                Err(error) => Err(error),
            };
            let error = match answered {
                Ok(value) => return answer(value),
                Err(error) => error,
            };
            let next = error.redirect_node().and_then(|(to, _)| Address::parse(to, &address));
            asking = next.is_some() && error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            address = match next {
                Some(next) => {
                    if !asking {
                        self.state().moved(slot, &next, &self.outlet);
                    }
                    next
                }
                // Ended by what another call was told: that one knows the way.
                None if node.ended.is_cancelled() => self.owner(slot).await?,
                None => return Err(error.into()),
            };
        }
        Err(Fault::Refused("MOVED".to_owned()))
    }

    /// Subscribes to a domain's channels where that was not done on this connection yet.
    async fn hear(&self, node: &Node, server: &Server, meta: &str) -> redis::RedisResult<()> {
        let Some((news, hints)) = self.state().channels.get(meta).cloned() else { return Ok(()) };
        if node.heard().contains(&news) {
            return Ok(());
        }
        self.outlet.miss();
        server.subscribe_to_shard(&news, &hints).await?;
        node.heard().insert(news);
        Ok(())
    }

    /// The server at an address, in whatever state.
    fn node(&self, address: &Address) -> Result<Arc<Node>, Fault> {
        let mut state = self.state();
        if let Some(node) = state.nodes.get(address).filter(|node| node.is_of_use()) {
            return Ok(Arc::clone(node));
        }
        let endpoint = self.endpoint(address)?;
        let (outlet, ended) = (self.outlet.clone(), CancellationToken::new());
        let end = ended.clone();
        let opening = async move { Server::open(endpoint, &outlet, &end).await }.boxed().shared();
        let (since, heard, silent) = (Instant::now(), Mutex::default(), AtomicU32::new(0));
        let node = Arc::new(Node { opening, since, ended, heard, silent });
        state.nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    async fn owner(&self, slot: u16) -> Result<Address, Fault> {
        if let Some(owner) = self.state().owners.get(&slot) {
            return Ok(owner.clone());
        }
        self.state().asked = None;
        let slots = self.learn().await?.ok_or(Fault::Lost)?;
        let owner =
            slots.owner(slot).cloned().ok_or_else(|| Fault::Refused("CLUSTERDOWN".to_owned()))?;
        self.state().owners.insert(slot, owner.clone());
        Ok(owner)
    }

    /// Asks who holds what, unless that was just done.
    async fn learn(&self) -> Result<Option<Slots>, Fault> {
        let (open, others) = {
            let mut state = self.state();
            if state.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
                return Ok(None);
            }
            state.asked = Some(Instant::now());
            let open = state
                .nodes
                .iter()
                .filter_map(|(at, node)| Some((at.clone(), node.open()?.clone())));
            (open.collect::<Vec<_>>(), state.known.clone())
        };
        let slots = match self.ask_open(open).await {
            Some(slots) => slots,
            None => self.ask_others(others).await?,
        };
        self.state().learned(&slots, &self.outlet);
        Ok(Some(slots))
    }

    async fn ask_open(&self, open: Vec<(Address, Server)>) -> Option<Slots> {
        let ask = |(at, server): (Address, Server)| async move {
            let said = timeout(CONNECT_MAX, server.send(&Slots::question())).await.ok()?.ok()?;
            Slots::read(said, &at)
        };
        let mut said = stream::iter(open).map(ask).buffer_unordered(ASKED_AT_ONCE);
        while let Some(slots) = said.next().await {
            if slots.is_some() {
                return slots;
            }
        }
        None
    }

    async fn ask_others(&self, known: Vec<Address>) -> Result<Slots, Fault> {
        let seeds = self.seeds.iter().filter_map(|seed| Address::of(&seed.info().ok()?));
        let all: Vec<Address> = seeds.chain(known).collect();
        let ask = |at: Address| async move {
            let outlet = self.outlet.clone();
            let outgrown = move |cause| outlet.outgrown(cause, false);
            let mut connection = self.endpoint(&at)?.connect(ANSWERS, |_| {}, outgrown).await?;
            let said = timeout(CONNECT_MAX, Slots::question().query_async(&mut connection)).await;
            Slots::read(said.map_err(|_| Fault::Slow)??, &at).ok_or(Fault::Unreadable)
        };
        let mut said = stream::iter(all).map(ask).buffer_unordered(ASKED_AT_ONCE);
        let mut first = None;
        while let Some(slots) = said.next().await {
            match slots {
                Ok(slots) => return Ok(slots),
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        Err(first.unwrap_or(Fault::Lost))
    }

    /// The server at an address.
    pub(super) fn endpoint(&self, address: &Address) -> Result<Endpoint, Fault> {
        let seed = self.seeds.first().ok_or(Fault::Lost)?;
        let redis = self.settings.authorise(seed.info()?.redis_settings().clone())?;
        self.settings.endpoint(address.to_addr(seed.is_tls()), redis)
    }

    fn note_silence(&self, slot: u16, silent: bool) {
        let mut state = self.state();
        let Some(owner) = state.owners.get(&slot).cloned() else { return };
        let Some(node) = state.nodes.get(&owner) else { return };
        if !silent {
            node.silent.store(0, Ordering::Relaxed);
        } else if node.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            state.end(&owner, &self.outlet);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes what a server said of all slots.
    fn learned(&mut self, slots: &Slots, outlet: &Outlet) {
        self.known = slots.servers();
        for slot in self.owners.keys().copied().collect::<Vec<_>>() {
            if let Some(owner) = slots.owner(slot) {
                self.moved(slot, owner, outlet);
            }
        }
        self.nodes.retain(|_, node| !node.is_over());
    }

    /// Another server holds a slot: the one before has no more to say of it.
    fn moved(&mut self, slot: u16, to: &Address, outlet: &Outlet) {
        if let Some(before) = self.owners.insert(slot, to.clone()).filter(|before| before != to) {
            self.end(&before, outlet);
        }
    }

    /// Ends the connections to a server, for all domains that have it in common.
    fn end(&mut self, address: &Address, outlet: &Outlet) {
        if let Some(node) = self.nodes.remove(address) {
            node.ended.cancel();
            outlet.miss();
        }
    }
}
