//! URLs with references: `https://host/customers/{key}?v={profile.id}`.
//!
//! A reference may stand in a path segment or a query value only; its value cannot leave its place.

use std::ops::Range;

use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rustls_pki_types::ServerName;

use super::context::{Context, FieldPlace};
use super::model::{UrlPiece, UrlTemplate};
use super::reference::{REFERENCE, ReferenceReader};
use super::value::has_dot_part;
use crate::diagnostics::quote;

const PLACES: &str = "references may stand in path segments and query values";
const HOST: &str = "a host name or an IP address";

/// The longest URL, in bytes.
const MAX_URL: usize = 8 << 10;

/// The URL if it is right. The sources it names are noted in `references` in any case.
pub(super) fn url(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
    references: &mut ReferenceReader<'_>,
) -> Option<UrlTemplate> {
    let text = at.scalar.text.as_str();
    let before = context.count();
    if text.len() > MAX_URL {
        let expected = format!("at most {MAX_URL} bytes");
        let hint = "check what its variables put in";
        context.problem(at.span.clone(), "the URL is too long", expected, hint);
        return None;
    }
    let start = scheme(context, at)?;
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |found| start + found);
    let origin = authority(context, at, start..end);
    let mut target =
        UrlTargetReader { context, at, references, pieces: Vec::new(), query: false, value: false };
    target.read(end);
    let pieces = target.pieces;
    let good = context.count() == before;
    origin.filter(|_| good).map(|origin| UrlTemplate { origin, pieces })
}

/// Where the authority begins.
fn scheme(context: &mut Context<'_>, at: FieldPlace<'_>) -> Option<usize> {
    let text = &at.scalar.text;
    if text.starts_with("https://") {
        if !context.world.allow_https {
            let hint = "`--identity DIR` (or `BFB_IDENTITY`) is read at the start: \
                        start the sidecar with it";
            context.problem_in(
                at,
                0..5,
                "this source is asked over TLS, which needs `--identity`",
                "an identity of ours",
                hint,
            );
        }
        return Some("https://".len());
    }
    if text.starts_with("http://") {
        if !context.world.allow_http {
            let hint = "for development, allow it with `--insecure-upstreams`";
            context.problem_in(at, 0..4, "`http://` proves nobody's identity", "`https`", hint);
        }
        return Some("http://".len());
    }
    let end = text.find("://").unwrap_or(text.len());
    let message = format!("{} is not a URL that can be asked", at.scalar.shown());
    let hint = "write it whole: `https://host:port/path/{key}`";
    context.problem_in(at, 0..end, message, "a URL that begins with `https://`", hint);
    None
}

/// Scheme and authority as a URI, host in lower case.
fn authority(context: &mut Context<'_>, at: FieldPlace<'_>, range: Range<usize>) -> Option<Uri> {
    let text = at.scalar.text.as_str();
    let authority = &text[range.clone()];
    if let Some(open) = authority.find(['{', '}']) {
        let open = range.start + open;
        context.problem_in(
            at,
            open..range.end,
            "a reference cannot stand in the host",
            "a fixed host",
            PLACES,
        );
        return None;
    }
    if let Some(sign) = authority.rfind('@') {
        let range = range.start..range.start + sign + 1;
        let message = "a user name or password cannot stand in a URL";
        let hint = "sources know us by our certificate; a token can be a header";
        context.problem_in(at, range, message, "the host alone", hint);
        return None;
    }
    let Some((host, port)) = split_port(authority) else {
        let expected = "a port from 1 to 65535";
        let hint = "leave out the `:` for the usual port, 443; put IPv6 in brackets";
        context.problem_in(at, range, "this is not a port", expected, hint);
        return None;
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bracketed = bare.len() != host.len();
    let named = ServerName::try_from(bare)
        .is_ok_and(|it| bracketed == bare.contains(':') || matches!(it, ServerName::DnsName(_)));
    if !named {
        let message = if host.is_empty() {
            "the URL has no host".to_owned()
        } else {
            "this is not a host".to_owned()
        };
        let hint = "write it after `https://`, without spaces and wildcards; put IPv6 in brackets";
        context.problem_in(at, range, message, HOST, hint);
        return None;
    }
    let scheme = if text.starts_with("https") { "https" } else { "http" };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let uri = format!("{scheme}://{}{port}/", host.to_ascii_lowercase()).parse().ok();
    if uri.is_none() {
        context.problem_in(
            at,
            range,
            "this is not a host",
            HOST,
            "write it in letters, digits, `-` and `.`",
        );
    }
    uri
}

/// Host and port; `None` if the text after the colon is no port.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let colon = after_bracket + colon;
            let port = authority[colon + 1..].parse().ok().filter(|port| *port != 0)?;
            Some((&authority[..colon], Some(port)))
        }
    }
}

/// Reads path and query.
struct UrlTargetReader<'t, 'a, 's> {
    context: &'t mut Context<'a>,
    at: FieldPlace<'t>,
    references: &'t mut ReferenceReader<'s>,
    pieces: Vec<UrlPiece>,
    /// Past the `?`.
    query: bool,
    /// In a query value: past its `=`.
    value: bool,
}

impl UrlTargetReader<'_, '_, '_> {
    fn read(&mut self, start: usize) {
        let text = self.at.scalar.text.as_str();
        if !text[start..].starts_with('/') {
            self.literal("/");
        }
        let mut at = start;
        let mut segment = start;
        while let Some(c) = text[at..].chars().next() {
            let next = at + c.len_utf8();
            match c {
                '{' => {
                    at = self.reference(at);
                    continue;
                }
                '#' => {
                    let message = "a URL's fragment is never sent";
                    let hint = "remove the `#` and what follows it";
                    let expected = "the URL's end; `%23` is the character itself";
                    self.context.problem_in(self.at, at..text.len(), message, expected, hint);
                    self.check_dot_segments(segment..at);
                    return;
                }
                '/' if !self.query => {
                    self.check_dot_segments(segment..at);
                    segment = next;
                }
                '?' if !self.query => {
                    self.check_dot_segments(segment..at);
                    self.query = true;
                }
                '&' if self.query => self.value = false,
                '=' if self.query => self.value = true,
                _ => self.check_char(at, c),
            }
            self.literal(&text[at..next]);
            at = next;
        }
        if !self.query {
            self.check_dot_segments(segment..at);
        }
    }

    fn literal(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(UrlPiece::Literal(literal)) => literal.push_str(text),
            _ => self.pieces.push(UrlPiece::Literal(text.to_owned())),
        }
    }

    /// Reports a segment that a server or a proxy would resolve away.
    fn check_dot_segments(&mut self, range: Range<usize>) {
        let plain = self.at.scalar.text[range.clone()].to_ascii_lowercase();
        let plain = plain.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
        if has_dot_part(&plain) {
            let message = "a path cannot go up or stay: `.` and `..`";
            let hint = "write the path that is meant";
            self.context.problem_in(self.at, range, message, "a segment with a name", hint);
        }
    }

    fn check_char(&mut self, at: usize, c: char) {
        let text = &self.at.scalar.text[at..];
        let escape = text
            .as_bytes()
            .get(1..3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?".contains(c) || c == '%' && escape {
            return;
        }
        let end = at + c.len_utf8();
        if c == '%' {
            let message = "`%` begins an escape of two hexadecimal digits";
            let expected = "two hexadecimal digits after it";
            let hint = "write `%25` for the character itself";
            self.context.problem_in(self.at, at..end, message, expected, hint);
            return;
        }
        let mut bytes = [0; 4];
        let escaped =
            percent_encode(c.encode_utf8(&mut bytes).as_bytes(), NON_ALPHANUMERIC).to_string();
        let message = format!("{} cannot stand in a URL", quote(&c.to_string()));
        let hint = match c {
            '}' => "a reference begins with `{`; write `%7D` for the character itself".to_owned(),
            _ => format!("write `{escaped}`"),
        };
        let expected = "letters, digits, the signs that URLs allow, or `%` and two digits";
        self.context.problem_in(self.at, at..end, message, expected, hint);
    }

    /// Reads a reference that begins at `open`, and returns where to go on.
    fn reference(&mut self, open: usize) -> usize {
        let text = self.at.scalar.text.as_str();
        let literal = "write `%7B` for a literal `{`";
        if text[open..].starts_with("{{") {
            let end = text[open..].find("}}").map_or(text.len(), |at| open + at + 2);
            self.context.problem_in(
                self.at,
                open..end,
                "`{{` is not supported",
                REFERENCE,
                literal,
            );
            return end;
        }
        let Some(length) = text[open..].find('}') else {
            self.context.problem_in(
                self.at,
                open..text.len(),
                "`{` is not closed",
                REFERENCE,
                literal,
            );
            return text.len();
        };
        let range = open..open + length + 1;
        let end = range.end;
        if self.query && !self.value {
            let message = "a reference cannot stand in a query name";
            self.context.problem_in(self.at, range, message, "a fixed name", PLACES);
            return end;
        }
        let found = self.references.resolve(self.context, self.at, range);
        self.pieces.extend(found.map(UrlPiece::Reference));
        end
    }
}
