//! Objects: members in the order in which they came, and an index once there are too many to look
//! through.

use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::LazyLock;

use hashbrown::HashTable;

use super::budget::{BudgetMeter, Flow};
use super::memory_count::{HeldMemory, add_held, subtract_held};
use super::value::{COUNTS_BYTES, Text, Val};

/// A key with its value.
pub(super) type Member = (Text, Val);

/// An object; its members stay in the order in which they came.
#[derive(Debug)]
pub(super) struct Obj {
    members: Vec<Member>,
    /// Places in `members`, once there are too many to look through.
    index: Option<Box<Index>>,
    size: u64,
    depth: u32,
}

type Index = HashTable<u32>;

/// The memory of an object's member.
pub(super) const MEMBER_BYTES: usize = size_of::<Member>();
/// The memory of an object before its first member.
pub(super) const HEAD_BYTES: usize = COUNTS_BYTES + size_of::<Obj>();
/// The memory of a member in the index at most: a place and a byte, in a table that may just have
/// doubled.
const INDEX_ENTRY_BYTES: usize = 12;

const INDEXED_FROM: usize = UNINDEXED_MEMBERS_MAX + 1;
/// So many are looked through rather than indexed.
pub(super) const UNINDEXED_MEMBERS_MAX: usize = 15;

/// Seeded at random, so that keys cannot be chosen to collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Obj {
    /// An object with room for so many members, which have been charged for.
    pub(super) fn with_capacity(members: usize) -> Self {
        add_held(HEAD_BYTES);
        let members = Vec::with_capacity(members);
        add_held(members.capacity() * MEMBER_BYTES);
        Self { members, index: None, size: 0, depth: 0 }
    }

    /// The object of members that have been charged for; of two with one key the last one counts,
    /// at the first one's place. Unless it may, none repeats a key.
    pub(super) fn of(
        meter: &mut BudgetMeter<'_>,
        members: Vec<Member>,
        may_repeat: bool,
    ) -> Flow<Self> {
        let mut size = 0;
        let mut depth = 0;
        for (key, val) in &members {
            size += val.size() + key.len() as u64 + 4;
            depth = depth.max(val.depth());
        }
        add_held(HEAD_BYTES);
        add_held(members.capacity() * MEMBER_BYTES);
        let mut obj = Self { members, index: None, size, depth };
        if obj.members.len() < INDEXED_FROM && !may_repeat || obj.reindex(meter)? {
            return Ok(obj);
        }
        let mut unique = Self::with_capacity(obj.members.len());
        let members = std::mem::take(&mut obj.members);
        let _held = HeldMemory::of(members.capacity() * MEMBER_BYTES);
        subtract_held(members.capacity() * MEMBER_BYTES);
        for (key, val) in members {
            unique.insert(meter, key, val)?;
        }
        Ok(unique)
    }

    /// The object, to be changed: a charged copy where it is shared.
    pub(super) fn make_mut<'a>(
        meter: &mut BudgetMeter<'_>,
        obj: &'a mut Rc<Self>,
    ) -> Flow<&'a mut Self> {
        if Rc::get_mut(obj).is_none() {
            obj.charge_copy(meter)?;
        }
        Ok(Rc::make_mut(obj))
    }

    /// A copy of it.
    pub(super) fn copied(&self, meter: &mut BudgetMeter<'_>) -> Flow<Self> {
        self.charge_copy(meter)?;
        Ok(self.clone())
    }

    fn charge_copy(&self, meter: &mut BudgetMeter<'_>) -> Flow {
        // A copy counts each member's holders, and has an index as large.
        meter.touch(self.len() * 32)?;
        let index = self.index.as_ref().map_or(0, |index| index.allocation_size());
        meter.alloc(HEAD_BYTES + self.len() * MEMBER_BYTES + index)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(super) fn get(&self, meter: &mut BudgetMeter<'_>, key: &str) -> Flow<Option<&Val>> {
        Ok(self.find_key(meter, key)?.map(|at| &self.members[at].1))
    }

    /// Where a key stands. Hashing it, and comparing it with the one that has its hash, costs about
    /// the double of copying it.
    fn find_key(&self, meter: &mut BudgetMeter<'_>, key: &str) -> Flow<Option<usize>> {
        meter.touch(8)?;
        let Some(index) = &self.index else { return position(meter, &self.members, key) };
        meter.touch(2 * key.len())?;
        let found = index.find(HASHER.hash_one(key), |at| *self.members[*at as usize].0 == *key);
        Ok(found.map(|at| *at as usize))
    }

    /// Adds or replaces a member, and hands back the old value.
    pub(super) fn insert(
        &mut self,
        meter: &mut BudgetMeter<'_>,
        key: Text,
        val: Val,
    ) -> Flow<Option<Val>> {
        if self.find_key(meter, &key)?.is_some() {
            return self.replace(meter, &key, val);
        }
        if let Some(index) = &mut self.index {
            let members = &self.members;
            if index.len() == index.capacity() {
                // It doubles, and hashes the keys of all again.
                meter.touch(8 * members.len())?;
                let keys_bytes: usize = members.iter().map(|(known, _)| known.len()).sum();
                meter.touch(2 * keys_bytes)?;
                meter.alloc(3 * index.allocation_size())?;
            }
            meter.touch(2 * key.len())?;
            let before = index.allocation_size();
            let hash = HASHER.hash_one(&*key);
            index.insert_unique(hash, index_entry(members.len()), |at| {
                HASHER.hash_one(&*members[*at as usize].0)
            });
            subtract_held(before);
            add_held(index.allocation_size());
        }
        self.add(meter, key, val)?;
        if self.index.is_none() && self.members.len() >= INDEXED_FROM {
            self.reindex(meter)?;
        }
        Ok(None)
    }

    /// Adds a member whose key is known to be new, and is in the index if there is one.
    pub(super) fn add(&mut self, meter: &mut BudgetMeter<'_>, key: Text, val: Val) -> Flow {
        meter.touch(MEMBER_BYTES)?;
        self.reserve_one(meter)?;
        self.depth = self.depth.max(val.depth());
        self.size += val.size() + key.len() as u64 + 4;
        self.members.push((key, val));
        Ok(())
    }

    /// Replaces a member that exists, and hands back its old value.
    pub(super) fn replace(
        &mut self,
        meter: &mut BudgetMeter<'_>,
        key: &str,
        val: Val,
    ) -> Flow<Option<Val>> {
        let Some(at) = self.find_key(meter, key)? else { return Ok(None) };
        self.depth = self.depth.max(val.depth());
        let new = val.size();
        let old = std::mem::replace(&mut self.members[at].1, val);
        self.size = self.size + new - old.size();
        Ok(Some(old))
    }

    /// Room for one more.
    fn reserve_one(&mut self, meter: &mut BudgetMeter<'_>) -> Flow {
        let len = self.members.len();
        if len < self.members.capacity() {
            return Ok(());
        }
        let more = len / 2 + 1;
        meter.require_memory((len + more).saturating_mul(MEMBER_BYTES + INDEX_ENTRY_BYTES))?;
        subtract_held(self.members.capacity() * MEMBER_BYTES);
        self.members.reserve_exact(more);
        add_held(self.members.capacity() * MEMBER_BYTES);
        Ok(())
    }

    /// Keeps the members for which `keep` holds.
    pub(super) fn retain(
        &mut self,
        meter: &mut BudgetMeter<'_>,
        mut keep: impl FnMut(&str) -> bool,
    ) -> Flow {
        let mut removed_size = 0;
        self.members.retain(|(key, val)| {
            let stays = keep(key);
            removed_size += if stays { 0 } else { val.size() + key.len() as u64 + 4 };
            stays
        });
        self.size -= removed_size;
        self.reindex(meter)?;
        Ok(())
    }

    /// Rebuilds the index; returns whether each key occurs once.
    fn reindex(&mut self, meter: &mut BudgetMeter<'_>) -> Flow<bool> {
        subtract_held(self.index.take().map_or(0, |index| index.allocation_size()));
        if self.members.len() < INDEXED_FROM {
            return Ok(!has_duplicate_key(meter, &self.members)?);
        }
        meter.alloc(self.members.capacity() * INDEX_ENTRY_BYTES)?;
        let mut index = Index::with_capacity(self.members.capacity());
        for (at, (key, _)) in self.members.iter().enumerate() {
            meter.touch(3 * key.len() + 32)?;
            let hash = HASHER.hash_one(&**key);
            if index.find(hash, |at| *self.members[*at as usize].0 == **key).is_some() {
                return Ok(false);
            }
            index.insert_unique(hash, index_entry(at), |_| 0);
        }
        add_held(index.allocation_size());
        self.index = Some(Box::new(index));
        Ok(true)
    }
}

/// Memory ends long before places do.
fn index_entry(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Whether a key comes twice among a few members.
fn has_duplicate_key(meter: &mut BudgetMeter<'_>, members: &[Member]) -> Flow<bool> {
    for (at, (key, _)) in members.iter().enumerate() {
        if position(meter, &members[..at], key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where a key stands among a few members. Most keys differ at once; those that may not are charged
/// for.
#[inline]
fn position(meter: &mut BudgetMeter<'_>, members: &[Member], key: &str) -> Flow<Option<usize>> {
    for (at, (known, _)) in members.iter().enumerate() {
        if known.len() == key.len() && known.as_bytes().first() == key.as_bytes().first() {
            meter.touch(2 * key.len())?;
            if **known == *key {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

impl Default for Obj {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Clone for Obj {
    fn clone(&self) -> Self {
        let members = self.members.clone();
        add_held(HEAD_BYTES);
        add_held(members.capacity() * MEMBER_BYTES);
        add_held(self.index.as_ref().map_or(0, |index| index.allocation_size()));
        Self { members, index: self.index.clone(), size: self.size, depth: self.depth }
    }
}

impl Drop for Obj {
    fn drop(&mut self) {
        subtract_held(HEAD_BYTES);
        subtract_held(self.members.capacity() * MEMBER_BYTES);
        subtract_held(self.index.as_ref().map_or(0, |index| index.allocation_size()));
    }
}
