//! What is added to a pod, and what is taken away again: each change names a collection of the pod
//! as it was, and the entries that come into it or leave it.
//!
//! Nothing is ever replaced but a `null`, so an addition is undone by a removal. The same list
//! becomes a JSON Patch (RFC 6902) for an admission review, and splices for a manifest's text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A place in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FieldPath(Vec<PathStep>);

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PathStep {
    /// To a member of an object.
    Key(String),
    /// To an item of a list.
    Item(usize),
}

impl FieldPath {
    /// The pod itself.
    pub(super) fn root() -> Self {
        Self::default()
    }

    /// The member `key` of this.
    #[must_use]
    pub(super) fn key(&self, key: &str) -> Self {
        self.child(PathStep::Key(key.to_owned()))
    }

    /// The item `index` of this.
    #[must_use]
    pub(super) fn item(&self, index: usize) -> Self {
        self.child(PathStep::Item(index))
    }

    /// `below`, seen from above this.
    #[must_use]
    pub(super) fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// The steps from the root.
    pub(super) fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The collection that this is an entry of, and the step to it; `None` for the root.
    pub(super) fn parent(&self) -> Option<(Self, &PathStep)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }

    /// The innermost list on the way here, if there is one, and the steps from there.
    pub(super) fn split_at_last_item(&self) -> (Option<Self>, &[PathStep]) {
        match self.0.iter().rposition(|step| matches!(step, PathStep::Item(_))) {
            Some(at) => (Some(Self(self.0[..at].to_vec())), &self.0[at..]),
            None => (None, &self.0),
        }
    }

    /// What stands here.
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

/// Entries that come into a collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Addition {
    /// The collection.
    pub(super) into: FieldPath,
    /// The entries.
    pub(super) entries: AddedEntries,
    /// Whether a `null` stands where the collection shall be.
    pub(super) replaces_null: bool,
}

/// What comes into a collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AddedEntries {
    /// Members of an object, none of which was there.
    Members(Vec<(String, Value)>),
    /// Items in front of a list.
    Items(Vec<Value>),
}

impl AddedEntries {
    /// The collection that holds these and nothing else.
    pub(super) fn into_collection(self) -> Value {
        match self {
            Self::Members(members) => Value::Object(members.into_iter().collect()),
            Self::Items(items) => Value::Array(items),
        }
    }
}

/// All that is added to one pod; each collection is named once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Additions {
    list: Vec<Addition>,
    /// Where in `list` the members of an object are: a pod has thousands of containers if somebody
    /// wants it to.
    member_positions: HashMap<FieldPath, usize>,
}

/// One step of a JSON Patch. Additions need no other.
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

/// Additions as the JSON Patch of a pod, written without a tree of it.
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
    /// Each addition, in no order that matters.
    pub(super) fn list(&self) -> &[Addition] {
        &self.list
    }

    /// The same as a JSON Patch of the pod: `add` and nothing else.
    pub fn patch(&self) -> JsonPatch<'_> {
        JsonPatch(self)
    }

    /// The pod with all of it; `false` where it is not the pod that this was made for.
    #[must_use]
    pub fn apply(&self, pod: &mut Value) -> bool {
        self.list.iter().all(|Addition { into, entries, replaces_null: over_null }| {
            let Some(collection) = into.find_in_mut(pod) else { return false };
            match (collection, entries) {
                (null @ Value::Null, entries) if *over_null => {
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

    /// Adds members to the object at `into`, and makes it where `pod` has none.
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
            self.member_positions.get(into).and_then(|nth| self.list.get_mut(*nth));
        if let Some(Addition { entries: AddedEntries::Members(existing), .. }) = existing_addition {
            return existing.extend(members);
        }
        self.member_positions.insert(into.clone(), self.list.len());
        self.push(pod, into, AddedEntries::Members(members));
    }

    /// Adds items in front of the list at `into`, and makes it where `pod` has none.
    pub(super) fn add_items(&mut self, pod: &Value, into: &FieldPath, items: Vec<Value>) {
        match (into.find_in(pod), into.parent()) {
            (None, Some((parent, PathStep::Key(key)))) => {
                self.add_members(pod, &parent, vec![(key.clone(), Value::Array(items))]);
            }
            _ => self.push(pod, into, AddedEntries::Items(items)),
        }
    }

    fn push(&mut self, pod: &Value, into: &FieldPath, entries: AddedEntries) {
        let over_null = into.find_in(pod).is_some_and(Value::is_null);
        self.list.push(Addition { into: into.clone(), entries, replaces_null: over_null });
    }
}

/// Entries that leave a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    /// The collection.
    pub(super) from: FieldPath,
    /// The entries, all of which are there.
    pub(super) entries: RemovedEntries,
}

/// What leaves a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemovedEntries {
    /// Members of an object.
    Keys(Vec<String>),
    /// Items of a list, ascending.
    Items(Vec<usize>),
}

/// All that is taken from one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Removals {
    list: Vec<Removal>,
    /// Where in `list` the members are that leave an object.
    member_positions: HashMap<FieldPath, usize>,
    /// Collections that were empty before anything was added: these stay, and empty.
    emptied: Vec<FieldPath>,
}

impl Removals {
    /// Each removal; no two from the same collection, and none from within what another one
    /// removes.
    pub(super) fn list(&self) -> &[Removal] {
        &self.list
    }

    /// Collections that are left empty because they were empty before.
    pub(super) fn emptied(&self) -> &[FieldPath] {
        &self.emptied
    }

    /// The pod without all of it; `false` where it is not the pod that this was made for.
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

    /// Takes `which` from `from`. Where nothing else is left, the collection goes too, unless it
    /// `stays`.
    pub(super) fn remove(
        &mut self,
        pod: &Value,
        from: &FieldPath,
        entries: RemovedEntries,
        must_keep: &impl Fn(&FieldPath) -> bool,
    ) {
        let (removed_count, total_count) = match (from.find_in(pod), &entries) {
            (Some(Value::Object(object)), RemovedEntries::Keys(keys)) => {
                (self.count_removed(from) + keys.len(), object.len())
            }
            (Some(Value::Array(list)), RemovedEntries::Items(items)) => (items.len(), list.len()),
            _ => return,
        };
        match from.parent() {
            _ if removed_count < total_count => self.push(from, entries),
            Some((parent, PathStep::Key(key))) if !must_keep(from) => {
                self.drop_removal(from);
                self.remove(pod, &parent, RemovedEntries::Keys(vec![key.clone()]), must_keep);
            }
            _ => {
                self.push(from, entries);
                self.emptied.push(from.clone());
            }
        }
    }

    /// The members that leave `from` so far.
    fn removed_keys(&mut self, from: &FieldPath) -> Option<&mut Vec<String>> {
        match &mut self.list.get_mut(*self.member_positions.get(from)?)?.entries {
            RemovedEntries::Keys(keys) => Some(keys),
            RemovedEntries::Items(_) => None,
        }
    }

    fn count_removed(&mut self, from: &FieldPath) -> usize {
        self.removed_keys(from).map_or(0, |keys| keys.len())
    }

    /// Drops the removal of members of `from`, since all of it leaves.
    fn drop_removal(&mut self, from: &FieldPath) {
        let Some(nth) = self.member_positions.remove(from) else { return };
        self.list.swap_remove(nth);
        if let Some(Removal { from: moved, entries: RemovedEntries::Keys(_) }) = self.list.get(nth)
        {
            self.member_positions.insert(moved.clone(), nth);
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

/// Takes the items at these places, ascending, out of a list; `false` where one of them is not
/// there.
fn remove_items(list: &mut Vec<Value>, items: &[usize]) -> bool {
    let are_present = items.last().is_none_or(|last| *last < list.len());
    let mut nth = 0;
    let mut remaining = items.iter().copied().peekable();
    list.retain(|_| {
        nth += 1;
        remaining.next_if_eq(&(nth - 1)).is_none()
    });
    are_present
}
