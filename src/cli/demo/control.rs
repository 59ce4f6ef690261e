//! The demo's control: tells its upstreams to fail, slow down, hang, change or recover while they
//! run.
//!
//! Plain HTTP on loopback, for curl. A web page in a browser can do nothing here: a request with
//! `Origin`, or with a `Host` that is not loopback, is refused.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;

use super::upstream_response::{UpstreamResponse, json_response, problem_response, with_allow};
use super::upstream_state::{Behaviour, FailureMode, UpstreamKind, UpstreamState};

/// The longest delay that an upstream takes on.
const SLOW_MS_MAX: u64 = 60_000;

const COMMANDS: &str = "POST /{profile|favorites|reviews|orders}/{fail?status=503&percent=100 | \
                        slow?ms=300 | hang | change/{customer} | recover}, or GET /";

/// Applies the request, or answers what is wrong with it.
pub(super) fn handle_command(
    shops: &[Arc<UpstreamState>],
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> UpstreamResponse {
    if headers.contains_key(ORIGIN) {
        return problem_response(
            StatusCode::FORBIDDEN,
            "not for web pages: a request with `Origin` is refused",
        );
    }
    if !is_local(headers) {
        return problem_response(
            StatusCode::MISDIRECTED_REQUEST,
            "`Host` must be `localhost` or a loopback address",
        );
    }
    let path = uri.path();
    if path == "/" {
        return match *method {
            Method::GET => state_response(shops),
            _ => with_allow(problem_response(StatusCode::METHOD_NOT_ALLOWED, COMMANDS), "GET"),
        };
    }
    if method != Method::POST {
        return with_allow(problem_response(StatusCode::METHOD_NOT_ALLOWED, COMMANDS), "POST");
    }
    let mut segments = path.trim_start_matches('/').splitn(2, '/');
    let upstream = segments.next().unwrap_or_default();
    let command = segments.next().unwrap_or_default();
    let Some(shop) = UpstreamKind::from_name(upstream)
        .and_then(|kind| shops.iter().find(|shop| shop.kind == kind))
    else {
        return problem_response(StatusCode::NOT_FOUND, COMMANDS);
    };
    match apply_command(shop, command, uri.query().unwrap_or_default()) {
        Ok(()) => state_response(shops),
        Err(problem) => problem.into(),
    }
}

/// Why an order was not obeyed.
struct CommandError(StatusCode, String);

impl From<CommandError> for UpstreamResponse {
    fn from(CommandError(status, detail): CommandError) -> Self {
        problem_response(status, &detail)
    }
}

fn apply_command(shop: &UpstreamState, command: &str, query: &str) -> Result<(), CommandError> {
    match command {
        "fail" => {
            let [status, percent] = parse_numbers(query, ["status", "percent"])?;
            let status = check_range("status", status.unwrap_or(503), 400..=599)?;
            let percent = check_range("percent", percent.unwrap_or(100), 0..=100)?;
            shop.change_behaviour(|behaviour| {
                behaviour.fail = Some(FailureMode { status, percent });
            });
        }
        "slow" => {
            let [ms] = parse_numbers(query, ["ms"])?;
            let slow_ms = check_range("ms", ms.unwrap_or(300), 0..=SLOW_MS_MAX)?;
            shop.change_behaviour(|behaviour| behaviour.slow_ms = slow_ms);
        }
        "hang" => {
            let [] = parse_numbers(query, [])?;
            shop.change_behaviour(|behaviour| behaviour.hang = true);
        }
        "recover" => {
            let [] = parse_numbers(query, [])?;
            shop.change_behaviour(|behaviour| *behaviour = Behaviour::default());
        }
        _ => {
            let [] = parse_numbers(query, [])?;
            let id = command.strip_prefix("change/").and_then(|id| id.parse().ok());
            let changed = id
                .ok_or(COMMANDS)
                .and_then(|id| shop.change(id).ok_or("no such customer: 1 to 1000 exist"));
            changed.map_err(|detail| CommandError(StatusCode::NOT_FOUND, detail.to_owned()))?;
        }
    }
    Ok(())
}

/// The numbers of a query by name; what is unknown or no number is refused.
fn parse_numbers<const N: usize>(
    query: &str,
    names: [&str; N],
) -> Result<[Option<u64>; N], CommandError> {
    let mut found = [None; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = names.iter().position(|known| *known == name);
        match (place, value.parse()) {
            (Some(place), Ok(number)) => found[place] = Some(number),
            (Some(_), Err(_)) => return Err(bad_request(&format!("`{name}` must be a number"))),
            (None, _) => return Err(bad_request(&expected_query(&names))),
        }
    }
    Ok(found)
}

fn expected_query(names: &[&str]) -> String {
    if names.is_empty() {
        return "no query is expected here".to_owned();
    }
    names.iter().fold("the query may hold".to_owned(), |mut text, name| {
        let _ = write!(text, " `{name}`");
        text
    })
}

fn check_range<T: TryFrom<u64>>(
    name: &str,
    number: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<T, CommandError> {
    let inside = range.contains(&number).then(|| T::try_from(number).ok()).flatten();
    inside.ok_or_else(|| {
        bad_request(&format!("`{name}` must be {} to {}", range.start(), range.end()))
    })
}

fn bad_request(detail: &str) -> CommandError {
    CommandError(StatusCode::BAD_REQUEST, detail.to_owned())
}

/// Whether the one `Host` names this machine's loopback: else another site's name has been pointed
/// at it.
fn is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    !host.as_bytes().contains(&b'@')
        && (name.eq_ignore_ascii_case("localhost")
            || IpAddr::from_str(name).is_ok_and(|ip| ip.is_loopback()))
}

/// The behaviour of all four upstreams, and their counts of requests.
fn state_response(shops: &[Arc<UpstreamState>]) -> UpstreamResponse {
    let state = |shop: &Arc<UpstreamState>| {
        let Behaviour { fail, slow_ms, hang } = shop.behaviour();
        json!({"fail": fail, "slow_ms": slow_ms, "hang": hang, "requests": shop.requests()})
    };
    let all = shops
        .iter()
        .map(|shop| (shop.kind.name().to_owned(), state(shop)))
        .collect::<serde_json::Map<_, _>>();
    json_response(StatusCode::OK, "application/json", &all.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shops() -> Vec<Arc<UpstreamState>> {
        UpstreamKind::ALL.into_iter().map(|kind| Arc::new(UpstreamState::new(kind, 7))).collect()
    }

    fn from(host: &'static str) -> HeaderMap {
        [(HOST, HeaderValue::from_static(host))].into_iter().collect()
    }

    fn post(shops: &[Arc<UpstreamState>], target: &str) -> u16 {
        handle_command(shops, &Method::POST, &target.parse().unwrap(), &from("127.0.0.1:7079"))
            .status()
            .as_u16()
    }

    #[test]
    fn an_upstream_does_what_it_is_told_until_it_recovers() {
        let shops = shops();
        for target in ["/orders/fail?status=500&percent=10", "/orders/slow?ms=250", "/orders/hang"]
        {
            assert_eq!(post(&shops, target), 200, "{target}");
        }
        let behaviour = Behaviour {
            fail: Some(FailureMode { status: 500, percent: 10 }),
            slow_ms: 250,
            hang: true,
        };
        assert_eq!(shops[3].behaviour(), behaviour);
        assert_eq!(shops[0].behaviour(), Behaviour::default(), "the others go on");
        assert_eq!(post(&shops, "/orders/recover"), 200);
        assert_eq!(shops[3].behaviour(), Behaviour::default());
    }

    #[test]
    fn a_change_is_a_new_document_and_recovering_does_not_take_it_back() {
        let shops = shops();
        let before = shops[1].document(42);
        assert_eq!(post(&shops, "/favorites/change/42"), 200);
        let after = shops[1].document(42);
        assert_ne!(after, before);
        post(&shops, "/favorites/recover");
        assert_eq!(shops[1].document(42), after);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let shops = shops();
        for (target, status) in [
            ("/orders/fail?status=200", 400),
            ("/orders/fail?percent=101", 400),
            ("/orders/fail?status=x", 400),
            ("/orders/fail?stauts=503", 400),
            ("/orders/slow?ms=60001", 400),
            ("/orders/hang?ms=1", 400),
            ("/orders/change/1001", 404),
            ("/orders/change/", 404),
            ("/orders/explode", 404),
            ("/payments/fail", 404),
            ("/orders", 404),
        ] {
            assert_eq!(post(&shops, target), status, "{target}");
        }
        assert!(shops.iter().all(|shop| shop.behaviour() == Behaviour::default()));
    }

    #[test]
    fn a_web_page_can_do_nothing() {
        let shops = shops();
        let fail = "/orders/fail".parse().unwrap();
        let mut page = from("127.0.0.1:7079");
        page.insert(ORIGIN, HeaderValue::from_static("null"));
        assert_eq!(handle_command(&shops, &Method::POST, &fail, &page).status(), 403);
        for host in [
            "rebound.example",
            "rebound.example:7079",
            "localhost.rebound.example",
            "127.0.0.1@rebound.example",
            "",
        ] {
            assert_eq!(
                handle_command(&shops, &Method::POST, &fail, &from(host)).status(),
                421,
                "{host}"
            );
        }
        assert_eq!(handle_command(&shops, &Method::POST, &fail, &HeaderMap::new()).status(), 421);
        assert_eq!(shops[3].behaviour(), Behaviour::default());
        for host in ["localhost", "LOCALHOST:7079", "127.0.0.1:7079", "[::1]:7079"] {
            assert_eq!(
                handle_command(&shops, &Method::POST, &fail, &from(host)).status(),
                200,
                "{host}"
            );
        }
    }

    #[test]
    fn the_state_names_all_four_and_is_only_read() {
        let shops = shops();
        let root = "/".parse().unwrap();
        assert_eq!(handle_command(&shops, &Method::GET, &root, &from("localhost")).status(), 200);
        assert_eq!(handle_command(&shops, &Method::POST, &root, &from("localhost")).status(), 405);
        let fail = "/orders/fail".parse().unwrap();
        assert_eq!(handle_command(&shops, &Method::GET, &fail, &from("localhost")).status(), 405);
    }
}
