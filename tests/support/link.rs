//! A TCP link between two addresses that can be cut, slowed, half-closed, black-holed and healed
//! while it runs.
//!
//! It is a proxy on loopback, so it does only what a network can do to TCP: bytes are delayed or
//! the connection ends, but no byte is lost, changed or reordered within a connection that lives.
//! Waiting is on events: [`Link::until`] returns once the counters have reached a state, and gives
//! up loudly.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::client::TEST_TIMEOUT;

const CHUNK_BYTES: usize = 16 * 1024;
/// How many chunks a slowed link carries in a second at least, so that it flows instead of jumping.
const CHUNKS_PER_SECOND: u32 = 20;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the target.
    Up,
    /// From the target back.
    Down,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// RST to both ends: bytes on their way are lost.
    Reset,
    /// FIN to both ends: each reads the end; bytes that it still writes are dropped.
    Finish,
}

/// How fast the link is, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinkSpeed {
    /// How long each chunk (at most 16 KiB) is held back.
    pub(crate) delay: Duration,
    /// `None`: as fast as it goes.
    pub(crate) bytes_per_second: Option<NonZeroU32>,
}

/// The counters of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Connections accepted, those that were ended at once included.
    pub(crate) accepted: u64,
    /// Connections that have both ends now.
    pub(crate) open: u64,
    /// Connections that found no target.
    pub(crate) unreachable: u64,
    /// Bytes delivered to the target.
    pub(crate) up: u64,
    /// Bytes delivered to the client.
    pub(crate) down: u64,
    /// How often the client sent after it had been sent something: round trips, where there is one
    /// connection.
    pub(crate) turns: u64,
    last: Option<Direction>,
}

impl Counts {
    fn carried(&mut self, way: Direction, bytes: u64) {
        match way {
            Direction::Up => self.up += bytes,
            Direction::Down => self.down += bytes,
        }
        let is_turn = way == Direction::Up && self.last == Some(Direction::Down);
        self.turns += u64::from(is_turn);
        self.last = Some(way);
    }
}

/// The present state of the link.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Ends every connection, new ones too.
    cut: Option<Cut>,
    /// How many cuts there were, and how the last one was: a connection older than it ends.
    cuts: (u64, Cut),
    pace: LinkSpeed,
    up: DirectionState,
    down: DirectionState,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default)]
struct DirectionState {
    black_hole: bool,
    /// How often it was half-closed: connections older than the last time are.
    half_closes: u64,
}

impl State {
    fn direction(&self, way: Direction) -> &DirectionState {
        match way {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn direction_mut(&mut self, way: Direction) -> &mut DirectionState {
        match way {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// The link. Dropping it ends all connections.
#[derive(Debug)]
pub(crate) struct Link {
    addr: SocketAddr,
    state: watch::Sender<State>,
    counts: watch::Receiver<Counts>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// A link to `target`, which need not be there yet.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let healthy = State {
            cut: None,
            cuts: (0, Cut::Reset),
            pace: LinkSpeed::default(),
            up: DirectionState::default(),
            down: DirectionState::default(),
        };
        let (state, state_read) = watch::channel(healthy);
        let (counts, counts_read) = watch::channel(Counts::default());
        let addr = listener.local_addr().unwrap();
        let task =
            tokio::spawn(run(listener, target, View { state: state_read, counts })).abort_handle();
        Self { addr, state, counts: counts_read, task }
    }

    /// Where to connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every connection, and each new one as soon as it comes, until healed.
    pub(crate) fn cut(&self, cut: Cut) {
        self.state.send_modify(|state| {
            state.cut = Some(cut);
            state.cuts = (state.cuts.0 + 1, cut);
        });
    }

    /// Ends the connections of now; new ones pass.
    pub(crate) fn drop_connections(&self, cut: Cut) {
        self.state.send_modify(|state| state.cuts = (state.cuts.0 + 1, cut));
    }

    /// Slows both ways, the connections of now too.
    pub(crate) fn slow(&self, pace: LinkSpeed) {
        self.state.send_modify(|state| state.pace = pace);
    }

    /// Sends a FIN in one direction on each present connection, after the bytes on their way; the
    /// other direction goes on.
    pub(crate) fn half_close(&self, way: Direction) {
        self.state.send_modify(|state| state.direction_mut(way).half_closes += 1);
    }

    /// Delivers nothing more in one way, no FIN or RST either, until healed: then all that waited
    /// arrives.
    pub(crate) fn black_hole(&self, way: Direction) {
        self.state.send_modify(|state| state.direction_mut(way).black_hole = true);
    }

    /// From now on the link is as new. Connections that were cut or half-closed stay so.
    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| {
            state.cut = None;
            state.pace = LinkSpeed::default();
            state.up.black_hole = false;
            state.down.black_hole = false;
        });
    }

    /// The counters now.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counters have reached a state; `what` names it.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Counts) -> bool) {
        let mut counts = self.counts.clone();
        let waited =
            tokio::time::timeout(TEST_TIMEOUT, counts.wait_for(|counts| reached(counts))).await;
        assert!(waited.is_ok(), "the link never came to {what}: {:?}", self.counts());
    }
}

async fn run(listener: TcpListener, target: SocketAddr, view: View) {
    // Connections live no longer than the link.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                view.count(|counts| counts.accepted += 1);
                connections.spawn(carry(stream, target, view.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection's view of its link.
#[derive(Clone)]
struct View {
    state: watch::Receiver<State>,
    counts: watch::Sender<Counts>,
}

impl View {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// Returns when the state is so. A link that is gone takes its connections with it.
    async fn wait_for_state(&self, so: impl FnMut(&State) -> bool) -> State {
        let mut state = self.state.clone();
        let met = state.wait_for(so).await.map(|state| *state);
        match met {
            Ok(state) => state,
            Err(_) => std::future::pending().await,
        }
    }

    async fn wait_until_passable(&self, way: Direction) {
        self.wait_for_state(|state| !state.direction(way).black_hole).await;
    }

    fn half_closes(&self, way: Direction) -> u64 {
        self.state.borrow().direction(way).half_closes
    }

    /// Takes as long as so many bytes take; a new pace counts at once.
    async fn pace(&self, bytes: usize) {
        let LinkSpeed { delay, bytes_per_second } = self.state.borrow().pace;
        let bytes = u32::try_from(bytes).unwrap();
        let wait = delay
            + bytes_per_second
                .map_or(Duration::ZERO, |rate| Duration::from_secs(1) * bytes / rate.get());
        if !wait.is_zero() {
            let old = LinkSpeed { delay, bytes_per_second };
            let _ =
                tokio::time::timeout(wait, self.wait_for_state(|state| state.pace != old)).await;
        }
    }

    fn chunk_bytes(&self) -> usize {
        let rate = self.state.borrow().pace.bytes_per_second;
        rate.map_or(CHUNK_BYTES, |rate| {
            CHUNK_BYTES.min((rate.get() / CHUNKS_PER_SECOND).max(1) as usize)
        })
    }
}

/// One connection from its beginning to its end.
async fn carry(mut client: TcpStream, target: SocketAddr, view: View) {
    let born = view.state.borrow().cuts.0;
    let cut = async {
        view.wait_for_state(|state| state.cut.is_some() || state.cuts.0 > born).await.cuts.1
    };
    tokio::pin!(cut);
    let connected = tokio::select! {
        biased;
        how = &mut cut => return end(how, vec![client]).await,
        server = connect(target, &view) => server,
    };
    let Ok(mut server) = connected else {
        view.count(|counts| counts.unreachable += 1);
        return end(Cut::Reset, vec![client]).await;
    };
    view.count(|counts| counts.open += 1);
    let ended = tokio::select! {
        biased;
        how = &mut cut => Some(how),
        ended = both_ways(&mut client, &mut server, &view) => ended.err().map(|_| Cut::Reset),
    };
    match ended {
        Some(how) => {
            let ending = end(how, vec![client, server]);
            view.count(|counts| counts.open -= 1);
            ending.await;
        }
        None => view.count(|counts| counts.open -= 1),
    }
}

async fn connect(target: SocketAddr, view: &View) -> io::Result<TcpStream> {
    view.wait_until_passable(Direction::Up).await;
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Carries until both directions have ended. If an end breaks, the other one notices as soon as the
/// link lets it.
async fn both_ways(client: &mut TcpStream, server: &mut TcpStream, view: &View) -> io::Result<()> {
    client.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let up = pump(Direction::Up, from_client, to_server, view);
    let down = pump(Direction::Down, from_server, to_client, view);
    let ended = tokio::try_join!(up, down);
    if ended.is_err() {
        view.wait_until_passable(Direction::Up).await;
        view.wait_until_passable(Direction::Down).await;
    }
    ended.map(|_| ())
}

async fn pump(
    way: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    view: &View,
) -> io::Result<()> {
    let born = view.half_closes(way);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = async {
            view.wait_until_passable(way).await;
            from.read(&mut buffer[..view.chunk_bytes()]).await
        };
        let half_closed = view.wait_for_state(|state| state.direction(way).half_closes > born);
        let read = tokio::select! {
            biased;
            _ = half_closed => None,
            read = read => Some(read?),
        };
        // Bytes that were read wait here, where the link became slow or a black hole meanwhile.
        view.pace(read.unwrap_or_default()).await;
        view.wait_until_passable(way).await;
        match read {
            Some(bytes @ 1..) => {
                to.write_all(&buffer[..bytes]).await?;
                view.count(|counts| counts.carried(way, bytes as u64));
            }
            Some(0) => return to.shutdown().await,
            None => {
                to.shutdown().await?;
                return discard(from).await;
            }
        }
    }
}

/// Reads to the end, so that the writer is not held up.
async fn discard(mut from: impl tokio::io::AsyncRead + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(|_| ())
}

/// Ends streams; the ends that have the FIN or the RST notice at once, the rest only tidies up.
fn end(how: Cut, streams: Vec<TcpStream>) -> impl Future<Output = ()> {
    let mut finished = JoinSet::new();
    for mut stream in streams {
        match how {
            Cut::Reset => stream.set_zero_linger().unwrap(),
            Cut::Finish => {
                finished.spawn(async move {
                    let _ = stream.shutdown().await;
                    let _ = discard(stream).await;
                });
            }
        }
    }
    async move { while finished.join_next().await.is_some() {} }
}
