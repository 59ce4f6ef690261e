//! Opens connections to one upstream and proves each before it hands it out.
//!
//! TCP, then TLS with our identity, then the proof: the server is exactly the expected one, and it
//! asked for our certificate (or resumed a session in which it did). A connection that fails a step
//! is closed without a byte of a request, for no request is known here yet. The caller bounds the
//! total time; proxy variables are not read.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use rustls::client::{Resumption, Tls12Resumption};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::certificate::{Certificate, is_past_expiry, unix_seconds};
use super::error::{self, ConnectError, ConnectErrorKind};
use super::metrics::{HandshakeLabel, ReasonLabel};
use super::proof::{ClientCertResolver, HandshakeState, ProvenSessions};
use super::start_tls;
use super::tls_error::{TlsError, unfit_key_error};
use super::traffic_meter::{FloodLimit, Socket, TrafficMeter};
use super::verifier::UpstreamVerifier;
use super::{Identity, IdentityMetrics, MutualConnection, MutualityProof, TlsOptions, provider};
use crate::domain::ServerIdentity;

/// How long a TCP connection may take, over all addresses of the name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The scheme of the URLs of PostgreSQL.
const POSTGRES_SCHEME: &str = "postgres";
/// The scheme of MongoDB's URLs.
const MONGO_SCHEME: &str = "mongodb";
pub(super) const TLS_1_3: &str = "TLS 1.3";

/// Opens connections to one upstream, and over TLS proves each mutual before it hands it out.
///
/// One for each source and identity generation: its clones share the sessions that may be resumed.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector,
    /// `None`: without TLS.
    mutual: Option<Arc<MutualConnector>>,
    /// Where a flood ends; `None`: nowhere.
    flood_limit: Option<FloodLimit>,
}

/// The state that all connections of one connector share: resumption needs the very same objects
/// each time.
pub(super) struct MutualConnector {
    config: Arc<ClientConfig>,
    protocol: UpstreamProtocol,
    sessions: Arc<ProvenSessions>,
    server: Arc<ServerIdentity>,
    pub(super) tls: TlsOptions,
    generation: u64,
    metrics: IdentityMetrics,
    /// When the first of the servers' certificates ends that connections were opened under, in
    /// seconds since 1970.
    first_expiry: AtomicU64,
}

/// What is spoken over a connection: it decides how TLS begins and what must be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamProtocol {
    /// TLS from the first byte; sessions may be resumed.
    Http,
    /// TLS once the server has agreed to it. PostgreSQL resumes no sessions.
    Postgres {
        /// Whether the server must ask for our certificate.
        is_request_demanded: bool,
    },
    /// TLS from the first byte. It is only looked at: a driver reads over connections of its own.
    Mongo,
}

impl UpstreamProtocol {
    /// The protocols that are offered by ALPN. PostgreSQL 17 ends a handshake that offers others.
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Postgres { .. } => vec![b"postgresql".to_vec()],
            Self::Mongo => Vec::new(),
        }
    }

    /// The protocol of a URL with this scheme.
    pub(super) fn of_scheme(uri: &Uri, is_request_demanded: bool) -> Self {
        match uri.scheme_str() {
            Some(POSTGRES_SCHEME) => Self::Postgres { is_request_demanded },
            Some(MONGO_SCHEME) => Self::Mongo,
            _ => Self::Http,
        }
    }

    /// The scheme of its URLs.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Http => "https",
            Self::Postgres { .. } => POSTGRES_SCHEME,
            Self::Mongo => MONGO_SCHEME,
        }
    }

    /// What must be exchanged in the clear before TLS begins.
    pub(super) async fn start_tls(
        self,
        socket: &mut TcpStream,
        target: &ConnectTarget,
    ) -> Result<(), ConnectError> {
        match self {
            Self::Http | Self::Mongo => Ok(()),
            Self::Postgres { .. } => start_tls::request_postgres_tls(socket, &target.name).await,
        }
    }

    /// Whether the server must ask for our certificate.
    fn is_request_demanded(self) -> bool {
        !matches!(self, Self::Postgres { is_request_demanded: false } | Self::Mongo)
    }
}

impl fmt::Debug for MutualConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutual")
            .field("server", &self.server)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// For `https://`: as `identity`, to exactly `server`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a connector belongs to one identity; the caller hands over its share"
    )]
    pub fn mutual(
        identity: Arc<Identity>,
        server: ServerIdentity,
        tls: TlsOptions,
        metrics: IdentityMetrics,
    ) -> Self {
        let resolver = ClientCertResolver::presenting(identity.key.clone());
        Self::with_protocol(UpstreamProtocol::Http, resolver, &identity, server, tls, metrics)
    }

    /// For `postgres://`, over TLS: as `identity`, to exactly `server`, which must ask for our
    /// certificate if `is_request_demanded`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a connector belongs to one identity; the caller hands over its share"
    )]
    pub fn postgres(
        identity: Arc<Identity>,
        server: ServerIdentity,
        is_request_demanded: bool,
        tls: TlsOptions,
        metrics: IdentityMetrics,
    ) -> Self {
        let protocol = UpstreamProtocol::Postgres { is_request_demanded };
        let resolver = ClientCertResolver::presenting(identity.key.clone());
        Self::with_protocol(protocol, resolver, &identity, server, tls, metrics)
    }

    /// For `mongodb://`, to look at a server: as `identity`, to exactly `server`, which need not
    /// ask for our certificate.
    pub fn mongo(
        identity: &Identity,
        server: ServerIdentity,
        tls: TlsOptions,
        metrics: IdentityMetrics,
    ) -> Self {
        let resolver = ClientCertResolver::presenting(identity.key.clone());
        Self::with_protocol(UpstreamProtocol::Mongo, resolver, identity, server, tls, metrics)
    }

    /// For `postgres://` as somebody who has no certificate, to see how that is treated.
    pub fn postgres_without_certificate(
        identity: &Identity,
        server: ServerIdentity,
        tls: TlsOptions,
        metrics: IdentityMetrics,
    ) -> Self {
        let protocol = UpstreamProtocol::Postgres { is_request_demanded: false };
        let resolver = ClientCertResolver::presenting_nothing();
        Self::with_protocol(protocol, resolver, identity, server, tls, metrics)
    }

    fn with_protocol(
        protocol: UpstreamProtocol,
        resolver: ClientCertResolver,
        identity: &Identity,
        server: ServerIdentity,
        tls: TlsOptions,
        metrics: IdentityMetrics,
    ) -> Self {
        let sessions = Arc::new(ProvenSessions::new());
        let verifier = UpstreamVerifier::new(identity.trust.clone(), server.clone(), &provider());
        let mut config = client_config(verifier, resolver, tls);
        config.alpn_protocols = protocol.alpn();
        if protocol == UpstreamProtocol::Http {
            config.resumption = Resumption::store(sessions.clone())
                .tls12_resumption(Tls12Resumption::SessionIdOrTickets);
        }
        let mutual = MutualConnector {
            config: Arc::new(config),
            protocol,
            sessions,
            server: Arc::new(server),
            tls,
            generation: identity.generation,
            metrics,
            first_expiry: AtomicU64::new(u64::MAX),
        };
        Self { tcp: tcp_connector(), mutual: Some(Arc::new(mutual)), flood_limit: None }
    }

    /// For `http://` (`--insecure-upstreams`).
    pub fn plain() -> Self {
        Self { tcp: tcp_connector(), mutual: None, flood_limit: None }
    }

    /// When the first certificate ends under which it opened a connection.
    pub fn first_certificate_expiry(&self) -> Option<SystemTime> {
        let seconds = self.mutual.as_ref()?.first_expiry.load(Ordering::Relaxed);
        (seconds != u64::MAX).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Bounds the connections, on each of which so many requests may be under way: one ends when
    /// the server sends too much that is no part of an answer, and is counted in `ended`. The
    /// reader of the answers credits each connection's [`TrafficMeter`].
    #[must_use]
    pub fn with_flood_limit(self, requests_max: NonZeroUsize, ended: Counter) -> Self {
        Self { flood_limit: Some(FloodLimit::new(requests_max, ended)), ..self }
    }
}

impl Service<Uri> for Connector {
    type Response = MutualConnection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<MutualConnection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.tcp.clone();
        let flood_limit = self.flood_limit.clone();
        match self.mutual.clone() {
            Some(mutual) => Box::pin(mutual.open(tcp, uri, flood_limit)),
            None => Box::pin(async move {
                let target = ConnectTarget::of(&uri, "http")?;
                let stream = connect(tcp, &target).await?;
                Ok(MutualConnection::plain(Socket::bare(stream, TrafficMeter::new(flood_limit))))
            }),
        }
    }
}

impl MutualConnector {
    /// Opens a connection; one that resumed a session whose certificate has expired since is opened
    /// anew, with a full handshake.
    async fn open(
        self: Arc<Self>,
        tcp: HttpConnector,
        uri: Uri,
        flood_limit: Option<FloodLimit>,
    ) -> Result<MutualConnection, ConnectError> {
        let target = ConnectTarget::of(&uri, self.protocol.scheme())?;
        let host = target.server_name()?;
        if let Some(connection) =
            self.clone().open_once(tcp.clone(), &target, host.clone(), flood_limit.clone()).await?
        {
            return Ok(connection);
        }
        self.sessions.forget(&host);
        let again = self.open_once(tcp, &target, host, flood_limit).await?;
        again.ok_or_else(|| ConnectError {
            kind: ConnectErrorKind::Tls,
            detail: format!("`{}`: its certificate has expired", target.name),
        })
    }

    async fn open_once(
        self: Arc<Self>,
        tcp: HttpConnector,
        target: &ConnectTarget,
        host: ServerName<'static>,
        flood_limit: Option<FloodLimit>,
    ) -> Result<Option<MutualConnection>, ConnectError> {
        let mut socket = connect(tcp, target).await?;
        self.protocol.start_tls(&mut socket, target).await?;
        let stream = Socket::below_tls(socket, TrafficMeter::new(flood_limit));
        let began = Instant::now();
        let (handshake_result, state) = handshake(self.config.clone(), host, stream).await;
        let stream = handshake_result.map_err(|error| {
            self.tls_failure(target, &error::classify_tls_error(&error, &state, self.tls))
        })?;
        self.prove(target, stream, state, began.elapsed()).await
    }

    /// The proof. `None`: it resumed a session that must not be used any more.
    async fn prove(
        self: Arc<Self>,
        target: &ConnectTarget,
        mut stream: TlsStream<Socket>,
        mut state: HandshakeState,
        handshake: Duration,
    ) -> Result<Option<MutualConnection>, ConnectError> {
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        if self.protocol.is_request_demanded() && !resumed && !state.certificate_requested {
            close(&mut stream, &mut state).await;
            self.metrics.not_mutual.inc();
            return Err(ConnectError::not_mutual(&target.name));
        }
        if state.is_key_unfit {
            close(&mut stream, &mut state).await;
            return Err(self.tls_failure(target, &unfit_key_error()));
        }
        // The certificate of a resumed session was not verified again.
        let Some(not_after) = server_certificate_expiry(&stream)
            .filter(|end| !resumed || !is_past_expiry(*end, SystemTime::now()))
        else {
            close(&mut stream, &mut state).await;
            return Ok(None);
        };
        self.first_expiry.fetch_min(unix_seconds(not_after), Ordering::Relaxed);
        state.mark_proven(&self.sessions);
        self.metrics
            .handshakes
            .get_or_create(&HandshakeLabel { kind: if resumed { "resumed" } else { "full" } })
            .inc();
        let proof = self.describe_proof(&stream, resumed, handshake);
        Ok(Some(MutualConnection::tls(stream, state, proof, self)))
    }

    fn describe_proof(
        &self,
        stream: &TlsStream<Socket>,
        resumed: bool,
        handshake: Duration,
    ) -> MutualityProof {
        let session = stream.get_ref().1;
        MutualityProof {
            resumed,
            protocol: protocol_name(stream),
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            group: group_name(stream),
            server: self.server.clone(),
            generation: self.generation,
            handshake,
        }
    }

    fn tls_failure(&self, target: &ConnectTarget, fault: &TlsError) -> ConnectError {
        self.count_failure(fault);
        ConnectError::tls(&target.name, fault)
    }

    pub(super) fn count_failure(&self, fault: &TlsError) {
        self.metrics.failures.get_or_create(&ReasonLabel { reason: fault.reason }).inc();
    }
}

/// Where to connect to.
#[derive(Debug)]
pub(super) struct ConnectTarget {
    uri: Uri,
    /// `profile.crm:8443`, for messages.
    pub(super) name: String,
}

impl ConnectTarget {
    pub(super) fn of(uri: &Uri, scheme: &str) -> Result<Self, ConnectError> {
        // Without a `user:password@` that may stand before it.
        let name = uri
            .authority()
            .and_then(|authority| authority.as_str().rsplit('@').next())
            .unwrap_or_default()
            .to_owned();
        if uri.scheme_str() == Some(scheme) {
            return Ok(Self { uri: uri.clone(), name });
        }
        let given = uri.scheme_str().unwrap_or("no scheme");
        Err(ConnectError {
            kind: ConnectErrorKind::Connect,
            detail: format!("`{name}`: met `{given}`, expected `{scheme}`"),
        })
    }

    /// The server name in the handshake: sent as SNI if it is a name, left out if it is an address.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, ConnectError> {
        let host = self.uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(bare.to_owned()).map_err(|_| ConnectError {
            kind: ConnectErrorKind::Connect,
            detail: format!("`{host}` is neither a host name nor an address"),
        })
    }
}

pub(super) fn tcp_connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

pub(super) async fn connect(
    mut tcp: HttpConnector,
    target: &ConnectTarget,
) -> Result<TcpStream, ConnectError> {
    let connected = tcp.call(target.uri.clone()).await;
    connected.map(TokioIo::into_inner).map_err(|error| ConnectError::connect(&target.name, &error))
}

/// TLS as every connection speaks it; no session is kept unless the caller adds a store.
pub(super) fn client_config(
    verifier: UpstreamVerifier,
    resolver: ClientCertResolver,
    tls: TlsOptions,
) -> ClientConfig {
    let versions: &[_] = if tls.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("aws-lc has cipher suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = UpstreamProtocol::Http.alpn();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// A bounded handshake, with a handshake state of its own in place whenever it is polled.
pub(super) async fn handshake(
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
    stream: Socket,
) -> (io::Result<TlsStream<Socket>>, HandshakeState) {
    let mut state = HandshakeState::default();
    let result = {
        let mut connecting = pin!(TlsConnector::from(config).connect(host, stream));
        let polled = poll_fn(|cx| state.poll_with(|| connecting.as_mut().poll(cx)));
        timeout(HANDSHAKE_TIMEOUT, polled)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    (result, state)
}

/// Sends `close_notify` if that is possible at once, so that the server's log shows an orderly end.
pub(super) async fn close(stream: &mut TlsStream<Socket>, state: &mut HandshakeState) {
    use tokio::io::AsyncWrite as _;
    poll_fn(|cx| {
        let _ = state.poll_with(|| Pin::new(&mut *stream).poll_shutdown(cx));
        Poll::Ready(())
    })
    .await;
}

/// When the server's certificate ends.
fn server_certificate_expiry(stream: &TlsStream<Socket>) -> Option<SystemTime> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    leaf.and_then(|leaf| Certificate::read(leaf).ok()).map(|leaf| leaf.not_after)
}

pub(super) fn protocol_name(stream: &TlsStream<Socket>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => TLS_1_3,
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "unknown",
    }
}

pub(super) fn group_name(stream: &TlsStream<Socket>) -> Option<&'static str> {
    stream.get_ref().1.negotiated_key_exchange_group()?.name().as_str()
}
