//! A MongoDB collection as a source: where it is, and what is read in it.
//!
//! What is read is a template: BSON with parameters in the places of its references. It knows no
//! driver: `sources` makes a query of it.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use http::Uri;

use super::database::{Mutuality, Password, Rows, bracketed};
use super::reference::Reference;
use super::server::ServerIdentity;

/// A MongoDB collection, and what is read in it.
#[derive(Debug, Clone, PartialEq)]
pub struct MongoSource {
    /// Where the deployment is, and as whom it is asked.
    pub database: MongoDatabase,
    /// The collection or view.
    pub collection: Arc<str>,
    /// What is read.
    pub read: MongoRead,
    /// The values that are bound, in the order of the file.
    pub parameters: Vec<MongoParameter>,
    /// How many documents make a part.
    pub rows: Rows,
}

/// Where a database is, and as whom it is asked. The sources of a domain for which this is equal
/// share connections, and are read at one instant where that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoDatabase {
    /// The servers to begin with, at least one: host names, IPv4 addresses, or IPv6 addresses
    /// without brackets, and ports.
    pub hosts: Vec<(Arc<str>, u16)>,
    /// The database's name.
    pub name: Arc<str>,
    /// As whom it is asked.
    pub credential: MongoCredential,
    /// The name that the replica set must have (`replicaSet`).
    pub replica_set: Option<Arc<str>>,
    /// Whether the first host alone is asked, whatever it belongs to (`directConnection`).
    pub is_direct: bool,
    /// The identity that the first server's certificate must have, which is its host's (each
    /// server's is that of its own host); `None`: connections without TLS (`tls=false`, with
    /// `--insecure-upstreams`).
    pub server: Option<ServerIdentity>,
    /// How far a connection is proven.
    pub mutual: Mutuality,
}

/// As whom a database is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MongoCredential {
    /// As nobody in particular: whoever comes in may read.
    None,
    /// By a password.
    Password {
        /// The user.
        user: Arc<str>,
        /// Its password.
        password: Password,
        /// The database that knows the user (`authSource`).
        source: Arc<str>,
        /// How the password is proven (`authMechanism`); `None`: as the server prefers.
        mechanism: Option<ScramMechanism>,
    },
    /// By our certificate (`MONGODB-X509`).
    Certificate,
}

/// How a password is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramMechanism {
    /// `SCRAM-SHA-1`.
    Sha1,
    /// `SCRAM-SHA-256`.
    Sha256,
}

impl MongoDatabase {
    /// The URL of its first server: `mongodb://host:27017/`, or without TLS `http://host:27017/`.
    pub fn origin(&self) -> Option<Uri> {
        let (host, port) = self.hosts.first()?;
        let scheme = if self.server.is_some() { "mongodb" } else { "http" };
        format!("{scheme}://{}:{port}/", bracketed(host)).parse().ok()
    }
}

impl fmt::Display for MongoDatabase {
    /// The URL without credentials and options: `mongodb://a:27017,b:27017/shop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mongodb://")?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:{port}", bracketed(host))?;
        }
        write!(f, "/{}", self.name)
    }
}

/// What is read in a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum MongoRead {
    /// The documents that a filter lets through.
    Find(MongoFind),
    /// What the stages of a pipeline make of it.
    Aggregate(Vec<MongoValue>),
}

/// A `find`.
#[derive(Debug, Clone, PartialEq)]
pub struct MongoFind {
    /// The condition on the documents.
    pub filter: MongoDocument,
    /// Their order.
    pub sort: Option<MongoDocument>,
    /// Which of their fields are read.
    pub projection: Option<MongoDocument>,
    /// The most of them.
    pub limit: Option<u32>,
}

/// The fields of a document, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MongoDocument(pub Vec<(Arc<str>, MongoValue)>);

/// A value in a template.
#[derive(Debug, Clone, PartialEq)]
pub enum MongoValue {
    /// `null`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number of 32 bits.
    Int32(i32),
    /// A whole number of 64 bits.
    Int64(i64),
    /// A number of another kind.
    Double(f64),
    /// A text.
    Text(Arc<str>),
    /// A list.
    List(Vec<MongoValue>),
    /// A document.
    Document(MongoDocument),
    /// The value of the parameter of this number.
    Bound(usize),
    /// The same where an expression stands, in which a text that begins with `$` is a path or a
    /// variable: `{$literal: value}`.
    Literal(usize),
}

/// A value that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoParameter {
    /// Where it comes from.
    pub reference: Reference,
    /// What it becomes.
    pub conversion: MongoConversion,
}

/// What becomes of a reference's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MongoConversion {
    /// A string, as it is.
    Text,
    /// A number of 64 bits (`:int`).
    Int,
    /// An `ObjectId` (`:objectId`).
    ObjectId,
}

/// A text after its conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MongoBound<'v> {
    /// A string.
    Text(&'v str),
    /// A number of 64 bits.
    Int(i64),
    /// The bytes of an `ObjectId`.
    ObjectId([u8; 12]),
}

impl MongoConversion {
    /// The names of conversions, as they stand behind the colon.
    pub(super) const NAMED: [(&'static str, Self); 2] =
        [("int", Self::Int), ("objectId", Self::ObjectId)];

    /// What `text` becomes; `None` where it is nothing of the kind. Of all texts that would mean
    /// the same value only one is taken, so that each value has one key, which an invalidation can
    /// name.
    pub fn convert(self, text: &str) -> Option<MongoBound<'_>> {
        match self {
            Self::Text => Some(MongoBound::Text(text)),
            Self::Int => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let is_canonical = digits.starts_with(|c: char| c.is_ascii_digit())
                    && (text == "0" || !digits.starts_with('0'));
                text.parse().ok().filter(|_| is_canonical).map(MongoBound::Int)
            }
            Self::ObjectId => {
                let mut bytes = [0; 12];
                let lower_hex = data_encoding::HEXLOWER;
                let is_whole =
                    text.len() == 24 && lower_hex.decode_mut(text.as_bytes(), &mut bytes).is_ok();
                is_whole.then_some(MongoBound::ObjectId(bytes))
            }
        }
    }

    /// What it makes, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Int => "a whole number of 64 bits without leading zeros",
            Self::ObjectId => "an ObjectId of 24 lower-case hexadecimal digits",
        }
    }

    /// The type that it makes, by its name in BSON.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "long",
            Self::ObjectId => "objectId",
        }
    }

    fn suffix(self) -> String {
        let name = Self::NAMED.iter().find(|(_, conversion)| *conversion == self);
        name.map_or(String::new(), |(name, _)| format!(":{name}"))
    }
}

impl MongoSource {
    /// What is read, as text: what a plan's hash and the name of a recording take. Two sources that
    /// read different things have different texts; a reference is named by its place among the
    /// parameters.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match &self.read {
            MongoRead::Find(find) => {
                text.push_str("find ");
                find.filter.write_to(&mut text);
                for (name, document) in [("sort", &find.sort), ("projection", &find.projection)] {
                    if let Some(document) = document {
                        let _ = write!(text, " {name} ");
                        document.write_to(&mut text);
                    }
                }
                if let Some(limit) = find.limit {
                    let _ = write!(text, " limit {limit}");
                }
            }
            MongoRead::Aggregate(stages) => {
                text.push_str("aggregate ");
                write_list(stages, &mut text);
            }
        }
        for parameter in &self.parameters {
            let _ = write!(text, " {}", parameter.conversion.suffix());
        }
        text
    }
}

impl MongoDocument {
    fn write_to(&self, text: &mut String) {
        text.push('{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { "," });
            let _ = write!(text, "{}:", serde_json::Value::from(&**name));
            value.write_to(text);
        }
        text.push('}');
    }
}

impl MongoValue {
    fn write_to(&self, text: &mut String) {
        let _ = match self {
            Self::Null => write!(text, "null"),
            Self::Boolean(value) => write!(text, "{value}"),
            Self::Int32(value) => write!(text, "{value}"),
            Self::Int64(value) => write!(text, "{value}"),
            // With a point or an exponent, unlike whole numbers.
            Self::Double(value) => write!(text, "{value:?}"),
            Self::Text(value) => write!(text, "{}", serde_json::Value::from(&**value)),
            Self::List(items) => {
                write_list(items, text);
                Ok(())
            }
            Self::Document(document) => {
                document.write_to(text);
                Ok(())
            }
            Self::Bound(index) => write!(text, "${index}"),
            Self::Literal(index) => write!(text, "$literal {index}"),
        };
    }
}

fn write_list(items: &[MongoValue], text: &mut String) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "," });
        item.write_to(text);
    }
    text.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_text() {
        let int = |text| match MongoConversion::Int.convert(text) {
            Some(MongoBound::Int(number)) => Some(number),
            _ => None,
        };
        assert_eq!(int("0"), Some(0));
        assert_eq!(int("-7"), Some(-7));
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        for text in ["", "-", "-0", "007", "+7", "7.0", "7e1", " 7", "9223372036854775808", "٣"] {
            assert_eq!(int(text), None, "{text}");
        }
    }

    #[test]
    fn an_object_id_has_one_text() {
        let is_one = |text| MongoConversion::ObjectId.convert(text).is_some();
        assert!(is_one("0123456789abcdef01234567"));
        for text in
            ["", "0123456789ABCDEF01234567", "0123456789abcdef0123456", "z123456789abcdef01234567"]
        {
            assert!(!is_one(text), "{text}");
        }
    }
}
