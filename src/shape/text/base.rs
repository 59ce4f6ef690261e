//! base32 and base64 (RFC 4648): bytes as digits of five or six bits.

use super::super::budget::{Flow, fault};
use super::super::buffer::Buffer;
use super::super::eval::Evaluation;

/// How bytes become digits.
pub(super) struct Base {
    name: &'static str,
    digits: &'static [u8],
    /// Bits that a digit stands for.
    bits: u32,
    /// The bytes, and the digits, that belong together.
    group: (usize, usize),
}

pub(super) const BASE32: Base =
    Base { name: "base32", digits: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", bits: 5, group: (5, 8) };
pub(super) const BASE64: Base = Base {
    name: "base64",
    digits: b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    bits: 6,
    group: (3, 4),
};

pub(super) fn encode(run: &mut Evaluation<'_>, base: &Base, text: &str, out: &mut Buffer) -> Flow {
    let bytes = text.as_bytes();
    let (group_bytes, group_digits) = base.group;
    let mask = (1_u64 << base.bits) - 1;
    for chunk in bytes.chunks(group_bytes) {
        let byte = |at: usize| u64::from(chunk.get(at).copied().unwrap_or(0));
        let group = (0..group_bytes).fold(0, |bits, at| bits << 8 | byte(at));
        let digits = (8 * chunk.len()).div_ceil(base.bits as usize);
        for at in 0..group_digits {
            let shift = base.bits as usize * (group_digits - 1 - at);
            let digit = base.digits[usize::try_from(group >> shift & mask).unwrap_or_default()];
            out.push_char(&mut run.meter, if at < digits { char::from(digit) } else { '=' })?;
        }
    }
    Ok(())
}

pub(super) fn decode(run: &mut Evaluation<'_>, base: &Base, text: &str, out: &mut Buffer) -> Flow {
    let bad = || fault(format!("cannot decode string as {}", base.name));
    // Each byte is looked at, becomes less than one, and that up to three where it is not text.
    run.meter.touch(4 * text.len())?;
    run.meter.require_memory(4 * text.len())?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut bits = 0_u32;
    let mut held = 0;
    let mut digit_of = [u8::MAX; 256];
    for (digit, byte) in (0..).zip(base.digits) {
        digit_of[usize::from(*byte)] = digit;
    }
    for byte in text.trim_end_matches('=').bytes() {
        let digit = digit_of[usize::from(byte)];
        if digit == u8::MAX {
            return bad();
        }
        bits = bits << base.bits | u32::from(digit);
        held += base.bits;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    // A digit left over is half a byte.
    if held >= base.bits {
        return bad();
    }
    // As in jq: what is not text becomes replacement characters.
    out.push(&mut run.meter, &String::from_utf8_lossy(&bytes))
}
