//! The reference of the store: what each call does, as a pure function on the data of one domain.
//! The statements of the drivers are tested against it.
//!
//! One call is one atomic step, as it is in a database's function. What a database does in several
//! steps can be had apart: the parts of a stamping are calls of their own, a reading has stages
//! ([`StoreScan`]), and forgetting stamps has two halves. What the order of these prevents is part
//! of the check.

use std::collections::BTreeMap;

use super::guards::Guard;
use super::protocol::{DatasetPlace, Epoch, Fence, InvalidationScope, Seq};
use super::store_calls::{
    MarkMove, STORE_PROTOCOL, StampReceipt, Stamping, StampingPart, StoreCall, StoreDataset,
    StoreEra, StoreFence, StoreLife, StoreReading, StoreReply, StoreRequest, StoreSeq, StoreTime,
    is_stampable,
};

/// The data of one domain in a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReferenceStore {
    protocol: u32,
    /// The life that the log record names.
    life: StoreLife,
    /// No row of another era is believed.
    era: StoreEra,
    seq: StoreSeq,
    /// No dataset below it is believed.
    floor: StoreSeq,
    /// For each epoch of Redis, up to which `seq` all of it is stamped, or below the floor.
    marks: BTreeMap<Epoch, Seq>,
    stamps: BTreeMap<InvalidationScope, StoreSeq>,
    datasets: BTreeMap<DatasetPlace, StoreDataset>,
}

/// A reading in a database that does not pin a snapshot: what it has seen so far.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreScan {
    place: Option<DatasetPlace>,
    told: Option<Fence>,
    left: Vec<ScanStage>,
    fence: Option<StoreFence>,
    mark: Option<Fence>,
    dataset: Option<StoreDataset>,
    has_gone_back: bool,
}

/// A stage of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ScanStage {
    Mark,
    Dataset,
    Stamps,
    Floor,
}

impl StoreScan {
    /// The reading that a call asks for; `None`: the call is no reading.
    pub fn new(call: &StoreCall) -> Option<Self> {
        use ScanStage::{Dataset, Floor, Mark, Stamps};
        let StoreCall::Read { place, told } = call.clone() else { return None };
        let mark_first = [Mark, Dataset, Stamps, Floor];
        let order = Guard::D6MarkFirst.prescribes(mark_first, [Dataset, Stamps, Floor, Mark]);
        let order = Guard::D6FloorLast.prescribes(order, [Mark, Dataset, Floor, Stamps]);
        Some(Self {
            place,
            told,
            left: order.to_vec(),
            fence: None,
            mark: None,
            dataset: None,
            has_gone_back: false,
        })
    }
}

impl ReferenceStore {
    /// A store without data.
    pub const fn new(life: StoreLife, era: StoreEra) -> Self {
        Self {
            protocol: STORE_PROTOCOL,
            life,
            era,
            seq: 0,
            floor: 0,
            marks: BTreeMap::new(),
            stamps: BTreeMap::new(),
            datasets: BTreeMap::new(),
        }
    }

    /// Carries out one call in this life of the database, at this time of its clock.
    pub fn run(&mut self, life: StoreLife, time: StoreTime, request: &StoreRequest) -> StoreReply {
        if self.protocol > request.protocol {
            return StoreReply::NewerProtocol(self.protocol);
        }
        let (call, fresh_era) = (&request.call, request.fresh_era);
        match call {
            StoreCall::Read { .. } => self.read(life, time, call),
            StoreCall::Stamp(stamping) if !are_stampable(stamping) => StoreReply::Refused,
            StoreCall::StampPart(stamping, _) if !are_stampable(stamping) => StoreReply::Refused,
            StoreCall::Stamp(stamping) => {
                let number = self.take_number(life, fresh_era, stamping);
                self.put_stamps(number, stamping);
                self.move_mark(stamping);
                self.receipt(number, stamping)
            }
            StoreCall::StampPart(stamping, StampingPart::Number) => {
                let number = self.take_number(life, fresh_era, stamping);
                self.receipt(number, stamping)
            }
            _ if !self.is_of_life(life) => StoreReply::OtherLife,
            StoreCall::StampPart(stamping, StampingPart::Stamps(number)) => {
                self.put_stamps(*number, stamping);
                self.receipt(*number, stamping)
            }
            StoreCall::StampPart(stamping, StampingPart::Mark(number)) => {
                self.move_mark(stamping);
                self.receipt(*number, stamping)
            }
            StoreCall::Write { place, dataset } => {
                StoreReply::Done(self.write(time, place, dataset))
            }
        }
    }

    fn read(&self, life: StoreLife, time: StoreTime, call: &StoreCall) -> StoreReply {
        let Some(mut scan) = StoreScan::new(call) else { return StoreReply::Refused };
        loop {
            if let Some(reply) = self.scan(life, time, &mut scan) {
                return reply;
            }
        }
    }

    /// Does the next stage of a reading, the last of which has the reply.
    pub fn scan(
        &self,
        life: StoreLife,
        time: StoreTime,
        scan: &mut StoreScan,
    ) -> Option<StoreReply> {
        scan.has_gone_back |= !self.is_of_life(life);
        match (!scan.left.is_empty()).then(|| scan.left.remove(0)) {
            Some(ScanStage::Mark) => {
                scan.fence = Some(StoreFence { era: self.era, seq: self.seq, time });
                scan.mark = scan.told.and_then(|told| self.mark_of(told.epoch));
                scan.has_gone_back |= self.is_behind(scan.told);
            }
            Some(ScanStage::Dataset) => {
                let place = scan.place.as_ref();
                scan.dataset = place.and_then(|place| self.datasets.get(place)).cloned();
            }
            Some(ScanStage::Stamps) => {
                let key = scan.place.as_ref().map(|place| place.key.clone());
                let key = key.map(InvalidationScope::Key);
                scan.dataset = scan.dataset.take().filter(|dataset| {
                    let tags = dataset.tags.iter().cloned().map(InvalidationScope::Tag);
                    let is_newer = |scope| self.stamps.get(&scope) > Some(&dataset.fence.seq);
                    Guard::D6Stamps.requires(!key.clone().into_iter().chain(tags).any(is_newer))
                });
            }
            Some(ScanStage::Floor) => {
                scan.dataset = scan.dataset.take().filter(|dataset| {
                    let StoreFence { era, seq, .. } = dataset.fence;
                    let is_of_era = Guard::D10Era.requires(era == self.era);
                    is_of_era && seq <= self.seq && Guard::D6Floor.requires(self.floor <= seq)
                });
            }
            None => {}
        }
        let fence = scan.fence.filter(|_| scan.left.is_empty())?;
        if scan.has_gone_back {
            return Some(StoreReply::OtherLife);
        }
        let (mark, dataset) = (scan.mark, scan.dataset.take());
        Some(StoreReply::Reading(StoreReading { fence, mark, dataset }))
    }

    /// Forgets the stamps up to a number.
    pub fn forget_stamps(&mut self, up_to: StoreSeq) {
        self.raise_floor(up_to);
        self.drop_stamps(up_to);
    }

    /// The first half of forgetting stamps.
    pub fn raise_floor(&mut self, floor: StoreSeq) {
        self.floor = self.floor.max(floor);
    }

    /// The second half of forgetting stamps: only those below the floor.
    pub fn drop_stamps(&mut self, up_to: StoreSeq) {
        let floor = Guard::D2FloorFirst.prescribes(self.floor, StoreSeq::MAX);
        self.stamps.retain(|_, stamp| *stamp > up_to.min(floor));
    }

    /// The number that was taken last.
    pub const fn seq(&self) -> StoreSeq {
        self.seq
    }

    /// Where the mark of an epoch stands.
    pub fn mark_of(&self, epoch: Epoch) -> Option<Fence> {
        self.marks.get(&epoch).map(|&seq| Fence { epoch, seq })
    }

    /// The dataset of a place, believed or not.
    pub fn dataset(&self, place: &DatasetPlace) -> Option<&StoreDataset> {
        self.datasets.get(place)
    }

    /// Puts a row there as somebody might who does not keep to the rules.
    pub fn put_row(&mut self, place: DatasetPlace, dataset: StoreDataset) {
        self.datasets.insert(place, dataset);
    }

    fn is_of_life(&self, life: StoreLife) -> bool {
        Guard::D10Life.requires(self.life == life)
    }

    /// Whether the mark is lower than Redis was told: then the store has gone back, though its life
    /// does not show it.
    fn is_behind(&self, told: Option<Fence>) -> bool {
        told.is_some_and(|told| {
            let mark = self.marks.get(&told.epoch).copied().unwrap_or(0);
            !Guard::D10Told.requires(told.seq <= mark)
        })
    }

    /// Takes the next number. Where the store has gone back an era begins first, in which nothing
    /// of before is believed: what is believed then was read after every entry up to the mark that
    /// Redis was told.
    fn take_number(
        &mut self,
        life: StoreLife,
        fresh_era: StoreEra,
        stamping: &Stamping,
    ) -> StoreSeq {
        if !self.is_of_life(life) || self.is_behind(stamping.told) {
            (self.life, self.era) = (life, fresh_era);
            if let Some(told) = stamping.told.filter(|told| told.seq > 0) {
                let mark = self.marks.entry(told.epoch).or_default();
                *mark = told.seq.max(*mark);
            }
        }
        self.seq = Guard::D2OwnNumber.prescribes(self.seq + 1, self.seq.max(1));
        self.seq
    }

    fn put_stamps(&mut self, number: StoreSeq, stamping: &Stamping) {
        for scope in stamping.scopes.iter() {
            if *scope == InvalidationScope::All {
                self.floor = self.floor.max(number);
            } else {
                let stamp = self.stamps.entry(scope.clone()).or_default();
                *stamp = number.max(*stamp);
            }
        }
    }

    fn move_mark(&mut self, stamping: &Stamping) {
        let Some(MarkMove { epoch, from, to }) = stamping.mark_move else { return };
        let mark = self.marks.get(&epoch).copied();
        let stands = mark.unwrap_or(Guard::D3OpensAtZero.prescribes(0, from));
        if Guard::D3Compare.requires(stands == from) && to >= stands {
            self.marks.insert(epoch, to);
        }
    }

    fn receipt(&self, number: StoreSeq, stamping: &Stamping) -> StoreReply {
        let mark = stamping.mark_move.and_then(|moved| self.mark_of(moved.epoch));
        StoreReply::Stamped(StampReceipt { number, mark })
    }

    fn write(&mut self, time: StoreTime, place: &DatasetPlace, dataset: &StoreDataset) -> bool {
        let replaces = self.datasets.get(place).is_none_or(|row| {
            let is_of_era = Guard::D10Era.requires(row.fence.era == self.era);
            let is_row = is_of_era && row.fence.seq <= self.seq && row.fence.time <= time;
            let began_earlier = row.fence.seq < dataset.fence.seq
                || row.fence.seq == dataset.fence.seq
                    && Guard::D5TieBreak.requires(row.fence.time <= dataset.fence.time);
            Guard::D5Later.requires(began_earlier) || Guard::D5NoRow.prescribes(!is_row, false)
        });
        if replaces {
            let seq = Guard::D4FenceBefore.prescribes(dataset.fence.seq, self.seq);
            let fence = StoreFence { seq, ..dataset.fence };
            self.datasets.insert(place.clone(), StoreDataset { fence, ..dataset.clone() });
        }
        replaces
    }
}

fn are_stampable(stamping: &Stamping) -> bool {
    stamping.scopes.iter().all(is_stampable)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIFE: StoreLife = StoreLife(1);
    const EPOCH: Epoch = Epoch(1);

    fn place() -> DatasetPlace {
        DatasetPlace { key: "42".into(), plan: "p".into() }
    }

    fn run(store: &mut ReferenceStore, life: StoreLife, call: StoreCall) -> StoreReply {
        let request =
            StoreRequest { protocol: STORE_PROTOCOL, fresh_era: StoreEra(100 + life.0), call };
        store.run(life, StoreTime(10), &request)
    }

    fn read(store: &mut ReferenceStore, life: StoreLife, told: Option<Seq>) -> StoreReply {
        let told = told.map(|seq| Fence { epoch: EPOCH, seq });
        run(store, life, StoreCall::Read { place: Some(place()), told })
    }

    fn stamp(scopes: &[InvalidationScope], from: Seq, to: Seq, told: Seq) -> StoreCall {
        StoreCall::Stamp(Stamping {
            scopes: Arc::from(scopes),
            mark_move: Some(MarkMove { epoch: EPOCH, from, to }),
            told: Some(Fence { epoch: EPOCH, seq: told }),
        })
    }

    fn row(era: u128, seq: StoreSeq, body: u8) -> StoreDataset {
        let fence = StoreFence { era: StoreEra(era), seq, time: StoreTime(u64::from(body)) };
        StoreDataset { fence, tags: vec![], body: Some(Arc::new([body])) }
    }

    fn body(reply: &StoreReply) -> Option<u8> {
        let StoreReply::Reading(reading) = reply else { return None };
        reading.dataset.as_ref()?.body.as_ref().map(|body| body[0])
    }

    fn write(store: &mut ReferenceStore, dataset: StoreDataset) -> StoreReply {
        run(store, LIFE, StoreCall::Write { place: place(), dataset })
    }

    #[test]
    fn a_stamp_outdates_what_began_before_it() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        write(&mut store, row(0, 0, 1));
        assert_eq!(body(&read(&mut store, LIFE, None)), Some(1));
        run(&mut store, LIFE, stamp(&[InvalidationScope::Key("42".into())], 0, 1, 0));
        assert_eq!(body(&read(&mut store, LIFE, None)), None);
        write(&mut store, row(0, 1, 2));
        assert_eq!(body(&read(&mut store, LIFE, None)), Some(2));
        run(&mut store, LIFE, stamp(&[InvalidationScope::All], 1, 2, 0));
        assert_eq!(body(&read(&mut store, LIFE, None)), None, "below the floor");
    }

    #[test]
    fn a_mark_moves_only_from_where_it_stands_and_opens_at_0() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        let mut moved = |from, to| {
            run(&mut store, LIFE, stamp(&[], from, to, 0));
            store.mark_of(EPOCH).map(|mark| mark.seq)
        };
        assert_eq!(
            [moved(1, 2), moved(0, 2), moved(0, 3), moved(2, 5)],
            [None, Some(2), Some(2), Some(5)]
        );
    }

    #[test]
    fn of_two_rows_the_one_that_began_later_stays() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        write(&mut store, row(0, 0, 5));
        assert_eq!(write(&mut store, row(0, 0, 4)), StoreReply::Done(false));
        store.put_row(place(), row(0, 99, 3));
        assert_eq!(write(&mut store, row(0, 0, 4)), StoreReply::Done(true), "that was no row");
    }

    #[test]
    fn in_another_life_nothing_is_believed_until_a_stamping_begins_an_era() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        write(&mut store, row(0, 0, 1));
        let other = StoreLife(2);
        assert_eq!(read(&mut store, other, None), StoreReply::OtherLife);
        run(&mut store, other, stamp(&[], 0, 0, 0));
        let StoreReply::Reading(reading) = read(&mut store, other, None) else { panic!() };
        assert_eq!((reading.fence.era, reading.dataset), (StoreEra(102), None));
    }

    #[test]
    fn a_mark_below_what_redis_was_told_is_that_of_a_store_that_went_back() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        run(&mut store, LIFE, stamp(&[], 0, 3, 0));
        write(&mut store, row(0, 1, 1));
        assert_eq!(body(&read(&mut store, LIFE, Some(3))), Some(1));
        assert_eq!(read(&mut store, LIFE, Some(4)), StoreReply::OtherLife);
        run(&mut store, LIFE, stamp(&[], 3, 3, 4));
        assert_eq!(store.mark_of(EPOCH), Some(Fence { epoch: EPOCH, seq: 4 }));
        assert_eq!(body(&read(&mut store, LIFE, Some(4))), None, "another era");
    }

    #[test]
    fn stamps_are_forgotten_only_below_the_floor() {
        let mut store = ReferenceStore::new(LIFE, StoreEra(0));
        write(&mut store, row(0, 0, 1));
        run(&mut store, LIFE, stamp(&[InvalidationScope::Key("42".into())], 0, 1, 0));
        store.drop_stamps(1);
        assert_eq!(body(&read(&mut store, LIFE, None)), None);
        store.forget_stamps(1);
        assert!(store.stamps.is_empty());
        assert_eq!(body(&read(&mut store, LIFE, None)), None);
    }
}
