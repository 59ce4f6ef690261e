//! Ends an HTTP/1.1 connection behind an answer that announces a body which nobody will read.
//!
//! A 204 and a 304 have no body, whatever their headers announce (RFC 9112, section 6.3), but real
//! servers send one (varnish#1221, okhttp#2310). On a connection that is used again, those bytes
//! would be read as the answer to the next request, about another key. hyper forgets what such a
//! head announced, and its pool may lend the connection again before the caller has seen the head.
//! So the stream itself ends behind the head: hyper finds the end before it takes another request.

/// A longer head than this is no answer: hyper's read buffer ends there (`sources`).
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// `HTTP/1.1 304`: behind so many bytes the status is known.
const STATUS_END: usize = 12;

/// Follows the heads of the answers on one connection.
///
/// A request is written whole before its answer is read, and one at a time, so a head begins with
/// the first byte that is read after something was written.
#[derive(Debug, Default)]
pub(super) struct ResponseHeads {
    state: HeadState,
    head: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    /// In a body, or between two exchanges.
    #[default]
    OutsideHead,
    InHead,
    /// Nothing behind the last head belongs to anybody.
    Ended,
}

impl ResponseHeads {
    /// A piece of a request was written. Returns whether an exchange begins with it.
    pub(super) fn begin_exchange(&mut self) -> bool {
        let begins = self.state == HeadState::OutsideHead;
        if begins {
            self.state = HeadState::InHead;
            self.head.clear();
        }
        begins
    }

    /// Whether the stream is to end here.
    pub(super) fn has_ended(&self) -> bool {
        self.state == HeadState::Ended
    }

    /// How many of `bytes`, which were read, belong to the stream.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> usize {
        if self.state != HeadState::InHead {
            return bytes.len();
        }
        for (at, byte) in bytes.iter().enumerate() {
            // Empty lines may stand before a head (RFC 9112, section 2.2).
            if self.head.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            self.head.push(*byte);
            if self.head.len() == STATUS_END && has_body(&self.head)
                || self.head.len() > HEAD_MAX_BYTES
            {
                self.state = HeadState::OutsideHead;
                return bytes.len();
            }
            if !(self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n")) {
                continue;
            }
            if is_informational(&self.head) {
                self.head.clear();
            } else if announces_body(&self.head) {
                self.state = HeadState::Ended;
                return at + 1;
            } else {
                self.state = HeadState::OutsideHead;
                return bytes.len();
            }
        }
        bytes.len()
    }
}

fn has_body(head: &[u8]) -> bool {
    !is_informational(head) && !matches!(head.get(9..STATUS_END), Some(b"204" | b"304"))
}

fn is_informational(head: &[u8]) -> bool {
    head.get(9) == Some(&b'1')
}

/// Whether a head's headers speak of a body of at least a byte, or of an unknown length.
fn announces_body(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        let name = &line[..colon];
        let value = line[colon + 1..].trim_ascii();
        let is_zero = !value.is_empty() && value.iter().all(|digit| *digit == b'0');
        name.eq_ignore_ascii_case(b"transfer-encoding")
            || (name.eq_ignore_ascii_case(b"content-length") && !is_zero)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `stream` is accepted as the answer to one request, read in pieces of `size`.
    fn accepted(stream: &[u8], size: usize) -> (usize, bool) {
        let mut heads = ResponseHeads::default();
        assert!(heads.begin_exchange());
        let mut total = 0;
        for piece in stream.chunks(size) {
            let taken = heads.accept(piece);
            total += taken;
            if taken < piece.len() || heads.has_ended() {
                break;
            }
        }
        (total, heads.has_ended())
    }

    #[test]
    fn a_stream_ends_behind_a_head_that_announces_a_body_nobody_reads() {
        for head in [
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nDate: x\r\nCONTENT-LENGTH:7\r\n\r\n",
            "HTTP/1.0 304\nContent-Length: seven\n\n",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 304 X\r\ncontent-length: \
             7\r\n\r\n",
        ] {
            let stream = format!("{head}HTTP/1.1 200 OK\r\n\r\n");
            for size in 1..=stream.len() {
                assert_eq!(
                    accepted(stream.as_bytes(), size),
                    (head.len(), true),
                    "{head} by {size}"
                );
            }
        }
    }

    #[test]
    fn a_stream_goes_on_behind_every_other_head() {
        for stream in [
            "HTTP/1.1 304 Not Modified\r\netag: \"content-length: 7\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 62\r\n\r\nHTTP/1.1 304 Not \
             Modified\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 100 Continue\r\ncontent-length: 7\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: \
             1\r\n\r\n1",
            "SSH-2.0-OpenSSH_9.2\r\ncontent-length: 7\r\n\r\n",
        ] {
            for size in 1..=stream.len() {
                assert_eq!(
                    accepted(stream.as_bytes(), size),
                    (stream.len(), false),
                    "{stream} by {size}"
                );
            }
        }
    }

    #[test]
    fn the_head_of_each_exchange_is_looked_at_and_what_is_held_of_it_is_bounded() {
        let mut heads = ResponseHeads::default();
        for _ in 0..3 {
            assert!(heads.begin_exchange() && !heads.begin_exchange());
            let plain = b"HTTP/1.1 304 X\r\n\r\n";
            assert_eq!(heads.accept(plain), plain.len());
        }
        assert!(heads.begin_exchange());
        heads.accept(b"HTTP/1.1 304 X\r\nx: ");
        for _ in 0..10 * HEAD_MAX_BYTES / 1024 {
            assert_eq!(heads.accept(&[b'x'; 1024]), 1024);
        }
        assert!(heads.head.capacity() <= 4 * HEAD_MAX_BYTES);
    }
}
