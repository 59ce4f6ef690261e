//! The calls of the store and their replies, as plain data: what crosses the wire between a process
//! and the database that is its store.
//!
//! [`super::ReferenceStore`] is the reference for what each call does; the drivers over
//! databases are tested against it. Everything is of one namespace and domain (D1).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::guards::Guard;
use super::protocol::{
    DatasetPlace, Epoch, Fence, InvalidationScope, SCOPES_MAX, Seq, TAG_BYTES_MAX,
};

/// The number of the store's protocol that this release speaks.
pub const STORE_PROTOCOL: u32 = 1;

/// The most bytes of a key that a dataset of the store can have.
pub const STORE_KEY_BYTES_MAX: usize = 512;

/// A place in the store's own sequence, which goes on for as long as the database lives.
pub type StoreSeq = u64;

/// The id of a store, which was made with its tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub Arc<str>);

/// One life of one database: it ends where the database may have gone back. It is compared only for
/// equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreLife(pub u128);

/// The name of what a store has been since it last went back: 128 random bits, brought by the
/// caller whose stamping finds that it has, never used again. A row of another era is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreEra(pub u128);

/// A moment by the database's clock, in microseconds. No promise depends on it but that a row does
/// not replace another that was read later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreTime(pub u64);

/// The fence of a flight in the store: what the store said of itself before the flight read its
/// sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreFence {
    /// The store's era.
    pub era: StoreEra,
    /// The store's `seq`.
    pub seq: StoreSeq,
    /// The database's time.
    pub time: StoreTime,
}

/// How far the marks of the stores of a registry are, as Redis was told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreMark {
    /// The store.
    pub id: StoreId,
    /// The highest mark of the log's epoch that a heartbeat named.
    pub mark: Seq,
}

/// A move of the mark of one epoch: the store holds the stamps of all entries up to `to`, if it
/// held those up to `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkMove {
    /// The epoch of Redis.
    pub epoch: Epoch,
    /// Where the mark has to stand.
    pub from: Seq,
    /// Where it will stand.
    pub to: Seq,
}

/// One stamping: what it stamps is known before its number is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamping {
    /// The scopes to stamp, made by [`stampable_scopes`]; none: where the store has gone back, its
    /// next era begins.
    pub scopes: Arc<[InvalidationScope]>,
    /// The move of a mark that the stamps allow.
    pub mark_move: Option<MarkMove>,
    /// The highest mark of the caller's epoch that Redis was told: where the store's is lower, it
    /// has gone back.
    pub told: Option<Fence>,
}

/// The parts of a stamping, for a database that makes a round trip of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StampingPart {
    /// Takes the next number.
    Number,
    /// Stamps with that number.
    Stamps(StoreSeq),
    /// Moves the mark; the stamping had that number.
    Mark(StoreSeq),
}

/// One call of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreRequest {
    /// The store's protocol that the caller speaks.
    pub protocol: u32,
    /// A random name for the era that this call may have to begin.
    pub fresh_era: StoreEra,
    /// Which call.
    pub call: StoreCall,
}

/// The calls, each with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreCall {
    /// What the store says of itself, and the dataset of a place if it is believed.
    Read {
        /// Which place.
        place: Option<DatasetPlace>,
        /// The epoch that the caller knows, with the highest mark of it that Redis was told.
        told: Option<Fence>,
    },
    /// Stamps, in one step.
    Stamp(Stamping),
    /// Does one part of a stamping.
    StampPart(Stamping, StampingPart),
    /// Keeps a dataset, unless there is one that was collected later.
    Write {
        /// The place.
        place: DatasetPlace,
        /// The dataset.
        dataset: StoreDataset,
    },
}

/// A dataset as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDataset {
    /// The fence of the flight that read it.
    pub fence: StoreFence,
    /// The tags by which an invalidation can name it.
    pub tags: Vec<Arc<str>>,
    /// Its bytes; `None`: there is no such thing (a 404).
    pub body: Option<Arc<[u8]>>,
}

/// The reply of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreReply {
    /// The store has a newer protocol: nothing was done.
    NewerProtocol(u32),
    /// The store has gone back: nothing was done. A stamping begins its next era.
    OtherLife,
    /// The reply to a reading.
    Reading(StoreReading),
    /// The reply to a stamping, or to a part of one.
    Stamped(StampReceipt),
    /// Whether the call was carried out.
    Done(bool),
    /// The database does not take a name of the call.
    Refused,
}

/// What one reading saw, at one instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreReading {
    /// The fence for a flight that reads its sources after this.
    pub fence: StoreFence,
    /// The epoch that the caller named, with the mark of it; `None` without either.
    pub mark: Option<Fence>,
    /// The dataset, if the store believes it.
    pub dataset: Option<StoreDataset>,
}

/// A stamping that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StampReceipt {
    /// Its number.
    pub number: StoreSeq,
    /// Where the mark of the epoch of its move stands now, moved or not.
    pub mark: Option<Fence>,
}

impl Stamping {
    /// The part with which it begins.
    pub const fn first_part(&self) -> StampingPart {
        StampingPart::Number
    }

    /// The part after `done`, which had this receipt; `None`: it is carried out.
    pub fn part_after(&self, done: StampingPart, receipt: StampReceipt) -> Option<StampingPart> {
        let stamps = Some(StampingPart::Stamps(receipt.number));
        let mark = self.mark_move.map(|_| StampingPart::Mark(receipt.number));
        let [second, third] = Guard::D2StampsThenMark.prescribes([stamps, mark], [mark, stamps]);
        match done {
            StampingPart::Number => second.or(third),
            done if Some(done) == second => third,
            _ => None,
        }
    }
}

/// The scopes to stamp for what some entries name. A name that no dataset can have is passed over,
/// since the database would refuse it, and the mark would stand still for ever; more names than one
/// stamping may have mean all.
pub fn stampable_scopes<'a>(
    scopes: impl IntoIterator<Item = &'a InvalidationScope>,
) -> Arc<[InvalidationScope]> {
    let passes = |scope: &&InvalidationScope| Guard::D3PassesOver.requires(is_stampable(scope));
    let named: BTreeSet<_> = scopes.into_iter().filter(passes).collect();
    if named.contains(&InvalidationScope::All) || named.len() > SCOPES_MAX {
        return Arc::new([InvalidationScope::All]);
    }
    named.into_iter().cloned().collect()
}

/// Whether a dataset can have the key or the tag that a scope names.
pub(super) fn is_stampable(scope: &InvalidationScope) -> bool {
    let (name, bytes_max) = match scope {
        InvalidationScope::All => return true,
        InvalidationScope::Key(key) => (key, STORE_KEY_BYTES_MAX),
        InvalidationScope::Tag(tag) => (tag, TAG_BYTES_MAX),
    };
    name.len() <= bytes_max && !name.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> InvalidationScope {
        InvalidationScope::Key(name.into())
    }

    #[test]
    fn a_name_that_no_dataset_can_have_is_passed_over() {
        let long = "k".repeat(STORE_KEY_BYTES_MAX + 1);
        let scopes = [key("42"), key("4\u{0}2"), key(&long), key("42")];
        assert_eq!(*stampable_scopes(&scopes), [key("42")]);
        assert_eq!(*stampable_scopes(&[]), []);
    }

    #[test]
    fn more_names_than_the_bound_mean_all() {
        let scopes: Vec<_> = (0..=SCOPES_MAX).map(|number| key(&number.to_string())).collect();
        assert_eq!(*stampable_scopes(&scopes), [InvalidationScope::All]);
        assert_eq!(stampable_scopes(&scopes[1..]).len(), SCOPES_MAX);
    }

    #[test]
    fn a_stamping_takes_its_number_then_stamps_and_then_moves_the_mark() {
        let receipt = StampReceipt { number: 7, mark: None };
        let mark_move = Some(MarkMove { epoch: Epoch(1), from: 0, to: 1 });
        let parts = |mark_move| {
            let stamping = Stamping { scopes: [].into(), mark_move, told: None };
            let next = |part: &StampingPart| stamping.part_after(*part, receipt);
            std::iter::successors(Some(stamping.first_part()), next).collect::<Vec<_>>()
        };
        let (number, stamps) = (StampingPart::Number, StampingPart::Stamps(7));
        assert_eq!(parts(None), [number, stamps]);
        assert_eq!(parts(mark_move), [number, stamps, StampingPart::Mark(7)]);
    }
}
