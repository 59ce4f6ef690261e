//! JSON values that know their own size and depth.
//!
//! Values share their children, so a few steps could build one that takes for ever to walk (`[.,.]` sixty times). Each
//! array and object therefore carries the size of the whole tree below it and its depth; `Meter::admit` refuses what is
//! too large or too deep, and whoever walks, compares or drops a value can rely on both.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::number::Num;

/// One JSON value; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Num(Num),
    Str(Arc<str>),
    Arr(Arc<Arr>),
    Obj(Arc<Obj>),
}

/// An array.
#[derive(Clone, Debug, Default)]
pub(super) struct Arr {
    items: Vec<Val>,
    size: u64,
    depth: u32,
}

/// An object; its members stay in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Obj {
    entries: Vec<(Arc<str>, Val)>,
    /// Places in `entries`, once there are too many to look through.
    index: Option<HashMap<Arc<str>, usize>>,
    size: u64,
    depth: u32,
}

/// What an array's slot costs in memory, with the room that growing leaves.
pub(super) const SLOT_BYTES: u64 = 40;
/// What an object's member costs in memory beside its key's text, with its place in the index.
pub(super) const MEMBER_BYTES: u64 = 112;
/// What an array or object costs in memory before its first member.
pub(super) const HEAD_BYTES: u64 = 128;

const INDEXED_FROM: usize = 16;

impl Val {
    pub(super) fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn int(n: usize) -> Self {
        Self::Num(Num::count(n))
    }

    pub(super) fn float(f: f64) -> Self {
        Self::Num(Num::of(f))
    }

    /// About the bytes that the whole tree renders to; at least the number of its values.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) | Self::Num(Num::Int(_) | Num::Float(_)) => 4,
            Self::Num(Num::Text(text)) | Self::Str(text) => text.len() as u64 + 3,
            Self::Arr(a) => a.size + 3,
            Self::Obj(o) => o.size + 3,
        }
    }

    /// 0 for a scalar, 1 for an empty array.
    pub(super) fn depth(&self) -> u32 {
        match self {
            Self::Arr(a) => a.depth + 1,
            Self::Obj(o) => o.depth + 1,
            _ => 0,
        }
    }

    pub(super) fn truthy(&self) -> bool {
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
    pub(super) fn same_type(&self, other: &Self) -> bool {
        self.type_name() == other.type_name()
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(false) => 1,
            Self::Bool(true) => 2,
            Self::Num(_) => 3,
            Self::Str(_) => 4,
            Self::Arr(_) => 5,
            Self::Obj(_) => 6,
        }
    }
}

impl Arr {
    pub(super) fn items(&self) -> &[Val] {
        &self.items
    }

    pub(super) fn push(&mut self, val: Val) {
        self.size += val.size();
        self.depth = self.depth.max(val.depth());
        self.items.push(val);
    }

    /// Replaces an item that exists, and hands back the old one.
    pub(super) fn replace(&mut self, at: usize, val: Val) -> Val {
        self.depth = self.depth.max(val.depth());
        let (new, slot) = (val.size(), &mut self.items[at]);
        self.size = self.size - slot.size() + new;
        std::mem::replace(slot, val)
    }
}

impl FromIterator<Val> for Arr {
    fn from_iter<T: IntoIterator<Item = Val>>(iter: T) -> Self {
        let items: Vec<Val> = iter.into_iter().collect();
        let size = items.iter().map(Val::size).sum();
        let depth = items.iter().map(Val::depth).max().unwrap_or(0);
        Self { items, size, depth }
    }
}

impl Obj {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Arc<str>, Val)> {
        self.entries.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Val> {
        self.place(key).map(|at| &self.entries[at].1)
    }

    fn place(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.entries.iter().position(|(k, _)| **k == *key),
        }
    }

    /// Adds or replaces a member, and hands back the old value.
    pub(super) fn insert(&mut self, key: Arc<str>, val: Val) -> Option<Val> {
        self.depth = self.depth.max(val.depth());
        self.size += val.size();
        if let Some(at) = self.place(&key) {
            let old = std::mem::replace(&mut self.entries[at].1, val);
            self.size -= old.size();
            return Some(old);
        }
        self.size += key.len() as u64 + 4;
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), self.entries.len());
        }
        self.entries.push((key, val));
        if self.index.is_none() && self.entries.len() >= INDEXED_FROM {
            self.reindex();
        }
        None
    }

    /// Keeps the members for which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let mut gone = 0;
        self.entries.retain(|(k, v)| {
            let stays = keep(k);
            gone += if stays { 0 } else { v.size() + k.len() as u64 + 4 };
            stays
        });
        self.size -= gone;
        self.reindex();
    }

    fn reindex(&mut self) {
        let places = || self.entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        self.index = (self.entries.len() >= INDEXED_FROM).then(places);
    }

    /// Members by key.
    pub(super) fn sorted(&self) -> Vec<&(Arc<str>, Val)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|x, y| x.0.cmp(&y.0));
        entries
    }
}

impl FromIterator<(Arc<str>, Val)> for Obj {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Val)>>(iter: T) -> Self {
        let mut obj = Self::default();
        for (key, val) in iter {
            obj.insert(key, val);
        }
        obj
    }
}

/// jq's order.
impl Ord for Val {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Num(x), Self::Num(y)) => x.cmp(y),
            (Self::Str(x), Self::Str(y)) => x.cmp(y),
            (Self::Arr(x), Self::Arr(y)) if Arc::ptr_eq(x, y) => Ordering::Equal,
            (Self::Arr(x), Self::Arr(y)) => x.items.cmp(&y.items),
            (Self::Obj(x), Self::Obj(y)) if Arc::ptr_eq(x, y) => Ordering::Equal,
            (Self::Obj(x), Self::Obj(y)) => {
                let (x, y) = (x.sorted(), y.sorted());
                let keys = x.iter().map(|(k, _)| k).cmp(y.iter().map(|(k, _)| k));
                keys.then_with(|| x.iter().map(|(_, v)| v).cmp(y.iter().map(|(_, v)| v)))
            }
            (x, y) => x.rank().cmp(&y.rank()),
        }
    }
}

impl PartialOrd for Val {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Val {}
