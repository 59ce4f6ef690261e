//! JSON text in and out of values.
//!
//! Reads exactly RFC 8259, no deeper than a value may be; numbers keep their text. Writes compact
//! JSON within a bound on its bytes. Both charge the meter as they go.

mod read;
mod write;

pub(super) use read::{read, read_leniently};
pub(super) use write::{append, write};

/// The offset of the first byte that ends a string of JSON or is escaped in one: a control
/// character, `"`, `\` or DEL.
#[inline]
fn find_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    // Eight at once: a byte below 1 (below 32) borrows from its highest bit, which it did not have.
    // The first one found is one; those after it may not be.
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

/// For each byte whether [`find_special`] finds it.
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

#[cfg(test)]
mod tests {
    use super::super::budget::BudgetMeter;
    use super::super::value::Val;
    use super::write;
    use crate::shape::Budget;

    fn read(text: &[u8]) -> Option<Val> {
        super::read(&mut BudgetMeter::new(&Budget::default()), text).expect("within the budget")
    }

    fn again(text: &str) -> Option<String> {
        let meter = &mut BudgetMeter::new(&Budget::default());
        read(text.as_bytes()).map(|val| {
            String::from_utf8(write(meter, &val, 1 << 20).expect("it is JSON").into_bytes())
                .expect("it is text")
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
        assert_eq!(
            again(r#" { "a" : "\ud83d\ude00\ud800" } "#).as_deref(),
            Some("{\"a\":\"😀\u{fffd}\"}")
        );
        assert_eq!(again(r#"{"a":1,"b":2,"a":3}"#).as_deref(), Some(r#"{"a":3,"b":2}"#));
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        for text in [
            "", "nul", "01", "1.", "+1", "[1,]", "{a:1}", "\"\n\"", "\"\\x\"", "NaN", "1 2",
            "#c\n1", "\"a", "{\"a\"", "[", "-", "1e", "\"\\u12", "{\"a\":}", "tru", "{1:2}",
        ] {
            assert_eq!(again(text), None, "{text}");
        }
        assert!(read(&[b'"', 0xFF, b'"']).is_none());
        assert!(read("[".repeat(100_000).as_bytes()).is_none());
    }

    #[test]
    fn many_members_are_found_and_replaced_in_place() {
        let members = |n: usize, v: usize| (0..n).map(move |i| format!("\"k{i}\":{v}"));
        let text =
            format!("{{{}}}", members(40, 1).chain(members(40, 2)).collect::<Vec<_>>().join(","));
        let expected = format!("{{{}}}", members(40, 2).collect::<Vec<_>>().join(","));
        assert_eq!(again(&text), Some(expected));
    }
}
