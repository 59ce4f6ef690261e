//! Bytes at rest, in as little memory as their number allows.
//!
//! The allocator (mimalloc) rounds a request up to the next of its size classes, of which there are
//! four between two powers of two: 2 100 bytes in one piece take 2 560. What is kept for long and
//! is not large is therefore held in two pieces, the first of a class's exact size, and put
//! together when it is asked for, which costs less than a microsecond.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// What is longer than this is held in one piece and shared without copying: the classes matter
/// less there, copies more.
const PIECES_UP_TO_BYTES: usize = 32 * 1024;

/// The allocator's words, in bytes.
const WORD_BYTES: usize = 8;
/// Up to here the allocator has a class for each word.
const EXACT_UP_TO_BYTES: usize = 8 * WORD_BYTES;

/// Bytes at rest.
#[derive(Clone)]
pub struct StoredBytes(StoredPieces);

#[derive(Clone)]
enum StoredPieces {
    Two(Box<[u8]>, Box<[u8]>),
    /// Boxed, so that what is in two pieces takes no more than the two.
    Shared(Box<Bytes>),
}

impl StoredBytes {
    /// Keeps `bytes`, whose buffer holds nothing else.
    pub fn new(bytes: Bytes) -> Self {
        if Self::is_shared_size(bytes.len()) {
            return Self(StoredPieces::Shared(Box::new(bytes)));
        }
        let (first, second) = bytes.split_at(first_piece(bytes.len()));
        Self(StoredPieces::Two(first.into(), second.into()))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        match &self.0 {
            StoredPieces::Two(first, second) => first.len() + second.len(),
            StoredPieces::Shared(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `start` up to `end`, which are no more than there are.
    pub fn slice(&self, start: usize, end: usize) -> Bytes {
        match &self.0 {
            StoredPieces::Shared(bytes) => bytes.slice(start..end),
            StoredPieces::Two(first, second) => {
                let mut joined = BytesMut::with_capacity(end - start);
                joined.extend_from_slice(&first[start.min(first.len())..end.min(first.len())]);
                joined.extend_from_slice(
                    &second[start.saturating_sub(first.len())..end.saturating_sub(first.len())],
                );
                joined.freeze()
            }
        }
    }

    /// Whether so many are held in one piece, shared with whoever brought them.
    pub fn is_shared_size(bytes: usize) -> bool {
        bytes > PIECES_UP_TO_BYTES
    }

    /// Whether [`Self::slice`] makes a copy.
    pub fn is_copied_by_slice(&self) -> bool {
        matches!(self.0, StoredPieces::Two(..))
    }

    /// What they take of memory, in bytes.
    pub fn weight(&self) -> usize {
        match &self.0 {
            StoredPieces::Two(first, second) => {
                allocated_size(first.len()) + allocated_size(second.len())
            }
            StoredPieces::Shared(bytes) => {
                allocated_size(bytes.len()) + allocated_size(size_of::<Bytes>())
            }
        }
    }
}

impl fmt::Debug for StoredBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// What an allocation of `bytes` takes of memory: the size of its class.
pub fn allocated_size(bytes: usize) -> usize {
    let step = class_step(bytes);
    bytes.div_ceil(step) * step
}

/// How far the size classes about `bytes` are apart.
fn class_step(bytes: usize) -> usize {
    if bytes <= EXACT_UP_TO_BYTES {
        return WORD_BYTES;
    }
    // Four classes between two powers of two.
    1 << ((bytes - 1).ilog2() - 2)
}

/// How much of so many bytes goes into a first piece: all, where a class fits them well enough.
fn first_piece(bytes: usize) -> usize {
    let wasted = allocated_size(bytes) - bytes;
    if wasted <= bytes / 32 {
        return bytes;
    }
    let step = class_step(bytes);
    bytes / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_those_of_the_allocator() {
        for (bytes, class) in [
            (0, 0),
            (1, 8),
            (64, 64),
            (65, 80),
            (80, 80),
            (128, 128),
            (129, 160),
            (2_048, 2_048),
            (2_049, 2_560),
        ] {
            assert_eq!(allocated_size(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn what_is_stored_comes_back_and_takes_little_more_than_itself() {
        for len in (0..3_000).chain([8_191, 8_192, 8_193, 32_768, 32_769, 100_000]) {
            let bytes: Bytes =
                (0..len).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
            let stored = StoredBytes::new(bytes.clone());
            assert_eq!((stored.slice(0, len), stored.len()), (bytes.clone(), len));
            assert_eq!(
                stored.slice(len / 3, len - len / 4),
                bytes.slice(len / 3..len - len / 4),
                "{len}"
            );
            if (512..=PIECES_UP_TO_BYTES).contains(&len) {
                assert!(stored.weight() * 16 <= len * 17, "{len} take {}", stored.weight());
            }
        }
    }
}
