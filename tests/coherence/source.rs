//! The source of truth in a trial: a version a key, and the promises about it so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use bfb::coherence::*;

/// A key of a trial.
pub(super) type TrialKey = u8;
/// The source's value for a key: how often it was written.
pub(super) type TrialVersion = u32;

/// The source, and the promises about its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct TrialSource {
    /// The versions that a read of the source returns now.
    pub(super) versions: Vec<TrialVersion>,
    /// The oldest versions that a new read may return: an invalidation of each was acknowledged.
    pub(super) acknowledged: Vec<TrialVersion>,
    /// The oldest versions that Redis may store: the script of an invalidation has run for each.
    pub(super) stamped: Vec<TrialVersion>,
    /// The versions that each invalidation is about.
    pub(super) issued: BTreeMap<Fence, Vec<Option<TrialVersion>>>,
}

impl TrialSource {
    pub(super) fn new(keys: u8) -> Self {
        let versions = vec![0; usize::from(keys)];
        Self {
            acknowledged: versions.clone(),
            stamped: versions.clone(),
            versions,
            issued: BTreeMap::new(),
        }
    }

    pub(super) fn write(&mut self, key: TrialKey) {
        self.versions[usize::from(key)] += 1;
    }

    /// The script of an invalidation has run.
    pub(super) fn stamp(&mut self, token: Fence, scopes: &[InvalidationScope]) {
        let of =
            |key: usize| scopes.iter().any(|scope| covers(scope, key)).then(|| self.versions[key]);
        let about: Vec<_> = (0..self.versions.len()).map(of).collect();
        raise(&mut self.stamped, &about);
        self.issued.insert(token, about);
    }

    /// An invalidation was acknowledged.
    pub(super) fn acknowledge(&mut self, token: Fence) {
        if let Some(about) = self.issued.get(&token) {
            raise(&mut self.acknowledged, about);
        }
    }
}

fn raise(versions: &mut [TrialVersion], about: &[Option<TrialVersion>]) {
    for (version, about) in versions.iter_mut().zip(about) {
        *version = about.map_or(*version, |about| about.max(*version));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a trial has a handful of keys")]
fn covers(scope: &InvalidationScope, key: usize) -> bool {
    match scope {
        InvalidationScope::All => true,
        InvalidationScope::Key(name) => *name == key_name(key as TrialKey),
        InvalidationScope::Tag(tag) => tags_of(key as TrialKey).contains(tag),
    }
}

thread_local! {
    /// Names are shared, so that a state costs no more than its counters.
    static NAMES: (Vec<Arc<str>>, Vec<Arc<str>>) = (
        (0..=u8::MAX).map(|key| Arc::from(key.to_string())).collect(),
        vec![Arc::from("even"), Arc::from("odd")],
    );
}

pub(super) fn key_name(key: TrialKey) -> Arc<str> {
    NAMES.with(|names| Arc::clone(&names.0[usize::from(key)]))
}

/// Each key has one tag, which it shares with every other one.
pub(super) fn tags_of(key: TrialKey) -> Vec<Arc<str>> {
    NAMES.with(|names| vec![Arc::clone(&names.1[usize::from(key % 2)])])
}

/// A dataset's bytes: the source's version, and the plan that it was collected with.
pub(super) fn body_of(version: TrialVersion, plan: u8) -> Arc<[u8]> {
    version.to_le_bytes().into_iter().chain([plan]).collect()
}

/// The version and the plan in a dataset's bytes.
pub(super) fn version_in(body: &[u8]) -> (TrialVersion, u8) {
    (TrialVersion::from_le_bytes([body[0], body[1], body[2], body[3]]), body[4])
}
