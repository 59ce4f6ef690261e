//! A stored dataset: a dataset in as little memory as its bytes allow.
//!
//! One run of bytes holds the body and, behind it, the table of the parts that `part_table` writes
//! and reads. The buffers that the parts were read into, a connection's among them, are not kept
//! alive.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::dataset::{Dataset, DatasetId, slice_parts};
use super::part_table::read_table;
use crate::domain::Domain;
use crate::resources::StoredBytes;
use crate::sources::Validator;

/// One stored dataset.
#[derive(Debug, Clone)]
pub struct StoredDataset {
    /// [`DatasetId`] as bytes, which need no alignment.
    id: [u8; 16],
    data: StoredBytes,
    /// The bytes of `data` that are the table: at most about a kibibyte a source.
    table_bytes: u32,
    /// Not zero, so that an enum around this struct takes no more memory than it does.
    rounds: NonZeroU32,
}

impl StoredDataset {
    /// Stores a dataset. The rest of its buffer is not kept.
    pub fn new(dataset: &Dataset) -> Self {
        let table_bytes = dataset.buffer.len() - dataset.body.len();
        Self {
            id: dataset.id.to_bytes(),
            data: StoredBytes::new(dataset.buffer.clone()),
            table_bytes: u32::try_from(table_bytes).unwrap_or(u32::MAX),
            rounds: NonZeroU32::new(dataset.rounds).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// The value of `Bfb-Dataset`.
    pub fn id(&self) -> DatasetId {
        DatasetId::from_bytes(self.id)
    }

    /// How many rounds its collection took.
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
        self.data.is_copied_by_slice()
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
        read_table(self.data.slice(self.body_bytes(), self.data.len()))
    }

    /// The bytes of memory that it takes beside the struct itself.
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
