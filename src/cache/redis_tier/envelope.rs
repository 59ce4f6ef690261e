//! The encoding of an entry in Redis: bytes that state its age, compressed where that pays, sealed
//! where there is a key.
//!
//! Times are written as spans (its age when it was written, its remaining ttl): no clock of another
//! machine is read. Decoding checks the bytes as untrusted input. A format that this release does
//! not know is a miss.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::seal::Seal;
use crate::cache::entry::{CacheEntry, EntryContent};
use crate::coherence::{Fence, TierDataset};
use crate::collect::{Dataset, StoredDataset};
use crate::domain::Domain;

/// Longer content is compressed.
const COMPRESSED_FROM_BYTES: usize = 1024;
/// Fast; the next levels cost twice the time for a tenth of the size.
const LEVEL: i32 = 1;
/// Longer content is not stored in Redis, and nothing is unpacked beyond this length.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same with the overhead of compression and sealing: nothing larger is read from Redis. The
/// scripts enforce it too.
pub(super) const STORED_BYTES_MAX: u64 = BYTES_MAX as u64 + 64;
/// A block of zstd takes at least so many bytes (RFC 8878, 3.1.1.2) …
const ZSTD_BLOCK_BYTES_MIN: usize = 3;
/// … and becomes at most so many.
const ZSTD_BLOCK_UNPACKED_MAX: usize = 128 * 1024;

/// A time to live in Redis is rounded up to whole milliseconds, and the remaining ttl is written
/// rounded down.
const ROUNDED: Duration = Duration::from_millis(2);

/// The first byte: the encoding of the rest.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const SEALED: u8 = 2;
/// The first byte inside: no such dataset, or a dataset.
const NOT_FOUND: u8 = 0;
const DATASET: u8 = 1;

/// Why an answer is not kept in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Why bytes in Redis are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// It is of another format, of another plan, or not to be opened.
    Unreadable,
    /// There is no room for it.
    NoMemory,
}

/// An answer's time, as spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EncodedAge {
    /// How old it was when it was written.
    old: Duration,
    /// How long it had left.
    left: Duration,
}

/// An answer that was read.
pub(super) struct DecodedEntry {
    pub(super) content: EntryContent,
    /// How old it is.
    pub(super) old: Duration,
    /// How long it may still be served.
    pub(super) left: Duration,
}

/// Writes an answer; `left` is how long it may be entry.
pub(super) fn encode(
    entry: &CacheEntry,
    now: Instant,
    left: Duration,
    seal: Option<&Seal>,
    context: &[u8],
) -> Result<Vec<u8>, TooLarge> {
    let mut inside = Vec::new();
    inside.push(if entry.stored().is_some() { DATASET } else { NOT_FOUND });
    inside.extend_from_slice(&millis(entry.age(now)));
    inside.extend_from_slice(&millis(left));
    if let Some(dataset) = entry.stored() {
        inside.append(&mut dataset.encode());
    }
    if inside.len() > BYTES_MAX {
        return Err(TooLarge);
    }
    let packed = pack(&inside);
    match seal {
        None => Ok(packed),
        Some(seal) => {
            let mut sealed = seal.seal(&packed, context).ok_or(TooLarge)?;
            sealed.insert(0, SEALED);
            Ok(sealed)
        }
    }
}

/// Decodes an entry whose remaining ttl in Redis is `left`. `room` is asked for memory before the
/// body is opened, and again before it is unpacked.
pub(super) fn decode(
    stored: &TierDataset,
    left: Duration,
    domain: &Domain,
    seal: Option<&Seal>,
    context: &[u8],
    mut room: impl FnMut(u64) -> bool,
) -> Result<DecodedEntry, DecodeError> {
    // Without its seal it is a copy.
    if seal.is_some() && !room(stored.body.len() as u64) {
        return Err(DecodeError::NoMemory);
    }
    let packed = open(stored, seal, context).ok_or(DecodeError::Unreadable)?;
    let bytes = unpacked_bytes(&packed).ok_or(DecodeError::Unreadable)?;
    // The unpacked bytes, and their copy in memory.
    if !room(2 * bytes as u64) {
        return Err(DecodeError::NoMemory);
    }
    read(&packed, left, domain).ok_or(DecodeError::Unreadable)
}

/// The fence of bytes that no log has.
const NOWHERE: Fence = Fence { epoch: crate::coherence::Epoch(0), seq: 0 };

/// Decodes bytes as a flight does, without sealing, and returns the weight that the entry would
/// have in memory. For fuzzing.
pub fn decoded_weight(
    body: &[u8],
    domain: &Domain,
    room: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let stored = TierDataset { fence: NOWHERE, tags: Vec::new(), body: body.into() };
    decode(&stored, Duration::ZERO, domain, None, &[], room)
        .ok()
        .map(|opened| opened.content.weight())
}

/// The packed bytes, without their seal.
fn open<'s>(stored: &'s TierDataset, seal: Option<&Seal>, context: &[u8]) -> Option<Cow<'s, [u8]>> {
    // Where there is a key, unsealed bytes may come from anybody and are refused.
    match (seal, stored.body.split_first()?) {
        (Some(seal), (&SEALED, sealed)) => seal.open(sealed, context).map(Cow::Owned),
        (None, (&(PLAIN | ZSTD), _)) => Some(Cow::Borrowed(&*stored.body)),
        _ => None,
    }
}

fn read(packed: &[u8], left: Duration, domain: &Domain) -> Option<DecodedEntry> {
    let inside = unpack(packed)?;
    let (kind, age, rest) = head(&inside)?;
    let content = match kind {
        NOT_FOUND if rest.is_empty() => EntryContent::NotFound,
        DATASET => EntryContent::Dataset(StoredDataset::new(&Dataset::decode(&rest, domain)?)),
        _ => return None,
    };
    // Redis keeps nothing beyond its time to live, apart from rounding.
    if left > age.left + ROUNDED {
        return None;
    }
    let left = left.min(age.left);
    let old = age.old + age.left.saturating_sub(left);
    Some(DecodedEntry { content, old, left })
}

/// The associated data of a seal: the place in Redis, the fence and the tags, so that no dataset
/// stands in for another.
pub(super) fn context(name: &str, fence: Fence, tags: &[std::sync::Arc<str>]) -> Vec<u8> {
    let mut context = b"bfb dataset 1".to_vec();
    context.extend_from_slice(&fence.epoch.0.to_le_bytes());
    context.extend_from_slice(&fence.seq.to_le_bytes());
    for text in std::iter::once(name).chain(tags.iter().map(AsRef::as_ref)) {
        context.extend_from_slice(&(text.len() as u64).to_le_bytes());
        context.extend_from_slice(text.as_bytes());
    }
    context
}

fn pack(inside: &[u8]) -> Vec<u8> {
    let shorter = (inside.len() > COMPRESSED_FROM_BYTES)
        .then(|| zstd::bulk::compress(inside, LEVEL).ok())
        .flatten()
        .filter(|compressed| compressed.len() + 5 < inside.len());
    // It is no longer than `BYTES_MAX`, which fits.
    let length = u32::try_from(inside.len()).unwrap_or(u32::MAX).to_le_bytes();
    match shorter {
        Some(compressed) => [[ZSTD].as_slice(), &length, &compressed].concat(),
        None => [[PLAIN].as_slice(), inside].concat(),
    }
}

/// The unpacked length that the frame states; `None` if it is impossible.
fn unpacked_bytes(packed: &[u8]) -> Option<usize> {
    let (kind, rest) = packed.split_first()?;
    if *kind == PLAIN {
        return Some(rest.len()).filter(|bytes| *bytes <= BYTES_MAX);
    }
    let (length, compressed) = rest.split_first_chunk().filter(|_| *kind == ZSTD)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    // Memory is reserved for the length that is stated, so it must be possible.
    let possible = compressed.len().div_ceil(ZSTD_BLOCK_BYTES_MIN) * ZSTD_BLOCK_UNPACKED_MAX;
    Some(length).filter(|length| *length <= BYTES_MAX.min(possible))
}

fn unpack(packed: &[u8]) -> Option<Bytes> {
    let length = unpacked_bytes(packed)?;
    let (kind, rest) = packed.split_first()?;
    if *kind == PLAIN {
        return Some(Bytes::copy_from_slice(rest));
    }
    let compressed = rest.get(size_of::<u32>()..)?;
    let inside = zstd::bulk::decompress(compressed, length).ok()?;
    (inside.len() == length).then(|| inside.into())
}

fn head(inside: &Bytes) -> Option<(u8, EncodedAge, Bytes)> {
    let kind = *inside.first()?;
    let span = |at: usize| -> Option<Duration> {
        let millis = inside.get(at..at + 8)?.first_chunk()?;
        Some(Duration::from_millis(u64::from_le_bytes(*millis)))
    };
    Some((kind, EncodedAge { old: span(1)?, left: span(9)? }, inside.slice(17..)))
}

fn millis(span: Duration) -> [u8; 8] {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{World, parse};

    #[test]
    fn what_is_long_and_repeats_is_packed_and_comes_back() {
        for text in [b"short".to_vec(), b"long ".repeat(10_000), vec![]] {
            let packed = pack(&text);
            assert_eq!(unpack(&packed).as_deref(), Some(text.as_slice()));
            assert!(packed.len() <= text.len() + 1);
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; BYTES_MAX + 1], LEVEL).unwrap_or_default();
        for claimed in [BYTES_MAX + 1, BYTES_MAX, 1] {
            let length = u32::try_from(claimed).unwrap_or_default().to_le_bytes();
            assert_eq!(unpack(&[[ZSTD].as_slice(), &length, &bomb].concat()), None, "{claimed}");
        }
        let claimed = u32::try_from(BYTES_MAX).unwrap_or_default().to_le_bytes();
        assert_eq!(
            unpack(&[[ZSTD].as_slice(), &claimed, &[0; 10]].concat()),
            None,
            "ten bytes are not 16 MiB"
        );
        assert_eq!(unpack(&[ZSTD, 1, 0]), None);
        assert_eq!(unpack(&[7, 1, 0, 0, 0, 0]), None, "a format that this release does not know");
    }

    fn domain() -> Domain {
        let text = "domain: customer\nsources:\n  profile: {url: 'http://a/{key}'}\n\
            versions:\n  v1: {path: '/v1/customers/{key}'}\n";
        let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let world = World {
            variable: &|_| None,
            read: &read,
            program: &|_| Ok(()),
            allow_http: true,
            allow_https: true,
        };
        parse("customer.yaml".as_ref(), text, world).expect("a domain")
    }

    #[test]
    fn there_is_room_before_a_seal_is_opened() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "a".repeat(64)).expect("a key");
        let seal = Seal::load(file.path()).expect("a seal");
        let stored =
            |body: &[u8]| TierDataset { fence: NOWHERE, tags: Vec::new(), body: body.into() };
        let ends = |body: &[u8], most: u64| {
            let mut total = 0;
            let room = |bytes| {
                total += bytes;
                total <= most
            };
            let opened = decode(&stored(body), Duration::ZERO, &domain(), Some(&seal), b"", room);
            (opened.err(), total)
        };
        let sealed = seal.seal(&pack(&[NOT_FOUND; 17]), b"").expect("it is sealed");
        let sealed = [[SEALED].as_slice(), &sealed].concat();
        let bytes = sealed.len() as u64;
        assert_eq!(ends(&sealed, bytes - 1), (Some(DecodeError::NoMemory), bytes));
        assert_eq!(
            ends(&sealed, bytes),
            (Some(DecodeError::NoMemory), bytes + 34),
            "it was opened, and not unpacked"
        );
        assert_eq!(ends(&sealed, bytes + 34), (None, bytes + 34));
    }

    #[test]
    fn a_context_tells_apart_what_runs_together() {
        let fence = |seq| Fence { epoch: crate::coherence::Epoch(1), seq };
        let tags = |tags: &[&str]| {
            tags.iter().map(|&tag| tag.into()).collect::<Vec<std::sync::Arc<str>>>()
        };
        let all = [
            context("a", fence(1), &tags(&["bc"])),
            context("ab", fence(1), &tags(&["c"])),
            context("a", fence(1), &tags(&["b", "c"])),
            context("a", fence(2), &tags(&["bc"])),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
