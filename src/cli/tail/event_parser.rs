//! Server-sent events, as far as a sidecar sends them: blocks of lines, of which those that begin
//! with `data:` count.

/// The longest event, in bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A stream in the making.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    /// What came of a line that has no end yet.
    line: Vec<u8>,
    data: String,
}

/// An event passed the bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventTooLong;

impl EventParser {
    /// Takes what came, and hands out the data of the events that it completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, EventTooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                    return Err(EventTooLong);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(data) = line.strip_prefix(b"data: ") {
                self.data += &String::from_utf8_lossy(data);
            } else if line.is_empty() && !self.data.is_empty() {
                events.push(std::mem::take(&mut self.data));
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text =
            b": alive\n\nevent: a\ndata: {\"n\":1}\n\nevent: b\ndata: {\"\xc3\xa9\":2}\n\n: \
                     alive\n\n";
        for cut in 1..text.len() {
            let mut events = EventParser::default();
            let came: Vec<_> =
                text.chunks(cut).flat_map(|bytes| events.push(bytes).expect("short")).collect();
            assert_eq!(came, ["{\"n\":1}", "{\"é\":2}"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut events = EventParser::default();
        assert_eq!(events.push(b"data: "), Ok(vec![]));
        assert_eq!(events.push(&vec![b'x'; EVENT_BYTES_MAX]), Err(EventTooLong));
    }
}
