//! A source that is a PostgreSQL database: `postgres`, `query` and the keys that go with them.

use super::context::{Context, FieldPlace};
use super::database::{Mutuality, Password, PostgresDatabase, PostgresSource};
use super::database_source::{mutuality, report_absent_kind, rows};
use super::database_url::{DatabaseUrl, database_url};
use super::fields::{Field, Fields, text};
use super::reference::ReferenceReader;
use super::server::{self, ServerIdentity};
use super::sql;

const FORM: &str = "postgres://user@host:5432/database";
const QUERY: &str = "say what to read: `query: select … where customer_id = {key}`";
const DEFAULT_PORT: u16 = 5432;

/// Reads the keys of a PostgreSQL source.
pub(super) fn postgres_source(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    url: Field<'_>,
    references: &mut ReferenceReader<'_>,
) -> Option<PostgresSource> {
    if !cfg!(feature = "postgres") {
        report_absent_kind(context, url);
    }
    let mutual = match fields.get("mutual") {
        None => Some(Mutuality::Proven),
        Some(_) => postgres_mutuality(context, fields),
    };
    let url = text(context, url.node, "a URL");
    let database = url.and_then(|at| database(context, fields, at));
    let query = fields
        .require(context, "query", "a `postgres` source", QUERY)
        .and_then(|field| text(context, field.node, "a statement"))
        .and_then(|at| sql::query(context, at, references));
    let rows = rows(context, fields);
    let database = PostgresDatabase { mutual: mutual?, ..database? };
    Some(PostgresSource { database, query: query?, rows: rows? })
}

fn postgres_mutuality(context: &mut Context<'_>, fields: &Fields<'_>) -> Option<Mutuality> {
    let (field, mutual) = mutuality(context, fields)?;
    if mutual == Mutuality::Unproven {
        let message = "`mutual: unproven` is for `mongodb`: of PostgreSQL it is proven";
        let hint = "remove it, or write `mutual: no` if the database knows us by a password only";
        context.problem(field.node.span.clone(), message, "`proven` or `no`", hint);
        return None;
    }
    Some(mutual)
}

/// The database that the URL names, with `mutual: proven`.
fn database(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    at: FieldPlace<'_>,
) -> Option<PostgresDatabase> {
    let before = context.count();
    let url = database_url(context, at, &["postgres://", "postgresql://"], FORM)?;
    let is_tls = is_tls(context, at, &url);
    let [(host, port)] = url.hosts[..] else {
        let message = "the URL names several hosts";
        let hint = "name the one that takes writes, or a name that leads to it";
        context.problem(at.span.clone(), message, "one host", hint);
        return None;
    };
    if url.user.is_empty() {
        let message = "the URL names no user";
        let hint = format!("write as whom the database is asked: `{FORM}`");
        context.problem(at.span.clone(), message, "a user before the host", hint);
    }
    let server = match fields.get("server") {
        Some(field) => {
            text(context, field.node, "an identity").and_then(|at| server::server(context, at))
        }
        None => ServerIdentity::of_host(host),
    };
    (context.count() == before).then_some(())?;
    Some(PostgresDatabase {
        host: host.to_ascii_lowercase().into(),
        port: port.unwrap_or(DEFAULT_PORT),
        name: url.database.into(),
        user: url.user.into(),
        password: url.password.map(|password| Password(password.into())),
        server: if is_tls { Some(server?) } else { None },
        mutual: Mutuality::Proven,
    })
}

/// Whether the connection is TLS; reports every parameter that says otherwise, but for
/// `sslmode=disable` where that is allowed.
fn is_tls(context: &mut Context<'_>, at: FieldPlace<'_>, url: &DatabaseUrl<'_>) -> bool {
    let mut is_tls = true;
    for (name, value, range) in &url.parameters {
        match (name.as_str(), value.as_str()) {
            ("sslmode", "disable") if context.world.allow_http => is_tls = false,
            ("sslmode", "disable") => {
                let message = "without TLS nobody's identity is proven";
                let hint = "for development, allow it with `--insecure-upstreams`";
                context.problem_in(at, range.clone(), message, "`sslmode=verify-full`", hint);
            }
            ("sslmode", "require" | "verify-ca" | "verify-full") => {}
            ("sslmode", _) => {
                let message = "this `sslmode` would do without TLS";
                let hint = "remove it: TLS is always required, and the server always verified";
                context.problem_in(at, range.clone(), message, "`sslmode=verify-full`", hint);
            }
            _ => {
                let message = "the URL has a parameter that is not supported";
                let hint = "remove it; certificates come from `--identity`, times from `timeout` \
                            and `deadline`";
                context.problem_in(at, range.clone(), message, "`sslmode` alone", hint);
            }
        }
    }
    if is_tls && !context.world.allow_https {
        let hint =
            "`--identity DIR` (or `BFB_IDENTITY`) is read at the start: start the sidecar with it";
        let message = "this source is asked over TLS, which needs `--identity`";
        context.problem(at.span.clone(), message, "an identity of ours", hint);
    }
    is_tls
}
