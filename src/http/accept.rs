//! The loop that takes a port's connections within a bound, in plain text or over TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::connection_table::{ConnectionSlot, ConnectionTable, SWEEP_INTERVAL};
use super::handler::Handler;
use super::listener::{AcceptedStream, Listener};
use super::port::{Port, PortLimits};

/// How long to wait for a connection to end after the system refused a new one (out of file
/// descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for as long as it is polled. Dropping it closes the listener, not the
/// connections.
pub async fn accept<A: Handler>(listener: Listener, handler: A, limits: PortLimits, port: Port) {
    accept_loop(listener, None, handler, limits, port).await;
}

/// The same over TLS. A handshake has as long as the head of a request.
pub async fn accept_tls<A: Handler>(
    listener: Listener,
    tls: Arc<ServerConfig>,
    handler: A,
    limits: PortLimits,
    port: Port,
) {
    accept_loop(listener, Some(tls.into()), handler, limits, port).await;
}

async fn accept_loop<A: Handler>(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    handler: A,
    limits: PortLimits,
    port: Port,
) {
    let table = ConnectionTable::new(limits, port.metrics.clone());
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                table.end_expired();
                continue;
            }
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if !is_failing {
                    let address = listener.address();
                    tracing::warn!(%error, %address, "a connection could not be taken");
                }
                is_failing = true;
                // The system may be out of a resource that a connection needs: then an open
                // connection ends for the new one, as where all places are taken.
                table.evict();
                table.wait_for_end(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if is_failing {
            tracing::info!(address = %listener.address(), "connections are taken again");
            is_failing = false;
        }
        let slot = table.acquire_slot(tls.is_some()).await;
        let handler = handler.clone();
        let shared = port.clone();
        let tls = tls.clone();
        port.tasks.spawn(async move { serve_stream(stream, tls, handler, shared, &slot).await });
    }
}

async fn serve_stream<A: Handler>(
    stream: AcceptedStream,
    tls: Option<TlsAcceptor>,
    handler: A,
    port: Port,
    slot: &ConnectionSlot,
) {
    match (stream, tls) {
        (AcceptedStream::Tcp(tcp), Some(tls)) => {
            let _ = tcp.set_nodelay(true);
            let handshake = tokio::select! {
                handshake = tls.accept(tcp) => handshake,
                _ = slot.progress.wait_for_eviction() => return,
            };
            match handshake {
                Ok(secured) => {
                    slot.progress.end_handshake();
                    connection::serve_connection(secured, true, handler, port, slot).await;
                }
                Err(error) => {
                    port.metrics.handshakes_failed.inc();
                    tracing::debug!(%error, "a TLS handshake failed");
                }
            }
        }
        (AcceptedStream::Tcp(tcp), None) => {
            let _ = tcp.set_nodelay(true);
            connection::serve_connection(tcp, true, handler, port, slot).await;
        }
        (AcceptedStream::Unix(unix), _) => {
            connection::serve_connection(unix, false, handler, port, slot).await;
        }
    }
}
