//! JSON text in and out of values.
//!
//! Reads exactly RFC 8259, no deeper than a value may be; numbers keep their text. Writes compact JSON within a bound on
//! its bytes. Both pay as they go.

use std::borrow::Cow;
use std::rc::Rc;

use super::RunErrorKind;
use super::buffer::{Buffer, Pile};
use super::meter::{Flow, MAX_DEPTH, Meter, Stop, fault};
use super::number::Num;
use super::object::Member;
use super::value::{Arr, Obj, Text, Val};

/// What reading a byte costs, in units of work.
const READ: u64 = 4;
/// What it costs more where there are escapes.
const ESCAPED: u64 = 4;

/// Reads one JSON text; `None` where it is not JSON or nested too deeply.
pub(super) fn read(meter: &mut Meter<'_>, text: &[u8]) -> Flow<Option<Val>> {
    meter.touch(text.len())?;
    let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
    let mut reader =
        Reader { text, at: 0, charged: 0, meter, items: Pile::default(), members: Pile::default(), keys: Vec::new() };
    match reader.whole() {
        Ok(val) => Ok(Some(val)),
        Err(Unread::NotJson) => Ok(None),
        Err(Unread::Stopped(stop)) => Err(stop),
    }
}

/// Why a text gave no value.
enum Unread {
    /// It is not JSON, or nested too deeply.
    NotJson,
    /// The run ends.
    Stopped(Stop),
}

type Read<T> = Result<T, Unread>;

impl From<Stop> for Unread {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

/// The longest key that is looked for among those that came before.
const SHARED_KEY_BYTES: usize = 64;
/// How many keys are remembered: as many as an integer has bits.
const SHARED_KEYS: usize = 64;

struct Reader<'t, 'm, 'b> {
    text: &'t str,
    at: usize,
    /// Up to where reading has been charged.
    charged: usize,
    meter: &'m mut Meter<'b>,
    items: Pile<Val>,
    members: Pile<Member>,
    /// Keys that came before: most objects have those of another one.
    keys: Vec<Option<Text>>,
}

impl<'t> Reader<'t, '_, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        // Mostly there is none.
        if self.peek().is_some_and(|byte| byte > b' ') {
            return;
        }
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The next byte, which there must be.
    #[inline]
    fn next(&self) -> Read<u8> {
        self.peek().ok_or(Unread::NotJson)
    }

    fn word(&mut self, word: &str, val: Val) -> Read<Val> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_json(found)?;
        Ok(val)
    }

    /// Charges for what was read since the last time.
    #[inline]
    fn charge(&mut self) -> Flow {
        self.meter.work(READ * (self.at - self.charged) as u64)?;
        self.charged = self.at;
        Ok(())
    }

    /// The value that is all of the text.
    fn whole(&mut self) -> Read<Val> {
        let val = self.value(0)?;
        self.space();
        is_json(self.at == self.text.len())?;
        self.charge()?;
        Ok(val)
    }

    fn value(&mut self, depth: u32) -> Read<Val> {
        self.charge()?;
        self.space();
        match self.next()? {
            b'n' => self.word("null", Val::Null),
            b't' => self.word("true", Val::Bool(true)),
            b'f' => self.word("false", Val::Bool(false)),
            b'"' => {
                let text = self.string()?;
                Ok(Val::Str(Text::of(self.meter, &text)?))
            }
            b'[' if depth < MAX_DEPTH => self.array(depth + 1),
            b'{' if depth < MAX_DEPTH => self.object(depth + 1),
            b'-' | b'0'..=b'9' => {
                let number = self.number()?;
                Ok(Val::Num(Num::metered(number, self.meter)?))
            }
            _ => Err(Unread::NotJson),
        }
    }

    fn array(&mut self, depth: u32) -> Read<Val> {
        self.at += 1;
        let start = self.items.len();
        if !self.eat(b']') {
            loop {
                let item = self.value(depth)?;
                self.items.push_paid(self.meter, item)?;
                if self.eat(b']') {
                    break;
                }
                is_json(self.eat(b','))?;
            }
        }
        let items = self.items.take(self.meter, start)?;
        Ok(Val::Arr(Rc::new(Arr::of(items))))
    }

    fn object(&mut self, depth: u32) -> Read<Val> {
        self.at += 1;
        let start = self.members.len();
        // Where keys stand among those that are remembered: no two that are equal stand at two places.
        let mut seen = 0_u64;
        let mut maybe_repeats = false;
        if !self.eat(b'}') {
            loop {
                self.space();
                is_json(self.peek() == Some(b'"'))?;
                let key = self.string()?;
                let place = key_place(&key);
                maybe_repeats |= seen & 1 << place != 0;
                seen |= 1 << place;
                let key = self.key(&key, place)?;
                is_json(self.eat(b':'))?;
                let val = self.value(depth)?;
                self.members.push_paid(self.meter, (key, val))?;
                if self.eat(b'}') {
                    break;
                }
                is_json(self.eat(b','))?;
            }
        }
        let members = self.members.take(self.meter, start)?;
        Ok(Val::Obj(Rc::new(Obj::of(self.meter, members, maybe_repeats)?)))
    }

    /// A key's text, shared with an equal key where one came before.
    #[inline]
    fn key(&mut self, text: &str, place: usize) -> Flow<Text> {
        if let Some(Some(known)) = self.keys.get(place)
            && **known == *text
        {
            return Ok(known.clone());
        }
        self.new_key(text, place)
    }

    fn new_key(&mut self, text: &str, place: usize) -> Flow<Text> {
        let key = Text::of(self.meter, text)?;
        if self.keys.is_empty() {
            self.meter.room(SHARED_KEYS * size_of::<Option<Text>>())?;
            self.keys.resize_with(SHARED_KEYS, || None);
        }
        if text.len() <= SHARED_KEY_BYTES {
            self.keys[place] = Some(key.clone());
        }
        Ok(key)
    }

    fn number(&mut self) -> Read<&'t str> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.next()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        is_json(self.at > start)
    }

    #[inline]
    fn string(&mut self) -> Read<Cow<'t, str>> {
        self.at += 1;
        let start = self.at;
        self.plain()?;
        let plain = &self.text[start..self.at];
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.escaped_string(plain).map(Cow::Owned)
    }

    /// The string that begins with `plain`, after which there is an escape.
    #[cold]
    fn escaped_string(&mut self, plain: &str) -> Read<String> {
        let rest = self.string_rest();
        self.meter.touch(rest)?;
        self.meter.work(ESCAPED * rest as u64)?;
        let longest = plain.len() + rest;
        // For this copy, and for the value that will be made of it.
        self.meter.room(2 * longest)?;
        let mut out = String::with_capacity(longest);
        out.push_str(plain);
        self.escapes(&mut out)?;
        Ok(out)
    }

    /// At most so many bytes are left of a string; an escape is longer than what it stands for.
    fn string_rest(&self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let mut at = 0;
        while let Some(byte) = rest.get(at).filter(|byte| **byte != b'"') {
            at += if *byte == b'\\' { 2 } else { 1 };
        }
        at
    }

    /// Reads the rest of a string from an escape on.
    fn escapes(&mut self, out: &mut String) -> Read<()> {
        loop {
            if self.next()? == b'"' {
                self.at += 1;
                return Ok(());
            }
            out.push(self.escape().ok_or(Unread::NotJson)?);
            let start = self.at;
            self.plain()?;
            out.push_str(&self.text[start..self.at]);
        }
    }

    /// Skips to the next quote or backslash.
    #[inline]
    fn plain(&mut self) -> Read<()> {
        loop {
            self.at += special(&self.text.as_bytes()[self.at..]).ok_or(Unread::NotJson)?;
            match self.next()? {
                0..0x20 => return Err(Unread::NotJson),
                0x7F => self.at += 1,
                _ => return Ok(()),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 2;
        Some(match self.text.as_bytes().get(self.at - 1)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            c @ (b'"' | b'\\' | b'/') => char::from(*c),
            b'u' => {
                let first = self.hex()?;
                let rest = self.text.as_bytes().get(self.at..self.at + 2);
                if (0xD800..0xDC00).contains(&first) && rest == Some(b"\\u") {
                    let mark = self.at;
                    self.at += 2;
                    let second = self.hex()?;
                    if (0xDC00..0xE000).contains(&second) {
                        return char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
                    }
                    self.at = mark;
                }
                // Half a pair has no text: jq puts the replacement character, too.
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |n, b| Some(n * 16 + char::from(*b).to_digit(16)?))
    }
}

#[inline]
fn is_json(holds: bool) -> Read<()> {
    if holds { Ok(()) } else { Err(Unread::NotJson) }
}

/// Where a key is remembered; two that share a place take turns.
#[inline]
fn key_place(text: &str) -> usize {
    let hash = match text.as_bytes() {
        [first, .., last] => text.len() + 3 * usize::from(*first) + 17 * usize::from(*last),
        short => short.len() + short.first().map_or(0, |byte| usize::from(*byte)),
    };
    hash % SHARED_KEYS
}

/// Writes `val` as compact JSON of at most `most` bytes.
pub(super) fn write(meter: &mut Meter<'_>, val: &Val, most: usize) -> Flow<Buffer> {
    let mut out = Buffer::default();
    out.reserve(meter, usize::try_from(val.size()).unwrap_or(most).min(most))?;
    write_to(meter, val, most, &mut out)?;
    if out.len() > most { Err(TOO_LONG) } else { Ok(out) }
}

/// Appends `val` as compact JSON.
pub(super) fn append(meter: &mut Meter<'_>, val: &Val, out: &mut Buffer) -> Flow {
    write_to(meter, val, usize::MAX, out)
}

const TOO_LONG: Stop = Stop::Outside(RunErrorKind::OutputTooLong);

fn write_to(meter: &mut Meter<'_>, val: &Val, most: usize, out: &mut Buffer) -> Flow {
    if out.len() > most {
        return Err(TOO_LONG);
    }
    match val {
        Val::Null => out.push(meter, "null")?,
        Val::Bool(b) => out.push(meter, if *b { "true" } else { "false" })?,
        Val::Num(n) => {
            if !n.write(out, meter)? {
                return fault("`nan` and `infinite` cannot be written as JSON");
            }
        }
        Val::Str(s) => quote(meter, s, most, out)?,
        Val::Arr(a) => {
            out.push_byte(meter, b'[')?;
            for (at, item) in a.items().iter().enumerate() {
                if at > 0 {
                    out.push_byte(meter, b',')?;
                }
                write_to(meter, item, most, out)?;
            }
            out.push_byte(meter, b']')?;
        }
        Val::Obj(o) => {
            out.push_byte(meter, b'{')?;
            for (at, (key, item)) in o.iter().enumerate() {
                if at > 0 {
                    out.push_byte(meter, b',')?;
                }
                quote(meter, key, most, out)?;
                out.push_byte(meter, b':')?;
                write_to(meter, item, most, out)?;
            }
            out.push_byte(meter, b'}')?;
        }
    }
    Ok(())
}

fn quote(meter: &mut Meter<'_>, text: &str, most: usize, out: &mut Buffer) -> Flow {
    if text.len() > most {
        return Err(TOO_LONG);
    }
    let Some(at) = special(text.as_bytes()) else { return out.push_quoted(meter, text) };
    out.push_byte(meter, b'"')?;
    out.push(meter, &text[..at])?;
    out.push_escaped(meter, &text[at..], |byte| SPECIAL[usize::from(byte)].then(|| escaped(byte)))?;
    out.push_byte(meter, b'"')
}

/// Where the first byte stands that a string of JSON does not hold as it is, or need not.
#[inline]
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    // Eight at once: a byte below 1 (below 32) borrows from its highest bit, which it did not have. The first one found is
    // one; those after it may not be.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let each = |byte: u8| ONES * u64::from(byte);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(each(0x20)) & !word;
        let others = zero(word ^ each(b'"')) | zero(word ^ each(b'\\')) | zero(word ^ each(0x7F));
        let found = (control | others) & HIGHS;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| SPECIAL[usize::from(*byte)];
    rest.iter().position(is_special).map(|at| words.len() * 8 + at)
}

/// For each byte whether `special` finds it.
static SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[0x7F] = true;
    special
};

fn escaped(byte: u8) -> &'static str {
    /// The control characters; those that have shorter names are below.
    const CONTROLS: [&str; 32] = [
        "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007", "\\u0008", "\\u0009",
        "\\u000a", "\\u000b", "\\u000c", "\\u000d", "\\u000e", "\\u000f", "\\u0010", "\\u0011", "\\u0012", "\\u0013",
        "\\u0014", "\\u0015", "\\u0016", "\\u0017", "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d",
        "\\u001e", "\\u001f",
    ];
    match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        0x08 => "\\b",
        0x0C => "\\f",
        0x7F => "\\u007f",
        other => CONTROLS[usize::from(other & 31)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Budget;

    fn read(text: &[u8]) -> Option<Val> {
        super::read(&mut Meter::new(&Budget::default()), text).expect("within the budget")
    }

    fn again(text: &str) -> Option<String> {
        let meter = &mut Meter::new(&Budget::default());
        read(text.as_bytes()).map(|val| {
            String::from_utf8(write(meter, &val, 1 << 20).expect("it is JSON").into_bytes()).expect("it is text")
        })
    }

    #[test]
    fn what_is_read_is_written_alike() {
        for text in [
            "null",
            "-0",
            "1.10",
            "1e400",
            "123456789012345678901234567890",
            "\"a\\\"\\\\\\n\\u0000é\"",
            "[1,[],{}]",
            "{\"b\":1,\"a\":[null,true,false]}",
            "0.1",
            "-1.5E+10",
        ] {
            assert_eq!(again(text).as_deref(), Some(text));
        }
        assert_eq!(again(r#" { "a" : "\ud83d\ude00\ud800" } "#).as_deref(), Some("{\"a\":\"😀\u{fffd}\"}"));
        assert_eq!(again(r#"{"a":1,"b":2,"a":3}"#).as_deref(), Some(r#"{"a":3,"b":2}"#));
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        for text in [
            "", "nul", "01", "1.", "+1", "[1,]", "{a:1}", "\"\n\"", "\"\\x\"", "NaN", "1 2", "#c\n1", "\"a", "{\"a\"",
            "[", "-", "1e", "\"\\u12", "{\"a\":}", "tru", "{1:2}",
        ] {
            assert_eq!(again(text), None, "{text}");
        }
        assert!(read(&[b'"', 0xFF, b'"']).is_none());
        assert!(read("[".repeat(100_000).as_bytes()).is_none());
    }

    #[test]
    fn many_members_are_found_and_replaced_in_place() {
        let members = |n: usize, v: usize| (0..n).map(move |i| format!("\"k{i}\":{v}"));
        let text = format!("{{{}}}", members(40, 1).chain(members(40, 2)).collect::<Vec<_>>().join(","));
        let expected = format!("{{{}}}", members(40, 2).collect::<Vec<_>>().join(","));
        assert_eq!(again(&text), Some(expected));
    }
}
