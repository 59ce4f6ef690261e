//! jq's flag `l`: the longest match instead of the first alternative's.
//!
//! An automaton that does not end with the first match is run at each place of the text. That takes
//! time with the square of the text, so each place is charged, and the clock read, like a search of
//! its own.

use regex_automata::nfa::thompson::pikevm::{Cache, Config, PikeVM};
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use super::super::budget::{BudgetMeter, Flow};
use super::super::memory_count::HeldMemory;
use super::engine::{
    MAX_REGEX_BYTES, SearchCost, TOO_LONG, memory_to_compile, nfa_config, steps_to_compile,
};

/// The words of an automaton's state beside the ends of its groups.
const STATE_WORDS: usize = 4;

pub(super) struct LongestSearch {
    automaton: PikeVM,
    cache: Cache,
    states: usize,
    _held: HeldMemory,
}

impl LongestSearch {
    pub(super) fn of(
        pattern: &str,
        syntax: syntax::Config,
        meter: &mut BudgetMeter<'_>,
    ) -> Flow<Self> {
        meter.spend(steps_to_compile(pattern))?;
        meter.require_memory(memory_to_compile(pattern) + MAX_REGEX_BYTES)?;
        let config = Config::new().match_kind(MatchKind::All);
        let built = PikeVM::builder()
            .syntax(syntax)
            .thompson(nfa_config())
            .configure(config)
            .build(pattern);
        let automaton = built.map_err(|_| TOO_LONG)?;
        let states = automaton.get_nfa().states().len();
        let words = 2 * states * (automaton.get_nfa().group_info().slot_len() + STATE_WORDS);
        meter.require_memory(words * size_of::<usize>())?;
        let held = HeldMemory::of(MAX_REGEX_BYTES + words * size_of::<usize>());
        let cache = automaton.create_cache();
        Ok(Self { automaton, cache, states, _held: held })
    }

    /// The longest match of those that begin at `from` or later, the first of several.
    pub(super) fn find(
        &mut self,
        text: &str,
        from: usize,
        meter: &mut BudgetMeter<'_>,
    ) -> Flow<Option<Captures>> {
        let mut longest: Option<(usize, Captures)> = None;
        let mut found = self.automaton.create_captures();
        for at in (from..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            let left = text.len() - at;
            if longest.as_ref().is_some_and(|(len, _)| *len >= left) {
                break;
            }
            meter.search(32 + found.group_len() + left / 32)?;
            if !matches!(SearchCost::of(self.states, left), SearchCost::Short) {
                return Err(TOO_LONG);
            }
            let input = Input::new(text).range(at..).anchored(Anchored::Yes);
            self.automaton.search(&mut self.cache, &input, &mut found);
            let Some(whole) = found.get_match() else { continue };
            if longest.as_ref().is_none_or(|(len, _)| whole.len() > *len) {
                longest = Some((whole.len(), found.clone()));
            }
        }
        Ok(longest.map(|(_, found)| found))
    }
}
