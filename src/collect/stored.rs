//! A dataset at rest: its bytes in as little memory as their number allows.
//!
//! One run of bytes holds the body and, behind it, a table of the parts: for each the size of its JSON (4 bytes), what kind of
//! validator it has (1), the validator's size (2) and the validator. What a part was read into, a connection's buffer among
//! it, is not kept alive.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderValue;

use super::dataset::{Dataset, DatasetId, within};
use crate::domain::Domain;
use crate::resources::StoredBytes;
use crate::sources::Validator;

/// One dataset at rest.
#[derive(Debug, Clone)]
pub struct StoredDataset {
    /// [`DatasetId`] as bytes, which need no alignment.
    id: [u8; 16],
    data: StoredBytes,
    body_bytes: usize,
    rounds: u32,
}

const NO_VALIDATOR: u8 = 0;
const STRONG: u8 = 1;
const WEAK: u8 = 2;

impl StoredDataset {
    /// Stores a dataset. The body is copied, so that nothing else of its buffer is kept.
    pub fn new(dataset: &Dataset) -> Self {
        let validators = dataset.parts.iter().map(|part| part.validator.as_bytes().len() + 7);
        let mut data = BytesMut::with_capacity(dataset.body.len() + validators.sum::<usize>());
        data.put_slice(&dataset.body);
        for part in dataset.parts.iter() {
            let validator = part.validator.as_bytes();
            // A part is no larger than a body may be, and a validator no longer than `VALIDATOR_BYTES_MAX`.
            data.put_u32_le(u32::try_from(part.json.len()).unwrap_or(u32::MAX));
            data.put_u8(match part.validator {
                Validator::Strong(_) => STRONG,
                Validator::Weak(_) => WEAK,
                Validator::None => NO_VALIDATOR,
            });
            data.put_u16_le(u16::try_from(validator.len()).unwrap_or(u16::MAX));
            data.put_slice(validator);
        }
        Self {
            id: dataset.id.to_bytes(),
            data: StoredBytes::new(data.freeze()),
            body_bytes: dataset.body.len(),
            rounds: dataset.rounds,
        }
    }

    /// What `Bfb-Dataset` says.
    pub fn id(&self) -> DatasetId {
        DatasetId::from_bytes(self.id)
    }

    /// How many rounds it took.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The parts as one JSON object.
    pub fn body(&self) -> Bytes {
        self.data.slice(0, self.body_bytes)
    }

    /// The size of [`Self::body`].
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Whether [`Self::body`] makes a copy.
    pub fn body_copies(&self) -> bool {
        self.data.copies()
    }

    /// The dataset as it was collected; `domain` is of the plan that collected it.
    pub fn load(&self, domain: &Domain) -> Dataset {
        let body = self.body();
        let parts = within(&body, domain, self.parts().into_iter());
        Dataset { id: self.id(), parts, body, rounds: self.rounds }
    }

    /// The size and the validator of each part, in the order of the domain's sources.
    pub fn parts(&self) -> Vec<(usize, Validator)> {
        let mut table = self.data.slice(self.body_bytes, self.data.len());
        let mut parts = Vec::new();
        while table.remaining() >= 7 {
            let bytes = table.get_u32_le() as usize;
            let kind = table.get_u8();
            let length = usize::from(table.get_u16_le()).min(table.remaining());
            let validator = HeaderValue::from_maybe_shared(table.split_to(length));
            parts.push((
                bytes,
                match (kind, validator) {
                    (STRONG, Ok(tag)) => Validator::Strong(tag),
                    (WEAK, Ok(tag)) => Validator::Weak(tag),
                    _ => Validator::None,
                },
            ));
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
    use super::super::frozen::tests::{dataset, domain};
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
