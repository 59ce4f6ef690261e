//! The counts of a run, by kind and sort: a read that was a `hit memory`, an acknowledged `tags`, a
//! fault `flush` …

use std::collections::BTreeMap;
use std::fmt;

/// Counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, BTreeMap<String, u64>>);

impl Tally {
    /// Counts one event of a sort.
    pub(crate) fn count(&mut self, kind: &'static str, sort: &str) {
        let sorts = self.0.entry(kind).or_default();
        // Looked up before it is copied, because a run counts millions.
        match sorts.get_mut(sort) {
            Some(count) => *count += 1,
            None => drop(sorts.insert(sort.to_owned(), 1)),
        }
    }

    /// The count of a kind.
    pub(crate) fn all(&self, kind: &str) -> u64 {
        self.beginning(kind, "")
    }

    /// The count of a kind whose sorts begin so.
    pub(crate) fn beginning(&self, kind: &str, sort: &str) -> u64 {
        let sorts = self.0.get(kind).into_iter().flatten();
        sorts.filter(|(other, _)| other.starts_with(sort)).map(|(_, count)| count).sum()
    }

    /// The sorts of a kind.
    pub(crate) fn sorts(&self, kind: &str) -> Vec<&str> {
        self.0.get(kind).into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, sorts) in &other.0 {
            let counts = self.0.entry(kind).or_default();
            for (sort, count) in sorts {
                *counts.entry(sort.clone()).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, sorts) in &self.0 {
            let each: Vec<_> =
                sorts.iter().map(|(sort, count)| format!("{sort} {count}")).collect();
            writeln!(f, "  {kind:12} {:>9}: {}", self.all(kind), each.join(", "))?;
        }
        Ok(())
    }
}

#[test]
fn sorts_are_counted_by_themselves_and_together() {
    let mut tally = Tally::default();
    tally.count("read", "hit memory");
    tally.count("read", "hit memory");
    tally.count("read", "fwd=bypass");
    assert_eq!((tally.all("read"), tally.beginning("read", "hit"), tally.all("other")), (3, 2, 0));
    tally.add(&tally.clone());
    assert_eq!((tally.all("read"), tally.sorts("read")), (6, vec!["fwd=bypass", "hit memory"]));
}
