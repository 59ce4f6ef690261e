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
pub struct Path(Vec<Step>);

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// To a member of an object.
    Key(String),
    /// To an item of a list.
    Item(usize),
}

impl Path {
    /// The pod itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The member `key` of this.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// The item `index` of this.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.then(Step::Item(index))
    }

    /// `below`, seen from above this.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The collection that this is an entry of, and the step to it; `None` for the root.
    pub fn parent(&self) -> Option<(Self, &Step)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }

    /// The innermost list on the way here, if there is one, and the steps from there.
    pub(super) fn split_at_last_item(&self) -> (Option<Self>, &[Step]) {
        match self.0.iter().rposition(|step| matches!(step, Step::Item(_))) {
            Some(at) => (Some(Self(self.0[..at].to_vec())), &self.0[at..]),
            None => (None, &self.0),
        }
    }

    /// What stands here.
    pub fn of<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Item(index) => value.get(index),
        })
    }

    fn of_mut<'v>(&self, root: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Item(index) => value.get_mut(index),
        })
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

/// As a JSON Pointer (RFC 6901).
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Step::Item(index) => write!(f, "/{index}"),
        })
    }
}

/// Entries that come into a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Addition {
    /// The collection.
    pub into: Path,
    /// The entries.
    pub entries: Entries,
    /// Whether a `null` stands where the collection shall be.
    pub over_null: bool,
}

/// What comes into a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Entries {
    /// Members of an object, none of which was there.
    Members(Vec<(String, Value)>),
    /// Items in front of a list.
    Items(Vec<Value>),
}

impl Entries {
    /// The collection that holds these and nothing else.
    pub fn into_collection(self) -> Value {
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
    members: HashMap<Path, usize>,
}

/// One step of a JSON Patch. Additions need no other.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Operation<'a> {
    op: &'static str,
    path: String,
    value: Cow<'a, Value>,
}

impl<'a> Operation<'a> {
    fn add(path: &Path, value: Cow<'a, Value>) -> Self {
        Self { op: "add", path: path.to_string(), value }
    }
}

/// Additions as the JSON Patch of a pod, written without a tree of it.
#[derive(Debug)]
pub struct Patch<'a>(&'a Additions);

impl Serialize for Patch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.list.iter().flat_map(Addition::operations))
    }
}

impl Addition {
    fn operations(&self) -> Vec<Operation<'_>> {
        let add = |path: &Path, value| Operation::add(path, Cow::Borrowed(value));
        match &self.entries {
            entries if self.over_null => {
                vec![Operation::add(&self.into, Cow::Owned(entries.clone().into_collection()))]
            }
            Entries::Members(members) => {
                members.iter().map(|(key, it)| add(&self.into.key(key), it)).collect()
            }
            Entries::Items(items) => items
                .iter()
                .enumerate()
                .map(|(index, it)| add(&self.into.item(index), it))
                .collect(),
        }
    }
}

impl Additions {
    /// Each addition, in no order that matters.
    pub fn list(&self) -> &[Addition] {
        &self.list
    }

    /// The same as a JSON Patch of the pod: `add` and nothing else.
    pub fn patch(&self) -> Patch<'_> {
        Patch(self)
    }

    /// The pod with all of it; `false` where it is not the pod that this was made for.
    #[must_use]
    pub fn apply(&self, pod: &mut Value) -> bool {
        self.list.iter().all(|Addition { into, entries, over_null }| {
            let Some(collection) = into.of_mut(pod) else { return false };
            match (collection, entries) {
                (null @ Value::Null, entries) if *over_null => {
                    *null = entries.clone().into_collection();
                }
                (Value::Object(object), Entries::Members(members)) => {
                    object.extend(members.iter().cloned());
                }
                (Value::Array(list), Entries::Items(items)) => {
                    drop(list.splice(0..0, items.iter().cloned()));
                }
                _ => return false,
            }
            true
        })
    }

    /// Adds members to the object at `into`, and makes it where `pod` has none.
    pub(super) fn members(&mut self, pod: &Value, into: &Path, members: Vec<(String, Value)>) {
        if let (None, Some((parent, Step::Key(key)))) = (into.of(pod), into.parent()) {
            let object: Map<_, _> = members.into_iter().collect();
            return self.members(pod, &parent, vec![(key.clone(), Value::Object(object))]);
        }
        let same = self.members.get(into).and_then(|nth| self.list.get_mut(*nth));
        if let Some(Addition { entries: Entries::Members(there), .. }) = same {
            return there.extend(members);
        }
        self.members.insert(into.clone(), self.list.len());
        self.push(pod, into, Entries::Members(members));
    }

    /// Adds items in front of the list at `into`, and makes it where `pod` has none.
    pub(super) fn items(&mut self, pod: &Value, into: &Path, items: Vec<Value>) {
        match (into.of(pod), into.parent()) {
            (None, Some((parent, Step::Key(key)))) => {
                self.members(pod, &parent, vec![(key.clone(), Value::Array(items))]);
            }
            _ => self.push(pod, into, Entries::Items(items)),
        }
    }

    fn push(&mut self, pod: &Value, into: &Path, entries: Entries) {
        let over_null = into.of(pod).is_some_and(Value::is_null);
        self.list.push(Addition { into: into.clone(), entries, over_null });
    }
}

/// Entries that leave a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The collection.
    pub from: Path,
    /// The entries, all of which are there.
    pub which: Which,
}

/// What leaves a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Members of an object.
    Keys(Vec<String>),
    /// Items of a list, ascending.
    Items(Vec<usize>),
}

/// All that is taken from one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    list: Vec<Removal>,
    /// Where in `list` the members are that leave an object.
    members: HashMap<Path, usize>,
    /// Collections that were empty before anything was added: these stay, and empty.
    emptied: Vec<Path>,
}

impl Removals {
    /// Each removal; no two from the same collection, and none from within what another one
    /// removes.
    pub fn list(&self) -> &[Removal] {
        &self.list
    }

    /// Collections that are left empty because they were empty before.
    pub fn emptied(&self) -> &[Path] {
        &self.emptied
    }

    /// The pod without all of it; `false` where it is not the pod that this was made for.
    #[must_use]
    pub fn apply(&self, pod: &mut Value) -> bool {
        self.list.iter().all(|Removal { from, which }| match (from.of_mut(pod), which) {
            (Some(Value::Object(object)), Which::Keys(keys)) => {
                keys.iter().all(|key| object.remove(key).is_some())
            }
            (Some(Value::Array(list)), Which::Items(items)) => remove_items(list, items),
            _ => false,
        })
    }

    /// Takes `which` from `from`. Where nothing else is left, the collection goes too, unless it
    /// `stays`.
    pub(super) fn take(
        &mut self,
        pod: &Value,
        from: &Path,
        which: Which,
        stays: &impl Fn(&Path) -> bool,
    ) {
        let (gone, of) = match (from.of(pod), &which) {
            (Some(Value::Object(object)), Which::Keys(keys)) => {
                (self.gone_from(from) + keys.len(), object.len())
            }
            (Some(Value::Array(list)), Which::Items(items)) => (items.len(), list.len()),
            _ => return,
        };
        match from.parent() {
            _ if gone < of => self.push(from, which),
            Some((parent, Step::Key(key))) if !stays(from) => {
                self.forget(from);
                self.take(pod, &parent, Which::Keys(vec![key.clone()]), stays);
            }
            _ => {
                self.push(from, which);
                self.emptied.push(from.clone());
            }
        }
    }

    /// The members that leave `from` so far.
    fn leaving(&mut self, from: &Path) -> Option<&mut Vec<String>> {
        match &mut self.list.get_mut(*self.members.get(from)?)?.which {
            Which::Keys(keys) => Some(keys),
            Which::Items(_) => None,
        }
    }

    fn gone_from(&mut self, from: &Path) -> usize {
        self.leaving(from).map_or(0, |keys| keys.len())
    }

    /// Drops the removal of members of `from`, since all of it leaves.
    fn forget(&mut self, from: &Path) {
        let Some(nth) = self.members.remove(from) else { return };
        self.list.swap_remove(nth);
        if let Some(Removal { from: moved, which: Which::Keys(_) }) = self.list.get(nth) {
            self.members.insert(moved.clone(), nth);
        }
    }

    fn push(&mut self, from: &Path, which: Which) {
        match (self.leaving(from), which) {
            (Some(there), Which::Keys(keys)) => there.extend(keys),
            (_, which) => {
                if matches!(which, Which::Keys(_)) {
                    self.members.insert(from.clone(), self.list.len());
                }
                self.list.push(Removal { from: from.clone(), which });
            }
        }
    }
}

/// Takes the items at these places, ascending, out of a list; `false` where one of them is not
/// there.
fn remove_items(list: &mut Vec<Value>, items: &[usize]) -> bool {
    let there = items.last().is_none_or(|last| *last < list.len());
    let (mut nth, mut leaving) = (0, items.iter().copied().peekable());
    list.retain(|_| {
        nth += 1;
        leaving.next_if_eq(&(nth - 1)).is_none()
    });
    there
}
