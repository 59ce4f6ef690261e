//! Stamps: the `seq` that last invalidated each key and tag, from which follows which datasets are
//! valid.
//!
//! Redis and every sidecar hold the same structure and use the same rule. It is bounded: a stamp
//! that is forgotten raises the floor, and no fence below the floor is valid. Stamping and checking
//! cost the logarithm of the number of stamps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::guards::Guard;
use super::protocol::{InvalidationScope, Seq};

/// The newest `seq` of each key and tag that was invalidated lately.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stamps {
    max: usize,
    /// No fence below it is valid: entries before it were not followed, or their stamps are
    /// forgotten.
    floor: Seq,
    /// The newest stamp that was forgotten, alone or with all others.
    newest_forgotten: Seq,
    newest_all: Seq,
    newest_tag: Seq,
    keys: BTreeMap<Arc<str>, Seq>,
    tags: BTreeMap<Arc<str>, Seq>,
    /// The same stamps by age. The sorted set in Redis orders equal scores by member, as this set
    /// orders scopes.
    by_age: BTreeSet<(Seq, InvalidationScope)>,
}

impl Stamps {
    /// No stamps: every fence from `floor` on is valid. Holds at most `max` stamps (one at least).
    pub(super) fn new(max: usize, floor: Seq) -> Self {
        Self {
            max: max.max(1),
            floor,
            newest_forgotten: 0,
            newest_all: 0,
            newest_tag: floor,
            keys: BTreeMap::new(),
            tags: BTreeMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    /// Forgets all stamps, which were of another log; no fence below `floor` is valid from now on.
    pub(super) fn clear(&mut self, floor: Seq) {
        *self = Self::new(self.max, floor);
    }

    /// Raises the floor: no fence below it is valid from now on. The stamps stay, since they also
    /// outdate datasets in Redis.
    pub(super) fn raise_floor(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        self.newest_tag = self.newest_tag.max(floor);
    }

    /// Stamps `scope` with `seq`, which is higher than any before.
    pub(super) fn stamp(&mut self, scope: &InvalidationScope, seq: Seq) {
        let (seqs, text) = match scope {
            InvalidationScope::All => {
                self.clear(seq);
                self.newest_all = seq;
                self.newest_forgotten = seq;
                return;
            }
            InvalidationScope::Key(key) => (&mut self.keys, key),
            InvalidationScope::Tag(tag) => {
                self.newest_tag = seq;
                (&mut self.tags, tag)
            }
        };
        if let Some(old) = seqs.insert(Arc::clone(text), seq) {
            self.by_age.remove(&(old, scope.clone()));
        }
        self.by_age.insert((seq, scope.clone()));
        if self.by_age.len() > self.max {
            self.forget_oldest();
        }
    }

    /// Whether a dataset for `key` with these `tags`, read under fence `seq`, has not been
    /// invalidated since.
    pub(super) fn is_valid(&self, seq: Seq, key: &str, tags: &[Arc<str>]) -> bool {
        let is_older = |stamp: Option<&Seq>| stamp.is_none_or(|&stamp| stamp <= seq);
        seq >= self.floor
            && is_older(self.keys.get(key))
            && tags.iter().all(|tag| is_older(self.tags.get(tag)))
    }

    /// Whether a stamp that was set here outdates such a dataset, or a forgotten one may. Entries
    /// before the floor that were never followed do not count.
    pub(super) fn is_outdated(&self, seq: Seq, key: &str, tags: &[Arc<str>]) -> bool {
        let is_newer = |stamp: Option<&Seq>| stamp.is_some_and(|&stamp| stamp > seq);
        let is_tag_newer = || tags.iter().any(|tag| is_newer(self.tags.get(tag)));
        self.newest_forgotten > seq || is_newer(self.keys.get(key)) || is_tag_newer()
    }

    /// Whether a running flight is valid: its tags are not known yet, so a stamp of any tag counts.
    pub(super) fn is_flight_valid(&self, seq: Seq, key: &str) -> bool {
        Guard::S6JoinTags.requires(self.newest_tag <= seq) && self.is_valid(seq, key, &[])
    }

    /// Whether `scope` as a whole was invalidated after `seq`.
    pub(super) fn is_stamped_after(&self, seq: Seq, scope: &InvalidationScope) -> bool {
        let stamp = match scope {
            InvalidationScope::All => None,
            InvalidationScope::Key(key) => self.keys.get(key),
            InvalidationScope::Tag(tag) => self.tags.get(tag),
        };
        // The floor is no stamp: it may come from forgotten stamps of other scopes.
        stamp.copied().unwrap_or(0).max(self.newest_all) > seq
    }

    /// What the entries after `seq` name; `None`: that is not known, since they were not all
    /// followed, or stamps of them are forgotten.
    pub(super) fn scopes_after(&self, seq: Seq) -> Option<Vec<InvalidationScope>> {
        if self.newest_all > seq {
            return Some(vec![InvalidationScope::All]);
        }
        (self.floor <= seq && self.newest_forgotten <= seq).then(|| self.stamped_after(seq))
    }

    /// What applied entries after `seq` name: more than that where stamps are forgotten.
    pub(super) fn applied_after(&self, seq: Seq) -> Vec<InvalidationScope> {
        if self.newest_forgotten > seq {
            return vec![InvalidationScope::All];
        }
        self.stamped_after(seq)
    }

    fn stamped_after(&self, seq: Seq) -> Vec<InvalidationScope> {
        self.by_age.range((seq + 1, InvalidationScope::All)..).map(|it| it.1.clone()).collect()
    }

    fn forget_oldest(&mut self) {
        let Some((seq, scope)) = self.by_age.pop_first() else { return };
        match scope {
            InvalidationScope::All => {}
            InvalidationScope::Key(key) => drop(self.keys.remove(&key)),
            InvalidationScope::Tag(tag) => drop(self.tags.remove(&tag)),
        }
        self.newest_forgotten = seq;
        Guard::R3Floor.demands(|| self.floor = self.floor.max(seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> InvalidationScope {
        InvalidationScope::Key(text.into())
    }

    fn stamps(max: usize) -> Stamps {
        Stamps::new(max, 0)
    }

    #[test]
    fn a_stamp_outdates_what_was_read_before_it_only() {
        let mut stamps = stamps(8);
        stamps.stamp(&key("42"), 5);
        assert!(!stamps.is_valid(4, "42", &[]));
        assert!(stamps.is_valid(5, "42", &[]) && stamps.is_valid(4, "43", &[]));
    }

    #[test]
    fn a_tag_outdates_its_datasets_and_every_flight_in_the_air() {
        let mut stamps = stamps(8);
        stamps.stamp(&InvalidationScope::Tag("gold".into()), 5);
        assert!(
            !stamps.is_valid(4, "42", &["gold".into()])
                && stamps.is_valid(4, "42", &["silver".into()])
        );
        assert!(!stamps.is_flight_valid(4, "42") && stamps.is_flight_valid(5, "42"));
    }

    #[test]
    fn a_forgotten_stamp_raises_the_floor() {
        let mut stamps = stamps(1);
        stamps.stamp(&key("42"), 5);
        stamps.stamp(&key("43"), 6);
        assert!(!stamps.is_valid(4, "42", &[]), "the stamp is forgotten, what it outdated is not");
        assert!(stamps.is_valid(5, "42", &[]));
    }

    #[test]
    fn a_key_stamped_again_and_again_takes_one_place() {
        let mut stamps = stamps(2);
        stamps.stamp(&key("43"), 1);
        (2..100).for_each(|seq| stamps.stamp(&key("42"), seq));
        assert!(stamps.is_valid(1, "44", &[]), "nothing was forgotten");
    }

    #[test]
    fn what_a_stamp_outdates_it_outdates_after_the_floor_was_raised_and_it_was_forgotten_too() {
        let mut stamps = Stamps::new(2, 4);
        assert!(
            !stamps.is_valid(3, "42", &[]) && !stamps.is_outdated(3, "42", &[]),
            "never followed"
        );
        stamps.stamp(&key("42"), 5);
        stamps.raise_floor(9);
        assert!(stamps.is_outdated(4, "42", &[]) && !stamps.is_outdated(5, "42", &[]));
        assert!(!stamps.is_valid(8, "43", &[]) && !stamps.is_outdated(8, "43", &[]));
        stamps.stamp(&key("43"), 10);
        stamps.stamp(&InvalidationScope::Tag("gold".into()), 11);
        assert!(
            stamps.is_outdated(4, "44", &[]),
            "5 was forgotten, and may have been about anything"
        );
        assert!(stamps.is_outdated(6, "44", &["gold".into()]) && !stamps.is_outdated(6, "44", &[]));
        assert!(!stamps.is_valid(8, "44", &[]), "forgetting never lowers the floor");
    }

    #[test]
    fn all_outdates_everything_before_it() {
        let mut stamps = stamps(2);
        stamps.stamp(&InvalidationScope::All, 3);
        assert!(!stamps.is_valid(2, "42", &[]) && stamps.is_valid(3, "42", &[]));
        assert!(
            stamps.is_stamped_after(2, &InvalidationScope::All)
                && stamps.is_stamped_after(2, &key("42"))
        );
        assert!(
            !stamps.is_stamped_after(3, &InvalidationScope::All)
                && !stamps.is_stamped_after(3, &key("42"))
        );
    }
}
