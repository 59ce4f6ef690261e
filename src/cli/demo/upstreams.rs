//! The four upstreams and their control, running: ports, connections and their end.
//!
//! Every task belongs to the [`DemoUpstreams`]; dropping it stops them all, and
//! [`DemoUpstreams::shutdown`] also waits for them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::control::handle_command;
use super::pki::{self, Pki};
use super::upstream_response::respond;
use super::upstream_state::{UpstreamKind, UpstreamState};

/// Connections to one upstream at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Connections to the control at once.
const CONTROL_CONNECTIONS_MAX: usize = 16;
/// How long a peer may take for a TLS handshake or for a request's headers.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed `accept` (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Ports; 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) profile: u16,
    pub(crate) favorites: u16,
    pub(crate) reviews: u16,
    pub(crate) orders: u16,
    pub(crate) control: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { profile: 0, favorites: 0, reviews: 0, orders: 0, control: 7079 }
    }
}

impl Ports {
    /// Where the upstreams of a cluster are (`k8s/overlays/try`).
    pub(crate) const OF_A_CLUSTER: Self =
        Self { profile: 8441, favorites: 8442, reviews: 8443, orders: 8444, control: 7079 };
}

/// The demo's upstreams while they run.
#[derive(Debug)]
pub(crate) struct DemoUpstreams {
    /// Where they listen.
    pub(crate) ports: Ports,
    identity: PathBuf,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl DemoUpstreams {
    /// Makes new certificates, writes the sidecar's identity into `dir/identity`, and starts all on
    /// these ports.
    pub(crate) fn start(dir: &Path, seed: u64, ports: Ports) -> io::Result<Self> {
        let pki = Pki::new()?;
        let identity = dir.join("identity");
        pki.write_consumer(&identity)?;
        Self::start_with(Ipv4Addr::LOCALHOST.into(), ports, seed, identity, |kind| pki.server(kind))
    }

    /// Starts all at every address of this machine, for consumers elsewhere. The certificate of
    /// each is in the folder of its name in `dir`. The control stays on loopback.
    pub(crate) fn start_for_others(dir: &Path, seed: u64, ports: Ports) -> io::Result<Self> {
        // Not every machine has IPv6; one that has it takes IPv4 there too.
        let every = match std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            Ok(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            Err(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        let server = |kind: UpstreamKind| {
            let folder = dir.join(kind.name());
            pki::server_of(&folder).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "`{}` holds no certificate for {}: {error}",
                        folder.display(),
                        kind.name()
                    ),
                )
            })
        };
        Self::start_with(every, ports, seed, dir.to_owned(), server)
    }

    fn start_with(
        at: IpAddr,
        ports: Ports,
        seed: u64,
        identity: PathBuf,
        server: impl Fn(UpstreamKind) -> io::Result<ServerConfig>,
    ) -> io::Result<Self> {
        let owner = TaskOwner { tasks: TaskTracker::new(), stop: CancellationToken::new() };
        // From here on, an error stops what has been started.
        let guard = owner.stop.clone().drop_guard();
        let mut shops = Vec::new();
        let mut start = |kind: UpstreamKind, port| {
            let shop = Arc::new(UpstreamState::new(kind, seed));
            let (listener, port) = bind(at, port)?;
            let acceptor = TlsAcceptor::from(Arc::new(server(kind)?));
            owner.spawn(run_upstream(listener, acceptor, Arc::clone(&shop), owner.clone()));
            shops.push(shop);
            io::Result::Ok(port)
        };
        let mut bound = Ports {
            profile: start(UpstreamKind::Profile, ports.profile)?,
            favorites: start(UpstreamKind::Favorites, ports.favorites)?,
            reviews: start(UpstreamKind::Reviews, ports.reviews)?,
            orders: start(UpstreamKind::Orders, ports.orders)?,
            control: 0,
        };
        let (listener, port) = bind(Ipv4Addr::LOCALHOST.into(), ports.control)?;
        bound.control = port;
        owner.spawn(run_control(listener, shops.into(), owner.clone()));
        Ok(Self { ports: bound, identity, tasks: owner.tasks, stop: guard })
    }

    /// The folder for the sidecar's `--identity`.
    pub(crate) fn identity_dir(&self) -> &Path {
        &self.identity
    }

    /// Where they are told to fail, slow down or change.
    pub(crate) fn control_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.control).into()
    }

    /// The variables that the domain file asks for, by name.
    pub(crate) fn hosts(&self) -> [(&'static str, String); 4] {
        let Ports { profile, favorites, reviews, orders, .. } = self.ports;
        // Where the certificate carries a DNS name, the URL must say it; a SPIFFE ID is the same at
        // every address.
        [
            ("PROFILE_HOST", format!("127.0.0.1:{profile}")),
            ("FAVORITES_HOST", format!("localhost:{favorites}")),
            ("REVIEWS_HOST", format!("localhost:{reviews}")),
            ("ORDERS_HOST", format!("127.0.0.1:{orders}")),
        ]
    }

    /// Stops all and waits until nothing runs any more.
    pub(crate) async fn shutdown(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Owns the tasks of the upstreams: all end when `stop` is notified.
#[derive(Clone)]
struct TaskOwner {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl TaskOwner {
    fn spawn(&self, task: impl Future<Output: Send> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }
}

/// For hyper's tasks, one an HTTP/2 request.
impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for TaskOwner {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

fn bind(at: IpAddr, port: u16) -> io::Result<(TcpListener, u16)> {
    let at = SocketAddr::new(at, port);
    let listener = std::net::TcpListener::bind(at)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {at}: {error}")))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((TcpListener::from_std(listener)?, port))
}

async fn run_upstream(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shop: Arc<UpstreamState>,
    owner: TaskOwner,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, slot) = accept(&listener, &slots).await;
        let acceptor = acceptor.clone();
        let shop = Arc::clone(&shop);
        let hyper_tasks = owner.clone();
        owner.spawn(async move {
            let _slot = slot;
            // A client that fails the handshake has left; its own side reports the reason.
            let Ok(Ok(stream)) = tokio::time::timeout(PEER_TIMEOUT, acceptor.accept(stream)).await
            else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| {
                let shop = Arc::clone(&shop);
                async move {
                    shop.delay().await;
                    Ok::<_, Infallible>(respond(
                        &shop,
                        request.method(),
                        request.uri().path(),
                        request.headers(),
                    ))
                }
            });
            let mut server = auto::Builder::new(hyper_tasks);
            server.http1().timer(TokioTimer::new()).header_read_timeout(PEER_TIMEOUT);
            // It ends with the peer.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn run_control(listener: TcpListener, shops: Arc<[Arc<UpstreamState>]>, owner: TaskOwner) {
    let slots = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    loop {
        let (stream, slot) = accept(&listener, &slots).await;
        let shops = Arc::clone(&shops);
        owner.spawn(async move {
            let _slot = slot;
            let service = service_fn(|request: Request<Incoming>| {
                let reply =
                    handle_command(&shops, request.method(), request.uri(), request.headers());
                std::future::ready(Ok::<_, Infallible>(reply))
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PEER_TIMEOUT);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and waited for.
                let _ = stream.set_nodelay(true);
                return (stream, slot);
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_control_is_at_the_port_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let control = free.local_addr().unwrap().port();
        drop(free);
        let ports = Ports { control, ..Ports::default() };
        let upstreams = DemoUpstreams::start(dir.path(), 1, ports).unwrap();
        assert_eq!(upstreams.control_addr().port(), control);
        upstreams.shutdown().await;
    }
}
