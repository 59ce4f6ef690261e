//! Finds the frames in a stream of RESP: where its values begin and end, and how large they are, so
//! that a reply that is too large is noticed before it is held. Pure.
//!
//! The client library reads whole replies, however large, so every byte passes here first. Only
//! frames that a Redis really writes pass: anything else closes the connection, since the library
//! might parse it differently.

/// The deepest nesting of a reply. `CLUSTER SLOTS`, the deepest that the bus requests, has four
/// levels.
const DEPTH_MAX: usize = 8;
/// The most bytes of a line: an error, or a number of any kind.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// The most digits of a length.
const DIGITS_MAX: u32 = 18;

/// The excess of a server: what it sent beyond what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyExcess {
    /// A reply has more bytes than its limit.
    #[error("a reply of more than {0} bytes")]
    Bytes(u64),
    /// A reply has more elements than its limit.
    #[error("a reply of more than {0} elements")]
    Elements(u64),
    /// A reply is nested too deep.
    #[error("a reply that is nested more than {DEPTH_MAX} deep")]
    Depth,
    /// A line is too long.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    Line,
    /// The server sent more replies than there were commands.
    #[error("a reply that nobody had asked for")]
    Unsolicited,
    /// The server sent messages without end, and no reply between them.
    #[error("messages of more than {0} bytes without a reply to what was asked")]
    Messages(u64),
    /// The bytes are no RESP.
    #[error("something that is no reply")]
    Malformed,
}

/// The limits of one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// All its bytes, as they are on the wire.
    pub bytes: u64,
    /// All its elements, at any depth. The library takes 56 bytes for each.
    pub elements: u64,
}

/// A frame: a whole value of the outermost level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespFrame {
    /// Whether it is a push, which is no reply to a command.
    pub is_push: bool,
    /// Its bytes.
    pub bytes: u64,
}

/// The parser that finds the frames in a stream.
#[derive(Debug)]
pub struct RespFrames {
    limits: ReplyLimits,
    state: RespState,
    /// How many elements each incomplete aggregate still misses, the outermost first.
    missing_elements: [u64; DEPTH_MAX],
    depth: usize,
    is_push: bool,
    bytes: u64,
    elements: u64,
}

#[derive(Debug, Clone, Copy)]
enum RespState {
    /// A value begins.
    Kind,
    /// A line that ends with CR LF.
    Line { bytes: u64, after_cr: bool },
    /// The length of what follows: a text or an aggregate.
    Length { kind: u8, value: u64, digits: u32, is_negative: bool, after_cr: bool },
    /// So many bytes are left of a text; CR LF follow.
    Text { left: u64 },
    /// The CR after a text, or the LF.
    TextEnd { after_cr: bool },
}

impl RespFrames {
    /// A parser at the beginning of a stream.
    pub const fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            state: RespState::Kind,
            missing_elements: [0; DEPTH_MAX],
            depth: 0,
            is_push: false,
            bytes: 0,
            elements: 0,
        }
    }

    /// Takes the next bytes, and calls `complete` with each frame that ends in them.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut complete: impl FnMut(RespFrame) -> Result<(), ReplyExcess>,
    ) -> Result<(), ReplyExcess> {
        while let Some((&byte, rest)) = bytes.split_first() {
            // The bytes of a text are skipped.
            if let RespState::Text { left } = &mut self.state {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= skipped as u64;
                if *left == 0 {
                    self.state = RespState::TextEnd { after_cr: false };
                }
                self.count_bytes(skipped as u64)?;
                bytes = &bytes[skipped..];
                continue;
            }
            self.count_bytes(1)?;
            if self.take_byte(byte)? && self.end_value() {
                complete(RespFrame {
                    is_push: self.is_push,
                    bytes: std::mem::take(&mut self.bytes),
                })?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn count_bytes(&mut self, bytes: u64) -> Result<(), ReplyExcess> {
        self.bytes += bytes;
        if self.bytes > self.limits.bytes {
            Err(ReplyExcess::Bytes(self.limits.bytes))
        } else {
            Ok(())
        }
    }

    /// Takes one byte outside a text; returns whether a value that holds no others ends with it.
    fn take_byte(&mut self, byte: u8) -> Result<bool, ReplyExcess> {
        match &mut self.state {
            RespState::Kind => self.begin_value(byte)?,
            RespState::Line { bytes, after_cr } => {
                if *after_cr && byte == b'\n' {
                    return Ok(true);
                }
                *after_cr = byte == b'\r';
                *bytes += 1;
                if *bytes > LINE_BYTES_MAX {
                    return Err(ReplyExcess::Line);
                }
            }
            RespState::Length { value, digits, is_negative, after_cr, .. } => {
                match (byte, *after_cr) {
                    (b'-', false) if *digits == 0 && !*is_negative => *is_negative = true,
                    (b'0'..=b'9', false) if *digits < DIGITS_MAX => {
                        *value = *value * 10 + u64::from(byte - b'0');
                        *digits += 1;
                    }
                    (b'\r', false) if *digits > 0 => *after_cr = true,
                    (b'\n', true) => return self.end_length(),
                    _ => return Err(ReplyExcess::Malformed),
                }
            }
            RespState::TextEnd { after_cr } => match (byte, *after_cr) {
                (b'\r', false) => *after_cr = true,
                (b'\n', true) => return Ok(true),
                _ => return Err(ReplyExcess::Malformed),
            },
            // The caller skips these bytes.
            RespState::Text { .. } => {}
        }
        Ok(false)
    }

    fn begin_value(&mut self, kind: u8) -> Result<(), ReplyExcess> {
        if self.depth == 0 {
            self.is_push = kind == b'>';
            self.elements = 1;
        }
        self.state = match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                RespState::Line { bytes: 0, after_cr: false }
            }
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                RespState::Length { kind, value: 0, digits: 0, is_negative: false, after_cr: false }
            }
            _ => return Err(ReplyExcess::Malformed),
        };
        Ok(())
    }

    /// Handles a length that is complete; returns whether the value ends with it.
    fn end_length(&mut self) -> Result<bool, ReplyExcess> {
        let RespState::Length { kind, value, is_negative, .. } = self.state else {
            return Err(ReplyExcess::Malformed);
        };
        if is_negative {
            // `$-1` and `*-1` are the null values of RESP2.
            return if value == 1 && matches!(kind, b'$' | b'*') {
                Ok(true)
            } else {
                Err(ReplyExcess::Malformed)
            };
        }
        if matches!(kind, b'$' | b'=' | b'!') {
            if self.bytes + value > self.limits.bytes {
                return Err(ReplyExcess::Bytes(self.limits.bytes));
            }
            self.state = if value == 0 {
                RespState::TextEnd { after_cr: false }
            } else {
                RespState::Text { left: value }
            };
            return Ok(false);
        }
        let members = match kind {
            b'%' => value * 2,
            b'|' => value * 2 + 1,
            _ => value,
        };
        self.elements += members;
        if self.elements > self.limits.elements {
            return Err(ReplyExcess::Elements(self.limits.elements));
        }
        if members == 0 {
            return Ok(true);
        }
        *self.missing_elements.get_mut(self.depth).ok_or(ReplyExcess::Depth)? = members;
        self.depth += 1;
        self.state = RespState::Kind;
        Ok(false)
    }

    /// Ends a value, and the aggregates that it completes; returns whether the outermost value is
    /// complete.
    fn end_value(&mut self) -> bool {
        self.state = RespState::Kind;
        while let Some(inner) = self.depth.checked_sub(1) {
            self.missing_elements[inner] -= 1;
            if self.missing_elements[inner] > 0 {
                return false;
            }
            self.depth = inner;
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: ReplyLimits = ReplyLimits { bytes: 1_000, elements: 20 };

    /// The frames of a stream that arrives in pieces of `size` bytes.
    fn frames(stream: &[u8], size: usize) -> Result<Vec<RespFrame>, ReplyExcess> {
        let mut frames = RespFrames::new(LIMITS);
        let mut found = Vec::new();
        for piece in stream.chunks(size) {
            frames.feed(piece, |frame| {
                found.push(frame);
                Ok(())
            })?;
        }
        Ok(found)
    }

    const WHOLE: [&[u8]; 12] = [
        b"+OK\r\n",
        b"-ERR a\rb\n\r\n",
        b":-7\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n~1\r\n#t\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n=5\r\ntxt:a\r\n",
    ];

    #[test]
    fn each_kind_of_value_ends_where_it_ends_however_it_comes() {
        let stream = WHOLE.concat();
        let expected: Vec<_> = WHOLE
            .iter()
            .map(|one| RespFrame { is_push: one[0] == b'>', bytes: one.len() as u64 })
            .collect();
        for size in 1..stream.len() {
            assert_eq!(frames(&stream, size).as_ref(), Ok(&expected), "in pieces of {size}");
        }
        for one in WHOLE {
            assert!(
                redis::parse_redis_value(one).is_ok(),
                "{:?} is what the library reads",
                String::from_utf8_lossy(one)
            );
            assert_eq!(
                frames(&one[..one.len() - 1], 1),
                Ok(vec![]),
                "{:?}",
                String::from_utf8_lossy(one)
            );
        }
    }

    #[test]
    fn what_is_too_large_is_noticed_at_its_length_and_not_at_its_end() {
        let odd: [(&[u8], ReplyExcess); 12] = [
            (b"$200000000\r\n", ReplyExcess::Bytes(1_000)),
            (b"!999999999999999999\r\n", ReplyExcess::Bytes(1_000)),
            (b"*1000000\r\n", ReplyExcess::Elements(20)),
            (b"*10\r\n*10\r\n", ReplyExcess::Elements(20)),
            (b"%10\r\n", ReplyExcess::Elements(20)),
            (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", ReplyExcess::Depth),
            (b"*9999999999999999999\r\n", ReplyExcess::Malformed),
            (b"*-2\r\n", ReplyExcess::Malformed),
            (b"=-1\r\n", ReplyExcess::Malformed),
            (b"$ 1\r\n", ReplyExcess::Malformed),
            (b"$1\r\nab", ReplyExcess::Malformed),
            (b"HTTP/1.1 200 OK\r\n", ReplyExcess::Malformed),
        ];
        for (stream, cause) in odd {
            for size in [1, 3, stream.len()] {
                assert_eq!(
                    frames(stream, size),
                    Err(cause),
                    "{:?}",
                    String::from_utf8_lossy(stream)
                );
            }
        }
        assert_eq!(frames(&[b'+'; 1_001], 7), Err(ReplyExcess::Bytes(1_000)));
        let mut lines = RespFrames::new(ReplyLimits { bytes: u64::MAX, elements: 1 });
        assert_eq!(lines.feed(&vec![b'+'; 70_000], |_| Ok(())), Err(ReplyExcess::Line));
    }

    #[test]
    fn what_a_frame_is_made_of_counts_for_that_frame_alone() {
        let full = [b"*19\r\n".as_slice(), &b":1\r\n".repeat(19)].concat();
        assert_eq!(frames(&full.repeat(50), 11).unwrap().len(), 50);
        assert!(frames(&[b"*20\r\n".as_slice(), &b":1\r\n".repeat(20)].concat(), 11).is_err());
        let long = |bytes: usize| {
            [format!("${bytes}\r\n").as_bytes(), &vec![b'a'; bytes], b"\r\n"].concat()
        };
        assert_eq!(
            frames(&long(992).repeat(3), 100),
            Ok(vec![RespFrame { is_push: false, bytes: 1_000 }; 3])
        );
        assert_eq!(frames(&long(993), 100), Err(ReplyExcess::Bytes(1_000)));
    }
}
