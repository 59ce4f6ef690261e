//! The check of `Host` on a TCP port, so that no web page reaches the sidecar by DNS rebinding.

use std::net::IpAddr;

use http::Request;
use http::header::HOST;

/// The detail of a 421.
pub(crate) const MISDIRECTED_DETAIL: &str =
    "expected `localhost`, a loopback address or a name given with `--allow-host`";

/// The names in `Host` that are answered: loopback always, and those of `--allow-host`.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// Loopback and `names` (without port; letter case does not matter).
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether the `:authority`, the absolute target or the `Host` of `request` names us.
    pub fn is_allowed<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let header = match (hosts.next(), hosts.next()) {
            (Some(_), Some(_)) => return false,
            (first, _) => first.and_then(|value| value.to_str().ok()),
        };
        // RFC 9112 section 3.2.2: an absolute target's authority wins over `Host`.
        let authority = request.uri().authority().map(http::uri::Authority::as_str).or(header);
        authority.is_some_and(|authority| self.is_authority_allowed(authority))
    }

    fn is_authority_allowed(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let host = host.to_ascii_lowercase();
        host == "localhost" || is_loopback(&host) || self.0.contains(&host)
    }
}

/// The host of `host`, `host:port` or `[v6]:port`; `None` where it is none of these.
fn host_of(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port_valid =
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (is_port_valid && !host.is_empty()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    fn allowed(host: &str) -> bool {
        let request = Request::builder().uri("/x").header(HOST, host).body(()).unwrap();
        AllowedHosts::new(&["Bfb.Local".to_owned()]).is_allowed(&request)
    }

    #[test]
    fn loopback_and_allowed_names_pass() {
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:7070",
            "[::1]",
            "bfb.local:1",
        ] {
            assert!(allowed(host), "{host}");
        }
    }

    #[test]
    fn everyone_else_is_refused() {
        let others = [
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "[::2]",
            "",
            ":80",
            "localhost:x",
            "::1",
            "127.1",
        ];
        for host in others {
            assert!(!allowed(host), "{host}");
        }
    }

    #[test]
    fn the_absolute_target_wins_and_two_hosts_are_refused() {
        let request = Request::builder()
            .uri("http://evil.example/x")
            .header(HOST, "localhost")
            .body(())
            .unwrap();
        assert!(!AllowedHosts::default().is_allowed(&request));
        let request = Request::builder()
            .uri("/x")
            .header(HOST, "localhost")
            .header(HOST, "evil")
            .body(())
            .unwrap();
        assert!(!AllowedHosts::default().is_allowed(&request));
    }

    #[test]
    fn no_host_at_all_is_refused() {
        assert!(
            !AllowedHosts::default().is_allowed(&Request::builder().uri("/x").body(()).unwrap())
        );
    }
}
