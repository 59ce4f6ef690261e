//! A dataset: all parts of one key, joined once into one JSON object.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::part_table::{TABLE_LINE_BYTES_MAX, write_table};
use crate::domain::Domain;
use crate::sources::{Part, Validator};

/// One dataset. Cheap to clone: the parts and the body are shared.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The value of `Bfb-Dataset`.
    pub id: DatasetId,
    /// The parts, in the order of the domain's sources.
    pub parts: Arc<[Part]>,
    /// The parts as one JSON object, a member a source, each byte for byte as it came.
    pub body: Bytes,
    /// The body, and the table of its parts behind it: the bytes that are stored.
    pub(super) buffer: Bytes,
    /// How many rounds its collection took.
    pub rounds: u32,
}

/// An opaque name of a dataset, unique to one collection: 16 random bytes in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatasetId(u128);

impl DatasetId {
    fn random() -> Self {
        Self(fastrand::u128(1..))
    }

    /// The bytes, in the order of the digits.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Parses the text that [`fmt::Display`] wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits =
            text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(text, 16).ok().filter(|_| digits).map(Self)
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Dataset {
    /// Joins `parts`, which stand in the order of the domain's sources.
    pub(crate) fn join(domain: &Domain, parts: Vec<Part>, rounds: u32) -> Self {
        let names = domain.sources.iter().map(|source| source.name.as_ref());
        let table_bytes_max: usize =
            parts.iter().map(|part| part.validator.as_bytes().len() + TABLE_LINE_BYTES_MAX).sum();
        let mut buffer =
            join_members(names.zip(parts.iter().map(|part| part.json.as_ref())), table_bytes_max);
        let body_bytes = buffer.len();
        write_table(parts.iter(), &mut buffer);
        let buffer = buffer.freeze();
        let body = buffer.slice(..body_bytes);
        let parts = slice_parts(
            &body,
            domain,
            parts.into_iter().map(|part| (part.json.len(), part.validator)),
        );
        Self { id: DatasetId::random(), parts, body, buffer, rounds }
    }
}

/// The parts as slices of the body that they were joined to, so that their bytes are held once.
/// `parts` has their sizes and validators, in the order of the domain's sources.
pub(super) fn slice_parts(
    body: &Bytes,
    domain: &Domain,
    parts: impl Iterator<Item = (usize, Validator)>,
) -> Arc<[Part]> {
    let mut end = 0;
    let sliced = domain.sources.iter().zip(parts).map(|(source, (size, validator))| {
        // Before it stand `{` or `,`, the name in quotes, and a colon.
        let start = end + source.name.len() + 4;
        end = start + size;
        Part { json: body.slice(start..end), validator }
    });
    sliced.collect()
}

/// One JSON object of members that are valid JSON texts already, in a buffer with `reserve` spare
/// bytes. A name needs no escape: it is `[a-z0-9_-]`.
fn join_members<'a>(
    members: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    reserve: usize,
) -> BytesMut {
    let size: usize = members.clone().map(|(name, json)| name.len() + json.len() + 4).sum();
    let mut body = BytesMut::with_capacity(size + 2 + reserve);
    for (index, (name, json)) in members.enumerate() {
        body.put_u8(if index == 0 { b'{' } else { b',' });
        body.put_u8(b'"');
        body.put_slice(name.as_bytes());
        body.put_slice(b"\":");
        body.put_slice(json);
    }
    if body.is_empty() {
        body.put_u8(b'{');
    }
    body.put_u8(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_byte_for_byte() {
        let body = join_members(
            [("profile", b"{ \"n\":1.10}".as_slice()), ("orders", b"[]")].into_iter(),
            0,
        );
        assert_eq!(body, r#"{"profile":{ "n":1.10},"orders":[]}"#);
    }

    #[test]
    fn no_parts_make_an_empty_object() {
        assert_eq!(join_members(std::iter::empty(), 0), "{}");
    }
}
