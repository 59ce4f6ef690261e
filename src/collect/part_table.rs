//! The table of a dataset's parts, which stands behind the body of a stored dataset.
//!
//! It has a line for each part: the size of the part's JSON, then the size and the kind of its
//! validator in one number, then the validator. Numbers are LEB128.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderValue;

use crate::sources::{Part, Validator};

/// The kinds of validator; they take two bits.
const NONE: usize = 0;
const STRONG: usize = 1;
const WEAK: usize = 2;

/// The most bytes that a part's line in the table takes beside its validator.
pub(super) const TABLE_LINE_BYTES_MAX: usize = 12;

/// Writes the table of `parts` behind their body.
pub(super) fn write_table<'p>(parts: impl Iterator<Item = &'p Part>, data: &mut BytesMut) {
    for part in parts {
        let (kind, validator) = match &part.validator {
            Validator::None => (NONE, [].as_slice()),
            Validator::Strong(tag) => (STRONG, tag.as_bytes()),
            Validator::Weak(tag) => (WEAK, tag.as_bytes()),
        };
        write_number(part.json.len(), data);
        write_number(validator.len() << 2 | kind, data);
        data.put_slice(validator);
    }
}

/// Reads a table: the size and the validator of each part, in their order.
pub(super) fn read_table(mut table: Bytes) -> Vec<(usize, Validator)> {
    let mut parts = Vec::new();
    while let (Some(bytes), Some(size_and_kind)) =
        (read_number(&mut table), read_number(&mut table))
    {
        let validator = table.split_to((size_and_kind >> 2).min(table.len()));
        let validator = match (size_and_kind & 3, HeaderValue::from_maybe_shared(validator)) {
            (STRONG, Ok(tag)) => Validator::Strong(tag),
            (WEAK, Ok(tag)) => Validator::Weak(tag),
            _ => Validator::None,
        };
        parts.push((bytes, validator));
    }
    parts
}

fn write_number(mut number: usize, to: &mut BytesMut) {
    while number >= 0x80 {
        to.put_u8(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    to.put_u8(u8::try_from(number).unwrap_or_default());
}

fn read_number(from: &mut Bytes) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = from.has_remaining().then(|| from.get_u8())?;
        number |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
