//! JSON text into values.

use std::borrow::Cow;
use std::rc::Rc;

use super::super::budget::{BudgetMeter, Flow, MAX_DEPTH, Stop};
use super::super::buffer::ValueStack;
use super::super::number::{LenientNumber, Num};
use super::super::object::Member;
use super::super::value::{Arr, Obj, Text, Val};
use super::find_special;

/// The cost of reading a byte, in units of work.
const READ_COST: u64 = 4;
/// The additional cost where there are escapes.
const ESCAPE_COST: u64 = 4;

/// Reads one JSON text; `None` where it is not JSON or nested too deeply.
pub(in super::super) fn read(meter: &mut BudgetMeter<'_>, text: &[u8]) -> Flow<Option<Val>> {
    meter.touch(text.len())?;
    let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
    JsonReader::new(meter, text, false).read()
}

/// Reads the texts that jq's `fromjson` accepts: JSON, after a byte order mark where there is one,
/// with numbers such as `nan`, `+1` and `.5`.
pub(in super::super) fn read_leniently(
    meter: &mut BudgetMeter<'_>,
    text: &str,
) -> Flow<Option<Val>> {
    meter.touch(text.len())?;
    JsonReader::new(meter, text.strip_prefix('\u{feff}').unwrap_or(text), true).read()
}

/// Why a text gave no value.
enum JsonReadError {
    /// It is not JSON, or nested too deeply.
    NotJson,
    /// The run ends.
    Stopped(Stop),
}

type JsonResult<T> = Result<T, JsonReadError>;

impl From<Stop> for JsonReadError {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

/// The longest key that is looked for among those that came before.
const SHARED_KEY_BYTES: usize = 64;
/// How many keys are remembered: as many as an integer has bits.
const SHARED_KEYS: usize = 64;

struct JsonReader<'t, 'm, 'b> {
    text: &'t str,
    /// Whether numbers may be written as jq takes them.
    lenient: bool,
    at: usize,
    /// Up to where reading has been charged.
    charged: usize,
    meter: &'m mut BudgetMeter<'b>,
    items: ValueStack<Val>,
    members: ValueStack<Member>,
    /// Keys that came before: most objects have those of another one.
    keys: Vec<Option<Text>>,
}

impl<'t, 'm, 'b> JsonReader<'t, 'm, 'b> {
    fn new(meter: &'m mut BudgetMeter<'b>, text: &'t str, lenient: bool) -> Self {
        let items = ValueStack::default();
        let members = ValueStack::default();
        Self { text, lenient, at: 0, charged: 0, meter, items, members, keys: Vec::new() }
    }

    fn read(mut self) -> Flow<Option<Val>> {
        match self.whole_text() {
            Ok(val) => Ok(Some(val)),
            Err(JsonReadError::NotJson) => Ok(None),
            Err(JsonReadError::Stopped(stop)) => Err(stop),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        // Mostly there is none.
        if self.peek().is_some_and(|byte| byte > b' ') {
            return;
        }
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The next byte, which there must be.
    #[inline]
    fn next(&self) -> JsonResult<u8> {
        self.peek().ok_or(JsonReadError::NotJson)
    }

    fn read_literal(&mut self, word: &str, val: Val) -> JsonResult<Val> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        require_json(found)?;
        Ok(val)
    }

    /// Charges for the bytes that were read since the last time.
    #[inline]
    fn charge(&mut self) -> Flow {
        self.meter.work(READ_COST * (self.at - self.charged) as u64)?;
        self.charged = self.at;
        Ok(())
    }

    /// The value that is all of the text.
    fn whole_text(&mut self) -> JsonResult<Val> {
        let val = self.value(0)?;
        self.skip_space();
        require_json(self.at == self.text.len())?;
        self.charge()?;
        Ok(val)
    }

    fn value(&mut self, depth: u32) -> JsonResult<Val> {
        self.charge()?;
        self.skip_space();
        match self.next()? {
            b'n' | b'N' | b'i' | b'I' | b'+' | b'-' | b'.' | b'0'..=b'9' if self.lenient => {
                self.lenient_number()
            }
            b'n' => self.read_literal("null", Val::Null),
            b't' => self.read_literal("true", Val::Bool(true)),
            b'f' => self.read_literal("false", Val::Bool(false)),
            b'"' => {
                let text = self.string()?;
                Ok(Val::Str(Text::of(self.meter, &text)?))
            }
            b'[' if depth < MAX_DEPTH => self.array(depth + 1),
            b'{' if depth < MAX_DEPTH => self.object(depth + 1),
            b'-' | b'0'..=b'9' => {
                let number = self.number()?;
                Ok(Val::Num(Num::read_metered(number, self.meter)?))
            }
            _ => Err(JsonReadError::NotJson),
        }
    }

    /// A number as jq takes it, or `null`.
    fn lenient_number(&mut self) -> JsonResult<Val> {
        let rest = &self.text[self.at..];
        let belongs =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let text = &rest[..rest.bytes().take_while(belongs).count()];
        if text == "null" {
            return self.read_literal("null", Val::Null);
        }
        let strict = self.number().is_ok_and(|number| number == text);
        self.at = self.text.len() - rest.len() + text.len();
        if strict {
            return Ok(Val::Num(Num::read_metered(text, self.meter)?));
        }
        self.meter.alloc(2 * text.len())?;
        let number = LenientNumber::read(text).ok_or(JsonReadError::NotJson)?;
        Ok(Val::Num(number.number(self.meter)?))
    }

    fn array(&mut self, depth: u32) -> JsonResult<Val> {
        self.at += 1;
        let start = self.items.len();
        if !self.eat(b']') {
            loop {
                let item = self.value(depth)?;
                self.items.push_charged(self.meter, item)?;
                if self.eat(b']') {
                    break;
                }
                require_json(self.eat(b','))?;
            }
        }
        let items = self.items.take_from(self.meter, start)?;
        Ok(Val::Arr(Rc::new(Arr::of(items))))
    }

    fn object(&mut self, depth: u32) -> JsonResult<Val> {
        self.at += 1;
        let start = self.members.len();
        // Where keys stand among those that are remembered: no two that are equal stand at two
        // places.
        let mut seen = 0_u64;
        let mut maybe_repeats = false;
        if !self.eat(b'}') {
            loop {
                self.skip_space();
                require_json(self.peek() == Some(b'"'))?;
                let key = self.string()?;
                let place = key_slot(&key);
                maybe_repeats |= seen & 1 << place != 0;
                seen |= 1 << place;
                let key = self.key(&key, place)?;
                require_json(self.eat(b':'))?;
                let val = self.value(depth)?;
                self.members.push_charged(self.meter, (key, val))?;
                if self.eat(b'}') {
                    break;
                }
                require_json(self.eat(b','))?;
            }
        }
        let members = self.members.take_from(self.meter, start)?;
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
            self.meter.require_memory(SHARED_KEYS * size_of::<Option<Text>>())?;
            self.keys.resize_with(SHARED_KEYS, || None);
        }
        if text.len() <= SHARED_KEY_BYTES {
            self.keys[place] = Some(key.clone());
        }
        Ok(key)
    }

    fn number(&mut self) -> JsonResult<&'t str> {
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

    fn digits(&mut self) -> JsonResult<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        require_json(self.at > start)
    }

    #[inline]
    fn string(&mut self) -> JsonResult<Cow<'t, str>> {
        self.at += 1;
        let start = self.at;
        self.skip_plain()?;
        let plain = &self.text[start..self.at];
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.escaped_string(plain).map(Cow::Owned)
    }

    /// The string that begins with `plain`, after which there is an escape.
    #[cold]
    fn escaped_string(&mut self, plain: &str) -> JsonResult<String> {
        let rest = self.string_rest();
        self.meter.touch(rest)?;
        self.meter.work(ESCAPE_COST * rest as u64)?;
        let longest = plain.len() + rest;
        // For this copy, and for the value that will be made of it.
        self.meter.require_memory(2 * longest)?;
        let mut out = String::with_capacity(longest);
        out.push_str(plain);
        self.escapes(&mut out)?;
        Ok(out)
    }

    /// The most bytes that can be left of a string; an escape is longer than its character.
    fn string_rest(&self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let mut at = 0;
        while let Some(byte) = rest.get(at).filter(|byte| **byte != b'"') {
            at += if *byte == b'\\' { 2 } else { 1 };
        }
        at
    }

    /// Reads the rest of a string from an escape on.
    fn escapes(&mut self, out: &mut String) -> JsonResult<()> {
        loop {
            if self.next()? == b'"' {
                self.at += 1;
                return Ok(());
            }
            out.push(self.escape().ok_or(JsonReadError::NotJson)?);
            let start = self.at;
            self.skip_plain()?;
            out.push_str(&self.text[start..self.at]);
        }
    }

    /// Skips to the next quote or backslash.
    #[inline]
    fn skip_plain(&mut self) -> JsonResult<()> {
        loop {
            self.at +=
                find_special(&self.text.as_bytes()[self.at..]).ok_or(JsonReadError::NotJson)?;
            match self.next()? {
                0..0x20 => return Err(JsonReadError::NotJson),
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
                        return char::from_u32(
                            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                        );
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
fn require_json(holds: bool) -> JsonResult<()> {
    if holds { Ok(()) } else { Err(JsonReadError::NotJson) }
}

/// Where a key is remembered; two that share a place take turns.
#[inline]
fn key_slot(text: &str) -> usize {
    let hash = match text.as_bytes() {
        [first, .., last] => text.len() + 3 * usize::from(*first) + 17 * usize::from(*last),
        short => short.len() + short.first().map_or(0, |byte| usize::from(*byte)),
    };
    hash % SHARED_KEYS
}
