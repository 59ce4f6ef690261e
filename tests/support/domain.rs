//! Domain files for tests, written line by line, so that a test shows only the lines that it is
//! about.

use std::fmt::Write as _;
use std::sync::Arc;

use super::pki::{Asks, Pki, profile};
use super::upstream::Upstream;

/// A domain file in the making.
#[derive(Debug, Clone)]
pub(crate) struct DomainFile {
    pub(crate) name: String,
    head: String,
    sources: String,
    versions: String,
}

impl DomainFile {
    /// Its deadline is generous: no test is about the speed of the machine.
    pub(crate) fn of(name: &str) -> Self {
        let head = format!("domain: {name}\n");
        Self { name: name.to_owned(), head, sources: String::new(), versions: String::new() }
            .head("deadline: 30s")
    }

    /// A line at the top level; a later one replaces an earlier one of its name.
    pub(crate) fn head(mut self, line: &str) -> Self {
        let name = line.split(':').next().unwrap();
        let others = self.head.lines().filter(|other| other.split(':').next() != Some(name));
        self.head = others.chain([line]).flat_map(|line| [line, "\n"]).collect();
        self
    }

    /// A source at `upstream`; `lines` are its members beside the URL.
    pub(crate) fn source(
        self,
        name: &str,
        upstream: &Upstream,
        path: &str,
        lines: &[&str],
    ) -> Self {
        self.source_at(name, &url(upstream, path), lines)
    }

    /// The same for any URL.
    pub(crate) fn source_at(self, name: &str, url: &str, lines: &[&str]) -> Self {
        let url = format!("url: '{url}'");
        self.source_of(name, &[&[url.as_str()], lines].concat())
    }

    /// A source in a PostgreSQL database of this URL.
    pub(crate) fn postgres(self, name: &str, url: &str, query: &str, lines: &[&str]) -> Self {
        let url = format!("postgres: {url}");
        let query = format!("query: |\n      {}", query.replace('\n', "\n      "));
        self.source_of(name, &[&[url.as_str(), query.as_str()], lines].concat())
    }

    /// A source in a collection of the MongoDB database of this URL, `mutual: unproven` unless a
    /// line says otherwise.
    pub(crate) fn mongo(self, name: &str, url: &str, collection: &str, lines: &[&str]) -> Self {
        let (url, collection) = (format!("mongodb: {url}"), format!("collection: {collection}"));
        let is_said = lines.iter().any(|line| line.starts_with("mutual:"));
        let usual: &[&str] = if is_said { &[] } else { &["mutual: unproven"] };
        self.source_of(name, &[&[url.as_str(), collection.as_str()], usual, lines].concat())
    }

    /// A source of any kind.
    pub(crate) fn source_of(mut self, name: &str, lines: &[&str]) -> Self {
        writeln!(self.sources, "  {name}:").unwrap();
        for line in lines {
            writeln!(self.sources, "    {line}").unwrap();
        }
        self
    }

    /// A version; without any there is `v2` at `/v2/NAMEs/{key}`, unshaped.
    pub(crate) fn version(mut self, name: &str, lines: &[&str]) -> Self {
        writeln!(self.versions, "  {name}:").unwrap();
        for line in lines {
            writeln!(self.versions, "    {line}").unwrap();
        }
        self
    }

    pub(crate) fn text(&self) -> String {
        let Self { name, head, sources, versions } = self;
        let usual = format!("  v2:\n    path: '/v2/{name}s/{{key}}'\n");
        let versions = if versions.is_empty() { &usual } else { versions };
        format!("{head}sources:\n{sources}versions:\n{versions}")
    }
}

/// The URL template of `path` at `upstream`.
pub(crate) fn url(upstream: &Upstream, path: &str) -> String {
    format!("{}{path}", upstream.origin().to_string().trim_end_matches('/'))
}

/// An upstream over mutual TLS whose certificate fits its address; it speaks HTTP/1.1.
pub(crate) async fn mutual(pki: &Pki) -> Upstream {
    Upstream::tls(Arc::new(pki.server(&profile(), Asks::Always))).await
}

/// The same, speaking HTTP/2.
pub(crate) async fn mutual_http2(pki: &Pki) -> Upstream {
    let mut config = pki.server(&profile(), Asks::Always);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Upstream::tls(Arc::new(config)).await
}
