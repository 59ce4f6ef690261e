//! A source that is a MongoDB collection: `mongodb`, `collection` and the keys that go with them.

use std::ops::Range;
use std::sync::Arc;

use super::context::{Context, FieldPlace};
use super::database::{Mutuality, Password};
use super::database_source::{mutuality, report_absent_kind, rows};
use super::database_url::{DatabaseUrl, database_url};
use super::fields::{Field, Fields, number, text};
use super::mongo::{
    MongoCredential, MongoDatabase, MongoFind, MongoRead, MongoSource, ScramMechanism,
};
use super::mongo_template::{TemplatePlace, TemplateReader};
use super::reference::{ReferenceReader, find_in_text};
use super::server::ServerIdentity;

const FORM: &str = "mongodb://host:27017/database";
const DEFAULT_PORT: u16 = 27017;
const HOSTS_MAX: usize = 50;
const COLLECTION: &str = "say what to read: `collection: customers`";
const FILTER: &str = "say what to read of it: `filter: {customer: '{key}'}`, or a `pipeline`";
/// The most documents that a `limit` may name: a part takes no more.
const LIMIT_MAX: u32 = 100_000;
/// The longest name of a collection, in bytes.
const COLLECTION_BYTES_MAX: usize = 200;

/// Reads the keys of a MongoDB source.
pub(super) fn mongo_source(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    url: Field<'_>,
    references: &mut ReferenceReader<'_>,
) -> Option<MongoSource> {
    if !cfg!(feature = "mongodb") {
        report_absent_kind(context, url);
    }
    let mutual = mongo_mutuality(context, fields, url);
    let database = text(context, url.node, "a URL").and_then(|at| database(context, at));
    let collection = fields
        .require(context, "collection", "a `mongodb` source", COLLECTION)
        .and_then(|field| text(context, field.node, "the name of a collection"))
        .and_then(|at| collection(context, at, references.names()));
    let rows = rows(context, fields);
    let mut templates = TemplateReader::new(context, references);
    let read = read(&mut templates, fields);
    let parameters = templates.into_parameters();
    let database = MongoDatabase { mutual: mutual?, ..database? };
    Some(MongoSource { database, collection: collection?, read: read?, parameters, rows: rows? })
}

/// `mutual` must be said: a driver cannot prove it.
fn mongo_mutuality(
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    url: Field<'_>,
) -> Option<Mutuality> {
    let expected = "`unproven` or `no`";
    let hint = "write `mutual: unproven`: our certificate is presented, and the server's verified, \
                but its driver cannot tell whether the server asked for ours; or `mutual: no` if \
                it knows us by a password only";
    if fields.get("mutual").is_none() {
        let message = "a `mongodb` source does not say how far it is proven";
        context.problem(url.key.span.clone(), message, format!("`mutual`: {expected}"), hint);
        return None;
    }
    let (field, mutual) = mutuality(context, fields)?;
    if mutual == Mutuality::Proven {
        let message = "`mutual: proven` cannot be kept of a `mongodb` source";
        context.problem(field.node.span.clone(), message, expected, hint);
        return None;
    }
    Some(mutual)
}

fn collection(context: &mut Context<'_>, at: FieldPlace<'_>, names: &[&str]) -> Option<Arc<str>> {
    let text = at.scalar.text.as_str();
    let before = context.count();
    if let Some(found) = find_in_text(context, text, names) {
        let message = "a reference cannot stand in the name of a collection";
        let hint = "references are values: write the name out";
        context.problem_in(at, found, message, "a fixed name", hint);
    } else if text.is_empty() || text.len() > COLLECTION_BYTES_MAX || text.contains(['$', '\0']) {
        let message = format!("{} cannot be the name of a collection", at.scalar.shown());
        let expected = format!("at most {COLLECTION_BYTES_MAX} bytes without `$` and NUL");
        context.problem(at.span.clone(), message, expected, COLLECTION);
    }
    (context.count() == before).then(|| text.into())
}

/// What is read: a filter and what goes with it, or a pipeline.
fn read(templates: &mut TemplateReader<'_, '_, '_>, fields: &Fields<'_>) -> Option<MongoRead> {
    if let Some(pipeline) = fields.get("pipeline") {
        let mut excluded = ["filter", "sort", "limit", "projection"].into_iter();
        if let Some(other) = excluded.find_map(|name| fields.get(name)) {
            let name = &other.key.text;
            let message = format!("`{name}` and `pipeline` exclude each other");
            let hint = format!("put it into the pipeline as a stage, and remove `{name}`");
            let span = other.key.span.clone();
            templates.context().problem(span, message, "one of them", hint);
            templates.pipeline(pipeline.node);
            return None;
        }
        return templates.pipeline(pipeline.node).map(MongoRead::Aggregate);
    }
    let filter = fields.get("filter");
    if filter.is_none() {
        let message = "a `mongodb` source has neither `filter` nor `pipeline`";
        let span = fields.span.clone();
        templates.context().problem(span, message, "`filter` or `pipeline`", FILTER);
    }
    let filter = filter.and_then(|it| templates.document(it.node, TemplatePlace::Filter));
    let mut optional = |name: &str, place| match fields.get(name) {
        Some(field) => templates.document(field.node, place).map(Some),
        None => Some(None),
    };
    let sort = optional("sort", TemplatePlace::Fixed);
    let projection = optional("projection", TemplatePlace::Expression);
    let limit = match fields.get("limit") {
        Some(field) => number(templates.context(), field, 1..=LIMIT_MAX).map(Some),
        None => Some(None),
    };
    Some(MongoRead::Find(MongoFind {
        filter: filter?,
        sort: sort?,
        projection: projection?,
        limit: limit?,
    }))
}

/// The database that the URL names, with `mutual: proven`.
fn database(context: &mut Context<'_>, at: FieldPlace<'_>) -> Option<MongoDatabase> {
    let before = context.count();
    if at.scalar.text.starts_with("mongodb+srv://") {
        let message = "`mongodb+srv` is not supported: its hosts stand in the DNS alone";
        let hint = "write them out: `mongodb://a:27017,b:27017/database?replicaSet=…`; \
                    `dig SRV _mongodb._tcp.HOST` shows them";
        context.problem_in(at, 0..14, message, format!("`{FORM}`"), hint);
        return None;
    }
    let url = database_url(context, at, &["mongodb://"], FORM)?;
    if url.hosts.len() > HOSTS_MAX {
        let expected = format!("at most {HOSTS_MAX}");
        let hint = "one reachable member is enough: it names the others";
        context.problem(at.span.clone(), "the URL names too many hosts", expected, hint);
    }
    let options = UrlOptions::read(context, at, &url);
    if options.is_direct && url.hosts.len() > 1 {
        let hint = "remove it, or all hosts but the one";
        let message = "`directConnection` goes to one host, and the URL names several";
        context.problem(at.span.clone(), message, "one host", hint);
    }
    let credential = credential(context, at, &url, &options);
    if options.is_tls && !context.world.allow_https {
        let hint =
            "`--identity DIR` (or `BFB_IDENTITY`) is read at the start: start the sidecar with it";
        let message = "this source is asked over TLS, which needs `--identity`";
        context.problem(at.span.clone(), message, "an identity of ours", hint);
    }
    let server = url.hosts.first().and_then(|(host, _)| ServerIdentity::of_host(host));
    (context.count() == before).then_some(())?;
    let host = |(host, port): &(&str, Option<u16>)| {
        (Arc::from(host.to_ascii_lowercase()), port.unwrap_or(DEFAULT_PORT))
    };
    Some(MongoDatabase {
        hosts: url.hosts.iter().map(host).collect(),
        name: url.database.into(),
        credential: credential?,
        replica_set: options.replica_set,
        is_direct: options.is_direct,
        server: if options.is_tls { Some(server?) } else { None },
        mutual: Mutuality::Proven,
    })
}

fn credential(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
    url: &DatabaseUrl<'_>,
    options: &UrlOptions,
) -> Option<MongoCredential> {
    let source = || options.auth_source.clone().unwrap_or_else(|| url.database.as_str().into());
    let user = Some(url.user.as_str()).filter(|user| !user.is_empty());
    match (options.mechanism, user, &url.password) {
        (Some(Mechanism::Certificate), None, None) => Some(MongoCredential::Certificate),
        (Some(Mechanism::Certificate), ..) => {
            let message = "with `MONGODB-X509` the URL names no user and no password";
            let hint = "remove them: the server takes the subject of our certificate";
            context.problem(at.span.clone(), message, "neither", hint);
            None
        }
        (mechanism, Some(user), Some(password)) => Some(MongoCredential::Password {
            user: user.into(),
            password: Password(password.as_str().into()),
            source: source(),
            mechanism: match mechanism {
                Some(Mechanism::Scram(mechanism)) => Some(mechanism),
                _ => None,
            },
        }),
        (None, None, None) => Some(MongoCredential::None),
        _ => {
            let message = "the URL names a user without a password, or a password without a user";
            let hint = "write both, or neither; `authMechanism=MONGODB-X509` goes by our \
                        certificate";
            context.problem(at.span.clone(), message, "`user:password@`, or neither", hint);
            None
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Mechanism {
    Scram(ScramMechanism),
    Certificate,
}

/// The options of a URL that mean something here.
struct UrlOptions {
    is_tls: bool,
    is_direct: bool,
    replica_set: Option<Arc<str>>,
    auth_source: Option<Arc<str>>,
    mechanism: Option<Mechanism>,
}

impl UrlOptions {
    /// Reads them, and reports those that are not taken. Names are compared as MongoDB does,
    /// without regard to case.
    fn read(context: &mut Context<'_>, at: FieldPlace<'_>, url: &DatabaseUrl<'_>) -> Self {
        let mut options = Self {
            is_tls: true,
            is_direct: false,
            replica_set: None,
            auth_source: None,
            mechanism: None,
        };
        for (name, value, range) in &url.parameters {
            let name = name.to_ascii_lowercase();
            if !options.take(context.world.allow_http, &name, value) {
                let (message, expected, hint) = refusal(&name);
                context.problem_in(at, Range::clone(range), message, expected, hint);
            }
        }
        options
    }

    /// Takes an option; `false`: it is not one that is taken.
    fn take(&mut self, allow_http: bool, name: &str, value: &str) -> bool {
        let boolean = || value.parse::<bool>().ok();
        match name {
            "tls" | "ssl" if value == "true" => {}
            "tls" | "ssl" if value == "false" && allow_http => self.is_tls = false,
            "directconnection" if boolean().is_some() => self.is_direct = boolean() == Some(true),
            "replicaset" if !value.is_empty() => self.replica_set = Some(value.into()),
            "authsource" if !value.is_empty() => self.auth_source = Some(value.into()),
            "authmechanism" => {
                self.mechanism = Some(match value {
                    "SCRAM-SHA-1" => Mechanism::Scram(ScramMechanism::Sha1),
                    "SCRAM-SHA-256" => Mechanism::Scram(ScramMechanism::Sha256),
                    "MONGODB-X509" => Mechanism::Certificate,
                    _ => return false,
                });
            }
            "readpreference" if value == "primary" => {}
            // They are about writing, logs, or a driver's own retries, of which there are none.
            "appname" | "journal" | "retryreads" | "retrywrites" | "w" | "wtimeoutms" => {}
            _ => return false,
        }
        true
    }
}

/// Why an option is not taken: a message, what is expected, and a hint.
fn refusal(name: &str) -> (&'static str, &'static str, &'static str) {
    match name {
        "tls" | "ssl" => (
            "without TLS nobody knows who answers",
            "`tls=true`",
            "for development, allow `tls=false` with `--insecure-upstreams`",
        ),
        _ if name.starts_with("tls") || name.starts_with("ssl") => (
            "this option would weaken TLS, or change what it goes by",
            "`--identity` and the host's own name",
            "remove it: certificates come from `--identity`, and servers are always verified",
        ),
        "authmechanism" => (
            "there is no such way to prove who we are",
            "`SCRAM-SHA-256`, `SCRAM-SHA-1` or `MONGODB-X509`",
            "remove it: the server says which it prefers",
        ),
        "readpreference" | "readpreferencetags" | "maxstalenessseconds" | "readconcernlevel" => (
            "where and how it is read is not for the URL to say",
            "`readPreference=primary`, or nothing",
            "remove it: the primary is read, what a majority has",
        ),
        _ => (
            "the URL has an option that is not supported, or a value of it",
            "`replicaSet`, `authSource`, `authMechanism`, `directConnection` or `tls`",
            "remove it; `concurrency`, `timeout` and `deadline` stand in the file",
        ),
    }
}
