//! Regular expressions.
//!
//! In the worst case a search takes time with the product of pattern and text, and cannot be
//! interrupted. A search whose worst case is short simply runs. For any other one an automaton is
//! used that gives up once it has built too much, so that no call takes longer than some
//! milliseconds; the clock is read between calls.

mod engine;
mod literal;
mod longest;

use regex_automata::util::captures::Captures;
use regex_automata::{Input, PatternID};

use std::rc::Rc;

use super::budget::{Flow, Stop, fault};
use super::eval::Evaluation;
use super::number::Num;
use super::text::string;
use super::value::{Arr, Obj, Text, Val};
use longest::LongestSearch;

use engine::{Compiled, INVALID, MAX_CLASSES, count_classes, memory_to_compile, steps_to_compile};

pub(super) use literal::{PatternProblem, check_pattern, unknown_flag};

/// No longer pattern is read.
const MAX_PATTERN_BYTES: usize = 4 * 1024;
/// No longer text is searched.
const MAX_SEARCHED_BYTES: usize = 256 * 1024;
/// How many patterns a run compiles.
const MAX_REGEXES: usize = 64;

/// The regular expressions of a run.
#[derive(Default)]
pub(super) struct Regexes(Vec<CachedRegex>);

/// A pattern that has been compiled.
struct CachedRegex {
    pattern: Text,
    flags: Text,
    /// `None` where it is not valid, and while it is used.
    compiled: Option<Box<Compiled>>,
}

/// A pattern ready to search `val`, with the flags of the search.
struct Search<'v> {
    /// Where the pattern stands among those of the run.
    at: usize,
    pattern: Text,
    compiled: Box<Compiled>,
    text: &'v str,
    all: bool,
    ignore_empty: bool,
    /// Where the longest match is wanted rather than the first alternative's.
    longest: Option<LongestSearch>,
}

impl<'v> Search<'v> {
    fn new(run: &mut Evaluation<'_>, val: &'v Val, pattern: &Val, flags: &Val) -> Flow<Self> {
        let text = string(val)?;
        let Val::Str(pattern) = pattern else {
            return fault(format!("cannot use {} as a regular expression", pattern.type_name()));
        };
        if text.len() > MAX_SEARCHED_BYTES {
            return fault(format!("the string to match has more than {MAX_SEARCHED_BYTES} bytes"));
        }
        let flags = match flags {
            Val::Null => Text::unmetered(""),
            Val::Str(flags) => flags.clone(),
            other => {
                return fault(format!(
                    "cannot use {} as the flags of a regular expression",
                    other.type_name()
                ));
            }
        };
        run.meter.touch(4 * flags.len())?;
        let all = flags.contains('g');
        let ignore_empty = flags.contains('n');
        let (at, compiled) = take_compiled(run, pattern, &flags)?;
        let longest = flags
            .contains('l')
            .then(|| LongestSearch::of(pattern, compiled.syntax, &mut run.meter));
        let longest = longest.transpose()?;
        Ok(Self { at, pattern: pattern.clone(), compiled, text, all, ignore_empty, longest })
    }

    /// Hands the compiled pattern back, for the next search.
    fn return_compiled(self, run: &mut Evaluation<'_>) {
        if let Some(known) = run.regexes.0.get_mut(self.at) {
            known.compiled = Some(self.compiled);
        }
    }

    /// Hands each match to `f`, charging for the text in between. As in jq, the search goes on at
    /// the end of a match, and one character later where the match was empty.
    fn for_each_match(
        &mut self,
        run: &mut Evaluation<'_>,
        mut f: impl FnMut(&mut Evaluation<'_>, &Captures) -> Flow,
    ) -> Flow {
        run.meter.search(self.text.len() + 1)?;
        let mut captures = self.compiled.regex.create_captures();
        let mut at = 0;
        while at <= self.text.len() {
            if let Some(longest) = &mut self.longest {
                let Some(found) = longest.find(self.text, at, &mut run.meter)? else {
                    return Ok(());
                };
                captures = found;
            } else {
                let input = Input::new(self.text).range(at..);
                self.compiled.captures(&self.pattern, &input, &mut captures, &mut run.meter)?;
            }
            let Some(whole) = captures.get_match() else { return Ok(()) };
            // The search for the next may look at all that is left.
            let left = self.text.len() - whole.end();
            run.meter.search(32 + captures.group_len() + left / 32)?;
            let next = self.text[whole.end()..].chars().next().map_or(1, char::len_utf8);
            at = if whole.is_empty() { whole.end() + next } else { whole.end() };
            if self.ignore_empty && whole.is_empty() {
                continue;
            }
            f(run, &captures)?;
            if !self.all {
                break;
            }
        }
        Ok(())
    }
}

/// Describes matches as jq does. Counts characters up to the start of each match, and from there to
/// its groups.
struct MatchDescriber<'v> {
    text: &'v str,
    byte: usize,
    count: usize,
}

impl MatchDescriber<'_> {
    fn describe_match(&mut self, run: &mut Evaluation<'_>, captures: &Captures) -> Flow<Val> {
        let mut groups = Arr::default();
        let mut whole = Obj::default();
        let names = captures.group_info().pattern_names(PatternID::ZERO);
        for (at, (group, name)) in captures.iter().zip(names).enumerate() {
            let mut found = Obj::with_capacity(5);
            let (offset, length, text) = match group {
                Some(span) => {
                    let text = &self.text[span.range()];
                    run.meter.touch(2 * (span.end - self.byte))?;
                    let offset = Num::count(self.count_chars_until(span.start, at == 0));
                    (offset, text.chars().count(), Val::Str(Text::of(&mut run.meter, text)?))
                }
                None => (Num::Int(-1), 0, Val::Null),
            };
            let name =
                name.filter(|_| at > 0).map(|name| Text::of(&mut run.meter, name)).transpose()?;
            let mut set =
                |key, val| found.insert(&mut run.meter, Text::unmetered(key), val).map(drop);
            set("offset", Val::Num(offset))?;
            set("length", Val::int(length))?;
            set("string", text)?;
            if at == 0 {
                whole = found;
                continue;
            }
            set("name", name.map_or(Val::Null, Val::Str))?;
            groups.push(&mut run.meter, Val::Obj(Rc::new(found)))?;
        }
        whole.insert(&mut run.meter, Text::unmetered("captures"), Val::Arr(Rc::new(groups)))?;
        run.meter.admit(Val::Obj(Rc::new(whole)))
    }

    fn count_chars_until(&mut self, byte: usize, whole: bool) -> usize {
        // A group that lies before its match is one of a look-behind, which the crate does not
        // have.
        let count = self.count
            + self.text.get(self.byte..byte).map_or(0, |between| between.chars().count());
        if whole {
            self.byte = byte;
            self.count = count;
        }
        count
    }
}

/// The compiled pattern and its place among those of the run, from where it is taken while it is
/// used.
fn take_compiled(
    run: &mut Evaluation<'_>,
    pattern: &Text,
    flags: &Text,
) -> Flow<(usize, Box<Compiled>)> {
    if pattern.len() > MAX_PATTERN_BYTES || count_classes(pattern) > MAX_CLASSES {
        return fault(INVALID);
    }
    run.meter.spend(10)?;
    run.meter.touch(pattern.len())?;
    let is_same = |known: &CachedRegex| *known.pattern == **pattern && *known.flags == **flags;
    let at = if let Some(at) = run.regexes.0.iter().position(is_same) {
        at
    } else {
        if run.regexes.0.len() >= MAX_REGEXES {
            return Err(Stop::Spent("uses more than 64 regular expressions"));
        }
        run.meter.spend(steps_to_compile(pattern))?;
        run.meter.require_memory(memory_to_compile(pattern))?;
        let compiled = Compiled::of(pattern, flags)?;
        run.meter.require_memory(0)?;
        run.regexes.0.push(CachedRegex {
            pattern: pattern.clone(),
            flags: flags.clone(),
            compiled,
        });
        run.regexes.0.len() - 1
    };
    match run.regexes.0[at].compiled.take() {
        Some(compiled) => Ok((at, compiled)),
        None => fault(INVALID),
    }
}

/// `val | test(pattern; flags)`.
pub(super) fn test(run: &mut Evaluation<'_>, val: &Val, pattern: &Val, flags: &Val) -> Flow<Val> {
    let mut search = Search::new(run, val, pattern, flags)?;
    let found = if search.ignore_empty {
        let mut found = false;
        search.for_each_match(run, |_, _| {
            found = true;
            Ok(())
        })?;
        found
    } else {
        run.meter.search(search.text.len() / 8 + 1)?;
        search.compiled.is_match(&search.pattern, search.text, &mut run.meter)?
    };
    search.return_compiled(run);
    Ok(Val::Bool(found))
}

/// All matches of a pattern, as an array.
pub(super) fn matches(
    run: &mut Evaluation<'_>,
    val: &Val,
    pattern: &Val,
    flags: &Val,
) -> Flow<Val> {
    let mut search = Search::new(run, val, pattern, flags)?;
    let mut describe = MatchDescriber { text: search.text, byte: 0, count: 0 };
    let mut found = Arr::default();
    search.for_each_match(run, |run, captures| {
        let described = describe.describe_match(run, captures)?;
        found.push(&mut run.meter, described)
    })?;
    search.return_compiled(run);
    Ok(Val::Arr(Rc::new(found)))
}

/// The texts of the named groups of all matches, as an array of objects.
pub(super) fn named_groups(
    run: &mut Evaluation<'_>,
    val: &Val,
    pattern: &Val,
    flags: &Val,
) -> Flow<Val> {
    let mut search = Search::new(run, val, pattern, flags)?;
    let text = search.text;
    let mut found = Arr::default();
    search.for_each_match(run, |run, captures| {
        let groups = group_values(run, text, captures)?;
        found.push(&mut run.meter, groups)
    })?;
    search.return_compiled(run);
    Ok(Val::Arr(Rc::new(found)))
}

/// The text between matches as strings, and the named groups of the matches between them.
pub(super) fn split_with_groups(
    run: &mut Evaluation<'_>,
    val: &Val,
    pattern: &Val,
    flags: &Val,
) -> Flow<Val> {
    let search = Search::new(run, val, pattern, flags)?;
    let text = search.text;
    split_matches(run, search, |run, captures| group_values(run, text, captures).map(Some))
}

/// The texts of the named groups of a match; null for a group that took no part in it.
fn group_values(run: &mut Evaluation<'_>, text: &str, captures: &Captures) -> Flow<Val> {
    let mut groups = Obj::default();
    let names = captures.group_info().pattern_names(PatternID::ZERO);
    for (group, name) in captures.iter().zip(names) {
        run.meter.spend(1)?;
        let Some(name) = name else { continue };
        let name = Text::of(&mut run.meter, name)?;
        let held = match group {
            Some(span) => Val::Str(Text::of(&mut run.meter, &text[span.range()])?),
            None => Val::Null,
        };
        groups.insert(&mut run.meter, name, held)?;
    }
    run.meter.admit(Val::Obj(Rc::new(groups)))
}

/// `val | split(pattern; flags)`.
pub(super) fn split_at_matches(
    run: &mut Evaluation<'_>,
    val: &Val,
    pattern: &Val,
    flags: &Val,
) -> Flow<Val> {
    let mut search = Search::new(run, val, pattern, flags)?;
    search.all = true;
    split_matches(run, search, |_, _| Ok(None))
}

/// The texts between matches, with the result of `f` for each match.
fn split_matches(
    run: &mut Evaluation<'_>,
    mut search: Search<'_>,
    mut f: impl FnMut(&mut Evaluation<'_>, &Captures) -> Flow<Option<Val>>,
) -> Flow<Val> {
    let text = search.text;
    let mut parts = Arr::default();
    let mut done = 0;
    search.for_each_match(run, |run, captures| {
        let Some(whole) = captures.get_match() else { return Ok(()) };
        let before = Text::of(&mut run.meter, &text[done..whole.start()])?;
        parts.push(&mut run.meter, Val::Str(before))?;
        if let Some(val) = f(run, captures)? {
            parts.push(&mut run.meter, val)?;
        }
        done = whole.end();
        Ok(())
    })?;
    search.return_compiled(run);
    let rest = Text::of(&mut run.meter, &text[done..])?;
    parts.push(&mut run.meter, Val::Str(rest))?;
    Ok(Val::Arr(Rc::new(parts)))
}
