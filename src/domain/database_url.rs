//! The URL of a database: `postgres://user:password@host:5432/shop`.
//!
//! Whatever stands in it may be a secret: messages show it as the file has it, before substitution.

use std::ops::Range;

use percent_encoding::percent_decode_str;
use rustls_pki_types::ServerName;

use super::context::{Context, FieldPlace};
use super::url::split_port;

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8 << 10;

/// The parts of a database's URL. There is no `Debug`: the password is among them.
pub(super) struct DatabaseUrl<'u> {
    /// The user, decoded; empty where there is none.
    pub(super) user: String,
    /// The password, decoded.
    pub(super) password: Option<String>,
    /// The hosts, each with its port; IPv6 without brackets.
    pub(super) hosts: Vec<(&'u str, Option<u16>)>,
    /// The database's name, decoded.
    pub(super) database: String,
    /// The parameters behind the `?`, decoded, each with its place in the text.
    pub(super) parameters: Vec<(String, String, Range<usize>)>,
}

/// Reads a URL that begins with one of `schemes`; `form` shows how one looks.
pub(super) fn database_url<'u>(
    context: &mut Context<'_>,
    at: FieldPlace<'u>,
    schemes: &[&str],
    form: &str,
) -> Option<DatabaseUrl<'u>> {
    let text = at.scalar.text.as_str();
    let hint = format!("write it whole: `{form}`");
    if text.len() > URL_BYTES_MAX {
        let expected = format!("at most {URL_BYTES_MAX} bytes");
        let hint = "check what its variables put in";
        context.problem(at.span.clone(), "the URL is too long", expected, hint);
        return None;
    }
    let after_scheme = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let Some(rest) = after_scheme else {
        let message = format!("{} is not the URL of such a database", at.scalar.shown());
        let expected = format!("a URL that begins with `{}`", schemes[0]);
        context.problem(at.span.clone(), message, expected, hint);
        return None;
    };
    let start = text.len() - rest.len();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hosts_start = start + authority.len() - hosts.len();
    let hosts = read_hosts(context, at, hosts_start..start + end)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let database = path.strip_prefix('/').unwrap_or(path);
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (credentials, None),
    };
    let texts = [Some(user), password, Some(database)].map(|text| text.map(decode));
    let [Some(Some(user)), password, Some(Some(database))] = texts else {
        report_undecodable(context, at);
        return None;
    };
    let Some(password) = password.map_or(Some(None), |password| password.map(Some)) else {
        report_undecodable(context, at);
        return None;
    };
    if database.is_empty() || database.contains(['/', '#']) {
        let message = "the URL names no database";
        context.problem(at.span.clone(), message, "a `/` and the database's name", hint);
        return None;
    }
    let parameters = read_parameters(query, text.len() - query.len());
    Some(DatabaseUrl { user, password, hosts, database, parameters })
}

fn read_hosts<'u>(
    context: &mut Context<'_>,
    at: FieldPlace<'u>,
    range: Range<usize>,
) -> Option<Vec<(&'u str, Option<u16>)>> {
    let read = |host: &'u str| {
        let (host, port) = split_port(host)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(bare).ok().map(|_| (bare, port))
    };
    let hosts: Option<Vec<_>> = at.scalar.text[range.clone()].split(',').map(read).collect();
    if hosts.is_none() {
        let message = "the URL has a host that is none";
        let hint = "a user name or a password with `@`, `:` or `/` in it is percent-encoded; an \
                    IPv6 address stands in brackets";
        context.problem_in(at, range, message, "a host name or an IP address, and a port", hint);
    }
    hosts
}

fn read_parameters(query: &str, start: usize) -> Vec<(String, String, Range<usize>)> {
    let mut parameters = Vec::new();
    let mut start = start;
    for pair in query.split('&') {
        let range = start..start + pair.len();
        start = range.end + 1;
        if !pair.is_empty() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| decode(text).unwrap_or_default();
            parameters.push((decode(name), decode(value), range));
        }
    }
    parameters
}

/// Percent-decoded UTF-8 without a NUL.
fn decode(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (!text.contains('\0')).then(|| text.into_owned())
}

fn report_undecodable(context: &mut Context<'_>, at: FieldPlace<'_>) {
    let message = "the URL cannot be decoded";
    let hint = "write a `%` as `%25`";
    context.problem(at.span.clone(), message, "percent-encoded UTF-8 without a NUL", hint);
}
