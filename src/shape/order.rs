//! jq's order of values, each comparison charged by the bytes that it looks at.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{BudgetMeter, Flow, Stop};
use super::memory_count::HeldMemory;
use super::object::{MEMBER_BYTES, Member, Obj};
use super::value::Val;

/// Texts are compared in pieces of this, so that two that differ at their beginnings cost little.
const PIECE_BYTES: usize = 4096;
/// The cost of a comparison beside the bytes that it reads.
pub(super) const COMPARISON_COST: u64 = 16;

impl BudgetMeter<'_> {
    /// How `x` stands to `y`.
    pub(super) fn order(&mut self, x: &Val, y: &Val) -> Flow<Ordering> {
        self.work(COMPARISON_COST)?;
        match (x, y) {
            (Val::Num(x), Val::Num(y)) => x.order(y, self),
            (Val::Str(x), Val::Str(y)) => self.order_texts(x, y),
            (Val::Arr(x), Val::Arr(y)) if Rc::ptr_eq(x, y) => Ok(Ordering::Equal),
            (Val::Arr(x), Val::Arr(y)) => self.order_items(x.items(), y.items()),
            (Val::Obj(x), Val::Obj(y)) if Rc::ptr_eq(x, y) => Ok(Ordering::Equal),
            (Val::Obj(x), Val::Obj(y)) => self.order_objects(x, y),
            (x, y) => Ok(rank(x).cmp(&rank(y))),
        }
    }

    /// Whether jq's `==` holds.
    pub(super) fn is_equal(&mut self, x: &Val, y: &Val) -> Flow<bool> {
        Ok(self.order(x, y)? == Ordering::Equal)
    }

    /// The order of two lists: by the first pair that differs, then by length.
    pub(super) fn order_items(&mut self, x: &[Val], y: &[Val]) -> Flow<Ordering> {
        for (x, y) in x.iter().zip(y) {
            match self.order(x, y)? {
                Ordering::Equal => (),
                order => return Ok(order),
            }
        }
        Ok(x.len().cmp(&y.len()))
    }

    pub(super) fn order_texts(&mut self, x: &str, y: &str) -> Flow<Ordering> {
        let common = x.len().min(y.len());
        if common <= PIECE_BYTES {
            self.touch(common)?;
            return Ok(x.cmp(y));
        }
        for (x, y) in x.as_bytes().chunks(PIECE_BYTES).zip(y.as_bytes().chunks(PIECE_BYTES)) {
            self.touch(PIECE_BYTES)?;
            match x[..x.len().min(y.len())].cmp(&y[..y.len().min(x.len())]) {
                Ordering::Equal => (),
                order => return Ok(order),
            }
        }
        Ok(x.len().cmp(&y.len()))
    }

    /// By their sorted keys, then by the values of those.
    fn order_objects(&mut self, x: &Obj, y: &Obj) -> Flow<Ordering> {
        let x = self.sorted_members(x)?;
        let y = self.sorted_members(y)?;
        for ((x, _), (y, _)) in x.iter().zip(&y) {
            match self.order_texts(x, y)? {
                Ordering::Equal => (),
                order => return Ok(order),
            }
        }
        if x.len() != y.len() {
            return Ok(x.len().cmp(&y.len()));
        }
        for ((_, x), (_, y)) in x.iter().zip(&y) {
            match self.order(x, y)? {
                Ordering::Equal => (),
                order => return Ok(order),
            }
        }
        Ok(Ordering::Equal)
    }

    /// Members by key.
    pub(super) fn sorted_members<'o>(&mut self, obj: &'o Obj) -> Flow<Vec<&'o Member>> {
        self.alloc(obj.len() * MEMBER_BYTES)?;
        let members: Vec<&Member> = obj.iter().collect();
        self.sort(members, &mut |meter, x, y| {
            meter.work(COMPARISON_COST)?;
            meter.order_texts(&x.0, &y.0)
        })
    }

    /// Sorts by merging, so that a comparison may end the run; equal items keep their order.
    pub(super) fn sort<T>(
        &mut self,
        items: Vec<T>,
        order: &mut dyn FnMut(&mut Self, &T, &T) -> Flow<Ordering>,
    ) -> Flow<Vec<T>> {
        let len = u32::try_from(items.len())
            .map_err(|_| Stop::Spent("takes more memory than a run may"))?;
        let bytes = items.len().saturating_mul(2 * size_of::<u32>() + 2 * size_of::<Option<T>>());
        self.alloc(bytes)?;
        let _held = HeldMemory::of(bytes);
        let mut places: Vec<u32> = (0..len).collect();
        let mut merged = Vec::with_capacity(places.len());
        let mut width = 1;
        while width < places.len() {
            for pair in places.chunks(2 * width) {
                let (left, right) = pair.split_at(width.min(pair.len()));
                self.merge(left, right, &mut merged, &mut |meter, x, y| {
                    order(meter, &items[x as usize], &items[y as usize])
                })?;
            }
            std::mem::swap(&mut places, &mut merged);
            merged.clear();
            width *= 2;
        }
        let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
        Ok(places.into_iter().filter_map(|at| items[at as usize].take()).collect())
    }

    fn merge(
        &mut self,
        mut left: &[u32],
        mut right: &[u32],
        merged: &mut Vec<u32>,
        order: &mut dyn FnMut(&mut Self, u32, u32) -> Flow<Ordering>,
    ) -> Flow {
        // Two halves that are in order already cost one comparison.
        if let ([.., last], [first, ..]) = (left, right)
            && order(self, *first, *last)? != Ordering::Less
        {
            merged.extend_from_slice(left);
            left = &[];
        }
        while let ([x, lefts @ ..], [y, rights @ ..]) = (left, right) {
            if order(self, *y, *x)? == Ordering::Less {
                merged.push(*y);
                right = rights;
            } else {
                merged.push(*x);
                left = lefts;
            }
        }
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
        Ok(())
    }
}

fn rank(val: &Val) -> u8 {
    match val {
        Val::Null => 0,
        Val::Bool(false) => 1,
        Val::Bool(true) => 2,
        Val::Num(_) => 3,
        Val::Str(_) => 4,
        Val::Arr(_) => 5,
        Val::Obj(_) => 6,
    }
}
