//! One compiled pattern: its costs, and the engines that search with it.

use regex_automata::hybrid::{dfa, regex as lazy};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson;
use regex_automata::util::captures::Captures;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, Match, MatchError, MatchErrorKind, PatternID};

use super::super::budget::{BudgetMeter, Flow, Stop, fault};
use super::super::memory_count::HeldMemory;

/// No pattern compiles to more.
pub(super) const MAX_REGEX_BYTES: usize = 256 * 1024;
/// No pattern names more classes of characters (`\w`, `\pL`, `[…]`): each may be thousands of
/// ranges, which are there before anything else is bounded.
pub(super) const MAX_CLASSES: usize = 64;
/// The steps of a character class, for the largest one without case.
const CLASS_STEPS: u64 = 4_000;
/// The steps of compiling a pattern.
const REGEX_STEPS: u64 = 2_000;
/// States of a pattern times bytes of a text that may be searched at once: at its worst about 12 ns
/// each.
const SHORT_STATE_BYTES: usize = 2_000_000;
/// The same where there is no other way.
const LONG_STATE_BYTES: usize = 4 * SHORT_STATE_BYTES;
/// The memory of an automaton that builds its states as it needs them.
const MAX_AUTOMATON_BYTES: usize = 512 * 1024;
/// The memory of a character class while a pattern is compiled, for the largest one without case.
const CLASS_BYTES: usize = 64 * 1024;
/// The memory of a byte of a pattern while it is parsed: `()` becomes a node of a tree, and one of
/// another tree.
const PARSED_BYTES: usize = 512;
/// The least memory of a state of a compiled pattern.
const STATE_BYTES: usize = 16;
/// No pattern has more groups, the whole match among them: a search for groups keeps a place for
/// both ends of each group in each state, and copies them from state to state.
pub(super) const MAX_GROUPS: usize = 32;
/// So many ends of groups are copied in the time in which a state is looked at.
const ENDS_A_STATE: usize = 16;

/// The message for an invalid pattern. A run's message quotes nothing of the pattern: it may be
/// data.
pub(super) const INVALID: &str = "the regular expression is not valid, or too large";
const TOO_MANY_GROUPS: &str = "the regular expression has more than 31 groups";
const UNKNOWN_FLAG: &str = "unknown flag of a regular expression";
const _: () = assert!(MAX_GROUPS == 32, "the message says so");

pub(super) struct Compiled {
    pub(super) regex: Regex,
    cache: meta::Cache,
    /// At most so many states can be alive at each byte of a text.
    states: usize,
    pub(super) syntax: syntax::Config,
    /// For searches that would take too long in the worst case; built when it is needed.
    automaton: Option<Automaton>,
    /// The memory of the cache of `regex` when it was last measured.
    cache_bytes: usize,
    held: HeldMemory,
}

/// The configuration for jq's flags, or the flag that does not exist.
///
/// `g`, `n` and `l` are of the search. jq's `s` is the default of its dialect, and `p` and `m` let
/// `.` match the end of a line.
pub(super) fn syntax_config(flags: &str) -> Result<syntax::Config, char> {
    let mut syntax = syntax::Config::new().nest_limit(50);
    for flag in flags.chars() {
        syntax = match flag {
            'g' | 'n' | 'l' | 's' => syntax,
            'i' => syntax.case_insensitive(true),
            'x' => syntax.ignore_whitespace(true),
            'p' | 'm' => syntax.dot_matches_new_line(true),
            other => return Err(other),
        };
    }
    Ok(syntax)
}

/// How an automaton is made of a pattern.
pub(super) fn nfa_config() -> thompson::Config {
    thompson::Config::new().nfa_size_limit(Some(MAX_REGEX_BYTES))
}

/// Compiles a pattern; an error's text holds parts of the pattern.
pub(super) fn compile_regex(pattern: &str, syntax: syntax::Config) -> Result<Regex, String> {
    if pattern.contains("\\k<") {
        return Err("backreferences are not supported".to_owned());
    }
    if has_possessive(pattern) {
        return Err("possessive quantifiers are not supported".to_owned());
    }
    let config = meta::Config::new()
        .nfa_size_limit(Some(MAX_REGEX_BYTES))
        .onepass_size_limit(Some(MAX_REGEX_BYTES))
        // The backtracking engine's stack may take tens of megabytes, unbounded and uncounted.
        .backtrack(false)
        .hybrid_cache_capacity(MAX_AUTOMATON_BYTES);
    Regex::builder().configure(config).syntax(syntax).build(pattern).map_err(|error| {
        if error.size_limit().is_some() {
            return format!("it takes more than {MAX_REGEX_BYTES} bytes once it is compiled");
        }
        // The error has several lines: the pattern, a mark under it, and the reason.
        let reason = error.syntax_error().map(ToString::to_string).unwrap_or_default();
        reason
            .rsplit_once("error: ")
            .map_or_else(|| "it cannot be compiled".to_owned(), |(_, why)| why.to_owned())
    })
}

/// Whether a quantifier has a `+` after it, which would silently mean something else here.
fn has_possessive(pattern: &str) -> bool {
    let mut bytes = pattern.bytes();
    // Classes nest: `[a[:alpha:]]`.
    let mut classes = 0_usize;
    let mut before = b' ';
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'[' => classes += 1,
            b']' => classes = classes.saturating_sub(1),
            b'+' if classes == 0 && matches!(before, b'*' | b'+' | b'?') => return true,
            _ => (),
        }
        // A `?` after an opening bracket is no quantifier: `(?+`.
        before = if before == b'(' { b' ' } else { byte };
    }
    false
}

struct Automaton {
    regex: lazy::Regex,
    cache: lazy::Cache,
}

pub(super) const TOO_LONG: Stop = Stop::Spent("searches a text for longer than a run may");

impl Compiled {
    pub(super) fn of(pattern: &str, flags: &str) -> Flow<Option<Box<Self>>> {
        let Ok(syntax) = syntax_config(flags) else { return fault(UNKNOWN_FLAG) };
        let Ok(regex) = compile_regex(pattern, syntax) else { return Ok(None) };
        if regex.captures_len() > MAX_GROUPS {
            return fault(TOO_MANY_GROUPS);
        }
        let cache = regex.create_cache();
        let states = regex.memory_usage() / STATE_BYTES;
        let held = HeldMemory::default();
        let mut compiled =
            Self { regex, cache, states, syntax, automaton: None, cache_bytes: 0, held };
        compiled.count_memory();
        Ok(Some(Box::new(compiled)))
    }

    /// Counts the memory of the pattern and of its caches.
    fn count_memory(&mut self) {
        let automaton = self.automaton.as_ref().map_or(0, |automaton| {
            let dfas =
                automaton.regex.forward().memory_usage() + automaton.regex.reverse().memory_usage();
            // Both with the programs that they were built from.
            dfas + 2 * MAX_REGEX_BYTES + automaton.cache.memory_usage()
        });
        self.cache_bytes = self.cache.memory_usage();
        self.held.set(size_of::<Self>() + self.regex.memory_usage() + self.cache_bytes + automaton);
    }

    /// Reserves the memory that a search may add to the cache: two automata, and for each state the
    /// ends of its groups, twice, with the list of states still to be visited.
    fn require_cache_memory(&self, meter: &mut BudgetMeter<'_>) -> Flow {
        let ends = self.regex.group_info().slot_len();
        let most = 2 * MAX_AUTOMATON_BYTES
            + self.states.saturating_mul(2 * size_of::<usize>() * (ends + 4));
        meter.require_memory(most.saturating_sub(self.cache_bytes))
    }

    /// How many bytes it would take as long to look at without groups as so many with them.
    fn group_weighted_bytes(&self, bytes: usize) -> usize {
        bytes.saturating_mul(1 + self.regex.group_info().slot_len() / ENDS_A_STATE)
    }

    /// How long a search through so many bytes may take; where that is too long, there is an
    /// automaton.
    fn search_cost(
        &mut self,
        pattern: &str,
        bytes: usize,
        meter: &mut BudgetMeter<'_>,
    ) -> Flow<SearchCost> {
        let cost = SearchCost::of(self.states, bytes);
        if matches!(cost, SearchCost::Short) || self.automaton.is_some() {
            return Ok(cost);
        }
        meter.spend(steps_to_compile(pattern))?;
        meter.require_memory(
            memory_to_compile(pattern) + MAX_REGEX_BYTES + 2 * MAX_AUTOMATON_BYTES,
        )?;
        let config = dfa::Config::new()
            .cache_capacity(MAX_AUTOMATON_BYTES)
            .skip_cache_capacity_check(true)
            .unicode_word_boundary(true)
            .minimum_cache_clear_count(Some(2));
        let nfa = nfa_config();
        let groups = self.regex.captures_len() > 1;
        let built = lazy::Regex::builder()
            .syntax(self.syntax)
            .thompson(nfa.clone())
            .dfa(config)
            .build(pattern);
        let regex = built.map_err(|_| TOO_LONG)?;
        let states = if groups {
            // The automaton has none for groups, of which a repetition has as many as it repeats.
            let nfa = thompson::Compiler::new().syntax(self.syntax).configure(nfa).build(pattern);
            nfa.map_err(|_| TOO_LONG)?.states().len()
        } else {
            regex.forward().get_nfa().states().len()
        };
        self.states = self.states.min(states);
        let cache = regex.create_cache();
        self.automaton = Some(Automaton { regex, cache });
        self.count_memory();
        Ok(SearchCost::of(self.states, bytes))
    }

    pub(super) fn is_match(
        &mut self,
        pattern: &str,
        text: &str,
        meter: &mut BudgetMeter<'_>,
    ) -> Flow<bool> {
        let input = Input::new(text).earliest(true);
        let cost = self.search_cost(pattern, text.len(), meter)?;
        let found = match &mut self.automaton {
            Some(automaton) if !matches!(cost, SearchCost::Short) => {
                let cache = automaton.cache.as_parts_mut().0;
                automaton.regex.forward().try_search_fwd(cache, &input).map(|found| found.is_some())
            }
            _ => {
                self.require_cache_memory(meter)?;
                Ok(self.regex.is_match_with(&mut self.cache, &input))
            }
        };
        let found = found.or_else(|error| {
            cost.check_fallback(&error)?;
            self.require_cache_memory(meter)?;
            Ok(self.regex.is_match_with(&mut self.cache, &input))
        })?;
        self.count_memory();
        Ok(found)
    }

    pub(super) fn captures(
        &mut self,
        pattern: &str,
        input: &Input<'_>,
        found: &mut Captures,
        meter: &mut BudgetMeter<'_>,
    ) -> Flow {
        let cost =
            self.search_cost(pattern, self.group_weighted_bytes(input.get_span().len()), meter)?;
        let whole = match &mut self.automaton {
            Some(automaton) if !matches!(cost, SearchCost::Short) => {
                Some(automaton.regex.try_search(&mut automaton.cache, input))
            }
            _ => None,
        };
        self.require_cache_memory(meter)?;
        match whole {
            None => self.regex.search_captures_with(&mut self.cache, input, found),
            Some(Ok(None)) => found.clear(),
            Some(Ok(Some(whole))) => self.find_groups(input, &whole, found)?,
            Some(Err(error)) => {
                cost.check_fallback(&error)?;
                self.regex.search_captures_with(&mut self.cache, input, found);
            }
        }
        self.count_memory();
        Ok(())
    }

    /// Finds the groups of a match.
    fn find_groups(&mut self, input: &Input<'_>, whole: &Match, found: &mut Captures) -> Flow {
        if self.regex.captures_len() == 1 {
            found.set_pattern(Some(PatternID::ZERO));
            if let [start, end, ..] = found.slots_mut() {
                *start = NonMaxUsize::new(whole.start());
                *end = NonMaxUsize::new(whole.end());
            }
            return Ok(());
        }
        if matches!(
            SearchCost::of(self.states, self.group_weighted_bytes(whole.len())),
            SearchCost::TooLong
        ) {
            return Err(TOO_LONG);
        }
        let within = input.clone().span(whole.range()).anchored(Anchored::Yes);
        self.regex.search_captures_with(&mut self.cache, &within, found);
        Ok(())
    }
}

/// How long a search takes where it is at its worst.
pub(super) enum SearchCost {
    /// Some milliseconds.
    Short,
    /// Too long for an uninterruptible search, but not for cases that the automaton cannot do: word
    /// boundaries where a text is not ASCII, and the groups of a match.
    Long,
    TooLong,
}

impl SearchCost {
    pub(super) fn of(states: usize, bytes: usize) -> Self {
        let work = states.saturating_mul(bytes);
        if work <= SHORT_STATE_BYTES {
            Self::Short
        } else if work <= LONG_STATE_BYTES {
            Self::Long
        } else {
            Self::TooLong
        }
    }

    /// Whether to search without the automaton, which has ended with `error`.
    fn check_fallback(&self, error: &MatchError) -> Flow {
        match (self, error.kind()) {
            (Self::Long, MatchErrorKind::Quit { .. }) => Ok(()),
            _ => Err(TOO_LONG),
        }
    }
}

/// The steps of compiling a pattern.
pub(super) fn steps_to_compile(pattern: &str) -> u64 {
    REGEX_STEPS + pattern.len() as u64 * 20 + count_classes(pattern) as u64 * CLASS_STEPS
}

/// The most memory that a pattern takes while it is compiled.
pub(super) fn memory_to_compile(pattern: &str) -> usize {
    2 * MAX_REGEX_BYTES + pattern.len() * PARSED_BYTES + count_classes(pattern) * CLASS_BYTES
}

/// How many classes of characters a pattern may name, at most.
pub(super) fn count_classes(pattern: &str) -> usize {
    let mut bytes = pattern.bytes();
    let mut classes = 0;
    while let Some(byte) = bytes.next() {
        let named = byte == b'\\'
            && bytes.next().is_some_and(|b| {
                matches!(b, b'p' | b'P' | b'w' | b'W' | b'd' | b'D' | b's' | b'S')
            });
        classes += usize::from(named || byte == b'[');
    }
    classes
}
