//! The scripts that run inside Redis, and the commands that call them.
//!
//! [`crate::coherence::ReferenceServer`] is the reference for each script; a test compares them. A
//! script is one atomic step: Redis runs no other command meanwhile.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Script};

use super::redis_names::RedisNames;
use crate::coherence::{Epoch, Fence, InvalidationScope, LogLimits, ScriptCall, ScriptRequest};

/// How many entries and stamps this release keeps in Redis for each domain; the published script
/// has the same numbers in its text.
pub const LIMITS: LogLimits = LogLimits { entries_max: 10_000, stamps_max: 100_000 };

macro_rules! script {
    ($($part:literal),+) => {
        concat!($(include_str!(concat!("scripts/", $part, ".lua")), "\n"),+)
    };
}

const INVALIDATE: &str = script!("head", "registry", "invalidate");

/// The script that invalidates, for any program that can `EVAL`; its head says how to call it.
pub const fn invalidate_script() -> &'static str {
    INVALIDATE
}

/// All scripts, with their digests.
#[derive(Debug)]
pub struct Scripts {
    heartbeat: ScriptText,
    deregister: ScriptText,
    invalidate: ScriptText,
    progress: ScriptText,
    read_log: ScriptText,
    store: ScriptText,
    fetch: ScriptText,
    claim: ScriptText,
    release: ScriptText,
}

#[derive(Debug)]
struct ScriptText {
    text: String,
    digest: String,
}

/// One call of a script, ready to be sent.
#[derive(Debug)]
pub struct ScriptInvocation<'scripts> {
    script: &'scripts ScriptText,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl ScriptText {
    fn new(text: &str, limits: LogLimits) -> Self {
        let constants =
            |limits: LogLimits| format!("{}, {}", limits.entries_max, limits.stamps_max);
        let text = text.replace(&constants(LIMITS), &constants(limits));
        #[cfg(feature = "removable-guards")]
        let text = super::script_guards::without_removed(&text);
        Self { digest: Script::new(&text).get_hash().to_owned(), text }
    }
}

impl Scripts {
    /// The scripts, with these limits in their text.
    pub fn new(limits: LogLimits) -> Self {
        let text = |text| ScriptText::new(text, limits);
        Self {
            heartbeat: text(script!("head", "registry", "heartbeat")),
            deregister: text(script!("head", "registry", "deregister")),
            invalidate: text(INVALIDATE),
            progress: text(script!("head", "registry", "progress")),
            read_log: text(script!("head", "read_log")),
            store: text(script!("head", "dataset", "store")),
            fetch: text(script!("head", "dataset", "fetch")),
            claim: text(script!("head", "dataset", "claim")),
            release: text(script!("head", "release")),
        }
    }

    /// Prepares a request on the keys of a domain. A dataset or a claim that it stores expires
    /// after `ttl`.
    pub fn prepare(
        &self,
        names: &RedisNames,
        request: &ScriptRequest,
        ttl: Duration,
    ) -> ScriptInvocation<'_> {
        let mut invocation = ScriptInvocation {
            script: self.script(&request.call),
            keys: vec![names.meta(), names.log(), names.stamps()],
            args: vec![text(request.protocol), hex(request.fresh_epoch)],
        };
        invocation.fill(names, &request.call, ttl);
        invocation
    }

    fn script(&self, call: &ScriptCall) -> &ScriptText {
        match call {
            ScriptCall::Heartbeat(_) => &self.heartbeat,
            ScriptCall::Deregister(_) => &self.deregister,
            ScriptCall::Invalidate { .. } => &self.invalidate,
            ScriptCall::Progress { .. } => &self.progress,
            ScriptCall::ReadLog { .. } => &self.read_log,
            ScriptCall::Store { .. } => &self.store,
            ScriptCall::Fetch { .. } => &self.fetch,
            ScriptCall::Claim { .. } => &self.claim,
            ScriptCall::Release { .. } => &self.release,
        }
    }
}

impl ScriptInvocation<'_> {
    /// The call by the script's digest: short, but Redis may not know the script.
    pub fn evalsha(&self) -> Cmd {
        self.command("EVALSHA", &self.script.digest)
    }

    /// The call by the script's text, after which Redis knows the script.
    pub fn eval(&self) -> Cmd {
        self.command("EVAL", &self.script.text)
    }

    /// The key of the domain's log.
    pub(super) fn meta(&self) -> &str {
        &self.keys[0]
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys);
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }

    fn fill(&mut self, names: &RedisNames, call: &ScriptCall, ttl: Duration) {
        match call {
            ScriptCall::Heartbeat(beat) => {
                let applied = beat.applied.map_or_else(|| [vec![], vec![]], place_in_log);
                self.args([beat.name.0.as_bytes().to_vec(), millis(beat.lease)])
                    .args(applied)
                    .args([flag(beat.marks_settled)])
            }
            ScriptCall::Deregister(name) => self.args([name.0.as_bytes().to_vec()]),
            ScriptCall::Invalidate { scopes, unless_above } => {
                let above =
                    unless_above.map(|above| format!("{:032x}:{}", above.epoch.0, above.seq));
                self.args([above.unwrap_or_default().into_bytes()])
                    .args(scopes.iter().flat_map(kind_and_name))
            }
            ScriptCall::Progress { token, lease_has_passed, marks_settled, laggard } => {
                let laggard = laggard.as_ref().map(|name| name.0.as_bytes().to_vec());
                self.args(place_in_log(*token)).args([
                    flag(*lease_has_passed),
                    flag(*marks_settled),
                    laggard.unwrap_or_default(),
                ])
            }
            ScriptCall::ReadLog { after, max } => {
                self.args(place_in_log(*after)).args([text(*max as u128)])
            }
            ScriptCall::Store { place, dataset, age } => self
                .key(names.dataset(place))
                .args(place_in_log(dataset.fence))
                .args([millis(ttl), place.key.as_bytes().to_vec(), dataset.body.to_vec()])
                .args([text(age.as_millis())])
                .texts(&dataset.tags),
            ScriptCall::Fetch { place, bytes_max } => self
                .key(names.dataset(place))
                .args([place.key.as_bytes().to_vec(), text(*bytes_max)]),
            ScriptCall::Claim { place, holder, fence, bytes_max } => self
                .key(names.claim(place))
                .key(names.dataset(place))
                .args(place_in_log(*fence))
                .args([holder.0.as_bytes().to_vec(), millis(ttl), place.key.as_bytes().to_vec()])
                .args([bytes_max.map(text).unwrap_or_default()]),
            ScriptCall::Release { place, holder } => {
                self.key(names.claim(place)).args([holder.0.as_bytes().to_vec()])
            }
        };
    }

    fn key(&mut self, key: String) -> &mut Self {
        self.keys.push(key);
        self
    }

    fn args(&mut self, args: impl IntoIterator<Item = Vec<u8>>) -> &mut Self {
        self.args.extend(args);
        self
    }

    fn texts(&mut self, texts: &[Arc<str>]) -> &mut Self {
        self.args(texts.iter().map(|text| text.as_bytes().to_vec()))
    }
}

fn text(number: impl Into<u128>) -> Vec<u8> {
    number.into().to_string().into_bytes()
}

fn hex(epoch: Epoch) -> Vec<u8> {
    format!("{:032x}", epoch.0).into_bytes()
}

/// Milliseconds, rounded up, so that a lease is never registered shorter than it is. At least 1,
/// the shortest time to live that Redis accepts.
fn millis(span: Duration) -> Vec<u8> {
    text(span.as_nanos().div_ceil(1_000_000).max(1))
}

fn flag(is_set: bool) -> Vec<u8> {
    if is_set { b"1".to_vec() } else { Vec::new() }
}

fn place_in_log(fence: Fence) -> [Vec<u8>; 2] {
    [hex(fence.epoch), text(fence.seq)]
}

fn kind_and_name(scope: &InvalidationScope) -> [Vec<u8>; 2] {
    match scope {
        InvalidationScope::All => [b"all".to_vec(), Vec::new()],
        InvalidationScope::Key(key) => [b"key".to_vec(), key.as_bytes().to_vec()],
        InvalidationScope::Tag(tag) => [b"tag".to_vec(), tag.as_bytes().to_vec()],
    }
}

#[cfg(test)]
mod tests {
    use super::super::script_guards::IN_SCRIPTS;
    use super::*;

    #[test]
    fn every_script_says_how_much_it_keeps() {
        let few = LogLimits { entries_max: 3, stamps_max: 2 };
        assert!(invalidate_script().contains("ENTRIES_MAX, STAMPS_MAX = 10000, 100000\n"));
        assert!(Scripts::new(few).invalidate.text.contains("ENTRIES_MAX, STAMPS_MAX = 3, 2\n"));
    }

    #[test]
    fn a_lease_is_registered_no_shorter_than_it_is() {
        assert_eq!(millis(Duration::from_micros(1_500)), b"2");
        assert_eq!(millis(Duration::ZERO), b"1");
    }

    #[test]
    fn each_guard_of_the_scripts_stands_in_one_of_them() {
        let scripts = format!("{:?}", Scripts::new(LIMITS));
        for (guard, with, _) in IN_SCRIPTS {
            assert!(scripts.contains(with), "{guard:?}");
        }
    }
}
