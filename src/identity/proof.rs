//! The proof that a connection is mutual, and the session store that never resumes a session
//! without it. A connection without the proof is refused in `connector.rs` (`prove`).
//!
//! The TLS library asks its resolver for our certificate exactly when the server's
//! `CertificateRequest` came, but does not tell on which connection, and resumes only where
//! verifier and resolver are the very same objects: a resolver for each connection would cost every
//! resumption. So each connection has a [`HandshakeState`], which lies in a thread-local while (and
//! only while) that connection is polled: resolver, verifier and session store, all called inside
//! the poll, write to it.
//!
//! A session may arrive before the proof is complete (a ticket in the server's first flight, a TLS
//! 1.2 session). The handshake state holds it until the connection is proven; a connection that
//! never is takes its sessions with it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme};

use super::tls_error::TlsError;

/// The most sessions held for one connection that is not proven yet.
const PENDING_SESSIONS_MAX: usize = 8;
/// The size of the session store: one server, up to eight tickets.
const STORED_SESSIONS_MAX: usize = 8;

thread_local! {
    /// The handshake state of the connection that this thread is polling.
    static POLLED: RefCell<Option<HandshakeState>> = const { RefCell::new(None) };
}

/// The facts that were learnt about one connection while it was polled.
#[derive(Debug, Default)]
pub(super) struct HandshakeState {
    /// The server sent a `CertificateRequest`.
    pub(super) certificate_requested: bool,
    /// It accepts no signature that our key can make, so our certificate could not be presented.
    pub(super) is_key_unfit: bool,
    /// The server's own certificate, where one came (not in a resumed handshake).
    pub(super) leaf: Option<CertificateDer<'static>>,
    /// Why the verifier refused it.
    pub(super) refusal: Option<TlsError>,
    is_proven: bool,
    pending_sessions: Vec<Session>,
}

#[derive(Debug)]
enum Session {
    Tls13(ServerName<'static>, Tls13ClientSessionValue),
    Tls12(ServerName<'static>, Tls12ClientSessionValue),
}

impl HandshakeState {
    /// Runs one poll of the connection that this state belongs to.
    pub(super) fn poll_with<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        /// Takes the state back also when the poll panics, so that no other connection finds it.
        struct PollGuard<'a> {
            state: &'a mut HandshakeState,
            outer: Option<HandshakeState>,
        }
        impl Drop for PollGuard<'_> {
            fn drop(&mut self) {
                if let Some(state) = POLLED.replace(self.outer.take()) {
                    *self.state = state;
                }
            }
        }
        let outer = POLLED.replace(Some(std::mem::take(self)));
        let _bracket = PollGuard { state: self, outer };
        poll()
    }

    /// From now on this connection's sessions are stored; those held are stored now.
    pub(super) fn mark_proven(&mut self, store: &ProvenSessions) {
        self.is_proven = true;
        self.leaf = None;
        for session in self.pending_sessions.drain(..) {
            store.store_session(session);
        }
    }

    fn hold_session(&mut self, session: Session) {
        if self.pending_sessions.len() == PENDING_SESSIONS_MAX {
            self.pending_sessions.remove(0);
        }
        self.pending_sessions.push(session);
    }
}

/// Writes to the state of the connection being polled, if there is one.
pub(super) fn update_polled(write: impl FnOnce(&mut HandshakeState)) {
    POLLED.with_borrow_mut(|polled| polled.as_mut().map(write));
}

/// Presents our certificate, whichever authorities the server accepts, and records that it was
/// requested.
pub(super) struct ClientCertResolver {
    /// `None`: notes, but presents nothing.
    key: Option<Arc<CertifiedKey>>,
}

impl ClientCertResolver {
    pub(super) fn presenting(key: Arc<CertifiedKey>) -> Self {
        Self { key: Some(key) }
    }

    pub(super) fn presenting_nothing() -> Self {
        Self { key: None }
    }
}

impl fmt::Debug for ClientCertResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertResolver").field("presents", &self.key.is_some()).finish()
    }
}

impl ResolvesClientCert for ClientCertResolver {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let unfit = self.key.as_ref().is_some_and(|key| key.key.choose_scheme(schemes).is_none());
        update_polled(|state| {
            state.certificate_requested = true;
            state.is_key_unfit = unfit;
        });
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Sessions that may be resumed: of proven connections only, for one server.
pub(super) struct ProvenSessions {
    cache: ClientSessionMemoryCache,
}

impl ProvenSessions {
    pub(super) fn new() -> Self {
        Self { cache: ClientSessionMemoryCache::new(STORED_SESSIONS_MAX) }
    }

    /// Forgets every session with `server`.
    pub(super) fn forget(&self, server: &ServerName<'static>) {
        self.cache.remove_tls12_session(server);
        for _ in 0..STORED_SESSIONS_MAX {
            if self.cache.take_tls13_ticket(server).is_none() {
                break;
            }
        }
    }

    fn store_session(&self, session: Session) {
        match session {
            Session::Tls13(server, ticket) => self.cache.insert_tls13_ticket(server, ticket),
            Session::Tls12(server, session) => self.cache.set_tls12_session(server, session),
        }
    }

    /// Stores the session where the connection is proven, holds it in the handshake state where it
    /// is not yet, and drops it outside of any poll.
    fn store_or_hold(&self, session: Session) {
        POLLED.with_borrow_mut(|polled| match polled {
            Some(state) if state.is_proven => self.store_session(session),
            Some(state) => state.hold_session(session),
            None => {}
        });
    }
}

impl fmt::Debug for ProvenSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvenSessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for ProvenSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.store_or_hold(Session::Tls12(server, session));
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.cache.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.store_or_hold(Session::Tls13(server, ticket));
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(server)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;
    use crate::domain::ServerIdentity;
    use crate::identity::files::TrustStore;
    use crate::identity::issue::{Authority, Leaf, Validity};
    use crate::identity::verifier::UpstreamVerifier;
    use crate::identity::{TlsOptions, connector, provider};

    #[test]
    fn a_note_reaches_the_polled_connection_only() {
        let mut one = HandshakeState::default();
        let mut two = HandshakeState::default();
        update_polled(|state| state.certificate_requested = true);
        one.poll_with(|| {
            two.poll_with(|| update_polled(|state| state.certificate_requested = true));
        });
        assert_eq!((one.certificate_requested, two.certificate_requested), (false, true));
        one.poll_with(|| {
            two.poll_with(|| {});
            update_polled(|state| state.certificate_requested = true);
        });
        assert!(one.certificate_requested, "an inner poll gives the thread back");
    }

    #[test]
    fn a_poll_that_panics_leaves_no_mark_behind() {
        let mut state = HandshakeState::default();
        let poll = std::panic::AssertUnwindSafe(|| {
            state.poll_with(|| {
                update_polled(|state| state.certificate_requested = true);
                panic!("in a poll");
            });
        });
        assert!(std::panic::catch_unwind(poll).is_err());
        assert!(POLLED.with_borrow(Option::is_none));
        assert!(state.certificate_requested);
    }

    /// A handshake in memory that ends with the server's tickets read inside `state`, before
    /// anything is proven: a server that does not ask for a certificate may send them in its first
    /// flight.
    fn tickets_before_the_proof(store: &Arc<ProvenSessions>, state: &mut HandshakeState) {
        let authority = Authority::new("a", Validity::days(1)).unwrap();
        let issued = authority.issue(&Leaf::new("s").dns("s.example")).unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![der(&issued.cert_pem)],
                PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
            );
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(authority.ca_pem())).unwrap();
        let verifier = UpstreamVerifier::new(
            TrustStore::from_roots(roots),
            ServerIdentity::Dns("s.example".to_owned()),
            &provider(),
        );
        let mut config = connector::client_config(
            verifier,
            ClientCertResolver::presenting_nothing(),
            TlsOptions::default(),
        );
        config.resumption = rustls::client::Resumption::store(store.clone());
        let mut client = ClientConnection::new(Arc::new(config), name()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server.unwrap())).unwrap();
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            state.poll_with(|| client.process_new_packets()).unwrap();
        }
        assert_eq!(client.tls13_tickets_received(), 2);
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("s.example").unwrap()
    }

    #[test]
    fn tickets_that_come_before_the_proof_wait_for_it() {
        let store = Arc::new(ProvenSessions::new());
        let mut state = HandshakeState::default();
        tickets_before_the_proof(&store, &mut state);
        assert!(!state.certificate_requested);
        assert!(store.take_tls13_ticket(&name()).is_none(), "nothing to resume before the proof");
        state.mark_proven(&store);
        assert!(store.take_tls13_ticket(&name()).is_some());
        store.forget(&name());
        assert!(store.take_tls13_ticket(&name()).is_none());

        drop({
            let mut never_proven = HandshakeState::default();
            tickets_before_the_proof(&store, &mut never_proven);
            never_proven
        });
        assert!(store.take_tls13_ticket(&name()).is_none(), "they went with their connection");
    }
}
