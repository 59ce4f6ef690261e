//! Regular expressions.
//!
//! A search takes linear time, but linear in the product of pattern and text: both are bounded, the text is charged to
//! the meter at each search, and no further search begins once searching has gone on for too long.

use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};

use super::eval::Run;
use super::meter::{Flow, Stop, fault};
use super::number::Num;
use super::text::string;
use super::value::{Arr, Obj, SLOT_BYTES, Val};

/// No pattern compiles to more.
const MAX_REGEX_BYTES: usize = 256 * 1024;
/// No longer text is searched.
const MAX_SEARCHED_BYTES: usize = 256 * 1024;
/// How many compiled patterns a run keeps, and how many it compiles.
const MAX_REGEXES: usize = 64;
/// What compiling a pattern is worth in steps.
const REGEX_STEPS: u64 = 2_000;

/// A pattern ready to search `val`, and what its flags mean for the search.
struct Search<'v> {
    regex: Regex,
    text: &'v str,
    all: bool,
    ignore_empty: bool,
}

impl<'v> Search<'v> {
    fn new(run: &mut Run<'_>, val: &'v Val, pattern: &Val, flags: &Val) -> Flow<Self> {
        let (text, Val::Str(pattern)) = (string(val)?, pattern) else {
            return fault(format!("cannot use {} as a regular expression", pattern.type_name()));
        };
        if text.len() > MAX_SEARCHED_BYTES {
            return fault(format!("the string to match has more than {MAX_SEARCHED_BYTES} bytes"));
        }
        let flags: Arc<str> = match flags {
            Val::Null => "".into(),
            Val::Str(flags) => flags.clone(),
            other => return fault(format!("cannot use {} as the flags of a regular expression", other.type_name())),
        };
        let (all, ignore_empty) = (flags.contains('g'), flags.contains('n'));
        let regex = compiled(run, pattern, &flags)?;
        Ok(Self { regex, text, all, ignore_empty })
    }

    /// Hands each match to `f`, charging for what lay between.
    fn each(&self, run: &mut Run<'_>, mut f: impl FnMut(&mut Run<'_>, &Captures<'v>) -> Flow) -> Flow {
        run.meter.search(self.text.len() + 1)?;
        for captures in self.regex.captures_iter(self.text) {
            // The search for the next may look at all that is left.
            let left = self.text.len() - captures.get(0).map_or(0, |whole| whole.end());
            run.meter.search(32 + captures.len() + left / 32)?;
            run.meter.alloc(captures.len() as u64 * 16)?;
            if self.ignore_empty && captures.get(0).is_none_or(|whole| whole.is_empty()) {
                continue;
            }
            f(run, &captures)?;
            if !self.all {
                break;
            }
        }
        Ok(())
    }

    /// A match as jq describes it.
    fn describe(&self, run: &mut Run<'_>, captures: &Captures<'v>, chars: &mut Chars<'v>) -> Flow<Val> {
        let mut groups = Arr::default();
        let mut whole = Obj::default();
        for (at, (group, name)) in captures.iter().zip(self.regex.capture_names()).enumerate() {
            let mut found = Obj::default();
            let (offset, length, text) = match group {
                Some(m) => {
                    (Num::count(chars.until(m.start(), at == 0)), m.as_str().chars().count(), Val::str(m.as_str()))
                }
                None => (Num::Int(-1), 0, Val::Null),
            };
            run.meter.alloc(256 + group.map_or(0, |m| (m.end() - chars.byte) as u64))?;
            run.set_member(&mut found, &Val::str("offset"), Val::Num(offset))?;
            run.set_member(&mut found, &Val::str("length"), Val::int(length))?;
            run.set_member(&mut found, &Val::str("string"), text)?;
            if at == 0 {
                whole = found;
                continue;
            }
            run.set_member(&mut found, &Val::str("name"), name.map_or(Val::Null, Val::str))?;
            groups.push(Val::Obj(Arc::new(found)));
        }
        run.set_member(&mut whole, &Val::str("captures"), Val::Arr(Arc::new(groups)))?;
        Ok(Val::Obj(Arc::new(whole)))
    }
}

/// Counts characters up to the start of each match, and from there to its groups.
struct Chars<'v> {
    text: &'v str,
    byte: usize,
    count: usize,
}

impl Chars<'_> {
    fn until(&mut self, byte: usize, whole: bool) -> usize {
        // A group that lies before its match is one of a look-behind, which the crate does not have.
        let count = self.count + self.text.get(self.byte..byte).map_or(0, |between| between.chars().count());
        if whole {
            (self.byte, self.count) = (byte, count);
        }
        count
    }
}

fn compiled(run: &mut Run<'_>, pattern: &Arc<str>, flags: &Arc<str>) -> Flow<Regex> {
    let key = (pattern.clone(), flags.clone());
    if let Some(regex) = run.regexes.get(&key) {
        run.meter.spend(10)?;
        return Ok(regex.clone());
    }
    if run.regexes.len() >= MAX_REGEXES {
        return Err(Stop::Spent("uses more than 64 regular expressions"));
    }
    run.meter.spend(REGEX_STEPS + pattern.len() as u64 * 20)?;
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES * 4).nest_limit(50);
    for flag in flags.chars() {
        match flag {
            'g' | 'n' => (),
            'i' => drop(builder.case_insensitive(true)),
            'x' => drop(builder.ignore_whitespace(true)),
            's' => drop(builder.dot_matches_new_line(true)),
            'l' => drop(builder.swap_greed(true)),
            'p' => drop(builder.multi_line(true).dot_matches_new_line(true)),
            _ => return fault("unknown flag of a regular expression"),
        }
    }
    let Ok(regex) = builder.build() else { return fault("the regular expression is not valid, or too large") };
    run.meter.alloc(MAX_REGEX_BYTES as u64 / 4)?;
    run.regexes.insert(key, regex.clone());
    Ok(regex)
}

/// `val | test(pattern; flags)`.
pub(super) fn test(run: &mut Run<'_>, val: &Val, pattern: &Val, flags: &Val) -> Flow<Val> {
    let search = Search::new(run, val, pattern, flags)?;
    if search.ignore_empty {
        let mut found = false;
        search.each(run, |_, _| {
            found = true;
            Ok(())
        })?;
        return Ok(Val::Bool(found));
    }
    run.meter.search(search.text.len() / 8 + 1)?;
    Ok(Val::Bool(search.regex.is_match(search.text)))
}

/// All matches of a pattern, as an array.
pub(super) fn matches(run: &mut Run<'_>, val: &Val, pattern: &Val, flags: &Val) -> Flow<Val> {
    let search = Search::new(run, val, pattern, flags)?;
    let mut chars = Chars { text: search.text, byte: 0, count: 0 };
    let mut found = Arr::default();
    search.each(run, |run, captures| {
        run.meter.alloc(SLOT_BYTES)?;
        found.push(search.describe(run, captures, &mut chars)?);
        Ok(())
    })?;
    Ok(Val::Arr(Arc::new(found)))
}

/// The text between matches as strings, and the matches between them as objects.
pub(super) fn cut(run: &mut Run<'_>, val: &Val, pattern: &Val, flags: &Val) -> Flow<Val> {
    let search = Search::new(run, val, pattern, flags)?;
    let mut chars = Chars { text: search.text, byte: 0, count: 0 };
    let mut parts = Arr::default();
    let mut done = 0;
    search.each(run, |run, captures| {
        let Some(whole) = captures.get(0) else { return Ok(()) };
        run.meter.alloc(2 * SLOT_BYTES + (whole.start() - done) as u64)?;
        parts.push(Val::str(&search.text[done..whole.start()]));
        parts.push(search.describe(run, captures, &mut chars)?);
        done = whole.end();
        Ok(())
    })?;
    parts.push(Val::str(&search.text[done..]));
    Ok(Val::Arr(Arc::new(parts)))
}

/// `val | split(pattern; flags)`.
pub(super) fn split_at_matches(run: &mut Run<'_>, val: &Val, pattern: &Val, flags: &Val) -> Flow<Val> {
    let mut search = Search::new(run, val, pattern, flags)?;
    search.all = true;
    let mut parts = Arr::default();
    let mut done = 0;
    search.each(run, |run, captures| {
        let Some(whole) = captures.get(0) else { return Ok(()) };
        run.meter.alloc(SLOT_BYTES + (whole.start() - done) as u64)?;
        parts.push(Val::str(&search.text[done..whole.start()]));
        done = whole.end();
        Ok(())
    })?;
    parts.push(Val::str(&search.text[done..]));
    Ok(Val::Arr(Arc::new(parts)))
}
