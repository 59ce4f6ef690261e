//! JSON text in and out of values.
//!
//! Reads exactly RFC 8259, no deeper than a value may be; numbers keep their text. Writes compact JSON within a bound on
//! its bytes.

use std::sync::Arc;

use super::meter::{Flow, MAX_DEPTH, Stop, fault};
use super::number::Num;
use super::value::{Arr, Obj, Val};

/// Reads one JSON text; `None` where it is not JSON or nested too deeply.
pub(super) fn read(text: &[u8]) -> Option<Val> {
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = Reader { text, at: 0 };
    let val = reader.value(0)?;
    reader.space();
    (reader.at == text.len()).then_some(val)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
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

    fn word(&mut self, word: &str, val: Val) -> Option<Val> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(val)
    }

    fn value(&mut self, depth: u32) -> Option<Val> {
        self.space();
        match self.peek()? {
            b'n' => self.word("null", Val::Null),
            b't' => self.word("true", Val::Bool(true)),
            b'f' => self.word("false", Val::Bool(false)),
            b'"' => self.string().map(Val::Str),
            b'[' if depth < MAX_DEPTH => self.array(depth + 1),
            b'{' if depth < MAX_DEPTH => self.object(depth + 1),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn array(&mut self, depth: u32) -> Option<Val> {
        self.at += 1;
        let mut arr = Arr::default();
        if self.eat(b']') {
            return Some(Val::Arr(Arc::new(arr)));
        }
        loop {
            arr.push(self.value(depth)?);
            if self.eat(b']') {
                return Some(Val::Arr(Arc::new(arr)));
            }
            self.eat(b',').then_some(())?;
        }
    }

    fn object(&mut self, depth: u32) -> Option<Val> {
        self.at += 1;
        let mut obj = Obj::default();
        if self.eat(b'}') {
            return Some(Val::Obj(Arc::new(obj)));
        }
        loop {
            self.space();
            let key = (self.peek()? == b'"').then(|| self.string())??;
            self.eat(b':').then_some(())?;
            obj.insert(key, self.value(depth)?);
            if self.eat(b'}') {
                return Some(Val::Obj(Arc::new(obj)));
            }
            self.eat(b',').then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Val> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek()? {
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
        Some(Val::Num(Num::read(&self.text[start..self.at])))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<Arc<str>> {
        self.at += 1;
        let start = self.at;
        self.plain()?;
        if self.peek()? == b'"' {
            self.at += 1;
            return Some(self.text[start..self.at - 1].into());
        }
        let mut out = String::from(&self.text[start..self.at]);
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(out.into());
                }
                _ => out.push(self.escape()?),
            }
            let start = self.at;
            self.plain()?;
            out.push_str(&self.text[start..self.at]);
        }
    }

    /// Skips to the next quote or backslash.
    fn plain(&mut self) -> Option<()> {
        while !matches!(self.peek()?, b'"' | b'\\') {
            (self.peek()? >= 0x20).then_some(())?;
            self.at += 1;
        }
        Some(())
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

/// Writes `val` as compact JSON of at most `most` bytes.
pub(super) fn write(val: &Val, most: usize) -> Flow<String> {
    let mut out = String::new();
    write_to(val, most, &mut out)?;
    if out.len() > most { Err(TOO_LONG) } else { Ok(out) }
}

const TOO_LONG: Stop = Stop::Spent("yields more bytes than a run may");

fn write_to(val: &Val, most: usize, out: &mut String) -> Flow {
    if out.len() > most {
        return Err(TOO_LONG);
    }
    match val {
        Val::Null => out.push_str("null"),
        Val::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Val::Num(n) if n.write(out) => (),
        Val::Num(_) => return fault("`nan` and `infinite` cannot be written as JSON"),
        Val::Str(s) => quote(s, out),
        Val::Arr(a) => {
            out.push('[');
            for (at, item) in a.items().iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write_to(item, most, out)?;
            }
            out.push(']');
        }
        Val::Obj(o) => {
            out.push('{');
            for (at, (key, item)) in o.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                quote(key, out);
                out.push(':');
                write_to(item, most, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7F {
            continue;
        }
        out.push_str(&text[done..at]);
        done = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0C => out.push_str("\\f"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(other >> 4)]));
                out.push(char::from(HEX[usize::from(other & 15)]));
            }
        }
    }
    out.push_str(&text[done..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        read(text.as_bytes()).map(|val| write(&val, 1 << 20).expect("it is JSON"))
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
