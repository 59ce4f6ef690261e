//! Strings: formats, splitting, joining, dates. What is made is charged to the meter before it is made.

use std::fmt::Write as _;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::eval::Run;
use super::functions::array;
use super::json;
use super::meter::{Flow, fault};
use super::number::Num;
use super::value::{Arr, SLOT_BYTES, Val};

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

/// A string made from a string no longer than itself.
pub(super) fn map(run: &mut Run<'_>, val: &Val, f: impl Fn(&str) -> String) -> Flow<Val> {
    let text = string(val)?;
    run.meter.alloc(text.len() as u64)?;
    Ok(Val::str(&f(text)))
}

/// `val` as JSON text.
pub(super) fn json(run: &mut Run<'_>, val: &Val) -> Flow<String> {
    run.meter.alloc(val.size())?;
    let text = json::write(val, usize::MAX)?;
    run.meter.alloc(text.len() as u64)?;
    Ok(text)
}

fn plain(run: &mut Run<'_>, val: &Val) -> Flow<String> {
    match val {
        Val::Str(s) => {
            run.meter.alloc(s.len() as u64)?;
            Ok(s.to_string())
        }
        other => json(run, other),
    }
}

/// `val | @format`.
pub(super) fn formatted(run: &mut Run<'_>, how: Format, val: &Val) -> Flow<Val> {
    format(run, how, val).map(|text| Val::str(&text))
}

/// `val` in the words of a format.
pub(super) fn format(run: &mut Run<'_>, how: Format, val: &Val) -> Flow<String> {
    // What may grow grows at most sixfold.
    run.meter.alloc(val.size().saturating_mul(6))?;
    match how {
        Format::Text => plain(run, val),
        Format::Json => json(run, val),
        Format::Csv => cells(array(val)?, ",", "csv", |s| format!("\"{}\"", s.replace('"', "\"\""))),
        Format::Tsv => cells(array(val)?, "\t", "tsv", |s| {
            s.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
        }),
        Format::Html => {
            let text = plain(run, val)?.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Ok(text.replace('\'', "&#39;").replace('"', "&quot;"))
        }
        Format::Uri => Ok(uri(&plain(run, val)?)),
        Format::Urid => {
            let text = plain(run, val)?;
            match percent_encoding::percent_decode_str(&text).decode_utf8() {
                Ok(decoded) => Ok(decoded.into_owned()),
                Err(_) => fault("cannot decode string as a URI component"),
            }
        }
        Format::Sh => match val {
            Val::Arr(items) => {
                let words = items.items().iter().map(|item| shell_word(run, item)).collect::<Flow<Vec<_>>>()?;
                Ok(words.join(" "))
            }
            other => shell_word(run, other),
        },
        Format::Base64 => Ok(base64(plain(run, val)?.as_bytes())),
        Format::Base64d => unbase64(&plain(run, val)?).map_or_else(|| fault("cannot decode string as base64"), Ok),
    }
}

fn cells(items: &[Val], between: &str, name: &str, quote: impl Fn(&str) -> String) -> Flow<String> {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { between });
        match item {
            Val::Null => (),
            Val::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Val::Num(n) if n.write(&mut out) => (),
            Val::Str(s) => out.push_str(&quote(s)),
            other => return fault(format!("{} is not valid in a {name} row", other.type_name())),
        }
    }
    Ok(out)
}

fn shell_word(run: &mut Run<'_>, val: &Val) -> Flow<String> {
    match val {
        Val::Str(s) => Ok(format!("'{}'", s.replace('\'', "'\\''"))),
        Val::Arr(_) | Val::Obj(_) => fault(format!("{} cannot be escaped for a shell", val.type_name())),
        other => json(run, other),
    }
}

fn uri(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            out.push(if at > chunk.len() { '=' } else { char::from(BASE64[digit as usize]) });
        }
    }
    out
}

fn unbase64(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = BASE64.iter().position(|b| *b == byte)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xFF).ok()?);
        }
    }
    // As in jq: what is not text becomes replacement characters. One digit left over is half a byte.
    (held < 6).then(|| String::from_utf8_lossy(&out).into_owned())
}

/// `text / by`.
pub(super) fn split(run: &mut Run<'_>, text: &str, by: &str) -> Flow<Val> {
    run.meter.spend(text.len() as u64 / 32)?;
    let parts: Arr = if text.is_empty() {
        Arr::default()
    } else if by.is_empty() {
        run.meter.alloc((text.len() as u64).saturating_mul(SLOT_BYTES + 32))?;
        text.chars().map(|c| Val::str(c.encode_utf8(&mut [0; 4]))).collect()
    } else {
        let count = text.matches(by).count() as u64 + 1;
        run.meter.alloc((count * (SLOT_BYTES + 32)).saturating_add(text.len() as u64))?;
        text.split(by).map(Val::str).collect()
    };
    Ok(Val::Arr(Arc::new(parts)))
}

/// `val | join(by)`: null is nothing, numbers and booleans are as they are written.
pub(super) fn join(run: &mut Run<'_>, val: &Val, by: &Val) -> Flow<Val> {
    let (items, by) = (array(val)?, string(by)?);
    run.meter.alloc((items.len() as u64).saturating_mul(by.len() as u64).saturating_add(val.size()))?;
    run.meter.spend(items.len() as u64)?;
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { by });
        match item {
            Val::Null => (),
            Val::Str(s) => out.push_str(s),
            Val::Bool(_) | Val::Num(_) => out.push_str(&json(run, item)?),
            other => return fault(format!("cannot join {} to a string", other.type_name())),
        }
    }
    Ok(Val::str(&out))
}

/// `val` without `fix` at its start or end; what is not a string stays.
pub(super) fn trimmed(run: &mut Run<'_>, val: &Val, fix: &Val, start: bool, end: bool) -> Flow<Val> {
    let (Val::Str(text), Val::Str(fix)) = (val, fix) else { return Ok(val.clone()) };
    let mut rest = &**text;
    rest = if start { rest.strip_prefix(&**fix).unwrap_or(rest) } else { rest };
    rest = if end { rest.strip_suffix(&**fix).unwrap_or(rest) } else { rest };
    if rest.len() == text.len() {
        return Ok(val.clone());
    }
    run.meter.alloc(rest.len() as u64)?;
    Ok(Val::str(rest))
}

/// Seconds since 1970 as a date in UTC; fractions are dropped, as in jq.
pub(super) fn to_date(seconds: &Num) -> Flow<Val> {
    let date = seconds.floor().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    text.map_or_else(|| fault("the number is not a time that a date can hold"), |text| Ok(Val::str(&text)))
}

/// A date of RFC 3339 as seconds since 1970.
pub(super) fn from_date(text: &str) -> Flow<Val> {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(date) => Ok(Val::Num(Num::Int(date.unix_timestamp()))),
        Err(_) => fault("cannot parse string as a date"),
    }
}
