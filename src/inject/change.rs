//! The changes of a pod: additions and removals. Each names a collection of the unchanged pod, and
//! the entries that are added to it or removed from it.
//!
//! An addition replaces nothing but a `null`, so a removal undoes it. The same additions become a
//! JSON Patch (RFC 6902) for an admission review, and edits of a manifest's text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The path of a value in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FieldPath(Vec<PathStep>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PathStep {
    /// Into a member of an object.
    Key(String),
    /// Into an item of a list.
    Item(usize),
}

impl FieldPath {
    /// The pod itself.
    pub(super) fn root() -> Self {
        Self::default()
    }

    /// The path of the member `key`.
    #[must_use]
    pub(super) fn key(&self, key: &str) -> Self {
        self.child(PathStep::Key(key.to_owned()))
    }

    /// The path of the item `index`.
    #[must_use]
    pub(super) fn item(&self, index: usize) -> Self {
        self.child(PathStep::Item(index))
    }

    /// The path of `below`, which is relative to this path.
    #[must_use]
    pub(super) fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// The steps from the root.
    pub(super) fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The path of the collection that holds this entry, and the entry's step; `None` for the root.
    pub(super) fn parent(&self) -> Option<(Self, &PathStep)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }

    /// The path of the innermost list above this value, if there is one, and the steps from there.
    pub(super) fn split_at_last_item(&self) -> (Option<Self>, &[PathStep]) {
        match self.0.iter().rposition(|step| matches!(step, PathStep::Item(_))) {
            Some(at) => (Some(Self(self.0[..at].to_vec())), &self.0[at..]),
            None => (None, &self.0),
        }
    }

    /// The value at this path.
    pub(super) fn find_in<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            PathStep::Key(key) => value.get(key),
            PathStep::Item(index) => value.get(index),
        })
    }

    fn find_in_mut<'v>(&self, root: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            PathStep::Key(key) => value.get_mut(key),
            PathStep::Item(index) => value.get_mut(index),
        })
    }

    fn child(&self, step: PathStep) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

/// As a JSON Pointer (RFC 6901).
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            PathStep::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")),
            PathStep::Item(index) => write!(f, "/{index}"),
        })
    }
}

/// Entries that are added to a collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Addition {
    /// The collection.
    pub(super) into: FieldPath,
    /// The entries.
    pub(super) entries: AddedEntries,
    /// Whether the collection replaces a `null`.
    pub(super) replaces_null: bool,
}

/// The entries of an addition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AddedEntries {
    /// New members of an object.
    Members(Vec<(String, Value)>),
    /// Items before the first of a list.
    Items(Vec<Value>),
}

impl AddedEntries {
    /// The collection of these entries alone.
    pub(super) fn into_collection(self) -> Value {
        match self {
            Self::Members(members) => Value::Object(members.into_iter().collect()),
            Self::Items(items) => Value::Array(items),
        }
    }
}

/// Everything that is added to one pod. No two additions have the same collection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Additions {
    list: Vec<Addition>,
    /// The index in `list` of the members of each object. Without it, a pod with thousands of
    /// containers would take quadratic time.
    member_positions: HashMap<FieldPath, usize>,
}

/// One operation of a JSON Patch. Additions need only `add`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PatchOperation<'a> {
    op: &'static str,
    path: String,
    value: Cow<'a, Value>,
}

impl<'a> PatchOperation<'a> {
    fn add(path: &FieldPath, value: Cow<'a, Value>) -> Self {
        Self { op: "add", path: path.to_string(), value }
    }
}

/// Additions as a JSON Patch, serialized without an intermediate tree.
#[derive(Debug)]
pub struct JsonPatch<'a>(&'a Additions);

impl Serialize for JsonPatch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.list.iter().flat_map(Addition::operations))
    }
}

impl Addition {
    fn operations(&self) -> Vec<PatchOperation<'_>> {
        let add = |path: &FieldPath, value| PatchOperation::add(path, Cow::Borrowed(value));
        match &self.entries {
            entries if self.replaces_null => {
                vec![PatchOperation::add(&self.into, Cow::Owned(entries.clone().into_collection()))]
            }
            AddedEntries::Members(members) => {
                members.iter().map(|(key, it)| add(&self.into.key(key), it)).collect()
            }
            AddedEntries::Items(items) => items
                .iter()
                .enumerate()
                .map(|(index, it)| add(&self.into.item(index), it))
                .collect(),
        }
    }
}

impl Additions {
    /// The additions. Their order does not matter.
    pub(super) fn list(&self) -> &[Addition] {
        &self.list
    }

    /// The additions as a JSON Patch of the pod, with `add` operations only.
    pub fn patch(&self) -> JsonPatch<'_> {
        JsonPatch(self)
    }

    /// Applies all additions to the pod; `false` if they were made for another pod.
    #[must_use]
    pub fn apply(&self, pod: &mut Value) -> bool {
        self.list.iter().all(|Addition { into, entries, replaces_null }| {
            let Some(collection) = into.find_in_mut(pod) else { return false };
            match (collection, entries) {
                (null @ Value::Null, entries) if *replaces_null => {
                    *null = entries.clone().into_collection();
                }
                (Value::Object(object), AddedEntries::Members(members)) => {
                    object.extend(members.iter().cloned());
                }
                (Value::Array(list), AddedEntries::Items(items)) => {
                    drop(list.splice(0..0, items.iter().cloned()));
                }
                _ => return false,
            }
            true
        })
    }

    /// Adds members to the object at `into`, which is created if `pod` has none.
    pub(super) fn add_members(
        &mut self,
        pod: &Value,
        into: &FieldPath,
        members: Vec<(String, Value)>,
    ) {
        if let (None, Some((parent, PathStep::Key(key)))) = (into.find_in(pod), into.parent()) {
            let object: Map<_, _> = members.into_iter().collect();
            return self.add_members(pod, &parent, vec![(key.clone(), Value::Object(object))]);
        }
        let existing_addition =
            self.member_positions.get(into).and_then(|index| self.list.get_mut(*index));
        if let Some(Addition { entries: AddedEntries::Members(existing), .. }) = existing_addition {
            return existing.extend(members);
        }
        self.member_positions.insert(into.clone(), self.list.len());
        self.push(pod, into, AddedEntries::Members(members));
    }

    /// Adds items before the first of the list at `into`, which is created if `pod` has none.
    pub(super) fn add_items(&mut self, pod: &Value, into: &FieldPath, items: Vec<Value>) {
        match (into.find_in(pod), into.parent()) {
            (None, Some((parent, PathStep::Key(key)))) => {
                self.add_members(pod, &parent, vec![(key.clone(), Value::Array(items))]);
            }
            _ => self.push(pod, into, AddedEntries::Items(items)),
        }
    }

    fn push(&mut self, pod: &Value, into: &FieldPath, entries: AddedEntries) {
        let replaces_null = into.find_in(pod).is_some_and(Value::is_null);
        self.list.push(Addition { into: into.clone(), entries, replaces_null });
    }
}

/// Entries that are removed from a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    /// The collection.
    pub(super) from: FieldPath,
    /// The entries, all of which exist.
    pub(super) entries: RemovedEntries,
}

/// The entries of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemovedEntries {
    /// Members of an object.
    Keys(Vec<String>),
    /// Indices of items of a list, ascending.
    Items(Vec<usize>),
}

/// Everything that is removed from one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Removals {
    list: Vec<Removal>,
    /// The index in `list` of the removed members of each object.
    member_positions: HashMap<FieldPath, usize>,
    /// Collections that were empty before the injection, and stay, empty.
    empty_collections: Vec<FieldPath>,
}

impl Removals {
    /// The removals. No two have the same collection, and none is within an entry that another one
    /// removes.
    pub(super) fn list(&self) -> &[Removal] {
        &self.list
    }

    /// Collections that stay, empty, since they were empty before the injection.
    pub(super) fn empty_collections(&self) -> &[FieldPath] {
        &self.empty_collections
    }

    /// Applies all removals to the pod; `false` if they were made for another pod.
    #[must_use]
    pub(super) fn apply(&self, pod: &mut Value) -> bool {
        self.list.iter().all(|Removal { from, entries }| match (from.find_in_mut(pod), entries) {
            (Some(Value::Object(object)), RemovedEntries::Keys(keys)) => {
                keys.iter().all(|key| object.remove(key).is_some())
            }
            (Some(Value::Array(list)), RemovedEntries::Items(items)) => remove_items(list, items),
            _ => false,
        })
    }

    /// Removes entries from the collection at `from`. A collection that has no other entries is
    /// removed too, unless it is one that `must_keep` names: that one stays, empty.
    pub(super) fn remove(
        &mut self,
        pod: &Value,
        from: &FieldPath,
        entries: RemovedEntries,
        must_keep: &impl Fn(&FieldPath) -> bool,
    ) {
        let has_other_entries = match (from.find_in(pod), &entries) {
            (Some(Value::Object(object)), RemovedEntries::Keys(keys)) => {
                self.count_removed(from) + keys.len() < object.len()
            }
            (Some(Value::Array(list)), RemovedEntries::Items(items)) => items.len() < list.len(),
            _ => return,
        };
        match from.parent() {
            _ if has_other_entries => self.push(from, entries),
            Some((parent, PathStep::Key(key))) if !must_keep(from) => {
                self.drop_removal(from);
                self.remove(pod, &parent, RemovedEntries::Keys(vec![key.clone()]), must_keep);
            }
            _ => {
                self.push(from, entries);
                self.empty_collections.push(from.clone());
            }
        }
    }

    /// The members that are removed from `from` so far.
    fn removed_keys(&mut self, from: &FieldPath) -> Option<&mut Vec<String>> {
        match &mut self.list.get_mut(*self.member_positions.get(from)?)?.entries {
            RemovedEntries::Keys(keys) => Some(keys),
            RemovedEntries::Items(_) => None,
        }
    }

    fn count_removed(&mut self, from: &FieldPath) -> usize {
        self.removed_keys(from).map_or(0, |keys| keys.len())
    }

    /// Drops the removal of members of `from`, since `from` itself is removed.
    fn drop_removal(&mut self, from: &FieldPath) {
        let Some(index) = self.member_positions.remove(from) else { return };
        self.list.swap_remove(index);
        if let Some(Removal { from: other, entries: RemovedEntries::Keys(_) }) =
            self.list.get(index)
        {
            self.member_positions.insert(other.clone(), index);
        }
    }

    fn push(&mut self, from: &FieldPath, entries: RemovedEntries) {
        match (self.removed_keys(from), entries) {
            (Some(existing), RemovedEntries::Keys(keys)) => existing.extend(keys),
            (_, entries) => {
                if matches!(entries, RemovedEntries::Keys(_)) {
                    self.member_positions.insert(from.clone(), self.list.len());
                }
                self.list.push(Removal { from: from.clone(), entries });
            }
        }
    }
}

/// Removes the items at these indices, ascending, from a list; `false` if one of them does not
/// exist.
fn remove_items(list: &mut Vec<Value>, indices: &[usize]) -> bool {
    let are_present = indices.last().is_none_or(|last| *last < list.len());
    let mut index = 0;
    let mut remaining = indices.iter().copied().peekable();
    list.retain(|_| {
        index += 1;
        remaining.next_if_eq(&(index - 1)).is_none()
    });
    are_present
}
