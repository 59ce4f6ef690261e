//! JSON values with their own size and depth.
//!
//! Values share their children, so a few steps could build one that takes for ever to walk (`[.,.]`
//! sixty times). Each array and object therefore carries the size of the whole tree below it and
//! its depth; `BudgetMeter::admit` refuses one that is too large or too deep, and code that walks
//! or drops a value can rely on both.
//!
//! Operations whose cost grows with a value's size take the meter: there is no `==`, no `<`, no
//! hash and no look-up without it. Each text, array and object counts the memory that it holds
//! (`memory_count`).

use std::ops::Deref;
use std::rc::Rc;

use super::budget::{BudgetMeter, Flow};
use super::memory_count::{add_held, subtract_held};
use super::number::Num;
pub(super) use super::object::Obj;

/// One JSON value; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Num(Num),
    Str(Text),
    Arr(Rc<Arr>),
    Obj(Rc<Obj>),
}

/// A string; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Text(Rc<str>);

/// An array.
#[derive(Debug)]
pub(super) struct Arr {
    items: Vec<Val>,
    size: u64,
    depth: u32,
}

/// The memory of an array's slot.
pub(super) const SLOT_BYTES: usize = size_of::<Val>();
/// The memory of the counters of a shared allocation.
pub(super) const COUNTS_BYTES: usize = 16;
/// The memory of an array before its first slot.
const HEAD_BYTES: usize = COUNTS_BYTES + size_of::<Arr>();
/// The memory of a short string.
pub(super) const SHORT_TEXT_BYTES: usize = 48;

const _: () = assert!(SLOT_BYTES == 24, "values are what most memory goes to");

impl Val {
    /// A string of the crate's own, which is short.
    pub(super) fn static_text(text: &'static str) -> Self {
        Self::Str(Text::unmetered(text))
    }

    pub(super) fn int(n: usize) -> Self {
        Self::Num(Num::count(n))
    }

    pub(super) fn float(f: f64) -> Self {
        Self::Num(Num::of(f))
    }

    /// About the bytes that the whole tree renders to; at least the number of its values.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) => 4,
            Self::Num(n) => n.size(),
            Self::Str(text) => text.len() as u64 + 3,
            Self::Arr(a) => a.size + 3,
            Self::Obj(o) => o.size() + 3,
        }
    }

    /// 0 for a scalar, 1 for an empty array.
    #[inline]
    pub(super) fn depth(&self) -> u32 {
        match self {
            Self::Arr(a) => a.depth + 1,
            Self::Obj(o) => o.depth() + 1,
            _ => 0,
        }
    }

    pub(super) fn is_truthy(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Num(_) => "number",
            Self::Str(_) => "string",
            Self::Arr(_) => "array",
            Self::Obj(_) => "object",
        }
    }

    /// Whether both are of one type.
    pub(super) fn is_same_type(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Text {
    pub(super) fn of(meter: &mut BudgetMeter<'_>, text: &str) -> Flow<Self> {
        meter.alloc(COUNTS_BYTES + text.len())?;
        Ok(Self::unmetered(text))
    }

    /// A text whose memory is counted, but neither charged nor refused: constants, and texts of a
    /// few bytes.
    pub(super) fn unmetered(text: &str) -> Self {
        add_held(COUNTS_BYTES + text.len());
        Self(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            subtract_held(COUNTS_BYTES + self.0.len());
        }
    }
}

impl Arr {
    /// The array of `items`, which have been charged for.
    pub(super) fn of(items: Vec<Val>) -> Self {
        let mut size = 0;
        let mut depth = 0;
        for item in &items {
            size += item.size();
            depth = depth.max(item.depth());
        }
        add_held(HEAD_BYTES);
        add_held(items.capacity() * SLOT_BYTES);
        Self { items, size, depth }
    }

    pub(super) fn items(&self) -> &[Val] {
        &self.items
    }

    pub(super) fn push(&mut self, meter: &mut BudgetMeter<'_>, val: Val) -> Flow {
        meter.touch(SLOT_BYTES)?;
        if self.items.len() == self.items.capacity() {
            self.reserve(meter, self.items.len() / 2 + 1)?;
        }
        self.size += val.size();
        self.depth = self.depth.max(val.depth());
        self.items.push(val);
        Ok(())
    }

    /// Makes room for so many more; the caller charges for filling it.
    pub(super) fn reserve(&mut self, meter: &mut BudgetMeter<'_>, more: usize) -> Flow {
        let before = self.items.capacity();
        if self.items.len() + more > before {
            meter.require_memory(
                (self.items.len().saturating_add(more)).saturating_mul(SLOT_BYTES),
            )?;
            self.items.reserve_exact(more);
            subtract_held(before * SLOT_BYTES);
            add_held(self.items.capacity() * SLOT_BYTES);
        }
        Ok(())
    }

    /// Replaces an item that exists, and hands back the old one.
    pub(super) fn replace(&mut self, at: usize, val: Val) -> Val {
        self.depth = self.depth.max(val.depth());
        let new = val.size();
        let slot = &mut self.items[at];
        self.size = self.size - slot.size() + new;
        std::mem::replace(slot, val)
    }

    /// The array, to be changed: a charged copy where it is shared.
    pub(super) fn make_mut<'a>(
        meter: &mut BudgetMeter<'_>,
        arr: &'a mut Rc<Self>,
    ) -> Flow<&'a mut Self> {
        if Rc::get_mut(arr).is_none() {
            // A copy counts each item's holders.
            meter.touch(arr.items.len() * 16)?;
            meter.alloc(arr.items.len() * SLOT_BYTES)?;
        }
        Ok(Rc::make_mut(arr))
    }

    /// A copy of some items of an array.
    pub(super) fn copied(meter: &mut BudgetMeter<'_>, items: &[Val]) -> Flow<Self> {
        meter.alloc(items.len().saturating_mul(SLOT_BYTES))?;
        Ok(Self::of(items.to_vec()))
    }
}

impl Default for Arr {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Clone for Arr {
    fn clone(&self) -> Self {
        Self::of(self.items.clone())
    }
}

impl Drop for Arr {
    fn drop(&mut self) {
        subtract_held(HEAD_BYTES);
        subtract_held(self.items.capacity() * SLOT_BYTES);
    }
}
