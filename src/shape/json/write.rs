//! Values into JSON text.

use super::super::RunErrorKind;
use super::super::budget::{BudgetMeter, Flow, Stop};
use super::super::buffer::Buffer;
use super::super::value::Val;
use super::{SPECIAL, find_special};

/// Writes `val` as compact JSON of at most `most` bytes.
pub(in super::super) fn write(meter: &mut BudgetMeter<'_>, val: &Val, most: usize) -> Flow<Buffer> {
    let mut out = Buffer::default();
    out.reserve(meter, usize::try_from(val.size()).unwrap_or(most).min(most))?;
    write_to(meter, val, most, &mut out)?;
    if out.len() > most { Err(TOO_LONG) } else { Ok(out) }
}

/// Appends `val` as compact JSON.
pub(in super::super) fn append(meter: &mut BudgetMeter<'_>, val: &Val, out: &mut Buffer) -> Flow {
    write_to(meter, val, usize::MAX, out)
}

const TOO_LONG: Stop = Stop::External(RunErrorKind::OutputTooLong);

fn write_to(meter: &mut BudgetMeter<'_>, val: &Val, most: usize, out: &mut Buffer) -> Flow {
    if out.len() > most {
        return Err(TOO_LONG);
    }
    match val {
        Val::Null => out.push(meter, "null")?,
        Val::Bool(b) => out.push(meter, if *b { "true" } else { "false" })?,
        Val::Num(n) => n.write(out, meter)?,
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

fn quote(meter: &mut BudgetMeter<'_>, text: &str, most: usize, out: &mut Buffer) -> Flow {
    if text.len() > most {
        return Err(TOO_LONG);
    }
    let Some(at) = find_special(text.as_bytes()) else { return out.push_quoted(meter, text) };
    out.push_byte(meter, b'"')?;
    out.push(meter, &text[..at])?;
    out.push_escaped(meter, &text[at..], |byte| {
        SPECIAL[usize::from(byte)].then(|| escape_of(byte))
    })?;
    out.push_byte(meter, b'"')
}

fn escape_of(byte: u8) -> &'static str {
    /// The control characters; those that have shorter names are below.
    const CONTROLS: [&str; 32] = [
        "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
        "\\u0008", "\\u0009", "\\u000a", "\\u000b", "\\u000c", "\\u000d", "\\u000e", "\\u000f",
        "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017",
        "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
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
