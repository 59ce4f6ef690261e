//! The fingerprint of all in the file that decides what a dataset holds.
//!
//! Two processes whose files differ only in shapes, paths or times share their datasets; any other
//! difference keeps them apart, but for what variables put into headers: a token. What a variable
//! puts into a URL counts. The serialisation is unambiguous (every text carries its length) and has
//! a version of its own.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use super::model::{
    Atomicity, Domain, Missing, Pages, PlanId, ServerIdentity, Source, UrlPiece, WrittenHeaders,
};

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
        self.text(&source.http.url.origin.to_string());
        self.number(source.http.url.pieces.len() as u64);
        for piece in &source.http.url.pieces {
            self.piece(piece);
        }
        self.server(&source.http.server);
        self.headers(&source.http.written_headers);
        match source.http.pages {
            Pages::Refuse => self.number(0),
            Pages::First => self.number(1),
            Pages::Follow { max_pages } => {
                self.number(2);
                self.number(max_pages.get().into());
            }
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

    fn piece(&mut self, piece: &UrlPiece) {
        match piece {
            UrlPiece::Literal(text) => {
                self.number(0);
                self.text(text);
            }
            UrlPiece::Key => self.number(1),
            UrlPiece::Part { source, path } => {
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

    /// By name: their order in the file says nothing. As they are written: a new token leaves the
    /// datasets what they are, and no hash over it stands in names of keys and in metrics.
    fn headers(&mut self, written: &WrittenHeaders) {
        self.number(written.0.len() as u64);
        for (name, text) in &written.0 {
            self.text(name.as_str());
            self.text(text);
        }
    }
}
