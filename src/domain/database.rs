//! Databases as sources: where one is, what is read in it, and how far its connection is proven.

use std::fmt;
use std::sync::Arc;

use http::Uri;

use super::reference::Reference;
use super::server::ServerIdentity;

/// A PostgreSQL database, and the statement that reads a part in it.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSource {
    /// Where the database is, and as whom it is asked.
    pub database: PostgresDatabase,
    /// The statement.
    pub query: PostgresQuery,
    /// How many rows make a part.
    pub rows: Rows,
}

/// Where a PostgreSQL database is, and as whom it is asked. The sources of a domain for which this
/// is equal share connections, and are read in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresDatabase {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The database's name.
    pub name: Arc<str>,
    /// The user.
    pub user: Arc<str>,
    /// The user's password, where the database knows us by one.
    pub password: Option<Password>,
    /// The identity that the server's certificate must have; `None`: a connection without TLS
    /// (`sslmode=disable`, with `--insecure-upstreams`).
    pub server: Option<ServerIdentity>,
    /// How far the connection is proven.
    pub mutual: Mutuality,
}

impl PostgresDatabase {
    /// The URL of its server: `postgres://host:5432/`, or without TLS `http://host:5432/`.
    pub fn origin(&self) -> Option<Uri> {
        let scheme = if self.server.is_some() { "postgres" } else { "http" };
        format!("{scheme}://{}:{}/", bracketed(&self.host), self.port).parse().ok()
    }
}

/// A host as it stands in a URL.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for PostgresDatabase {
    /// The URL without credentials: `postgres://host:5432/shop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}:{}/{}", bracketed(&self.host), self.port, self.name)
    }
}

/// A password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Arc<str>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A statement with parameters for its references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresQuery {
    /// The statement with `$1`, `$2` … in the places of its references, without a semicolon at its
    /// end.
    pub text: Arc<str>,
    /// The values of the parameters, in their order. A reference that stands twice has two, since
    /// each place has a type of its own.
    pub parameters: Vec<Reference>,
}

/// How many rows (documents) make a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// One: the part is an object; no row is `missing`, and two are a failure.
    One,
    /// Any number: the part is an array.
    Many,
}

/// How far the connection to a source is proven (`mutual`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutuality {
    /// The server's identity is verified, and it asked for our certificate.
    Proven,
    /// A driver checks chain and name and presents our certificate; whether the server asked for it
    /// is not known.
    Unproven,
    /// The server's identity is verified; it knows us by a password.
    None,
}

impl Mutuality {
    /// The word in a domain file, in reports and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::None => "no",
        }
    }
}
