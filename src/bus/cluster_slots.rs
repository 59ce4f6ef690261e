//! The slot map of a Redis Cluster (which server holds which slots), and the slot of a key. Pure.

use std::ops::RangeInclusive;
use std::sync::Arc;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, Value};

/// The most servers that are remembered, to request the slot map from them.
const SERVERS_MAX: usize = 64;
const SLOTS: u16 = 16_384;

/// The address of a server of a Cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NodeAddress {
    host: Arc<str>,
    port: u16,
}

/// The slot map in one server's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots {
    owners: Vec<(RangeInclusive<u16>, NodeAddress)>,
    servers: Vec<NodeAddress>,
}

impl NodeAddress {
    /// Reads `HOST:PORT`. An absent host means the host that sent the reply.
    pub(super) fn parse(text: &str, answering_node: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::new(
            host.trim_start_matches('[').trim_end_matches(']'),
            port.parse().ok()?,
            answering_node,
        ))
    }

    /// The address that a URL names; `None` if that is no network address.
    pub(super) fn from_url(info: &ConnectionInfo) -> Option<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self { host: host.as_str().into(), port: *port })
            }
            _ => None,
        }
    }

    pub(super) fn to_addr(&self, tls: bool) -> ConnectionAddr {
        let host = self.host.to_string();
        let port = self.port;
        if tls {
            return ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        }
        ConnectionAddr::Tcp(host, port)
    }

    fn new(host: &str, port: u16, answering_node: &Self) -> Self {
        let host = if host.is_empty() || host == "?" {
            Arc::clone(&answering_node.host)
        } else {
            host.into()
        };
        Self { host, port }
    }

    /// Reads one server of a reply: its host, its port, and fields that are ignored.
    fn read(value: &Value, answering_node: &Self) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let host = match parts.first()? {
            Value::BulkString(host) => std::str::from_utf8(host).ok()?,
            _ => "",
        };
        Some(Self::new(host, number(parts.get(1)?)?, answering_node))
    }
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Slots {
    /// The command that requests the slot map.
    pub(super) fn command() -> Cmd {
        redis::cmd("CLUSTER").arg("SLOTS").take()
    }

    /// Reads the reply of the server at an address.
    pub(super) fn read(value: Value, answering_node: &NodeAddress) -> Option<Self> {
        let Value::Array(ranges) = value else { return None };
        let mut owners = Vec::with_capacity(ranges.len());
        let mut servers = Vec::new();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [first, last, holders @ ..] = parts.as_slice() else { return None };
            let holders: Vec<_> = holders
                .iter()
                .map(|holder| NodeAddress::read(holder, answering_node))
                .collect::<Option<_>>()?;
            owners.push((number(first)?..=number(last)?, holders.first()?.clone()));
            servers.extend(holders);
        }
        servers.sort_unstable_by_key(ToString::to_string);
        servers.dedup();
        servers.truncate(SERVERS_MAX);
        Some(Self { owners, servers })
    }

    /// The primary that holds a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&NodeAddress> {
        self.owners.iter().find(|(range, _)| range.contains(&slot)).map(|(_, owner)| owner)
    }

    /// The primaries that hold slots, each once.
    pub(super) fn primaries(&self) -> Vec<NodeAddress> {
        let mut primaries: Vec<_> = self.owners.iter().map(|(_, owner)| owner.clone()).collect();
        primaries.sort_unstable_by_key(ToString::to_string);
        primaries.dedup();
        primaries
    }

    /// All servers of the map: primaries and replicas.
    pub(super) fn servers(&self) -> Vec<NodeAddress> {
        self.servers.clone()
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The slot of a key: the checksum of its hash tag, which is the text between its first braces, or
/// of the whole key if there is none.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn here() -> NodeAddress {
        NodeAddress { host: "here".into(), port: 1 }
    }

    #[test]
    fn a_slot_is_what_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("bfb:{default/customer}:meta"), slot("bfb:{default/customer}:news"));
        assert_eq!(slot("{user1000}.following"), crc16(b"user1000") % SLOTS);
        assert_eq!(slot("foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
    }

    #[test]
    fn who_holds_what_is_read_with_hosts_that_are_not_named() {
        let server = |host, port| {
            Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])])
        };
        let range = |first, last, servers: Vec<Value>| {
            Value::Array([Value::Int(first), Value::Int(last)].into_iter().chain(servers).collect())
        };
        let reply = Value::Array(vec![
            range(0, 99, vec![server(text("a"), 1), server(text("b"), 2)]),
            range(100, 16_383, vec![server(Value::Nil, 3)]),
        ]);
        let slots = Slots::read(reply, &here()).unwrap();
        let owner = |slot| slots.owner(slot).unwrap().to_string();
        assert_eq!(
            (owner(0), owner(99), owner(100), owner(16_383)),
            ("a:1".into(), "a:1".into(), "here:3".into(), "here:3".into())
        );
        let known: Vec<_> = slots.servers().iter().map(ToString::to_string).collect();
        assert_eq!(known, ["a:1", "b:2", "here:3"]);
        for odd in
            [Value::Nil, Value::Array(vec![Value::Int(1)]), Value::Array(vec![range(0, 1, vec![])])]
        {
            assert_eq!(Slots::read(odd, &here()), None);
        }
    }

    #[test]
    fn an_address_has_the_host_of_who_said_it_where_none_is_named() {
        let parsed = |text| NodeAddress::parse(text, &here()).map(|address| address.to_string());
        assert_eq!(parsed("127.0.0.1:6381").unwrap(), "127.0.0.1:6381");
        assert_eq!(parsed(":6381").unwrap(), "here:6381");
        assert_eq!(parsed("[::1]:6381").unwrap(), "[::1]:6381");
        assert_eq!(parsed("::1:6381").unwrap(), "[::1]:6381");
        assert_eq!(parsed("nowhere"), None);
    }
}
