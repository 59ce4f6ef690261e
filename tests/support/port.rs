//! Ports of loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Linux gives 32768 and above to connections, unless it is configured otherwise.
const PORTS: std::ops::Range<u16> = 10_000..32_768;

/// A port without a listener at this moment. It is below those that the system gives to
/// connections, so that a server that was killed finds it free when it comes back.
pub(crate) fn free() -> SocketAddr {
    let tried =
        std::iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS))));
    let mut open = tried.take(1_000).filter(|addr| TcpListener::bind(addr).is_ok());
    open.next().expect("a free port")
}
