//! The fingerprint of everything in the file that determines a dataset's content.
//!
//! Two processes whose files differ only in shapes, paths or times share their datasets; any other
//! difference keeps them apart, except for the values of variables in headers: tokens. The value of
//! a variable in a URL counts. The serialisation is unambiguous (every text carries its length) and
//! has a version of its own.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use super::database::{PostgresSource, Rows};
use super::model::{
    Atomicity, Domain, HttpSource, Missing, Pages, PlanId, Source, SourceKind, UrlPiece,
    WrittenHeaders,
};
use super::mongo::{MongoCredential, MongoSource};
use super::reference::Reference;
use super::server::ServerIdentity;

/// Raised when the serialisation below changes: it makes every plan another one.
const FORMAT: u64 = 1;

/// Stands in until the domain is whole.
pub(super) fn placeholder() -> PlanId {
    PlanId("".into())
}

/// The plan of a domain.
pub(super) fn fingerprint(domain: &Domain) -> PlanId {
    let mut plan = PlanHasher(Context::new(&SHA256));
    plan.number(FORMAT);
    plan.text(&domain.key.text);
    plan.number(match domain.atomicity {
        Atomicity::Complete => 0,
        Atomicity::Snapshot { rounds } => rounds.get().into(),
    });
    plan.optional(domain.cache.tags.as_deref());
    plan.number(domain.sources.len() as u64);
    for source in &domain.sources {
        plan.source(source);
    }
    let digest = plan.0.finish();
    let hex = digest.as_ref()[..16].iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    PlanId(hex.into())
}

struct PlanHasher(Context);

impl PlanHasher {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        self.number(text.is_some().into());
        self.text(text.unwrap_or_default());
    }

    fn source(&mut self, source: &Source) {
        self.text(&source.name);
        match &source.kind {
            SourceKind::Http(http) => self.http(http),
            SourceKind::Postgres(postgres) => self.postgres(postgres),
            SourceKind::Mongo(mongo) => self.mongo(mongo),
        }
        match &source.missing {
            Missing::Failure => self.number(0),
            Missing::NotFound => self.number(1),
            Missing::Value(json) => {
                self.number(2);
                self.text(json);
            }
        }
    }

    fn http(&mut self, http: &HttpSource) {
        self.text(&http.url.origin.to_string());
        self.number(http.url.pieces.len() as u64);
        for piece in &http.url.pieces {
            match piece {
                UrlPiece::Literal(text) => {
                    self.number(0);
                    self.text(text);
                }
                UrlPiece::Reference(reference) => self.reference(reference),
            }
        }
        self.server(&http.server);
        self.headers(&http.written_headers);
        match http.pages {
            Pages::Refuse => self.number(0),
            Pages::First => self.number(1),
            Pages::Follow { max_pages } => {
                self.number(2);
                self.number(max_pages.get().into());
            }
        }
    }

    /// Without the password, so that a new one leaves the datasets valid. A text that no origin of
    /// an HTTP source can be comes first.
    fn postgres(&mut self, postgres: &PostgresSource) {
        let PostgresSource { database, query, rows } = postgres;
        self.text("postgres");
        self.text(&database.host);
        self.number(database.port.into());
        self.text(&database.name);
        self.text(&database.user);
        self.number(database.server.is_some().into());
        if let Some(server) = &database.server {
            self.server(server);
        }
        self.text(&query.text);
        self.number(query.parameters.len() as u64);
        for parameter in &query.parameters {
            self.reference(parameter);
        }
        self.rows(*rows);
    }

    /// Without the password, like a PostgreSQL source.
    fn mongo(&mut self, mongo: &MongoSource) {
        let database = &mongo.database;
        self.text("mongodb");
        self.number(database.hosts.len() as u64);
        for (host, port) in &database.hosts {
            self.text(host);
            self.number((*port).into());
        }
        self.text(&database.name);
        match &database.credential {
            MongoCredential::None => self.number(0),
            MongoCredential::Password { user, source, .. } => {
                self.number(1);
                self.text(user);
                self.text(source);
            }
            MongoCredential::Certificate => self.number(2),
        }
        self.optional(database.replica_set.as_deref());
        self.number(database.is_direct.into());
        self.number(database.server.is_some().into());
        self.text(&mongo.collection);
        self.text(&mongo.text());
        self.number(mongo.parameters.len() as u64);
        for parameter in &mongo.parameters {
            self.reference(&parameter.reference);
        }
        self.rows(mongo.rows);
    }

    fn rows(&mut self, rows: Rows) {
        self.number(match rows {
            Rows::One => 0,
            Rows::Many => 1,
        });
    }

    fn reference(&mut self, reference: &Reference) {
        match reference {
            Reference::Key => self.number(1),
            Reference::Part { source, path } => {
                self.number(2);
                self.number(source.0 as u64);
                self.number(path.len() as u64);
                for member in path {
                    self.text(member);
                }
            }
        }
    }

    fn server(&mut self, server: &ServerIdentity) {
        self.number(match server {
            ServerIdentity::Spiffe(_) => 0,
            ServerIdentity::Dns(_) => 1,
            ServerIdentity::Ip(_) => 2,
        });
        self.text(&server.to_string());
    }

    /// By name: their order in the file has no meaning. As they are written: a new token leaves the
    /// datasets valid, and no hash over it stands in names of keys and in metrics.
    fn headers(&mut self, written: &WrittenHeaders) {
        self.number(written.0.len() as u64);
        for (name, text) in &written.0 {
            self.text(name.as_str());
            self.text(text);
        }
    }
}
