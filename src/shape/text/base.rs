//! base32 and base64 (RFC 4648), read as leniently as jq reads them: padding may be missing or too
//! long, and bits left over may be set.

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, Encoding};

use super::super::budget::{Flow, fault};
use super::super::buffer::Buffer;
use super::super::eval::Evaluation;

/// How bytes become digits, and digits bytes.
pub(super) struct Base {
    name: &'static str,
    written: Encoding,
    /// Without its padding.
    read: LazyLock<Encoding>,
}

pub(super) static BASE32: Base = Base {
    name: "base32",
    written: data_encoding::BASE32,
    read: LazyLock::new(|| lenient(&BASE32_NOPAD)),
};
pub(super) static BASE64: Base = Base {
    name: "base64",
    written: data_encoding::BASE64,
    read: LazyLock::new(|| lenient(&BASE64_NOPAD)),
};

fn lenient(encoding: &Encoding) -> Encoding {
    let mut lenient = encoding.specification();
    lenient.check_trailing_bits = false;
    lenient.encoding().unwrap_or_else(|_| encoding.clone())
}

pub(super) fn encode(run: &mut Evaluation<'_>, base: &Base, text: &str, out: &mut Buffer) -> Flow {
    let digits = base.written.encode_len(text.len());
    // A digit costs a few times what copying it does.
    run.meter.touch(8 * digits)?;
    run.meter.require_memory(2 * digits)?;
    out.push(&mut run.meter, &base.written.encode(text.as_bytes()))
}

pub(super) fn decode(run: &mut Evaluation<'_>, base: &Base, text: &str, out: &mut Buffer) -> Flow {
    // Each byte is looked at, becomes less than one, and that up to three where it is not text.
    run.meter.touch(4 * text.len())?;
    run.meter.require_memory(4 * text.len())?;
    match base.read.decode(text.trim_end_matches('=').as_bytes()) {
        // As in jq: what is not text becomes replacement characters.
        Ok(bytes) => out.push(&mut run.meter, &String::from_utf8_lossy(&bytes)),
        Err(_) => fault(format!("cannot decode string as {}", base.name)),
    }
}
