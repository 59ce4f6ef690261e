//! Encodes a dataset as bytes for Redis, which several processes share, and decodes it.
//!
//! The format is a line of JSON (the dataset's id, the sizes of its parts, their validators), then
//! the dataset's body as it is. Decoding trusts nothing, since other programs may write to Redis:
//! it returns a whole dataset of this plan, or nothing.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, DatasetId, slice_parts};
use super::part_table::write_table;
use super::stored::StoredDataset;
use crate::domain::Domain;
use crate::sources::{VALIDATOR_BYTES_MAX, Validator};

/// The most bytes of the head of an encoded dataset, once and again for each part: a number, and a
/// validator in JSON.
const HEAD_BYTES_MAX: usize = 4 * VALIDATOR_BYTES_MAX;

#[derive(Debug, Serialize, Deserialize)]
struct EncodedHead {
    id: String,
    rounds: u32,
    /// In the order of the domain's sources.
    parts: Vec<EncodedPart>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EncodedPart {
    bytes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strong: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weak: Option<String>,
}

impl EncodedPart {
    fn new(bytes: usize, validator: &Validator) -> Self {
        let text = |tag: &HeaderValue| tag.to_str().ok().map(str::to_owned);
        let (strong, weak) = match validator {
            Validator::Strong(tag) => (text(tag), None),
            Validator::Weak(tag) => (None, text(tag)),
            Validator::None => (None, None),
        };
        Self { bytes, strong, weak }
    }

    /// The validator. One that is longer than a source may send counts as none; `None`: it cannot
    /// be read.
    fn validator(&self) -> Option<Validator> {
        let is_long = |tag: &String| tag.len() > VALIDATOR_BYTES_MAX;
        if self.strong.as_ref().is_some_and(is_long) || self.weak.as_ref().is_some_and(is_long) {
            return Some(Validator::None);
        }
        Some(match (&self.strong, &self.weak) {
            (Some(tag), _) => Validator::Strong(HeaderValue::from_str(tag).ok()?),
            (None, Some(tag)) => Validator::Weak(HeaderValue::from_str(tag).ok()?),
            (None, None) => Validator::None,
        })
    }
}

impl StoredDataset {
    /// Encodes it. A validator that is no text is left out, which only costs a confirmation.
    pub fn encode(&self) -> Vec<u8> {
        let parts = self
            .parts()
            .iter()
            .map(|(bytes, validator)| EncodedPart::new(*bytes, validator))
            .collect();
        let head = EncodedHead { id: self.id().to_string(), rounds: self.rounds(), parts };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.reserve(self.body_bytes() + 1);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body());
        bytes
    }
}

impl Dataset {
    /// Decodes a dataset; `None` if the bytes are no dataset of `domain`'s plan.
    pub fn decode(bytes: &Bytes, domain: &Domain) -> Option<Self> {
        // The head is parsed whole, into more memory than it takes as text, so its size is bounded
        // first.
        let head_max = HEAD_BYTES_MAX * (domain.sources.len() + 1);
        let end = bytes.iter().take(head_max).position(|byte| *byte == b'\n')?;
        let head: EncodedHead = serde_json::from_slice(&bytes[..end]).ok()?;
        let body = bytes.slice(end + 1..);
        let sizes: Vec<usize> = head.parts.iter().map(|part| part.bytes).collect();
        if !is_body_of(&body, domain, &sizes)
            || serde_json::from_slice::<IgnoredAny>(&body).is_err()
        {
            return None;
        }
        let validators =
            head.parts.iter().map(EncodedPart::validator).collect::<Option<Vec<_>>>()?;
        let parts = slice_parts(&body, domain, sizes.into_iter().zip(validators));
        let mut buffer = BytesMut::with_capacity(body.len() + end);
        buffer.extend_from_slice(&body);
        write_table(parts.iter(), &mut buffer);
        Some(Self {
            id: DatasetId::parse(&head.id)?,
            parts,
            body,
            buffer: buffer.freeze(),
            rounds: head.rounds,
        })
    }
}

/// Whether a body is an object of the domain's sources, in their order, with parts of these sizes.
fn is_body_of(body: &[u8], domain: &Domain, sizes: &[usize]) -> bool {
    if sizes.len() != domain.sources.len() || sizes.is_empty() {
        return false;
    }
    let mut rest = body;
    for (index, (source, size)) in domain.sources.iter().zip(sizes).enumerate() {
        let member = format!("{}\"{}\":", if index == 0 { '{' } else { ',' }, source.name);
        let Some(after) = rest.strip_prefix(member.as_bytes()).and_then(|after| after.get(*size..))
        else {
            return false;
        };
        rest = after;
    }
    rest == b"}"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::{World, parse};
    use crate::sources::Part;

    /// A domain with these sources.
    pub(in super::super) fn domain(names: &[&str]) -> Domain {
        let sources: Vec<_> =
            names.iter().map(|name| format!("  {name}: {{url: 'http://a/{{key}}'}}\n")).collect();
        let sources = sources.concat();
        let text = format!(
            "domain: c\nkey: .*\nsources:\n{sources}versions:\n  v1: {{path: '/v1/c/{{key}}'}}\n"
        );
        let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let world = World {
            variable: &|_| None,
            read: &read,
            program: &|_| Ok(()),
            allow_http: true,
            allow_https: true,
        };
        parse(Path::new("c.yaml"), &text, world).unwrap()
    }

    pub(in super::super) fn dataset(domain: &Domain) -> Dataset {
        let part = |json: &'static str, validator| Part {
            json: Bytes::from_static(json.as_bytes()),
            validator,
        };
        let strong = Validator::Strong(HeaderValue::from_static("\"a\""));
        Dataset::join(domain, vec![part("{\"n\": 1.10}", strong), part("[]", Validator::None)], 2)
    }

    #[test]
    fn a_dataset_thaws_as_it_was_frozen() {
        let domain = domain(&["profile", "orders"]);
        let before = dataset(&domain);
        let after = Dataset::decode(&StoredDataset::new(&before).encode().into(), &domain).unwrap();
        assert_eq!((after.id, after.rounds, &after.body), (before.id, before.rounds, &before.body));
        assert_eq!(after.parts, before.parts);
    }

    #[test]
    fn what_is_no_dataset_of_the_plan_is_nothing() {
        let two = domain(&["profile", "orders"]);
        let encoded = StoredDataset::new(&dataset(&two)).encode();
        assert!(
            Dataset::decode(&encoded.clone().into(), &domain(&["profile", "others"])).is_none()
        );
        assert!(Dataset::decode(&encoded.clone().into(), &domain(&["profile"])).is_none());
        for cut in 0..encoded.len() {
            assert!(Dataset::decode(&encoded[..cut].to_vec().into(), &two).is_none(), "{cut}");
        }
        let text = String::from_utf8(encoded).unwrap();
        for (from, to) in [
            ("1.10", "1.1x"),
            ("\"bytes\":11", "\"bytes\":10"),
            ("[]", "[]}"),
            ("\"id\":\"", "\"id\":\"x"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(Dataset::decode(&changed.into_bytes().into(), &two).is_none(), "{from} → {to}");
        }
    }
}
