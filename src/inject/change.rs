//! What is added to a pod, and what is taken away again: each change names a collection of the pod as it was, and the entries
//! that come into it or leave it.
//!
//! Nothing is ever replaced but a `null`, so an addition is undone by a removal. The same list becomes a JSON Patch
//! (RFC 6902) for an admission review, and splices for a manifest's text.

use std::fmt;

use serde_json::{Map, Value, json};

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
pub struct Additions(Vec<Addition>);

impl Additions {
    /// Each addition, in no order that matters.
    pub fn list(&self) -> &[Addition] {
        &self.0
    }

    /// The same as a JSON Patch of the pod: `add` and nothing else.
    pub fn patch(&self) -> Value {
        let add = |path: &Path, value: &Value| json!({"op": "add", "path": path.to_string(), "value": value});
        let mut patch = Vec::new();
        for Addition { into, entries, over_null } in &self.0 {
            match entries {
                _ if *over_null => patch.push(add(into, &entries.clone().into_collection())),
                Entries::Members(members) => patch.extend(members.iter().map(|(key, it)| add(&into.key(key), it))),
                Entries::Items(items) => {
                    patch.extend(items.iter().enumerate().map(|(index, it)| add(&into.item(index), it)));
                }
            }
        }
        Value::Array(patch)
    }

    /// The pod with all of it; `false` where it is not the pod that this was made for.
    #[must_use]
    pub fn apply(&self, pod: &mut Value) -> bool {
        self.0.iter().all(|Addition { into, entries, over_null }| {
            let Some(collection) = into.of_mut(pod) else { return false };
            match (collection, entries) {
                (null @ Value::Null, entries) if *over_null => *null = entries.clone().into_collection(),
                (Value::Object(object), Entries::Members(members)) => object.extend(members.iter().cloned()),
                (Value::Array(list), Entries::Items(items)) => drop(list.splice(0..0, items.iter().cloned())),
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
        let same = self.0.iter_mut().find(|addition| addition.into == *into);
        match same.map(|addition| &mut addition.entries) {
            Some(Entries::Members(there)) => there.extend(members),
            _ => self.push(pod, into, Entries::Members(members)),
        }
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
        self.0.push(Addition { into: into.clone(), entries, over_null });
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
    /// Collections that were empty before anything was added: these stay, and empty.
    emptied: Vec<Path>,
}

impl Removals {
    /// Each removal; no two from the same collection, and none from within what another one removes.
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
            (Some(Value::Object(object)), Which::Keys(keys)) => keys.iter().all(|key| object.remove(key).is_some()),
            (Some(Value::Array(list)), Which::Items(items)) => items.iter().rev().all(|index| {
                let there = *index < list.len();
                if there {
                    list.remove(*index);
                }
                there
            }),
            _ => false,
        })
    }

    /// Takes `which` from `from`. Where nothing else is left, the collection goes too, unless it `stays`.
    pub(super) fn take(&mut self, pod: &Value, from: &Path, which: Which, stays: &impl Fn(&Path) -> bool) {
        let (gone, of) = match (from.of(pod), &which) {
            (Some(Value::Object(object)), Which::Keys(keys)) => (self.gone_from(from, keys.len()), object.len()),
            (Some(Value::Array(list)), Which::Items(items)) => (items.len(), list.len()),
            _ => return,
        };
        match from.parent() {
            _ if gone < of => self.push(from, which),
            Some((parent, Step::Key(key))) if !stays(from) => {
                self.list.retain(|removal| removal.from != *from);
                self.take(pod, &parent, Which::Keys(vec![key.clone()]), stays);
            }
            _ => {
                self.push(from, which);
                self.emptied.push(from.clone());
            }
        }
    }

    /// How many members leave `from`, with `more` to come.
    fn gone_from(&self, from: &Path, more: usize) -> usize {
        let keys = self.list.iter().filter(|removal| removal.from == *from).map(|removal| match &removal.which {
            Which::Keys(keys) => keys.len(),
            Which::Items(_) => 0,
        });
        keys.sum::<usize>() + more
    }

    fn push(&mut self, from: &Path, which: Which) {
        let same = self.list.iter_mut().find(|removal| removal.from == *from).map(|removal| &mut removal.which);
        match (same, which) {
            (Some(Which::Keys(there)), Which::Keys(keys)) => there.extend(keys),
            (_, which) => self.list.push(Removal { from: from.clone(), which }),
        }
    }
}
