//! Text under construction, and values: charged as they grow.

use super::budget::{BudgetMeter, Flow, fault};
use super::memory_count::{HeldMemory, add_held, subtract_held};
use super::value::Text;

/// The least capacity that is allocated.
const MIN_CAPACITY_BYTES: usize = 64;

/// Text under construction.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// UTF-8, since only text is appended.
    text: Vec<u8>,
    held: HeldMemory,
}

impl Buffer {
    /// Makes room for so many bytes more.
    #[inline]
    pub(super) fn reserve(&mut self, meter: &mut BudgetMeter<'_>, more: usize) -> Flow {
        if more > self.text.capacity() - self.text.len() { self.grow(meter, more) } else { Ok(()) }
    }

    #[cold]
    fn grow(&mut self, meter: &mut BudgetMeter<'_>, more: usize) -> Flow {
        let wanted = self
            .text
            .len()
            .saturating_add(more)
            .max(self.text.capacity() * 2)
            .max(MIN_CAPACITY_BYTES);
        meter.require_memory(wanted)?;
        meter.touch(self.text.len())?;
        self.text.reserve_exact(wanted - self.text.len());
        self.held.set(self.text.capacity());
        Ok(())
    }

    /// Appends bytes that are UTF-8.
    #[inline]
    fn extend(&mut self, meter: &mut BudgetMeter<'_>, bytes: &[u8]) -> Flow {
        meter.touch(bytes.len())?;
        self.reserve(meter, bytes.len())?;
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    pub(super) fn push(&mut self, meter: &mut BudgetMeter<'_>, text: &str) -> Flow {
        self.extend(meter, text.as_bytes())
    }

    /// Appends `text` between double quotes.
    #[inline]
    pub(super) fn push_quoted(&mut self, meter: &mut BudgetMeter<'_>, text: &str) -> Flow {
        meter.touch(text.len() + 2)?;
        self.reserve(meter, text.len() + 2)?;
        self.text.push(b'"');
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(b'"');
        Ok(())
    }

    #[inline]
    pub(super) fn push_char(&mut self, meter: &mut BudgetMeter<'_>, c: char) -> Flow {
        // Byte by byte costs a few times as much as copying.
        meter.touch(8)?;
        self.extend(meter, c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    pub(super) fn push_int(&mut self, meter: &mut BudgetMeter<'_>, int: i64) -> Flow {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = int.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if int < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.push_ascii(meter, &digits[at..])
    }

    /// Appends bytes that are ASCII.
    #[inline]
    pub(super) fn push_ascii(&mut self, meter: &mut BudgetMeter<'_>, bytes: &[u8]) -> Flow {
        debug_assert!(bytes.is_ascii(), "text that is not UTF-8");
        self.extend(meter, bytes)
    }

    #[inline]
    pub(super) fn push_byte(&mut self, meter: &mut BudgetMeter<'_>, byte: u8) -> Flow {
        self.push_ascii(meter, &[byte])
    }

    /// Appends `text`, with another text for each byte for which `other` has one; it has some for
    /// ASCII only.
    pub(super) fn push_escaped(
        &mut self,
        meter: &mut BudgetMeter<'_>,
        text: &str,
        other: impl Fn(u8) -> Option<&'static str>,
    ) -> Flow {
        let mut done = 0;
        for (at, byte) in text.bytes().enumerate() {
            if let Some(escaped) = other(byte) {
                self.push(meter, &text[done..at])?;
                self.push(meter, escaped)?;
                done = at + 1;
            }
        }
        self.push(meter, &text[done..])
    }

    /// Appends its own first `bytes` bytes.
    pub(super) fn push_own_prefix(&mut self, meter: &mut BudgetMeter<'_>, bytes: usize) -> Flow {
        meter.touch(bytes)?;
        self.reserve(meter, bytes)?;
        self.text.extend_from_within(..bytes);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn into_text(self, meter: &mut BudgetMeter<'_>) -> Flow<Text> {
        match std::str::from_utf8(&self.text) {
            Ok(text) => Text::of(meter, text),
            Err(_) => fault("internal: a text that is not UTF-8"),
        }
    }

    /// The text, for a holder outside of the run that may keep it for long.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.text.capacity() > self.text.len() / 4 * 5 {
            self.text.shrink_to_fit();
        }
        self.text
    }
}

/// A list larger than this is not reused for the next one.
const LARGE_BYTES: usize = 64 * 1024;

/// Things of which the last ones become a list, as long as it needs to be: lists within lists share
/// one pile.
#[derive(Debug)]
pub(super) struct ValueStack<T>(Vec<T>);

impl<T> ValueStack<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn push(&mut self, meter: &mut BudgetMeter<'_>, one: T) -> Flow {
        meter.touch(size_of::<T>())?;
        self.push_charged(meter, one)
    }

    /// Pushes an item whose cost is charged already.
    #[inline]
    pub(super) fn push_charged(&mut self, meter: &mut BudgetMeter<'_>, one: T) -> Flow {
        if self.0.len() == self.0.capacity() {
            self.grow(meter)?;
        }
        self.0.push(one);
        Ok(())
    }

    #[cold]
    fn grow(&mut self, meter: &mut BudgetMeter<'_>) -> Flow {
        let more = self.0.len() / 2 + 16;
        meter.require_memory((self.0.len() + more) * size_of::<T>())?;
        subtract_held(self.0.capacity() * size_of::<T>());
        self.0.reserve_exact(more);
        add_held(self.0.capacity() * size_of::<T>());
        Ok(())
    }

    /// The list of all from `start` on.
    pub(super) fn take_from(&mut self, meter: &mut BudgetMeter<'_>, start: usize) -> Flow<Vec<T>> {
        let bytes = (self.0.len() - start) * size_of::<T>();
        if start == 0 && bytes > LARGE_BYTES {
            // Where it is not shrunk in place there are two.
            meter.alloc(bytes)?;
            subtract_held(self.0.capacity() * size_of::<T>());
            let mut all = std::mem::take(&mut self.0);
            all.shrink_to_fit();
            return Ok(all);
        }
        meter.alloc(bytes)?;
        let list = if start == 0 {
            let mut all = Vec::with_capacity(self.0.len());
            all.append(&mut self.0);
            all
        } else {
            self.0.split_off(start)
        };
        if bytes > LARGE_BYTES {
            subtract_held(self.0.capacity() * size_of::<T>());
            self.0.shrink_to(2 * start);
            add_held(self.0.capacity() * size_of::<T>());
        }
        Ok(list)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// Forgets all from `start` on.
    pub(super) fn truncate(&mut self, start: usize) {
        self.0.truncate(start);
    }
}

impl<T> Default for ValueStack<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Drop for ValueStack<T> {
    fn drop(&mut self) {
        subtract_held(self.0.capacity() * size_of::<T>());
    }
}
