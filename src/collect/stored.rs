//! A dataset at rest: its bytes in as little memory as their number allows.
//!
//! One run of bytes holds the body and, behind it, a table of the parts: for each the size of its
//! JSON, then the size of its validator and its kind in one number, then the validator. Numbers are
//! LEB128. What a part was read into, a connection's buffer among it, is not kept alive.

use std::num::NonZeroU32;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderValue;

use super::dataset::{Dataset, DatasetId, slice_parts};
use crate::domain::Domain;
use crate::resources::StoredBytes;
use crate::sources::{Part, Validator};

/// One dataset at rest.
#[derive(Debug, Clone)]
pub struct StoredDataset {
    /// [`DatasetId`] as bytes, which need no alignment.
    id: [u8; 16],
    data: StoredBytes,
    /// How much of `data` is the table: at most about a kibibyte a source.
    table_bytes: u32,
    /// Not zero, so that an answer that is no dataset takes no room to say so.
    rounds: NonZeroU32,
}

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

impl StoredDataset {
    /// Stores a dataset. Nothing else of its buffer is kept.
    pub fn new(dataset: &Dataset) -> Self {
        let table_bytes = dataset.buffer.len() - dataset.body.len();
        Self {
            id: dataset.id.to_bytes(),
            data: StoredBytes::new(dataset.buffer.clone()),
            table_bytes: u32::try_from(table_bytes).unwrap_or(u32::MAX),
            rounds: NonZeroU32::new(dataset.rounds).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// What `Bfb-Dataset` says.
    pub fn id(&self) -> DatasetId {
        DatasetId::from_bytes(self.id)
    }

    /// How many rounds it took.
    pub fn rounds(&self) -> u32 {
        self.rounds.get()
    }

    /// The parts as one JSON object.
    pub fn body(&self) -> Bytes {
        self.data.slice(0, self.body_bytes())
    }

    /// The size of [`Self::body`].
    pub fn body_bytes(&self) -> usize {
        self.data.len() - self.table_bytes as usize
    }

    /// Whether [`Self::body`] makes a copy.
    pub fn body_copies(&self) -> bool {
        self.data.copies()
    }

    /// The dataset as it was collected; `domain` is of the plan that collected it.
    pub fn load(&self, domain: &Domain) -> Dataset {
        let buffer = self.data.slice(0, self.data.len());
        let body = buffer.slice(..self.body_bytes());
        let parts = slice_parts(&body, domain, self.parts().into_iter());
        Dataset { id: self.id(), parts, body, buffer, rounds: self.rounds.get() }
    }

    /// The size and the validator of each part, in the order of the domain's sources.
    pub fn parts(&self) -> Vec<(usize, Validator)> {
        let mut table = self.data.slice(self.body_bytes(), self.data.len());
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

    /// What it takes of memory beside itself, in bytes.
    pub fn weight(&self) -> usize {
        self.data.weight()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::super::encoding::tests::{dataset, domain};
    use super::*;

    #[test]
    fn a_dataset_is_loaded_as_it_was_stored() {
        let domain = domain(&["profile", "orders"]);
        let before = dataset(&domain);
        let stored = StoredDataset::new(&before);
        let after = stored.load(&domain);
        assert_eq!((after.id, after.rounds, &after.body), (before.id, before.rounds, &before.body));
        assert_eq!(after.parts, before.parts);
        assert_eq!((stored.body_bytes(), stored.rounds()), (before.body.len(), before.rounds));
    }
}
