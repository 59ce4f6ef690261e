//! Strings: formats, splitting, joining, dates. What is made is charged to the meter before it is made.

use std::rc::Rc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::buffer::Buffer;
use super::eval::Run;
use super::functions::array;
use super::json;
use super::meter::{Flow, fault};
use super::number::Num;
use super::value::{Arr, SHORT_TEXT_BYTES, SLOT_BYTES, Text, Val};

/// How a value becomes part of a string.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Text,
    Json,
    Csv,
    Tsv,
    Html,
    Uri,
    Urid,
    Sh,
    Base64,
    Base64d,
}

/// The formats, for people.
pub(super) const FORMATS: &str =
    "`@text`, `@json`, `@csv`, `@tsv`, `@html`, `@uri`, `@urid`, `@sh`, `@base64` or `@base64d`";

impl Format {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "@text" => Self::Text,
            "@json" => Self::Json,
            "@csv" => Self::Csv,
            "@tsv" => Self::Tsv,
            "@html" => Self::Html,
            "@uri" => Self::Uri,
            "@urid" => Self::Urid,
            "@sh" => Self::Sh,
            "@base64" => Self::Base64,
            "@base64d" => Self::Base64d,
            _ => return None,
        })
    }
}

/// The text of a string.
pub(super) fn string(val: &Val) -> Flow<&str> {
    match val {
        Val::Str(s) => Ok(s),
        other => fault(format!("cannot use {} as string", other.type_name())),
    }
}

/// A part of a string.
pub(super) fn part(run: &mut Run<'_>, val: &Val, f: fn(&str) -> &str) -> Flow<Val> {
    let text = string(val)?;
    run.meter.touch(text.len())?;
    Text::of(&mut run.meter, f(text)).map(Val::Str)
}

/// A string with each character mapped.
pub(super) fn mapped(run: &mut Run<'_>, val: &Val, f: fn(&char) -> char) -> Flow<Val> {
    let text = string(val)?;
    let mut out = Buffer::default();
    out.reserve(&mut run.meter, text.len())?;
    text.chars().try_for_each(|c| out.push_char(&mut run.meter, f(&c)))?;
    out.into_text(&mut run.meter).map(Val::Str)
}

pub(super) fn starts(run: &mut Run<'_>, val: &Val, with: &Val) -> Flow<Val> {
    let text = string(val)?;
    let with = string(with)?;
    run.meter.touch(with.len().min(text.len()))?;
    Ok(Val::Bool(text.starts_with(with)))
}

pub(super) fn ends(run: &mut Run<'_>, val: &Val, with: &Val) -> Flow<Val> {
    let text = string(val)?;
    let with = string(with)?;
    run.meter.touch(with.len().min(text.len()))?;
    Ok(Val::Bool(text.ends_with(with)))
}

/// A string as it is, another value as JSON.
fn plain(run: &mut Run<'_>, val: &Val) -> Flow<Text> {
    match val {
        Val::Str(s) => Ok(s.clone()),
        other => json::write(&mut run.meter, other, usize::MAX)?.into_text(&mut run.meter),
    }
}

/// `val | @format`.
pub(super) fn formatted(run: &mut Run<'_>, how: Format, val: &Val) -> Flow<Val> {
    formatted_text(run, how, val).map(Val::Str)
}

/// The same as a text.
pub(super) fn formatted_text(run: &mut Run<'_>, how: Format, val: &Val) -> Flow<Text> {
    if let (Format::Text, Val::Str(text)) = (how, val) {
        return Ok(text.clone());
    }
    let mut out = Buffer::default();
    format(run, how, val, &mut out)?;
    out.into_text(&mut run.meter)
}

/// Appends `val` in the words of a format.
pub(super) fn format(run: &mut Run<'_>, how: Format, val: &Val, out: &mut Buffer) -> Flow {
    match how {
        Format::Text => match val {
            Val::Str(s) => out.push(&mut run.meter, s),
            other => json::append(&mut run.meter, other, out),
        },
        Format::Json => json::append(&mut run.meter, val, out),
        Format::Csv => cells(run, array(val)?, ",", "csv", out, |run, s, out| {
            out.push(&mut run.meter, "\"")?;
            out.push_escaped(&mut run.meter, s, |byte| (byte == b'"').then_some("\"\""))?;
            out.push(&mut run.meter, "\"")
        }),
        Format::Tsv => cells(run, array(val)?, "\t", "tsv", out, |run, s, out| {
            out.push_escaped(&mut run.meter, s, |byte| match byte {
                b'\\' => Some("\\\\"),
                b'\t' => Some("\\t"),
                b'\n' => Some("\\n"),
                b'\r' => Some("\\r"),
                _ => None,
            })
        }),
        Format::Html => {
            let text = plain(run, val)?;
            out.push_escaped(&mut run.meter, &text, |byte| match byte {
                b'&' => Some("&amp;"),
                b'<' => Some("&lt;"),
                b'>' => Some("&gt;"),
                b'\'' => Some("&#39;"),
                b'"' => Some("&quot;"),
                _ => None,
            })
        }
        Format::Uri => {
            let text = plain(run, val)?;
            uri(run, &text, out)
        }
        Format::Urid => {
            let text = plain(run, val)?;
            // Decoded, and what is decoded.
            run.meter.alloc(2 * text.len())?;
            match percent_encoding::percent_decode_str(&text).decode_utf8() {
                Ok(decoded) => out.push(&mut run.meter, &decoded),
                Err(_) => fault("cannot decode string as a URI component"),
            }
        }
        Format::Sh => match val {
            Val::Arr(items) => {
                for (at, item) in items.items().iter().enumerate() {
                    out.push(&mut run.meter, if at == 0 { "" } else { " " })?;
                    shell_word(run, item, out)?;
                }
                Ok(())
            }
            other => shell_word(run, other, out),
        },
        Format::Base64 => {
            let text = plain(run, val)?;
            base64(run, text.as_bytes(), out)
        }
        Format::Base64d => {
            let text = plain(run, val)?;
            unbase64(run, &text, out)
        }
    }
}

fn cells(
    run: &mut Run<'_>,
    items: &[Val],
    between: &str,
    name: &str,
    out: &mut Buffer,
    quote: fn(&mut Run<'_>, &str, &mut Buffer) -> Flow,
) -> Flow {
    for (at, item) in items.iter().enumerate() {
        out.push(&mut run.meter, if at == 0 { "" } else { between })?;
        run.meter.spend(1)?;
        let fits = match item {
            Val::Null => true,
            Val::Bool(b) => {
                out.push(&mut run.meter, if *b { "true" } else { "false" })?;
                true
            }
            Val::Num(n) => n.write(out, &mut run.meter)?,
            Val::Str(s) => {
                quote(run, s, out)?;
                true
            }
            Val::Arr(_) | Val::Obj(_) => false,
        };
        if !fits {
            return fault(format!("{} is not valid in a {name} row", item.type_name()));
        }
    }
    Ok(())
}

fn shell_word(run: &mut Run<'_>, val: &Val, out: &mut Buffer) -> Flow {
    match val {
        Val::Str(s) => {
            out.push(&mut run.meter, "'")?;
            out.push_escaped(&mut run.meter, s, |byte| (byte == b'\'').then_some("'\\''"))?;
            out.push(&mut run.meter, "'")
        }
        Val::Arr(_) | Val::Obj(_) => fault(format!("{} cannot be escaped for a shell", val.type_name())),
        other => json::append(&mut run.meter, other, out),
    }
}

fn uri(run: &mut Run<'_>, text: &str, out: &mut Buffer) -> Flow {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push_char(&mut run.meter, char::from(byte))?;
        } else {
            out.push_char(&mut run.meter, '%')?;
            out.push_char(&mut run.meter, char::from(HEX[usize::from(byte >> 4)]))?;
            out.push_char(&mut run.meter, char::from(HEX[usize::from(byte & 15)]))?;
        }
    }
    Ok(())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(run: &mut Run<'_>, bytes: &[u8], out: &mut Buffer) -> Flow {
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            let char = if at > chunk.len() { '=' } else { char::from(BASE64[digit as usize]) };
            out.push_char(&mut run.meter, char)?;
        }
    }
    Ok(())
}

fn unbase64(run: &mut Run<'_>, text: &str, out: &mut Buffer) -> Flow {
    const BAD: &str = "cannot decode string as base64";
    // Each byte is looked at, becomes three quarters of one, and that up to three where it is not text.
    run.meter.touch(4 * text.len())?;
    run.meter.room(4 * text.len())?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut bits = 0_u32;
    let mut held = 0;
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return fault(BAD),
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    // One digit left over is half a byte.
    if held >= 6 {
        return fault(BAD);
    }
    // As in jq: what is not text becomes replacement characters.
    out.push(&mut run.meter, &String::from_utf8_lossy(&bytes))
}

/// `text / by`.
pub(super) fn split(run: &mut Run<'_>, text: &str, by: &str) -> Flow<Val> {
    let mut parts = Arr::default();
    run.meter.touch(4 * (text.len() + by.len()))?;
    let part = |run: &mut Run<'_>, part: &str| Text::of(&mut run.meter, part).map(Val::Str);
    if text.is_empty() {
        // No parts.
    } else if by.is_empty() {
        run.meter.room(text.chars().count().saturating_mul(SLOT_BYTES + SHORT_TEXT_BYTES))?;
        for c in text.chars() {
            let val = part(run, c.encode_utf8(&mut [0; 4]))?;
            parts.push(&mut run.meter, val)?;
        }
    } else {
        for piece in text.split(by) {
            let val = part(run, piece)?;
            parts.push(&mut run.meter, val)?;
        }
    }
    Ok(Val::Arr(Rc::new(parts)))
}

/// `val | join(by)`: null is nothing, numbers and booleans are as they are written.
pub(super) fn join(run: &mut Run<'_>, val: &Val, by: &Val) -> Flow<Val> {
    let items = array(val)?;
    let by = string(by)?;
    let mut out = Buffer::default();
    for (at, item) in items.iter().enumerate() {
        run.meter.spend(1)?;
        out.push(&mut run.meter, if at == 0 { "" } else { by })?;
        match item {
            Val::Null => (),
            Val::Str(s) => out.push(&mut run.meter, s)?,
            Val::Bool(_) | Val::Num(_) => json::append(&mut run.meter, item, &mut out)?,
            other => return fault(format!("cannot join {} to a string", other.type_name())),
        }
    }
    out.into_text(&mut run.meter).map(Val::Str)
}

/// `val` without `fix` at its start or end; what is not a string stays.
pub(super) fn trimmed(run: &mut Run<'_>, val: &Val, fix: &Val, start: bool, end: bool) -> Flow<Val> {
    let (Val::Str(text), Val::Str(fix)) = (val, fix) else { return Ok(val.clone()) };
    run.meter.touch(fix.len().min(text.len()))?;
    let mut rest = &**text;
    rest = if start { rest.strip_prefix(&**fix).unwrap_or(rest) } else { rest };
    rest = if end { rest.strip_suffix(&**fix).unwrap_or(rest) } else { rest };
    if rest.len() == text.len() {
        return Ok(val.clone());
    }
    Text::of(&mut run.meter, rest).map(Val::Str)
}

/// Seconds since 1970 as a date in UTC; fractions are dropped, as in jq.
pub(super) fn to_date(run: &mut Run<'_>, seconds: &Num) -> Flow<Val> {
    let date = seconds.floor().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    match text {
        Some(text) => Text::of(&mut run.meter, &text).map(Val::Str),
        None => fault("the number is not a time that a date can hold"),
    }
}

/// A date of RFC 3339 as seconds since 1970.
pub(super) fn from_date(run: &mut Run<'_>, val: &Val) -> Flow<Val> {
    let text = string(val)?;
    // A fraction of a second may have any number of digits.
    run.meter.touch(4 * text.len())?;
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(date) => Ok(Val::Num(Num::Int(date.unix_timestamp()))),
        Err(_) => fault("cannot parse string as a date"),
    }
}
