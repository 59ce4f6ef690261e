//! Strings: formats, splitting, joining, dates. What is made is charged to the meter before it is
//! made.

use std::rc::Rc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::eval::Evaluation;
use super::functions::{array, for_each_child};
use super::json;
use super::number::Num;
use super::value::{Arr, SHORT_TEXT_BYTES, SLOT_BYTES, Text, Val};

mod base;

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
    Base32,
    Base32d,
    Base64,
    Base64d,
}

/// The formats, for people.
pub(super) const FORMATS: &str = "`@text`, `@json`, `@csv`, `@tsv`, `@html`, `@uri`, `@urid`, \
                                  `@sh`, `@base32`, `@base32d`, `@base64` or `@base64d`";

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
            "@base32" => Self::Base32,
            "@base32d" => Self::Base32d,
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
pub(super) fn map_text(run: &mut Evaluation<'_>, val: &Val, f: fn(&str) -> &str) -> Flow<Val> {
    let text = string(val)?;
    run.meter.touch(text.len())?;
    Text::of(&mut run.meter, f(text)).map(Val::Str)
}

/// A string with each character mapped.
pub(super) fn map_chars(run: &mut Evaluation<'_>, val: &Val, f: fn(&char) -> char) -> Flow<Val> {
    let text = string(val)?;
    let mut out = Buffer::default();
    out.reserve(&mut run.meter, text.len())?;
    text.chars().try_for_each(|c| out.push_char(&mut run.meter, f(&c)))?;
    out.into_text(&mut run.meter).map(Val::Str)
}

pub(super) fn starts_with(run: &mut Evaluation<'_>, val: &Val, with: &Val) -> Flow<Val> {
    let text = string(val)?;
    let with = string(with)?;
    run.meter.touch(with.len().min(text.len()))?;
    Ok(Val::Bool(text.starts_with(with)))
}

pub(super) fn ends_with(run: &mut Evaluation<'_>, val: &Val, with: &Val) -> Flow<Val> {
    let text = string(val)?;
    let with = string(with)?;
    run.meter.touch(with.len().min(text.len()))?;
    Ok(Val::Bool(text.ends_with(with)))
}

/// A string as it is, another value as JSON.
fn text_or_json(run: &mut Evaluation<'_>, val: &Val) -> Flow<Text> {
    match val {
        Val::Str(s) => Ok(s.clone()),
        other => json::write(&mut run.meter, other, usize::MAX)?.into_text(&mut run.meter),
    }
}

/// Runs `f` over the text of a value.
fn with_text(
    run: &mut Evaluation<'_>,
    val: &Val,
    out: &mut Buffer,
    f: fn(&mut Evaluation<'_>, &str, &mut Buffer) -> Flow,
) -> Flow {
    let text = text_or_json(run, val)?;
    f(run, &text, out)
}

/// `val | @format`.
pub(super) fn format_value(run: &mut Evaluation<'_>, kind: Format, val: &Val) -> Flow<Val> {
    format_text(run, kind, val).map(Val::Str)
}

/// The same as a text.
pub(super) fn format_text(run: &mut Evaluation<'_>, kind: Format, val: &Val) -> Flow<Text> {
    if let (Format::Text, Val::Str(text)) = (kind, val) {
        return Ok(text.clone());
    }
    let mut out = Buffer::default();
    format(run, kind, val, &mut out)?;
    out.into_text(&mut run.meter)
}

/// Appends `val` in the words of a format.
pub(super) fn format(run: &mut Evaluation<'_>, kind: Format, val: &Val, out: &mut Buffer) -> Flow {
    match kind {
        Format::Text => match val {
            Val::Str(s) => out.push(&mut run.meter, s),
            other => json::append(&mut run.meter, other, out),
        },
        Format::Json => json::append(&mut run.meter, val, out),
        Format::Csv => write_row(run, array(val)?, ",", "csv", out, |run, s, out| {
            out.push(&mut run.meter, "\"")?;
            out.push_escaped(&mut run.meter, s, |byte| (byte == b'"').then_some("\"\""))?;
            out.push(&mut run.meter, "\"")
        }),
        Format::Tsv => write_row(run, array(val)?, "\t", "tsv", out, |run, s, out| {
            out.push_escaped(&mut run.meter, s, |byte| match byte {
                b'\\' => Some("\\\\"),
                b'\t' => Some("\\t"),
                b'\n' => Some("\\n"),
                b'\r' => Some("\\r"),
                _ => None,
            })
        }),
        Format::Html => {
            let text = text_or_json(run, val)?;
            out.push_escaped(&mut run.meter, &text, |byte| match byte {
                b'&' => Some("&amp;"),
                b'<' => Some("&lt;"),
                b'>' => Some("&gt;"),
                b'\'' => Some("&apos;"),
                b'"' => Some("&quot;"),
                _ => None,
            })
        }
        Format::Uri => with_text(run, val, out, encode_uri),
        Format::Urid => with_text(run, val, out, decode_uri),
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
        Format::Base32 => {
            with_text(run, val, out, |run, text, out| base::encode(run, &base::BASE32, text, out))
        }
        Format::Base32d => {
            with_text(run, val, out, |run, text, out| base::decode(run, &base::BASE32, text, out))
        }
        Format::Base64 => {
            with_text(run, val, out, |run, text, out| base::encode(run, &base::BASE64, text, out))
        }
        Format::Base64d => {
            with_text(run, val, out, |run, text, out| base::decode(run, &base::BASE64, text, out))
        }
    }
}

fn write_row(
    run: &mut Evaluation<'_>,
    items: &[Val],
    between: &str,
    name: &str,
    out: &mut Buffer,
    quote: fn(&mut Evaluation<'_>, &str, &mut Buffer) -> Flow,
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
            // As in jq, nan is nothing here.
            Val::Num(n) if n.is_nan() => true,
            Val::Num(n) => {
                n.write(out, &mut run.meter)?;
                true
            }
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

fn shell_word(run: &mut Evaluation<'_>, val: &Val, out: &mut Buffer) -> Flow {
    match val {
        Val::Str(s) => {
            out.push(&mut run.meter, "'")?;
            out.push_escaped(&mut run.meter, s, |byte| (byte == b'\'').then_some("'\\''"))?;
            out.push(&mut run.meter, "'")
        }
        Val::Arr(_) | Val::Obj(_) => {
            fault(format!("{} cannot be escaped for a shell", val.type_name()))
        }
        other => json::append(&mut run.meter, other, out),
    }
}

fn decode_uri(run: &mut Evaluation<'_>, text: &str, out: &mut Buffer) -> Flow {
    // Looked at, decoded, and what is decoded.
    run.meter.alloc(3 * text.len())?;
    let is_escape = |rest: &str| {
        let mut digits = rest.bytes().take(2);
        digits.len() == 2 && digits.all(|byte| byte.is_ascii_hexdigit())
    };
    if !text.split('%').skip(1).all(is_escape) {
        return fault("cannot decode string as a URI component");
    }
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(decoded) => out.push(&mut run.meter, &decoded),
        Err(_) => fault("cannot decode string as a URI component"),
    }
}

fn encode_uri(run: &mut Evaluation<'_>, text: &str, out: &mut Buffer) -> Flow {
    /// All but the unreserved characters of RFC 3986.
    const RESERVED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    for piece in utf8_percent_encode(text, RESERVED) {
        // A byte costs a few times what copying it does.
        run.meter.touch(8 * piece.len())?;
        out.push(&mut run.meter, piece)?;
    }
    Ok(())
}

/// `text / by`.
pub(super) fn split(run: &mut Evaluation<'_>, text: &str, by: &str) -> Flow<Val> {
    let mut parts = Arr::default();
    run.meter.touch(4 * (text.len() + by.len()))?;
    let part = |run: &mut Evaluation<'_>, part: &str| Text::of(&mut run.meter, part).map(Val::Str);
    if text.is_empty() {
        // No parts.
    } else if by.is_empty() {
        run.meter
            .require_memory(text.chars().count().saturating_mul(SLOT_BYTES + SHORT_TEXT_BYTES))?;
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

/// `val | join(by)`, of items or members' values: null is nothing, numbers and booleans are as
/// they are written. As in jq, `by` may be null, and anything where it stands between nothing.
pub(super) fn join(run: &mut Evaluation<'_>, val: &Val, by: &Val) -> Flow<Val> {
    let mut out = Buffer::default();
    let mut is_first = true;
    for_each_child(val, &mut |item| {
        run.meter.spend(1)?;
        match by {
            _ if std::mem::take(&mut is_first) => (),
            Val::Null => (),
            by => out.push(&mut run.meter, string(by)?)?,
        }
        match item {
            Val::Null => Ok(()),
            Val::Str(s) => out.push(&mut run.meter, s),
            Val::Bool(_) | Val::Num(_) => json::append(&mut run.meter, item, &mut out),
            other => fault(format!("cannot join {} to a string", other.type_name())),
        }
    })?;
    out.into_text(&mut run.meter).map(Val::Str)
}

/// `val` without `fix` at its start or end.
pub(super) fn trim_affix(
    run: &mut Evaluation<'_>,
    val: &Val,
    fix: &Val,
    start: bool,
    end: bool,
) -> Flow<Val> {
    let text = string(val)?;
    let fix = string(fix)?;
    run.meter.touch(fix.len().min(text.len()))?;
    let mut rest = text;
    rest = if start { rest.strip_prefix(fix).unwrap_or(rest) } else { rest };
    rest = if end { rest.strip_suffix(fix).unwrap_or(rest) } else { rest };
    if rest.len() == text.len() {
        return Ok(val.clone());
    }
    Text::of(&mut run.meter, rest).map(Val::Str)
}

/// Seconds since 1970 as a date in UTC; fractions are dropped, as in jq.
pub(super) fn to_date(run: &mut Evaluation<'_>, seconds: &Num) -> Flow<Val> {
    let date = seconds.truncated().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    match text {
        Some(text) => Text::of(&mut run.meter, &text).map(Val::Str),
        None => fault("the number is not a time that a date can hold"),
    }
}

/// A date of RFC 3339 as seconds since 1970.
pub(super) fn from_date(run: &mut Evaluation<'_>, val: &Val) -> Flow<Val> {
    let text = string(val)?;
    // A fraction of a second may have any number of digits.
    run.meter.touch(4 * text.len())?;
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(date) => Ok(Val::Num(Num::Int(date.unix_timestamp()))),
        Err(_) => fault("cannot parse string as a date"),
    }
}
