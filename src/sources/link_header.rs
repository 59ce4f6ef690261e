//! `Link` headers (RFC 8288) and the references in them (RFC 3986, section 5), as far as paging
//! needs them.
//!
//! An unreadable header does not count as "no next page": an answer is complete only if that is
//! certain.

use http::header::{HeaderMap, LINK};
use http::uri::{PathAndQuery, Uri};

/// Whether an answer has a next page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextPage {
    /// It is the last.
    None,
    /// Its reference, as the header has it.
    Reference(String),
    /// There is a `Link` that cannot be read, or it names two next pages.
    Unclear,
}

/// The next page that the `Link` headers name.
pub(super) fn next_page(headers: &HeaderMap) -> NextPage {
    let mut found = NextPage::None;
    for value in headers.get_all(LINK) {
        let Some(links) = value.to_str().ok().and_then(parse_links) else {
            return NextPage::Unclear;
        };
        for link in links {
            match &found {
                _ if !link.is_next => {}
                NextPage::Reference(other) if *other != link.reference => return NextPage::Unclear,
                _ => found = NextPage::Reference(link.reference),
            }
        }
    }
    found
}

/// Whether the headers name a next page, readably or not.
pub(crate) fn has_next_page(headers: &HeaderMap) -> bool {
    next_page(headers) != NextPage::None
}

struct LinkValue {
    reference: String,
    is_next: bool,
}

/// All links of one header value; `None` where its syntax is broken.
fn parse_links(text: &str) -> Option<Vec<LinkValue>> {
    let mut links = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (reference, mut after) = rest.strip_prefix('<')?.split_once('>')?;
        let mut relation = None;
        loop {
            after = after.trim_start_matches([' ', '\t']);
            match after.strip_prefix(';') {
                Some(parameters) => {
                    let (name, value, left) = parse_parameter(parameters)?;
                    // Only the first `rel` of a link counts (section 3.3).
                    if name.eq_ignore_ascii_case("rel") && relation.is_none() {
                        relation = Some(value);
                    }
                    after = left;
                }
                None if after.is_empty() || after.starts_with(',') => break,
                None => return None,
            }
        }
        let next = relation.is_some_and(|all| {
            all.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"))
        });
        links.push(LinkValue { reference: reference.trim().to_owned(), is_next: next });
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    Some(links)
}

/// One parameter behind its semicolon: name, unquoted value, and the rest of the text.
fn parse_parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let end = text.find(['=', ';', ',', ' ', '\t']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    let Some(value) = rest.strip_prefix('=') else { return Some((name, String::new(), rest)) };
    let value = value.trim_start_matches([' ', '\t']);
    let Some(quoted) = value.strip_prefix('"') else {
        let (token, left) =
            value.split_at(value.find([';', ',', ' ', '\t']).unwrap_or(value.len()));
        return Some((name, token.to_owned(), left));
    };
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, text, &quoted[at + 1..])),
            '\\' => text.push(chars.next()?.1),
            _ => text.push(c),
        }
    }
    None
}

/// The target that `reference` names, seen from `base` at `origin`; in words why not where it leads
/// elsewhere.
pub(super) fn resolve(
    origin: &Uri,
    base: &PathAndQuery,
    reference: &str,
) -> Result<PathAndQuery, &'static str> {
    let reference = reference.split('#').next().unwrap_or_default();
    let local = match reference.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, rest))
            if origin.scheme_str().is_some_and(|ours| scheme.eq_ignore_ascii_case(ours)) =>
        {
            rest
        }
        Some(_) => return Err("leads to another scheme"),
        None => reference,
    };
    let local_is_absolute = local.len() != reference.len();
    let path_and_query = match local.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !is_same_authority(origin, authority) {
                return Err("leads to another server");
            }
            path
        }
        None if local_is_absolute => return Err("has a scheme but no server"),
        None => local,
    };
    let (path, query) = split_query(path_and_query);
    let base_path = base.path();
    let base_query = base.query();
    let absolute = local.starts_with("//");
    let (path, query) = match path {
        "" if absolute => ("/".to_owned(), query),
        "" => (base_path.to_owned(), query.or(base_query)),
        _ if path.starts_with('/') => (remove_dot_segments(path), query),
        _ => {
            let folder = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
            (remove_dot_segments(&format!("{folder}{path}")), query)
        }
    };
    let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(target).map_err(|_| "is no valid reference")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

/// Whether host and port are those of `origin`. An authority with user information never is.
fn is_same_authority(origin: &Uri, authority: &str) -> bool {
    let default_port = if origin.scheme_str() == Some("https") { 443 } else { 80 };
    let Ok(theirs) = authority.parse::<http::uri::Authority>() else { return false };
    let port = |given: Option<u16>| given.unwrap_or(default_port);
    let same_host = origin.host().is_some_and(|ours| ours.eq_ignore_ascii_case(theirs.host()));
    // An authority whose port is no number has none for `http`; it is not the same either.
    let port_is_read =
        authority.rsplit_once(']').map_or(authority, |(_, after)| after).contains(':')
            == theirs.port().is_some();
    same_host
        && !authority.contains('@')
        && port_is_read
        && port(origin.port_u16()) == port(theirs.port_u16())
}

/// RFC 3986, section 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut result: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                result.pop();
            }
            _ => result.push(segment),
        }
        if last && matches!(segment, "." | "..") {
            result.push("");
        }
    }
    format!("/{}", result.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (LINK, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_next_page_is_found_however_it_is_written() {
        for text in [
            "<a>; rel=next",
            "<a>;rel=\"next\"",
            "<a> ; REL = \"Next\"",
            "<b>; rel=prev, <a>; rel=next",
            "<b>; rel=\"first prev\" , , <a>; title=\"a, b; rel=\\\"x\\\"\"; rel=\"last next\"",
            "<b>; rel=prev; rel=next, <a>; hidden; rel=next",
        ] {
            assert_eq!(next_page(&headers(&[text])), NextPage::Reference("a".into()), "{text}");
        }
        assert_eq!(
            next_page(&headers(&["<b>; rel=prev", "<a>; rel=next"])),
            NextPage::Reference("a".into())
        );
    }

    #[test]
    fn other_relations_are_no_next_page() {
        for text in [
            "",
            "<a>; rel=prev",
            "<next>",
            "<a>; rel=\"nextish next-page\"",
            "<a>; rel=prev; rel=next",
            "<a>; title=\"next\"",
        ] {
            assert_eq!(next_page(&headers(&[text])), NextPage::None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_the_last_page() {
        for text in [
            "a; rel=next",
            "<a; rel=next",
            "<a>; rel=\"next",
            "<a> rel=next",
            "<a>; rel=next, <b>; rel=next",
        ] {
            assert_eq!(next_page(&headers(&[text])), NextPage::Unclear, "{text}");
        }
    }

    fn resolved(reference: &str) -> Result<String, &'static str> {
        let origin = "https://orders.shop:8443".parse().unwrap();
        let base = PathAndQuery::from_static("/b/c/d?q=1");
        resolve(&origin, &base, reference).map(|target| target.to_string())
    }

    #[test]
    fn references_resolve_as_the_rfc_says() {
        for (reference, expected) in [
            ("https://orders.shop:8443/x?page=2", "/x?page=2"),
            ("HTTPS://ORDERS.shop:8443?page=2", "/?page=2"),
            ("//orders.shop:8443/x", "/x"),
            ("/x/y", "/x/y"),
            ("?page=2", "/b/c/d?page=2"),
            ("g", "/b/c/g"),
            ("./g?y", "/b/c/g?y"),
            ("g/", "/b/c/g/"),
            ("../g", "/b/g"),
            ("../../../g", "/g"),
            ("..", "/b/"),
            (".", "/b/c/"),
            ("/./g/../h", "/h"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x#s", "/b/c/g?y/../x"),
            ("", "/b/c/d?q=1"),
            ("a/b:c", "/b/c/a/b:c"),
        ] {
            assert_eq!(resolved(reference).unwrap(), expected, "{reference}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for reference in [
            "http://orders.shop:8443/x",
            "https://orders.shop/x",
            "https://orders.shop:8444/x",
            "https://evil.shop:8443/x",
            "https://orders.shop:8443@evil.shop:8443/x",
            "https://user@orders.shop:8443/x",
            "//evil.shop/x",
            "https:/x",
            "mailto:a",
            "a b",
        ] {
            assert!(resolved(reference).is_err(), "{reference}");
        }
    }

    #[test]
    fn a_default_port_is_the_same_written_or_not() {
        let base = PathAndQuery::from_static("/");
        let resolve =
            |origin: &str, reference| resolve(&origin.parse().unwrap(), &base, reference).is_ok();
        assert!(resolve("https://a.b", "https://a.b:443/x"));
        assert!(resolve("https://a.b:443", "https://a.b/x"));
        assert!(resolve("http://[::1]:80", "http://[::1]/x"));
        assert!(!resolve("https://a.b", "https://a.b:80/x"));
    }
}
